"""One run of a policy: what started it, what it came to, and how that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from registry_cleanup.domain.clocks import CLOCK_TOLERANCE
from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.deletion import DeletionSupport
from registry_cleanup.domain.guards import Go
from registry_cleanup.domain.reference import Digest


class Trigger(StrEnum):
    """What started a run."""

    SCHEDULE = "Schedule"
    REQUEST = "Request"
    SPEC_CHANGE = "SpecChange"  # plans only
    RESUME = "Resume"  # a plan that waited was approved


class Phase(StrEnum):
    """How a run stands."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    PARTIAL = "Partial"
    FAILED = "Failed"
    BLOCKED = "Blocked"
    AWAITING_APPROVAL = "AwaitingApproval"
    INTERRUPTED = "Interrupted"


# Reason of the failure that a run's timeout is.
TIMEOUT = "Timeout"

_WAITS = {Go.LIMIT_EXCEEDED: Phase.BLOCKED, Go.AWAITING_APPROVAL: Phase.AWAITING_APPROVAL}


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a run is told to do.

    Attributes:
        id: names the run in status, events and log.
        trigger: what started it.
        plan_only: stop after the plan.
        start: when it began, aware.
        request: the request to prune that it answers, if it answers one.
        approval: the hash of a plan that a person approved, and that no run has taken note of.
        references_before: number of references that the last whole scan of this generation found; a scan that finds
            fewer than half of them is in doubt, unless `acknowledges`.
        acknowledges: whether a person asked for this run, which acknowledges that so much less is in use.
        scheduled_for: the scheduled time that it stands for, if it does.
        deadline: when it has to end, at the next safe point; None for never.
        first_repository: where it begins, since the run before it had no time left for it; None for anywhere.
        repeats: the run that was interrupted, and is done again by this one.
        withheld: why it only plans although the policy would prune; None where nothing but the policy decides.
    """

    id: str
    trigger: Trigger
    plan_only: bool
    start: datetime
    request: str | None = None
    approval: str | None = None
    references_before: int | None = None
    acknowledges: bool = False
    scheduled_for: datetime | None = None
    deadline: datetime | None = None
    first_repository: str | None = None
    repeats: str | None = None
    withheld: str | None = None


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
class Planned:
    """How much a plan would prune of one repository."""

    repository: str
    tags: int
    deletions: int


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What status shows of a plan; the whole of it is in the report and in the log.

    Attributes:
        hash: its name.
        generated_at: when it was made.
        deletions: number of tags that it would prune.
        sample: some of them.
        prunable_from: when the first of them may go; None where nothing is planned.
        reclaimable: bytes that it would free, an estimate.
        untagged: number of manifests that it would leave without a name, or delete with `untagged: Delete`.
        top: the repositories of which it would prune most.
    """

    hash: str
    generated_at: datetime
    deletions: int
    sample: tuple[PlannedItem, ...]
    prunable_from: datetime | None = None
    reclaimable: int = 0
    untagged: int = 0
    top: tuple[Planned, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What holds a plan back, or would.

    Attributes:
        exceeded: the limits that it exceeds, in words.
        approval: whether `approval.required` holds it.
        unapproved: number of tags that one approval would let through.
        other_approval: whether the policy bears the approval of another plan than the published one.
        truncates: whether a plan that exceeds limits goes as far as they allow.
        capped: the administrator's setting that holds instead of the policy's `limits.maxDeletions`, in words; None
            where the policy's own does.
    """

    exceeded: tuple[str, ...] = ()
    approval: bool = False
    unapproved: int = 0
    other_approval: bool = False
    truncates: bool = False
    capped: str | None = None


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What came of the look at what the cluster uses.

    Attributes:
        references: number of distinct references that were found.
        notes: what a person should know, such as a path that matches nothing or an image that cannot be parsed.
        disabled: whether nobody looked, since the policy says that nothing counts.
        began: when the look began, aware; runs that begin together share one.
    """

    references: int
    notes: tuple[str, ...] = ()
    disabled: bool = False
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another live policy that selects the same repositories of the same registry.

    Attributes:
        namespace, name: of the other policy.
        uid: of the other policy.
        yields: whether this policy keeps everything there, since the other one is older.
        repositories: sorted.
    """

    namespace: str
    name: str
    uid: str
    yields: bool
    repositories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportReference:
    """Where the full report of a run is.

    Attributes:
        name: of the ConfigMap in the policy's namespace.
        key: in its `binaryData`.
        cut: number of repositories that did not fit.
        sha256: of its bytes, in hex, by which it is told from what somebody else put there; None where nobody asks.
    """

    name: str
    key: str
    cut: int = 0
    sha256: str | None = None


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
        waiting: what holds the plan back; None where no plan came about.
        conflicts: with other policies; None where nobody looked.
        reference: where the full report is; None where there is none.
        approval_taken: whether the approval that the order bears was taken note of.
        scan: what came of the look at what is in use; None where nobody looked, or where it could not be had whole.
        next_repository: where the next run begins, since there was no time left for it; None for anywhere.
        copies: that can undo runs; None where this one has not to do with them.
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
    waiting: Waiting | None = None
    conflicts: tuple[Conflict, ...] | None = None
    reference: ReportReference | None = None
    approval_taken: bool = False
    scan: ScanSummary | None = None
    next_repository: str | None = None
    copies: CopiesHeld | None = None


def clock_skewed(offset: timedelta | None) -> bool:
    """Say whether our clock and another's differ by too much to trust an age; None is an unknown offset."""
    return offset is not None and abs(offset) > CLOCK_TOLERANCE


def phase_of(
    order: RunOrder,
    counts: Counts,
    failures: Sequence[Failure],
    interrupted: str | None,
    go: Go = Go.AHEAD,
) -> Phase:
    """Return how a run ended: by what it came to, what went wrong, why it was stopped, and what the guards said."""
    if interrupted is not None:
        return Phase.INTERRUPTED
    if any(failure.blocks for failure in failures):
        return Phase.BLOCKED
    if any(failure.reason == TIMEOUT and failure.repository is None for failure in failures):
        return Phase.PARTIAL
    if not failures and not counts.tags_failed:
        return Phase.SUCCEEDED if order.plan_only else _WAITS.get(go, Phase.SUCCEEDED)
    planned_something = counts.repositories_scanned > 0
    if order.plan_only:
        whole_run = any(failure.repository is None for failure in failures)
        return Phase.PARTIAL if planned_something and not whole_run else Phase.FAILED
    return Phase.PARTIAL if counts.tags_pruned or (planned_something and not counts.tags_planned) else Phase.FAILED
