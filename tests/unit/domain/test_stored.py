"""Which links of a stored repository go by a written plan: no more than it says, and nothing that what stays needs."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import ALL_TAGS, NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.domain.stored import (
    StoragePlan,
    StoredRepository,
    UnfoundImageError,
    plan_storage,
    used_tags,
)
from registry_cleanup.domain.written_plan import PlannedRepository, PlannedTag
from tests.support.builders import digest, image, index, referrer_tag

NAME = "team/app"


def stored(
    tags: Mapping[str, str | None],
    *manifests: Manifest,
    lost: Collection[str] = (),
    trashed: Mapping[str, str] | None = None,
    trashed_revisions: Collection[str] = (),
) -> StoredRepository:
    """Return a repository: each tag with the word of its manifest, and all manifests that are there."""
    words = {word for word in tags.values() if word is not None} | set((trashed or {}).values())
    known = {digest(word): image(word) for word in words if word not in lost}
    known |= {manifest.digest: manifest for manifest in manifests}
    gone = frozenset(map(digest, trashed_revisions))
    return StoredRepository(
        NAME,
        {tag: None if word is None else digest(word) for tag, word in tags.items()},
        frozenset((known.keys() | set(map(digest, lost))) - gone),
        known,
        {tag: digest(word) for tag, word in (trashed or {}).items()},
        gone,
    )


def planned(tags: Mapping[str, str | PlannedTag], untagged: Collection[str] = ()) -> PlannedRepository:
    """Return what is planned: each tag with the word of the manifest that it named."""
    items = {tag: what if isinstance(what, PlannedTag) else PlannedTag(digest(what)) for tag, what in tags.items()}
    return PlannedRepository(NAME, items, frozenset(map(digest, untagged)))


def plan(
    what: StoredRepository,
    wanted: PlannedRepository,
    unit: DeletionUnit | None = DeletionUnit.DIGEST,
    *,
    deletes_untagged: bool = False,
) -> StoragePlan:
    return plan_storage(what, wanted, unit, deletes_untagged=deletes_untagged)


def tags(found: StoragePlan) -> list[str]:
    return [link.tag for link in found.links if link.tag is not None]


def manifests(found: StoragePlan) -> list[Digest]:
    return [link.digest for link in found.links if link.tag is None]


def ends(found: StoragePlan) -> dict[str, str]:
    return {end.tag: end.why for end in found.ends}


def test_a_planned_tag_goes_with_its_manifest_where_the_plan_deletes_digests() -> None:
    found = plan(stored({"old": "a", "new": "b"}), planned({"old": "a"}))
    assert (tags(found), manifests(found), ends(found)) == (["old"], [digest("a")], {"old": "Pruned"})


@pytest.mark.parametrize("unit", [DeletionUnit.TAG, None])
def test_only_the_tag_goes_where_the_plan_deletes_tags_or_does_not_say(unit: DeletionUnit | None) -> None:
    found = plan(stored({"old": "a"}), planned({"old": "a"}, ["a"]), unit)
    assert (tags(found), manifests(found)) == (["old"], [])


def test_where_untagged_manifests_go_too_the_manifest_goes_after_its_last_tag() -> None:
    found = plan(stored({"old": "a"}), planned({"old": "a"}, ["a"]), DeletionUnit.TAG, deletes_untagged=True)
    assert (tags(found), manifests(found)) == (["old"], [digest("a")])


def test_an_untagged_manifest_goes_only_if_the_plan_names_it() -> None:
    what = stored({"old": "i"}, index("i", ["x", "y"]), image("x"), image("y"))
    found = plan(what, planned({"old": "i"}, ["x"]), deletes_untagged=True)
    assert manifests(found) == [digest("i"), digest("x")]


def test_a_tag_that_names_something_else_by_now_stays_with_all_tags_of_its_group() -> None:
    found = plan(stored({"old-1": "b", "old-2": "a"}), planned({"old-1": "a", "old-2": "a"}))
    assert found.links == ()
    assert ends(found) == {"old-1": "Moved", "old-2": "NowShared"}


@pytest.mark.parametrize("unit", list(DeletionUnit))
def test_a_group_of_which_a_tag_moved_stays_whatever_is_deleted(unit: DeletionUnit) -> None:
    assert plan(stored({"old-1": "b", "old-2": "a"}), planned({"old-1": "a", "old-2": "a"}), unit).links == ()


def test_what_is_referred_to_by_a_group_that_stays_stays_too() -> None:
    what = stored({"old-1": "b", "old-2": "i", "old-3": "x"}, index("i", ["x"]))
    found = plan(what, planned({"old-1": "i", "old-2": "i", "old-3": "x"}))
    assert ends(found) == {"old-1": "Moved", "old-2": "NowShared", "old-3": "NowShared"}


def test_a_tag_that_was_pushed_onto_a_planned_digest_since_keeps_it() -> None:
    found = plan(stored({"old": "a", "new": "a"}), planned({"old": "a"}))
    assert (found.links, ends(found)) == ((), {"old": "NowShared"})


def test_where_tags_are_deleted_a_tag_pushed_onto_the_digest_since_keeps_the_manifest_alone() -> None:
    what = stored({"old": "a", "new": "a"})
    found = plan(what, planned({"old": "a"}, ["a"]), DeletionUnit.TAG, deletes_untagged=True)
    assert (tags(found), manifests(found)) == (["old"], [])


def test_what_an_index_that_stays_lists_stays() -> None:
    what = stored({"old": "x", "kept": "i"}, index("i", ["x"]))
    assert plan(what, planned({"old": "x"})).links == ()


def test_what_an_index_without_any_tag_lists_stays_nested_too() -> None:
    what = stored({"old": "x"}, index("i", ["j"]), index("j", ["x"]))
    assert plan(what, planned({"old": "x"})).links == ()


def test_a_manifest_that_an_index_left_behind_lists_stays_though_its_tag_goes() -> None:
    """The nested index is left without a name, and stays; nobody asked for its end."""
    what = stored({"old": "i", "old-x": "x"}, index("i", ["j"]), index("j", ["x"]))
    found = plan(what, planned({"old": "i", "old-x": "x"}, ["j"]))
    assert (sorted(tags(found)), manifests(found)) == (["old", "old-x"], [digest("i")])


def test_indexes_go_before_what_they_list() -> None:
    what = stored({"old-x": "x", "old-i": "i"}, index("i", ["x"]))
    assert manifests(plan(what, planned({"old-x": "x", "old-i": "i"}))) == [digest("i"), digest("x")]


def test_a_signature_goes_with_what_it_signs_and_stays_with_it() -> None:
    signature = referrer_tag("a", ".sig")
    signed = planned({"old": "a", signature: "s"})
    assert set(tags(plan(stored({"old": "a", signature: "s"}, image("s", subject="a")), signed))) == {"old", signature}
    stays = plan(stored({"old": "a", "new": "a", signature: "s"}, image("s", subject="a")), signed)
    assert stays.links == ()


def test_the_manifest_of_a_referrer_whose_subject_stays_stays() -> None:
    what = stored({"old": "s", "kept": "a"}, image("s", subject="a"))
    found = plan(what, planned({"old": "s"}))
    assert manifests(found) == []


def test_what_the_plan_holds_back_or_a_run_found_needed_stays_for_that_reason() -> None:
    held = planned({"a": PlannedTag(digest("x"), None, "GracePeriod"), "b": PlannedTag(digest("y"), None, "NowInUse")})
    found = plan(stored({"a": "x", "b": "y"}), held)
    assert (found.links, ends(found)) == ((), {"a": "GracePeriod", "b": "NowInUse"})


def test_a_tag_that_is_gone_already_is_no_failure() -> None:
    assert ends(plan(stored({"new": "b"}), planned({"old": "a"}))) == {"old": "AlreadyGone"}


def test_a_tag_whose_manifest_the_storage_has_lost_stays() -> None:
    found = plan(stored({"old": "a"}, lost=["a"]), planned({"old": "a"}))
    assert (found.links, ends(found)) == ((), {"old": "Dangling"})


def test_a_tag_whose_link_is_not_written_stays() -> None:
    assert ends(plan(stored({"old": None}), planned({"old": "a"}))) == {"old": "Moved"}


def test_a_repeated_run_moves_what_is_left_and_no_more() -> None:
    what = stored({"old-2": "a"}, trashed={"old-1": "a", "done": "b"}, trashed_revisions=["b"])
    found = plan(what, planned({"old-1": "a", "old-2": "a", "done": "b"}))
    assert (tags(found), manifests(found)) == (["old-2"], [digest("a")])
    assert ends(found) == dict.fromkeys(["old-1", "old-2", "done"], "Pruned")


def test_a_tag_that_was_pushed_again_since_it_went_stays() -> None:
    found = plan(stored({"old": "a"}, trashed={"old": "a"}), planned({"old": "a"}))
    assert (found.links, ends(found)) == ((), {"old": "Moved"})


# What is in use by now


def _used(tags_: Collection[str] = (), digests: Collection[Digest] = (), **more: object) -> InUse:
    return InUse(frozenset(digests), frozenset((NAME, tag) for tag in tags_), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "in_use",
    [
        _used(["old"]),
        _used(digests=[digest("i")]),
        _used(digests=[digest("child")]),
        _used(digests=[digest("config of child")]),
    ],
)
def test_what_came_in_use_since_the_plan_was_made_stays_with_its_siblings_and_referrers(in_use: InUse) -> None:
    signature = referrer_tag("i", ".sig")
    child = image("child", config="config of child")
    what = stored({"old": "i", "sibling": "i", signature: "s", "other": "o"}, index("i", ["child"]), child)
    wanted = planned(
        {
            "old": "i",
            "sibling": "i",
            signature: PlannedTag(digest("s"), subject_key(digest("i"))),
            "other": "o",
        },
        ["child"],
    )
    found = plan_storage(what, wanted, DeletionUnit.DIGEST, deletes_untagged=True, used=used_tags(what, in_use))
    assert (tags(found), manifests(found)) == (["other"], [digest("o")])
    assert ends(found)["old"] == "NowInUse"


@pytest.mark.parametrize("in_use", [_used(["old"]), _used(digests=[digest("i")]), _used(digests=[digest("child")])])
def test_the_manifest_stays_of_a_tag_that_came_in_use_after_an_interrupted_attempt_had_moved_it(in_use: InUse) -> None:
    # The manifest could be pulled by its digest since; the tag is in the trash.
    what = stored({"kept": "k"}, index("i", ["child"]), image("child"), trashed={"old": "i"})
    what = replace(what, manifests={**what.manifests, digest("i"): index("i", ["child"])})
    wanted = planned({"old": "i"}, ["child"])
    assert manifests(plan(what, wanted, deletes_untagged=True)) == [digest("i"), digest("child")]
    found = plan_storage(what, wanted, DeletionUnit.DIGEST, deletes_untagged=True, used=used_tags(what, in_use))
    assert (found.links, ends(found)) == ((), {"old": "Pruned"})


def test_nothing_is_known_where_an_image_runs_that_is_nowhere_in_the_repository() -> None:
    what = stored({"old": "a"})
    ids = {digest("elsewhere"): frozenset({NAME})}
    with pytest.raises(UnfoundImageError, match=digest("elsewhere")):
        used_tags(what, _used(digests=ids, image_ids=ids))


def test_where_nothing_is_in_use_nothing_is_looked_for() -> None:
    assert used_tags(stored({"old": "a"}), NOTHING_IN_USE) == frozenset()


def test_all_tags_stay_where_nobody_can_tell_which_one_is_used() -> None:
    what = stored({"old": "a", "older": "b"})
    used = used_tags(what, _used([ALL_TAGS]))
    found = plan_storage(
        what, planned({"old": "a", "older": "b"}), DeletionUnit.DIGEST, deletes_untagged=True, used=used
    )
    assert (found.links, ends(found)) == ((), {"old": "NowInUse", "older": "NowInUse"})
