"""What hangs together: digests, indexes and the floor, where digests are deleted and where tags are."""

from dataclasses import replace
from itertools import permutations

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.structure import descendants
from tests.support.builders import (
    NOW,
    REPOSITORY,
    digest,
    image,
    index,
    inventory,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
)

_OLD = "rule: OlderThan"
_OLD_RULE = rule(days=30)
_KEEPING = policy(_OLD_RULE, keep_tags=["keep.*"])


def _plan(what: Policy, repository: Inventory, unit: DeletionUnit = DeletionUnit.DIGEST) -> dict[str, str]:
    return told(planned(what, repository, unit).verdicts)


# One digest, several tags


def test_one_kept_tag_keeps_all_tags_on_its_digest_where_only_digests_can_be_deleted() -> None:
    same = image("same")
    there = inventory({"keep": same, "a": same, "b": same, "c": image("other")})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": "SharedDigest", "b": "SharedDigest", "c": _OLD}


def test_only_the_tag_goes_where_the_registry_removes_tags_alone() -> None:
    same = image("same")
    there = inventory({"keep": same, "a": same})
    assert _plan(_KEEPING, there, DeletionUnit.TAG) == {"keep": "KeepTags", "a": _OLD}


def test_tags_that_all_go_do_not_keep_each_other() -> None:
    same = image("same")
    assert _plan(_KEEPING, inventory({"a": same, "b": same})) == {"a": _OLD, "b": _OLD}


@pytest.mark.parametrize("reason", ["Unmatched", "Excluded", "KeepTags", "NotOldEnough"])
def test_a_tag_keeps_its_digest_for_whatever_reason_it_is_kept(reason: str) -> None:
    what = policy(
        rule("excluded", exclude=["excluded"], name="first", days=1),
        rule("young", name="second", days=9999),
        rule("a", days=1),
        keep_tags=["protected"],
    )
    tag = {"Unmatched": "x", "Excluded": "excluded", "KeepTags": "protected", "NotOldEnough": "young"}[reason]
    same = image("same")
    assert _plan(what, inventory({tag: same, "a": same})) == {tag: reason, "a": "SharedDigest"}


def test_a_kept_referrer_keeps_the_digest_that_it_shares() -> None:
    tag = referrer_tag("gone", ".sig")
    same = image("same")
    assert _plan(_KEEPING, inventory({tag: same, "a": same}))["a"] == "SharedDigest"


# Indexes


def test_what_a_kept_index_lists_is_kept() -> None:
    there = inventory({"keep": index("i", ["amd64", "arm64"]), "a": image("amd64"), "b": image("b")})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": "FollowsParent", "b": _OLD}


def test_what_a_kept_index_lists_may_lose_its_tag_where_tags_go_alone() -> None:
    there = inventory({"keep": index("i", ["amd64"]), "a": image("amd64")})
    assert _plan(_KEEPING, there, DeletionUnit.TAG) == {"keep": "KeepTags", "a": _OLD}


def test_what_only_indexes_that_go_list_goes() -> None:
    there = inventory({"a": index("i", ["amd64"]), "b": image("amd64")})
    assert _plan(_KEEPING, there) == {"a": _OLD, "b": _OLD}


def test_a_child_of_a_kept_and_of_a_going_index_is_kept() -> None:
    there = inventory({"keep": index("i", ["c"]), "a": index("j", ["c"]), "b": image("c")})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": _OLD, "b": "FollowsParent"}


def test_indexes_in_indexes_are_kept_to_the_last_child() -> None:
    there = inventory(
        {"keep": index("top", ["middle"]), "a": image("leaf"), "b": index("middle", ["low"])}, index("low", ["leaf"])
    )
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": "FollowsParent", "b": "FollowsParent"}


def test_a_kept_child_does_not_keep_the_index_that_lists_it() -> None:
    there = inventory({"keep": image("c"), "a": index("i", ["c"])})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": _OLD}


def test_an_index_that_is_kept_for_its_digest_keeps_what_it_lists() -> None:
    shared = index("i", ["c"])
    there = inventory({"keep": shared, "a": shared, "b": image("c"), "d": image("c")})
    assert _plan(_KEEPING, there) == {
        "keep": "KeepTags",
        "a": "SharedDigest",
        "b": "FollowsParent",
        "d": "FollowsParent",
    }


def test_a_child_that_is_not_there_harms_nobody() -> None:
    there = inventory({"keep": index("i", ["never pushed"]), "a": image("a")})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "a": _OLD}


