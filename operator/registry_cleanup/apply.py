"""Pruning what the guards let through: repository by repository, several at a time, until something says stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from registry_cleanup.concurrency import for_each
from registry_cleanup.copying import RunCopies
from registry_cleanup.domain.deletion import Deletion, Effect, ItemOutcome, Outcome, UntaggedOutcome, UsedSince
from registry_cleanup.domain.in_use import NOTHING_IN_USE
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.published import Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.tally import Tally
from registry_cleanup.ports import InterruptedRunError, Proceed, Registry, RunError, Scan, TimedOutError, World

_IMPOSSIBLE = {
    Deletion.DISABLED: Failure(
        "DeletionDisabled",
        "the registry does not allow deletion, so nothing was pruned; for Docker Distribution set "
        "REGISTRY_STORAGE_DELETE_ENABLED=true and make sure that it is not read-only",
        mendable=True,
    ),
    Deletion.READ_ONLY: Failure(
        "ReadOnly",
        "the registry is read-only, so nothing was pruned; end its maintenance mode (for Docker Distribution "
        "storage.maintenance.readonly), then request a run",
        mendable=True,
    ),
    Deletion.FORBIDDEN: Failure("DeletionForbidden", "the ServiceAccount may not remove tags", mendable=True),
}


_GONE = frozenset({Outcome.PRUNED, Outcome.ALREADY_GONE, Outcome.MOVED})
_UNTAGGED_STAYS = Failure(
    "UntaggedNotDeleted",
    "a manifest without a name could not be deleted, though the tags that named it are gone; the log says why",
)
_UNREADABLE = Failure(
    "NoCopy",
    "what has no copy is not pruned, and manifests could not be read for their copies; the log has the registry's code",
)


@dataclass(slots=True)
class Apply:
    """The deletions of one run.

    Attributes:
        tally: of the run, with its guarded plan.
        registry: open.
        world: what else a run needs.
        published: the plan as it was published before the first deletion; what goes is taken out of it.
        scan: what is in use, and what pods that appeared since use.
        stopped: why nothing more may be deleted.
        copies: of what goes; None where none are wanted.
        asking: held while the guard is asked.
    """

    tally: Tally
    registry: Registry
    world: World
    published: Published
    scan: Scan
    stopped: InterruptedRunError | RunError | None = None
    copies: RunCopies | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Prune what the guards let through, repository by repository."""
        tally = self.tally
        if tally.guarded is None or not tally.guarded.plans or tally.support is None:
            return
        deletion = tally.support.deletion
        if not deletion.possible:
            failure = _IMPOSSIBLE[deletion]
            raise RunError(replace(failure, message=tally.support.detail or failure.message))

        async def prune(plan: RepositoryPlan) -> None:
            await self._prune_unless_stopped(plan, deletion)

        try:
            await for_each(tally.guarded.plans, prune, self.registry.parallel)
        finally:
            await self._remember()
        tally.aftermath = await self.registry.aftermath()
        if self.stopped is not None:
            raise self.stopped

    async def _remember(self) -> None:
        """Publish what is left of the plan: what went starts anew should it come back."""
        try:
            await self.world.store.save(self.published)
        except RunError as error:
            self._fail(error.failure)

    async def _prune_unless_stopped(self, plan: RepositoryPlan, deletion: Deletion) -> None:
        """Prune one repository, beside others, unless one of them stopped the run."""
        self._stop_if_late()
        if self.stopped is not None:
            self._leave_if_late(plan)
            return
        try:
            await self._prune(plan, deletion)
        except InterruptedRunError as error:
            self._stop(error)
            self._leave_if_late(plan)
        except RunError as error:
            if error.failure.stops_run or error.failure.blocks:
                self._stop(error)
            else:
                self.tally.fail_in(plan.repository)
                self._fail(replace(error.failure, repository=plan.repository))

    def _stop(self, error: InterruptedRunError | RunError) -> None:
        """Let nothing more be deleted; the first reason is told."""
        if self.stopped is None:
            self.stopped = error

    def _leave_if_late(self, plan: RepositoryPlan) -> None:
        if isinstance(self.stopped, TimedOutError):
            self.tally.leave(plan.repository)

    def _stop_if_late(self) -> None:
        """Let nothing more be deleted once the time of the run is over."""
        deadline = self.tally.order.deadline
        if deadline is not None and self.world.clock.now() >= deadline:
            self._stop(TimedOutError("the time of the run is over"))

    async def _prune(self, plan: RepositoryPlan, deletion: Deletion) -> None:
        without_effect: Failure | None = None

        used = UsedSince(plan, NOTHING_IN_USE)

        async def proceed(digest: Digest, tags: Collection[str]) -> bool:
            nonlocal used
            # Here, not between two outcomes: all tags of one digest have the same end, and are counted.
            if without_effect is not None:
                raise RunError(without_effect)
            self._stop_if_late()
            if isinstance(self.stopped, TimedOutError):
                raise TimedOutError(str(self.stopped))
            if self.stopped is not None:
                raise InterruptedRunError("another repository's failure stopped the run")
            # One at a time: of several that find its last look too old, only the first looks.
            async with self.asking:
                await self.world.guard.proceed()
            # Last, so that as little as possible comes between this and the deletion.
            now = await self.scan.since()
            self.world.guard.unless_halted()  # which may have waited for a watch to be mended
            if now is not used.in_use and now != used.in_use:
                used = UsedSince(plan, now)
            # What refers to a manifest is found only as that goes: no plan said that it is in use.
            return digest not in self.scan.in_use.digests and not used.saves(digest, tags)

        outcomes: list[ItemOutcome | UntaggedOutcome] = []
        effect = Effect(plan.unit)
        try:
            async with aclosing(self._outcomes(plan, deletion, proceed)) as ends:
                async for outcome in ends:
                    outcomes.append(outcome)
                    self._note(plan.repository, outcome)
                    if effect.lacks(outcome):
                        without_effect = _without_effect(outcome)
        finally:
            self.tally.report.outcomes(plan.repository, outcomes)
            self._settle(plan.repository, [item for item in outcomes if isinstance(item, ItemOutcome)])
        if without_effect is not None:
            raise RunError(without_effect)
        self._expect_all_done(outcomes)

    def _expect_all_done(self, outcomes: Sequence[ItemOutcome | UntaggedOutcome]) -> None:
        """Raise for what was left of a repository that nothing else tells of."""
        if any(isinstance(item, UntaggedOutcome) and item.outcome is Outcome.FAILED for item in outcomes):
            raise RunError(_UNTAGGED_STAYS)
        if any(item.outcome is Outcome.NO_COPY for item in outcomes):
            raise RunError((self.copies.failure if self.copies is not None else None) or _UNREADABLE)

    def _outcomes(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed
    ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        keep = None if self.copies is None else self.copies.keep
        return self.registry.prune(plan, deletion, proceed, keep)

    def _settle(self, repository: str, outcomes: Sequence[ItemOutcome]) -> None:
        if outcomes:
            self.tally.advance_in(repository)
            tried = [(item.tag, item.digest) for item in outcomes]
            gone = [(item.tag, item.digest) for item in outcomes if item.outcome in _GONE]
            self.published = self.published.settled(repository, gone, tried)

    def _note(self, repository: str, outcome: ItemOutcome | UntaggedOutcome) -> None:
        self.tally.outcome(outcome)
        if isinstance(outcome, ItemOutcome):
            self.world.audit.outcome(repository, outcome)
            if self.copies is not None:
                self.copies.note(repository, outcome)
        else:
            self.world.audit.untagged(repository, outcome)

    def _fail(self, failure: Failure) -> None:
        self.tally.failures.append(failure)
        self.world.audit.failure(failure)


def _without_effect(outcome: ItemOutcome | UntaggedOutcome) -> Failure:
    what = f"tag {outcome.tag!r}" if isinstance(outcome, ItemOutcome) else f"manifest {outcome.digest}"
    return Failure(
        "DeletionWithoutEffect",
        f"the registry accepted the deletion of {what} and still serves it; nothing more is deleted in this repository",
    )
