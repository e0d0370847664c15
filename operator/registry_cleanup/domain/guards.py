"""What a run may prune of its plan right now: grace period, approval and limits, in this order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import chain

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.policy import Limits, OnExceeded, Policy
from registry_cleanup.domain.published import Protected, Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import descendants, indexes
from registry_cleanup.domain.verdict import KeepReason

# `limits.maxPercentPerRepository` is counted where more tags than this would go.
PERCENT_COUNTS_FROM = 10
# One for all: an empty set of its own for each of 100,000 groups would take 20 MB.
_NONE: frozenset[Digest] = frozenset()


class Go(Enum):
    """Whether a plan may be carried out."""

    AHEAD = "ahead"
    LIMIT_EXCEEDED = "limit exceeded"
    AWAITING_APPROVAL = "awaiting approval"


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guards leave of a plan.

    Attributes:
        go: whether anything may be pruned.
        plans: what may be pruned now; empty unless `go` is `AHEAD`.
        held: number of planned tags that are held back, by the reason that is told.
        items: those tags with their reasons, by repository.
        unapproved: number of tags that may go as soon as somebody approves them.
        exceeded: which limits the plan exceeds, in words; empty where it exceeds none.
        prunable_from: when the first of the planned tags may go; None where nothing is planned.
    """

    go: Go
    plans: Sequence[RepositoryPlan] = ()
    held: Mapping[KeepReason, int] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, KeepReason]] = field(default_factory=dict)
    unapproved: int = 0
    exceeded: Sequence[str] = ()
    prunable_from: datetime | None = None


def guard(
    policy: Policy,
    plans: Sequence[RepositoryPlan],
    before: Published,
    now: datetime,
    *,
    plan_only: bool,
    undone: Protected | None = None,
) -> Guarded:
    """Say what may be pruned of `plans`.

    Args:
        policy: whose guards.
        plans: fresh, of the repositories in which something goes.
        before: the plan that was published before this run, with what has been approved of it.
        now: the instant of the decision, aware.
        plan_only: whether nothing is pruned anyway. Where nothing is, limits are looked at as if the grace period were
            over, so that a plan that will be blocked says so a day before.
        undone: what was put back, and stays.
    """
    held = _Held()
    if undone is not None and undone.items != frozenset():
        whole, plans = plans, [plan.hold(_put_back(plan, undone)) for plan in plans]
        held.add(KeepReason.UNDONE, whole, plans)
    aged = [plan.hold(_in_grace(policy, plan, before, now)) for plan in plans]
    held.add(KeepReason.GRACE_PERIOD, plans, aged)
    prunable_from = min(chain.from_iterable(_times(policy, plan, before, now) for plan in plans), default=None)
    waits = not _count(aged)
    unseen = sum(_count_unapproved(plan, before, now) for plan in plans)
    # What a person has approved goes past the limits, once its grace period is over.
    exceeded = exceeded_limits(policy.limits, plans if plan_only or waits else aged) if unseen else []
    if not exceeded and not policy.approval_required:
        fitting = _under_ceiling(policy.limits, aged)
        held.add(KeepReason.LIMIT_TRUNCATED, aged, fitting)
        return Guarded(Go.AHEAD, _some(fitting), held.counts, held.items, 0, (), prunable_from)
    approved = [plan.hold(_unapproved(plan, before, now)) for plan in aged]
    if _count(approved):
        # Past the policy's limits: a person has seen this plan. What is new since waits for the next.
        unapproved = _count(aged) - _count(approved)
        fitting = _under_ceiling(policy.limits, approved)
        held.add(KeepReason.LIMIT_TRUNCATED, approved, fitting)
        return Guarded(Go.AHEAD, _some(fitting), held.counts, held.items, unapproved, (), prunable_from)
    if policy.approval_required:
        go = Go.AWAITING_APPROVAL if unseen else Go.AHEAD
        return Guarded(go, (), held.counts, held.items, unseen, exceeded, prunable_from)
    if policy.limits.on_exceeded is OnExceeded.ABORT:
        go = Go.AHEAD if waits and not plan_only else Go.LIMIT_EXCEEDED
        return Guarded(go, (), held.counts, held.items, _count(aged), exceeded, prunable_from)
    fitting = truncate(policy.limits, aged)
    held.add(KeepReason.LIMIT_TRUNCATED, aged, fitting)
    return Guarded(Go.AHEAD, _some(fitting), held.counts, held.items, 0, exceeded, prunable_from)


def exceeded_limits(limits: Limits, plans: Sequence[RepositoryPlan]) -> list[str]:
    """Return in words which limits pruning `plans` would exceed. Referrers count for nothing."""
    found = []
    total = sum(map(_images, plans))
    if total > limits.most_deletions:
        found.append(f"{total} tags would go, more than {limits.whose}")
    for plan in plans:
        going = _images(plan)
        if going > PERCENT_COUNTS_FROM and going * 100 > limits.max_percent * plan.size:
            found.append(
                f"{going} of {plan.size} tags of {plan.repository} would go, more than "
                f"limits.maxPercentPerRepository ({limits.max_percent})"
            )
    return found


