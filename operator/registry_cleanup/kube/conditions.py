"""What a run found out, in the words of conditions: status, reason, and a message that gives the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from registry_cleanup.domain.deletion import Deletion, DeletionSupport
from registry_cleanup.domain.run import Aftermath, Collector, Conflict, Failure, Phase, RunReport
from registry_cleanup.domain.verdict import KeepReason
from registry_cleanup.kube.bounds import LONGEST_MESSAGE, short
from registry_cleanup.kube.spec import APPROVE_ANNOTATION
from registry_cleanup.kube.status import PLAN_BLOCKED

# So many limits, policies and repositories are named; of the others their number is told.
_LIMITS, _POLICIES, _REPOSITORIES = 2, 3, 5

_DELETION_MESSAGES = {
    Deletion.BY_TAG: "the registry removes tags alone",
    Deletion.BY_DIGEST: "the registry deletes whole digests; a tag goes only if every tag on its digest goes",
    Deletion.UNKNOWN: "the registry did not say whether this credential may delete; a run that prunes will tell",
    Deletion.WITHOUT_EFFECT: "the registry accepts the deletion of what does not exist, so its answer tells nothing; a "
    "run that prunes looks whether it has an effect",
    Deletion.DISABLED: "the registry does not allow deletion; for Docker Distribution set "
    "REGISTRY_STORAGE_DELETE_ENABLED=true and make sure that it is not read-only",
    Deletion.READ_ONLY: "the registry is read-only, as during garbage collection; for Docker Distribution end its "
    "maintenance mode (REGISTRY_STORAGE_MAINTENANCE_READONLY)",
    Deletion.FORBIDDEN: "the ServiceAccount may not remove tags",
}
# Reason of a failure, and of `InUseKnown`: the scan could not be had whole.
IN_USE_UNKNOWN = "InUseUnknown"
_REFUSED = frozenset({Deletion.DISABLED.value, Deletion.READ_ONLY.value, Deletion.WITHOUT_EFFECT.value})

_COLLECTOR_MESSAGES = {
    Collector.ACTIVE: "the cluster's ImagePruner will free their space",
    Collector.SUSPENDED: "the cluster's ImagePruner, which would free their space, is suspended",
    Collector.MISSING: "the cluster has no ImagePruner, so their space stays in use",
    Collector.UNKNOWN: "whether an ImagePruner will free their space cannot be seen with this ServiceAccount's rights",
}


class Told(NamedTuple):
    """Status, reason and message of a condition."""

    status: str
    reason: str
    message: str


def approval_command(namespace: str, name: str, plan_hash: str, *, again: bool = False) -> str:
    """Return the command that approves a plan; `again` where its approval is used up, and still stands there."""
    annotate = f"kubectl annotate rcp {name} -n {namespace}"
    approve = f"{annotate} {APPROVE_ANNOTATION}={plan_hash} --overwrite"
    return f"{annotate} {APPROVE_ANNOTATION}- && {approve}" if again else approve


def blocked_by_limits_only(report: RunReport) -> bool:
    """Say whether nothing but a limit held the run back: then it waits for a person, and did not fail."""
    exceeded = report.waiting is not None and report.waiting.exceeded
    return (
        report.phase is Phase.BLOCKED and bool(exceeded) and all(f.reason == "LimitExceeded" for f in report.failures)
    )


def delete_supported(support: DeletionSupport, failures: Sequence[Failure]) -> Told:
    """Say what the registry can delete."""
    refused = next((failure for failure in failures if failure.reason in _REFUSED), None)
    if refused is not None:
        return Told("False", refused.reason, refused.message)
    deletion = support.deletion
    unclear = deletion in (Deletion.UNKNOWN, Deletion.WITHOUT_EFFECT)
    status = "Unknown" if unclear else str(deletion.possible)
    return Told(status, deletion.value, support.detail or _DELETION_MESSAGES[deletion])


def images_collected(aftermath: Aftermath) -> Told:
    """Say how many images lost their last tag, and who frees their space."""
    count = f"{aftermath.unreferenced} images lost their last tag that this policy can see; "
    collector = aftermath.collector
    status = {Collector.ACTIVE: "True", Collector.UNKNOWN: "Unknown"}.get(collector, "False")
    return Told(status, collector.value, count + _COLLECTOR_MESSAGES[collector])


def in_use_known(report: RunReport) -> Told | None:
    """Say whether it is known what the cluster uses; None where the run did not get so far."""
    doubt = next((each for each in report.failures if each.reason == IN_USE_UNKNOWN and each.repository is None), None)
    if doubt is not None:
        return Told("False", IN_USE_UNKNOWN, doubt.message)
    if report.scan is None:
        return None
    if report.scan.disabled:
        return Told("Unknown", "Disabled", "nobody looks at what the cluster uses, since spec.inUse.enabled is false")
    kept = report.kept_by_reason.get(KeepReason.IN_USE.value, 0)
    count = f"references in use: {report.scan.references}; tags that they protect: {kept}"
    return Told("True", "Scanned", "; ".join([count, *report.scan.notes]))


def limit_exceeded(report: RunReport, command: str | None) -> Told | None:
    """Say which limits the plan exceeds and what lets it through; None where no plan came about.

    Args:
        report: of the run.
        command: that approves its plan.
    """
    if report.waiting is None:
        return None
    exceeded = report.waiting.exceeded
    if not exceeded:
        capped = report.waiting.capped
        wait = report.kept_by_reason.get(KeepReason.LIMIT_TRUNCATED.value, 0)
        if capped is not None and wait:
            return Told("True", "PlanTruncated", f"{wait} planned tags wait for the next runs: in one, {capped} holds")
        instead = f"; instead of limits.maxDeletions, {capped} holds" if capped is not None else ""
        return Told("False", "WithinLimits", f"no limit of spec.limits holds the plan back{instead}")
    which = "; ".join(exceeded[:_LIMITS])
    if len(exceeded) > _LIMITS:
        which += f"; and {len(exceeded) - _LIMITS} more repositories exceed theirs"
    if report.waiting.truncates:
        rest = "as many as the limits allow go in each run, oldest first (onExceeded: Truncate); the next runs go on"
        return Told("True", "PlanTruncated", _with_step(which, f". {rest}"))
    blocked = blocked_by_limits_only(report)
    what = "nothing was pruned" if blocked else "with onExceeded: Abort a run that prunes would prune nothing"
    portions = f" (one run then prunes no more than {report.waiting.capped})" if report.waiting.capped else ""
    ways = f"raise the limit, narrow the policy, set onExceeded: Truncate{_or_approve(report, command)}{portions}"
    step = f"; {what}: {ways}"
    return Told("True", PLAN_BLOCKED if blocked else "PlanTooLarge", _with_step(which, step))


def awaiting_approval(report: RunReport, command: str | None) -> Told | None:
    """Say whether the plan waits for its approval; None where no plan came about.

    Args:
        report: of the run.
        command: that approves its plan.
    """
    waiting = report.waiting
    if waiting is None:
        return None
    if not waiting.approval or not waiting.unapproved:
        return Told("False", "NothingToApprove", "no planned tag waits for approval")
    number = waiting.unapproved
    count = f"{number} {'tag waits' if number == 1 else 'tags wait'} for approval (spec.approval.required)"
    how = f"; read status.plan and the report, then: {command}" if command is not None else ""
    if waiting.other_approval:
        other = f"the annotation {APPROVE_ANNOTATION} names another plan than the published one"
        return Told("True", "OtherPlanApproved", f"{other}; {count}{how}")
    return Told("True", "PlanNotApproved", count + how)


def policy_conflict(conflicts: Sequence[Conflict]) -> Told:
    """Say which other policies select the same repositories, and who prunes there."""
    if not conflicts:
        return Told("False", "NoConflict", "no other live policy selects the same repositories of this registry")
    told = [_conflict(conflict) for conflict in conflicts[:_POLICIES]]
    if len(conflicts) > _POLICIES:
        told.append(f"and {len(conflicts) - _POLICIES} more policies")
    reason = "OlderPolicyPrunes" if any(conflict.yields for conflict in conflicts) else "YoungerPolicyYields"
    step = ". keepTags of all of them hold; narrow spec.repositories of one"
    return Told("True", reason, _with_step("; ".join(told), step))


def _conflict(conflict: Conflict) -> str:
    who = f"policy {conflict.namespace}/{conflict.name}"
    number = len(conflict.repositories)
    what = f"{number} {'repository' if number == 1 else 'repositories'} of this policy"
    names = ", ".join(conflict.repositories[:_REPOSITORIES])
    if number > _REPOSITORIES:
        names += f" and {number - _REPOSITORIES} more"
    if conflict.yields:
        return f"{who} is older and prunes {what}, where this one keeps everything: {names}"
    return f"{who} is younger and keeps everything in {what}, where this one prunes: {names}"


def _or_approve(report: RunReport, command: str | None) -> str:
    if command is None:
        return ""
    other = report.waiting is not None and report.waiting.other_approval
    why = f" (the annotation {APPROVE_ANNOTATION} names another plan than the published one)" if other else ""
    return f", or let this plan through{why}: {command}"


def _with_step(cause: str, step: str) -> str:
    """Return cause and next step; where both together are too long, it is the cause that is cut."""
    return short(cause, LONGEST_MESSAGE - len(step.encode())) + step
