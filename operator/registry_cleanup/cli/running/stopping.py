"""Ctrl-C and SIGTERM: work that does no harm ends at once, pruning at a safe point."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from registry_cleanup.domain.course import Stage
from registry_cleanup.narrator import Follow, Sight

# Whoever hammers at Ctrl-C means it once: signals that follow each other faster than this count as one.
_ONE_SECONDS = 0.7
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal"}


class Stopping:
    """Takes the signals that stop a command.

    While it plans, the first one ends it. While it prunes, the first one lets nothing more be deleted, and what was
    sent is still verified; the second says so once more; the third gives that up.

    Attributes:
        signal: the first one, in words; None before.
        given_up: whether what was sent to the registry is left unverified.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Tell a person with `tell` what becomes of a signal."""
        self.signal: str | None = None
        self.given_up = False
        self._tell = tell
        self._look: Sight | None = None
        self._times = 0
        self._over = False
        self._last = float("-inf")
        self._task: asyncio.Task[object] | None = None

    def halt(self) -> str | None:
        """Say why nothing more may be deleted; None while it may."""
        return None if self.signal is None else f"by {self.signal}"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals, as the task that runs just now, as long as the context lasts."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # What is ignored already, as `nohup` and shells want it, stays so.
        taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in taken:
            loop.add_signal_handler(number, self._take, _SIGNALS[number])
        try:
            yield
        finally:
            self._task = None
            for number in taken:
                loop.remove_signal_handler(number)
                if self._over or self.signal is not None:
                    # What is left is to tell what was done, which whoever hammers at Ctrl-C must not lose.
                    signal.signal(number, signal.SIG_IGN)

    def over(self) -> None:
        """Take note that all is done: from now on until the process ends, signals change nothing."""
        self._over, self._task = True, None

    def following(self, follow: Follow) -> Follow:
        """Return `follow`, so that what the run is at is known here, too."""

        @asynccontextmanager
        async def seen(look: Sight) -> AsyncIterator[None]:
            self._look = look
            try:
                async with follow(look):
                    yield
            finally:
                self._look = None

        return seen

    @property
    def _prunes(self) -> bool:
        return self._look is not None and self._look().stage is Stage.PRUNING

    def _take(self, words: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._last < _ONE_SECONDS:
            return
        self._last = now
        if self._task is None:
            return
        self._times += 1
        self.signal = self.signal or words
        if not self._prunes:
            self._cancel()
        elif self._times == 1:
            self._say(f"Stopping ({words}): nothing more is deleted; what was sent to the registry is being verified.")
        elif self._times == 2:
            self._say(
                "Still verifying what was sent to the registry. Once more ends that at once, and then nobody says what "
                "became of it."
            )
        else:
            self.given_up = True
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _say(self, words: str) -> None:
        try:
            self._tell(words)
        except (OSError, ValueError):
            return  # the terminal may be gone, and the run must still end well
