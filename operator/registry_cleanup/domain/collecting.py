"""What a garbage collection does next, decided from what is to be seen now and from nothing else.

Freezing → Collecting → Restoring → Verifying. Nobody remembers where a collection is: that follows from the workload,
its pods, the Job and the clock, so that an operator that is killed at any step is nothing special. What was frozen
bears a mark (`Mark`) until it is restored, and whatever speaks against going on leads to the same end: no Job, the
workload restored, the registry seen to be up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias

from registry_cleanup.domain.collection import Mark, Measures, Step, StoragePruned, Strategy, WorkloadName

# After its restoration a registry has so long to come up, or nobody waits for it any more.
_UP_WITHIN = timedelta(minutes=10)


# What is seen


class Answer(Enum):
    """What the registry says to somebody who wants to change something."""

    WRITABLE = "it takes changes"
    READ_ONLY = "it is read-only"
    SILENT = "no registry answers"
    UNCLEAR = "its answer is not clear"


@dataclass(frozen=True, slots=True)
class Workload:
    """The workload that serves the registry, as it is now.

    Attributes:
        name: which it is.
        mark: what it bears while it is frozen.
        frozen: whether its spec still is what the mark's collection made of it.
        replicas: as its spec wants them.
        rolled_out: whether all replicas are of its present spec, and available.
        pods: how many there are, those that are ending included.
        old_pods: how many of them are not of its present spec in what freezing changes.
        trouble: why pods do not become ready, as far as they say.
    """

    name: WorkloadName
    mark: Mark | None
    frozen: bool
    replicas: int
    rolled_out: bool
    pods: int
    old_pods: int
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The Job of a collection.

    Attributes:
        ended: whether it does nothing any more.
        active: how many of its pods may still do something.
        measures: what it measured, where it succeeded.
        failure: why it did not, or cannot any more.
        ending: whether it is being deleted.
        pruned: what it pruned in the storage, also where it failed; None where it was not to, or nobody knows.
    """

    ended: bool
    active: int
    measures: Measures | None = None
    failure: str | None = None
    ending: bool = False
    pruned: StoragePruned | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the status of the policy says of a collection that it shows as running.

    Attributes:
        id: of the collection.
        step: where it was.
        start: when it began.
        frozen: whether the workload was frozen for it, as far as status came.
        measures: of its Job, once that has succeeded.
        failure: why it failed, once that is known.
    """

    id: str
    step: Step
    start: datetime
    frozen: bool
    measures: Measures | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """All that decides what comes next.

    Attributes:
        known: what status says of this collection; None where there is no policy any more.
        objection: why the collection is not wanted any more: its policy was deleted, suspended or changed.
        workload: None where there is none of its name.
        job: None where there is none.
        job_pods: pods of the Job that may still do something, be it there or not.
        answer: of the registry; None where nobody asked it yet.
        now: the time.
        deadline: of the collection.
        restored: since when this process has seen it restored; None while it is not.
        taken_by: the policy whose collection has frozen the workload, where that is another one.
    """

    known: Known | None
    objection: str | None
    workload: Workload | None
    job: Job | None
    job_pods: int
    answer: Answer | None
    now: datetime
    deadline: datetime
    restored: datetime | None = None
    taken_by: str | None = None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits any longer for the restored registry."""
        return self.restored is not None and self.now - self.restored >= _UP_WITHIN


# What is done


@dataclass(frozen=True, slots=True)
class Freeze:
    """Put the mark on the workload and freeze it, in one patch."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the registry whether it takes changes, and decide again."""


@dataclass(frozen=True, slots=True)
class StartJob:
    """Create the Job."""


@dataclass(frozen=True, slots=True)
class EndJob:
    """Delete the Job with its pods.

    Attributes:
        cause: that the collection fails for; None where it has come to its end.
    """

    cause: str | None


