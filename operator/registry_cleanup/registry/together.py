"""Several deletions at a time that stop together: what was sent is waited for, and nothing is sent after that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from registry_cleanup.concurrency import give_up

_Item = TypeVar("_Item")

# A run that is cancelled is about to be killed: so many seconds are left to hear what became of what was sent.
LAST_SECONDS = 3.0


class HaltedError(Exception):
    """Another deletion was told to stop, so this one is not sent."""


class Together:
    """Work on several things at a time until one of them says stop.

    Attributes:
        error: the first that says so, to be raised once everything is told; None as long as nothing speaks against
            going on.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    @property
    def cancelled(self) -> bool:
        """Whether there is little time left."""
        return isinstance(self.error, asyncio.CancelledError)

    def unless_halted(self) -> None:
        """Raise `HaltedError` if nothing may be sent any more."""
        if self.error is not None:
            raise HaltedError

    async def run(self, items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], concurrency: int) -> None:
        """Do `work` on each item, `concurrency` at a time; after the first error begin nothing, and end what began."""
        pending = iter(items)

        async def worker() -> None:
            for item in pending:
                if self.error is not None:
                    return
                try:
                    await work(item)
                except HaltedError:
                    return
                except BaseException as error:
                    self._stop(error)
                    return

        tasks = [asyncio.ensure_future(worker()) for _ in range(concurrency)]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            self.error = error
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
        finally:
            await give_up(tasks)

    def _stop(self, error: BaseException) -> None:
        """Remember the first reason to stop."""
        if self.error is None:
            self.error = error