def test_descendants_are_found_once_each_however_they_are_shared() -> None:
    facts = inventory(
        {}, index("top", ["l", "r", "leaf"]), index("l", ["leaf", "x"]), index("r", ["leaf"]), image("leaf")
    ).manifests
    assert descendants([digest("top")], facts) == {digest(word) for word in ("l", "r", "leaf", "x")}
    assert descendants([digest("leaf"), digest("unheard of")], facts) == set()


def test_indexes_that_list_each_other_end_the_search() -> None:
    facts = inventory({}, index("a", ["b"]), index("b", ["a"])).manifests
    assert descendants([digest("a")], facts) == {digest("a"), digest("b")}


def test_a_reason_does_not_depend_on_the_order_in_which_a_registry_lists_its_tags() -> None:
    # Both reasons hold for `a`: its digest has a kept tag, and a kept index lists it.
    facts = {"keep-1": index("i", ["c"]), "keep-2": image("c"), "a": image("c")}
    plans = [_plan(_KEEPING, inventory({tag: facts[tag] for tag in order})) for order in permutations(facts)]
    assert all(plan == {"keep-1": "KeepTags", "keep-2": "KeepTags", "a": "SharedDigest"} for plan in plans)


def test_kept_indexes_that_list_each_other_end_the_search() -> None:
    there = inventory({"keep": index("a", ["b"]), "b": index("b", ["a"]), "c": image("c")})
    assert _plan(_KEEPING, there) == {"keep": "KeepTags", "b": "FollowsParent", "c": _OLD}


def test_what_is_kept_after_all_has_no_reason_to_go() -> None:
    same = image("same")
    tags = {"keep": same, "a": same, "keep-2": index("i", ["c"]), "c": image("c"), "old": image("old", 900)}
    plan = planned(policy(_OLD_RULE, keep_tags=["keep.*"], minimum_tags=5), inventory(tags))
    assert {"SharedDigest", "FollowsParent", "MinimumTags"} <= set(told(plan.verdicts).values())
    assert all(verdict.pruned == () for verdict in plan.verdicts)


# The floor


def test_the_newest_come_back_until_the_floor_is_filled() -> None:
    there = inventory({"a": image("a", 50), "b": image("b", 40), "c": image("c", 60)})
    expected = {0: {"a", "b", "c"}, 1: {"a", "c"}, 2: {"c"}, 3: set(), 4: set()}
    for floor, going in expected.items():
        assert pruned(planned(policy(_OLD_RULE, minimum_tags=floor), there)) == going
    assert _plan(policy(_OLD_RULE, minimum_tags=1), there)["b"] == "MinimumTags"


def test_what_is_kept_already_counts_for_the_floor() -> None:
    there = inventory({"x": image("x", 1), "a": image("a", 50), "b": image("b", 60)})
    assert _plan(policy(_OLD_RULE, minimum_tags=2), there) == {"x": "NotOldEnough", "a": "MinimumTags", "b": _OLD}
    assert _plan(policy(_OLD_RULE, minimum_tags=1), there) == {"x": "NotOldEnough", "a": _OLD, "b": _OLD}


def test_whole_digests_come_back() -> None:
    newest = image("newest", 40)
    there = inventory({"a": newest, "b": newest, "c": newest, "d": image("d", 50)})
    for unit in DeletionUnit:
        assert pruned(planned(policy(_OLD_RULE, minimum_tags=1), there, unit)) == {"d"}
        assert pruned(planned(policy(_OLD_RULE, minimum_tags=3), there, unit)) == {"d"}
        assert pruned(planned(policy(_OLD_RULE, minimum_tags=4), there, unit)) == set()


def test_of_equally_new_ones_the_name_decides() -> None:
    there = inventory({"b": image("x", 50), "a": image("y", 50), "c": image("z", 50)})
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=1), there)) == {"b", "c"}
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=2), there)) == {"c"}


def test_of_equally_new_images_the_first_name_on_each_decides() -> None:
    one, other = image("one"), image("other")
    there = inventory({"d": one, "c": other, "b": other, "a": one}, pushed=dict.fromkeys("abcd", 50))
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=1), there)) == {"b", "c"}


def test_an_image_is_as_new_for_the_floor_as_its_newest_tag() -> None:
    twice, once = image("twice"), image("once")
    there = inventory({"a": once, "b": twice, "c": twice}, pushed={"a": 50, "b": 40, "c": 60})
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=1), there)) == {"a"}


