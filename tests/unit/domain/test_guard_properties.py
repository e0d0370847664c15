"""Whatever the guards hold back: what is left is part of the plan, needs nothing that goes, and keeps its limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import event, given

from registry_cleanup.domain.guards import Go, Guarded, exceeded_limits, guard
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash
from registry_cleanup.domain.policy import OnExceeded
from registry_cleanup.domain.published import Published, nothing_published
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import NOW, pruned, told
from tests.unit.domain import oracle
from tests.unit.domain.generated import Case, cases, some


def _plans(case: Case) -> list[RepositoryPlan]:
    """Return the plans of two repositories that hold the same, as far as something goes."""
    plan = case.plan()
    return [plan, replace(plan, repository="team/web")] if plan.groups else []


def _held(case: Case, plan: RepositoryPlan, share: float) -> dict[str, KeepReason]:
    reasons = [KeepReason.GRACE_PERIOD, KeepReason.LIMIT_TRUNCATED]
    return {tag: case.random.choice(reasons) for tag in some(case.random, sorted(pruned(plan)), share)}


def _published(case: Case, plans: list[RepositoryPlan]) -> Published:
    """Return what earlier runs may have published: parts of the plans, long ago or lately, approved or not."""
    random = case.random
    published = nothing_published(case.policy.uid)
    for hours in (60, 30, 2):
        parts = [plan.hold(_held(case, plan, random.choice([0, 0.2, 0.5]))) for plan in plans]
        published = published.renewed(parts, (), "0" * 64, NOW - timedelta(hours=hours))
        if random.random() < 0.2:
            published = published.approve(NOW - timedelta(hours=hours - 1))
    return published


def _guarded(case: Case, *, plan_only: bool = False) -> tuple[list[RepositoryPlan], Published, Guarded]:
    plans = _plans(case)
    before = _published(case, plans)
    return plans, before, guard(case.policy, plans, before, NOW, plan_only=plan_only)


@given(cases)
def test_what_a_held_tag_needs_stays_with_it_and_nothing_else(case: Case) -> None:
    plan = case.plan()
    held = _held(case, plan, 0.4)
    left, expected = plan.hold(held), oracle.hold(case, oracle.read(case), held)
    assert pruned(left) == set(expected.going)
    assert set(left.untagged) == expected.untagged
    verdicts = told(left.verdicts)
    assert all(verdicts[tag] == reason for tag, reason in held.items())
    assert verdicts.keys() == told(plan.verdicts).keys()


@given(cases)
def test_the_part_that_pruning_holds_on_to_is_enough_to_hold_tags_back(case: Case) -> None:
    plan = case.plan()
    held = _held(case, plan, 0.4)
    left, part = plan.hold(held), plan.only_going().hold(held)
    assert (part.groups, part.untagged) == (left.groups, left.untagged)


@given(cases)
def test_guards_let_through_a_part_of_the_plan_that_needs_nothing_which_goes(case: Case) -> None:
    plans, _, guarded = _guarded(case)
    event(guarded.go.value)
    reading = oracle.read(case)
    for plan in plans:
        let_through = {tag for each in guarded.plans if each.repository == plan.repository for tag in pruned(each)}
        assert let_through <= pruned(plan)
        assert set(oracle.hold(case, reading, pruned(plan) - let_through).going) == let_through


@given(cases)
def test_guards_let_through_only_what_was_published_long_enough(case: Case) -> None:
    _, before, guarded = _guarded(case)
    for plan in guarded.plans:
        for group in plan.groups:
            for tag in group.tags:
                first = before.first(plan.repository, tag, group.digest)
                assert first is not None
                assert first <= NOW - case.policy.grace_period


@given(cases)
def test_guards_let_through_nothing_past_a_limit_that_nobody_approved(case: Case) -> None:
    _, before, guarded = _guarded(case)
    items = [(plan, tag, group) for plan in guarded.plans for group in plan.groups for tag in group.tags]
    approved = [before.approved(plan.repository, tag, group.digest, NOW) for plan, tag, group in items]
    assert all(approved) or not case.policy.approval_required
    assert all(approved) or not exceeded_limits(case.policy.limits, guarded.plans)
    if guarded.exceeded and case.policy.limits.on_exceeded is OnExceeded.ABORT:
        assert not guarded.plans
    assert guarded.go is Go.AHEAD or not guarded.plans


@given(cases)
def test_a_dry_run_and_a_real_run_have_the_same_plan_and_hash(case: Case) -> None:
    plans = _plans(case)
    before = _published(case, plans)
    name = plan_hash(case.policy, plans)
    for plan_only in (True, False):
        fresh = _plans(case)
        guard(case.policy, fresh, before, NOW, plan_only=plan_only)
        assert fresh == plans
        assert plan_hash(case.policy, fresh) == name
