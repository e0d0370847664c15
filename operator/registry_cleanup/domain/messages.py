"""What people are told of a run, in a sentence or two: what matters first, and the next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from registry_cleanup.domain.deletion import lookup_seconds
from registry_cleanup.domain.guards import Go, Guarded
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import OnExceeded, Policy
from registry_cleanup.domain.run import Counts, Failure, RunOrder, Trigger
from registry_cleanup.domain.verdict import KeepReason

# What a registry needs for its deletions is told from so many seconds on.
_LONG_SECONDS = 60.0


def message_of(
    order: RunOrder,
    counts: Counts,
    failures: Sequence[Failure],
    interrupted: str | None,
    idle_patterns: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return what a person should know of a run first.

    Args:
        order: what the run was told to do.
        counts: what it came to.
        failures: what went wrong.
        interrupted: why it was stopped.
        idle_patterns: patterns of the spec that match nothing.
        notes: of the guards, of conflicts and of what is left untagged.
    """
    parts = []
    if interrupted is not None:
        parts.append(f"stopped: {interrupted}")
    parts.extend(_told(failure) for failure in failures[:3])
    if len(failures) > 3:
        parts.append(f"and {len(failures) - 3} more failures; see the log")
    if counts.repositories_scanned and order.plan_only:
        parts.append(f"{counts.tags_planned} of {counts.tags_scanned} tags would be pruned")
    elif counts.repositories_scanned:
        parts.append(f"{counts.tags_pruned} of {counts.tags_planned} planned tags are pruned")
    elif not failures and interrupted is None:
        parts.append("no repository of the registry matches spec.repositories, so there is nothing to do")
    if order.withheld is not None:
        parts.append(order.withheld)
    parts.extend(notes)
    planned = counts.repositories_scanned > 0 and order.plan_only and order.trigger is Trigger.SPEC_CHANGE
    if planned and order.request is not None:
        parts.append("a new or changed policy is only planned, and that answered the request: request again to prune")
    if counts.tags_failed:
        parts.append(
            f"{counts.tags_failed} could not be pruned, are still there though accepted, or could not be verified"
        )
    if idle_patterns:
        more = f" and {len(idle_patterns) - 3} more" if len(idle_patterns) > 3 else ""
        parts.append(f"matching nothing, mistyped? {', '.join(idle_patterns[:3])}{more}")
    return "; ".join(parts)


def guard_notes(policy: Policy, guarded: Guarded, *, plan_only: bool) -> list[str]:
    """Return what a person should know of what the guards said, with the next step."""
    notes = []
    if (waiting := guarded.held.get(KeepReason.GRACE_PERIOD)) and guarded.prunable_from is not None:
        begin = f" (the first may go from {guarded.prunable_from:%Y-%m-%dT%H:%M:%SZ})" if policy.grace_period else ""
        notes.append(f"waiting for the grace period: {waiting}{begin}")
    if undone := guarded.held.get(KeepReason.UNDONE):
        notes.append(f"put back by an undo, and so left alone until the policy is changed: {undone}")
    if truncated := guarded.held.get(KeepReason.LIMIT_TRUNCATED):
        notes.append(f"waiting for the next run, since the limits allow no more: {truncated}")
    if guarded.exceeded and policy.limits.on_exceeded is OnExceeded.ABORT:
        more = f" and {len(guarded.exceeded) - 2} more" if len(guarded.exceeded) > 2 else ""
        later = plan_only or guarded.go is Go.AHEAD
        would = "a run that prunes would be blocked" if later else "nothing was pruned"
        # No approval goes past what the administrator allows.
        portions = f" (one run then prunes no more than {policy.limits.whose})" if policy.limits.capped else ""
        ways = f"raise the limit, or approve the plan{portions}"
        notes.append(f"{would}: {'; '.join(guarded.exceeded[:2])}{more}; {ways}")
    if policy.approval_required and guarded.unapproved:
        notes.append(f"waiting for the approval of the plan: {guarded.unapproved}")
    elif guarded.go is Go.AHEAD and guarded.unapproved and not guarded.exceeded:
        notes.append(f"newer than the approved plan, waiting for the next: {guarded.unapproved}")
    return notes


def lookup_notes(plans: Iterable[RepositoryPlan]) -> list[str]:
    """Return what a person should know of deletions by digest that keep a registry busy, with what helps.

    Args:
        plans: what goes of each repository.
    """
    seconds = {plan.repository: lookup_seconds(plan.size, plan.planned, len(plan.groups)) for plan in plans}
    total = sum(seconds.values())
    if total <= _LONG_SECONDS:
        return []
    most = max(seconds, key=lambda repository: (seconds[repository], repository))
    where = f"{most} alone {_roughly(seconds[most])}" if len(seconds) > 1 else most
    told = (
        f"the registry deletes by digest and looks up every tag of the repository each time: that takes about "
        f"{_roughly(total)} of its processor ({where}); Distribution 3 deletes by tag at once, and lower limits spread "
        "it over several runs"
    )
    return [told]


def _roughly(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _told(failure: Failure) -> str:
    return failure.message if failure.repository is None else f"{failure.repository}: {failure.message}"
