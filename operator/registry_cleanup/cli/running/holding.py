"""What holds a plan back that a person wants to run, and with which exit code a run ends: decisions, on values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from registry_cleanup.cli.exits import Exit
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.policy import MAX_DELETIONS
from registry_cleanup.domain.run import Phase, RunReport
from registry_cleanup.domain.verdict import KeepReason
from registry_cleanup.kube.spec import ParsedPolicy

_OF_THE_CLUSTER = frozenset({"InUseUnknown", "NoCluster", "APIServerUnavailable"})
_OF_THIS_MACHINE = frozenset({"PlanStoreUnavailable", "PlanTooLarge"})


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing is pruned, with the next step, and the exit code that this is."""

    message: str
    code: Exit = Exit.HELD_BACK


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person says of a plan before they see it.

    Attributes:
        yes: nobody is to be asked.
        approve: hash of the plan that is approved, past limits and `approval.required`.
        asks: there is a terminal, with somebody to ask.
    """

    yes: bool = False
    approve: str | None = None
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier runs know.

    Attributes:
        planned: whether this very spec was planned before.
        references: in use at the last look that nobody doubted; None where there was none.
    """

    planned: bool
    references: int | None = None


def going_now(policy: ParsedPolicy, report: RunReport) -> int:
    """Return how many tags of a plan that was just published may go at once, at most."""
    held = report.kept_by_reason.get(KeepReason.LIMIT_TRUNCATED.value, 0)
    if policy.policy.grace_period:
        held += report.kept_by_reason.get(KeepReason.GRACE_PERIOD.value, 0)
    return report.counts.tags_planned - held


def blocked_by_limits(policy: ParsedPolicy, report: RunReport) -> bool:
    """Say whether a limit says no to all of a plan, as far as that is known before the run."""
    waiting = report.waiting
    exceeded = waiting is not None and bool(waiting.exceeded) and not waiting.truncates
    return exceeded and going_now(policy, report) == report.counts.tags_planned


def hold_of(policy: ParsedPolicy, report: RunReport, wish: Wish, past: Past, *, withheld: str | None) -> Hold | None:
    """Return what holds a plan back that was just made and published; None where somebody may be asked, or it may go.

    Args:
        policy: whose plan it is.
        report: of the run that planned.
        wish: of the person.
        past: of the policy on this machine.
        withheld: why nothing is pruned here, whatever policies say.
    """
    if report.plan is None or report.phase in (Phase.FAILED, Phase.BLOCKED, Phase.INTERRUPTED):
        return Hold("", exit_of(report))
    if not report.counts.tags_planned:
        return _yields(report) or Hold("Nothing is to be pruned.", exit_of(report))
    for hold in (
        _own(policy, withheld),
        _approval(report.plan.hash, wish),
        _grace(policy, report),
        _limits(policy, report, wish),
    ):
        if hold is not None:
            return hold
    return None if wish.approve is not None else _unseen(report, wish, past)


def _yields(report: RunReport) -> Hold | None:
    """Hold back what an older policy prunes instead."""
    older = [f"{each.namespace}/{each.name}" for each in report.conflicts or () if each.yields]
    if not older or not report.kept_by_reason.get(KeepReason.POLICY_CONFLICT.value):
        return None
    who = (
        f"policy {older[0]} is older and prunes"
        if len(older) == 1
        else f"policies {', '.join(older)} are older and prune"
    )
    return Hold(
        f"Nothing was pruned: {who} the same repositories in the cluster, where this one keeps everything. Narrow "
        "spec.repositories of one of them, or suspend the other."
    )


def _own(policy: ParsedPolicy, withheld: str | None) -> Hold | None:
    if policy.dry_run:
        return Hold("Nothing was pruned: the policy has dryRun: true, the default; to prune, say dryRun: false.")
    return None if withheld is None else Hold(f"Nothing was pruned: {withheld}.")


def _approval(plan: str, wish: Wish) -> Hold | None:
    if wish.approve in (None, plan):
        return None
    return Hold(f"Nothing was pruned: --approve names {wish.approve}, and the plan of now is {plan}. Look at it first.")


def _grace(policy: ParsedPolicy, report: RunReport) -> Hold | None:
    if going_now(policy, report) > 0 or report.plan is None:
        return None
    if report.plan.prunable_from is None or not report.kept_by_reason.get(KeepReason.GRACE_PERIOD.value):
        return Hold("Nothing was pruned: the limits let no group of tags through; raise the limit.")
    period = duration_text(policy.policy.grace_period)
    return Hold(
        f"Nothing was pruned: the grace period of {period} counts from the first plan with a tag on it. "
        f"The first may go from {report.plan.prunable_from:%Y-%m-%dT%H:%M:%SZ}; run this again then."
    )


