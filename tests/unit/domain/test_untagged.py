"""What pruning leaves without a name: found and counted, or deleted by digest."""

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Inventory, Manifest
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Policy, Untagged
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import digest, image, in_use, index, inventory, planned, policy, pruned, referrer_tag, rule

_RULE = rule(days=30)
_DELETING = policy(_RULE, keep_tags=["keep.*"], untagged=Untagged.DELETE)
_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG


def _left(plan: RepositoryPlan, *words: str) -> list[str]:
    names = {digest(word): word for word in words}
    return [names[each] for each in plan.untagged]


def _plan(there: Inventory, unit: DeletionUnit, what: Policy = _DELETING, *used: str) -> RepositoryPlan:
    return planned(what, there, unit, using=in_use(*used))


def test_where_a_tag_goes_alone_its_manifest_is_left_with_all_that_it_lists() -> None:
    there = inventory({"v1": index("i", ["low"]), "keep": image("k")}, index("low", ["leaf"]), image("leaf"))
    assert _left(_plan(there, _TAG), "i", "low", "leaf") == ["i", "low", "leaf"]


def test_where_digests_go_only_what_they_list_is_left() -> None:
    there = inventory({"v1": index("i", ["low"]), "keep": image("k")}, index("low", ["leaf"]), image("leaf"))
    assert _left(_plan(there, _DIGEST), "low", "leaf") == ["low", "leaf"]


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize(
    ("holder", "used"),
    [
        ({"keep": index("j", ["amd64"])}, ()),
        ({"keep": index("top", ["j"])}, ()),
        ({"keep": image("amd64")}, ()),
        ({"young": image("amd64", 1)}, ()),
        ({}, ("amd64",)),
        ({}, ("j",)),
    ],
)
def test_what_a_kept_tag_a_kept_index_or_a_use_needs_is_not_left(
    unit: DeletionUnit, holder: dict[str, Manifest], used: tuple[str, ...]
) -> None:
    others = [index("j", ["amd64"]), image("amd64"), image("arm64")]
    there = inventory({"v1": index("i", ["arm64", "amd64"]), **holder}, *others)
    plan = _plan(there, unit, _DELETING, *used)
    assert digest("amd64") not in plan.untagged
    if "amd64" not in used:
        assert digest("arm64") in plan.untagged


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_an_index_lists_that_is_known_and_has_no_name_is_not_left(unit: DeletionUnit) -> None:
    there = inventory({"v1": index("i", ["c", "d"])}, index("nobody names it", ["c"]), image("c"), image("d"))
    plan = _plan(there, unit)
    assert digest("c") not in plan.untagged
    assert digest("d") in plan.untagged


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_a_kept_index_lists_is_not_left_though_an_index_that_goes_lists_the_kept_one(unit: DeletionUnit) -> None:
    there = inventory({"v1": index("top", ["i", "other"]), "keep": index("i", ["c"])}, image("c"), image("other"))
    assert set(_left(_plan(there, unit), "top", "other")) == ({"other"} if unit is _DIGEST else {"top", "other"})


def test_a_child_with_a_tag_of_its_own_that_stays_is_not_left() -> None:
    there = inventory({"v1": index("i", ["c"]), "c": image("c", 1)}, image("c", 1))
    for unit in DeletionUnit:
        assert digest("c") not in _plan(there, unit).untagged


def test_a_child_whose_own_tag_goes_too_is_deleted_once() -> None:
    there = inventory({"v1": index("i", ["c"]), "c": image("c")})
    plan = _plan(there, _DIGEST)
    assert (pruned(plan), plan.untagged) == ({"v1", "c"}, ())
    assert _left(_plan(there, _TAG), "i", "c") == ["i", "c"]


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_is_left_is_told_and_stays_where_the_policy_keeps_it(unit: DeletionUnit) -> None:
    there = inventory({"v1": index("i", ["c"]), referrer_tag("c", ".sig"): image("s")}, image("c"))
    plan = planned(policy(_RULE), there, unit)
    assert digest("c") in plan.untagged
    assert not plan.deletes_untagged
    assert pruned(plan) == {"v1"}


def test_a_repository_whose_last_tag_takes_the_manifest_along_deletes_nothing_by_digest() -> None:
    there = inventory({"v1": index("i", ["c"])}, image("c"), named_only=True)
    plan = planned(_DELETING, there, _TAG)
    assert not plan.deletes_untagged
    assert _left(plan, "i", "c") == ["i", "c"]


def test_a_child_that_is_listed_and_was_never_pushed_may_be_left_and_harms_nobody() -> None:
    there = inventory({"v1": index("i", ["never pushed"]), "keep": image("k")})
    assert _left(_plan(there, _DIGEST), "never pushed") == ["never pushed"]


def test_what_is_held_back_leaves_less() -> None:
    there = inventory({"v1": index("i", ["c", "d"]), "v2": index("j", ["d"])}, image("c"), image("d"))
    plan = _plan(there, _DIGEST)
    assert set(_left(plan, "c", "d")) == {"c", "d"}
    assert _left(plan.hold({"v2": KeepReason.GRACE_PERIOD}), "c") == ["c"]
    assert plan.hold(dict.fromkeys(("v1", "v2"), KeepReason.GRACE_PERIOD)).untagged == ()
