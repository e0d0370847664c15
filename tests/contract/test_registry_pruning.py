"""Our client prunes real registries: exactly what is planned, looked at again right before, and proved after.

What is left is read with crane, a client that is not ours.
"""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from typing_extensions import override

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import Deletion, Outcome
from registry_cleanup.lanes import Lane, OwnLimits
from registry_cleanup.ports import InterruptedRunError
from registry_cleanup.registry.errors import DeletionDisabledError, DeniedError, ReadOnlyError, SiblingLostError
from tests.support.clients import applied, deletes, opened, planned, prunes, references
from tests.support.crane import Crane
from tests.support.faulty import (
    Fault,
    Forward,
    after,
    answers,
    drops_the_answer,
    drops_the_connection,
)
from tests.support.images import push_image
from tests.support.pruning import APP, Setting
from tests.support.registries import Version, distribution

PRUNED, GONE, MOVED = (Outcome.PRUNED, None), (Outcome.ALREADY_GONE, None), (Outcome.MOVED, None)
NOW_SHARED = (Outcome.NOW_SHARED, None)


# What is planned goes, and nothing else


async def test_exactly_the_planned_tags_go(setting: Setting) -> None:
    for number in range(4):
        setting.push(f"old-{number}")
        setting.push(f"new-{number}")
    setting.push("old-a", "old-b", seed="two tags")
    assert await setting.prune("old-.*") == dict.fromkeys(
        ["old-0", "old-1", "old-2", "old-3", "old-a", "old-b"], PRUNED
    )
    assert setting.tags == ["new-0", "new-1", "new-2", "new-3"]


async def test_by_digest_only_what_goes_with_all_its_tags_goes(setting2: Setting) -> None:
    shared, whole = setting2.push("old-1", "kept"), setting2.push("old-2", "old-3")
    assert await setting2.prune("old-.*") == {"old-2": PRUNED, "old-3": PRUNED}
    assert setting2.deletions == [whole]
    assert setting2.tags == ["kept", "old-1"]
    assert (setting2.exists(shared), setting2.exists(whole)) == (True, False)


async def test_by_tag_siblings_and_manifest_stay(setting3: Setting) -> None:
    shared, whole = setting3.push("old-1", "kept"), setting3.push("old-2", "old-3")
    assert await setting3.prune("old-.*") == dict.fromkeys(["old-1", "old-2", "old-3"], PRUNED)
    assert sorted(setting3.deletions) == ["old-1", "old-2", "old-3"]
    assert setting3.tags == ["kept"]
    assert (setting3.exists(shared), setting3.exists(whole)) == (True, True)


async def test_the_children_of_a_kept_index_stay(setting2: Setting) -> None:
    child = setting2.push("old-child")
    inner = setting2.push_index("old-inner", children=[child])
    setting2.push_index("kept", children=[inner])
    assert await setting2.prune("old-.*") == {}
    assert setting2.tags == ["kept", "old-child", "old-inner"]


async def test_an_index_goes_before_what_it_lists(setting: Setting) -> None:
    child = setting.push("old-child")
    inner = setting.push_index("old-inner", children=[child])
    outer = setting.push_index("old-outer", children=[inner])
    assert await setting.prune("old-.*") == dict.fromkeys(["old-outer", "old-inner", "old-child"], PRUNED)
    expected = [outer, inner, child] if setting.by_digest else ["old-outer", "old-inner", "old-child"]
    assert setting.deletions == expected
    assert setting.tags == []


# Waiting for a turn at the registry


class _Held(Lane):
    """Holds up whatever goes first, and says so."""

    def __init__(self) -> None:
        super().__init__(None, "tests", OwnLimits(4))
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.inside = 0

    @override
    async def enter(self, *, first: bool = False) -> None:
        if first:
            self.reached.set()
            await self.go_on.wait()
        await super().enter(first=first)
        self.inside += 1

    @override
    def leave(self, *, overloaded: bool = False) -> None:
        self.inside -= 1
        super().leave(overloaded=overloaded)


