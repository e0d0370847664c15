"""The course of one garbage collection: look, decide, and do one thing, until nothing is left to do."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from registry_cleanup.collection_standing import CollectionStanding
from registry_cleanup.collection_start import World, pruner_of
from registry_cleanup.collector import Collection, Collector, Look
from registry_cleanup.domain.collecting import (
    Action,
    Answer,
    Ask,
    Await,
    EndJob,
    Finish,
    Freeze,
    Restore,
    StartJob,
    next_action,
    next_report_action,
)
from registry_cleanup.domain.collection import CollectionMode, Step
from registry_cleanup.kube.api import ConflictError, ForbiddenError, RefusedError
from registry_cleanup.kube.collecting.storage import UnfitWorkloadError
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.pruner_course import PrunerCourse
from registry_cleanup.undo_windows import UndoWindow

_log = logging.getLogger(__name__)

# Seconds between two looks.
LOOK, _LOOK_AT_PRUNER = 1.0, 5.0
# So often a read-only registry has to say so.
_ASKED = 5
# So often in a row a change may meet somebody else's; then something refuses it.
_REFUSALS = 10


class CollectionCourse:
    """Leads the collections of one policy, one at a time."""

    def __init__(
        self, world: World, collector: Collector, standing: CollectionStanding, name: str, look_seconds: float
    ) -> None:
        """Tell of collections in `standing`, and in the log by `name`."""
        self._world = world
        self._collector = collector
        self._told = standing
        self._name = name
        self._look_seconds = look_seconds
        self._restored: datetime | None = None
        self._refusals = 0

    def begin(self) -> None:
        """Take note that another collection begins."""
        self._restored = None
        self._refusals = 0

    async def go_on(self, collection: Collection, policy: ParsedPolicy | None, objection: str | None) -> float | Finish:
        """Look, decide, and do one thing."""
        if (pruner := pruner_of(self._world, collection.workload)) is not None:
            return await self._go_on_with(pruner, collection, policy, objection)
        known = await self._told.known(collection)
        decide = next_action if collection.mode is CollectionMode.RUN else next_report_action
        look = await self._collector.look(collection, policy, known, objection, self._restored)
        action = decide(look.seen)
        if isinstance(action, Ask):
            answer = await self._ask(policy) if policy is not None else Answer.UNCLEAR
            look = look.answered(answer)
            action = decide(look.seen)
        try:
            done = await self._do(action, collection, policy, look)
        except (RefusedError, ConflictError) as error:
            _log.info("it changed meanwhile", extra={"policy": self._name, "cause": str(error)})
            if isinstance(action, Restore) or (
                isinstance(action, (Freeze, StartJob)) and isinstance(error, RefusedError)
            ):
                await self._refused(action, collection, str(error))
        except UnfitWorkloadError as error:
            await self._told.fail(collection, str(error), frozen=not isinstance(action, Freeze))
        except ForbiddenError as error:
            if isinstance(action, (Freeze, StartJob)):
                await self._told.fail(collection, str(error), frozen=isinstance(action, StartJob))
            else:
                raise
        else:
            self._refusals = 0
            return done
        return self._look_seconds

    async def _start_job(self, collection: Collection, policy: ParsedPolicy, body: dict[str, Any]) -> None:
        """Create the Job, unless what was pruned since the collection began can be undone.

        The registry is frozen, so nobody prunes there any more; before, somebody may have under another name of it.
        """
        if collection.mode is CollectionMode.RUN:
            window = await self._world.undo_window_since(policy, collection.start)
            if window is not None:
                await self._told.fail(collection, _pruned_meanwhile(window))
                return
        order, standing = None, self._told.policy
        if policy.collection.prunes_storage and collection.mode is CollectionMode.RUN and standing is not None:
            order = await self._world.storage_order(policy, standing.status)
            await self._told.ordered(collection, order)
        try:
            await self._collector.start_job(policy, collection, body, order)
        except (ForbiddenError, UnfitWorkloadError) as error:
            await self._told.not_ordered(str(error))
            raise
        _log.info("the Job is created", extra={"policy": self._name, "collection": collection.id})
        await self._told.show(collection, Step.COLLECTING, "the Job")

    async def _ask(self, policy: ParsedPolicy) -> Answer:
        """Ask the registry; several times where it is read-only, since another may serve the same name, too."""
        answer = Answer.READ_ONLY
        for _ in range(_ASKED):
            if answer is Answer.READ_ONLY:
                answer = await self._collector.ask(policy)
        return answer

    async def _refused(self, action: Action, collection: Collection, cause: str) -> None:
        """Tell what keeps a collection from going on, once it is clear that it does not pass by itself."""
        self._refusals += 1
        if self._refusals < _REFUSALS:
            return
        if isinstance(action, Restore):
            hand = f"{collection.workload} cannot be restored and stays frozen, until what refuses it lets it: {cause}"
            await self._told.show(collection, Step.RESTORING, hand)
            self._told.tell("RestoreRefused", hand, warning=True)
            return
        self._refusals = 0  # of its restoration there were none yet
        await self._told.fail(collection, cause, frozen=isinstance(action, StartJob))

    async def _go_on_with(
        self, pruner: PrunerCourse, collection: Collection, policy: ParsedPolicy | None, objection: str | None
    ) -> float | Finish:
        """Let the image pruner go on."""
        match await pruner.step(policy, collection, objection):
            case Await(step, what):
                await self._told.show(collection, step, f"waits for {what}", frozen=False)
                return _LOOK_AT_PRUNER
            case Finish() as end:
                return end

    async def _do(
        self, action: Action, collection: Collection, policy: ParsedPolicy | None, look: Look
    ) -> float | Finish:
        extra = {"policy": self._name, "collection": collection.id}
        marked = look.seen.workload is not None and look.seen.workload.mark is not None
        match action:
            case Freeze() if policy is not None and look.body is not None:
                await self._collector.freeze(policy, collection, look.body)
                _log.info("the registry is frozen", extra={**extra, "workload": str(collection.workload)})
                self._told.tell(
                    "RegistryFrozen", f"{collection.workload}: {policy.collection.strategy.value}, for a collection"
                )
                await self._told.show(collection, Step.FREEZING, "the registry is being frozen")
            case StartJob() if policy is not None and look.body is not None:
                await self._start_job(collection, policy, look.body)
            case EndJob(cause):
                if cause is not None:
                    # There was one, whatever status has heard of it: what it took away the registry may remember.
                    ends = f"ends, since {cause}"
                    await self._told.show(collection, Step.COLLECTING, ends, failure=cause, frozen=marked)
                await self._collector.end_job(collection)
                _log.info("the Job is deleted", extra={**extra, "cause": cause})
            case Restore(measures, failure, restart):
                if self._refusals < _REFUSALS:
                    what = "the registry is being restored"
                    pruned = look.seen.job.pruned if look.seen.job is not None else None
                    await self._told.show(
                        collection, Step.RESTORING, what, measures=measures, failure=failure, pruned=pruned
                    )
                await self._collector.restore(collection, look, restart=restart)
                self._restored = self._world.clock.now()
                _log.info("the registry is restored", extra={**extra, "workload": str(collection.workload)})
                self._told.tell("RegistryRestored", f"{collection.workload} has its mode and scale back")
                await self._told.show(collection, Step.VERIFYING, "the registry is not up yet")
            case Await(step, what):
                if step is Step.VERIFYING and self._restored is None:
                    self._restored = self._world.clock.now()
                verifies = step is Step.VERIFYING
                message = what if verifies else f"waits for {what}"
                # Until its pods are those that take changes again, it is kept from changing, whatever its spec says.
                frozen = marked or (verifies and self._told.status.frozen_since is not None)
                await self._told.show(collection, step, message, frozen=frozen)
            case Finish():
                return action
            case _:
                raise AssertionError(f"{action} without a policy or a workload")
        return self._look_seconds


def _pruned_meanwhile(window: UndoWindow) -> str:
    return (
        f"policy {window.policy} has begun to prune at this registry under another name, or nobody can tell that it is "
        "another registry: what it pruned can be undone still. Let both policies write the same spec.registry.url"
    )
