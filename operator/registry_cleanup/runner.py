"""One run: gather → plan → guard → apply → report. Sees ports, never clients."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from registry_cleanup.apply import Apply
from registry_cleanup.concurrency import in_order, to_the_end, unless
from registry_cleanup.copying import RunCopies, copies_of, remove_expired
from registry_cleanup.domain.conflict import Rival, conflicts, yields
from registry_cleanup.domain.course import Snapshot, Stage
from registry_cleanup.domain.guards import guard
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.ownership import idle_globs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.progress import planning_deadline, rotated
from registry_cleanup.domain.published import APPROVAL_LASTS, Published
from registry_cleanup.domain.report import FullReport
from registry_cleanup.domain.run import Failure, RunOrder, RunReport, ScanSummary, clock_skewed
from registry_cleanup.domain.tally import Tally
from registry_cleanup.examination import situate, unit_of
from registry_cleanup.ports import InterruptedRunError, Registry, RunError, Scan, TimedOutError, World

_Result = TypeVar("_Result")
# While one is planned, others are read: a repository's last answers and its planning leave the registry idle. Memory
# is that of so many repositories.
_REPOSITORIES_AT_A_TIME = 4
SKEWED = Failure(
    "ClockSkew",
    "the clocks of the operator, the API server and the registry differ by more than 5 minutes, so no age can be "
    "trusted; nothing was pruned: synchronise them",
    blocks=True,
)


def new_run_id(start: datetime) -> str:
    """Return the name of a run that begins at `start`: it sorts by time, and no two are the same."""
    return f"{start:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class Runner:
    """Runs one policy at one registry, once."""

    def __init__(
        self,
        policy: Policy,
        connect: Callable[[], AbstractAsyncContextManager[Registry]],
        world: World,
        at_a_time: int = _REPOSITORIES_AT_A_TIME,
    ) -> None:
        """Run `policy`, with so many repositories `at_a_time` being read and planned."""
        self._policy = policy
        self._connect = connect
        self._world = world
        self._at_a_time = at_a_time
        self._tally: Tally | None = None
        self._registry: Registry | None = None

    def snapshot(self) -> Snapshot:
        """Return what the run has come to so far."""
        if self._tally is None or self._registry is None:
            return Snapshot(Stage.LOOKING)
        return self._tally.snapshot(self._registry.readings, self._registry.requests)

    async def run(self, order: RunOrder) -> RunReport:
        """Do what `order` says; whatever the world does wrong is told in the report, and never raised."""
        tally = self._tally = Tally(self._policy, order, FullReport(self._world.store.most_report_bytes))
        try:
            async with self._connect() as registry:
                self._registry = registry
                # Where the policy leaves the address to the cluster, it is known only now.
                tally.policy = replace(self._policy, registry=registry.host)
                await _Run(tally, registry, self._world, self._at_a_time).run()
        except TimedOutError:
            tally.late = True
        except InterruptedRunError as stop:
            tally.interrupted = str(stop)
        except RunError as error:
            self._fail(tally, error.failure)
        if tally.late and tally.interrupted is None:
            # First: it says how far the run came, whatever else went wrong on the way.
            tally.failures.insert(0, timeout := tally.timeout())
            self._world.audit.failure(timeout)
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
            "untaggedManifestsLeft": tally.untagged_left,
            **tally.terms(),
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
    at_a_time: int
    rivals: list[Rival] = field(default_factory=list)
    published: Published | None = None
    unread: deque[str] = field(default_factory=deque)

    async def run(self) -> None:
        """Claim what may be pruned before it is read for the plan, and have it until the end.

        A run that only plans claims nothing: what it plans of a repository that another run works on may just be going,
        and does no harm, since whoever prunes by that plan claims, and plans afresh.
        """
        with self.world.claims.visit(self.registry.claimed_as) as visit:
            async with AsyncExitStack() as stack:
                scan = await self._in_time(self._look(stack))
                if scan is None:
                    return
                if visit.claim(self._own()):
                    await self._run(scan)
                    return
            claimed, since = frozenset(self.tally.selected), self.world.clock.now()
            self.tally.stage = Stage.WAITING
            await visit.wait()
            self.tally.stage = Stage.LOOKING
            self._give_back(self.world.clock.now() - since)
            # That may have taken hours: whatever was seen before is old, the list, the rivals and what is in use. What
            # was not selected or not the policy's own then was not claimed, and is left to the next run.
            async with AsyncExitStack() as stack:
                scan = await self._in_time(self._look(stack, claimed))
                if scan is not None:
                    await self._run(scan)

    def _own(self) -> Sequence[str]:
        """Return the repositories that this run may prune in: where an older policy prunes, it touches nothing."""
        if self.tally.order.plan_only:
            return ()
        return [repository for repository in self.tally.selected if not yields(self.rivals, repository)]

    def _give_back(self, waited: timedelta) -> None:
        """Take the time that the run waited for others off its own: nothing was done in it."""
        order = self.tally.order
        if order.deadline is not None:
            self.tally.order = replace(order, deadline=order.deadline + waited)

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
        """Plan, let the guards decide, publish the plan, and prune."""
        # A large repository takes minutes to read: what speaks against the run ends that, too.
        await self._in_time(unless(self.world.guard.unless_halted, self._plan(scan.in_use)))
        if self.tally.nothing_read:
            return  # there is nothing to publish
        self.tally.summarize(self.world.clock.now())
        doubt = await self.world.guard.doubt()
        if doubt is not None and self.tally.order.plan_only:
            self.tally.doubt = doubt.message
        skewed = await self._clocks_differ()
        await self._guard(publish=not skewed, prunes=doubt is None)
        if skewed:
            raise RunError(SKEWED)
        if self.tally.order.plan_only:
            return
        if doubt is not None:
            raise RunError(doubt)
        if self.published is not None:
            self.tally.stage = Stage.PRUNING
            await self._apply(self.published, scan)

    async def _apply(self, published: Published, scan: Scan) -> None:
        """Prune, and keep copies where the policy wants them; those of long ago make room for them before."""
        policy = self.tally.policy
        if not policy.undo.enabled:
            await Apply(self.tally, self.registry, self.world, published, scan).run()
            return
        store = copies_of(policy, self.registry, self.world.copies)
        copies = RunCopies(store, policy.uid, self.tally.order.id, self.registry.claimed_as)
        others = None
        try:
            others = await remove_expired(store, policy.undo.kept_for, self.world.clock.now())
        except RunError as error:
            self._fail(error.failure)
        try:
            await Apply(self.tally, self.registry, self.world, published, scan, copies=copies).run()
        except (RunError, InterruptedRunError):
            await copies.close()
            raise
        else:
            await copies.close()
        finally:
            self.tally.copies = copies.held_with(others)

    # Gather and plan

    async def _in_time(self, work: Awaitable[_Result]) -> _Result | None:
        """Return what comes of reading and planning, for which there is so much time; None where that is over.

        Reading may end anywhere: what was not read whole by then is not planned, and keeps what was published of it.
        """
        deadline = planning_deadline(self.tally.order)
        left = None if deadline is None else max((deadline - self.world.clock.now()).total_seconds(), 0.0)
        time = asyncio.timeout(left)
        try:
            async with time:
                return await work
        except TimeoutError:
            if not time.expired():
                raise
            self.tally.late = True
            for repository in self.unread:
                self.tally.miss_late(repository)
            return None

    async def _look(self, stack: AsyncExitStack, only: Collection[str] | None = None) -> Scan:
        """Look at what is in use, which repositories the policy selects, and who else prunes there."""
        scan = await stack.enter_async_context(self._scan())
        await self._select(only)
        return scan

    async def _select(self, only: Collection[str] | None) -> None:
        """Find the repositories that the policy selects, of those in `only`, what can be deleted there, and the rivals.

        Who was a rival before stays one in this run: what was left to it is not claimed.
        """
        tally = self.tally
        names = await self.registry.repositories()
        selected = rotated(filter(tally.policy.repositories.selects, names), tally.order.first_repository)
        tally.selected = tuple(name for name in selected if only is None or name in only)
        self.unread = deque(tally.selected)
        if selected:
            if tally.policy.repositories.literals is None:
                tally.idle_globs = idle_globs(tally.policy, names)
            tally.support = await self.registry.deletion(selected)
        rivals = await self.world.rivals.at(self.registry, selected)
        tally.conflicts = conflicts(rivals, selected)
        self.rivals.extend(rivals)

    async def _plan(self, in_use: InUse) -> None:
        """Gather and plan every repository that the run takes; what comes of them is taken in their order."""
        tally = self.tally
        tally.stage = Stage.PLANNING
        self.registry.readings.begin()

        async def plan(repository: str) -> RepositoryPlan:
            return await self._plan_repository(repository, in_use)

        async with aclosing(in_order(tuple(self.unread), plan, self.at_a_time)) as plans:
            async for repository, planning in plans:
                try:
                    await self._take(planning.result())
                except RunError as error:
                    if error.failure.stops_run:
                        raise
                    tally.miss(repository, error.failure.reason, error.listed)
                    self._fail(replace(error.failure, repository=repository))
                self.unread.popleft()

    async def _plan_repository(self, repository: str, in_use: InUse) -> RepositoryPlan:
        await self.world.guard.proceed()
        tally = self.tally
        situation = await situate(
            self.registry, self.world.clock, tally.policy, self.rivals, repository, unit_of(tally.support), in_use
        )
        # Thousands of tags take a while to judge: the event loop stays free for everybody else.
        return await asyncio.to_thread(situation.plan)

    async def _take(self, plan: RepositoryPlan) -> None:
        def take() -> None:
            self.world.audit.planned(plan)
            self.tally.take(plan)

        # In a thread, as that takes seconds, too; and to its end, as half a plan would be counted otherwise.
        await to_the_end(asyncio.to_thread(take))

    def _fail(self, failure: Failure) -> None:
        self.tally.failures.append(failure)
        self.world.audit.failure(failure)

    # Guard

    async def _clocks_differ(self) -> bool:
        offsets = (await self.world.guard.clock_offset(), await self.registry.clock_offset())
        return any(map(clock_skewed, offsets))

    async def _guard(self, *, publish: bool, prunes: bool) -> None:
        """Decide what may go, by the plan that was published before; then publish this one.

        Times of publication by a clock that is wrong would be wrong: such a plan starts no grace period. A run that
        may not prune uses up no approval.
        """
        tally, now = self.tally, self.world.clock.now()
        if tally.summary is None:
            return
        before = await self.world.store.load()
        undone = await self.world.store.undone() if tally.policy.undo.enabled else None
        taken = False
        if (approval := tally.order.approval) is not None:
            approves = _approves(approval, before, tally.summary.hash, now)
            tally.other_approval = not approves
            taken = approves and publish and prunes and not tally.order.plan_only
            if taken:
                before = before.approve(now)
        guarded = await asyncio.to_thread(
            guard, tally.policy, tally.plans, before, now, plan_only=tally.order.plan_only, undone=undone
        )
        tally.take_guarded(guarded)
        if publish:
            self.published = await asyncio.to_thread(before.renewed, tally.plans, tally.unread, tally.summary.hash, now)
            if taken and approval == tally.summary.hash:
                # Approved as it is, also what had to be published anew.
                self.published = self.published.approve(now)
            await self.world.store.save(self.published)
            tally.approval_taken = taken  # only now it would outlive the operator
        if not tally.order.plan_only:
            tally.plans.clear()  # what the guards let through is all that is still wanted, for hours


async def _nothing() -> InUse:
    return NOTHING_IN_USE


def _approves(approval: str, before: Published, fresh_hash: str, now: datetime) -> bool:
    """Say whether `approval` names the published plan while it is fresh enough, or just the plan that was made now."""
    return approval == fresh_hash or (approval == before.hash and now - before.generated_at <= APPROVAL_LASTS)