async def test_a_deletion_that_waits_for_its_turn_is_asked_about_only_when_that_has_come(setting: Setting) -> None:
    setting.push("old-1")
    lane = _Held()
    suspended = False
    inside: list[int] = []

    async def proceed() -> None:
        inside.append(lane.inside)
        if suspended:
            raise InterruptedRunError("the policy was suspended")

    async with opened(setting.proxy.url, passage=lane) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting.proxy.requests.clear()
        pruning = asyncio.create_task(applied(registry, plan, deletion, proceed))
        await asyncio.wait_for(lane.reached.wait(), 10)
        suspended = True
        lane.go_on.set()
        with pytest.raises(InterruptedRunError):
            await pruning
    assert (setting.deletions, setting.tags) == ([], ["old-1"])
    # Nothing was left to wait for, and the place was given back.
    assert (inside, lane.inside) == ([1], 0)


# What a registry can delete


@pytest.mark.parametrize(("version", "expected"), [("2", Deletion.BY_DIGEST), ("3", Deletion.BY_TAG)])
async def test_the_probe_finds_what_can_be_deleted_and_leaves_no_trace(
    version: Version, expected: Deletion, tmp_path: Path
) -> None:
    with distribution(version, tmp_path) as server:
        digest = push_image(server.url, APP, ["v1"])
        before = _files(server.storage)
        async with opened(server.url) as registry:
            assert await deletes(registry, APP) is expected
        assert _files(server.storage) == before
        crane = Crane(tmp_path / "crane")
        assert crane.ls(f"{server.host}/{APP}") == ["v1"]
        assert crane.digest(f"{server.host}/{APP}:v1") == digest


@pytest.mark.parametrize(
    ("readonly", "expected"),
    [(False, Deletion.DISABLED), (True, Deletion.READ_ONLY)],
    ids=["deletion-off", "read-only"],
)
@pytest.mark.parametrize("version", ["2", "3"])
async def test_the_probe_tells_deletion_that_is_off_from_a_registry_that_is_read_only(
    version: Version, readonly: bool, expected: Deletion, tmp_path: Path
) -> None:
    with distribution(version, tmp_path) as server:
        push_image(server.url, APP, ["v1"])
    with distribution(version, tmp_path, delete=readonly, readonly=readonly) as server:
        async with opened(server.url) as registry:
            assert await deletes(registry, APP) is expected
        assert not expected.possible
        assert Crane(tmp_path / "crane").ls(f"{server.host}/{APP}") == ["v1"]


@pytest.mark.parametrize("version", ["2", "3"])
async def test_a_registry_that_becomes_read_only_says_so_and_stops_the_run(version: Version, tmp_path: Path) -> None:
    with distribution(version, tmp_path) as server:
        push_image(server.url, APP, ["old-1"])
        async with opened(server.url) as registry:
            plan, deletion = await planned(registry, APP, prunes("old-.*"))
    with distribution(version, tmp_path, readonly=True) as server:
        async with opened(server.url) as registry:
            with pytest.raises(ReadOnlyError, match="wait until that is done") as caught:
                await applied(registry, plan, deletion)
        assert caught.value.failure.stops_run
        assert Crane(tmp_path / "crane").ls(f"{server.host}/{APP}") == ["old-1"]


@pytest.mark.parametrize("accepts", ["registry-cleanup-probe-.*", "sha256:.*"], ids=["tag", "digest"])
async def test_a_registry_that_accepts_the_deletion_of_what_does_not_exist_is_not_believed(
    setting: Setting, accepts: str
) -> None:
    setting.push("old-1")
    setting.proxy.inject(answers(202), method="DELETE", path=f".*/manifests/{accepts}", times=1)
    async with opened(setting.proxy.url) as registry:
        support = await registry.deletion([APP])
        assert support.deletion is Deletion.WITHOUT_EFFECT
        assert support.detail is not None
        assert f"deletion of a {'tag' if 'probe' in accepts else 'digest'} that it does not have" in support.detail
        assert (support.deletion.unit, support.deletion.possible) == (DeletionUnit.DIGEST, True)
    # Tried all the same, by digest, and verified.
    setting.proxy.inject(answers(202), method="DELETE", path=f".*/manifests/{accepts}", times=1)
    assert await setting.prune("old-.*") == {"old-1": PRUNED}
    assert setting.tags == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (answers(202), Deletion.WITHOUT_EFFECT),
        (answers(301), Deletion.UNKNOWN),
        (answers(404), Deletion.UNKNOWN),
        (answers(404, '{"errors":[{"code":"NAME_UNKNOWN"}]}'), Deletion.UNKNOWN),
        (answers(400), Deletion.BY_DIGEST),
        (answers(500), Deletion.UNKNOWN),
        (answers(403), Deletion.UNKNOWN),
        (answers(405), Deletion.DISABLED),
    ],
)
async def test_an_unclear_answer_to_the_probe_means_digests_only(
    setting3: Setting, fault: Fault, expected: Deletion
) -> None:
    setting3.push("v1")
    setting3.proxy.inject(fault, method="DELETE", path=".*/manifests/registry-cleanup-probe-.*")
    async with opened(setting3.proxy.url) as registry:
        support = await registry.deletion([APP])
    assert support.deletion is expected
    assert support.deletion.unit is DeletionUnit.DIGEST
    # What is told of a registry that would not say is what it said instead.
    assert ("the registry answered" in (support.detail or "")) is (expected is Deletion.UNKNOWN)
    assert setting3.tags == ["v1"]


