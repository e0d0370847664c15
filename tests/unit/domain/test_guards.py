"""What a run may prune of its plan right now: grace period, approval, limits, in this order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.guards import Go, Guarded, exceeded_limits, guard, truncate
from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Limits, OnExceeded, Policy, Untagged
from registry_cleanup.domain.published import Published, nothing_published
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
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

_RULE = rule(days=30)
_POLICY = policy(_RULE)
_NOTHING = nothing_published(_POLICY.uid)
_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG
_TRUNCATE = OnExceeded.TRUNCATE
_SIG = referrer_tag("v1", ".sig")


def _plan(
    tags: Iterable[str] | dict[str, Manifest],
    *,
    repository: str = REPOSITORY,
    unit: DeletionUnit = _DIGEST,
    young: int = 0,
) -> RepositoryPlan:
    """Return a plan in which all of `tags` go, beside as many as `young` that stay."""
    old = tags if isinstance(tags, dict) else {tag: image(tag) for tag in tags}
    stay = {f"young-{number}": image(f"young-{number}", 1) for number in range(young)}
    what = policy(_RULE, untagged=Untagged.DELETE)
    return planned(what, inventory({**old, **stay}, repository=repository), unit)


def _published(*plans: RepositoryPlan, when: datetime, before: Published = _NOTHING) -> Published:
    return before.renewed(plans, (), "0" * 64, when)


def _guarded(
    what: Policy, *plans: RepositoryPlan, before: Published = _NOTHING, now: datetime = NOW, plan_only: bool = False
) -> Guarded:
    return guard(what, plans, before, now, plan_only=plan_only)


def _through(guarded: Guarded) -> set[str]:
    return {tag for plan in guarded.plans for tag in pruned(plan)}


# Grace period


@pytest.mark.parametrize(
    ("hours", "through"),
    [(0, False), (23.999, False), (24, True), (48, True), (-1, False)],
)
def test_an_item_goes_when_it_was_published_long_enough(hours: float, *, through: bool) -> None:
    plan = _plan(["a"])
    guarded = _guarded(_POLICY, plan, before=_published(plan, when=ago(hours=hours)))
    assert _through(guarded) == ({"a"} if through else set())
    assert guarded.held == ({} if through else {KeepReason.GRACE_PERIOD: 1})
    assert guarded.go is Go.AHEAD


def test_what_was_never_published_waits_and_tells_from_when_it_may_go() -> None:
    guarded = _guarded(_POLICY, _plan(["a", "b"]))
    assert (_through(guarded), guarded.held) == (set(), {KeepReason.GRACE_PERIOD: 2})
    assert guarded.prunable_from == NOW + timedelta(hours=24)


def test_the_first_item_that_may_go_decides_from_when_a_plan_is_prunable() -> None:
    early, late = _plan(["a"]), _plan(["b"], repository="team/web")
    before = _published(early, when=ago(hours=30))
    assert _guarded(_POLICY, late, early, before=before).prunable_from == ago(hours=6)
    assert _guarded(_POLICY).prunable_from is None


def test_without_a_grace_period_an_item_goes_as_soon_as_it_was_published() -> None:
    what, plan = replace(_POLICY, grace_period=timedelta(0)), _plan(["a"])
    assert _through(_guarded(what, plan)) == set()
    assert _through(_guarded(what, plan, before=_published(plan, when=NOW))) == {"a"}


def test_a_time_of_publication_that_is_still_to_come_lets_nothing_go_later_than_a_new_one() -> None:
    plan = _plan(["a"])
    before = _published(plan, when=NOW + timedelta(days=9))
    assert _guarded(_POLICY, plan, before=before).prunable_from == NOW + timedelta(hours=24)


@pytest.mark.parametrize(
    "what",
    [
        _POLICY,
        replace(_POLICY, approval_required=True),
        replace(_POLICY, limits=Limits(max_deletions=1)),
        replace(_POLICY, limits=Limits(max_deletions=1, on_exceeded=_TRUNCATE)),
    ],
)
@pytest.mark.parametrize("approved", [False, True])
def test_whatever_holds_a_plan_back_it_tells_from_when_it_may_go(what: Policy, *, approved: bool) -> None:
    plan = _plan(["a", "b"])
    before = _published(plan, when=ago(2))
    guarded = _guarded(what, plan, before=before.approve(NOW) if approved else before)
    assert guarded.prunable_from == ago(1)


def test_what_is_held_back_is_told_by_repository_and_tag() -> None:
    early, late = _plan(["a", "b", "c"]), _plan(["d"], repository="team/web")
    what = replace(_POLICY, limits=Limits(max_deletions=2, on_exceeded=_TRUNCATE))
    before = _published(_plan(["a", "b", "c"]), when=ago(2))
    guarded = _guarded(what, early, late, before=before)
    (tag,) = {"a", "b", "c"} - _through(guarded)
    assert guarded.items == {
        REPOSITORY: {tag: KeepReason.LIMIT_TRUNCATED},
        "team/web": {"d": KeepReason.GRACE_PERIOD},
    }


def test_what_waits_keeps_what_it_needs() -> None:
    plan = _plan({"i": index("i", ["c"]), "c": image("c"), "d": image("d")})
    before = _published(plan.hold({"i": KeepReason.GRACE_PERIOD}), when=ago(2))
    guarded = _guarded(_POLICY, plan, before=before)
    assert _through(guarded) == {"d"}
    assert told(guarded.plans[0].verdicts) == {"i": "GracePeriod", "c": "GracePeriod", "d": "rule: OlderThan"}


def test_repositories_in_which_nothing_is_left_are_not_among_the_plans() -> None:
    early, late = _plan(["a"]), _plan(["b"], repository="team/web")
    guarded = _guarded(_POLICY, early, late, before=_published(early, when=ago(2)))
    assert [plan.repository for plan in guarded.plans] == [REPOSITORY]


# Limits


@pytest.mark.parametrize(
    ("going", "staying", "limits", "exceeded"),
    [
        (3, 0, Limits(max_deletions=3), []),
        (4, 9, Limits(max_deletions=3), ["limits.maxDeletions"]),
        (1, 0, Limits(max_deletions=0), ["limits.maxDeletions"]),
        # Percent count where more than 10 would go.
        (10, 0, Limits(max_percent=1), []),
        (11, 11, Limits(max_percent=50), []),
        (11, 10, Limits(max_percent=50), ["limits.maxPercentPerRepository"]),
        (11, 0, Limits(max_percent=100), []),
        (11, 0, Limits(max_percent=99), ["limits.maxPercentPerRepository"]),
        (11, 0, Limits(max_deletions=10), ["limits.maxDeletions", "limits.maxPercentPerRepository"]),
    ],
)
def test_a_limit_is_exceeded_by_one_more(going: int, staying: int, limits: Limits, exceeded: list[str]) -> None:
    plan = _plan([f"t{number}" for number in range(going)], young=staying)
    found = exceeded_limits(limits, [plan])
    assert len(found) == len(exceeded)
    assert all(name in words for name, words in zip(exceeded, found, strict=True))


def test_deletions_are_counted_over_all_repositories_and_percent_in_each() -> None:
    names = [f"t{number}" for number in range(11)]
    plans = [_plan(names, young=20), _plan(names, repository="team/web", young=1)]
    (total,) = exceeded_limits(Limits(max_deletions=21, max_percent=100), plans)
    assert total.startswith("22 tags")
    (percent,) = exceeded_limits(Limits(), plans)
    assert percent == "11 of 12 tags of team/web would go, more than limits.maxPercentPerRepository (50)"


def test_referrers_count_for_nothing() -> None:
    plan = _plan({"v1": image("v1"), _SIG: image("s")})
    assert plan.planned == 2
    assert exceeded_limits(Limits(max_deletions=1), [plan]) == []


@pytest.mark.parametrize("plan_only", [False, True])
def test_a_plan_past_a_limit_is_aborted_whole(*, plan_only: bool) -> None:
    plan = _plan(["a", "b", "c"])
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    guarded = _guarded(what, plan, before=_published(plan, when=ago(2)), plan_only=plan_only)
    assert (guarded.go, guarded.plans, len(guarded.exceeded)) == (Go.LIMIT_EXCEEDED, (), 1)
    assert guarded.unapproved == 3


def test_what_waits_out_its_grace_period_counts_for_no_limit_yet_unless_nothing_goes_anyway() -> None:
    plan = _plan(["a", "b", "c"])
    before = _published(_plan(["a"]), when=ago(2))
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    assert _through(_guarded(what, plan, before=before)) == {"a"}
    # A dry run tells what will be in the way.
    assert _guarded(what, plan, before=before, plan_only=True).go is Go.LIMIT_EXCEEDED


def test_a_plan_that_will_be_blocked_says_so_while_all_of_it_waits() -> None:
    plan = _plan(["a", "b", "c"])
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    for before in (_NOTHING, _published(plan, when=ago(hours=1))):
        guarded = _guarded(what, plan, before=before)
        assert (guarded.go, guarded.plans, len(guarded.exceeded)) == (Go.AHEAD, (), 1)
        assert _guarded(what, plan, before=before, plan_only=True).go is Go.LIMIT_EXCEEDED


@pytest.mark.parametrize("limits", [Limits(), Limits(max_deletions=1, on_exceeded=_TRUNCATE)])
def test_where_no_approval_would_help_nothing_is_told_to_wait_for_one(limits: Limits) -> None:
    plan = _plan(["a", "b"])
    guarded = _guarded(replace(_POLICY, limits=limits), plan, before=_published(plan, when=ago(2)))
    assert (guarded.go, guarded.unapproved) == (Go.AHEAD, 0)


def test_truncating_takes_the_oldest_first_and_tells_the_rest() -> None:
    plan = _plan({"a": image("a", 50), "b": image("b", 70), "c": image("c", 60)})
    what = replace(_POLICY, limits=Limits(max_deletions=2, on_exceeded=_TRUNCATE))
    guarded = _guarded(what, plan, before=_published(plan, when=ago(2)))
    assert (guarded.go, _through(guarded)) == (Go.AHEAD, {"b", "c"})
    assert guarded.held == {KeepReason.LIMIT_TRUNCATED: 1}
    assert guarded.exceeded
    assert told(guarded.plans[0].verdicts)["a"] == "LimitTruncated"


# Truncating


def _truncated(limits: Limits, *plans: RepositoryPlan) -> set[str]:
    return {tag for plan in truncate(limits, plans) for tag in pruned(plan)}


@pytest.mark.parametrize(("allowed", "going"), [(0, ""), (1, "x"), (2, "x c"), (3, "x c b1"), (4, "x c b1 b2")])
def test_the_oldest_of_all_repositories_go_first(allowed: int, going: str) -> None:
    one = _plan({"b1": image("b1", 50), "b2": image("b2", 40), "c": image("c", 60)})
    two = _plan({"x": image("x", 90)}, repository="team/web")
    assert _truncated(Limits(max_deletions=allowed), one, two) == set(going.split())


@pytest.mark.parametrize("unit", DeletionUnit)
def test_the_tags_on_one_digest_go_together_or_stay(unit: DeletionUnit) -> None:
    same = image("same", 90)
    plan = _plan({"a": same, "b": same, "c": same, "d": image("d", 50)}, unit=unit)
    expected: dict[int, set[str]] = {1: {"d"}, 2: {"d"}, 3: {"a", "b", "c"}, 4: {"a", "b", "c", "d"}}
    for allowed, going in expected.items():
        assert _truncated(Limits(max_deletions=allowed), plan) == going


def test_each_repository_keeps_to_its_own_share() -> None:
    one = _plan({f"a{number:02}": image(f"a{number}", 100 + number) for number in range(20)}, young=10)
    two = _plan({f"b{number:02}": image(f"b{number}", 50) for number in range(3)}, repository="team/web")
    going = _truncated(Limits(max_percent=50), one, two)
    assert {tag for tag in going if tag[0] == "a"} == {f"a{number:02}" for number in range(5, 20)}
    assert {tag for tag in going if tag[0] == "b"} == {"b00", "b01", "b02"}
    # Ten always may.
    assert len(_truncated(Limits(max_percent=0), one)) == 10


def test_a_share_is_a_percentage_of_all_tags_of_the_repository() -> None:
    plan = _plan([f"t{number}" for number in range(150)], young=50)
    assert len(_truncated(Limits(max_percent=50), plan)) == 100


@pytest.mark.parametrize("dates", [{"a": 90, "b": 40}, {"a": 40, "b": 90}])
def test_an_image_is_as_young_as_the_youngest_tag_that_goes(dates: dict[str, float]) -> None:
    same = image("same")
    there = inventory({"a": same, "b": same, "c": image("c")}, pushed={**dates, "c": 60})
    assert _truncated(Limits(max_deletions=2), planned(_POLICY, there)) == {"c"}


def test_a_tag_that_stays_does_not_make_the_image_younger_that_others_name() -> None:
    same = image("same")
    there = inventory({"a": same, "young": same, "c": image("c")}, pushed={"a": 90, "young": 1, "c": 60})
    assert _truncated(Limits(max_deletions=1), planned(_POLICY, there, _TAG)) == {"a"}


def test_what_nobody_knows_the_age_of_goes_last() -> None:
    what = policy(rule(most_recent=1, order_by=OrderBy.NUMERICAL))
    tags = {str(number): image(f"i{number}") for number in range(5)}
    plan = planned(what, inventory(tags, pushed={"2": 1, "3": 2}))
    expected: dict[int, set[str]] = {1: {"3"}, 2: {"3", "2"}, 4: {"0", "1", "2", "3"}}
    for allowed, going in expected.items():
        assert _truncated(Limits(max_deletions=allowed), plan) == going


def test_a_child_never_goes_before_its_index() -> None:
    plan = _plan({"i": index("i", ["c"], 40), "c": image("c", 90), "d": image("d", 60)})
    expected = {1: {"d"}, 2: {"d", "i"}, 3: {"d", "i", "c"}}
    for allowed, going in expected.items():
        assert _truncated(Limits(max_deletions=allowed), plan) == going


def test_a_child_of_an_index_that_is_too_large_to_go_stays_with_it_and_takes_nobodys_place() -> None:
    shared = index("i", ["c"], 90)
    tags = {"i1": shared, "i2": shared, "i3": shared, "c": image("c", 90), "d": image("d", 40), "e": image("e", 40)}
    assert _truncated(Limits(max_deletions=2), _plan(tags)) == {"d", "e"}
    plan = _plan({"i1": shared, "i2": shared, "i3": shared, "c": image("c", 90), "d": image("d", 40)})
    for allowed in (1, 2):
        assert _truncated(Limits(max_deletions=allowed), plan) == {"d"}


def test_where_tags_go_alone_a_child_may_lose_its_tag_first() -> None:
    plan = _plan({"i": index("i", ["c"], 40), "c": image("c", 90)}, unit=_TAG)
    assert _truncated(Limits(max_deletions=1), plan) == {"c"}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_referrers_go_with_what_is_left_of_their_subjects(unit: DeletionUnit) -> None:
    young = referrer_tag("young", ".sig")
    tags = {"v1": image("v1", 90), _SIG: image("s"), "young": image("young", 40), young: image("t")}
    assert _truncated(Limits(max_deletions=1), _plan(tags, unit=unit)) == {"v1", _SIG}


def test_a_referrer_does_not_make_the_image_younger_that_shares_its_digest() -> None:
    same = image("shared", 90)
    plan = _plan({"v1": image("v1", 95), "a": same, _SIG: same, "b": image("b", 40)}, unit=_TAG)
    assert _truncated(Limits(max_deletions=2), plan) == {"v1", "a", _SIG}


def test_of_equally_old_ones_the_same_go_each_time() -> None:
    names = [f"t{number}" for number in range(6)]
    plans = [_plan(order) for order in (names, names[::-1])]
    one, other = (_truncated(Limits(max_deletions=3), plan) for plan in plans)
    assert one == other
    assert len(one) == 3


# Approval


_APPROVING = replace(_POLICY, approval_required=True)


def test_a_plan_waits_for_approval() -> None:
    plan = _plan(["a", "b"])
    guarded = _guarded(_APPROVING, plan, before=_published(plan, when=ago(2)))
    assert (guarded.go, guarded.plans, guarded.unapproved) == (Go.AWAITING_APPROVAL, (), 2)


def test_an_approved_plan_goes_and_what_is_new_since_waits_for_the_next() -> None:
    seen = _plan(["a", "b"])
    before = _published(seen, when=ago(3)).approve(ago(hours=1))
    fresh = _plan(["b", "c"])
    before = _published(fresh, when=ago(2), before=before)
    guarded = _guarded(_APPROVING, fresh, before=before)
    assert (guarded.go, _through(guarded), guarded.unapproved) == (Go.AHEAD, {"b"}, 1)


def test_an_approval_runs_out_after_a_day() -> None:
    plan = _plan(["a"])
    before = _published(plan, when=ago(3)).approve(ago(hours=24, seconds=1))
    assert _guarded(_APPROVING, plan, before=before).go is Go.AWAITING_APPROVAL


def test_an_approval_does_not_shorten_the_grace_period() -> None:
    plan = _plan(["a"])
    guarded = _guarded(_APPROVING, plan, before=_published(plan, when=ago(hours=1)).approve(NOW))
    assert (guarded.go, _through(guarded), guarded.held) == (Go.AHEAD, set(), {KeepReason.GRACE_PERIOD: 1})


@pytest.mark.parametrize("on_exceeded", OnExceeded)
def test_an_approval_lets_a_plan_past_the_limit_that_blocked_it(on_exceeded: OnExceeded) -> None:
    plan = _plan(["a", "b", "c"])
    what = replace(_POLICY, limits=Limits(max_deletions=1, on_exceeded=on_exceeded))
    before = _published(plan, when=ago(2)).approve(NOW)
    guarded = _guarded(what, plan, before=before)
    assert (guarded.go, _through(guarded), guarded.exceeded) == (Go.AHEAD, {"a", "b", "c"}, ())


def test_what_is_not_approved_keeps_what_it_needs() -> None:
    seen = _plan({"c": image("c"), "d": image("d")})
    before = _published(seen, when=ago(3)).approve(ago(hours=1))
    fresh = _plan({"c": image("c"), "d": image("d"), "i": index("i", ["c"])})
    before = _published(fresh, when=ago(2), before=before)
    guarded = _guarded(_APPROVING, fresh, before=before)
    assert (_through(guarded), guarded.unapproved) == ({"d"}, 2)


def test_a_plan_in_which_nothing_goes_waits_for_nobody() -> None:
    assert _guarded(_APPROVING).go is Go.AHEAD
    assert _guarded(_POLICY).go is Go.AHEAD
