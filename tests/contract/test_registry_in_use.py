"""What runs stays at real registries: known by digest, by image ID or by tag, before the plan and since."""

from collections.abc import Collection
from contextlib import aclosing
from dataclasses import replace

import pytest

from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UsedSince
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.reference import Digest, parse_digest
from tests.support.clients import opened, planned, prunes
from tests.support.pruning import APP, Setting

PRUNED, NOW_IN_USE, NOW_SHARED = (Outcome.PRUNED, None), (Outcome.NOW_IN_USE, None), (Outcome.NOW_SHARED, None)


def _config(setting: Setting, digest: str) -> str:
    return str(setting.crane.manifest(f"{setting.server.host}/{APP}@{digest}")["config"]["digest"])


def _runs(*digests: str, tags: tuple[str, ...] = ()) -> InUse:
    """Return what pods use that name the repository and run these digests, as containerd tells."""
    return InUse(
        frozenset(map(parse_digest, digests)),
        frozenset((APP, tag) for tag in tags),
        repositories={parse_digest(digest): frozenset({APP}) for digest in digests},
    )


def _runs_by_id(image_id: str) -> InUse:
    """Return what a pod uses that names the repository and runs a bare image ID, as CRI-O tells."""
    used: Digest = parse_digest(image_id)
    return InUse(frozenset({used}), image_ids={used: frozenset({APP})})


# When the plan is made


async def test_the_image_of_a_moved_tag_stays_while_it_runs(setting: Setting) -> None:
    before = setting.push("stable", "old-1", seed="before")
    setting.push("stable", seed="after")
    setting.push("old-2")
    found = await setting.prune("old-.*", untagged=Untagged.DELETE, in_use=_runs(before))
    assert (found["old-2"], found.get("old-1"), found.get(before)) == (PRUNED, None, None)
    assert (setting.tags, setting.left(before)) == (["old-1", "stable"], [before])


@pytest.mark.parametrize("kept", ["old-1", "old-index"])
async def test_an_image_that_runs_by_its_id_stays(setting: Setting, kept: str) -> None:
    image, child = setting.push("old-1"), setting.push(seed="child")
    setting.push("old-2")
    setting.push_index("old-index", children=[child])
    setting.push_index("old-other", children=[setting.push(seed="other child")])
    used = {"old-1": image, "old-index": child}[kept]
    found = await setting.prune("old-.*", in_use=_runs_by_id(_config(setting, used)))
    assert (len(found), setting.tags) == (3, [kept])


async def test_an_image_id_is_no_manifest_that_may_be_asked_for(setting: Setting) -> None:
    # Of an image that no tag names any more, only the config is known to run: asked for it, Distribution 2 answers 500.
    config = _config(setting, setting.push("stable", seed="before"))
    setting.push("stable", seed="after")
    setting.push("old-1")
    assert await setting.prune("old-.*", in_use=_runs_by_id(config)) == {}


async def test_an_image_id_that_is_nowhere_in_the_repository_keeps_all_of_it(setting: Setting) -> None:
    setting.push("old-1")
    setting.push_index("old-index", children=[setting.push(seed="child")])
    assert await setting.prune("old-.*", in_use=_runs_by_id("sha256:" + "0" * 64)) == {}
    assert setting.tags == ["old-1", "old-index"]


async def test_an_image_id_of_a_manifest_without_a_name_is_found(setting: Setting) -> None:
    moved = setting.push("stable", seed="before")
    setting.push("stable", seed="after")
    setting.push("old-1")
    assert await setting.prune("old-.*", in_use=_runs_by_id(moved)) == {"old-1": PRUNED}


async def test_an_image_id_of_a_platform_of_a_digest_that_the_pod_names_is_found(setting: Setting) -> None:
    child = setting.push(seed="child")
    index = setting.push_index(children=[child])
    setting.push("old-1")
    using = _runs_by_id(_config(setting, child))
    named = parse_digest(index)
    using = replace(using, digests=using.digests | {named}, repositories={named: frozenset({APP})})
    assert await setting.prune("old-.*", in_use=using) == {"old-1": PRUNED}


# Since then


async def test_what_a_pod_runs_since_the_plan_stays(setting: Setting) -> None:
    digest = setting.push("old-1")
    setting.push("old-2", "old-3", seed="two tags")
    setting.push("old-4")
    found = await setting.prune("old-.*", since=_runs(digest, tags=("old-2",)))
    sibling = NOW_IN_USE if setting.by_digest else PRUNED
    assert found == {"old-1": NOW_IN_USE, "old-2": NOW_IN_USE, "old-3": sibling, "old-4": PRUNED}
    assert setting.tags == (["old-1", "old-2", "old-3"] if setting.by_digest else ["old-1", "old-2"])
    # Nothing was sent for what stays.
    assert digest not in setting.deletions
    assert len(setting.deletions) == (1 if setting.by_digest else 2)


@pytest.mark.parametrize("by_id", [False, True])
async def test_an_index_that_lists_what_a_pod_runs_since_stays_whole(setting: Setting, by_id: bool) -> None:
    amd64, arm64 = setting.push("old-amd64"), setting.push("old-arm64")
    index = setting.push_index("old-index", children=[amd64, arm64])
    since = _runs_by_id(_config(setting, amd64)) if by_id else _runs(amd64)
    found = await setting.prune("old-.*", since=since)
    assert found.pop("old-index") == NOW_IN_USE
    # Where tags go alone, only their own use keeps them.
    alone = {"old-amd64": NOW_IN_USE, "old-arm64": PRUNED}
    assert found == (dict.fromkeys(alone, NOW_SHARED) if setting.by_digest else alone)
    assert setting.left(index, amd64, arm64) == [index, amd64, arm64]


@pytest.mark.parametrize("used", ["outer", "inner", "child"])
async def test_a_manifest_without_a_name_that_a_pod_runs_since_stays_with_what_it_lists(
    setting: Setting, used: str
) -> None:
    child, other = setting.push(seed="child"), setting.push(seed="other")
    inner = setting.push_index(children=[child, other])
    outer = setting.push_index("old-1", children=[inner])
    runs = {"outer": outer, "inner": inner, "child": child}[used]
    found = await setting.prune("old-.*", untagged=Untagged.DELETE, since=_runs(runs))
    assert found["old-1"] == NOW_IN_USE
    assert setting.left(outer, inner, child, other) == [outer, inner, child, other]
    assert setting.tags == ["old-1"]


async def test_what_is_left_without_a_name_and_is_used_by_then_stays(setting: Setting) -> None:
    used, other = setting.push(seed="used"), setting.push(seed="other")
    index = setting.push_index("old-1", children=[used, other])
    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*", untagged=Untagged.DELETE))

        async def may_go(digest: Digest, tags: Collection[str]) -> bool:
            since = InUse() if tags else _runs(used)  # a pod appears once the tag is gone
            return not UsedSince(plan, since).saves(digest, tags)

        async with aclosing(registry.prune(plan, deletion, may_go)) as ends:
            found = {item.tag if isinstance(item, ItemOutcome) else item.digest: item.outcome async for item in ends}
    first = used if setting.by_digest else index
    assert (found["old-1"], found[first]) == (Outcome.PRUNED, Outcome.NOW_IN_USE)
    # Where the tag went alone, the index that lists it is still there. What it lists stays in any case.
    assert setting.left(index, used, other) == [*([] if setting.by_digest else [index]), used, other]
