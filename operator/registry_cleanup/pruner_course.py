"""A collection on OpenShift: the cluster's own image pruner is started, or found running, and waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from registry_cleanup.collector import Collection, ObstacleError
from registry_cleanup.domain.collecting import Await, Finish
from registry_cleanup.domain.collection import CollectionMode, Step
from registry_cleanup.domain.image_pruner import JobState, PrunerJob
from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.openshift.image_pruner import ImagePruner
from registry_cleanup.openshift.pruner_documents import Asker
from registry_cleanup.ports import Clock, RunError

Refusal = Callable[[ParsedPolicy], Awaitable[Failure | None]]
"""Says why a policy may start no image pruner; asked with the policy's own credential."""

_GOES_ON = "; a Job of the image pruner that was started goes on"


class PrunerCourse:
    """Leads the collections of OpenShift's registry. Nothing is frozen, so nothing has to be restored."""

    def __init__(self, pruner: ImagePruner, refusal: Refusal, clock: Clock) -> None:
        self._pruner = pruner
        self._refusal = refusal
        self._clock = clock
        # What each collection waits for, by its id; whoever comes after a crash finds it by its name.
        self._jobs: dict[str, PrunerJob] = {}

    async def prepare(self, policy: ParsedPolicy, mode: CollectionMode) -> None:
        """Raise `ObstacleError` where a collection cannot begin; nothing is changed."""
        try:
            if mode is CollectionMode.RUN:
                await self._pruner.check(lambda: self._refusal(policy))
            else:
                await self._pruner.setup()
        except RunError as error:
            raise ObstacleError(error.failure.message, error.failure.reason) from error

    async def step(self, policy: ParsedPolicy | None, collection: Collection, objection: str | None) -> Await | Finish:
        """Do what comes next; it may be done again."""
        action = await self._next(policy, collection, objection)
        if isinstance(action, Finish):
            self._jobs.pop(collection.id, None)
        return action

    async def _next(self, policy: ParsedPolicy | None, collection: Collection, objection: str | None) -> Await | Finish:
        if policy is None or objection is not None:
            return Finish(failure=f"{objection or 'its policy is gone'}{_GOES_ON}")
        late = self._clock.now() >= collection.deadline
        try:
            if collection.mode is CollectionMode.REPORT:
                return Finish(note=(await self._pruner.setup()).report)
            job = await self._job(policy, collection)
        except RunError as error:
            if error.failure.mendable or late:
                return Finish(failure=error.failure.message)
            return Await(Step.COLLECTING, f"an answer: {error.failure.message}")
        match job.state:
            case JobState.SUCCEEDED:
                return Finish(note=job.told)
            case JobState.RUNNING:
                return Finish(failure=job.overdue) if late else Await(Step.COLLECTING, f"the end: {job.told}")
            case _:
                return Finish(failure=job.told)

    async def _job(self, policy: ParsedPolicy, collection: Collection) -> PrunerJob:
        known = self._jobs.get(collection.id)
        if known is not None:
            found = await self._pruner.look(known)
        else:
            asker = Asker(f"{policy.namespace}/{policy.name}", policy.uid, collection.id)
            found = await self._pruner.start_or_find(asker, lambda: self._refusal(policy))
        # When it was made is known from the first look.
        self._jobs[collection.id] = found if known is None else replace(found, made=known.made)
        return found