@dataclass(frozen=True, slots=True)
class Restore:
    """Give the workload back what it had, and take the mark away, in one patch.

    Attributes:
        measures: of the Job, where the collection came so far.
        failure: why it did not.
        restart: whether the registry has to be restarted besides, since it was up while content went away.
    """

    measures: Measures | None = None
    failure: str | None = None
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Await:
    """Look again in a while.

    Attributes:
        step: where the collection is.
        what: it waits for.
    """

    step: Step
    what: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do.

    Attributes:
        measures: of the Job, where the collection succeeded.
        failure: why it did not.
        note: what is told where it succeeded and nobody measured anything.
    """

    measures: Measures | None = None
    failure: str | None = None
    note: str | None = None


Action: TypeAlias = Freeze | Ask | StartJob | EndJob | Restore | Await | Finish


def next_action(seen: Seen) -> Action:
    """Say what comes next in a collection that freezes the registry."""
    workload = seen.workload
    if workload is None:
        return _without_workload(seen)
    if workload.mark is None:
        return _unmarked(seen, workload)
    if seen.known is not None and seen.known.measures is not None:
        return _safely(seen, Restore(seen.known.measures))  # it was on its way there; its Job may be gone by now
    if (failure := _failure(seen, workload, workload.mark)) is not None:
        # What was up while content went away has it in its cache still.
        began = seen.known is None or seen.known.step is not Step.FREEZING or seen.job is not None
        return _safely(seen, Restore(failure=failure, restart=began and not workload.frozen))
    if seen.job is None:
        return _freezing(seen, workload, workload.mark)
    if (measures := seen.job.measures) is not None:
        # What was collected is; that the storage could not be pruned is told besides.
        failure = measures.pruned.failure if measures.pruned is not None else None
        return _safely(seen, Restore(measures, failure and f"pruning in the storage failed: {failure}"))
    return Await(Step.COLLECTING, "the Job")


def next_report_action(seen: Seen) -> Action:
    """Say what comes next in a collection that only reports: the registry goes on as ever."""
    job = seen.job
    if job is not None and job.measures is not None:
        return Finish(job.measures)
    failure = (seen.known.failure if seen.known is not None else None) or seen.objection
    if failure is None and job is not None and job.failure is not None:
        failure = job.failure
    if failure is None and seen.now >= seen.deadline:
        failure = _LATE
    if failure is None and job is None and seen.known is not None and seen.known.step is Step.COLLECTING:
        failure = _JOB_GONE
    if failure is None:
        return StartJob() if job is None else Await(Step.COLLECTING, "the Job")
    if (job is not None and not job.ended) or seen.job_pods:
        return EndJob(failure) if job is not None and not job.ending else Await(Step.COLLECTING, "the end of the Job")
    return Finish(failure=failure)


_LATE = "it was not through within spec.garbageCollection.timeout"
_JOB_GONE = "somebody deleted its Job"
_THAWED = {
    Strategy.READ_ONLY: (
        "somebody else took the read-only mode off the workload in between (does something such as GitOps revert it?); "
        "let that leave the variable REGISTRY_STORAGE_MAINTENANCE_READONLY alone, or choose strategy Offline"
    ),
    Strategy.OFFLINE: (
        "somebody else scaled the workload up in between (does something such as GitOps revert it?); let that leave "
        "spec.replicas alone, or choose strategy ReadOnly"
    ),
}


def _failure(seen: Seen, workload: Workload, mark: Mark) -> str | None:
    """Return what ends a collection that has frozen its registry before its time, if anything does."""
    if seen.known is not None and seen.known.failure is not None:
        return seen.known.failure  # it was on its way to the restoration already
    if seen.objection is not None:
        return seen.objection
    if not workload.frozen:
        return _THAWED[mark.strategy]
    job = seen.job
    if job is not None and job.measures is not None:
        return None
    if job is not None and job.failure is not None:
        return job.failure
    if job is not None and job.ending:
        return _JOB_GONE
    if job is None and seen.known is not None and seen.known.step is Step.COLLECTING:
        return _JOB_GONE
    if seen.now >= mark.deadline:
        return f"{_LATE}: {_missing(workload)}" if job is None else _LATE
    return None


def _missing(workload: Workload) -> str:
    trouble = f" ({workload.trouble})" if workload.trouble is not None else ""
    return f"the workload was not frozen in time{trouble}"


def _safely(seen: Seen, restore: Restore) -> Action:
    """Restore, once the Job can do no harm any more: nothing must be removed from a registry that takes pushes."""
    job, why = seen.job, f", since {restore.failure}" if restore.failure is not None else ""
    if job is not None and not job.ended and not job.ending:
        return EndJob(restore.failure)
    if seen.job_pods or (job is not None and not job.ended):
        return Await(Step.COLLECTING, f"the end of the Job{why}")
    return restore


def _freezing(seen: Seen, workload: Workload, mark: Mark) -> Action:
    """Begin to collect once it is proved that nothing changes any more."""
    trouble = f" ({workload.trouble})" if workload.trouble is not None else ""
    if mark.strategy is Strategy.OFFLINE:
        if workload.pods:
            return Await(Step.FREEZING, f"the end of the registry's pods: {workload.pods} left")
        if seen.answer is None:
            return Ask()
        if seen.answer in (Answer.WRITABLE, Answer.READ_ONLY):
            return _safely(seen, Restore(failure=_other_registry(workload.name)))
        return StartJob()
    if workload.old_pods:
        return Await(Step.FREEZING, f"the rollout of the read-only mode: {workload.old_pods} old pods left{trouble}")
    if not workload.rolled_out:
        return Await(Step.FREEZING, f"the rollout of the read-only mode{trouble}")
    match seen.answer:
        case None:
            return Ask()
        case Answer.READ_ONLY:
            return StartJob()
        case Answer.WRITABLE:
            return _safely(seen, Restore(failure=_other_registry(workload.name)))
        case _:
            return Await(Step.FREEZING, f"the registry's refusal of a change; so far {seen.answer.value}")


def _other_registry(name: WorkloadName) -> str:
    return (
        f"the registry at spec.registry.url still takes changes though {name} is frozen, so another workload serves "
        "it: name that in spec.garbageCollection.workloadRef"
    )


def _unmarked(seen: Seen, workload: Workload) -> Action:
    """Decide where the workload is not frozen: not yet, or not any more."""
    known, job = seen.known, seen.job
    if job is not None and not job.ended and not job.ending:
        # Of the answer to its creation nobody heard, or somebody put the workload back.
        return EndJob(None if known is None else known.failure or _REVERTED)
    if known is None:
        # Of a policy that is gone: nobody is left to be told, and nobody's credential to ask with.
        up = workload.rolled_out and not workload.old_pods
        if up or seen.restored is None or seen.given_up:
            return Finish()
        return Await(Step.VERIFYING, "the registry is not up yet")
    restoring = known.measures is not None or known.failure is not None
    if not restoring and not known.frozen:
        if seen.objection is not None:
            return Finish(failure=seen.objection)
        if seen.now >= seen.deadline:
            return Finish(failure=_LATE)
        return Freeze()
    if restoring and known.step is Step.COLLECTING:
        return _safely(seen, Restore(known.measures, known.failure, restart=True))
    if not restoring:
        # The mark is gone with what it stood for: somebody put the whole workload back. What was up while content went
        # away has it in its cache still; before there was a Job nothing went.
        began = known.step is not Step.FREEZING or seen.job is not None
        return _safely(seen, Restore(failure=_REVERTED, restart=began))
    return _verifying(seen, workload, known)


_REVERTED = "somebody else put the workload back in between, with the mark that it was frozen"


def _verifying(seen: Seen, workload: Workload, known: Known) -> Action:
    """End once the registry is up and takes changes, as before."""
    done = Finish(known.measures, known.failure)
    if workload.replicas == 0:
        return done  # somebody wants it so
    ready = workload.rolled_out and not workload.old_pods
    if ready and seen.answer is None:
        return Ask()
    if ready and seen.answer is Answer.WRITABLE:
        return done
    trouble = f" ({workload.trouble})" if workload.trouble is not None else ""
    what = f"the registry is not up yet{trouble}"
    if ready and seen.answer is not None:
        what = f"the registry's pods are ready, and {seen.answer.value}"
    if seen.objection is not None and ready:
        return done  # its credential may be gone, too
    if seen.given_up:
        before = f"{known.failure}; and then " if known.failure is not None else ""
        return Finish(failure=f"{before}the workload was restored, but after 10 minutes {what}")
    return Await(Step.VERIFYING, what)


def _without_workload(seen: Seen) -> Action:
    """End where somebody deleted the workload, or another collection has it."""
    why = "the workload was deleted"
    if seen.taken_by is not None:
        why = f"a collection of policy {seen.taken_by} has frozen the workload in between"
    if seen.job is not None and not seen.job.ended and not seen.job.ending:
        return EndJob(why)
    if seen.job_pods:
        return Await(Step.COLLECTING, f"the end of the Job, since {why}")
    failure = seen.known.failure if seen.known is not None else None
    return Finish(failure=failure or why)
