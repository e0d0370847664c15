"""Doing many things at a time, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Nobody tells when there is a reason to stop: whoever waits asks so often.
_ASK_SECONDS = 0.25


async def for_each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], concurrency: int) -> None:
    """Do `work` on each item, at most `concurrency` at a time; the first error ends it all and is raised."""
    pending = iter(items)

    async def worker() -> None:
        for item in pending:
            await work(item)

    tasks = [asyncio.ensure_future(worker()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await give_up(tasks)


async def in_order(
    items: Iterable[_Item], work: Callable[[_Item], Coroutine[None, None, _Result]], at_a_time: int
) -> AsyncGenerator[tuple[_Item, asyncio.Task[_Result]], None]:
    """Do `work` on `at_a_time` items at a time, and yield each item with its task when that has ended, in their order.

    What was begun further on is given up where nobody goes on to the end.
    """
    pending = iter(items)
    begun: deque[tuple[_Item, asyncio.Task[_Result]]] = deque()
    try:
        while True:
            begun.extend((item, asyncio.ensure_future(work(item))) for item in islice(pending, at_a_time - len(begun)))
            if not begun:
                return
            await asyncio.wait({begun[0][1]})
            yield begun.popleft()
    finally:
        await give_up(task for _, task in begun)


async def to_the_end(work: Coroutine[None, None, _Result]) -> _Result:
    """Return what comes of `work`; whoever is cancelled meanwhile waits for its end all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait({task})


async def unless(look: Callable[[], None], work: Coroutine[None, None, _Result]) -> _Result:
    """Return what comes of `work`, which ends as soon as `look` raises."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_ASK_SECONDS))[0]:
            look()
        return task.result()
    finally:
        await give_up([task])


async def give_up(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks`, of which some may have ended, and wait until all have; nobody asks what came of them."""
    given_up = list(tasks)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
