"""Garbage waits until nothing that was pruned at its registry can be undone any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.ports import Registry, RunError
from registry_cleanup.rivals import SameRegistry
from registry_cleanup.undo_windows import UndoWindow, UndoWindows
from tests.support.builders import NOW, minimal_spec

_OURS = "https://registry.example.com"
_OTHER = "https://mirror.example.net"


def _body(
    name: str,
    pruned: str | None,
    window: str = "7d",
    url: str = _OURS,
    **spec: Any,  # noqa: ANN401 - values of any field
) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": f"uid of {name}", "generation": 1}
    status = {} if pruned is None else {"lastPrunedTime": pruned}
    return {
        "metadata": {**metadata, "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {**minimal_spec(), "dryRun": False, "registry": {"url": url}, "undo": {"window": window}, **spec},
        "status": status,
    }


class _Same(SameRegistry):
    """Says that all registries are one, or none is another's."""

    def __init__(self, *, one: bool) -> None:
        self._one = one

    @override
    async def same(self, mine: ParsedPolicy, registry: Registry, theirs: ParsedPolicy, common: Any) -> bool:
        return self._one


class _Opened(AbstractAsyncContextManager[Any]):
    """A registry with one repository, or one that does not answer."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers

    @override
    async def __aenter__(self) -> Any:
        if not self._answers:
            raise RunError(Failure("Unreachable", "no answer", reachable=False))
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        return None

    async def repositories(self) -> list[str]:
        return ["team/app"]


async def _last(
    *bodies: Mapping[str, Any], one: bool = False, answers: bool = True, pruned: datetime | None = None
) -> UndoWindow | None:
    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        for body in bodies:
            yield body

    windows = UndoWindows(policies, parse_policy, _Same(one=one), lambda _: _Opened(answers=answers))
    return await windows.last_at(parse_policy(bodies[0]), pruned, NOW)


async def test_the_window_that_ends_last_of_all_policies_at_the_registry_counts() -> None:
    found = await _last(
        _body("mine", "2026-06-10T12:00:00Z"),
        _body("younger", "2026-06-14T12:00:00Z"),
        _body("shorter", "2026-06-15T11:00:00Z", "1d"),
        _body("over", "2026-06-15T11:00:00Z", "30m"),
        _body("never", None),
        _body("without", "2026-06-15T11:00:00Z", "0s"),
    )
    assert found == UndoWindow(datetime(2026, 6, 21, 12, tzinfo=UTC), "team/younger", timedelta(days=7), None)


async def test_nothing_waits_once_all_windows_have_passed() -> None:
    assert await _last(_body("mine", "2026-06-08T12:00:00Z"), _body("other", "2026-06-01T00:00:00Z")) is None


async def test_what_a_policy_pruned_counts_before_its_status_is_written() -> None:
    found = await _last(_body("mine", "2026-06-01T00:00:00Z"), pruned=NOW)
    assert found is not None
    assert found.until == NOW + timedelta(days=7)


@pytest.mark.parametrize("spec", [{"suspend": True}, {"dryRun": True}])
async def test_what_a_policy_pruned_can_be_undone_though_it_prunes_no_more(spec: dict[str, Any]) -> None:
    assert await _last(_body("mine", None), _body("other", "2026-06-15T00:00:00Z", **spec)) is not None


@pytest.mark.parametrize(("one", "waits"), [(True, True), (False, False)])
async def test_a_registry_of_another_name_counts_if_it_is_the_same(*, one: bool, waits: bool) -> None:
    found = await _last(_body("mine", None), _body("other", "2026-06-15T00:00:00Z", url=_OTHER), one=one)
    assert (found is not None) is waits


async def test_a_registry_that_cannot_be_compared_is_waited_for() -> None:
    assert (
        await _last(_body("mine", None), _body("other", "2026-06-15T00:00:00Z", url=_OTHER), answers=False) is not None
    )


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"schedule": "@daily"}, timedelta(days=1)),
        ({"schedule": "@monthly"}, None),
        ({"schedule": "@daily", "suspend": True}, None),
        ({"schedule": "@daily", "dryRun": True}, None),
    ],
)
async def test_runs_that_come_more_often_than_the_window_can_pass_are_told(
    spec: dict[str, Any], told: timedelta | None
) -> None:
    found = await _last(_body("mine", "2026-06-15T00:00:00Z", **spec))
    assert found is not None
    assert found.interval == told


async def test_a_policy_that_is_not_valid_says_nothing_of_its_window() -> None:
    assert await _last(_body("mine", None), _body("broken", "2026-06-15T00:00:00Z", rules=[])) is None