def _limits(policy: ParsedPolicy, report: RunReport, wish: Wish) -> Hold | None:
    if report.waiting is None or report.plan is None or wish.approve is not None:
        return None
    if not blocked_by_limits(policy, report):
        return None
    which = "; ".join(report.waiting.exceeded[:5])
    if _beyond_ceiling(policy, report):
        return Hold(
            f"Nothing was pruned: {which}. An approval does not go past the setting {MAX_DELETIONS} "
            f"({policy.policy.limits.ceiling}): narrow the policy, or have the setting raised. To prune as many as it "
            f"allows, oldest first: --approve {report.plan.hash}"
        )
    return Hold(
        f"Nothing was pruned: {which}. Raise the limit, narrow the policy, or let this very plan through: "
        f"--approve {report.plan.hash}"
    )


def _beyond_ceiling(policy: ParsedPolicy, report: RunReport) -> bool:
    """Say whether a plan exceeds what the administrator lets one run prune, whoever approves."""
    limits = policy.policy.limits
    if report.waiting is None or limits.ceiling is None:
        return False
    if limits.capped:
        return any(limits.whose in exceeded for exceeded in report.waiting.exceeded)
    return going_now(policy, report) > limits.ceiling


def _unseen(report: RunReport, wish: Wish, past: Past) -> Hold | None:
    """Hold back what only a person may let through, where nobody is to be asked."""
    if report.plan is None or (wish.asks and not wish.yes):
        return None
    approve = f"--approve {report.plan.hash}"
    if (fewer := fewer_references(report, past)) is not None:
        return Hold(f"Nothing was pruned: {fewer}. If that is right: {approve}", Exit.CLUSTER)
    if report.waiting is not None and report.waiting.approval and report.waiting.unapproved:
        return Hold(
            "Nothing was pruned: the policy has approval.required, and --yes approves nothing. Look at the plan, then: "
            f"{approve}"
        )
    if not wish.yes:
        return Hold(f"There is no terminal to ask on: add --yes, or {approve}", Exit.USAGE)
    if not past.planned:
        return Hold(
            "Nothing was pruned: a policy that is new here, or was changed, is only planned where nobody is asked. "
            f"Run this again, or: {approve}"
        )
    return None


def fewer_references(report: RunReport, past: Past) -> str | None:
    """Say that far less is in use than at the last look, which may show that this one did not see all."""
    now = report.scan
    if now is None or now.disabled or past.references is None or 2 * now.references >= past.references:
        return None
    return f"only {now.references} references are in use, fewer than half of the {past.references} of the last look"


def exit_of(report: RunReport, *, signalled: bool = False, gone_already: int = 0, asked: int = 0) -> Exit:
    """Return the exit code of a run.

    Args:
        report: of it.
        signalled: whether a person stopped it.
        gone_already: planned tags that somebody else had taken away: as they should be.
        asked: number of tags that were to go by the plan that was shown, of which all may have come to be kept.
    """
    reasons = {failure.reason for failure in report.failures}
    match report.phase:
        case Phase.INTERRUPTED:
            return Exit.INTERRUPTED if signalled else Exit.HELD_BACK
        case Phase.BLOCKED | Phase.AWAITING_APPROVAL:
            return Exit.CLUSTER if reasons & _OF_THE_CLUSTER else Exit.HELD_BACK
        case Phase.FAILED | Phase.PARTIAL | Phase.RUNNING:
            return _failed(report, reasons)
        case Phase.SUCCEEDED:
            kept = asked > 0 and not report.counts.tags_planned
            held = not report.order.plan_only and (report.counts.tags_skipped > gone_already or kept)
            return Exit.HELD_BACK if held else Exit.DONE


def _failed(report: RunReport, reasons: Collection[str]) -> Exit:
    if _OF_THE_CLUSTER.intersection(reasons):
        return Exit.CLUSTER
    if any(failure.reachable is False for failure in report.failures):
        return Exit.REGISTRY
    if _OF_THIS_MACHINE.intersection(reasons):
        return Exit.FAILED
    whole = report.phase is Phase.FAILED and any(failure.repository is None for failure in report.failures)
    return Exit.REGISTRY if whole else Exit.PARTIAL
