"""Time that passes when a test says so, for whatever waits by a `Time` of its own."""

import asyncio
import heapq
import itertools

from typing_extensions import override

from registry_cleanup.kube.lease import Time


class VirtualTime(Time):
    """Whoever sleeps is woken in the order of the moments, with nothing but tasks between them."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @override
    def now(self) -> float:
        return self._now

    @override
    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), woken))
        await woken

    async def settle(self) -> None:
        """Let all tasks do what needs no time."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float) -> None:
        """Let so much time pass, with all that happens in it."""
        end = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, moment)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._now = end

    def jump(self, seconds: float) -> None:
        """Let time pass without anybody being woken, as for a process that was stopped or a loop that was blocked."""
        self._now += seconds
