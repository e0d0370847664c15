"""How a collection goes with OpenShift's image pruner: what it waits for, what ends it, and what is asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from registry_cleanup.collector import Collection, ObstacleError
from registry_cleanup.domain.collecting import Await, Finish
from registry_cleanup.domain.collection import IMAGE_PRUNER, CollectionMode, Step
from registry_cleanup.domain.image_pruner import JobState, PrunerJob, PrunerSetup
from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.openshift.image_pruner import ImagePruner
from registry_cleanup.openshift.pruner_documents import Asker
from registry_cleanup.ports import RunError
from registry_cleanup.pruner_course import PrunerCourse
from tests.support.builders import minimal_spec, resource
from tests.support.clients import HandClock

_NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
_JOB = PrunerJob("registry-cleanup-1", JobState.RUNNING, _NOON)
_COLLECTION = Collection("c-1", CollectionMode.RUN, "team", IMAGE_PRUNER, "", _NOON, timedelta(hours=1))
_SETUP = PrunerSetup("0 0 * * *", suspended=False)
_PASSES = Failure("ImagePrunerUnavailable", "no answer")
_MENDABLE = Failure("ImagePrunerSuspended", "it is suspended", mendable=True)
_Refusal = Callable[[], Awaitable[Failure | None]]


@dataclass
class _Pruner(ImagePruner):
    """Tells what a test wants.

    Attributes:
        job: as it is.
        failures: what goes wrong, one after the other.
        refused: what the policy was told when it was asked.
        calls: what was asked for.
    """

    job: PrunerJob = _JOB
    failures: list[Failure] = field(default_factory=list)
    refused: list[Failure | None] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.failures:
            raise RunError(self.failures.pop(0))

    @override
    async def setup(self) -> PrunerSetup:
        self._answer("setup")
        return _SETUP

    @override
    async def check(self, refusal: _Refusal) -> None:
        self._answer("check")
        self.refused.append(await refusal())

    @override
    async def start_or_find(self, asker: Asker, refusal: _Refusal) -> PrunerJob:
        self._answer(f"start {asker.policy} {asker.uid} {asker.collection}")
        return self.job

    @override
    async def look(self, job: PrunerJob) -> PrunerJob:
        self._answer(f"look {job.name}")
        return replace(self.job, name=job.name)


def _policy() -> ParsedPolicy:
    return parse_policy(resource(minimal_spec()))


async def _refuse(_policy: ParsedPolicy) -> Failure | None:
    return _MENDABLE


def _course(pruner: _Pruner, clock: HandClock | None = None) -> PrunerCourse:
    return PrunerCourse(pruner, _refuse, clock or HandClock(_NOON))


async def test_a_job_is_started_once_and_then_looked_at_until_its_end() -> None:
    pruner, policy = _Pruner(), _policy()
    course = _course(pruner)
    for _ in range(3):
        assert await course.step(policy, _COLLECTION, None) == Await(Step.COLLECTING, f"the end: {_JOB.told}")
    pruner.job = replace(_JOB, state=JobState.SUCCEEDED)
    assert await course.step(policy, _COLLECTION, None) == Finish(note=pruner.job.told)
    start = f"start {policy.namespace}/{policy.name} {policy.uid} c-1"
    assert pruner.calls == [start, *["look registry-cleanup-1"] * 3]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.GONE])
async def test_a_job_that_did_not_succeed_fails_the_collection(state: JobState) -> None:
    job = replace(_JOB, state=state)
    assert await _course(_Pruner(job)).step(_policy(), _COLLECTION, None) == Finish(failure=job.told)


async def test_what_may_pass_is_waited_for_and_asked_again() -> None:
    pruner = _Pruner(failures=[_PASSES, _PASSES])
    course = _course(pruner)
    for _ in range(2):
        assert await course.step(_policy(), _COLLECTION, None) == Await(Step.COLLECTING, "an answer: no answer")
    assert isinstance(await course.step(_policy(), _COLLECTION, None), Await)
    assert {call.split()[0] for call in pruner.calls} == {"start"}


async def test_what_a_person_has_to_mend_fails_the_collection() -> None:
    course = _course(_Pruner(failures=[_MENDABLE]))
    assert await course.step(_policy(), _COLLECTION, None) == Finish(failure="it is suspended")


async def test_after_the_time_for_it_nobody_waits_any_longer_and_nothing_is_ended() -> None:
    clock = HandClock(_NOON)
    pruner = _Pruner()
    course = _course(pruner, clock)
    await course.step(_policy(), _COLLECTION, None)
    clock.move(timedelta(hours=1))
    assert await course.step(_policy(), _COLLECTION, None) == Finish(failure=_JOB.overdue)
    assert {call.split()[0] for call in pruner.calls} == {"start", "look"}


async def test_without_an_answer_until_the_time_is_over_the_collection_fails() -> None:
    course = _course(_Pruner(failures=[_PASSES]), HandClock(_NOON + timedelta(hours=2)))
    assert await course.step(_policy(), _COLLECTION, None) == Finish(failure="no answer")


@pytest.mark.parametrize("objection", ["the policy was suspended", None])
async def test_a_collection_that_is_not_wanted_any_more_ends_and_asks_for_nothing(objection: str | None) -> None:
    pruner = _Pruner()
    policy = _policy() if objection is not None else None
    end = await _course(pruner).step(policy, _COLLECTION, objection)
    assert isinstance(end, Finish)
    assert end.failure is not None
    assert end.failure.endswith("a Job of the image pruner that was started goes on")
    assert pruner.calls == []


async def test_a_report_only_reads_how_the_pruner_is_set_up() -> None:
    pruner = _Pruner()
    collection = replace(_COLLECTION, mode=CollectionMode.REPORT)
    assert await _course(pruner).step(_policy(), collection, None) == Finish(note=_SETUP.report)
    await _course(pruner).prepare(_policy(), CollectionMode.REPORT)
    assert pruner.calls == ["setup", "setup"]


async def test_what_speaks_against_a_collection_keeps_it_from_beginning_with_its_reason() -> None:
    pruner = _Pruner(failures=[_MENDABLE])
    with pytest.raises(ObstacleError, match="it is suspended") as raised:
        await _course(pruner).prepare(_policy(), CollectionMode.RUN)
    assert raised.value.reason == "ImagePrunerSuspended"


async def test_whether_the_policy_may_start_one_is_asked_before_it_begins() -> None:
    pruner = _Pruner()
    await _course(pruner).prepare(_policy(), CollectionMode.RUN)
    assert pruner.refused == [_MENDABLE]