@pytest.mark.parametrize("fault", [drops_the_answer(), drops_the_connection(), answers(502)])
async def test_an_answer_to_the_probe_that_was_lost_is_asked_for_again(setting3: Setting, fault: Fault) -> None:
    """Or that one run would delete whole digests at a registry that deletes tags alone."""
    setting3.push("v1")
    setting3.proxy.inject(fault, method="DELETE", path=".*/manifests/registry-cleanup-probe-.*", times=2)
    async with opened(setting3.proxy.url) as registry:
        assert await deletes(registry, APP) is Deletion.BY_TAG


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# What changes before the deletion


async def test_a_tag_that_moved_since_the_plan_stays(setting: Setting) -> None:
    setting.push("old-1", seed="before")
    setting.push("old-2")
    found = await setting.prune("old-.*", between=lambda: setting.push("old-1", seed="after"))
    assert found == {"old-1": MOVED, "old-2": PRUNED}
    assert setting.tags == ["old-1"]


async def test_a_tag_that_moves_at_the_last_moment_stays(setting3: Setting) -> None:
    setting3.push("old-1", seed="before")
    setting3.push("kept")
    # After the look at the whole repository has seen it.
    hook = after(lambda: setting3.push("old-1", seed="after"))
    async with opened(setting3.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting3.proxy.inject(hook, method="HEAD", path=".*/manifests/old-1", times=1)
        assert await applied(registry, plan, deletion) == {"old-1": MOVED}
    assert setting3.tags == ["kept", "old-1"]


async def test_a_tag_that_is_gone_by_then_is_already_gone(setting: Setting) -> None:
    gone = setting.push("old-1")
    setting.push("old-2")
    found = await setting.prune("old-.*", between=lambda: setting.delete(gone))
    assert found == {"old-1": GONE, "old-2": PRUNED}
    assert len(setting.deletions) == 1


async def test_a_repository_that_is_gone_by_then_is_already_gone(setting: Setting) -> None:
    digest = setting.push("old-1", "old-2")
    assert await setting.prune("old-.*", between=lambda: setting.delete(digest)) == {"old-1": GONE, "old-2": GONE}
    assert setting.deletions == []


@pytest.mark.parametrize("listed_as", ["child", "grandchild"])
async def test_a_new_index_saves_the_digest_that_it_lists(setting2: Setting, listed_as: str) -> None:
    planned_digest = setting2.push("old-1")
    setting2.push("old-2")

    def push() -> None:
        index = setting2.push_index("new", children=[planned_digest])
        if listed_as == "grandchild":
            setting2.push_index("new", children=[index])

    assert await setting2.prune("old-.*", between=push) == {"old-1": NOW_SHARED, "old-2": PRUNED}
    assert setting2.tags == ["new", "old-1"]
    assert setting2.exists(planned_digest)


async def test_a_tag_pushed_onto_a_planned_digest_saves_it(setting2: Setting) -> None:
    digest = setting2.push("old-1", "old-2", seed="shared")
    found = await setting2.prune("old-.*", between=lambda: setting2.push("new", seed="shared"))
    assert found == {"old-1": NOW_SHARED, "old-2": NOW_SHARED}
    assert setting2.deletions == []
    assert setting2.tags == ["new", "old-1", "old-2"]
    assert setting2.exists(digest)


async def test_a_tag_that_moves_onto_a_planned_digest_saves_it(setting2: Setting) -> None:
    setting2.push("old-1", seed="one")
    setting2.push("old-2", seed="two")
    found = await setting2.prune("old-.*", between=lambda: setting2.push("old-1", seed="two"))
    assert found == {"old-1": MOVED, "old-2": NOW_SHARED}
    assert setting2.tags == ["old-1", "old-2"]


async def test_by_tag_a_new_sibling_saves_nothing_and_loses_nothing(setting3: Setting) -> None:
    setting3.push("old-1", seed="shared")
    found = await setting3.prune("old-.*", between=lambda: setting3.push("new", seed="shared"))
    assert found == {"old-1": PRUNED}
    assert setting3.tags == ["new"]


async def test_a_last_look_that_fails_deletes_nothing(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("old-2")
    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting.proxy.requests.clear()
        setting.proxy.inject(answers(403), method="HEAD", path=".*/manifests/old-2")
        with pytest.raises(DeniedError):
            await applied(registry, plan, deletion)
    assert setting.deletions == []
    assert setting.tags == ["old-1", "old-2"]


# Stopping


async def test_before_each_deletion_the_run_may_be_stopped(setting: Setting) -> None:
    for number in range(4):
        setting.push(f"old-{number}")
    asked: list[int] = []

    async def proceed() -> None:
        asked.append(len(setting.deletions))
        if len(asked) == 3:
            raise InterruptedRunError("suspended")

    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting.proxy.requests.clear()
        with pytest.raises(InterruptedRunError):
            await applied(registry, plan, deletion, proceed)
    # Asked with none, one and two sent: before each, not once for all.
    assert asked == [0, 1, 2]
    assert len(setting.tags) == 2


async def test_a_registry_that_stops_to_allow_deletion_ends_it(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("old-2")
    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting.proxy.requests.clear()
        setting.proxy.inject(answers(405), method="DELETE")
        with pytest.raises(DeletionDisabledError):
            await applied(registry, plan, deletion)
    assert len(setting.deletions) == 1
    assert setting.tags == ["old-1", "old-2"]


# Siblings


def _deletes_the_digest(setting: Setting, digest: str) -> Fault:
    """Take the deletion of a tag for one of its digest, as some registries do."""

    async def fault(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        await asyncio.to_thread(setting.delete, digest)
        return web.Response(status=202)

    return fault


@pytest.mark.parametrize("sibling", ["kept", "old-2"], ids=["one-that-stays", "one-that-goes-too"])
async def test_a_sibling_that_goes_along_stops_the_run(setting3: Setting, sibling: str) -> None:
    later = setting3.push("old-9")
    digest = setting3.push("old-1", sibling, seed="first")
    async with opened(setting3.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*"))
        setting3.proxy.requests.clear()
        setting3.proxy.inject(_deletes_the_digest(setting3, later), method="DELETE", path=".*/manifests/old-9")
        setting3.proxy.inject(_deletes_the_digest(setting3, digest), method="DELETE", path=".*/manifests/old-[12]")
        with pytest.raises(SiblingLostError, match=f"{APP}:{sibling}") as caught:
            await applied(registry, plan, deletion)
    assert caught.value.failure.stops_run
    assert setting3.deletions[-1] == "old-1"


async def test_a_sibling_that_a_person_took_away_stops_nothing(setting3: Setting) -> None:
    setting3.push("old-1", "old-2", "old-3", "kept", seed="shared")

    def take_away() -> None:
        setting3.delete("old-2")
        setting3.delete("kept")

    found = await setting3.prune("old-.*", between=take_away)
    assert found == {"old-1": PRUNED, "old-2": GONE, "old-3": PRUNED}
    assert setting3.tags == []


async def test_a_manifest_that_outlives_its_tag_proves_once_that_tags_go_alone(setting3: Setting) -> None:
    tags = [f"old-{number}" for number in range(5)]
    digest = setting3.push(*tags, "kept")
    assert await setting3.prune("old-.*") == dict.fromkeys(tags, PRUNED)
    heads = references(setting3.proxy.requests, "HEAD")
    assert heads.count(digest) == 1
    # The last look, right before, and right after.
    assert [heads.count(tag) for tag in [*tags, "kept"]] == [3, 3, 3, 3, 3, 0]


async def test_a_registry_that_drops_a_manifest_with_its_last_tag_is_no_reason_to_stop(setting3: Setting) -> None:
    first, second = setting3.push("old-1"), setting3.push("old-2")
    setting3.push("kept")
    for tag, digest in (("old-1", first), ("old-2", second)):
        setting3.proxy.inject(_deletes_the_digest(setting3, digest), method="DELETE", path=f".*/manifests/{tag}")
    assert await setting3.prune("old-.*") == {"old-1": PRUNED, "old-2": PRUNED}
    assert setting3.tags == ["kept"]
