"""One run: gather → plan → apply → report. Sees ports, never clients."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from itertools import islice

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, Outcome
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash, plan_repository
from registry_cleanup.domain.policy import Policy, TagPattern
from registry_cleanup.domain.rules import idle_globs, needs, tag_patterns
from registry_cleanup.domain.run import (
    Aftermath,
    Counts,
    Failure,
    PlannedItem,
    PlanSummary,
    RunOrder,
    RunReport,
    clock_skewed,
    message_of,
    phase_of,
)
from registry_cleanup.ports import Audit, Clock, Guard, InterruptedRunError, Registry, RunError

_SAMPLE = 10
_NOT_GONE = frozenset({Outcome.FAILED, Outcome.NOT_DELETED})

_SKEWED = Failure(
    "ClockSkew",
    "the clocks of the operator, the API server and the registry differ by more than 5 minutes, so no age can be "
    "trusted; nothing was pruned: synchronise them",
    blocks=True,
)
_IMPOSSIBLE = {
    Deletion.DISABLED: Failure(
        "DeletionDisabled",
        "the registry does not allow deletion, so nothing was pruned; for Docker Distribution set "
        "REGISTRY_STORAGE_DELETE_ENABLED=true and make sure that it is not read-only",
        mendable=True,
    ),
    Deletion.FORBIDDEN: Failure("DeletionForbidden", "the ServiceAccount may not remove tags", mendable=True),
}


@dataclass(slots=True)
class _Progress:
    """What a run has come to so far."""

    scanned: int = 0
    failed: int = 0
    tags: int = 0
    matched: int = 0
    planned: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    plans: list[RepositoryPlan] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sample: list[PlannedItem] = field(default_factory=list)
    idle: dict[str, TagPattern] = field(default_factory=dict)
    idle_globs: list[str] = field(default_factory=list)
    summary: PlanSummary | None = None
    support: DeletionSupport | None = None
    aftermath: Aftermath | None = None
    stopped: InterruptedRunError | RunError | None = None
    interrupted: str | None = None

    def stop(self, error: InterruptedRunError | RunError) -> None:
        """Let nothing more be deleted; the first reason is told."""
        if self.stopped is None:
            self.stopped = error

    def counts(self, *, plan_only: bool) -> Counts:
        pruned = self.outcomes[Outcome.PRUNED]
        failed = sum(self.outcomes[outcome] for outcome in _NOT_GONE)
        return Counts(
            repositories_scanned=self.scanned,
            repositories_failed=self.failed,
            tags_scanned=self.tags,
            tags_matched=self.matched,
            tags_kept=self.kept.total(),
            tags_planned=self.planned,
            tags_pruned=pruned,
            tags_failed=failed,
            tags_skipped=0 if plan_only else self.planned - pruned - failed,
        )


class Runner:
    """Runs one policy at one registry, once."""

    def __init__(
        self,
        policy: Policy,
        connect: Callable[[], AbstractAsyncContextManager[Registry]],
        guard: Guard,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._connect = connect
        self._guard = guard
        self._audit = audit
        self._clock = clock
        self._progress = _Progress(idle=tag_patterns(policy))

    async def run(self, order: RunOrder) -> RunReport:
        """Do what `order` says; whatever the world does wrong is told in the report, and never raised."""
        try:
            async with self._connect() as registry:
                # Where the policy leaves the address to the cluster, it is known only now.
                self._policy = replace(self._policy, registry=registry.host)
                await self._plan(registry)
                if not order.plan_only:
                    await self._apply(registry)
        except InterruptedRunError as stop:
            self._progress.interrupted = str(stop)
        except RunError as error:
            self._fail(error.failure)
        return self._report(order)

    async def _plan(self, registry: Registry) -> None:
        """Gather and plan every repository that the policy selects."""
        progress = self._progress
        names = await registry.repositories()
        selected = list(filter(self._policy.repositories.selects, names))
        if selected:
            if self._policy.repositories.literals is None:
                progress.idle_globs = idle_globs(self._policy, names)
            progress.support = await registry.deletion(selected)
        for repository in selected:
            try:
                await self._plan_repository(registry, repository)
            except RunError as error:
                if error.failure.stops_run:
                    raise
                progress.failed += 1
                self._fail(replace(error.failure, repository=repository))
        if progress.failed and not progress.scanned:
            return  # nothing could be read, so there is nothing to publish
        digest = plan_hash(self._policy, progress.plans)
        progress.summary = PlanSummary(digest, self._clock.now(), progress.planned, tuple(progress.sample))

    async def _plan_repository(self, registry: Registry, repository: str) -> None:
        progress = self._progress
        await self._guard.proceed()
        unit = progress.support.deletion.unit if progress.support is not None else DeletionUnit.DIGEST
        inventory = await registry.inventory(repository, lambda tags: needs(self._policy, repository, tags, unit), {})
        # Thousands of tags take a while to judge: the event loop stays free for everybody else.
        plan = await asyncio.to_thread(plan_repository, self._policy, inventory, unit, self._clock.now())
        self._take(plan, inventory)

    def _take(self, plan: RepositoryPlan, inventory: Inventory) -> None:
        """Count a repository's plan, write it down, and hold only what its pruning needs."""
        progress = self._progress
        progress.scanned += 1
        progress.tags += inventory.size
        progress.matched += sum(verdict.rule is not None for verdict in plan.verdicts)
        progress.kept.update(plan.kept_by_reason())
        progress.planned += plan.planned
        tags = [verdict.tag for verdict in plan.verdicts]
        progress.idle = {at: p for at, p in progress.idle.items() if not any(p.matches(tag) for tag in tags)}
        self._audit.planned(plan)
        progress.sample.extend(islice(_items(plan), _SAMPLE - len(progress.sample)))
        if plan.groups:
            progress.plans.append(plan.only_going())

    async def _apply(self, registry: Registry) -> None:
        """Prune what was planned, repository by repository."""
        progress = self._progress
        if not progress.plans or progress.support is None:
            return
        for offset in (await self._guard.clock_offset(), await registry.clock_offset()):
            if clock_skewed(offset):
                raise RunError(_SKEWED)
        deletion = progress.support.deletion
        if not deletion.possible:
            failure = _IMPOSSIBLE[deletion]
            raise RunError(replace(failure, message=progress.support.detail or failure.message))

        async def prune(plan: RepositoryPlan) -> None:
            await self._prune_unless_stopped(registry, plan, deletion)

        await for_each(progress.plans, prune, registry.parallel)
        progress.aftermath = await registry.aftermath()
        if progress.stopped is not None:
            raise progress.stopped

    async def _prune_unless_stopped(self, registry: Registry, plan: RepositoryPlan, deletion: Deletion) -> None:
        """Prune one repository, beside others, unless one of them stopped the run."""
        progress = self._progress
        if progress.stopped is not None:
            return
        try:
            await self._prune(registry, plan, deletion)
        except InterruptedRunError as error:
            progress.stop(error)
        except RunError as error:
            if error.failure.stops_run:
                progress.stop(error)
            else:
                progress.failed += 1
                self._fail(replace(error.failure, repository=plan.repository))

    async def _prune(self, registry: Registry, plan: RepositoryPlan, deletion: Deletion) -> None:
        without_effect: Failure | None = None

        async def proceed() -> None:
            # Here, not between two outcomes: all tags of one digest have the same end, and are counted.
            if without_effect is not None:
                raise RunError(without_effect)
            if self._progress.stopped is not None:
                raise InterruptedRunError("another repository's failure stopped the run")
            await self._guard.proceed()

        async with aclosing(registry.prune(plan, deletion, proceed)) as outcomes:
            async for outcome in outcomes:
                self._progress.outcomes[outcome.outcome] += 1
                self._audit.outcome(plan.repository, outcome)
                if outcome.outcome is Outcome.NOT_DELETED:
                    without_effect = _without_effect(outcome)
        if without_effect is not None:
            raise RunError(without_effect)

    def _idle_patterns(self) -> list[str]:
        """Return the patterns and globs of the spec that match nothing, if all tags were seen."""
        progress = self._progress
        whole = progress.summary is not None and progress.scanned and not progress.failed
        return [*progress.idle_globs, *progress.idle] if whole else []

    def _fail(self, failure: Failure) -> None:
        self._progress.failures.append(failure)
        self._audit.failure(failure)

    def _report(self, order: RunOrder) -> RunReport:
        progress = self._progress
        counts = progress.counts(plan_only=order.plan_only)
        report = RunReport(
            order,
            phase_of(order, counts, progress.failures, progress.interrupted),
            self._clock.now(),
            counts,
            progress.kept,
            progress.summary,
            progress.support if progress.summary is not None else None,
            progress.aftermath,
            tuple(progress.failures),
            message_of(order, counts, progress.failures, progress.interrupted, self._idle_patterns()),
        )
        self._audit.finished(report)
        return report


def _items(plan: RepositoryPlan) -> Iterator[PlannedItem]:
    for verdict in plan.verdicts:
        if verdict.kept is None and verdict.digest is not None:
            reasons = tuple(reason.value for reason in verdict.pruned)
            yield PlannedItem(plan.repository, verdict.tag, verdict.digest, verdict.rule or "", reasons)


def _without_effect(outcome: ItemOutcome) -> Failure:
    return Failure(
        "DeletionWithoutEffect",
        f"the registry accepted the deletion of tag {outcome.tag!r} and still serves it; nothing more is deleted in "
        "this repository",
    )
