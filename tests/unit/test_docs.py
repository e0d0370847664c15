"""The documentation holds what it says: its examples are obeyed, its words are the program's, and its proofs exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.run import Phase
from registry_cleanup.domain.verdict import KeepReason, PruneReason
from registry_cleanup.kube.offline import refusals
from registry_cleanup.kube.spec import KIND, parse_policy
from tests.support.builders import minimal_spec, resource

_ROOT = Path(__file__).parents[2]
_TESTS = _ROOT / "tests"
_POLICY = (_ROOT / "docs" / "policy.md").read_text()
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_SAMPLES = sorted((_ROOT / "crds" / "samples").glob("*.yaml"))

_YAML = re.compile(r"^ *```yaml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_REFERENCE = re.compile(r"`([a-z0-9_/]+\.py)::(\w+)`")
# Rows 1 to 19 of the semantics; where one says of several what they have in common, `6 to 10`.
_ROW = re.compile(r"^\| ([0-9]+(?: to [0-9]+)?) \| (.+) \| (.*) \|$", re.MULTILINE)
_PROMISES: list[tuple[str, str, str]] = _ROW.findall(_POLICY)


@cache
def _tests_of(path: str) -> frozenset[str]:
    """Return the names of the tests in a file under `tests/`; none where there is no such file."""
    file = _TESTS / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def _examples() -> Iterator[Any]:
    """Yield the specs of all policies, and parts of specs, that a page or a sample shows."""
    for page in _PAGES:
        for number, block in enumerate(_YAML.findall(page.read_text())):
            yield from _specs(block, f"{page.name}-{number}")
    for sample in _SAMPLES:
        yield from _specs(sample.read_text(), sample.stem)


def _whole_policies() -> Iterator[Any]:
    """Yield every policy with name and kind that a page shows."""
    for page in _PAGES:
        for number, block in enumerate(_YAML.findall(page.read_text())):
            for document in yaml.safe_load_all(block):
                if document.get("kind") == KIND:
                    yield pytest.param(document, id=f"{page.name}-{number}")


def _specs(text: str, where: str) -> Iterator[Any]:
    for document in yaml.safe_load_all(text):
        if "kind" not in document:
            yield pytest.param({**minimal_spec(), **document}, id=where)
        elif document["kind"] == KIND:
            yield pytest.param(document["spec"], id=where)


def _first_cells(heading: str) -> set[str]:
    """Return the words that the table under `heading` explains."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", _POLICY, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize("spec", [*_examples()])
def test_an_example_is_a_policy_that_the_operator_obeys(spec: dict[str, Any]) -> None:
    assert parse_policy(resource(spec)).policy.rules


@pytest.mark.parametrize("policy", [*_whole_policies()])
def test_a_whole_policy_of_a_page_is_one_that_the_api_server_takes(policy: dict[str, Any]) -> None:
    assert refusals(policy) == []


def test_the_page_about_space_has_a_policy_to_copy_for_each_kind_of_registry() -> None:
    collected = [
        policy["spec"]["registry"].get("type", policy["spec"]["garbageCollection"].get("workloadRef", {}).get("kind"))
        for policy in (param.values[0] for param in _whole_policies())
        if policy["spec"].get("garbageCollection", {}).get("mode") == "Run"
    ]
    assert {"Deployment", "StatefulSet", "OpenShift"} <= set(collected)


def test_every_reason_outcome_and_phase_is_explained_and_no_other_word() -> None:
    assert _first_cells("Why a tag stays") == {reason.value for reason in KeepReason}
    assert _first_cells("What became of a planned tag") == {outcome.value for outcome in Outcome}
    assert _first_cells("How a run ended") == {phase.value for phase in Phase}
    assert all(f"`{reason.value}`" in _POLICY for reason in PruneReason)


def test_the_table_of_promises_goes_from_the_first_to_the_last_sentence() -> None:
    numbers = [number for number, _, _ in _PROMISES]
    assert list(dict.fromkeys(number for number in numbers if number.isdigit())) == [str(n) for n in range(1, 20)]
    assert len({promise for _, promise, _ in _PROMISES}) == len(_PROMISES) == 40


@pytest.mark.parametrize(("promise", "proof"), [each[1:] for each in _PROMISES])
def test_a_promise_has_a_proof_or_is_not_kept_in_this_version(promise: str, proof: str) -> None:
    assert promise
    assert _REFERENCE.search(proof) or "not in this version" in proof
    assert "TODO" not in proof


@pytest.mark.parametrize("page", [_ROOT / "docs" / "policy.md", _TESTS / "unit" / "domain" / "test_incidents.py"])
def test_every_proof_that_is_named_exists(page: Path) -> None:
    named = _REFERENCE.findall(page.read_text())
    assert named
    assert [f"{path}::{test}" for path, test in named if test not in _tests_of(path)] == []


def test_the_window_that_remains_is_documented() -> None:
    (section,) = re.findall(r"^### Between the last look and the deletion\n(.*?)^#", _POLICY, re.DOTALL | re.MULTILINE)
    assert "no conditional deletion" in section
    assert "older than 30 seconds" in section


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
