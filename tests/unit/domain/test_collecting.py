"""What a garbage collection does next, whatever is seen: the registry is restored in the end, and never too early."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.collecting import (
    Answer,
    Ask,
    Await,
    EndJob,
    Finish,
    Freeze,
    Job,
    Known,
    Restore,
    Seen,
    StartJob,
    Workload,
    next_action,
    next_report_action,
)
from registry_cleanup.domain.collection import Mark, Measures, Step, StoragePruned, Strategy, WorkloadName
from tests.support.builders import NOW

_NAME = WorkloadName("Deployment", "registry")
_MEASURES = Measures(1000, 10, 400, 6)
_TIMEOUT = timedelta(hours=1)


def _mark(strategy: Strategy = Strategy.READ_ONLY) -> Mark:
    return Mark("uid", "policy", "c1", "r:5000", strategy, 1, "registry", None, NOW, _TIMEOUT)


_UP = Workload(_NAME, None, frozen=False, replicas=1, rolled_out=True, pods=1, old_pods=0)
_READ_ONLY = replace(_UP, mark=_mark(), frozen=True)
_OFFLINE = replace(_UP, mark=_mark(Strategy.OFFLINE), frozen=True, replicas=0, pods=0)
_RUNNING = Job(ended=False, active=1)
_SUCCEEDED = Job(ended=True, active=0, measures=_MEASURES)
_FAILED = Job(ended=True, active=0, failure="its container collect failed")
_FREEZING = Known("c1", Step.FREEZING, NOW, frozen=False)
_FROZEN = replace(_FREEZING, frozen=True)
_COLLECTING = replace(_FROZEN, step=Step.COLLECTING)
_RESTORING = replace(_FROZEN, step=Step.RESTORING, measures=_MEASURES)
_VERIFYING = replace(_RESTORING, step=Step.VERIFYING)


def _seen(
    workload: Workload | None,
    known: Known | None = _FROZEN,
    job: Job | None = None,
    answer: Answer | None = None,
    *,
    objection: str | None = None,
    after: timedelta = timedelta(minutes=1),
    restored: timedelta | None = None,
) -> Seen:
    pods = job.active if job is not None else 0
    now = NOW + after
    since = None if restored is None else now - restored
    return Seen(known, objection, workload, job, pods, answer, now, NOW + _TIMEOUT, since)


def test_it_goes_from_step_to_step() -> None:
    assert next_action(_seen(_UP, _FREEZING)) == Freeze()
    assert isinstance(next_action(_seen(replace(_READ_ONLY, old_pods=1))), Await)
    assert isinstance(next_action(_seen(replace(_READ_ONLY, rolled_out=False))), Await)
    assert next_action(_seen(_READ_ONLY)) == Ask()
    assert next_action(_seen(_READ_ONLY, answer=Answer.READ_ONLY)) == StartJob()
    assert next_action(_seen(_READ_ONLY, _COLLECTING, _RUNNING)) == Await(Step.COLLECTING, "the Job")
    assert next_action(_seen(_READ_ONLY, _COLLECTING, _SUCCEEDED)) == Restore(_MEASURES)
    assert isinstance(next_action(_seen(replace(_UP, old_pods=1), _VERIFYING)), Await)
    assert next_action(_seen(_UP, _VERIFYING)) == Ask()
    assert next_action(_seen(_UP, _VERIFYING, answer=Answer.WRITABLE)) == Finish(_MEASURES)


def test_an_offline_registry_is_collected_once_no_pod_is_left() -> None:
    assert isinstance(next_action(_seen(replace(_OFFLINE, pods=1))), Await)
    assert next_action(_seen(_OFFLINE)) == Ask()
    assert next_action(_seen(_OFFLINE, answer=Answer.SILENT)) == StartJob()


@pytest.mark.parametrize("answer", [Answer.SILENT, Answer.UNCLEAR])
def test_nothing_is_collected_before_the_registry_has_refused_a_change(answer: Answer) -> None:
    assert isinstance(next_action(_seen(_READ_ONLY, answer=answer)), Await)


@pytest.mark.parametrize(
    ("workload", "answer"),
    [(_READ_ONLY, Answer.WRITABLE), (_OFFLINE, Answer.WRITABLE), (_OFFLINE, Answer.READ_ONLY)],
)
def test_a_registry_that_another_workload_serves_is_never_collected(workload: Workload, answer: Answer) -> None:
    action = next_action(_seen(workload, answer=answer))
    assert isinstance(action, Restore)
    assert "another workload serves it" in str(action.failure)


def test_a_job_that_failed_is_told_and_the_registry_restored() -> None:
    assert next_action(_seen(_READ_ONLY, _COLLECTING, _FAILED)) == Restore(failure=_FAILED.failure)


def test_a_job_that_waits_in_vain_is_ended_at_once() -> None:
    stuck = Job(ended=False, active=1, failure="ImagePullBackOff")
    assert next_action(_seen(_READ_ONLY, _COLLECTING, stuck)) == EndJob("ImagePullBackOff")


def test_a_job_that_somebody_deleted_has_failed() -> None:
    action = next_action(_seen(_READ_ONLY, _COLLECTING))
    assert action == Restore(failure="somebody deleted its Job")


def test_a_job_whose_end_was_seen_may_be_gone_by_now() -> None:
    assert next_action(_seen(_READ_ONLY, _RESTORING)) == Restore(_MEASURES)


def test_a_registry_that_is_not_frozen_in_time_is_restored_and_what_kept_it_is_told() -> None:
    stuck = replace(_READ_ONLY, rolled_out=False, trouble="pod registry-2: ImagePullBackOff")
    action = next_action(_seen(stuck, after=_TIMEOUT))
    assert isinstance(action, Restore)
    assert "within spec.garbageCollection.timeout" in str(action.failure)
    assert "registry-2: ImagePullBackOff" in str(action.failure)


def test_a_job_over_its_time_is_ended_before_the_registry_is_restored() -> None:
    late = _TIMEOUT
    assert isinstance(next_action(_seen(_READ_ONLY, _COLLECTING, _RUNNING, after=late)), EndJob)
    ending = replace(_RUNNING, ending=True)
    assert isinstance(next_action(_seen(_READ_ONLY, _COLLECTING, ending, after=late)), Await)
    assert isinstance(next_action(_seen(_READ_ONLY, _COLLECTING, after=late)), Restore)


@pytest.mark.parametrize(("workload", "word"), [(_READ_ONLY, "read-only"), (_OFFLINE, "scaled")])
def test_a_registry_that_somebody_made_writable_ends_the_job_at_once_and_is_restarted(
    workload: Workload, word: str
) -> None:
    thawed = replace(workload, frozen=False)
    action = next_action(_seen(thawed, _COLLECTING, _RUNNING))
    assert isinstance(action, EndJob)
    assert word in str(action.cause)
    after = next_action(_seen(thawed, replace(_COLLECTING, failure=action.cause), replace(_FAILED, failure="x")))
    assert after == Restore(failure=action.cause, restart=True)


def test_a_workload_that_was_put_back_with_its_mark_ends_the_job_too() -> None:
    assert isinstance(next_action(_seen(_UP, _COLLECTING, _RUNNING)), EndJob)
    action = next_action(_seen(_UP, _COLLECTING))
    assert isinstance(action, Restore)
    assert action.restart


def test_a_job_that_comes_about_after_the_restoration_is_ended_and_the_registry_restarted() -> None:
    """Nobody heard of its creation in time, and what it took away the registry still remembers."""
    failed = replace(_VERIFYING, measures=None, failure="the policy was suspended")
    assert next_action(_seen(_UP, failed, _RUNNING)) == EndJob(failed.failure)
    collecting = replace(failed, step=Step.COLLECTING)
    assert isinstance(next_action(_seen(_UP, collecting, replace(_RUNNING, ending=True))), Await)
    assert next_action(_seen(_UP, collecting)) == Restore(failure=failed.failure, restart=True)
    assert next_action(_seen(_UP, None, _RUNNING, objection="the policy was deleted")) == EndJob(None)


def test_a_registry_that_was_thawed_before_status_told_of_its_job_is_restarted() -> None:
    thawed = replace(_READ_ONLY, frozen=False)
    action = next_action(_seen(thawed, _FROZEN, _FAILED))
    assert isinstance(action, Restore)
    assert action.restart


@pytest.mark.parametrize("objection", ["the policy was deleted", "the policy was suspended"])
def test_what_is_not_wanted_any_more_ends_at_every_step(objection: str) -> None:
    assert next_action(_seen(_UP, _FREEZING, objection=objection)) == Finish(failure=objection)
    assert next_action(_seen(_READ_ONLY, objection=objection)) == Restore(failure=objection)
    assert next_action(_seen(_READ_ONLY, _COLLECTING, _RUNNING, objection=objection)) == EndJob(objection)


def test_what_was_collected_before_the_policy_was_suspended_counts() -> None:
    assert next_action(_seen(_UP, _VERIFYING, objection="the policy was suspended")) == Ask()
    answered = _seen(_UP, _VERIFYING, answer=Answer.UNCLEAR, objection="the policy was suspended")
    assert next_action(answered) == Finish(_MEASURES)


def test_a_policy_that_is_gone_leaves_a_restored_registry() -> None:
    gone = "the policy was deleted"
    assert next_action(_seen(_READ_ONLY, None, _RUNNING, objection=gone)) == EndJob(gone)
    assert next_action(_seen(_READ_ONLY, None, objection=gone)) == Restore(failure=gone)
    rolling = replace(_UP, rolled_out=False)
    assert isinstance(next_action(_seen(rolling, None, objection=gone, restored=timedelta(seconds=1))), Await)
    assert next_action(_seen(_UP, None, objection=gone, restored=timedelta(seconds=1))) == Finish()


def test_a_workload_that_was_deleted_has_nothing_to_restore() -> None:
    assert isinstance(next_action(_seen(None, _COLLECTING, _RUNNING)), EndJob)
    assert next_action(_seen(None, _COLLECTING)) == Finish(failure="the workload was deleted")


def test_a_restored_registry_that_does_not_come_up_is_told_after_a_while() -> None:
    down = replace(_UP, rolled_out=False, trouble="pod registry-2: CrashLoopBackOff")
    assert isinstance(next_action(_seen(down, _VERIFYING, restored=timedelta(minutes=9))), Await)
    action = next_action(_seen(down, _VERIFYING, restored=timedelta(minutes=10)))
    assert isinstance(action, Finish)
    assert "CrashLoopBackOff" in str(action.failure)


def test_a_registry_that_stays_read_only_after_its_restoration_is_told() -> None:
    seen = _seen(_UP, _VERIFYING, answer=Answer.READ_ONLY, restored=timedelta(minutes=10))
    action = next_action(seen)
    assert isinstance(action, Finish)
    assert "it is read-only" in str(action.failure)


def test_a_report_touches_nothing() -> None:
    begun = replace(_FREEZING, step=Step.FREEZING)
    assert next_report_action(_seen(_UP, begun)) == StartJob()
    assert isinstance(next_report_action(_seen(_UP, _COLLECTING, _RUNNING)), Await)
    assert next_report_action(_seen(_UP, _COLLECTING, _SUCCEEDED)) == Finish(_MEASURES)
    assert next_report_action(_seen(_UP, _COLLECTING, _FAILED)) == Finish(failure=_FAILED.failure)
    assert next_report_action(_seen(_UP, _COLLECTING)) == Finish(failure="somebody deleted its Job")
    assert isinstance(next_report_action(_seen(_UP, _COLLECTING, _RUNNING, after=_TIMEOUT)), EndJob)
    assert isinstance(next_report_action(_seen(_UP, _COLLECTING, _RUNNING, objection="suspended")), EndJob)


def test_a_report_whose_job_is_refused_ends_with_the_cause() -> None:
    """A quota, say: asked again each second, it would refuse it until the time is over, and nobody be told why."""
    refused = replace(_FREEZING, failure="exceeded quota")
    assert next_report_action(_seen(_UP, refused)) == Finish(failure="exceeded quota")
    assert next_report_action(_seen(_UP, refused, _RUNNING)) == EndJob("exceeded quota")


_workloads = st.one_of(
    st.none(),
    st.builds(
        Workload,
        st.just(_NAME),
        st.sampled_from([None, _mark(), _mark(Strategy.OFFLINE)]),
        frozen=st.booleans(),
        replicas=st.integers(0, 2),
        rolled_out=st.booleans(),
        pods=st.integers(0, 2),
        old_pods=st.integers(0, 1),
    ),
)
_jobs = st.one_of(
    st.none(),
    st.builds(
        Job,
        ended=st.booleans(),
        active=st.integers(0, 1),
        measures=st.sampled_from([None, _MEASURES]),
        failure=st.sampled_from([None, "failed"]),
        ending=st.booleans(),
    ),
)
_knowns = st.one_of(
    st.none(),
    st.builds(
        Known,
        st.just("c1"),
        st.sampled_from(Step),
        st.just(NOW),
        frozen=st.booleans(),
        measures=st.sampled_from([None, _MEASURES]),
        failure=st.sampled_from([None, "failed"]),
    ),
)
_any = st.builds(
    Seen,
    _knowns,
    st.sampled_from([None, "the policy was suspended"]),
    _workloads,
    _jobs,
    st.integers(0, 1),
    st.sampled_from([None, *Answer]),
    st.just(NOW) | st.just(NOW + 2 * _TIMEOUT),
    st.just(NOW + _TIMEOUT),
    st.sampled_from([None, NOW]),
)


@given(_any)
def test_nothing_is_restored_while_content_may_go_away(seen: Seen) -> None:
    if isinstance(next_action(seen), Restore):
        assert not seen.job_pods
        assert seen.job is None or seen.job.ended


@given(_any)
def test_nothing_is_collected_from_what_is_not_frozen(seen: Seen) -> None:
    if isinstance(next_action(seen), StartJob):
        assert seen.workload is not None
        assert seen.workload.frozen
        assert seen.objection is None
        assert seen.now < seen.deadline
        expected = {Strategy.READ_ONLY: [Answer.READ_ONLY], Strategy.OFFLINE: [Answer.SILENT, Answer.UNCLEAR]}
        assert seen.workload.mark is not None
        assert seen.answer in expected[seen.workload.mark.strategy]


@given(_any)
def test_nothing_ends_with_a_mark_left(seen: Seen) -> None:
    if isinstance(next_action(seen), Finish):
        assert seen.workload is None or seen.workload.mark is None


def test_what_was_collected_counts_and_what_kept_the_storage_from_being_pruned_is_told() -> None:
    measures = replace(_MEASURES, pruned=StoragePruned(failure="the volume is full"))
    done = next_action(_seen(_READ_ONLY, _COLLECTING, replace(_SUCCEEDED, measures=measures)))
    assert done == Restore(measures, "pruning in the storage failed: the volume is full")
    pruned = replace(_MEASURES, pruned=StoragePruned("run", 3, 3, 0))
    assert next_action(_seen(_READ_ONLY, _COLLECTING, replace(_SUCCEEDED, measures=pruned))) == Restore(pruned)


@given(_any)
def test_nothing_ends_or_begins_anew_beside_a_job_that_nobody_ends(seen: Seen) -> None:
    if isinstance(next_action(seen), Finish | Freeze):
        assert seen.job is None or seen.job.ended or seen.job.ending
