"""Garbage waits until nothing that was pruned at its registry can be undone any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from typing_extensions import override

from registry_cleanup.application import Application
from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds, HostGlob
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.ports import Registry, RunError
from registry_cleanup.rivals import SameRegistry
from registry_cleanup.settings import Settings
from registry_cleanup.undo_windows import UndoWindow, UndoWindows
from tests.support.builders import NOW, minimal_spec
from tests.support.clients import HandClock

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


def _windows(
    *bodies: Mapping[str, Any], one: bool = False, answers: bool = True, bounds: Bounds = UNBOUNDED
) -> UndoWindows:
    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        for body in bodies:
            yield body

    def parse(body: Mapping[str, Any]) -> ParsedPolicy:
        return parse_policy(body, bounds)

    return UndoWindows(policies, parse, _Same(one=one), lambda _: _Opened(answers=answers))


async def _last(
    *bodies: Mapping[str, Any],
    one: bool = False,
    answers: bool = True,
    pruned: datetime | None = None,
    bounds: Bounds = UNBOUNDED,
) -> UndoWindow | None:
    windows = _windows(*bodies, one=one, answers=answers, bounds=bounds)
    return await windows.last_at(parse_policy(bodies[0]), pruned, NOW)


async def test_what_another_policy_pruned_in_the_storage_can_be_put_back_until_its_status_says_so() -> None:
    theirs = _body("theirs", None)
    theirs["status"]["collection"] = {"storage": {"run": "run-1", "until": "2026-06-18T12:00:00Z"}}
    found = await _last(_body("mine", None), theirs)
    assert found is not None
    assert (found.policy, found.until) == ("team/theirs", datetime(2026, 6, 18, 12, tzinfo=UTC))


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


@pytest.mark.parametrize("window", ["5s", "0s", "1h"])
async def test_what_status_says_can_be_undone_is_waited_for_whatever_the_window_is_by_now(window: str) -> None:
    body = _body("other", "2026-06-15T04:00:00Z", window)
    run = "20260615-035800-abcdef"
    told = {"run": run, "until": "2026-06-15T12:58:00Z", "oldestRun": run, "oldestUntil": "2026-06-15T12:58:00Z"}
    body["status"]["undo"] = {**told, "runs": 1}
    found = await _last(_body("mine", None), body)
    assert found is not None
    assert (found.policy, found.until) == ("team/other", datetime(2026, 6, 15, 12, 58, tzinfo=UTC))
    body["status"]["undo"]["until"] = "2026-06-15T12:00:00Z"
    assert await _last(_body("mine", None), body) is None


# A policy that names another registry than the one where it pruned

_ELSEWHERE = "https://new.example.org"


def _undo_at(registry: str | None, until: str = "2026-06-18T12:00:00Z", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    run = "20260611-100000-abcdef"
    return {"run": run, "until": until, "oldestRun": run, "oldestUntil": until, "runs": 1, "registry": registry, **more}


def _left(url: str, undo: Mapping[str, Any], pruned: str = "2026-06-11T12:00:00Z", **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    body = _body("other", pruned, url=url, **spec)
    body["status"]["undo"] = undo
    return body


@pytest.mark.parametrize("answers", [True, False])
async def test_what_was_pruned_at_a_registry_is_waited_for_though_its_policy_names_another_by_now(
    *, answers: bool
) -> None:
    found = await _last(_body("mine", None), _left(_ELSEWHERE, _undo_at(_OURS)), answers=answers)
    assert found is not None
    assert (found.policy, found.until, found.interval) == (
        "team/other",
        datetime(2026, 6, 18, 12, tzinfo=UTC),
        None,
    )


async def test_the_registry_that_a_policy_pruned_at_counts_by_any_name() -> None:
    theirs = _left(_ELSEWHERE, _undo_at(_OTHER))
    assert await _last(_body("mine", None), theirs, one=True) is not None
    assert await _last(_body("mine", None), theirs) is None
    assert await _last(_body("mine", None), theirs, answers=False) is not None


async def test_what_was_pruned_elsewhere_holds_up_no_collection_at_the_new_registry() -> None:
    assert await _last(_body("mine", None, url=_ELSEWHERE), _left(_ELSEWHERE, _undo_at(_OURS))) is None
    mine = _left(_ELSEWHERE, _undo_at(_OURS))
    assert await _last(mine) is None
    assert await _last(mine, pruned=datetime(2026, 6, 11, 12, tzinfo=UTC)) is None
    assert await _last(mine, pruned=NOW) is not None


async def test_a_registry_that_is_told_and_not_allowed_is_never_looked_at() -> None:
    only_new = Bounds(registries=(HostGlob("new.example.org"),))
    mine = _body("mine", None, url=_ELSEWHERE)
    found = await _last(mine, _left(_ELSEWHERE, _undo_at(_OTHER)), bounds=only_new)
    assert found is not None


async def test_the_windows_of_earlier_registries_count() -> None:
    former = [{"registry": _OURS, "run": "20260611-100000-abcdef", "until": "2026-06-18T14:00:00Z"}]
    theirs = _left(_ELSEWHERE, _undo_at(_ELSEWHERE, former=former))
    found = await _last(_body("mine", None), theirs)
    assert found is not None
    assert found.until == datetime(2026, 6, 18, 14, tzinfo=UTC)
    theirs["status"]["undo"]["former"][0]["registry"] = _OTHER
    assert await _last(_body("mine", None), theirs) is None
    # One that is told without its registry may be at any.
    del theirs["status"]["undo"]["former"][0]["registry"]
    assert await _last(_body("mine", None), theirs) is not None


async def test_a_window_whose_registry_nobody_knows_counts_anywhere() -> None:
    assert await _last(_body("mine", None), _left(_ELSEWHERE, _undo_at(""))) is not None
    assert await _last(_body("mine", None, url=_OTHER), _left(_ELSEWHERE, _undo_at(""))) is not None


async def test_what_was_pruned_at_the_clusters_own_registry_is_at_no_other() -> None:
    theirs = _left(_ELSEWHERE, _undo_at("OpenShift"), type="OpenShift")
    theirs["spec"]["registry"] |= {"type": "OpenShift", "serviceAccountName": "pruner"}
    assert await _last(_body("mine", None), theirs) is None
    assert await _last(_body("mine", None), theirs, one=True) is not None


async def test_a_run_that_ends_without_a_word_counts_at_both_registries() -> None:
    theirs = _left(_ELSEWHERE, _undo_at(_OURS), pruned="2026-06-15T11:00:00Z")
    theirs["status"]["lastRun"] = {**_RUNNING, "phase": "Interrupted"}
    assert await _last(_body("mine", None, url=_ELSEWHERE), theirs) is not None
    assert await _last(_body("mine", None), theirs) is not None


async def test_a_run_that_began_before_its_policy_was_changed_may_prune_anywhere() -> None:
    theirs = _running("other", url=_ELSEWHERE)
    theirs["status"]["observedGeneration"] = 1
    assert await _last(_body("mine", None), theirs) is None
    theirs["metadata"]["generation"] = 2
    found = await _last(_body("mine", None), theirs)
    assert found is not None
    assert found.runs


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
        # Copies are kept for four hours more, which a run may take.
        ({"schedule": "@weekly", "undo": {"window": "165h"}}, timedelta(days=7)),
        ({"schedule": "@weekly", "undo": {"window": "163h"}}, None),
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


_RUNNING = {
    "id": "r",
    "trigger": "Schedule",
    "phase": "Running",
    "dryRun": False,
    "startTime": "2026-06-15T11:59:00Z",
}


def _running(name: str, pruned: str | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    body = _body(name, pruned, **changes)
    body["status"]["lastRun"] = dict(_RUNNING)
    return body


@pytest.mark.parametrize("window", ["7d", "0s"])
async def test_a_run_that_is_under_way_or_ended_without_a_word_counts_as_pruning(window: str) -> None:
    found = await _last(_body("mine", None), _running("other", window=window))
    assert found is not None
    assert found.runs


async def test_a_run_that_only_plans_opens_no_window() -> None:
    other = _running("other")
    other["status"]["lastRun"]["dryRun"] = True
    assert await _last(_body("mine", None), other) is None


async def test_a_window_is_told_of_before_a_run_that_is_under_way() -> None:
    found = await _last(_body("mine", None), _running("runs"), _body("pruned", "2026-06-10T12:00:00Z"))
    assert found is not None
    assert (found.policy, found.runs) == ("team/pruned", False)


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"rules": []}, timedelta(days=7)),
        ({"rules": [], "window": "forever"}, timedelta(days=36500)),
        ({"undo": "forever"}, timedelta(days=36500)),
        ({"registry": None}, timedelta(days=7)),
        ({"rules": [], "registry": {"url": "nowhere"}}, timedelta(days=7)),
    ],
)
async def test_what_a_policy_pruned_can_be_undone_though_its_spec_is_not_valid_just_now(
    changes: dict[str, Any], length: timedelta
) -> None:
    found = await _last(_body("mine", None), _body("broken", "2026-06-15T11:00:00Z", **changes))
    assert found is not None
    assert (found.length, found.valid) == (length, False)


async def test_an_invalid_policy_of_another_registry_is_not_waited_for() -> None:
    other = _body("broken", "2026-06-15T11:00:00Z", url=_OTHER, rules=[])
    assert await _last(_body("mine", None), other) is None
    assert await _last(_body("mine", None), other, one=True) is not None


async def test_an_invalid_policy_without_undo_has_no_window() -> None:
    broken = _body("broken", "2026-06-15T11:00:00Z", rules=[])
    del broken["spec"]["undo"]
    assert await _last(_body("mine", None), broken) is None


async def test_the_registry_of_a_policy_that_is_not_allowed_is_never_looked_at() -> None:
    """Its credential goes nowhere; so nobody can tell that it is another registry."""
    only_ours = Bounds(registries=(HostGlob("registry.example.com"),))
    found = await _last(_body("mine", None), _body("b", "2026-06-15T11:00:00Z", url=_OTHER), bounds=only_ours)
    assert found is not None


# What is found once the registry is frozen


@pytest.mark.parametrize(
    ("answer", "found"),
    [(Answer.WRITABLE, False), (Answer.READ_ONLY, True), (Answer.SILENT, True), (Answer.UNCLEAR, True)],
)
@pytest.mark.parametrize("body", [_running("other", url=_OTHER), _body("other", "2026-06-15T11:59:30Z", url=_OTHER)])
async def test_who_prunes_while_a_registry_is_frozen_does_so_there_unless_his_registry_takes_changes(
    body: dict[str, Any], answer: Answer, *, found: bool
) -> None:
    assert (await _since(_body("mine", None), body, answer=answer) is not None) is found


async def test_what_was_pruned_before_the_collection_began_was_looked_at_then() -> None:
    assert await _since(_body("mine", None), _body("other", "2026-06-15T11:00:00Z", url=_OTHER)) is None


async def test_what_turns_out_to_be_another_registry_does_not_matter_though_it_is_read_only() -> None:
    assert await _since(_body("mine", None), _running("other", url=_OTHER), answers=True) is None


async def _since(
    *bodies: Mapping[str, Any], answer: Answer = Answer.READ_ONLY, answers: bool = False
) -> UndoWindow | None:
    async def ask(_: ParsedPolicy) -> Answer:
        return answer

    return await _windows(*bodies, answers=answers).opened_since(parse_policy(bodies[0]), NOW, NOW, ask)


@pytest.mark.parametrize("names", [["team/app"], ["other/app"]])
async def test_a_window_counts_whatever_names_the_policies_name(names: list[str]) -> None:
    mine = _body("mine", None, repositories={"include": ["team/app"]})
    other = _body("other", "2026-06-15T00:00:00Z", url=_OTHER, repositories={"include": names})
    assert await _last(mine, other, one=True) is not None


class _Process(Application):
    """Opens registries that are not there; that of policy `mine` answers."""

    def __init__(self, *bodies: Mapping[str, Any]) -> None:
        super().__init__(Settings(), _Cluster(), cast(RawAPI, _NoRaw()), HandClock(NOW))
        self._bodies = bodies

    @override
    async def policies(self) -> AsyncIterator[dict[str, Any]]:
        for body in self._bodies:
            yield dict(body)

    @override
    @asynccontextmanager
    async def _connect(self, policy: ParsedPolicy) -> AsyncGenerator[Registry, None]:
        async with _Opened(answers=policy.name == "mine") as registry:
            yield registry


class _Cluster(KubernetesAPI):
    def __init__(self) -> None:
        pass

    @override
    async def openshift_registry(self) -> RegistryHosts:
        return RegistryHosts(None)


class _NoRaw:
    async def document(self) -> None:
        return None


async def test_the_operator_waits_for_windows_of_a_registry_that_does_not_answer() -> None:
    mine = _body("mine", None, url="https://127.0.0.1:5001")
    process = _Process(mine, _body("other", "2026-06-15T00:00:00Z", url="https://127.0.0.1:5002"))
    found = await process.undo_window(parse_policy(mine), None)
    assert found is not None
    assert found.policy == "team/other"
    assert await process.undo_window_since(parse_policy(mine), NOW - timedelta(days=1)) is not None
