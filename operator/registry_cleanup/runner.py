"""One run: gather → plan → guard → apply → report. Sees ports, never clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from registry_cleanup.apply import Apply
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.conflict import Rival, conflicts, with_rivals, yields
from registry_cleanup.domain.guards import guard
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.ownership import idle_globs, needs
from registry_cleanup.domain.plan import RepositoryPlan, conflicting, plan_repository
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.published import APPROVAL_LASTS, Published
from registry_cleanup.domain.run import Failure, RunOrder, RunReport, ScanSummary, clock_skewed
from registry_cleanup.domain.tally import Tally
from registry_cleanup.ports import InterruptedRunError, Registry, RunError, Scan, World

_SKEWED = Failure(
    "ClockSkew",
    "the clocks of the operator, the API server and the registry differ by more than 5 minutes, so no age can be "
    "trusted; nothing was pruned: synchronise them",
    blocks=True,
)


class Runner:
    """Runs one policy at one registry, once."""

    def __init__(
        self, policy: Policy, connect: Callable[[], AbstractAsyncContextManager[Registry]], world: World
    ) -> None:
        self._policy = policy
        self._connect = connect
        self._world = world

    async def run(self, order: RunOrder) -> RunReport:
        """Do what `order` says; whatever the world does wrong is told in the report, and never raised."""
        tally = Tally(self._policy, order)
        try:
            async with self._connect() as registry:
                # Where the policy leaves the address to the cluster, it is known only now.
                tally.policy = replace(self._policy, registry=registry.host)
                await _Run(tally, registry, self._world).run()
        except InterruptedRunError as stop:
            tally.interrupted = str(stop)
        except RunError as error:
            self._fail(tally, error.failure)
        await self._write_report(tally)
        report = tally.finished(self._world.clock.now())
        self._world.audit.finished(report)
        return report

    async def _write_report(self, tally: Tally) -> None:
        """Write down every verdict, where a plan came about."""
        if tally.summary is None:
            return
        head = {
            "policy": tally.policy.uid,
            "registry": tally.policy.registry,
            "run": tally.order.id,
            "planOnly": tally.order.plan_only,
            "plan": tally.summary.hash,
            "generatedAt": tally.summary.generated_at.isoformat(),
            "reclaimableBytesEstimate": tally.summary.reclaimable,
        }
        try:
            content, cut = await asyncio.to_thread(tally.report.compressed, head)
            tally.reference = await self._world.store.report(content, cut)
        except RunError as error:
            self._fail(tally, error.failure)

    def _fail(self, tally: Tally, failure: Failure) -> None:
        # The same cause, such as a missing right on ConfigMaps, is told once.
        if failure not in tally.failures:
            tally.failures.append(failure)
            self._world.audit.failure(failure)


@dataclass(slots=True)
class _Run:
    """The work of one run, with the registry open."""

    tally: Tally
    registry: Registry
    world: World
    rivals: list[Rival] = field(default_factory=list)
    published: Published | None = None

    async def run(self) -> None:
        async with self._scan() as scan:
            await self._run(scan)

    @asynccontextmanager
    async def _scan(self) -> AsyncIterator[Scan]:
        """Look at what is in use before anything is planned, and go on to watch until all is done."""
        if not self.tally.policy.in_use.enabled:
            self.tally.scan = ScanSummary(0, disabled=True)
            yield Scan(NOTHING_IN_USE, self.tally.scan, _nothing)
            return
        async with self.world.workloads.scan(self.tally.order) as scan:
            self.tally.scan = scan.summary
            yield scan

    async def _run(self, scan: Scan) -> None:
        await self._plan(scan.in_use)
        if self.tally.summary is None:
            return  # nothing could be read, so there is nothing to publish
        skewed = await self._clocks_differ()
        await self._guard(publish=not skewed)
        if skewed:
            raise RunError(_SKEWED)
        if not self.tally.order.plan_only and self.published is not None:
            await Apply(self.tally, self.registry, self.world, self.published, scan).run()

    # Gather and plan

    async def _plan(self, in_use: InUse) -> None:
        """Gather and plan every repository that the policy selects."""
        tally = self.tally
        names = await self.registry.repositories()
        selected = list(filter(tally.policy.repositories.selects, names))
        if selected:
            if tally.policy.repositories.literals is None:
                tally.idle_globs = idle_globs(tally.policy, names)
            tally.support = await self.registry.deletion(selected)
        self.rivals = list(await self.world.rivals.at(self.registry, selected))
        tally.conflicts = conflicts(self.rivals, selected)
        for repository in selected:
            try:
                await self._plan_repository(repository, in_use)
            except RunError as error:
                if error.failure.stops_run:
                    raise
                tally.miss(repository, error.failure.reason, error.listed)
                self._fail(replace(error.failure, repository=repository))
        if not tally.nothing_read:
            tally.summarize(self.world.clock.now())

    async def _plan_repository(self, repository: str, in_use: InUse) -> None:
        await self.world.guard.proceed()
        if yields(self.rivals, repository):
            self._take(conflicting(await self.registry.inventory(repository, lambda _tags: Needs(), {})))
            return
        policy = with_rivals(self.tally.policy, self.rivals, repository)
        unit = self.tally.support.deletion.unit if self.tally.support is not None else DeletionUnit.DIGEST
        inventory = await self.registry.inventory(
            repository, lambda tags: needs(policy, repository, tags, unit, in_use), {}
        )
        # Thousands of tags take a while to judge: the event loop stays free for everybody else.
        self._take(await asyncio.to_thread(plan_repository, policy, inventory, unit, self.world.clock.now(), in_use))

    def _take(self, plan: RepositoryPlan) -> None:
        self.world.audit.planned(plan)
        self.tally.take(plan)

    def _fail(self, failure: Failure) -> None:
        self.tally.failures.append(failure)
        self.world.audit.failure(failure)

    # Guard

    async def _clocks_differ(self) -> bool:
        offsets = (await self.world.guard.clock_offset(), await self.registry.clock_offset())
        return any(map(clock_skewed, offsets))

    async def _guard(self, *, publish: bool) -> None:
        """Decide what may go, by the plan that was published before; then publish this one.

        Times of publication by a clock that is wrong would be wrong: such a plan starts no grace period.
        """
        tally, now = self.tally, self.world.clock.now()
        if tally.summary is None:
            return
        before = await self.world.store.load()
        taken = False
        if (approval := tally.order.approval) is not None:
            approves = _approves(approval, before, tally.summary.hash, now)
            tally.other_approval = not approves
            taken = approves and publish and not tally.order.plan_only
            if taken:
                before = before.approve(now)
        guarded = await asyncio.to_thread(
            guard, tally.policy, tally.plans, before, now, plan_only=tally.order.plan_only
        )
        tally.take_guarded(guarded)
        if publish:
            self.published = before.renewed(tally.plans, tally.unread, tally.summary.hash, now)
            if taken and approval == tally.summary.hash:
                # Approved as it is, also what had to be published anew.
                self.published = self.published.approve(now)
            await self.world.store.save(self.published)
            tally.approval_taken = taken  # only now it would outlive the operator


async def _nothing() -> InUse:
    return NOTHING_IN_USE


def _approves(approval: str, before: Published, fresh_hash: str, now: datetime) -> bool:
    """Say whether `approval` names the published plan while it is fresh enough, or just the plan that was made now."""
    return approval == fresh_hash or (approval == before.hash and now - before.generated_at <= APPROVAL_LASTS)
