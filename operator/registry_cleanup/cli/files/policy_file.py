"""Policies in files: which documents of a YAML or JSON file are policies, and which one of them is meant.

Files are read as kubectl reads them (`yaml_scalars` says how), with what kubectl lets pass told as wrong: keys that are
there twice, of which it silently takes the last.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.files.yaml_tree import Node, Problem, documents
from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds
from registry_cleanup.kube.identity import is_meant
from registry_cleanup.kube.offline import refusals
from registry_cleanup.kube.spec import KIND

STDIN = "-"
# No cluster stores an object of more than 1.5 MB; this leaves room for many.
_MOST_BYTES = 16 * 1024 * 1024
# So many documents of other kinds are named.
_LISTED = 10


class FileError(CommandError):
    """A file that cannot be used.

    Attributes:
        problems: what is wrong with it.
    """

    def __init__(self, file: str, *problems: Problem) -> None:
        super().__init__("\n".join(shown(file, problem) for problem in problems), Exit.USAGE)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Document:
    """One policy of a file.

    Attributes:
        file: its name, or `-`.
        line: that the document begins at, from 1.
        body: the resource as an API server would be sent it; fields without a value are left out.
        node: the same, with the lines of its fields.
        twice: keys that are there twice.
    """

    file: str
    line: int
    body: Mapping[str, Any]
    node: Node | None = field(default=None, repr=False, compare=False)
    twice: tuple[Problem, ...] = ()

    @property
    def name(self) -> str | None:
        """Its name, if it has one."""
        found = self._metadata.get("name")
        return found if isinstance(found, str) else None

    @property
    def namespace(self) -> str | None:
        """Its namespace, if it has one."""
        found = self._metadata.get("namespace")
        return found if isinstance(found, str) else None

    @property
    def _metadata(self) -> Mapping[str, Any]:
        found = self.body.get("metadata")
        return found if isinstance(found, dict) else {}

    def line_of(self, path: str) -> int:
        """Return the line of a field such as `spec.rules[0].olderThan`, or of what it would stand in."""
        return self.line if self.node is None else self.node.line_of(path)

    def located(self, errors: Iterable[tuple[str, str]]) -> list[Problem]:
        """Return errors with the paths of fields, each with its line, in the order of lines."""
        return sorted((Problem(self.line_of(path), path, words) for path, words in errors), key=_by_line)

    def told(self, problems: Iterable[Problem]) -> str:
        """Return `problems` as lines for people, each with file and line."""
        return "\n".join(shown(self.file, problem) for problem in problems)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file.

    Attributes:
        policies: its policies, and what was meant to be one.
        others: the documents of other kinds.
        problems: why documents cannot be read.
    """

    policies: tuple[Document, ...] = ()
    others: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_one(file: Path, name: str | None = None, *, insecure: bool = False) -> Document:
    """Return the valid policy of a file, the one called `name` where there are several; `-` is standard input.

    Where a person accepts plain http (`insecure`), a policy with an address of http says so, too.

    Raises:
        CommandError: the file cannot be read, is no YAML, or holds no policy, or none that is meant, or that is not
            valid.
    """
    contents = read(str(file), text_of(str(file)))
    if contents.problems:
        raise FileError(str(file), *contents.problems)
    document = _meant(str(file), contents, name)
    if insecure:
        document = replace(document, body=_with_http(document.body))
    if problems := problems_of(document):
        raise CommandError(f"the policy is not valid:\n{document.told(problems)}", Exit.USAGE)
    return document


