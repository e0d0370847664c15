"""Whoever writes copies, or puts them back, is killed at every step: nothing is lost, and it can be done again."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from aiohttp import web

from registry_cleanup.domain.policy import Untagged
from tests.support.clients import opened
from tests.support.faulty import Forward
from tests.support.images import push_image
from tests.support.pruning import APP, Setting
from tests.support.undo import prune_with_copies, pulled, store_of, undone

_MOST = 200
# Every step, before and after it; where there is less time, some of them.
_EVERY = [
    pytest.param(range(1, _MOST, 6), 0, id="some"),
    pytest.param(range(1, _MOST), 0, id="all-one-way", marks=pytest.mark.thorough),
    pytest.param(range(1, _MOST), 1, id="all-the-other-way", marks=pytest.mark.thorough),
]


async def _killed(setting: Setting, work: Coroutine[Any, Any, object], step: int, *, after: bool) -> bool:
    """Do `work`, whose requests pass the proxy, until the request `step` begins, or is answered; say whether it did."""
    loop, seen = asyncio.get_running_loop(), 0
    task = asyncio.ensure_future(work)

    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        if seen != step:
            return (await forward()).response() if seen < step else web.Response(status=503)
        if after:
            await forward()
        loop.call_soon_threadsafe(task.cancel)
        return web.Response(status=503)

    setting.proxy.inject(fault)
    try:
        await task
    except asyncio.CancelledError:
        return True
    finally:
        setting.proxy.heal()
    return False


def _fill(setting: Setting) -> None:
    """Push two tags on one digest, and an index whose children have no names."""
    setting.push("old-1", "old-2", seed="shared")
    children = [
        push_image(setting.server.url, APP, [], platform=f"linux/{each}", seed=each) for each in ("arm64", "ppc64le")
    ]
    setting.push_index("old-index", children=children)
    setting.push("kept")


async def _runs(setting: Setting) -> list[str]:
    async with opened(setting.server.url) as registry:
        return list(await store_of(registry).runs())


@pytest.mark.parametrize(("steps", "odd"), _EVERY)
async def test_a_run_that_is_killed_at_any_step_is_done_again_and_all_of_it_comes_back(
    setting: Setting, steps: range, odd: int
) -> None:
    _fill(setting)
    before = pulled(setting.crane, setting.server.host, APP)
    for turn, step in enumerate(steps):
        first, second = f"20260101-{step:06}-aaaaaa", f"20260101-{step:06}-bbbbbb"
        work = prune_with_copies(setting.proxy.url, APP, "old-.*", untagged=Untagged.DELETE, run=first)
        if not await _killed(setting, work, step, after=turn % 2 == odd):
            break
        await prune_with_copies(setting.server.url, APP, "old-.*", untagged=Untagged.DELETE, run=second)
        assert setting.tags == ["kept"], step
        # What the first one had deleted only its own copies have.
        for run in sorted({first, second} & set(await _runs(setting))):
            done = await undone(setting.server.url, run=run)
            assert not done.left, (step, done.message)
        assert pulled(setting.crane, setting.server.host, APP) == before, step
    assert 20 < step < _MOST - 1


@pytest.mark.parametrize(("steps", "odd"), _EVERY)
async def test_an_undo_that_is_killed_at_any_step_is_done_again(setting: Setting, steps: range, odd: int) -> None:
    _fill(setting)
    before = pulled(setting.crane, setting.server.host, APP)
    for turn, step in enumerate(steps):
        run = f"20260101-{step:06}-aaaaaa"
        await prune_with_copies(setting.server.url, APP, "old-.*", untagged=Untagged.DELETE, run=run)
        assert setting.tags == ["kept"], step
        killed = await _killed(setting, undone(setting.proxy.url, run=run), step, after=turn % 2 == odd)
        done = await undone(setting.server.url, run=run)
        assert done.whole, (step, done.message)
        assert pulled(setting.crane, setting.server.host, APP) == before, step
        if not killed:
            break
    assert 15 < step < _MOST - 1
