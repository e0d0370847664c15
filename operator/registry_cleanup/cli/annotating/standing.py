"""What the status of a policy says of its plan: what became of it, what holds it back, and who is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry_cleanup.cli.exits import Exit
from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.conditions import approval_command
from registry_cleanup.kube.status import LastRun, PolicyStatus, parse_status, parse_time

_EXITS = {
    Phase.SUCCEEDED: Exit.DONE,
    Phase.PARTIAL: Exit.PARTIAL,
    Phase.FAILED: Exit.FAILED,
    Phase.BLOCKED: Exit.HELD_BACK,
    Phase.AWAITING_APPROVAL: Exit.HELD_BACK,
    Phase.INTERRUPTED: Exit.HELD_BACK,
}
# Reasons of `Stalled`: the registry answers, and does not let the operator in.
_NOT_LET_IN = frozenset({"Denied", "LoginFailed"})


@dataclass(frozen=True, slots=True)
class Pruned:
    """What the last run has pruned of the plan that is published.

    Attributes:
        at: when it ended.
        tags: how many.
        whole: whether that is all of the plan.
    """

    at: str
    tags: int
    whole: bool


def pruned(status: PolicyStatus) -> Pruned | None:
    """Return what is pruned already of the published plan; None where that is nothing, as far as status tells."""
    plan, run = status.plan, status.last_run
    if plan is None or run is None or run.dry_run or run.completion_time is None or run.counts is None:
        return None
    made, began = parse_time(plan.generated_at), parse_time(run.start_time)
    # A run that prunes publishes the plan that it prunes by; one that was made before has run into something else.
    if made is None or began is None or made < began or not run.counts.tags_pruned:
        return None
    whole = run.phase is Phase.SUCCEEDED and run.counts.tags_pruned >= plan.deletions
    return Pruned(run.completion_time, run.counts.tags_pruned, whole)


def waits(status: PolicyStatus) -> bool:
    """Say whether an approval would let anything through: what waits for one, or exceeds a limit."""
    found = map(status.condition, ("AwaitingApproval", "LimitExceeded"))
    return any(condition is not None and condition.status == "True" for condition in found)


def held_back(body: Mapping[str, Any], now: datetime) -> list[str]:
    """Return what holds the plan of a policy back, in words."""
    spec, status = body.get("spec") or {}, parse_status(body.get("status"))
    told = []
    if spec.get("suspend"):
        told.append("it is suspended, so it does not run before suspend is taken away")
    if spec.get("dryRun", True) is True:
        told.append("it has dryRun: true, so a run only plans")
    plan = status.plan
    if plan is not None and plan.observed_generation != body["metadata"]["generation"]:
        told.append("this plan is of an earlier spec: the policy, as it is now, is only planned first")
    from_ = parse_time(plan.prunable_from) if plan is not None else None
    if plan is not None and plan.deletions and from_ is not None and from_ > now:
        told.append(f"the grace period: the first tag may go from {plan.prunable_from}")
    for type_ in ("LimitExceeded", "AwaitingApproval", "PolicyConflict"):
        found = status.condition(type_)
        if found is not None and found.status == "True":
            told.append(f"{type_}: {_of_ours(found.message, body, status)}")
    known = status.condition("InUseKnown")
    if known is not None and known.status == "False":
        told.append(f"{known.reason}: {known.message}")
    return told


def _of_ours(message: str, body: Mapping[str, Any], status: PolicyStatus) -> str:
    """Return the message of a condition with our command in place of kubectl's, which does the same."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    if status.plan is not None:
        for again in (True, False):  # the one begins with what the other is
            theirs = approval_command(namespace, name, status.plan.hash, again=again)
            message = message.replace(theirs, f"registry-cleanup approve {name} -n {namespace}")
    return message


def exit_of(status: PolicyStatus, run: LastRun) -> Exit:
    """Return how a command ends that has waited for a run, as far as status tells whose fault it is."""
    match run.phase:
        case Phase.FAILED:
            return _of_failed(status)
        case Phase.BLOCKED if _is(status, "InUseKnown", "False"):
            return Exit.CLUSTER
        case Phase.SUCCEEDED if run.counts is not None and run.counts.tags_planned > run.counts.tags_pruned:
            return Exit.HELD_BACK  # the grace period, limits, a dry run, or what changed meanwhile
        case _:
            return _EXITS.get(run.phase, Exit.FAILED)


def _of_failed(status: PolicyStatus) -> Exit:
    stalled = status.condition("Stalled")
    if _is(status, "RegistryReachable", "False"):
        return Exit.REGISTRY
    if stalled is not None and stalled.status == "True" and stalled.reason in _NOT_LET_IN:
        return Exit.REGISTRY
    return Exit.CLUSTER if _is(status, "InUseKnown", "False") else Exit.FAILED


def _is(status: PolicyStatus, type_: str, value: str) -> bool:
    condition = status.condition(type_)
    return condition is not None and condition.status == value
