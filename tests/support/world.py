"""What a run needs besides its registry, held in memory for tests without a cluster."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.published import Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure, ReportReference, RunOrder, RunReport, ScanSummary
from registry_cleanup.ports import (
    Audit,
    Claims,
    Guard,
    InterruptedRunError,
    PlanStore,
    Registry,
    Rivals,
    RunError,
    Scan,
    Visit,
    Workloads,
)

_NOTHING_FOUND = ScanSummary(0)


@dataclass
class MemoryStore(PlanStore):
    """Remembers what was published, and raises what a test says instead."""

    published: Published
    content: bytes = b""
    saved: list[Published] = field(default_factory=list)
    unreadable: RunError | None = None
    unwritable: RunError | None = None

    @override
    async def load(self) -> Published:
        if self.unreadable is not None:
            raise self.unreadable
        return self.published

    @override
    async def save(self, published: Published) -> None:
        if self.unwritable is not None:
            raise self.unwritable
        self.published = published
        self.saved.append(published)

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        self.content = content
        return ReportReference("report", "lines", cut)


@dataclass
class FixedUse(Workloads):
    """Always uses the same, until a test says what pods that appeared since use.

    Attributes:
        in_use: that a scan finds; an error is raised instead.
        later: that pods use which appeared since; an error is raised instead.
        summary: of a scan.
        orders: of the runs that asked, in order.
        ended: how many of their scans have ended.
    """

    in_use: InUse | RunError = NOTHING_IN_USE
    later: InUse | RunError = NOTHING_IN_USE
    summary: ScanSummary = _NOTHING_FOUND
    orders: list[RunOrder] = field(default_factory=list)
    ended: int = 0

    @override
    @asynccontextmanager
    async def scan(self, order: RunOrder) -> AsyncIterator[Scan]:
        self.orders.append(order)
        if isinstance(self.in_use, RunError):
            raise self.in_use
        try:
            yield Scan(self.in_use, self.summary, self._since)
        finally:
            self.ended += 1

    async def _since(self) -> InUse:
        if isinstance(self.later, RunError):
            raise self.later
        return self.later


@dataclass
class FixedRivals(Rivals):
    """Always the same."""

    found: Sequence[Rival] = ()

    @override
    async def at(self, registry: Registry, repositories: Sequence[str]) -> Sequence[Rival]:
        return self.found


@dataclass
class FixedClaims(Claims):
    """Grants every claim at once, or after a wait, until a test says what happens meanwhile.

    Attributes:
        free: whether what is claimed is free at once.
        meanwhile: called while a run waits; what it raises ends the waiting.
        claimed: by each run, with the name of its registry.
        visits: under way.
    """

    free: bool = True
    meanwhile: Callable[[], None] = lambda: None
    claimed: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    visits: int = 0

    @override
    @contextmanager
    def visit(self, registry: str) -> Iterator[Visit]:
        self.visits += 1
        try:
            yield _FixedVisit(self, registry)
        finally:
            self.visits -= 1


@dataclass
class _FixedVisit(Visit):
    claims: FixedClaims
    registry: str

    @override
    def claim(self, repositories: Collection[str]) -> bool:
        self.claims.claimed.append((self.registry, list(repositories)))
        return self.claims.free

    @override
    async def wait(self) -> None:
        self.claims.meanwhile()


class LongPublished(Published):
    """A plan in which everything has been published for years, for tests that are not about the grace period."""

    @override
    def first(self, repository: str, tag: str, digest: Digest) -> datetime:
        return datetime.fromtimestamp(0, UTC)


def long_published(uid: str = "a-uid") -> MemoryStore:
    """Return a store that lets everything pass that a plan holds."""
    return MemoryStore(LongPublished(uid, "0" * 64, datetime.fromtimestamp(0, UTC)))


@dataclass
class FixedGuard(Guard):
    """Lets a number of steps pass, then stops the run.

    Attributes:
        offset: Of the API server's clock.
        steps: That pass.
        doubted: Why runs may only plan.
        halted: Whether the run must stop for what is known without asking anybody.
    """

    offset: timedelta | None = timedelta(0)
    steps: int = 1_000_000
    doubted: Failure | None = None
    halted: bool = False

    @override
    async def doubt(self) -> Failure | None:
        return self.doubted

    @override
    def unless_halted(self) -> None:
        if self.halted:
            raise InterruptedRunError("the Lease was lost")

    @override
    async def clock_offset(self) -> timedelta | None:
        return self.offset

    @override
    async def proceed(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise InterruptedRunError("the policy was suspended")


@dataclass
class RecordingAudit(Audit):
    """Remembers what was written down.

    Attributes:
        outcomes: Of planned tags, in order.
        ends: The same, as repository, tag and outcome.
    """

    plans: list[RepositoryPlan] = field(default_factory=list)
    outcomes: list[ItemOutcome] = field(default_factory=list)
    ends: list[tuple[str, str, Outcome]] = field(default_factory=list)
    manifests: list[UntaggedOutcome] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)

    @override
    def planned(self, plan: RepositoryPlan) -> None:
        self.plans.append(plan)

    @override
    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        self.outcomes.append(outcome)
        self.ends.append((repository, outcome.tag, outcome.outcome))

    @override
    def untagged(self, repository: str, outcome: UntaggedOutcome) -> None:
        self.manifests.append(outcome)

    @override
    def failure(self, failure: Failure) -> None:
        self.failures.append(failure)

    @override
    def finished(self, report: RunReport) -> None:
        self.reports.append(report)