def _with_http(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a policy with `insecure: true`, where it has an address of http."""
    spec = body.get("spec")
    registry = spec.get("registry") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(registry, dict):
        return body
    if not any(str(registry.get(field)).startswith("http://") for field in ("url", "tokenURL")):
        return body
    return {**body, "spec": {**spec, "registry": {**registry, "insecure": True}}}


def problems_of(document: Document, bounds: Bounds = UNBOUNDED) -> list[Problem]:
    """Return all that is wrong with a policy by itself, or goes beyond `bounds`, in the order of lines."""
    return sorted([*document.twice, *document.located(refusals(document.body, bounds))], key=_by_line)


def shown(file: str, problem: Problem, kind: str = "") -> str:
    """Return a problem as one line for people, as compilers have it: `file:line: path: message`."""
    line = "" if problem.line is None else f":{problem.line}"
    return _printable(": ".join(part for part in (f"{file}{line}", kind, problem.path, problem.message) if part))


def _printable(text: str) -> str:
    """Return `text` with what would end a line or command a terminal spelled out: files are written by anybody."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def text_of(file: str) -> str:
    """Return the text of a file. Raises `FileError` that says why it cannot be read."""
    try:
        content = sys.stdin.buffer.read(_MOST_BYTES + 1) if file == STDIN else _content(Path(file))
    except OSError as error:
        raise FileError(file, Problem(None, "", error.strerror or str(error))) from error
    if len(content) > _MOST_BYTES:
        raise FileError(file, Problem(None, "", f"is larger than {_MOST_BYTES >> 20} MiB, and surely no policy"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(file, Problem(line, "", "is not text in UTF-8")) from error


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MOST_BYTES + 1)


def read(file: str, text: str) -> Contents:
    """Return what is in `text`, the items of lists as documents of their own."""
    policies: list[Document] = []
    others: list[Document] = []
    problems: list[Problem] = []
    for node, found in documents(text):
        if node is None:
            problems += found
            continue
        for each, path in _resources(node, ""):
            if not isinstance(each.value, dict):
                problems.append(Problem(each.line, "", "is no resource: it should have apiVersion, kind and metadata"))
                continue
            inside = [p._replace(path=_below(p.path, path)) for p in found if _is_below(p.path, path)]
            document = Document(file, each.line, each.value, each, tuple(inside))
            (policies if is_meant(each.value) else others).append(document)
    return Contents(tuple(policies), tuple(others), tuple(problems))


def _resources(node: Node, path: str) -> Iterator[tuple[Node, str]]:
    """Yield the resources of a document, each with its path in it: itself, or the items of a list."""
    kind, items = (node.value.get("kind"), node.entries.get("items")) if isinstance(node.value, dict) else (None, None)
    if not (isinstance(kind, str) and kind.endswith("List") and items is not None and items[1].items):
        yield node, path
        return
    for place, item in enumerate(items[1].items):
        yield from _resources(item, f"{path}.items[{place}]".lstrip("."))


def _is_below(path: str, above: str) -> bool:
    return not above or path.startswith(f"{above}.")


def _below(path: str, above: str) -> str:
    return path.removeprefix(above).lstrip(".")


def _meant(file: str, contents: Contents, name: str | None) -> Document:
    found = [each for each in contents.policies if name in (None, each.name)]
    if len(found) == 1:
        return found[0]
    if not contents.policies:
        raise FileError(file, *no_policy(contents))
    if not found:
        raise CommandError(f"{file}: holds no policy {name!r}, but:\n{_listed(contents.policies)}", Exit.USAGE)
    if name is None:
        raise CommandError(f"{file}: holds several policies; name one of them:\n{_listed(found)}", Exit.USAGE)
    raise CommandError(f"{file}: holds several policies {name!r}:\n{_listed(found)}", Exit.USAGE)


def no_policy(contents: Contents) -> list[Problem]:
    """Return what is wrong with a file that holds no policy."""
    if not contents.others:
        return [Problem(None, "", f"is empty; it should hold a {KIND}")]
    told = [Problem(each.line, "", f"is {_kind(each)}, not a {KIND}") for each in contents.others[:_LISTED]]
    more = len(contents.others) - _LISTED
    return [*told, Problem(None, "", f"{more} more documents are no {KIND} either")] if more > 0 else told


def _kind(document: Document) -> str:
    kind = document.body.get("kind")
    return f"a {kind[:100]}" if isinstance(kind, str) else "no resource, since it has no kind"


def _listed(found: Iterable[Document]) -> str:
    return "\n".join(_printable(f"  line {each.line}: {_full_name(each)}") for each in found)


def _full_name(document: Document) -> str:
    name = document.name if document.name is not None else "(no name)"
    return name if document.namespace is None else f"{document.namespace}/{name}"


def _by_line(problem: Problem) -> int:
    return problem.line or 0
