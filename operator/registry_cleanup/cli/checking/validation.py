"""What `validate` finds in files, and how it tells it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from registry_cleanup.cli.bounds import bounds_here
from registry_cleanup.cli.files.policy_file import (
    STDIN,
    Contents,
    Document,
    FileError,
    no_policy,
    problems_of,
    read,
    shown,
    text_of,
)
from registry_cleanup.cli.files.yaml_tree import Node, Problem
from registry_cleanup.domain.ineffective import ineffective
from registry_cleanup.domain.tenancy import Bounds
from registry_cleanup.kube.offline import parse
from registry_cleanup.kube.spec import GROUP, KIND

# What kubectl reads of a folder.
_SUFFIXES = (".json", ".yaml", ".yml")


class Finding(NamedTuple):
    """An error or a warning, and where."""

    file: str
    problem: Problem


@dataclass(slots=True)
class Findings:
    """What is in some files.

    Attributes:
        policies: each with whether it is valid.
        errors: in the order of files and lines.
        warnings: of valid policies.
    """

    policies: list[tuple[Document, bool]] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def refuse(self, file: str, problems: Iterable[Problem]) -> None:
        """Add what is wrong with a file as a whole."""
        self.errors += [Finding(file, problem) for problem in problems]


def look_at(files: Sequence[str], *, recursive: bool) -> Findings:
    """Return what is found in `files` and folders."""
    findings = Findings()
    bounds = bounds_here()
    for name in dict.fromkeys(files):
        if name != STDIN and Path(name).is_dir():
            _look_at_folder(findings, name, bounds, recursive=recursive)
        else:
            _look_at_file(findings, name, bounds)
    _warn_of_namesakes(findings)
    return findings


def _look_at_file(findings: Findings, file: str, bounds: Bounds) -> None:
    try:
        contents = read(file, text_of(file))
    except FileError as error:
        findings.refuse(file, error.problems)
        return
    _add(findings, file, contents, bounds)
    if not contents.policies and not contents.problems:
        findings.refuse(file, no_policy(contents))


def _look_at_folder(findings: Findings, folder: str, bounds: Bounds, *, recursive: bool) -> None:
    before = len(findings.errors)
    found = False
    for file in _files(findings, folder, recursive=recursive):
        try:
            text = text_of(file)
        except FileError as error:
            findings.refuse(file, error.problems)
            continue
        # Folders also hold what is no YAML, such as templates of charts. That is somebody else's business as long as it
        # cannot be one of ours.
        if KIND in text or GROUP in text:
            contents = read(file, text)
            _add(findings, file, contents, bounds)
            found = found or bool(contents.policies)
    if not found and len(findings.errors) == before:
        deeper = "" if recursive else ", and folders in it only with --recursive"
        message = f"holds no {KIND}; looked at are {', '.join(_SUFFIXES)}{deeper}"
        findings.refuse(folder, [Problem(None, "", message)])


def _files(findings: Findings, folder: str, *, recursive: bool) -> list[str]:
    def refuse(error: OSError) -> None:
        findings.refuse(str(error.filename), [Problem(None, "", error.strerror or str(error))])

    walk = os.walk(folder, onerror=refuse)
    levels = walk if recursive else islice(walk, 1)
    found = (Path(above, name) for above, _, names in levels for name in names)
    return sorted(str(file) for file in found if file.suffix in _SUFFIXES and (file.is_file() or file.is_symlink()))


def _add(findings: Findings, file: str, contents: Contents, bounds: Bounds) -> None:
    errors = [Finding(file, problem) for problem in contents.problems]
    for document in contents.policies:
        problems = problems_of(document, bounds)
        errors += [Finding(file, problem) for problem in problems]
        findings.policies.append((document, not problems))
        if not problems:
            told = [*_valueless(document.node, ""), *ineffective(parse(document.body, bounds).policy)]
            findings.warnings += [Finding(file, problem) for problem in document.located(told)]
    findings.errors += sorted(errors, key=lambda finding: finding.problem.line or 0)


def _valueless(node: Node | None, path: str) -> Iterator[tuple[str, str]]:
    """Yield the fields that are written without a value, which an API server leaves out."""
    if node is None:
        return
    for key, (_, value) in node.entries.items():
        below = f"{path}.{key}".lstrip(".")
        if below == "status":
            continue
        if value.value is None and below != "metadata.creationTimestamp":
            yield below, "has no value, which is as if it were not there"
        yield from _valueless(value, below)
    for index, item in enumerate(node.items):
        yield from _valueless(item, f"{path}[{index}]")


def _warn_of_namesakes(findings: Findings) -> None:
    first: dict[tuple[str, str], Document] = {}
    for document, valid in findings.policies:
        if not valid:
            continue
        key = (document.namespace or "", document.name or "")
        if key in first:
            where = f"{first[key].file}:{first[key].line}"
            message = f"has the name of the policy in {where}; of two applied to one namespace the last one is left"
            problem = Problem(document.line_of("metadata.name"), "metadata.name", message)
            findings.warnings.append(Finding(document.file, problem))
        else:
            first[key] = document


def as_lines(findings: Findings, *, quiet: bool) -> Iterator[str]:
    """Yield the findings as lines for people, as compilers have them, all that is about one line together."""
    told = [(finding, shown(finding.file, finding.problem)) for finding in findings.errors]
    if not quiet:
        told += [(finding, shown(finding.file, finding.problem, "warning")) for finding in findings.warnings]
        told += [(Finding(each.file, Problem(each.line, "", "")), _valid(each)) for each, ok in findings.policies if ok]
    files = {file: place for place, file in enumerate(dict.fromkeys(finding.file for finding, _ in told))}
    told.sort(key=lambda each: (files[each[0].file], each[0].problem.line or 0))
    yield from (line for _, line in told)


def _valid(document: Document) -> str:
    name = document.name if document.namespace is None else f"{document.namespace}/{document.name}"
    return f"{document.file}:{document.line}: {name} is valid"


def as_json(findings: Findings, *, quiet: bool) -> str:
    """Return the findings as JSON; docs/schemas/validate.schema.json says what is in it."""
    policies = [
        {"file": each.file, "line": each.line, "namespace": each.namespace, "name": each.name, "valid": valid}
        for each, valid in findings.policies
    ]
    document = {
        "apiVersion": "cli.registrycleanup.dev/v1",
        "kind": "Validation",
        "valid": not findings.errors,
        "policies": policies,
        "errors": [_entry(finding) for finding in findings.errors],
        "warnings": [] if quiet else [_entry(finding) for finding in findings.warnings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _entry(finding: Finding) -> dict[str, object]:
    line, path, message = finding.problem
    return {"file": finding.file, "line": line, "path": path, "message": message}
