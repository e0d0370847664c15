"""Deletions that go together stop together, and a look at a repository holds only so long."""

import asyncio
from datetime import timedelta

import pytest

from registry_cleanup.registry.deleter import Look
from registry_cleanup.registry.together import Together
from tests.support.builders import NOW


async def test_after_the_first_error_nothing_begins_and_what_began_ends() -> None:
    together, begun, ended = Together(), list[int](), list[int]()
    second_began, failed = asyncio.Event(), asyncio.Event()

    async def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            await second_began.wait()
            failed.set()
            raise ValueError(item)
        second_began.set()
        await failed.wait()
        ended.append(item)

    await together.run(range(10), work, 2)
    assert (begun, ended) == ([0, 1], [1])
    assert isinstance(together.error, ValueError)


async def test_what_is_under_way_when_it_is_cancelled_ends_before_that_is_told() -> None:
    together, begun, go_on = Together(), asyncio.Event(), asyncio.Event()
    ended: list[int] = []

    async def work(item: int) -> None:
        begun.set()
        await go_on.wait()
        ended.append(item)

    running = asyncio.ensure_future(together.run(range(10), work, 3))
    await begun.wait()
    running.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    await running
    assert ended == [0, 1, 2]
    assert together.cancelled


async def test_no_work_is_done_at_once() -> None:
    together = Together()
    await together.run([], lambda _item: asyncio.sleep(3600), 4)
    assert together.error is None


@pytest.mark.parametrize(
    ("took", "age", "holds"),
    [(0, 0, True), (5, 30, True), (5, 31, False), (15, 31, False), (40, 79, True), (40, 81, False), (5, -1, False)],
)
def test_a_look_holds_30_seconds_or_twice_as_long_as_it_took(took: int, age: int, *, holds: bool) -> None:
    look = Look(NOW, NOW + timedelta(seconds=took))
    assert look.holds(NOW + timedelta(seconds=age)) is holds
