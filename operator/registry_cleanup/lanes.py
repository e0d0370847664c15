"""The ways of runs to their registries: a gate for each registry, shared by all runs, and each policy's own limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

from registry_cleanup.gate import Gate, Monotonic, Pace
from registry_cleanup.ports import Passage
from registry_cleanup.width import Width


class OwnLimits:
    """What one policy allows each of its runs.

    Attributes:
        most: requests at a time.
    """

    def __init__(self, most: int, per_second: float = 0.0, clock: Monotonic = time.monotonic) -> None:
        """Allow `most` requests at a time, and `per_second` in a second; 0 for any number."""
        self.most = most
        self.gate = Gate(most)
        self.pace = Pace(per_second) if per_second > 0 else None
        self.turn = asyncio.Lock()
        self.clock = clock


class Lane(Passage):
    """The way of one run through the gate of its registry, narrowed by the limits of its own policy."""

    def __init__(self, gate: Gate | None, namespace: str, own: OwnLimits) -> None:
        """Lead through `gate`, or none, as one of `namespace`; several lanes may share the `own` limits."""
        self._gate = gate
        self._namespace = namespace
        self._own = own

    @override
    async def enter(self, *, first: bool = False) -> None:
        own = self._own
        # First what is the run's own: waiting for that, it must not hold a place that others wait for.
        await own.gate.enter(self._namespace, first=first)
        try:
            if own.pace is None or first:
                # What goes first is counted, and waits for no turn: its look would grow old in the line of others'.
                if self._gate is not None:
                    await self._gate.enter(self._namespace, first=first)
                self.follow()
                return
            # One at a time: else those that waited for the gate after their pace would begin all at once.
            async with own.turn:
                wait = own.pace.wait(own.clock())
                while wait > 0:
                    await asyncio.sleep(wait)
                    wait = own.pace.wait(own.clock())  # something may have gone first meanwhile
                if self._gate is not None:
                    await self._gate.enter(self._namespace)
                own.pace.begin(own.clock())
        except BaseException:
            own.gate.leave()
            raise

    @override
    def leave(self, *, overloaded: bool = False) -> None:
        if self._gate is not None:
            self._gate.leave(overloaded=overloaded)
        self._own.gate.leave()

    @override
    def follow(self) -> None:
        if self._own.pace is not None:
            self._own.pace.begin(self._own.clock())


class Gates:
    """The gates of all registries that somebody has to do with; those of others go away."""

    def __init__(self, most: int, per_second: float = 0.0, clock: Monotonic = time.monotonic) -> None:
        """Let `most` requests be under way at each registry at a time, and `per_second` begin; 0 for any number.

        Of `most`, each registry gets as many as it takes well.
        """
        self._most = most
        self._per_second = per_second
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._users: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._gates)

    @property
    def under_way(self) -> int:
        """Requests under way at all registries."""
        return sum(gate.under_way for gate in self._gates.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for their registry's gate."""
        return sum(gate.waiting for gate in self._gates.values())

    @contextmanager
    def lane(self, registry: str, namespace: str, own: OwnLimits) -> Iterator[Lane]:
        """Open the way of a run of `namespace` to `registry` (`host:port`)."""
        self._sweep()
        if registry not in self._gates:
            self._gates[registry] = Gate(self._most, self._per_second, self._clock, Width(self._most))
        self._users[registry] = self._users.get(registry, 0) + 1
        try:
            yield Lane(self._gates[registry], namespace, own)
        finally:
            self._users[registry] -= 1
            if not self._users[registry]:
                del self._users[registry]
            self._sweep()

    def _sweep(self) -> None:
        """Drop the gates that nobody uses; one that remembers its last requests stays until that makes no difference.

        Runs that come and go would exceed the pace otherwise: each new gate lets its first requests through at once.
        """
        for registry in [name for name, gate in self._gates.items() if name not in self._users and gate.idle]:
            del self._gates[registry]
