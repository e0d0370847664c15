"""Gates: how many things go on at a time, and how many begin in a second, with a fair share for each namespace."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from registry_cleanup.width import Width

Monotonic = Callable[[], float]
"""Seconds by a clock that nobody sets."""

# So much of a second may be caught up at once: a timer wakes late, and no rate above a thousand a second could be kept
# otherwise. Whoever asks for 20 a second or fewer waits for each.
_CATCH_UP = 0.05
# Stands for no namespace: the line of those that go before all others.
_FIRST = ""


class Pace:
    """How many may begin in a second: in `t` seconds `per_second * t`, and one more, or a twentieth of a second's."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._slack = max(0.0, _CATCH_UP - self._gap)
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until the next may begin, 0 if it may now."""
        return max(0.0, self._next - now)

    def begin(self, now: float) -> None:
        """Take note of one that begins, when `wait` has said that it may."""
        self._next = max(self._next, now - self._slack) + self._gap


class Gate:
    """Lets through so many at a time, and so many a second; who waits is let in round robin over the namespaces.

    Within a namespace the first comes first. Where nobody has to wait, passing takes no task, no timer and no
    search: a comparison and a count.

    Attributes:
        under_way: how many are through and have not left.
        waiting: how many wait.
    """

    def __init__(
        self, most: int, per_second: float = 0.0, clock: Monotonic = time.monotonic, width: Width | None = None
    ) -> None:
        """Let `most` through at a time, and `per_second` in a second; 0 for any number.

        Where there is a `width`, it says how many of `most` it is good to let through.
        """
        self._most = most if width is None else width.limit
        self._width = width
        self._pace = Pace(per_second) if per_second > 0 else None
        self._clock = clock
        self._lines: OrderedDict[str, OrderedDict[asyncio.Future[None], None]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self.under_way = 0
        self.waiting = 0

    @property
    def idle(self) -> bool:
        """Whether it would be the same if it were made anew: nobody is in it, and nobody was a moment ago."""
        paced = self._pace is not None and self._pace.wait(self._clock()) > 0
        return not (self.under_way or self.waiting or paced)

    async def enter(self, namespace: str, *, first: bool = False) -> None:
        """Wait for a place, before all others if it goes `first`; whoever was let in must `leave`.

        Who goes first waits for a place, and for no pace: those after it wait for both. One that is cancelled while it
        waits leaves no trace.
        """
        if self.under_way < self._most and (first or not self.waiting):
            now = self._clock() if self._pace is not None else 0.0
            if self._pace is None or first or self._pace.wait(now) <= 0:
                if self._pace is not None:
                    self._pace.begin(now)
                self.under_way += 1
                return
        await self._queue(_FIRST if first else namespace)

    def leave(self, *, overloaded: bool = False) -> None:
        """Give the place back; say whether that for which it was taken showed that too many are let through."""
        if self._width is not None:
            self._width.answered(self._clock(), self.under_way, overloaded=overloaded)
            self._most = self._width.limit
        self.under_way -= 1
        if self.waiting:
            self._let_in()

    async def _queue(self, namespace: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(namespace, OrderedDict())
        line[turn] = None
        if namespace == _FIRST:
            self._lines.move_to_end(_FIRST, last=False)
        self.waiting += 1
        if self.under_way < self._most:
            self._let_in()  # the pace holds it up, so a timer is needed
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._drop(namespace, turn)
            else:
                self.leave()  # it was let in, and never learned of it
            raise

    def _drop(self, namespace: str, turn: asyncio.Future[None]) -> None:
        if turn not in self._lines.get(namespace, ()):
            return  # `_let_in` came upon it first
        self._take(namespace, turn)
        if not self.waiting:
            self._stop_timer()

    def _take(self, namespace: str, turn: asyncio.Future[None]) -> None:
        """Take one out of its line."""
        line = self._lines[namespace]
        del line[turn]
        if not line:
            del self._lines[namespace]
        self.waiting -= 1

    def _let_in(self) -> None:
        """Let in as many as may come now; wake again for the next, if only the pace holds it up."""
        while self.waiting and self.under_way < self._most:
            namespace, line = next(iter(self._lines.items()))
            turn = next(iter(line))
            if turn.cancelled():  # its task has not heard of that yet
                self._take(namespace, turn)
                continue
            if self._pace is not None:
                now = self._clock()
                if namespace != _FIRST and (wait := self._pace.wait(now)) > 0:
                    if self._timer is None:
                        self._timer = asyncio.get_running_loop().call_later(wait, self._tick)
                    return
                self._pace.begin(now)
            self._take(namespace, turn)
            if line and namespace != _FIRST:
                self._lines.move_to_end(namespace)  # behind all others that wait
            self.under_way += 1
            turn.set_result(None)
        self._stop_timer()

    def _tick(self) -> None:
        self._timer = None
        self._let_in()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
