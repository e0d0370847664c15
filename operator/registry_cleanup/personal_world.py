"""What a run needs of the world where a person started it: no policy in the cluster, and nobody to publish for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from typing_extensions import override

from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.deletion import ItemOutcome, UntaggedOutcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.published import Protected, Published, nothing_published
from registry_cleanup.domain.run import Failure, ReportReference, RunOrder, ScanSummary
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import (
    Guard,
    InterruptedRunError,
    PlanStore,
    Registry,
    Rivals,
    RunError,
    Scan,
    Workloads,
)
from registry_cleanup.telemetry import LogAudit

_NO_CLUSTER = Failure(
    "NoCluster",
    "the policy protects what a cluster uses, and there is no cluster to ask: name one with --kubeconfig or --context",
    mendable=True,
    blocks=True,
)
Still = Callable[[], Awaitable[None]]
"""Raises `InterruptedRunError` where a run must not go on."""
Ended = Callable[[str, ItemOutcome | UntaggedOutcome], None]
"""Is told of a repository, and what became there of one item."""


class HaltGuard(Guard):
    """Lets a run go on until its person stops it, or the policy is not what it was."""

    def __init__(
        self,
        halt: Callable[[], str | None],
        clock_offset: Callable[[], Awaitable[timedelta | None]],
        still: Still | None,
    ) -> None:
        self._halt = halt
        self._clock_offset = clock_offset
        self._still = still

    @override
    async def clock_offset(self) -> timedelta | None:
        return await self._clock_offset()

    @override
    async def proceed(self) -> None:
        self.unless_halted()
        if self._still is not None:
            await self._still()
            self.unless_halted()  # that may have taken long

    @override
    def unless_halted(self) -> None:
        if (reason := self._halt()) is not None:
            raise InterruptedRunError(reason)


class ToldAudit(LogAudit):
    """Writes to the log, and tells of each outcome."""

    def __init__(self, policy: ParsedPolicy, order: RunOrder, ended: Ended | None) -> None:
        super().__init__(policy.namespace, policy.name, policy.registry.url or "OpenShift", order)
        self._ended = ended

    @override
    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        super().outcome(repository, outcome)
        if self._ended is not None:
            self._ended(repository, outcome)

    @override
    def untagged(self, repository: str, outcome: UntaggedOutcome) -> None:
        super().untagged(repository, outcome)
        if self._ended is not None:
            self._ended(repository, outcome)


class Unlooked(Workloads):
    """Nobody looks at what is in use, since the person says so."""

    @override
    @asynccontextmanager
    async def scan(self, order: RunOrder) -> AsyncIterator[Scan]:
        yield Scan(NOTHING_IN_USE, ScanSummary(0, disabled=True), _nothing)


class Unseen(Workloads):
    """There is no cluster to look at."""

    @override
    def scan(self, order: RunOrder) -> AbstractAsyncContextManager[Scan]:
        raise RunError(_NO_CLUSTER)


class NoRivals(Rivals):
    """Without a cluster nobody else is known to prune."""

    @override
    async def at(self, registry: Registry, repositories: Sequence[str]) -> Sequence[Rival]:
        return ()


@dataclass
class LookStore(PlanStore):
    """Publishes nothing, and keeps the whole report in memory: for commands that only look.

    Attributes:
        published: what was published before.
        content: the report, as `domain.report.read_report` reads it; empty before there is one.
        put_back: what a run is to leave alone, since it was put back; None where nothing is.
    """

    published: Published
    content: bytes = b""
    put_back: Protected | None = None

    @classmethod
    def of(cls, policy: ParsedPolicy) -> LookStore:
        """Return the store of a policy of which nothing is known to be published."""
        return cls(nothing_published(policy.uid))

    @property
    @override
    def most_report_bytes(self) -> int | None:
        return None

    @override
    async def load(self) -> Published:
        return self.published

    @override
    async def save(self, published: Published) -> None:
        return

    @override
    async def undone(self) -> Protected | None:
        return self.put_back

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        self.content = content
        return ReportReference("", "", cut)


async def _nothing() -> InUse:
    return NOTHING_IN_USE
