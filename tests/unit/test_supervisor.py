"""What wakes the policies: approvals, and the conflicts that one policy's run tells another of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import pytest

from registry_cleanup.application import Application
from registry_cleanup.domain.run import Conflict, Counts, Failure, Phase, PlanSummary, RunOrder, RunReport, Trigger
from registry_cleanup.kube.api import ForbiddenError
from registry_cleanup.kube.spec import APPROVE_ANNOTATION, REQUEST_ANNOTATION, ParsedPolicy
from registry_cleanup.ports import RunError
from registry_cleanup.settings import Settings
from registry_cleanup.supervisor import Supervisor
from tests.support.builders import NOW, minimal_spec

_LIMIT = 10.0
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

    def __post_init__(self) -> None:
        self.settings = Settings(stop_seconds=5)
        self.clock = self
        self.api = self
        self._changed = asyncio.Condition()
        self.supervisor = Supervisor(
            cast(Application, self), lambda _body, _warning, reason, _message: self.events.append(reason)
        )

    def now(self) -> datetime:
        return NOW

    async def run(self, policy: ParsedPolicy, order: RunOrder, _halt: Callable[[], str | None]) -> RunReport:
        self.orders.append((policy.name, order))
        await self._notify()
        if (gate := self.gates.get(policy.name)) is not None:
            await gate.wait()
        return self.outcome(policy.name, order)

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
        await world.supervisor.stop()


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


async def test_an_approval_that_is_withdrawn_while_it_waits_for_its_turn_starts_nothing(world: _World) -> None:
    first_goes_on = world.hold("first")
    world.observe(_body("first"))  # at the same registry, where runs follow each other
    await world.until(lambda: len(world.orders) == 1)
    world.observe(_approved(status=_planned()))
    await world.idle()
    world.observe(_body())
    first_goes_on.set()
    await world.idle()
    assert world.triggers() == []


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
