"""Our client prunes dozens and hundreds of tags, several at a time: nothing else goes, and everything is told."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import httpx
import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.lanes import Lane, OwnLimits
from registry_cleanup.ports import InterruptedRunError
from registry_cleanup.registry.errors import RegistryError, SiblingLostError
from tests.support.clients import applied, asked, opened, planned, prunes, references
from tests.support.faulty import Forward, after, answers, before, changes_headers, drops_the_answer, stalls, throttles
from tests.support.pruning import APP, Outcomes, Setting

PRUNED, MOVED = (Outcome.PRUNED, None), (Outcome.MOVED, None)


def _names(number: int) -> list[str]:
    return [f"old-{each:03}" for each in range(number)]


def _fill(setting: Setting, number: int, *, on_each: int = 5) -> list[str]:
    """Push so many tags that go, some on each image, and two that stay; return those that go."""
    names = _names(number)
    for at in range(0, number, on_each):
        setting.push(*names[at : at + on_each])
    setting.push("kept", "kept-too", seed="kept")
    return names


async def _told(setting: Setting, proceed: Callable[[], Awaitable[None]] | None = None) -> tuple[Outcomes, list[str]]:
    """Prune until it ends, however it does; return the outcomes that were told, and the DELETEs that were sent."""
    told: Outcomes = {}

    async def goes_on() -> None:
        if any(outcome is Outcome.NOT_DELETED for outcome, _ in told.values()):
            raise InterruptedRunError("without effect, as the run finds")
        if proceed is not None:
            await proceed()

    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting.proxy.requests.clear()
        with suppress(InterruptedRunError, asyncio.CancelledError, RegistryError):
            async with aclosing(registry.prune(plan, deletion, asked(plan, goes_on))) as ends:
                async for end in ends:
                    assert isinstance(end, ItemOutcome)
                    assert end.tag not in told
                    told[end.tag] = (end.outcome, end.code)
    return told, setting.deletions


# What goes, and what stays


async def test_of_hundreds_of_tags_exactly_the_planned_ones_go_while_others_are_pushed_and_moved(
    setting3: Setting,
) -> None:
    names = _fill(setting3, 300, on_each=300)
    digest = setting3.push("kept-sibling", seed=",".join(names))
    moved = ["old-030", "old-100", "old-250"]

    def push() -> None:  # when some have gone, after the first look at the others
        for tag in moved:
            setting3.push(tag, f"new-{tag}", seed=f"new {tag}")

    setting3.proxy.inject(before(push), method="DELETE", path=".*/manifests/old-007", times=1)
    found = await setting3.prune("old-.*")
    assert found == {tag: MOVED if tag in moved else PRUNED for tag in names}
    assert setting3.tags == sorted(["kept", "kept-sibling", "kept-too", *moved, *(f"new-{tag}" for tag in moved)])
    assert setting3.exists(digest)
    heads, deletes = references(setting3.proxy.requests, "HEAD"), references(setting3.proxy.requests, "DELETE")
    assert sorted(deletes) == sorted(set(names) - set(moved))
    # One look right before, and more at the first ones; a list proves the others.
    assert len(heads) < len(names) + 40
    assert len(references(setting3.proxy.requests, "GET")) < 10


async def test_under_a_slow_pace_each_deletion_still_follows_its_own_look_at_once(setting3: Setting) -> None:
    _fill(setting3, 24)
    async with opened(setting3.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
    setting3.proxy.requests.clear()
    gentle = Lane(None, "tests", OwnLimits(4, 40.0))
    async with opened(setting3.proxy.url, passage=gentle) as registry:
        await applied(registry, plan, deletion)
    steps = [(request.method, request.path.rpartition("/")[2]) for request in setting3.proxy.requests]
    going = [at for at, (method, _) in enumerate(steps) if method == "DELETE"]
    assert len(going) == 24
    assert [steps[at - 1] for at in going] == [("HEAD", steps[at][1]) for at in going]


async def test_a_tag_that_is_pushed_again_right_after_its_deletion_is_pruned_and_stays(setting3: Setting) -> None:
    names = _fill(setting3, 60)
    setting3.proxy.inject(
        after(lambda: setting3.push("old-040", seed="again")), method="DELETE", path=".*/manifests/old-040", times=1
    )
    assert await setting3.prune("old-.*") == dict.fromkeys(names, PRUNED)
    assert setting3.tags == ["kept", "kept-too", "old-040"]


async def test_by_digest_dozens_go_and_an_index_before_what_it_lists(setting2: Setting) -> None:
    children = [setting2.push(f"old-{number:03}") for number in range(30)]
    index = setting2.push_index("old-index", children=children[:3])
    setting2.push("kept")
    found = await setting2.prune("old-.*")
    assert found == dict.fromkeys(["old-index", *_names(30)], PRUNED)
    assert setting2.deletions[0] == index
    assert sorted(setting2.deletions) == sorted([index, *children])
    assert setting2.tags == ["kept"]


async def test_by_digest_an_index_that_stays_among_others_keeps_what_it_lists(setting2: Setting) -> None:
    children = [setting2.push(f"old-{number:03}") for number in range(20)]
    indexes = [setting2.push_index(f"old-index-{n}", children=children[2 * n : 2 * n + 2]) for n in range(10)]
    setting2.proxy.inject(answers(500), method="DELETE", path=f".*/manifests/{sorted(indexes)[9]}")
    found = await setting2.prune("old-.*")
    at = indexes.index(sorted(indexes)[9])
    assert found.pop(f"old-index-{at}") == (Outcome.FAILED, "HTTP 500")
    kept = [f"old-{2 * at:03}", f"old-{2 * at + 1:03}"]
    assert [found.pop(tag) for tag in kept] == [(Outcome.NOW_SHARED, None)] * 2
    assert set(found.values()) == {PRUNED}
    assert setting2.tags == sorted([f"old-index-{at}", *kept])


async def test_by_digest_a_tag_pushed_onto_a_planned_digest_in_the_middle_saves_it(setting2: Setting) -> None:
    digests = {setting2.push(tag): tag for tag in _names(30)}
    first, *_, last = sorted(digests)  # as they go
    setting2.proxy.inject(
        before(lambda: setting2.push("new", seed=digests[last])), method="DELETE", path=f".*/manifests/{first}", times=1
    )
    found = await setting2.prune("old-.*")
    assert found.pop(digests[last]) == (Outcome.NOW_SHARED, None)
    assert set(found.values()) == {PRUNED}
    assert setting2.tags == ["new", digests[last]]


# What a registry does


async def test_a_deletion_that_fails_in_the_middle_fails_alone(setting3: Setting) -> None:
    names = _fill(setting3, 60)
    for tag, fault in (("030", throttles("0")), ("035", drops_the_answer())):
        setting3.proxy.inject(fault, method="DELETE", path=f".*/manifests/old-{tag}", times=1)
    setting3.proxy.inject(answers(500), method="DELETE", path=".*/manifests/old-040")
    found = await setting3.prune("old-.*")
    assert found == dict.fromkeys(names, PRUNED) | {"old-040": (Outcome.FAILED, "HTTP 500")}
    assert setting3.tags == ["kept", "kept-too", "old-040"]


async def test_a_deletion_without_effect_in_the_middle_is_told(setting3: Setting) -> None:
    names = _fill(setting3, 60)
    setting3.proxy.inject(answers(202), method="DELETE", path=".*/manifests/old-040")
    expected = dict.fromkeys(names, PRUNED) | {"old-040": (Outcome.NOT_DELETED, None)}
    assert await setting3.prune("old-.*") == expected


async def test_of_a_registry_that_accepts_everything_and_does_nothing_one_deletion_is_asked(setting: Setting) -> None:
    _fill(setting, 60)
    setting.proxy.inject(answers(202), method="DELETE", path=".*/manifests/(old-|sha256:(?!0000)).*")
    told, sent = await _told(setting)
    assert len(sent) == 1
    assert {outcome for outcome, _ in told.values()} == {Outcome.NOT_DELETED}


@pytest.mark.parametrize("fault", [answers(500), answers(200, '{"name":"team/app","tags":null}')])
async def test_where_the_list_fails_or_lacks_what_nobody_deleted_each_tag_is_asked_for(
    setting3: Setting, fault: Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]
) -> None:
    names = _fill(setting3, 60)
    setting3.proxy.inject(answers(202), method="DELETE", path=".*/manifests/old-040")

    def breaks() -> None:
        setting3.proxy.inject(fault, path=".*/tags/list")

    setting3.proxy.inject(after(breaks), method="DELETE", path=".*/manifests/old-010", times=1)
    expected = dict.fromkeys(names, PRUNED) | {"old-040": (Outcome.NOT_DELETED, None)}
    assert await setting3.prune("old-.*") == expected


async def test_a_sibling_that_goes_along_in_the_middle_stops_the_run(setting3: Setting) -> None:
    digest = setting3.push(*_names(60))
    setting3.push("kept")

    async def takes_all(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        await asyncio.to_thread(setting3.delete, digest)
        return web.Response(status=202)

    setting3.proxy.inject(takes_all, method="DELETE", path=".*/manifests/old-010", times=1)
    with pytest.raises(SiblingLostError, match=f"{APP}:old-"):
        await setting3.prune("old-.*")
    assert len(setting3.deletions) < 25


async def test_other_tags_that_somebody_takes_away_meanwhile_stop_nothing(setting3: Setting) -> None:
    names = _fill(setting3, 60)
    setting3.proxy.inject(after(lambda: setting3.delete("kept")), method="DELETE", path=".*/manifests/old-030", times=1)
    assert await setting3.prune("old-.*") == dict.fromkeys(names, PRUNED)
    assert setting3.tags == ["kept-too"]


# Stopping


@pytest.mark.parametrize("at", [3, 12, 30, 59])
async def test_a_run_that_is_stopped_anywhere_tells_what_went_and_sends_nothing_more(setting: Setting, at: int) -> None:
    names = _fill(setting, 60, on_each=1)
    times = 0

    async def proceed() -> None:
        nonlocal times
        times += 1
        if times > at:
            raise InterruptedRunError("suspended")

    told, sent = await _told(setting, proceed)
    assert len(sent) == at
    assert told == {tag: PRUNED for tag in names if tag not in setting.tags}
    assert len(told) == at
    assert {"kept", "kept-too"} <= set(setting.tags)


@pytest.mark.parametrize(("method", "status"), [("DELETE", 403), ("DELETE", 405), ("HEAD", 403)])
async def test_a_registry_that_allows_no_more_in_the_middle_ends_it_and_all_that_went_is_told(
    setting3: Setting, method: str, status: int
) -> None:
    names = _fill(setting3, 60, on_each=60)

    def breaks() -> None:
        setting3.proxy.inject(answers(status), method=method, path=".*/manifests/old-0[3-5].*")

    setting3.proxy.inject(after(breaks), method="DELETE", path=".*/manifests/old-007", times=1)
    told, _ = await _told(setting3)
    left = setting3.tags
    assert set(names[30:]) <= set(left)
    assert told == {tag: PRUNED for tag in names if tag not in left}
    assert len(told) >= 20


async def test_a_run_that_is_cancelled_tells_what_went_and_sends_nothing_more(setting: Setting) -> None:
    names = _fill(setting, 60, on_each=1)
    reached = asyncio.Event()
    asks = 0

    async def proceed() -> None:
        nonlocal asks
        asks += 1
        if asks == 20:
            reached.set()

    pruning = asyncio.create_task(_told(setting, proceed))
    await asyncio.wait_for(reached.wait(), 30)
    pruning.cancel()
    told, sent = await pruning
    assert len(sent) < 40
    assert told == {tag: PRUNED for tag in names if tag not in setting.tags}


async def test_a_run_that_is_cancelled_does_not_wait_for_a_registry_that_hangs(setting3: Setting) -> None:
    names = _fill(setting3, 60)
    hung = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hangs(request: web.Request, forward: Forward) -> web.StreamResponse:
        loop.call_soon_threadsafe(hung.set)
        return await stalls(20)(request, forward)

    setting3.proxy.inject(hangs, method="DELETE", path=".*/manifests/old-030")
    pruning = asyncio.create_task(_told(setting3))
    await asyncio.wait_for(hung.wait(), 30)
    pruning.cancel()
    told, _ = await asyncio.wait_for(pruning, 15)
    assert told.pop("old-030") == (Outcome.FAILED, "Unreachable")
    assert told == {tag: PRUNED for tag in names if tag not in setting3.tags}


# The look right before


async def test_a_registry_that_names_another_digest_though_it_says_not_modified_is_not_believed(
    setting3: Setting,
) -> None:
    names = _fill(setting3, 20)
    lie = changes_headers({"Docker-Content-Digest": f"sha256:{'1' * 64}"})
    async with opened(setting3.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        # Behind the look at the first ones.
        setting3.proxy.inject(
            after(lambda: setting3.proxy.inject(lie, method="HEAD", path=".*/manifests/old-01.")),
            path=".*/tags/list",
            times=1,
        )
        found = await applied(registry, plan, deletion)
    assert {tag for tag, end in found.items() if end == MOVED} == set(names[10:])
    assert setting3.tags == ["kept", "kept-too", *names[10:]]


async def test_a_registry_that_knows_no_conditions_is_asked_all_the_same(setting3: Setting) -> None:
    names = _fill(setting3, 20)

    async def unconditional(request: web.Request, _forward: Forward) -> web.StreamResponse:
        headers = {"Accept": request.headers["Accept"]}
        answer = await asyncio.to_thread(
            httpx.head, f"{setting3.server.url}{request.path}", headers=headers, trust_env=False
        )
        kept = {
            name: answer.headers[name] for name in ("Docker-Content-Digest", "Content-Type") if name in answer.headers
        }
        return web.Response(status=answer.status_code, headers=kept)

    setting3.proxy.inject(unconditional, method="HEAD")
    assert await setting3.prune("old-.*") == dict.fromkeys(names, PRUNED)