def test_an_image_is_newest_for_the_floor_where_nobody_knows_since_when_one_tag_is_on_it() -> None:
    twice, once = image("twice", None), image("once", None)
    what = policy(rule(most_recent=1, order_by=OrderBy.SEM_VER), minimum_tags=2)
    there = inventory(
        {"3.0.0": image("x", 1), "0.3.0": once, "0.2.0": twice, "0.1.0": twice}, pushed={"0.3.0": 40, "0.2.0": 60}
    )
    assert pruned(planned(what, there)) == {"0.3.0"}


def test_what_comes_back_brings_what_it_lists_and_that_counts() -> None:
    there = inventory({"new": index("i", ["c"], 40), "between": image("between", 50), "child": image("c", 60)})
    assert _plan(policy(_OLD_RULE, minimum_tags=1), there) == {
        "new": "MinimumTags",
        "child": "FollowsParent",
        "between": _OLD,
    }
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=2), there)) == {"between"}
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=3), there)) == set()


def test_what_comes_back_brings_nothing_it_lists_where_tags_go_alone() -> None:
    there = inventory({"new": index("i", ["c"], 40), "between": image("between", 50), "child": image("c", 60)})
    assert pruned(planned(policy(_OLD_RULE, minimum_tags=2), there, DeletionUnit.TAG)) == {"child"}


def test_a_tag_of_unknown_date_is_kept_and_counts_for_the_floor() -> None:
    there = inventory({"odd": image("odd", None), "a": image("a", 40)})
    assert _plan(policy(_OLD_RULE, minimum_tags=1), there) == {"odd": "UnknownDate", "a": _OLD}


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize("keep_tags", [(), ("sha256-.*", "sbom.*")])
def test_referrers_and_dangling_tags_never_fill_the_floor(unit: DeletionUnit, keep_tags: tuple[str, ...]) -> None:
    # A repository whose last image went, and that holds only its signature, is what the floor is there to prevent.
    there = inventory(
        {
            "v1": image("v1", 50),
            referrer_tag("v1", ".sig"): image("signature", 50),
            referrer_tag("gone", ".att"): image("attestation", 50),
            "sbom": image("sbom", 50, subject="v1"),
        },
        dangling=["nothing"],
    )
    what = policy(_OLD_RULE, minimum_tags=1, keep_tags=keep_tags)
    assert told(planned(what, there, unit).verdicts)["v1"] == "MinimumTags"


@pytest.mark.parametrize("name", [referrer_tag("v1", ".sig"), "sbom"])
def test_a_referrer_that_no_rule_owns_does_not_fill_the_floor(name: str) -> None:
    there = inventory({"v1": image("v1", 50), name: image("s", 50, subject="v1")})
    what = policy(rule("v.*", days=30), minimum_tags=1)
    assert _plan(what, there)["v1"] == "MinimumTags"


def test_tags_that_nobody_read_fill_no_floor() -> None:
    # Any of them may be a signature with a tag of its own.
    there = inventory({"a": image("a", 50)}, unresolved=["main", "dev"])
    what = policy(rule("a", days=30), minimum_tags=2)
    assert _plan(what, there, DeletionUnit.TAG)["a"] == "MinimumTags"
    resolved = replace(image("main"), read=False)
    there = inventory({"a": image("a", 50), "main": resolved})
    assert _plan(replace(what, minimum_tags=1), there)["a"] == "MinimumTags"


@pytest.mark.parametrize("unit", DeletionUnit)
def test_as_many_tags_that_stay_are_read_as_the_floor_wants(unit: DeletionUnit) -> None:
    what = policy(rule("a", days=30), minimum_tags=2)
    asked = needs(what, REPOSITORY, ["z", "main", "dev", "latest", "a", referrer_tag("a")], unit)
    assert asked.dated == {"a"}
    assert asked.read == {"dev", "latest"}
    there = inventory({"a": image("a", 50), "dev": image("d"), "latest": image("l")}, unresolved=["main", "z"])
    assert _plan(what, there, unit)["a"] == _OLD


def test_a_higher_floor_of_a_large_repository_is_quick() -> None:
    there = inventory({f"t{number}": image(f"i{number}", 40 + number / 1000) for number in range(20_000)})
    what = policy(_OLD_RULE, minimum_tags=10_000)
    assert planned(what, there, now=NOW).planned == 10_000
