"""What pruned tags leave without a name goes where the policy says so, in an order that breaks nothing.

Referrers go after their subjects, and nothing goes that a tag stands on or an index lists, read again right before.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.ports import InterruptedRunError
from registry_cleanup.registry.errors import ServerFaultError
from tests.support.clients import HandClock, applied, kinds, opened, planned, prunes
from tests.support.faulty import Fault, Forward, answers, before
from tests.support.images import push_image
from tests.support.pruning import APP, Setting

DELETE = Untagged.DELETE
KEEP = "registrycleanup.dev/keep"
PRUNED, GONE, MOVED = (Outcome.PRUNED, None), (Outcome.ALREADY_GONE, None), (Outcome.MOVED, None)
NOW_SHARED, FAILED = (Outcome.NOW_SHARED, None), (Outcome.FAILED, "HTTP 500")
NOT_DELETED = (Outcome.NOT_DELETED, None)


def _signature(digest: str, suffix: str = "") -> str:
    """Return the tag by which a referrer of `digest` is found where there is no API."""
    return digest.replace(":", "-") + suffix


# What goes


async def test_the_platforms_of_a_pruned_index_go_after_it(setting: Setting) -> None:
    children = sorted(setting.push(seed=f"platform {number}") for number in range(2))
    index = setting.push_index("old-1", children=children)
    setting.push("kept")
    found = await setting.prune("old-.*", untagged=DELETE)
    own = {} if setting.by_digest else {index: PRUNED}
    assert found == {"old-1": PRUNED, **own, **dict.fromkeys(children, PRUNED)}
    assert setting.deletions == [*([] if setting.by_digest else ["old-1"]), index, *children]
    assert (setting.tags, setting.left(index, *children)) == (["kept"], [])


async def test_nested_indexes_go_from_the_outside_in(setting: Setting) -> None:
    child = setting.push(seed="child")
    inner = setting.push_index(children=[child])
    outer = setting.push_index("old-1", children=[inner, child])
    await setting.prune("old-.*", untagged=DELETE)
    assert setting.deletions[-3:] == [outer, inner, child]
    assert setting.left(outer, inner, child) == []


async def test_a_manifest_goes_by_digest_once_its_last_tag_is_gone(setting3: Setting) -> None:
    digest = setting3.push("old-1", "old-2")
    found = await setting3.prune("old-.*", untagged=DELETE)
    assert found == {"old-1": PRUNED, "old-2": PRUNED, digest: PRUNED}
    assert setting3.deletions == ["old-1", "old-2", digest]
    assert setting3.left(digest) == []


async def test_a_child_whose_own_tag_goes_too_goes(setting: Setting) -> None:
    child = setting.push("old-child")
    index = setting.push_index("old-index", children=[child])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found["old-child"], found["old-index"]) == (PRUNED, PRUNED)
    assert setting.deletions[-2:] == [index, child]
    assert setting.left(index, child) == []


async def test_where_the_policy_does_not_say_so_it_stays(setting: Setting) -> None:
    child = setting.push(seed="child")
    index = setting.push_index("old-1", children=[child])
    assert await setting.prune("old-.*") == {"old-1": PRUNED}
    assert setting.left(index, child) == ([child] if setting.by_digest else [index, child])


# What holds it


async def test_a_child_that_a_kept_index_lists_too_stays(setting: Setting) -> None:
    shared, own = setting.push(seed="shared"), setting.push(seed="own")
    setting.push_index("old-1", children=[shared, own])
    setting.push_index("kept", children=[shared])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found.get(shared), found[own]) == (None, PRUNED)
    assert setting.left(shared, own) == [shared]


async def test_a_child_with_a_tag_of_its_own_stays(setting: Setting) -> None:
    tagged, bare = setting.push("kept", seed="tagged"), setting.push(seed="bare")
    setting.push_index("old-1", children=[tagged, bare])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found.get(tagged), found[bare]) == (None, PRUNED)
    assert (setting.tags, setting.left(tagged, bare)) == (["kept"], [tagged])


async def test_what_a_digest_in_use_lists_stays_though_no_tag_names_it(setting: Setting) -> None:
    shared, own = setting.push(seed="shared"), setting.push(seed="own")
    used = setting.push_index(children=[shared])
    setting.push_index("old-1", children=[shared, own])
    in_use = InUse(digests=frozenset({parse_digest(used)}))
    found = await setting.prune("old-.*", untagged=DELETE, in_use=in_use)
    assert (found["old-1"], found.get(shared), found[own]) == (PRUNED, None, PRUNED)
    assert setting.left(used, shared, own) == [used, shared]


async def test_what_is_found_to_be_needed_after_the_plan_was_made_stays(setting: Setting) -> None:
    child = setting.push(seed="child")
    setting.push_index("old-1", children=[child])
    async with opened(setting.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*", untagged=DELETE))
        found = await applied(registry, replace(plan, needed=frozenset({parse_digest(child)})), deletion)
    assert (found["old-1"], found[child]) == (PRUNED, NOW_SHARED)
    assert setting.exists(child)


async def test_a_pin_on_an_image_keeps_its_tags(setting: Setting) -> None:
    pin = {KEEP: "true"}
    push_image(setting.server.url, APP, ["old-annotated"], annotations=pin)
    push_image(setting.server.url, APP, ["old-labelled"], labels=pin)
    platform = push_image(setting.server.url, APP, labels=pin, seed="platform")
    setting.push_index("old-index", children=[platform])
    setting.push("old-1")
    found = await setting.prune("old-.*", untagged=DELETE)
    assert [tag for tag in found if not tag.startswith("sha256:")] == ["old-1"]
    assert setting.tags == ["old-annotated", "old-index", "old-labelled"]
    assert setting.exists(platform)


# What changes before the deletion


@pytest.mark.parametrize("listed", [False, True], ids=["tag", "index"])
async def test_what_is_pushed_onto_an_untagged_manifest_while_tags_go_saves_it(setting: Setting, listed: bool) -> None:
    saved, other = setting.push(seed="saved"), setting.push(seed="other")
    setting.push_index("old-1", children=[saved, other])

    def push() -> None:
        if listed:
            setting.push_index("new", children=[saved])
        else:
            setting.push("new", seed="saved")

    def on_the_first_deletion() -> None:
        # Every look but the one right before the untagged manifests lies behind.
        setting.proxy.inject(before(push), method="DELETE", times=1)

    found = await setting.prune("old-.*", between=on_the_first_deletion, untagged=DELETE)
    assert (found[saved], found[other]) == (NOW_SHARED, PRUNED)
    assert (setting.tags, setting.left(saved, other)) == (["new"], [saved])


async def test_a_tag_pushed_onto_the_digest_of_a_removed_tag_saves_it(setting3: Setting) -> None:
    digest = setting3.push("old-1", seed="shared")
    hook = before(lambda: setting3.push("new", seed="shared"))
    setting3.proxy.inject(hook, method="DELETE", path=".*/manifests/old-1")
    assert await setting3.prune("old-.*", untagged=DELETE) == {"old-1": PRUNED, digest: NOW_SHARED}
    assert setting3.deletions == ["old-1"]
    assert setting3.crane.digest(f"{setting3.server.host}/{APP}:new") == digest


async def test_an_index_that_a_new_tag_saves_keeps_what_it_lists(setting3: Setting) -> None:
    child = setting3.push(seed="child")
    index = setting3.push_index("old-1", children=[child])
    hook = before(lambda: setting3.push_index("new", children=[child]))
    setting3.proxy.inject(hook, method="DELETE", path=".*/manifests/old-1")
    found = await setting3.prune("old-.*", untagged=DELETE)
    assert found == {"old-1": PRUNED, index: NOW_SHARED, child: NOW_SHARED}
    assert setting3.left(index, child) == [index, child]


async def test_a_look_that_is_too_old_is_renewed(setting: Setting) -> None:
    first, second = sorted(setting.push(seed=seed) for seed in ("a", "b"))
    seed = "a" if setting.push(seed="a") == second else "b"
    setting.push_index("old-1", children=[first, second])
    clock = HandClock(datetime.now(UTC))

    def push() -> None:
        setting.push("new", seed=seed)
        clock.move(timedelta(seconds=31))

    async with opened(setting.proxy.url, clock=clock) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*", untagged=DELETE))
        setting.proxy.inject(before(push), method="DELETE", path=f".*/manifests/{first}")
        found = await applied(registry, plan, deletion)
    assert (found[first], found[second]) == (PRUNED, NOW_SHARED)
    assert setting.left(first, second) == [second]


async def test_the_manifest_of_a_tag_that_moved_stays(setting3: Setting) -> None:
    moved, other = setting3.push("old-1", seed="before"), setting3.push("old-2")
    found = await setting3.prune("old-.*", between=lambda: setting3.push("old-1", seed="after"), untagged=DELETE)
    assert found == {"old-1": MOVED, "old-2": PRUNED, other: PRUNED}
    assert setting3.left(moved, other) == [moved]


async def test_the_platforms_of_an_index_whose_tag_moved_stay(setting: Setting) -> None:
    child = setting.push(seed="child")
    index = setting.push_index("old-1", children=[child])
    found = await setting.prune("old-.*", between=lambda: setting.push("old-1", seed="after"), untagged=DELETE)
    assert found.get(child) in (None, NOW_SHARED)
    assert setting.left(index, child) == [index, child]


async def test_an_index_that_is_gone_by_then_leaves_its_platforms_to_us(setting: Setting) -> None:
    child = setting.push(seed="child")
    index = setting.push_index("old-1", children=[child])
    found = await setting.prune("old-.*", between=lambda: setting.delete(index), untagged=DELETE)
    own = {} if setting.by_digest else {index: GONE}
    assert found == {"old-1": GONE, **own, child: PRUNED}


async def test_a_manifest_that_the_registry_drops_with_its_last_tag_is_already_gone(setting3: Setting) -> None:
    child = setting3.push(seed="child")
    index = setting3.push_index("old-1", children=[child])
    setting3.push("kept")
    setting3.proxy.inject(_deletes(setting3, index), method="DELETE", path=".*/manifests/old-1")
    found = await setting3.prune("old-.*", untagged=DELETE)
    assert found == {"old-1": PRUNED, index: GONE, child: PRUNED}


def _deletes(setting: Setting, digest: str) -> Fault:
    """Take the deletion of a tag for one of its digest, as some registries do."""

    async def fault(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        await asyncio.to_thread(setting.delete, digest)
        return web.Response(status=202)

    return fault


# What fails


async def test_the_manifest_of_a_tag_that_could_not_be_removed_stays(setting3: Setting) -> None:
    digest = setting3.push("old-1", "old-2")
    setting3.proxy.inject(answers(500), method="DELETE", path=".*/manifests/old-2")
    assert await setting3.prune("old-.*", untagged=DELETE) == {"old-1": PRUNED, "old-2": FAILED}
    assert (setting3.tags, setting3.left(digest)) == (["old-2"], [digest])


@pytest.mark.parametrize("child_tags", [(), ("old-child",)], ids=["untagged-child", "tagged-child"])
@pytest.mark.parametrize(("fault", "outcome"), [(answers(500), FAILED), (answers(202), NOT_DELETED)])
async def test_an_index_that_stays_keeps_what_it_lists(
    setting: Setting, child_tags: tuple[str, ...], fault: Fault, outcome: tuple[Outcome, str | None]
) -> None:
    child = setting.push(*child_tags, seed="child")
    index = setting.push_index("old-index", children=[child])
    setting.proxy.inject(fault, method="DELETE", path=f".*/manifests/{index}")
    found = await setting.prune("old-.*", untagged=DELETE)
    if setting.by_digest:
        assert found == {"old-index": outcome, **dict.fromkeys(child_tags or (child,), NOW_SHARED)}
    else:
        tags = dict.fromkeys(("old-index", *child_tags), PRUNED)
        assert found == {**tags, index: outcome, child: NOW_SHARED}
    assert setting.left(index, child) == [index, child]


async def test_a_manifest_whose_deletion_cannot_be_verified_is_failed_and_ends_the_repository(
    setting: Setting,
) -> None:
    children = sorted(setting.push(seed=f"child {number}") for number in range(2))
    setting.push_index("old-1", children=children)

    async def does_it_and_breaks(_request: web.Request, forward: Forward) -> web.StreamResponse:
        setting.proxy.inject(answers(500), method="HEAD", path=f".*/manifests/{children[0]}")
        return (await forward()).response()

    setting.proxy.inject(does_it_and_breaks, method="DELETE", path=f".*/manifests/{children[0]}")
    with pytest.raises(ServerFaultError):
        await setting.prune("old-.*", untagged=DELETE)
    assert setting.deletions[-1] == children[0]
    assert setting.left(*children) == [children[1]]


async def test_a_last_look_that_fails_deletes_nothing_that_is_untagged(setting: Setting) -> None:
    child = setting.push(seed="child")
    setting.push_index("old-1", children=[child])
    setting.push("kept")

    def breaks() -> None:
        setting.proxy.inject(answers(500), method="HEAD", path=".*/manifests/kept")

    def on_the_first_deletion() -> None:
        setting.proxy.inject(before(breaks), method="DELETE", times=1)

    with pytest.raises(ServerFaultError):
        await setting.prune("old-.*", between=on_the_first_deletion, untagged=DELETE)
    assert len(setting.deletions) == 1
    assert setting.exists(child)


async def test_before_each_untagged_manifest_the_run_may_be_stopped(setting: Setting) -> None:
    children = sorted(setting.push(seed=f"child {number}") for number in range(2))
    setting.push_index("old-1", children=children)
    asked: list[int] = []
    last = 2 if setting.by_digest else 3

    async def proceed() -> None:
        asked.append(len(setting.deletions))
        if len(asked) > last:
            raise InterruptedRunError("suspended")

    with pytest.raises(InterruptedRunError):
        await setting.prune("old-.*", untagged=DELETE, proceed=proceed)
    assert asked == list(range(last + 1))
    assert setting.left(*children) == [children[1]]


# Referrers by their tags


async def test_signature_tags_go_after_their_subject_is_gone(setting: Setting) -> None:
    subject = setting.push("old-1")
    tags = [_signature(subject, suffix) for suffix in (".att", ".sbom", ".sig")]
    signatures = [setting.push(tag) for tag in tags]
    found = await setting.prune("old-.*", untagged=DELETE)
    assert [found[tag] for tag in ("old-1", *tags)] == [PRUNED] * 4
    if setting.by_digest:
        assert setting.deletions[0] == subject
        assert set(setting.deletions[1:]) == set(signatures)
    else:
        assert setting.deletions[:2] == ["old-1", subject]
        assert set(setting.deletions[2:5]) == set(tags)
        assert set(setting.deletions[5:]) == set(signatures)
    assert (setting.tags, setting.left(subject, *signatures)) == ([], [])


async def test_by_digest_signature_tags_go_with_their_subject_even_where_what_is_untagged_stays(
    setting2: Setting,
) -> None:
    subject = setting2.push("old-1")
    signature = setting2.push(_signature(subject, ".sig"))
    await setting2.prune("old-.*")
    assert setting2.deletions == [subject, signature]
    assert setting2.tags == []


async def test_by_tag_signature_tags_stay_with_the_manifest_that_stays(setting3: Setting) -> None:
    subject = setting3.push("old-1")
    setting3.push(_signature(subject, ".sig"))
    assert await setting3.prune("old-.*") == {"old-1": PRUNED}
    assert setting3.tags == [_signature(subject, ".sig")]


async def test_an_index_of_referrers_goes_after_the_subject_and_before_what_it_lists(setting: Setting) -> None:
    subject = setting.push("old-1")
    referrer = setting.push(seed="sbom", subject=subject)
    index = setting.push_index(_signature(subject), children=[referrer])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found[_signature(subject)], found[referrer]) == (PRUNED, PRUNED)
    steps = [subject, index, referrer] if setting.by_digest else [subject, _signature(subject), index, referrer]
    assert setting.deletions[-len(steps) :] == steps
    assert (setting.tags, setting.left(subject, index, referrer)) == ([], [])


async def test_referrers_of_referrers_go_last(setting: Setting) -> None:
    subject = setting.push("old-1")
    sbom = setting.push(_signature(subject, ".sbom"))
    signature = setting.push(_signature(sbom, ".sig"))
    await setting.prune("old-.*", untagged=DELETE)
    assert [each for each in setting.deletions if each.startswith("sha256:")] == [subject, sbom, signature]
    assert setting.tags == []


@pytest.mark.parametrize(("fault", "outcome"), [(answers(500), FAILED), (answers(202), NOT_DELETED)])
async def test_signature_tags_are_not_touched_where_their_subject_stays(
    setting: Setting, fault: Fault, outcome: tuple[Outcome, str | None]
) -> None:
    subject = setting.push("old-1")
    tags = sorted([_signature(subject), _signature(subject, ".sig")])
    setting.push(tags[1])
    setting.push_index(tags[0], children=[setting.push(seed="sbom", subject=subject)])
    setting.proxy.inject(fault, method="DELETE", path=f".*/manifests/{subject}")
    found = await setting.prune("old-.*", untagged=DELETE)
    assert found == ({"old-1": outcome} if setting.by_digest else {"old-1": PRUNED, subject: outcome})
    assert setting.tags == ([*(["old-1"] if setting.by_digest else []), *tags])


async def test_signature_tags_are_not_touched_where_a_new_tag_saves_their_subject(setting: Setting) -> None:
    subject = setting.push("old-1", seed="subject")
    setting.push(_signature(subject, ".sig"))
    found = await setting.prune("old-.*", between=lambda: setting.push("new", seed="subject"), untagged=DELETE)
    assert found == ({"old-1": NOW_SHARED} if setting.by_digest else {"old-1": PRUNED, subject: NOW_SHARED})
    assert _signature(subject, ".sig") in setting.tags


async def test_a_subject_that_is_gone_by_then_lets_its_signature_go(setting: Setting) -> None:
    subject = setting.push("old-1")
    setting.push("kept")
    signature = setting.push(_signature(subject, ".sig"))
    await setting.prune("old-.*", between=lambda: setting.delete(subject), untagged=DELETE)
    assert (setting.tags, setting.left(signature)) == (["kept"], [])


# All of it


async def test_whatever_a_tag_names_can_be_pulled_before_each_deletion(setting: Setting) -> None:
    shared = setting.push("old-shared", seed="shared")
    bare = setting.push(seed="bare")
    inner = setting.push_index("old-inner", children=[shared, bare])
    outer = setting.push_index("old-outer", children=[inner])
    setting.push_index("kept-index", children=[shared])
    setting.push(_signature(outer, ".sig"))
    setting.push_index(_signature(inner), children=[setting.push(seed="sbom", subject=inner)])
    seen: list[int] = []

    def pulls() -> None:
        for tag in setting.tags:
            _pulled(setting, tag)
        seen.append(len(setting.deletions))

    await setting.prune("old-.*", untagged=DELETE, proceed=lambda: asyncio.to_thread(pulls))
    pulls()
    assert seen[-1] == len(setting.deletions) > 5
    kept = ["kept-index", "old-shared"] if setting.by_digest else ["kept-index"]
    assert setting.tags == kept
    assert setting.left(shared, bare, inner, outer) == [shared]


def _pulled(setting: Setting, reference: str) -> None:
    separator = "@" if reference.startswith("sha256:") else ":"
    manifest = setting.crane.manifest(f"{setting.server.host}/{APP}{separator}{reference}")
    for child in manifest.get("manifests", []):
        _pulled(setting, child["digest"])


async def test_what_holds_is_looked_at_once_for_all_untagged_manifests(setting: Setting) -> None:
    children = [setting.push(seed=f"child {number}") for number in range(5)]
    setting.push_index("old-1", children=children)
    setting.push("kept")
    await setting.prune("old-.*", untagged=DELETE)
    # One look before the tags, and one before what they leave.
    assert kinds(setting.proxy.requests)["GET tags"] == 2
