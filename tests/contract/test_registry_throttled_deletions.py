"""A registry throttles a DELETE: before it is sent again, what it would take is looked at anew."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.ports import InterruptedRunError
from tests.support.clients import QUICK, applied, asked, opened, planned, prunes, references
from tests.support.faulty import Fault, Forward, throttles
from tests.support.pruning import APP, Outcomes, Setting

PRUNED, MOVED, SHARED = (Outcome.PRUNED, None), (Outcome.MOVED, None), (Outcome.NOW_SHARED, None)
THROTTLED = (Outcome.FAILED, "TOOMANYREQUESTS")
# More than go one by one.
MANY = [f"old-{number:02}" for number in range(30)]


def _throttles_and(hook: Callable[[], object]) -> Fault:
    """Do nothing, ask for a second's wait, and let something happen in it."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await throttles("1")(request, forward)
        await asyncio.to_thread(hook)
        return answer

    return fault


# By tag


@pytest.mark.parametrize(("names", "moves"), [(["old-00"], "old-00"), (MANY, "old-20")], ids=["singly", "together"])
async def test_a_tag_that_moves_while_its_throttled_deletion_waits_stays(
    setting3: Setting, names: list[str], moves: str
) -> None:
    setting3.push(*names)
    setting3.push("kept")
    setting3.proxy.inject(
        _throttles_and(lambda: setting3.push(moves, seed="new")),
        method="DELETE",
        path=f".*/manifests/{moves}",
        times=1,
    )
    assert await setting3.prune("old-.*") == dict.fromkeys(names, PRUNED) | {moves: MOVED}
    assert setting3.deletions.count(moves) == 1
    assert setting3.tags == ["kept", moves]


@pytest.mark.parametrize(("names", "slow"), [(["old-00"], "old-00"), (MANY, "old-20")], ids=["singly", "together"])
async def test_a_throttled_deletion_of_a_tag_is_sent_again_after_the_wait(
    setting3: Setting, names: list[str], slow: str
) -> None:
    setting3.push(*names)
    setting3.push("kept")
    times: list[float] = []
    setting3.proxy.inject(
        _throttles_and(lambda: times.append(time.monotonic())),
        method="DELETE",
        path=f".*/manifests/{slow}",
        times=1,
    )
    assert await setting3.prune("old-.*") == dict.fromkeys(names, PRUNED)
    assert time.monotonic() - times[0] >= 1
    assert setting3.deletions.count(slow) == 2
    assert references(setting3.proxy.requests, "HEAD").count(slow) >= 2
    assert setting3.tags == ["kept"]


async def test_with_one_request_at_a_time_a_throttled_deletion_is_looked_at_again_all_the_same(
    setting3: Setting,
) -> None:
    setting3.push("old-00")
    setting3.proxy.inject(throttles("0"), method="DELETE", path=".*/manifests/old-.*", times=1)
    async with opened(setting3.proxy.url, concurrency=1) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        assert await asyncio.wait_for(applied(registry, plan, deletion), 30) == {"old-00": PRUNED}


@pytest.mark.parametrize("retry_after", ["0", None])
async def test_a_deletion_that_is_throttled_for_ever_fails_with_the_code_of_the_registry(
    setting: Setting, retry_after: str | None
) -> None:
    digests = [setting.push(f"old-{number}") for number in range(2)]
    target = digests[0] if setting.by_digest else "old-0"
    setting.proxy.inject(throttles(retry_after), method="DELETE", path=f".*/manifests/{target}")
    assert await setting.prune("old-.*") == {"old-0": THROTTLED, "old-1": PRUNED}
    assert setting.deletions.count(target) == QUICK.attempts
    assert setting.tags == ["old-0"]


# By digest


async def test_a_tag_pushed_onto_a_digest_whose_throttled_deletion_waits_saves_it(setting2: Setting) -> None:
    digest = setting2.push("old-1")
    setting2.push("old-2")
    setting2.proxy.inject(
        _throttles_and(lambda: setting2.push("new", seed="old-1")),
        method="DELETE",
        path=f".*/manifests/{digest}",
        times=1,
    )
    assert await setting2.prune("old-.*") == {"old-1": SHARED, "old-2": PRUNED}
    assert setting2.deletions.count(digest) == 1
    assert setting2.tags == ["new", "old-1"]


