"""The last look before a deletion: what changed since the plan saves what it touches."""

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import (
    Deletion,
    ItemOutcome,
    Outcome,
    leading,
    lookup_seconds,
    one_by_one,
    recheck,
)
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import DigestGroup
from tests.support.builders import digest, image, index, inventory

_DIGESTS, _TAGS = DeletionUnit.DIGEST, DeletionUnit.TAG


def _group(word: str, *tags: str) -> DigestGroup:
    return DigestGroup(digest(word), tags)


def _checked(
    groups: list[DigestGroup], there: Inventory, unit: DeletionUnit = _DIGESTS
) -> tuple[list[DigestGroup], dict[str, Outcome]]:
    remaining, outcomes = recheck(tuple(groups), there, unit)
    return list(remaining), {item.tag: item.outcome for item in outcomes}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_nothing_changed_and_all_goes_in_the_same_order(unit: DeletionUnit) -> None:
    groups = [_group("x", "a", "b"), _group("y", "c")]
    there = inventory({"a": "x", "b": "x", "c": "y", "other": "z"})
    assert _checked(groups, there, unit) == (groups, {})


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_tag_that_is_gone_is_already_gone(unit: DeletionUnit) -> None:
    groups = [_group("x", "a", "b"), _group("y", "c")]
    assert _checked(groups, inventory({"b": "x"}), unit) == (
        [_group("x", "b")],
        {"a": Outcome.ALREADY_GONE, "c": Outcome.ALREADY_GONE},
    )


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_tag_that_names_another_digest_has_moved(unit: DeletionUnit) -> None:
    there = inventory({"a": "new", "b": "y"})
    assert _checked([_group("x", "a"), _group("y", "b")], there, unit) == ([_group("y", "b")], {"a": Outcome.MOVED})


def test_an_outcome_names_the_digest_that_was_planned() -> None:
    _, outcomes = recheck((_group("x", "a"),), inventory({"a": "new"}), _DIGESTS)
    assert outcomes == (ItemOutcome("a", digest("x"), Outcome.MOVED),)
    _, outcomes = recheck((_group("x", "a"),), inventory({"a": "x", "new": "x"}), _DIGESTS)
    assert outcomes == (ItemOutcome("a", digest("x"), Outcome.NOW_SHARED),)


def test_a_new_tag_on_a_digest_saves_it() -> None:
    there = inventory({"a": "x", "b": "x", "new": "x", "c": "y"})
    assert _checked([_group("x", "a", "b"), _group("y", "c")], there) == (
        [_group("y", "c")],
        {"a": Outcome.NOW_SHARED, "b": Outcome.NOW_SHARED},
    )


def test_a_new_tag_on_a_digest_saves_nothing_where_tags_go_alone() -> None:
    groups = [_group("x", "a")]
    assert _checked(groups, inventory({"a": "x", "new": "x"}), _TAGS) == (groups, {})


def test_a_planned_tag_that_moved_onto_another_digest_that_goes_saves_that_one() -> None:
    there = inventory({"a": "y", "b": "y"})
    assert _checked([_group("x", "a"), _group("y", "b")], there) == (
        [],
        {"a": Outcome.MOVED, "b": Outcome.NOW_SHARED},
    )


def test_tags_that_changed_places_save_each_other() -> None:
    there = inventory({"a": "y", "b": "x", "c": "x", "d": "y"})
    assert _checked([_group("x", "a", "c"), _group("y", "b", "d")], there) == (
        [],
        {"a": Outcome.MOVED, "b": Outcome.MOVED, "c": Outcome.NOW_SHARED, "d": Outcome.NOW_SHARED},
    )


def test_a_new_index_saves_what_it_lists() -> None:
    there = inventory({"a": image("x"), "b": image("y"), "new": index("i", ["x"])})
    assert _checked([_group("x", "a"), _group("y", "b")], there) == ([_group("y", "b")], {"a": Outcome.NOW_SHARED})


def test_a_new_index_saves_what_its_indexes_list() -> None:
    there = inventory({"a": image("x"), "new": index("top", ["low"])}, index("low", ["x"]))
    assert _checked([_group("x", "a")], there) == ([], {"a": Outcome.NOW_SHARED})


