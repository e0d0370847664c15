"""What wakes the policies: approvals, and the conflicts that one policy's run tells another of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from registry_cleanup.application import Application
from registry_cleanup.claims import Aside, ClaimBook
from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.cron import Schedule, parse_time_zone
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Conflict, Counts, Failure, Phase, PlanSummary, RunOrder, RunReport, Trigger
from registry_cleanup.domain.schedule import Timetable
from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds, HostGlob
from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome
from registry_cleanup.doors import Doors, registry_key
from registry_cleanup.kube.api import ForbiddenError
from registry_cleanup.kube.lease import Alone
from registry_cleanup.kube.spec import (
    APPROVE_ANNOTATION,
    REQUEST_ANNOTATION,
    UNDO_ANNOTATION,
    ParsedPolicy,
    parse_policy,
)
from registry_cleanup.kube.status import UndoableStatus, parse_time
from registry_cleanup.narrator import Follow
from registry_cleanup.ports import RunError
from registry_cleanup.settings import Settings
from registry_cleanup.supervisor import Supervisor
from registry_cleanup.telemetry import Metrics
from tests.support.builders import NOW, minimal_spec

_LIMIT = 10.0
_PUT_BACK = Undone("run-1", (UndoOutcome("app", "v1", Digest("sha256:" + "1" * 64), Undo.RESTORED),))
_H, _G = "a" * 64, "b" * 64
_CONFLICTS = [{"type": "PolicyConflict", "status": "True", "reason": "OlderPolicyPrunes", "message": "team/older"}]


def _body(
    name: str = "builds",
    *,
    generation: int = 1,
    annotations: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,  # noqa: ANN401 - values of any field
) -> dict[str, Any]:
    metadata = {
        "namespace": "team",
        "name": name,
        "uid": f"uid of {name}",
        "generation": generation,
        "creationTimestamp": "2026-06-01T12:00:00Z",
        "annotations": dict(annotations or {}),
    }
    body = {"metadata": metadata, "spec": {**minimal_spec(), "dryRun": False, **spec}}
    return body if status is None else {**body, "status": dict(status)}


def _approved(plan: str = _H, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of _body
    return _body(annotations={APPROVE_ANNOTATION: plan}, **more)


def _planned(plan: str = _H, generation: int = 1, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    """Return the status of a policy with a published plan."""
    about = {"hash": plan, "observedGeneration": generation, "generatedAt": "2026-06-15T11:00:00Z", "deletions": 1}
    return {"observedGeneration": generation, "plan": {**about, "sample": []}, **more}


def _report(order: RunOrder, plan: str | None = _H, **more: Any) -> RunReport:  # noqa: ANN401 - fields of a report
    summary = PlanSummary(plan, NOW, 1, ()) if plan is not None else None
    phase = more.pop("phase", Phase.SUCCEEDED)
    return RunReport(order, phase, NOW, Counts(repositories_scanned=1), plan=summary, **more)


@dataclass
class _World:
    """An application whose runs a test makes up; with the statuses that were written, by the policies' names.

    Attributes:
        outcome: what comes of a run; by default what was approved is taken note of.
        orders: of all runs, with the name of their policy.
        statuses: as last written.
        gates: what the runs of a policy wait for, by its name.
        events: reasons of the Events that were posted.
        looked: how often conflicts were looked for without a run; `look` says what was found.
        time: the present.
        written: all statuses, with the names of their policies, in their order.
    """

    outcome: Callable[[str, RunOrder], RunReport] = lambda _, order: _report(
        order, approval_taken=order.approval == _H and not order.plan_only
    )
    orders: list[tuple[str, RunOrder]] = field(default_factory=list)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    looked: int = 0
    forbidden: bool = False
    look: Sequence[Conflict] | RunError = ()
    time: datetime = NOW
    jitter: int = 0
    concurrent_runs: int = 4
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    changed: int = 0
    undone: list[str] = field(default_factory=list)
    undo_outcome: Undone | Exception = _PUT_BACK
    tended: list[UndoableStatus | None] = field(default_factory=list)
    copies: CopiesHeld | RunError = CopiesHeld((), None)  # noqa: RUF009 - it is frozen

    def __post_init__(self) -> None:
        self.settings = Settings(
            stop_seconds=5, concurrent_runs=self.concurrent_runs, schedule_jitter_seconds=self.jitter
        )
        self.clock = self
        self.api = self
        self.bounds = UNBOUNDED
        self.withheld: str | None = None
        self.metrics = Metrics()
        self.claims = ClaimBook()
        self.doors = Doors()
        self.collector = None
        self.election = Alone()
        self._changed = asyncio.Condition()
        self.supervisor = Supervisor(
            cast(Application, self), lambda _body, _warning, reason, _message: self.events.append(reason)
        )

    def now(self) -> datetime:
        return self.time

    def parse(self, body: Mapping[str, Any]) -> ParsedPolicy:
        return parse_policy(body, self.bounds)

    async def run(
        self, policy: ParsedPolicy, order: RunOrder, _halt: Callable[[], str | None], _aside: Aside, _follow: Follow
    ) -> RunReport:
        self.orders.append((policy.name, order))
        await self._notify()
        if (gate := self.gates.get(policy.name)) is not None:
            await gate.wait()
        return self.outcome(policy.name, order)

    async def undo(self, _policy: ParsedPolicy, run: str, _known: UndoableStatus | None) -> Undone:
        self.undone.append(run)
        if isinstance(self.undo_outcome, Exception):
            raise self.undo_outcome
        return self.undo_outcome

    async def tend_copies(self, _policy: ParsedPolicy, known: UndoableStatus | None) -> CopiesHeld:
        self.tended.append(known)
        if isinstance(self.copies, RunError):
            raise self.copies
        return self.copies

    def rivals_changed(self) -> None:
        self.changed += 1

    def ended(self, policy: ParsedPolicy, report: RunReport) -> None:
        self.metrics.run_ended(policy.namespace, policy.name, report)

    async def conflicts(self, _policy: ParsedPolicy) -> Sequence[Conflict]:
        self.looked += 1
        await self._notify()
        if isinstance(self.look, RunError):
            raise self.look
        return self.look

    async def replace_status(self, _namespace: str, name: str, _uid: str, status: dict[str, Any]) -> None:
        if self.forbidden:
            raise ForbiddenError("registrycleanuppolicies/status")
        self.statuses[name] = status
        self.written.append((name, status))
        await self._notify()

    def observe(self, body: Mapping[str, Any], *, deleted: bool = False) -> None:
        self.supervisor.observe(body, deleted=deleted)

    def hold(self, name: str) -> asyncio.Event:
        """Let the runs of a policy wait until the event is set."""
        self.gates[name] = asyncio.Event()
        return self.gates[name]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LIMIT), self._changed:
            await self._changed.wait_for(is_so)

    async def idle(self) -> None:
        """Wait until every task has seen all events and done what was due: none of these sleeps for a time."""
        for _ in range(50):
            await asyncio.sleep(0)

    def triggers(self, name: str = "builds") -> list[tuple[Trigger, str | None]]:
        return [(order.trigger, order.approval) for of, order in self.orders if of == name]

    def conflict(self, name: str) -> tuple[str, str]:
        """Return status and message of the condition, empty where there is none."""
        found = self.statuses.get(name, {}).get("conditions", [])
        (one,) = [one for one in found if one["type"] == "PolicyConflict"] or [{"status": "", "message": ""}]
        return one["status"], one["message"]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@pytest.fixture
async def world() -> AsyncIterator[_World]:
    async with _ended(_World()) as made:
        yield made


@asynccontextmanager
async def _ended(world: _World) -> AsyncIterator[_World]:
    try:
        yield world
    finally:
        for gate in world.gates.values():
            gate.set()
        await world.supervisor.stop("the operator was stopped", 5)


# Approvals


async def test_the_approval_of_the_published_plan_starts_one_run_that_is_told_of_it(world: _World) -> None:
    world.observe(_body(status=_planned()))
    await world.idle()
    assert world.triggers() == []
    world.observe(_approved())
    await world.idle()
    world.observe(_approved())
    await world.idle()
    assert world.triggers() == [(Trigger.RESUME, _H)]
    assert world.statuses["builds"]["lastHandledApproval"] == _H


async def test_an_approval_that_was_taken_note_of_before_a_restart_starts_nothing(world: _World) -> None:
    world.observe(_approved(status=_planned(lastHandledApproval=_H)))
    await world.idle()
    assert world.triggers() == []


async def test_what_was_approved_and_withdrawn_can_be_approved_anew(world: _World) -> None:
    world.observe(_approved(status=_planned(lastHandledApproval=_H)))
    world.observe(_body())
    await world.idle()
    assert "lastHandledApproval" not in world.statuses["builds"]
    world.observe(_approved())
    await world.idle()
    assert world.triggers() == [(Trigger.RESUME, _H)]


async def test_an_approval_that_comes_to_nothing_is_not_tried_over_and_over(world: _World) -> None:
    failure = Failure("Unreachable", "the registry does not answer", reachable=False)
    world.outcome = lambda _, order: _report(order, None, phase=Phase.FAILED, failures=(failure,))
    world.observe(_approved(status=_planned()))
    await world.idle()
    world.observe(_approved())
    await world.idle()
    assert world.triggers() == [(Trigger.RESUME, _H)]
    assert "lastHandledApproval" not in world.statuses["builds"]
    # Somebody who approves anew is heard.
    world.observe(_body())
    world.observe(_approved())
    await world.idle()
    assert world.triggers() == [(Trigger.RESUME, _H)] * 2


async def test_an_approval_of_another_plan_starts_nothing_and_is_told_to_the_next_run(world: _World) -> None:
    world.observe(_approved(_G, status=_planned()))
    await world.idle()
    assert world.triggers() == []
    world.observe(_approved(_G))
    await world.idle()
    assert world.events == ["OtherPlanApproved"]  # once
    world.observe(_body(annotations={APPROVE_ANNOTATION: _G, REQUEST_ANNOTATION: "now"}))
    await world.idle()
    assert world.triggers() == [(Trigger.REQUEST, _G)]
    assert "lastHandledApproval" not in world.statuses["builds"]


async def test_a_request_carries_the_approval_along(world: _World) -> None:
    world.observe(_body(annotations={APPROVE_ANNOTATION: _H, REQUEST_ANNOTATION: "now"}, status=_planned()))
    await world.idle()
    assert world.triggers() == [(Trigger.REQUEST, _H)]
    assert world.statuses["builds"]["lastHandledApproval"] == _H


async def test_a_dry_run_knows_no_approval(world: _World) -> None:
    world.observe(_approved(status=_planned(), dryRun=True))
    world.observe(_body(annotations={APPROVE_ANNOTATION: _H, REQUEST_ANNOTATION: "now"}, dryRun=True))
    await world.idle()
    assert world.triggers() == [(Trigger.REQUEST, None)]
    assert world.orders[0][1].plan_only


async def test_a_changed_policy_is_planned_before_its_approval_counts(world: _World) -> None:
    world.outcome = lambda _, order: _report(order, _G, approval_taken=False)
    world.observe(_approved(generation=2, status=_planned()))
    await world.idle()
    assert world.triggers() == [(Trigger.SPEC_CHANGE, _H)]
    assert world.orders[0][1].plan_only
    # The plan is another one now, and so nobody has approved it.
    assert world.statuses["builds"]["plan"]["hash"] == _G


async def test_an_approval_that_is_withdrawn_while_it_waits_for_its_turn_starts_nothing() -> None:
    async with _ended(_World(concurrent_runs=1)) as world:
        first_goes_on = world.hold("first")
        world.observe(_body("first"))
        await world.until(lambda: len(world.orders) == 1)
        world.observe(_approved(status=_planned()))
        await world.idle()
        assert (world.supervisor.places.running, world.supervisor.places.waiting) == (1, 1)
        world.observe(_body())
        first_goes_on.set()
        await world.idle()
        assert world.triggers() == []


async def test_a_policy_that_goes_while_it_waits_for_its_turn_waits_no_longer() -> None:
    async with _ended(_World(concurrent_runs=1)) as world:
        first_goes_on = world.hold("first")
        world.observe(_body("first"))
        await world.until(lambda: len(world.orders) == 1)
        world.observe(_body())
        await world.idle()
        assert world.supervisor.places.waiting == 1
        world.observe(_body(), deleted=True)
        await world.idle()
        assert (world.supervisor.places.running, world.supervisor.places.waiting) == (1, 0)
        first_goes_on.set()
        await world.idle()
        assert world.supervisor.places.running == 0
        assert [name for name, _ in world.orders] == ["first"]


async def test_runs_that_wait_for_their_turn_end_at_once_when_the_operator_stops() -> None:
    async with _ended(_World(concurrent_runs=1)) as world:
        first_goes_on = world.hold("first")
        world.observe(_body("first"))
        await world.until(lambda: len(world.orders) == 1)
        for name in ("second", "third"):
            world.observe(_body(name))
        await world.idle()
        assert world.supervisor.places.waiting == 2
        stopping = asyncio.ensure_future(world.supervisor.stop("the operator was stopped", 5))
        await world.idle()
        assert world.supervisor.places.waiting == 0  # though the first has not ended
        first_goes_on.set()
        await asyncio.wait_for(stopping, _LIMIT)
        assert [name for name, _ in world.orders] == ["first"]


async def test_runs_at_one_registry_take_place_at_the_same_time(world: _World) -> None:
    goes_on = [world.hold(name) for name in ("first", "second")]
    for name in ("first", "second"):
        world.observe(_body(name))
    await world.until(lambda: len(world.orders) == 2)
    assert world.supervisor.places.running == 2
    for event in goes_on:
        event.set()


async def test_an_interrupted_run_takes_its_approval_again(world: _World) -> None:
    world.outcome = lambda _, order: _report(order, approval_taken=True, phase=Phase.INTERRUPTED)
    world.observe(_approved(status=_planned()))
    await world.idle()
    assert world.triggers() == [(Trigger.RESUME, _H)]
    assert "lastHandledApproval" not in world.statuses["builds"]


# Conflicts


def _finds(*repositories: str) -> Callable[[str, RunOrder], RunReport]:
    """Let the runs of `younger` find the older policy, and no others."""
    found = (Conflict("team", "older", "uid of older", yields=True, repositories=repositories),)
    return lambda name, order: _report(order, conflicts=found if name == "younger" and repositories else ())


async def _in_conflict(world: _World) -> None:
    world.outcome = _finds("team/app")
    world.observe(_body("older", status=_planned()))
    world.observe(_body("younger"))
    await world.idle()
    assert world.conflict("younger")[0] == "True"
    assert world.conflict("older")[0] == "True"


async def test_a_conflict_that_the_younger_finds_is_told_to_the_older_at_once(world: _World) -> None:
    await _in_conflict(world)
    assert "team/older is older" in world.conflict("younger")[1]
    assert "team/younger is younger" in world.conflict("older")[1]
    assert "team/app" in world.conflict("older")[1]
    assert world.triggers("older") == []


@pytest.mark.parametrize("gone", ["deleted", "dying", "suspended", "dry run", "invalid"])
async def test_a_conflict_ends_at_once_when_the_other_policy_prunes_no_longer(world: _World, gone: str) -> None:
    await _in_conflict(world)
    runs = len(world.orders)
    if gone == "deleted":
        world.observe(_body("older"), deleted=True)
    elif gone == "dying":
        dying = _body("older")
        dying["metadata"]["deletionTimestamp"] = "2026-06-15T12:00:00Z"
        world.observe(dying)
    else:
        changes: dict[str, dict[str, Any]] = {
            "suspended": {"suspend": True},
            "dry run": {"dryRun": True},
            "invalid": {"rules": []},
        }
        change = changes[gone]
        world.hold("older")  # its own plan is not even made
        world.observe(_body("older", generation=2, **change))
    await world.idle()
    assert world.conflict("younger")[0] == "False"
    assert world.triggers("younger") == [(Trigger.SPEC_CHANGE, None)]
    assert len(world.orders) - runs == (1 if gone == "dry run" else 0)


async def test_a_conflict_that_a_run_finds_no_longer_has_ended_for_both(world: _World) -> None:
    await _in_conflict(world)
    world.outcome = _finds()
    world.observe(_body("older", generation=2))
    await world.idle()
    assert world.conflict("older")[0] == "False"
    assert world.conflict("younger")[0] == "False"


async def test_a_dry_run_tells_nobody_of_its_conflict(world: _World) -> None:
    world.outcome = _finds("team/app")
    world.observe(_body("older", status=_planned()))
    world.observe(_body("younger", dryRun=True))
    await world.idle()
    assert world.conflict("younger")[0] == "True"
    assert world.conflict("older")[0] == ""


async def test_a_dry_run_has_no_say_over_a_younger_policy(world: _World) -> None:
    found = (Conflict("team", "younger", "uid of younger", yields=False, repositories=("team/app",)),)
    world.outcome = lambda _, order: _report(order, conflicts=found)
    world.observe(_body("older", dryRun=True))
    await world.idle()
    assert world.conflict("older")[0] in ("", "False")
    world.observe(_body("older", generation=2))
    await world.idle()
    assert world.conflict("older")[0] == "True"


async def test_nothing_runs_while_the_operator_may_not_write_the_status(world: _World) -> None:
    world.forbidden = True
    world.observe(_body(annotations={REQUEST_ANNOTATION: "now"}, status=_planned()))
    await world.idle()
    assert world.triggers() == []


async def test_what_is_told_during_a_run_is_published_at_once_and_outlives_it(world: _World) -> None:
    world.outcome = _finds("team/app")
    elsewhere = {"url": "https://other.example.com"}
    older_goes_on = world.hold("older")
    world.observe(_body("older", annotations={REQUEST_ANNOTATION: "now"}, status=_planned(), registry=elsewhere))
    await world.until(lambda: len(world.orders) == 1)
    # The older's run began before there was a conflict, and is under way when the younger finds one.
    world.observe(_body("younger"))
    await world.idle()
    assert world.statuses["older"]["lastRun"]["phase"] == "Running"
    assert world.conflict("older")[0] == "True"
    older_goes_on.set()
    await world.idle()
    assert world.statuses["older"]["lastRun"]["phase"] == "Succeeded"
    assert world.conflict("older")[0] == "True"


async def test_what_ends_during_a_run_is_not_told_by_it_again(world: _World) -> None:
    await _in_conflict(world)
    younger_goes_on = world.hold("younger")
    world.observe(_body("younger", annotations={REQUEST_ANNOTATION: "now"}))
    await world.until(lambda: len(world.orders) == 2)
    world.observe(_body("older"), deleted=True)
    await world.idle()
    assert world.conflict("younger")[0] == "False"
    younger_goes_on.set()
    await world.idle()
    assert world.statuses["younger"]["lastRun"]["trigger"] == "Request"
    assert world.statuses["younger"]["lastRun"]["phase"] == "Succeeded"
    assert world.conflict("younger")[0] == "False"


async def test_a_run_takes_nothing_back_that_another_found_while_it_went_on(world: _World) -> None:
    world.outcome = _finds("team/app")
    older_goes_on = world.hold("older")
    elsewhere = {"url": "https://other.example.com"}
    world.observe(_body("older", annotations={REQUEST_ANNOTATION: "now"}, status=_planned(), registry=elsewhere))
    await world.until(lambda: len(world.orders) == 1)
    world.observe(_body("younger"))
    await world.idle()
    # The older's run looked before there was a younger policy.
    older_goes_on.set()
    await world.idle()
    assert world.conflict("younger")[0] == "True"


async def test_conflicts_of_an_earlier_operator_are_looked_at_again(world: _World) -> None:
    inherited = [{**one, "observedGeneration": 1, "lastTransitionTime": "2026-06-15T11:00:00Z"} for one in _CONFLICTS]
    world.observe(_body("younger", status=_planned(conditions=inherited)))
    await world.idle()
    world.observe(_body("younger"))
    await world.idle()
    assert world.conflict("younger")[0] == "False"
    assert world.looked == 1
    assert world.orders == []


async def test_conflicts_that_cannot_be_looked_at_stay_until_they_can(world: _World) -> None:
    inherited = [{**one, "observedGeneration": 1, "lastTransitionTime": "2026-06-15T11:00:00Z"} for one in _CONFLICTS]
    world.look = RunError(Failure("Unreachable", "the registry does not answer"))
    world.observe(_body("younger", status=_planned(conditions=inherited)))
    await world.idle()
    assert world.conflict("younger") == ("", "")  # nothing was written: what the resource says stays
    world.look = (Conflict("team", "older", "uid of older", yields=True, repositories=("team/app",)),)
    world.observe(_body("younger"))
    await world.idle()
    assert "team/older is older" in world.conflict("younger")[1]
    world.observe(_body("older", suspend=True))
    await world.idle()
    assert world.conflict("younger")[0] == "False"


# Requests


def _requested(value: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of _body
    return _body(annotations={REQUEST_ANNOTATION: value}, **more)


async def test_requests_during_a_run_are_one_run_after_it_and_each_is_answered_once(world: _World) -> None:
    goes_on = world.hold("builds")
    world.observe(_requested("first", status=_planned()))
    await world.until(lambda: len(world.orders) == 1)
    for value in ("second", "third", "fourth"):
        world.observe(_requested(value))
        await world.idle()
    assert len(world.orders) == 1
    assert "lastHandledRunRequest" not in world.statuses["builds"]
    goes_on.set()
    await world.idle()
    assert [(order.trigger, order.request) for _, order in world.orders] == [
        (Trigger.REQUEST, "first"),
        (Trigger.REQUEST, "fourth"),
    ]
    assert world.statuses["builds"]["lastHandledRunRequest"] == "fourth"
    world.observe(_requested("fourth"))
    await world.idle()
    assert len(world.orders) == 2


async def test_a_request_that_is_withdrawn_during_the_run_before_it_is_not_run(world: _World) -> None:
    goes_on = world.hold("builds")
    world.observe(_requested("first", status=_planned()))
    await world.until(lambda: len(world.orders) == 1)
    world.observe(_requested("second"))
    world.observe(_requested("first"))
    goes_on.set()
    await world.idle()
    assert len(world.orders) == 1


# Schedules, with NOW at noon

_NIGHTLY: Mapping[str, Any] = {"schedule": "0 3 * * *"}
_LAST_NIGHT, _YESTERDAY = "2026-06-15T03:00:00Z", "2026-06-14T12:00:00Z"
_OVERDUE: Mapping[str, Any] = {"scheduleCountsFrom": _YESTERDAY}


async def test_a_time_that_was_missed_runs_once_and_is_told_as_the_time_it_was(world: _World) -> None:
    world.observe(_body(status=_planned(**_OVERDUE), **_NIGHTLY))
    await world.idle()
    world.observe(_body(**_NIGHTLY))
    await world.idle()
    ((_, order),) = world.orders
    assert (order.trigger, order.scheduled_for) == (Trigger.SCHEDULE, parse_time(_LAST_NIGHT))
    status = world.statuses["builds"]
    assert (status["lastScheduleTime"], status["nextScheduleTime"]) == (_LAST_NIGHT, "2026-06-16T03:00:00Z")
    assert status["lastRun"]["scheduledTime"] == _LAST_NIGHT


async def test_a_time_that_was_missed_for_too_long_is_told_once_and_never_run(world: _World) -> None:
    body = _body(status=_planned(**_OVERDUE), startingDeadlineSeconds=3600, **_NIGHTLY)
    world.observe(body)
    await world.idle()
    world.observe(body)
    await world.idle()
    assert (world.orders, world.events) == ([], ["MissedSchedule"])
    status = world.statuses["builds"]
    assert status["lastMissedScheduleTime"] == _LAST_NIGHT
    assert status["nextScheduleTime"] == "2026-06-16T03:00:00Z"
    assert "lastScheduleTime" not in status
    # Nor by an operator that starts later.
    async with _ended(_World()) as later:
        later.observe({**body, "status": status})
        await later.idle()
        assert (later.orders, later.events, later.statuses) == ([], [], {})


async def test_a_run_that_waits_too_long_for_its_place_counts_as_missed() -> None:
    async with _ended(_World(concurrent_runs=1)) as world:
        first_goes_on = world.hold("first")
        world.observe(_body("first"))
        await world.until(lambda: len(world.orders) == 1)
        world.observe(_body(status=_planned(**_OVERDUE), startingDeadlineSeconds=10 * 3600, **_NIGHTLY))
        await world.idle()
        world.time = NOW + timedelta(hours=2)
        first_goes_on.set()
        await world.idle()
        assert world.triggers() == []
        assert world.events[-1] == "MissedSchedule"


async def test_a_scheduled_run_that_a_killed_operator_left_is_said_to_be_interrupted_and_repeated(
    world: _World,
) -> None:
    running = {
        "id": "run-of-last-night",
        "trigger": "Schedule",
        "phase": "Running",
        "dryRun": False,
        "scheduledTime": _LAST_NIGHT,
        "startTime": "2026-06-15T03:00:10Z",
    }
    # It began in time, so the deadline does not speak against it.
    world.observe(
        _body(status=_planned(lastRun=running, **_OVERDUE), startingDeadlineSeconds=3600, timeout="2h", **_NIGHTLY)
    )
    await world.idle()
    ((_, order),) = world.orders
    assert (order.trigger, order.scheduled_for) == (Trigger.SCHEDULE, parse_time(_LAST_NIGHT))
    assert (order.repeats, order.deadline) == ("run-of-last-night", NOW + timedelta(hours=2))
    assert world.events == ["RunInterrupted", "RunSucceeded"]
    status = world.statuses["builds"]
    assert status["lastScheduleTime"] == _LAST_NIGHT
    assert [run["phase"] for run in status["history"]] == ["Succeeded", "Interrupted"]


async def test_a_request_before_the_repetition_does_not_make_a_missed_time_of_it(world: _World) -> None:
    interrupted = {
        "id": "run-of-last-night",
        "trigger": "Schedule",
        "phase": "Interrupted",
        "dryRun": False,
        "scheduledTime": _LAST_NIGHT,
        "startTime": "2026-06-15T03:00:10Z",
    }
    status = _planned(lastRun=interrupted, history=[interrupted], **_OVERDUE)
    world.observe(_requested("now", status=status, startingDeadlineSeconds=3600, **_NIGHTLY))
    await world.idle()
    assert [order.trigger for _, order in world.orders] == [Trigger.REQUEST, Trigger.SCHEDULE]
    assert world.statuses["builds"]["lastScheduleTime"] == _LAST_NIGHT


async def test_an_interrupted_run_is_repeated_without_a_history_too(world: _World) -> None:
    interrupted = {
        "id": "run-of-last-night",
        "trigger": "Schedule",
        "phase": "Interrupted",
        "dryRun": False,
        "scheduledTime": _LAST_NIGHT,
        "startTime": "2026-06-15T03:00:10Z",
    }
    status = _planned(lastRun=interrupted, **_OVERDUE)
    world.observe(_body(status=status, startingDeadlineSeconds=3600, historyLimit=0, **_NIGHTLY))
    await world.idle()
    assert [order.repeats for _, order in world.orders] == ["run-of-last-night"]
    assert world.statuses["builds"]["history"] == []


async def test_what_an_operator_finds_interrupted_says_nothing_of_a_generation_that_came_since(world: _World) -> None:
    running = {"id": "run", "trigger": "Request", "phase": "Running", "dryRun": False, "startTime": _YESTERDAY}
    world.observe(_body(generation=2, status=_planned(lastRun=running)))
    await world.idle()
    told = [(status["lastRun"]["phase"], status["observedGeneration"]) for _, status in world.written]
    assert told == [("Interrupted", 1), ("Running", 2), ("Succeeded", 2)]


async def test_times_under_suspend_are_made_up_for_once_after_the_plan(world: _World) -> None:
    world.time = NOW - timedelta(hours=12)
    status = _planned(scheduleCountsFrom=_YESTERDAY, lastScheduleTime="2026-06-14T03:00:00Z")
    world.observe(_body(status=status, generation=2, suspend=True, **_NIGHTLY))
    await world.idle()
    assert world.orders == []
    assert world.statuses["builds"]["suspendedTime"] == "2026-06-15T00:00:00Z"
    assert "nextScheduleTime" not in world.statuses["builds"]
    world.time = NOW
    world.outcome = lambda _, order: replace(_report(order), plan=PlanSummary(_H, NOW, 1, ()))
    world.observe(_body(generation=3, **_NIGHTLY))
    await world.idle()
    assert [(order.trigger, order.scheduled_for) for _, order in world.orders] == [
        (Trigger.SPEC_CHANGE, None),
        (Trigger.SCHEDULE, parse_time(_LAST_NIGHT)),
    ]


async def test_times_under_suspend_are_left_out_where_the_deadline_says_so(world: _World) -> None:
    world.time = NOW - timedelta(hours=12)
    world.observe(_body(status=_planned(), generation=2, suspend=True, startingDeadlineSeconds=3600, **_NIGHTLY))
    await world.idle()
    world.time = NOW
    world.observe(_body(generation=3, startingDeadlineSeconds=3600, **_NIGHTLY))
    await world.idle()
    assert world.triggers() == [(Trigger.SPEC_CHANGE, None)]
    assert world.events[-1] == "MissedSchedule"


async def test_times_before_a_changed_policy_was_planned_are_not_made_up_for(world: _World) -> None:
    world.observe(_body(status=_planned(**_OVERDUE), generation=2, **_NIGHTLY))
    await world.idle()
    assert world.triggers() == [(Trigger.SPEC_CHANGE, None)]


async def test_the_next_start_is_announced_with_the_jitter_of_the_policy() -> None:
    async with _ended(_World(jitter=3600)) as world:
        world.observe(_body(status=_planned(lastScheduleTime=_LAST_NIGHT), **_NIGHTLY))
        await world.idle()
        announced = parse_time(world.statuses["builds"]["nextScheduleTime"])
        timetable = Timetable(Schedule("0 3 * * *", parse_time_zone("Etc/UTC")), "uid of builds", timedelta(hours=1))
        nominal = datetime(2026, 6, 16, 3, tzinfo=UTC)
        assert announced == timetable.start(nominal)
        assert announced > nominal
        # Not before it, and then once.
        world.time = announced - timedelta(seconds=1)
        world.observe(_body(**_NIGHTLY))
        await world.idle()
        assert world.orders == []
        world.time = announced
        world.observe(_body(**_NIGHTLY))
        await world.idle()
        world.observe(_body(**_NIGHTLY))
        await world.idle()
        assert [order.scheduled_for for _, order in world.orders] == [nominal]
        assert world.statuses["builds"]["lastScheduleTime"] == "2026-06-16T03:00:00Z"


async def test_a_status_that_says_all_is_not_written_again_at_the_start(world: _World) -> None:
    """1,000 policies that wait cost no write."""
    waits = _planned(lastScheduleTime=_LAST_NIGHT, nextScheduleTime="2026-06-16T03:00:00Z")
    world.observe(_body(status=waits, **_NIGHTLY))
    await world.idle()
    assert (world.statuses, world.orders) == ({}, [])


# Timeouts


async def test_the_next_run_is_told_where_the_last_one_stopped_and_forgets_it_once_it_is_through(
    world: _World,
) -> None:
    world.outcome = lambda _, order: replace(_report(order, phase=Phase.PARTIAL), next_repository="team/b")
    world.observe(_requested("first", status=_planned()))
    await world.idle()
    assert world.statuses["builds"]["nextRepository"] == "team/b"
    world.outcome = lambda _, order: _report(order)
    world.observe(_requested("second"))
    await world.idle()
    assert [order.first_repository for _, order in world.orders] == [None, "team/b"]
    assert "nextRepository" not in world.statuses["builds"]


# Events


async def test_the_same_failure_again_and_again_is_told_once(world: _World) -> None:
    failure = Failure("Unreachable", "the registry does not answer", reachable=False)
    world.outcome = lambda _, order: _report(order, None, phase=Phase.FAILED, failures=(failure,), message="no answer")
    for generation in range(1, 30):
        world.observe(_body(generation=generation))
        await world.idle()
    assert len(world.orders) == 29
    assert world.events == ["PlanFailed"]


async def test_who_asks_for_a_run_is_told_of_each(world: _World) -> None:
    world.observe(_requested("first", status=_planned()))
    await world.idle()
    world.observe(_requested("second"))
    await world.idle()
    assert world.events == ["RunSucceeded", "RunSucceeded"]


# What the administrator does not allow


async def test_a_policy_outside_the_bounds_is_stalled_with_field_and_bound_and_nothing_runs(world: _World) -> None:
    world.bounds = Bounds((HostGlob("other.example.com"),))
    world.observe(_body(annotations={REQUEST_ANNOTATION: "now"}))
    await world.idle()
    assert world.orders == []
    conditions = {each["type"]: each for each in world.statuses["builds"]["conditions"]}
    told = [(conditions[name]["status"], conditions[name]["reason"]) for name in ("Ready", "Stalled", "Reconciling")]
    assert told == [("False", "NotAllowed"), ("True", "NotAllowed"), ("False", "NotAllowed")]
    message = conditions["Stalled"]["message"]
    assert message.startswith(
        "spec.registry.url: names registry.example.com:443, which is not allowed by the operator's"
    )
    assert "REGISTRY_CLEANUP_ALLOWED_REGISTRIES (other.example.com)" in message
    assert world.events == ["NotAllowed"]


async def test_a_policy_outside_the_bounds_blocks_nobody(world: _World) -> None:
    world.outcome = _finds("team/app")
    world.observe(_body("older", registry={"url": "https://other.example.com"}))
    world.observe(_body("younger"))
    await world.idle()
    assert world.conflict("younger")[0] == "True"
    world.bounds = Bounds((HostGlob("registry.example.com"),))
    world.observe(_body("older", generation=2, registry={"url": "https://other.example.com"}))
    await world.idle()
    assert world.conflict("younger")[0] == "False"


async def test_where_the_operator_plans_only_a_request_is_answered_by_a_plan_that_knows_why(world: _World) -> None:
    world.withheld = "planned only: because of a setting"
    world.observe(_body(annotations={REQUEST_ANNOTATION: "now"}, status=_planned()))
    await world.until(lambda: len(world.orders) == 1)
    await world.idle()
    ((_, order),) = world.orders
    assert (order.trigger, order.plan_only, order.withheld) == (Trigger.REQUEST, True, world.withheld)
    assert order.request is None  # nobody asked for a plan, and no message may say that it was all there was to do
    assert world.statuses["builds"]["lastHandledRunRequest"] == "now"


async def test_where_the_operator_plans_only_no_approval_starts_a_run_or_is_used_up(world: _World) -> None:
    world.withheld = "planned only: because of a setting"
    world.observe(_approved(status=_planned()))
    await world.idle()
    assert world.orders == []
    assert "lastHandledApproval" not in world.statuses.get("builds", {})


async def test_a_dry_run_is_the_policys_own_whatever_the_operator_does(world: _World) -> None:
    world.withheld = "planned only: because of a setting"
    world.observe(_body(annotations={REQUEST_ANNOTATION: "now"}, status=_planned(), dryRun=True))
    await world.until(lambda: len(world.orders) == 1)
    await world.idle()
    assert world.orders[0][1].withheld is None


# Metrics


async def test_a_policy_is_shown_until_it_is_deleted_whatever_its_run_still_tells(world: _World) -> None:
    gate = world.hold("builds")
    world.observe(_body())
    world.observe(_body("others"))
    await world.until(lambda: bool(world.orders))
    assert world.metrics.policies.find("team", "builds") is not None
    world.observe(_body(), deleted=True)
    gate.set()
    await world.idle()
    assert world.metrics.policies.find("team", "builds") is None
    assert world.metrics.policies.find("team", "others") is not None


async def test_a_supervisor_that_stops_shows_nothing_any_more(world: _World) -> None:
    # Another one may follow in the same process, after policies have gone that nobody saw go.
    world.observe(_body())
    await world.until(lambda: "builds" in world.statuses)
    await world.supervisor.stop("the operator was stopped", 5)
    assert world.metrics.policies.find("team", "builds") is None


async def test_a_changed_spec_is_shown_at_once(world: _World) -> None:
    world.observe(_body(schedule="@daily", status=_planned()))
    series = world.metrics.policies.find("team", "builds")
    assert series is not None
    assert series.state.spec.interval == timedelta(days=1)
    world.observe(_body(schedule="@daily", suspend=True, generation=2, status=_planned()))
    assert series.state.spec.interval is None


async def test_a_run_that_ends_by_our_own_mistake_is_counted(world: _World) -> None:
    def mistake(_name: str, _order: RunOrder) -> RunReport:
        raise ValueError("a bug")

    world.outcome = mistake
    world.observe(_body())
    await world.until(lambda: world.statuses.get("builds", {}).get("lastRun", {}).get("phase") == "Failed")
    page = (await world.metrics.page("", "")).content.decode()
    assert 'registry_cleanup_runs_total{phase="Failed",trigger="SpecChange"} 1.0' in page


# Clocks that were wrong once


async def test_a_time_that_a_clock_which_was_ahead_wrote_does_not_silence_the_schedule(world: _World) -> None:
    status = _planned(lastScheduleTime="2031-01-01T03:00:00Z", **_OVERDUE)
    world.observe(_body(status=status, **_NIGHTLY))
    await world.idle()
    assert world.orders == []  # last night's may have been answered
    world.time = NOW + timedelta(days=1)
    world.observe(_body(**_NIGHTLY))
    await world.idle()
    assert [order.trigger for _, order in world.orders] == [Trigger.SCHEDULE]
    assert world.statuses["builds"]["lastScheduleTime"] == "2026-06-16T03:00:00Z"


async def test_a_clock_that_is_put_back_and_right_again_runs_nothing(world: _World) -> None:
    world.observe(_body(status=_planned(), **_NIGHTLY))
    for behind in (timedelta(days=3), timedelta(0), timedelta(hours=30), timedelta(0)):
        world.time = NOW - behind
        world.observe(_body(**_NIGHTLY))
        await world.idle()
    assert world.orders == []


async def test_what_runs_know_of_others_is_outdated_by_each_change_of_a_policy_that_prunes(world: _World) -> None:
    for number, body in enumerate(
        (_body(), _body(generation=2), _body(generation=3, dryRun=True), _body(generation=4))
    ):
        world.observe(_body("plans", dryRun=True))
        world.observe(body)
        world.observe(body)
        assert world.changed == number + 1
    world.observe(_body(generation=4), deleted=True)
    assert world.changed == 5


# Undo


def _undo(run: str = "run-1", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of _body
    return _body(annotations={UNDO_ANNOTATION: run}, **more)


async def test_the_annotation_undoes_a_run_once_and_status_and_an_event_say_what_came_of_it(world: _World) -> None:
    world.observe(_undo(status=_planned()))
    await world.idle()
    world.observe(_undo())
    await world.idle()
    assert world.undone == ["run-1"]
    status = world.statuses["builds"]
    assert (status["lastHandledUndo"], status["lastUndo"]["run"], status["lastUndo"]["restored"]) == (
        "run-1",
        "run-1",
        1,
    )
    assert world.events == ["RunUndone"]
    assert world.triggers() == []


async def test_an_undo_that_was_handled_before_a_restart_is_not_done_again(world: _World) -> None:
    world.observe(_undo(status=_planned(lastHandledUndo="run-1")))
    await world.idle()
    assert world.undone == []


async def test_the_annotation_taken_away_and_set_again_undoes_once_more(world: _World) -> None:
    world.observe(_undo(status=_planned()))
    await world.idle()
    world.observe(_body())
    await world.idle()
    assert "lastHandledUndo" not in world.statuses["builds"]
    world.observe(_undo())
    await world.idle()
    assert world.undone == ["run-1", "run-1"]


async def test_a_suspended_policy_is_undone_too(world: _World) -> None:
    world.observe(_undo(status=_planned(), suspend=True))
    await world.idle()
    assert world.undone == ["run-1"]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (RunError(Failure("NothingToUndo", "there are no copies")), "there are no copies"),
        (ValueError("a bug"), "ValueError"),
        (Undone("run-1", [UndoOutcome("app", "v1", Digest("sha256:" + "1" * 64), Undo.MISSING)]), "1 lack blobs"),
    ],
)
async def test_an_undo_that_fails_is_told_and_not_tried_over_and_over(
    world: _World, outcome: Undone | Exception, words: str
) -> None:
    world.undo_outcome = outcome
    world.observe(_undo(status=_planned()))
    await world.idle()
    world.observe(_undo())
    await world.idle()
    assert world.undone == ["run-1"]
    assert words in world.statuses["builds"]["lastUndo"]["message"]
    assert world.events == ["UndoIncomplete"]


# While garbage is collected


_DOOR = registry_key(minimal_spec()["registry"]["url"])


async def test_no_run_is_where_garbage_is_collected_and_it_begins_once_that_is_over(world: _World) -> None:
    with world.doors.shut(_DOOR):
        world.observe(_body())
        await world.idle()
        assert world.orders == []
        assert world.doors.is_empty(_DOOR)
    await world.until(lambda: bool(world.orders))


async def test_a_collection_sees_the_runs_that_are_there(world: _World) -> None:
    gate = world.hold("builds")
    world.observe(_body())
    await world.until(lambda: bool(world.orders))
    assert not world.doors.is_empty(_DOOR)
    gate.set()
    async with asyncio.timeout(_LIMIT):
        while not world.doors.is_empty(_DOOR):
            await world.idle()


async def test_nothing_begins_before_it_is_known_what_was_left_frozen(world: _World) -> None:
    world.doors.all_shut = True
    world.observe(_body())
    await world.idle()
    assert world.orders == []
    world.doors.all_shut = False
    await world.until(lambda: bool(world.orders))


async def test_a_run_that_waits_for_its_place_while_the_door_is_shut_stays_outside() -> None:
    async with _ended(_World(concurrent_runs=1)) as world:
        first_goes_on = world.hold("first")
        world.observe(_body("first", registry={"url": "https://another.example.com"}))
        await world.until(lambda: len(world.orders) == 1)
        world.observe(_body())
        await world.idle()
        assert world.supervisor.places.waiting == 1
        with world.doors.shut(_DOOR):
            first_goes_on.set()
            await world.idle()
            assert [name for name, _ in world.orders] == ["first"]
        await world.until(lambda: len(world.orders) == 2)


async def test_a_run_that_meets_a_read_only_registry_while_garbage_is_collected_is_done_again(world: _World) -> None:
    """It is the registry that is collected, perhaps, under another name than the door has."""
    read_only = Failure("ReadOnly", "the registry is read-only", mendable=True)
    world.outcome = lambda _, order: _report(order, phase=Phase.FAILED, failures=(read_only,))
    with world.doors.collecting("another:5000", "team/Deployment registry"):
        world.observe(_body())
        await world.until(lambda: world.statuses.get("builds", {}).get("lastRun", {}).get("phase") == "Interrupted")
        assert "while garbage is collected" in world.statuses["builds"]["lastRun"]["message"]
        await world.idle()
        assert len(world.orders) == 1
    world.time += timedelta(minutes=2)
    world.observe(_body())
    await world.until(lambda: world.statuses["builds"]["lastRun"]["phase"] == "Failed")


# Copies are removed when their window is over

_UNDO_RULES = {"window": "1d", "repository": "ops/undo"}
# NOW is the noon of the 15th.
_OLD_RUN, _NEW_RUN = "20260614-100000-aaaaaa", "20260615-080000-bbbbbb"


def _undoable(*runs: str, until: str = "2026-06-15T10:00:00Z") -> dict[str, Any]:
    return {
        "run": runs[-1],
        "until": "2026-06-16T08:00:00Z",
        "oldestRun": runs[0],
        "oldestUntil": until,
        "runs": len(runs),
        "repository": "ops/undo",
    }


@pytest.mark.parametrize("spec", [{}, {"suspend": True}, {"dryRun": True}, {"undo": {"window": "0s"}}], ids=str)
async def test_copies_are_removed_when_their_window_is_over_though_nothing_runs(
    world: _World, spec: dict[str, Any]
) -> None:
    world.copies = CopiesHeld((_NEW_RUN,), "ops/undo")
    world.observe(_body(status=_planned(undo=_undoable(_OLD_RUN, _NEW_RUN)), **{"undo": _UNDO_RULES, **spec}))
    await world.idle()
    assert [known and known.repository for known in world.tended[:1]] == ["ops/undo"]
    told = world.statuses["builds"]["undo"]
    assert (told["run"], told["oldestRun"], told["runs"]) == (_NEW_RUN, _NEW_RUN, 1)
    assert world.orders == []
    if "undo" not in spec:
        assert told["until"] == told["oldestUntil"] == "2026-06-16T12:00:00Z"
        assert len(world.tended) == 1


async def test_copies_within_their_window_are_left_alone_until_it_is_over(world: _World) -> None:
    later = _undoable(_NEW_RUN, until="2026-06-16T08:00:00Z")
    world.copies = CopiesHeld((), "ops/undo")
    world.observe(_body(status=_planned(undo=later), undo=_UNDO_RULES))
    await world.idle()
    assert world.tended == []
    world.time = datetime(2026, 6, 16, 8, tzinfo=UTC)
    world.observe(_body(undo=_UNDO_RULES))  # which wakes it, as its clock would
    await world.idle()
    assert len(world.tended) == 1
    assert "undo" not in world.statuses["builds"]


async def test_copies_that_cannot_be_removed_are_told_once_and_tried_again_after_an_hour(world: _World) -> None:
    world.copies = RunError(Failure("ReadOnly", "the registry is read-only"))
    body = _body(status=_planned(undo=_undoable(_OLD_RUN)), undo=_UNDO_RULES)
    for hours in (0, 0.5, 1.1):
        world.time = NOW + timedelta(hours=hours)
        world.observe(body)
        await world.idle()
    assert len(world.tended) == 2
    assert set(world.events) == {"CopiesKept"}


async def test_an_operator_that_may_not_prune_removes_no_copies(world: _World) -> None:
    world.withheld = "planned only"
    world.observe(_body(status=_planned(undo=_undoable(_OLD_RUN)), undo=_UNDO_RULES))
    await world.idle()
    assert world.tended == []


async def test_what_a_run_copied_that_did_not_live_to_tell_is_looked_for_once(world: _World) -> None:
    killed = {
        "id": _OLD_RUN,
        "trigger": "Request",
        "phase": "Running",
        "dryRun": False,
        "startTime": "2026-06-14T10:00:00Z",
    }
    world.copies = CopiesHeld((_NEW_RUN,), "ops/undo")
    body = _body(status=_planned(lastRun=killed), undo=_UNDO_RULES, suspend=True)
    for _ in range(2):
        world.observe(body)
        await world.idle()
    assert world.tended == [None]
    assert world.statuses["builds"]["undo"]["run"] == _NEW_RUN


async def test_a_run_that_did_not_live_to_tell_may_have_pruned_anywhere_once_its_policy_is_changed(
    world: _World,
) -> None:
    killed = {
        "id": _NEW_RUN,
        "trigger": "Request",
        "phase": "Running",
        "dryRun": False,
        "startTime": "2026-06-15T08:00:00Z",
    }
    world.copies = CopiesHeld((), "ops/undo")
    before = {**_undoable(_OLD_RUN), "until": "2026-06-15T14:00:00Z", "registry": "https://old.example.com"}
    for generation, told in ((2, "https://old.example.com"), (3, "")):
        name = f"of-{generation}"
        status = {**_planned(lastRun=killed, undo=before), "observedGeneration": 2}
        world.observe(_body(name, status=status, undo=_UNDO_RULES, suspend=True, generation=generation))
        await world.idle()
        assert world.statuses[name]["undo"]["registry"] == told
    undo = world.statuses["of-3"]["undo"]
    assert (undo["run"], undo["until"]) == (_NEW_RUN, "2026-06-16T12:00:00Z")
    assert [each["registry"] for each in undo["former"]] == ["https://old.example.com"]


async def test_status_tells_until_when_what_a_run_pruned_can_be_undone(world: _World) -> None:
    world.outcome = lambda _, order: _report(order, copies=CopiesHeld((_OLD_RUN, _NEW_RUN), "ops/undo"))
    world.observe(_body(status=_planned(), undo={**_UNDO_RULES, "window": "2d"}, annotations={REQUEST_ANNOTATION: "1"}))
    await world.idle()
    assert world.statuses["builds"]["undo"] == {
        "run": _NEW_RUN,
        # Two days after the latest end that a run can have, by spec.timeout.
        "until": "2026-06-17T12:00:00Z",
        "oldestRun": _OLD_RUN,
        "oldestUntil": "2026-06-16T14:00:00Z",
        "runs": 2,
        "repository": "ops/undo",
        "registry": "https://registry.example.com",
    }


async def test_an_undo_that_a_fault_that_passes_cut_short_is_tried_again(world: _World) -> None:
    world.undo_outcome = RunError(Failure("ServerError", "the registry answers 503"))
    body = _undo(status=_planned())
    for seconds in (0, 5, 11):
        world.time = NOW + timedelta(seconds=seconds)
        world.observe(body)
        await world.idle()
    assert world.undone == ["run-1", "run-1"]
    assert "lastHandledUndo" not in world.statuses["builds"]
    assert "503" in world.statuses["builds"]["lastUndo"]["message"]
    world.undo_outcome = _PUT_BACK
    world.time = NOW + timedelta(minutes=1)
    world.observe(body)
    await world.idle()
    assert world.statuses["builds"]["lastHandledUndo"] == "run-1"
    assert world.events == ["UndoIncomplete", "RunUndone"]


async def test_an_undo_is_not_tried_again_for_ever(world: _World) -> None:
    world.undo_outcome = RunError(Failure("Unreachable", "the registry does not answer", reachable=False))
    for hours in range(20):
        world.time = NOW + timedelta(hours=hours)
        world.observe(_undo(status=_planned()))
        await world.idle()
    assert len(world.undone) == 10
    assert world.statuses["builds"]["lastHandledUndo"] == "run-1"