async def test_a_known_tag_moved_onto_a_digest_whose_throttled_deletion_waits_saves_it(setting2: Setting) -> None:
    digest = setting2.push("old-1")
    setting2.push("kept")
    setting2.proxy.inject(
        _throttles_and(lambda: setting2.push("kept", seed="old-1")),
        method="DELETE",
        path=f".*/manifests/{digest}",
        times=1,
    )
    assert await setting2.prune("old-.*") == {"old-1": SHARED}
    assert setting2.deletions == [digest]
    assert setting2.tags == ["kept", "old-1"]


async def test_throttled_deletions_by_digest_are_sent_again_and_an_index_before_what_it_lists(
    setting2: Setting,
) -> None:
    children = [setting2.push(tag) for tag in MANY]
    index = setting2.push_index("old-index", children=children[:2])
    setting2.push("kept")
    for digest in (index, children[0], sorted(children)[20], sorted(children)[21]):
        setting2.proxy.inject(throttles("1"), method="DELETE", path=f".*/manifests/{digest}", times=1)
    assert await setting2.prune("old-.*") == dict.fromkeys(["old-index", *MANY], PRUNED)
    assert setting2.deletions[:2] == [index, index]
    assert [setting2.deletions.count(digest) for digest in (index, children[0], sorted(children)[20])] == [2, 2, 2]
    assert setting2.tags == ["kept"]


async def test_a_manifest_without_a_name_that_is_tagged_while_its_throttled_deletion_waits_stays(
    setting2: Setting,
) -> None:
    children = [setting2.push(seed=f"child-{number}") for number in range(2)]
    index = setting2.push_index("old-index", children=children)
    setting2.proxy.inject(
        _throttles_and(lambda: setting2.push("new", seed="child-0")),
        method="DELETE",
        path=f".*/manifests/{children[0]}",
        times=1,
    )
    setting2.proxy.inject(throttles("0"), method="DELETE", path=f".*/manifests/{children[1]}", times=1)
    found = await setting2.prune("old-.*", untagged=Untagged.DELETE)
    assert found == {"old-index": PRUNED, children[0]: SHARED, children[1]: PRUNED}
    assert [setting2.deletions.count(digest) for digest in (index, *children)] == [1, 1, 2]


# Stopping


@pytest.mark.parametrize("number", [1, 30])
@pytest.mark.parametrize("cancelled", [False, True], ids=["interrupted", "cancelled"])
async def test_a_run_that_stops_while_a_throttled_deletion_waits_ends_soon_and_sends_nothing_more(
    setting: Setting, number: int, *, cancelled: bool
) -> None:
    digests = {tag: setting.push(tag) for tag in MANY[:number]}
    slow = max(digests.values()) if setting.by_digest else max(digests)
    throttled = asyncio.Event()
    loop = asyncio.get_running_loop()
    told: Outcomes = {}

    async def proceed() -> None:
        if throttled.is_set() and not cancelled:
            raise InterruptedRunError("suspended")

    async def prune() -> None:
        async with opened(setting.proxy.url, limits=replace(QUICK, longest_wait=60)) as registry:
            plan, deletion = await planned(registry, APP, prunes("old-.*"))
            setting.proxy.requests.clear()
            async with aclosing(registry.prune(plan, deletion, asked(plan, proceed))) as ends:
                async for end in ends:
                    assert isinstance(end, ItemOutcome)
                    told[end.tag] = (end.outcome, end.code)

    async def asks_for_patience(request: web.Request, forward: Forward) -> web.StreamResponse:
        loop.call_soon_threadsafe(throttled.set)
        return await throttles("60")(request, forward)

    setting.proxy.inject(asks_for_patience, method="DELETE", path=f".*/manifests/{slow}")
    pruning = asyncio.create_task(prune())
    await asyncio.wait_for(throttled.wait(), 30)
    if cancelled:
        pruning.cancel()
    # Less than was asked for.
    with pytest.raises(asyncio.CancelledError if cancelled else InterruptedRunError):
        await asyncio.wait_for(pruning, 20)
    assert setting.deletions.count(slow) == 1
    assert told == {tag: PRUNED for tag in digests if tag not in setting.tags}