def test_an_index_that_is_saved_saves_what_it_lists_and_so_on() -> None:
    groups = [_group("top", "a"), _group("middle", "b"), _group("leaf", "c"), _group("other", "d")]
    there = inventory(
        {
            "a": index("top", ["middle"]),
            "b": index("middle", ["leaf"]),
            "c": image("leaf"),
            "d": image("other"),
            "new": "top",
        }
    )
    assert _checked(groups, there) == (
        [_group("other", "d")],
        {"a": Outcome.NOW_SHARED, "b": Outcome.NOW_SHARED, "c": Outcome.NOW_SHARED},
    )


def test_a_saved_child_does_not_save_the_index_that_lists_it() -> None:
    there = inventory({"i": index("i", ["x"]), "a": image("x"), "new": "x"})
    assert _checked([_group("i", "i"), _group("x", "a")], there) == ([_group("i", "i")], {"a": Outcome.NOW_SHARED})


def test_indexes_that_all_go_save_nothing() -> None:
    groups = [_group("i", "i"), _group("x", "a")]
    assert _checked(groups, inventory({"i": index("i", ["x"]), "a": image("x")})) == (groups, {})


def test_every_planned_tag_either_goes_or_has_one_outcome() -> None:
    groups = [_group("x", "a", "b", "c"), _group("y", "d", "e"), _group("z", "f")]
    there = inventory({"a": "x", "b": "y", "d": "y", "e": "gone elsewhere", "f": "z"})
    remaining, outcomes = recheck(tuple(groups), there, _DIGESTS)
    told = [tag for group in remaining for tag in group.tags] + [item.tag for item in outcomes]
    assert sorted(told) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("deletion", "possible", "unit"),
    [
        (Deletion.BY_TAG, True, _TAGS),
        (Deletion.BY_DIGEST, True, _DIGESTS),
        (Deletion.UNKNOWN, True, _DIGESTS),
        (Deletion.WITHOUT_EFFECT, True, _DIGESTS),
        (Deletion.DISABLED, False, _DIGESTS),
        (Deletion.READ_ONLY, False, _DIGESTS),
        (Deletion.FORBIDDEN, False, _TAGS),
    ],
)
def test_whatever_is_unclear_is_planned_as_digests_and_image_streams_as_tags(
    deletion: Deletion, *, possible: bool, unit: DeletionUnit
) -> None:
    assert (deletion.possible, deletion.unit) == (possible, unit)


# What may go at the same time


def test_what_an_index_lists_does_not_go_at_the_same_time() -> None:
    manifests = {digest("outer"): index("outer", ["inner"]), digest("inner"): index("inner", ["leaf"])}
    groups = [_group(word, word) for word in ("outer", "other", "leaf", "inner")]
    assert leading(groups, 0, 4, manifests) == 2
    assert leading(groups, 2, 4, manifests) == 2  # nothing of what lists these goes with them
    assert leading(groups, 0, 1, manifests) == 1


def test_no_more_go_at_the_same_time_than_may_and_than_there_are() -> None:
    groups = [_group(word, word) for word in "abcde"]
    assert [leading(groups, at, 2, {}) for at in range(6)] == [2, 2, 2, 2, 1, 0]


def test_tags_of_one_digest_go_one_by_one_in_their_order() -> None:
    groups = (_group("a", "v1", "v2"), _group("b", "b"))
    assert [(group.digest, group.tags) for group in one_by_one(groups)] == [
        (digest("a"), ("v1",)),
        (digest("a"), ("v2",)),
        (digest("b"), ("b",)),
    ]


# What a registry needs


@pytest.mark.parametrize(
    ("size", "planned", "deletions", "seconds"),
    [(10_000, 0, 0, 0), (10_000, 1, 1, 0.2), (10_000, 9_900, 9_900, 1000), (10_000, 9_900, 990, 100)],
)
def test_a_registry_that_looks_up_every_tag_needs_time_by_tags_and_deletions(
    size: int, planned: int, deletions: int, seconds: float
) -> None:
    assert lookup_seconds(size, planned, deletions) == pytest.approx(seconds, rel=0.01)
