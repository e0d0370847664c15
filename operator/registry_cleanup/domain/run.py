"""One run of a policy: what started it, what it came to, and how that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from registry_cleanup.domain.deletion import DeletionSupport
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.rules import CLOCK_TOLERANCE


class Trigger(StrEnum):
    """What started a run."""

    SCHEDULE = "Schedule"
    REQUEST = "Request"
    SPEC_CHANGE = "SpecChange"  # plans only


class Phase(StrEnum):
    """How a run stands."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    PARTIAL = "Partial"
    FAILED = "Failed"
    BLOCKED = "Blocked"
    INTERRUPTED = "Interrupted"


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a run is told to do.

    Attributes:
        id: names the run in status, events and log.
        trigger: what started it.
        plan_only: stop after the plan.
        start: when it began, aware.
        request: the request to prune that it answers, if it answers one.
    """

    id: str
    trigger: Trigger
    plan_only: bool
    start: datetime
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run, or one repository of it, did not get through.

    Attributes:
        reason: CamelCase, of the condition that names it.
        message: what happened and what to do next; never text from a registry's body.
        repository: None if it concerns the whole run.
        mendable: whether a person has to mend something before a retry can help.
        reachable: whether the registry answered, as far as this failure tells; None where it does not tell.
        stops_run: whether nothing more may be deleted anywhere in this run.
        blocks: whether it is a doubt about the whole run rather than an error.
    """

    reason: str
    message: str
    repository: str | None = None
    mendable: bool = False
    reachable: bool | None = None
    stops_run: bool = False
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a run saw and did."""

    repositories_scanned: int = 0
    repositories_failed: int = 0
    tags_scanned: int = 0
    tags_matched: int = 0
    tags_kept: int = 0
    tags_planned: int = 0
    tags_pruned: int = 0
    tags_failed: int = 0
    tags_skipped: int = 0


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One line of a plan's sample."""

    repository: str
    tag: str
    digest: Digest
    rule: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What status shows of a plan; the whole of it is in the log."""

    hash: str
    generated_at: datetime
    deletions: int
    sample: tuple[PlannedItem, ...]


class Collector(StrEnum):
    """Whether somebody frees the space of images that nothing refers to any more; values are reasons."""

    ACTIVE = "ImagePrunerActive"
    SUSPENDED = "ImagePrunerSuspended"
    MISSING = "NoImagePruner"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a run leaves to the cluster: images that lost their last reference, and who collects them."""

    unreferenced: int
    collector: Collector


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that is told of one run.

    Attributes:
        order: what it was told to do.
        phase: how it stands.
        completion: when it ended; None while it runs.
        counts: how much it saw and did.
        kept_by_reason: number of tags that stay, by reason.
        plan: None where no plan came about.
        deletion: what was found out about deletion; None where nothing was asked.
        aftermath: what is left to others; None where nobody can tell.
        failures: of the run and of single repositories.
        message: one sentence or two for people.
    """

    order: RunOrder
    phase: Phase
    completion: datetime | None = None
    counts: Counts = field(default_factory=Counts)
    kept_by_reason: Mapping[str, int] = field(default_factory=Counter)
    plan: PlanSummary | None = None
    deletion: DeletionSupport | None = None
    aftermath: Aftermath | None = None
    failures: tuple[Failure, ...] = ()
    message: str = ""


def clock_skewed(offset: timedelta | None) -> bool:
    """Say whether our clock and another's differ by too much to trust an age; None is an unknown offset."""
    return offset is not None and abs(offset) > CLOCK_TOLERANCE


def phase_of(order: RunOrder, counts: Counts, failures: Sequence[Failure], interrupted: str | None) -> Phase:
    """Return how a run ended, by what it came to, what went wrong, and why it was stopped, if it was."""
    if interrupted is not None:
        return Phase.INTERRUPTED
    if any(failure.blocks for failure in failures):
        return Phase.BLOCKED
    if not failures and not counts.tags_failed:
        return Phase.SUCCEEDED
    planned_something = counts.repositories_scanned > 0
    if order.plan_only:
        whole_run = any(failure.repository is None for failure in failures)
        return Phase.PARTIAL if planned_something and not whole_run else Phase.FAILED
    return Phase.PARTIAL if counts.tags_pruned or (planned_something and not counts.tags_planned) else Phase.FAILED


def message_of(
    order: RunOrder,
    counts: Counts,
    failures: Sequence[Failure],
    interrupted: str | None,
    idle_patterns: Sequence[str] = (),
) -> str:
    """Return what a person should know of a run first; `idle_patterns` are those of the spec that match nothing."""
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


def _told(failure: Failure) -> str:
    return failure.message if failure.repository is None else f"{failure.repository}: {failure.message}"
