"""Holding a part of a plan back: with it stays what it needs, and nothing else."""

from dataclasses import replace

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import (
    digest,
    image,
    in_use,
    index,
    inventory,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
)

_POLICY = policy(rule(days=30), keep_tags=["keep.*"], untagged=Untagged.DELETE)
_GRACE, _TRUNCATED = KeepReason.GRACE_PERIOD, KeepReason.LIMIT_TRUNCATED
_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG
_OLD = "rule: OlderThan"
_SIG = referrer_tag("v1", ".sig")


def _held(plan: RepositoryPlan, *tags: str) -> dict[str, str]:
    return told(plan.hold(dict.fromkeys(tags, _GRACE)).verdicts)


def _plan(there: Inventory, unit: DeletionUnit = _DIGEST) -> RepositoryPlan:
    return planned(_POLICY, there, unit)


def test_nothing_held_back_changes_nothing() -> None:
    plan = _plan(inventory({"a": image("a")}))
    assert plan.hold({}) is plan


def test_a_held_tag_is_kept_for_the_reason_it_is_held_for() -> None:
    plan = _plan(inventory({"a": image("a"), "b": image("b"), "c": image("c")}))
    held = plan.hold({"a": _GRACE, "b": _TRUNCATED})
    assert told(held.verdicts) == {"a": "GracePeriod", "b": "LimitTruncated", "c": _OLD}
    assert all(verdict.pruned == () for verdict in held.verdicts if not verdict.goes)
    assert pruned(held) == {"c"}


def test_a_tag_that_stays_anyway_keeps_its_reason() -> None:
    plan = _plan(inventory({"keep": image("k"), "a": image("a")}))
    assert _held(plan, "keep", "never heard of") == {"keep": "KeepTags", "a": _OLD}


def test_a_held_tag_keeps_the_others_on_its_digest_where_only_digests_can_be_deleted() -> None:
    same = image("same")
    there = inventory({"a": same, "b": same})
    assert _held(_plan(there), "a") == {"a": "GracePeriod", "b": "SharedDigest"}
    assert _held(_plan(there, _TAG), "a") == {"a": "GracePeriod", "b": _OLD}


def test_a_held_index_keeps_what_it_lists_and_a_held_child_keeps_no_index() -> None:
    plan = _plan(inventory({"i": index("i", ["c"]), "c": image("c"), "d": image("d")}))
    assert _held(plan, "i") == {"i": "GracePeriod", "c": "FollowsParent", "d": _OLD}
    assert _held(plan, "c") == {"i": _OLD, "c": "GracePeriod", "d": _OLD}


def test_a_held_subject_keeps_its_referrers_and_theirs() -> None:
    of_signature = referrer_tag("s", ".att")
    plan = _plan(inventory({"v1": image("v1"), _SIG: image("s"), of_signature: image("a"), "d": image("d")}))
    assert pruned(plan) == {"v1", _SIG, of_signature, "d"}
    assert _held(plan, "v1") == {"v1": "GracePeriod", _SIG: "FollowsParent", of_signature: "FollowsParent", "d": _OLD}


def test_a_referrer_that_stays_with_a_held_subject_has_no_reason_to_go() -> None:
    held = _plan(inventory({"v1": image("v1"), _SIG: image("s")})).hold({"v1": _GRACE})
    assert all(verdict.pruned == () for verdict in held.verdicts)


def test_a_referrer_that_stays_for_its_own_sake_keeps_its_reason() -> None:
    orphan = referrer_tag("gone", ".sig")
    there = inventory({"v1": image("v1"), _SIG: image("s"), orphan: image("o"), "d": image("d")})
    plan = planned(_POLICY, there, using=in_use("s"))
    assert _held(plan, "d") == {"v1": _OLD, _SIG: "InUse", orphan: "OrphanReferrer", "d": "GracePeriod"}


def test_a_held_referrer_lets_its_subject_go_and_keeps_its_own() -> None:
    of_signature = referrer_tag("s", ".att")
    plan = _plan(inventory({"v1": image("v1"), _SIG: image("s"), of_signature: image("a")}))
    assert _held(plan, _SIG) == {"v1": _OLD, _SIG: "GracePeriod", of_signature: "FollowsParent"}


def test_what_is_held_fills_no_floor_and_frees_nothing_on_it() -> None:
    there = inventory({"a": image("a", 40), "b": image("b", 50), "c": image("c", 60)})
    plan = planned(replace(_POLICY, minimum_tags=1), there)
    assert _held(plan, "c") == {"a": "MinimumTags", "b": _OLD, "c": "GracePeriod"}


def test_what_is_in_use_stays_so() -> None:
    there = inventory({"a": image("a"), "c": image("c")}, index("i", ["c"]))
    plan = planned(_POLICY, there, using=in_use("i"))
    assert _held(plan, "a") == {"a": "GracePeriod", "c": "FollowsParent"}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_the_part_that_pruning_holds_on_to_knows_what_has_to_stay(unit: DeletionUnit) -> None:
    # The tag that keeps `c` is not in that part, and `c` stays all the same.
    there = inventory({"i": index("i", ["c", "d"]), "keep": image("c"), "x": image("x")}, image("d"))
    plan = _plan(there, unit)
    left, part = plan.hold({"x": _GRACE}), plan.only_going().hold({"x": _GRACE})
    assert (part.groups, part.untagged) == (left.groups, left.untagged)
    assert digest("c") not in part.untagged
    assert digest("d") in part.untagged


@pytest.mark.parametrize("unit", DeletionUnit)
def test_holding_everything_leaves_nothing_to_do(unit: DeletionUnit) -> None:
    there = inventory({"i": index("i", ["c"]), "c": image("c"), referrer_tag("i"): image("s")}, image("c"))
    plan = _plan(there, unit)
    left = plan.hold(dict.fromkeys(pruned(plan), _GRACE))
    assert (left.groups, left.untagged) == ((), ())


@pytest.mark.parametrize("unit", DeletionUnit)
def test_holding_bit_by_bit_is_holding_at_once(unit: DeletionUnit) -> None:
    tags = {"i": index("i", ["c"]), "c": image("c"), referrer_tag("i"): image("s"), "x": image("x"), "y": image("y")}
    plan = _plan(inventory(tags), unit)
    twice = plan.hold({"i": _GRACE}).hold({"x": _TRUNCATED})
    once = plan.hold({"i": _GRACE, "x": _TRUNCATED})
    assert (twice.groups, twice.untagged, twice.verdicts) == (once.groups, once.untagged, once.verdicts)
