"""Which run has which repository to itself: two runs in one would each count on tags that the other takes away."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from typing_extensions import override

from registry_cleanup.concurrency import unless
from registry_cleanup.ports import Claims, Visit

_log = logging.getLogger(__name__)

Aside = Callable[[], AbstractAsyncContextManager[None]]
"""Gives up the place of a run for a while."""


class ClaimBook:
    """The claims of all runs of this process, by registry and repository.

    A run claims all that it needs at one moment, and stands in the line of each repository in the order in which the
    runs came. The line of no repository has another order, so there is no deadlock: whoever came first of all that have
    not ended is the first in each of its lines, and waits for nobody. Nor does anybody starve: nobody is overtaken.

    Attributes:
        waiting: how many runs wait for what another has.
    """

    def __init__(self) -> None:
        self._lines: defaultdict[str, dict[str, list[BookedVisit]]] = defaultdict(dict)
        self._readers: defaultdict[str, set[BookedVisit]] = defaultdict(set)
        self.waiting = 0

    @property
    def claimed(self) -> int:
        """Repositories that a run has, or waits for."""
        return sum(map(len, self._lines.values()))

    @contextmanager
    def visit(self, registry: str) -> Iterator[BookedVisit]:
        """Begin to read at `registry`; in the end all that the visit claimed is free for others, whatever happened."""
        visit = BookedVisit(self, registry)
        self._readers[registry].add(visit)
        try:
            yield visit
        finally:
            self._stop_reading(visit)
            self._release(visit)

    def _stop_reading(self, visit: BookedVisit) -> None:
        readers = self._readers[visit.registry]
        readers.discard(visit)
        if not readers:
            del self._readers[visit.registry]

    def enter(self, visit: BookedVisit, repositories: Collection[str]) -> None:
        """Put `visit` into the line of each of `repositories`."""
        self._stop_reading(visit)
        visit.repositories = frozenset(repositories)
        lines = self._lines[visit.registry] if repositories else {}
        for repository in visit.repositories:
            line = lines.setdefault(repository, [])
            line.append(visit)
            visit.behind += len(line) > 1

    def _release(self, visit: BookedVisit) -> None:
        if not visit.repositories:
            return
        lines = self._lines[visit.registry]
        for repository in visit.repositories:
            line = lines[repository]
            was_first = line[0] is visit
            line.remove(visit)
            if not line:
                del lines[repository]
            elif was_first:
                line[0].advance()
        if not lines:
            del self._lines[visit.registry]
        if visit.behind == 0:
            for reader in self._readers.get(visit.registry, ()):
                reader.changed.append(visit.repositories)


class BookedVisit:
    """What one run claims at one registry, once.

    Attributes:
        registry: where.
        repositories: that it claims.
        behind: in how many lines somebody else is first.
        changed: what runs that ended since the visit began had claimed, and may have changed.
    """

    def __init__(self, book: ClaimBook, registry: str) -> None:
        self._book = book
        self.registry = registry
        self.repositories: frozenset[str] = frozenset()
        self.behind = 0
        self.changed: list[frozenset[str]] = []
        self._alone = asyncio.Event()

    def claim(self, repositories: Collection[str]) -> bool:
        """Claim `repositories`; say whether they are free, and what was read of them since the visit began holds."""
        self._book.enter(self, repositories)
        if self.behind == 0:
            self._alone.set()
            return all(self.repositories.isdisjoint(changed) for changed in self.changed)
        return False

    def advance(self) -> None:
        """Take note that the visit is the first in one more line."""
        self.behind -= 1
        if self.behind == 0:
            self._alone.set()

    @property
    def is_alone(self) -> bool:
        """Whether all that was claimed is free of others."""
        return self._alone.is_set()

    async def alone(self) -> None:
        """Wait until all that was claimed is free of others."""
        self._book.waiting += 1
        try:
            await self._alone.wait()
        finally:
            self._book.waiting -= 1


class RunClaims(Claims):
    """The claims of one run, which gives up its place while it waits: it may be for hours."""

    def __init__(self, book: ClaimBook, policy: str, aside: Aside, unless_halted: Callable[[], None]) -> None:
        """Claim in `book` for a run of `policy` (`namespace/name`); `unless_halted` raises what ends its waiting."""
        self._book = book
        self._policy = policy
        self._aside = aside
        self._unless_halted = unless_halted

    @override
    @contextmanager
    def visit(self, registry: str) -> Iterator[Visit]:
        with self._book.visit(registry) as visit:
            yield _RunVisit(visit, self)

    async def wait(self, visit: BookedVisit) -> None:
        """Wait for all that `visit` claimed, without a place; raise `InterruptedRunError` where the run must stop."""
        if visit.is_alone:
            return
        extra = {"policy": self._policy, "registry": visit.registry, "repositories": len(visit.repositories)}
        _log.info("the run waits for others that work in the same repositories", extra=extra)

        async def turn() -> None:
            async with self._aside():
                await visit.alone()

        await unless(self._unless_halted, turn())


class _RunVisit(Visit):
    def __init__(self, visit: BookedVisit, claims: RunClaims) -> None:
        self._visit = visit
        self._claims = claims

    @override
    def claim(self, repositories: Collection[str]) -> bool:
        return self._visit.claim(repositories)

    @override
    async def wait(self) -> None:
        await self._claims.wait(self._visit)