def truncate(limits: Limits, plans: Sequence[RepositoryPlan]) -> list[RepositoryPlan]:
    """Return as much of `plans` as the limits allow: whole digest groups, oldest first, over all repositories.

    A group that is too large for what is left is passed over.
    """
    left = limits.most_deletions
    allowance = [_allowance(limits, plan) for plan in plans]
    chosen: list[set[Digest]] = [set() for _ in plans]
    queue = sorted(chain.from_iterable(_candidates(number, plan) for number, plan in enumerate(plans)))
    for _, _, _, number, digest, size, parents in queue:
        if size <= min(left, allowance[number]) and parents <= chosen[number]:
            chosen[number].add(digest)
            left -= size
            allowance[number] -= size
    return [
        plan.hold(
            {
                tag: KeepReason.LIMIT_TRUNCATED
                for group in plan.groups
                if not group.after and group.digest not in chosen[number]
                for tag in group.tags
            }
        )
        for number, plan in enumerate(plans)
    ]


def _under_ceiling(limits: Limits, approved: list[RepositoryPlan]) -> list[RepositoryPlan]:
    """Return as much of an approved plan as the administrator lets one run prune: no approval goes past that."""
    if limits.ceiling is None or sum(map(_images, approved)) <= limits.ceiling:
        return approved
    return truncate(replace(limits, max_deletions=limits.ceiling, max_percent=100), approved)


def _candidates(
    number: int, plan: RepositoryPlan
) -> Iterable[tuple[float, int, tuple[str, ...], int, Digest, int, frozenset[Digest]]]:
    """Yield age, depth, tags, plan, digest, size, and the groups that must go before, of every group.

    Where digests are deleted, a child goes with or after the indexes that list it: it is as young as they are.
    """
    dates: dict[Digest, float] = {}
    for verdict in plan.verdicts:
        if verdict.goes and verdict.digest is not None and verdict.subject is None:
            date = verdict.date.timestamp() if verdict.date is not None else float("inf")
            dates[verdict.digest] = max(date, dates.get(verdict.digest, date))
    groups = [group for group in plan.groups if not group.after]
    parents: dict[Digest, set[Digest]] = {}
    if plan.unit is DeletionUnit.DIGEST:
        going = {group.digest for group in groups}
        for index in indexes(going, plan.manifests):
            for child in descendants([index], plan.manifests):
                if child in going and child != index:
                    parents.setdefault(child, set()).add(index)
    for depth, group in enumerate(groups):  # indexes come before what they list
        above = frozenset(parents[group.digest]) if group.digest in parents else _NONE
        age = max(dates[group.digest], *map(dates.__getitem__, above)) if above else dates[group.digest]
        yield age, depth, group.tags, number, group.digest, len(group.tags), above


def _allowance(limits: Limits, plan: RepositoryPlan) -> int:
    return max(PERCENT_COUNTS_FROM, plan.size * limits.max_percent // 100)


def _put_back(plan: RepositoryPlan, undone: Protected) -> dict[str, KeepReason]:
    return {tag: KeepReason.UNDONE for group, tag in _items(plan) if undone.holds(plan.repository, tag, group.digest)}


def _in_grace(policy: Policy, plan: RepositoryPlan, before: Published, now: datetime) -> dict[str, KeepReason]:
    held = {}
    for group, tag in _items(plan):
        first = before.first(plan.repository, tag, group.digest)
        if first is None or now - first < policy.grace_period:
            held[tag] = KeepReason.GRACE_PERIOD
    return held


def _times(policy: Policy, plan: RepositoryPlan, before: Published, now: datetime) -> Iterable[datetime]:
    """Yield from when each tag may go."""
    for group, tag in _items(plan):
        first = before.first(plan.repository, tag, group.digest)
        yield (first if first is not None and first <= now else now) + policy.grace_period


def _count_unapproved(plan: RepositoryPlan, before: Published, now: datetime) -> int:
    return sum(not before.approved(plan.repository, tag, group.digest, now) for group, tag in _items(plan))


def _unapproved(plan: RepositoryPlan, before: Published, now: datetime) -> dict[str, KeepReason]:
    return {
        tag: KeepReason.GRACE_PERIOD  # never told: these are counted as unapproved
        for group, tag in _items(plan)
        if not before.approved(plan.repository, tag, group.digest, now)
    }


def _items(plan: RepositoryPlan) -> Iterable[tuple[DigestGroup, str]]:
    return ((group, tag) for group in plan.groups for tag in group.tags)


def _images(plan: RepositoryPlan) -> int:
    return sum(verdict.goes and verdict.subject is None for verdict in plan.verdicts)


def _count(plans: Iterable[RepositoryPlan]) -> int:
    return sum(plan.planned for plan in plans)


def _some(plans: Iterable[RepositoryPlan]) -> tuple[RepositoryPlan, ...]:
    return tuple(plan for plan in plans if plan.groups)


@dataclass(slots=True)
class _Held:
    """What is held back so far."""

    counts: Counter[KeepReason] = field(default_factory=Counter)
    items: dict[str, dict[str, KeepReason]] = field(default_factory=dict)

    def add(self, reason: KeepReason, before: Sequence[RepositoryPlan], after: Sequence[RepositoryPlan]) -> None:
        """Note what one guard took from each plan."""
        for whole, rest in zip(before, after, strict=True):
            if rest is whole:
                continue
            left = rest.going_tags()
            lost = [tag for _, tag in _items(whole) if tag not in left]
            if lost:
                self.items.setdefault(whole.repository, {}).update(dict.fromkeys(lost, reason))
                self.counts[reason] += len(lost)
