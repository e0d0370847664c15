"""What a run needs besides its registry, held in memory for tests without a cluster."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from typing_extensions import override

from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.published import Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import ReportReference, RunOrder, ScanSummary
from registry_cleanup.ports import Claims, PlanStore, Registry, Rivals, RunError, Scan, Visit, Workloads

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
