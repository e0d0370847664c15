"""Where runs take place: so many at a time, with a fair share for each namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry_cleanup.gate import Gate


class Places:
    """The places of all runs of this process."""

    def __init__(self, runs: int) -> None:
        """Make so many places."""
        self._gate = Gate(runs)

    @property
    def running(self) -> int:
        """Runs that have a place."""
        return self._gate.under_way

    @property
    def waiting(self) -> int:
        """Runs that wait for one."""
        return self._gate.waiting

    @asynccontextmanager
    async def at(self, namespace: str) -> AsyncIterator[Seat]:
        """Wait for a place for a run of `namespace`."""
        seat = Seat(self._gate, namespace)
        await seat.take()
        try:
            yield seat
        finally:
            seat.leave()


class Seat:
    """The place of one run."""

    def __init__(self, gate: Gate, namespace: str) -> None:
        self._gate = gate
        self._namespace = namespace
        self._taken = False

    async def take(self) -> None:
        """Wait for the place."""
        await self._gate.enter(self._namespace)
        self._taken = True

    def leave(self) -> None:
        """Give the place back, unless that was done before."""
        if self._taken:
            self._taken = False
            self._gate.leave()

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Let others have the place while the run waits for something else; wait for one again in the end."""
        self.leave()
        yield
        await self.take()
