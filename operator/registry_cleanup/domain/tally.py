"""What a run has come to so far: the only thing about a run that changes while it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.course import Readings, Snapshot, Stage
from registry_cleanup.domain.deletion import DeletionSupport, ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.guards import Go, Guarded
from registry_cleanup.domain.messages import guard_notes, lookup_notes, message_of
from registry_cleanup.domain.ownership import tag_patterns
from registry_cleanup.domain.pattern_set import PatternSet
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash
from registry_cleanup.domain.policy import OnExceeded, Policy, TagPattern, Untagged
from registry_cleanup.domain.progress import next_repository
from registry_cleanup.domain.report import FullReport
from registry_cleanup.domain.run import (
    TIMEOUT,
    Aftermath,
    Conflict,
    Counts,
    Failure,
    Planned,
    PlannedItem,
    PlanSummary,
    ReportReference,
    RunOrder,
    RunReport,
    ScanSummary,
    Waiting,
    phase_of,
)
from registry_cleanup.domain.space import SpaceEstimate
from registry_cleanup.domain.verdict import KeepReason

_SAMPLE = 10
_TOP = 5
_NOTES = 3
_NOT_GONE = frozenset({Outcome.FAILED, Outcome.NOT_DELETED})
_CHANGED = (Outcome.MOVED, Outcome.NOW_SHARED, Outcome.NOW_IN_USE, Outcome.ALREADY_GONE)


@dataclass(slots=True)
class Tally:
    """Counts repository after repository, and holds of each only what its pruning needs.

    Attributes:
        policy: whose run it is.
        order: what the run was told to do.
        report: every verdict and outcome.
        plans: of repositories in which something goes.
        unread: repositories that could not be read whole.
        summary: of the plan, once it is complete.
        guarded: what may be pruned of it.
        scan: what came of the look at what is in use.
        selected: all repositories of the run, in the order in which it takes them.
        untagged_left: manifests that the plan leaves without a name, and that exist on.
        late: whether the time of the run was over before it was through.
        stage: what the run is at.
        copies: that can undo runs; None as long as this one has not to do with them.
        doubt: why runs of this operator only plan for now, where this one would have planned only anyway.
    """

    policy: Policy
    order: RunOrder
    report: FullReport = field(default_factory=FullReport)
    plans: list[RepositoryPlan] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    summary: PlanSummary | None = None
    guarded: Guarded | None = None
    support: DeletionSupport | None = None
    aftermath: Aftermath | None = None
    conflicts: tuple[Conflict, ...] | None = None
    reference: ReportReference | None = None
    approval_taken: bool = False
    other_approval: bool = False
    interrupted: str | None = None
    idle_globs: list[str] = field(default_factory=list)
    scan: ScanSummary | None = None
    selected: Sequence[str] = ()
    untagged_left: int = 0
    late: bool = False
    stage: Stage = Stage.LOOKING
    copies: CopiesHeld | None = None
    _left: list[str] = field(default_factory=list)
    _advanced: set[str] = field(default_factory=set)
    _top: list[Planned] = field(default_factory=list)
    doubt: str | None = None
    _scanned: int = 0
    _failed: int = 0
    _tags: int = 0
    _matched: int = 0
    _planned: int = 0
    _going: int | None = None
    _untagged: int = 0
    _kept: Counter[str] = field(default_factory=Counter)
    _outcomes: Counter[Outcome] = field(default_factory=Counter)
    _untagged_outcomes: Counter[Outcome] = field(default_factory=Counter)
    _sample: list[PlannedItem] = field(default_factory=list)
    _space: SpaceEstimate = field(default_factory=SpaceEstimate)
    _idle: dict[str, TagPattern] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with every pattern of the policy: those that match nothing in the end may be mistyped."""
        self._idle = tag_patterns(self.policy)

    def take(self, plan: RepositoryPlan) -> None:
        """Count a repository's plan and hold only what its pruning needs."""
        self._scanned += 1
        self._tags += plan.size
        self._matched += sum(verdict.rule is not None and verdict.subject is None for verdict in plan.verdicts)
        self._kept.update(plan.kept_by_reason())
        self._planned += plan.planned
        self._untagged += len(plan.untagged)
        if self.policy.untagged is Untagged.KEEP and not plan.named_only:
            self.untagged_left += len(plan.untagged)
        self._note_matching(verdict.tag for verdict in plan.verdicts)
        self._sample.extend(islice(_sampled(plan), _SAMPLE - len(self._sample)))
        self._space.add(plan)
        if plan.planned:
            top = [*self._top, Planned(plan.repository, plan.size, plan.planned)]
            self._top = sorted(top, key=lambda each: (-each.deletions, each.repository))[:_TOP]
        self.report.planned(plan)
        if plan.groups:
            self.plans.append(plan.only_going())

    def _note_matching(self, tags: Iterable[str]) -> None:
        """Strike the patterns that match any of `tags` off those that match nothing."""
        idle = PatternSet(self._idle.values())
        matching = {place for tag in tags for place in idle.matching(tag)} if self._idle else ()
        self._idle = {where: self._idle[where] for place, where in enumerate(self._idle) if place not in matching}

    def miss(self, repository: str, reason: str, listed: int) -> None:
        """Count a repository that could not be read whole: all its tags are kept."""
        self._failed += 1
        self.unread.append(repository)
        self._tags += listed
        self._kept[KeepReason.REPOSITORY_INCOMPLETE.value] += listed
        self.report.incomplete(repository, reason, listed)

    def miss_late(self, repository: str) -> None:
        """Count a repository that there was no time to read."""
        self.late = True
        self._left.append(repository)
        self.miss(repository, TIMEOUT, 0)

    def leave(self, repository: str) -> None:
        """Count a repository that there was no time to prune to the end."""
        self.late = True
        self._left.append(repository)
        self.fail_in(repository)

    def fail_in(self, repository: str) -> None:
        """Count a repository that was planned, and could not be pruned to the end."""
        del repository
        self._failed += 1

    @property
    def nothing_read(self) -> bool:
        """Whether repositories were to be read, and none could be."""
        return bool(self._failed) and not self._scanned

    def summarize(self, now: datetime) -> PlanSummary:
        """Complete the plan: no more repositories come."""
        self.summary = PlanSummary(
            plan_hash(self.policy, self.plans),
            now,
            self._planned,
            tuple(self._sample),
            reclaimable=self._space.size,
            untagged=self._untagged,
            top=tuple(self._top),
        )
        return self.summary

    def terms(self) -> dict[str, str | int]:
        """Return what the report says of how the plan is meant, for whoever prunes by it elsewhere."""
        terms: dict[str, str | int] = {}
        if self.support is not None:
            terms["deletionUnit"] = self.support.deletion.unit.value
        if self.guarded is not None:
            terms["unapproved"] = self.guarded.unapproved
        return terms

    @property
    def next_repository(self) -> str | None:
        """Where the next run begins; None for anywhere."""
        if self.late and self.selected:
            return next_repository(self.selected, self._left, self._advanced)
        through = self.summary is not None and self.interrupted is None
        return None if through else self.order.first_repository

    def timeout(self) -> Failure:
        """Return what is told of a run that was not through in its time: how far it came, and what follows."""
        came = "before any repository could be planned"
        if self.selected:
            done = len(self.selected) - len(self._left)
            came = f"with {done} of {len(self.selected)} repositories done"
        begins = f"; the next run begins with {self.next_repository}" if self.next_repository is not None else ""
        return Failure(
            TIMEOUT, f"spec.timeout ended the run {came}{begins}; if that happens again and again, raise spec.timeout"
        )

    def take_guarded(self, guarded: Guarded) -> None:
        """Note what the guards let through."""
        self._going = sum(plan.planned for plan in guarded.plans)
        for repository, items in guarded.items.items():
            self.report.held(repository, items)
        self.guarded = replace(guarded, items={})  # the report has them
        if self.summary is not None:
            self.summary = replace(self.summary, prunable_from=guarded.prunable_from)

    def advance_in(self, repository: str) -> None:
        """Note that something was done in a repository: should the time be over, the next run goes on with it."""
        self._advanced.add(repository)

    def outcome(self, outcome: ItemOutcome | UntaggedOutcome) -> None:
        """Count what became of one item."""
        if isinstance(outcome, ItemOutcome):
            self._outcomes[outcome.outcome] += 1
        else:
            self._untagged_outcomes[outcome.outcome] += 1

    def snapshot(self, readings: Readings, requests: int) -> Snapshot:
        """Return what the run has come to, with what its registry says of readings under way and of requests sent."""
        known = self.stage in (Stage.PLANNING, Stage.PRUNING)
        return Snapshot(
            self.stage,
            len(self.selected) if known else None,
            self._scanned + len(self.unread),
            readings.tags_of_all(len(self.selected)) if known else None,
            max(self._tags, readings.tags_read),
            self._going,
            self._outcomes[Outcome.PRUNED],
            self._share(readings),
            requests,
        )

    def _share(self, readings: Readings) -> float | None:
        """Return how much of the stage is done, from 0 to 1; None where nobody can tell.

        By tags, where their number is known, else by repositories.
        """
        if self.stage is Stage.PRUNING and self._going:
            return min(self._outcomes.total() / self._going, 1.0)
        if self.stage is not Stage.PLANNING or not self.selected:
            return None
        if tags := readings.tags_of_all(len(self.selected)):
            return min(readings.tags_read / tags, 1.0)
        return min(max(self._scanned + len(self.unread), readings.repositories_read) / len(self.selected), 1.0)

    def finished(self, now: datetime) -> RunReport:
        """Return what is told of the run."""
        counts = self._counts()
        guarded = self.guarded or Guarded(Go.AHEAD)
        held = Counter({reason.value: number for reason, number in guarded.held.items()})
        return RunReport(
            self.order,
            phase_of(self.order, counts, self.failures, self.interrupted, guarded.go),
            now,
            counts,
            self._kept + held,
            self.summary,
            self.support if self.summary is not None else None,
            self.aftermath,
            tuple(self.failures),
            message_of(self.order, counts, self.failures, self.interrupted, self._idle_patterns(), self._notes()),
            self._waiting() if self.summary is not None else None,
            self.conflicts,
            self.reference,
            self.approval_taken,
            self.scan,
            self.next_repository,
            self.copies,
        )

    def _counts(self) -> Counts:
        pruned = self._outcomes[Outcome.PRUNED]
        failed = sum(self._outcomes[outcome] for outcome in _NOT_GONE)
        return Counts(
            repositories_scanned=self._scanned,
            repositories_failed=self._failed,
            tags_scanned=self._tags,
            tags_matched=self._matched,
            tags_kept=self._kept.total(),
            tags_planned=self._planned,
            tags_pruned=pruned,
            tags_failed=failed,
            tags_skipped=0 if self.order.plan_only else self._planned - pruned - failed,
        )

    def _waiting(self) -> Waiting:
        guarded = self.guarded or Guarded(Go.AHEAD)
        return Waiting(
            tuple(guarded.exceeded),
            self.policy.approval_required,
            guarded.unapproved,
            self.other_approval,
            self.policy.limits.on_exceeded is OnExceeded.TRUNCATE,
            self.policy.limits.whose if self.policy.limits.capped else None,
        )

    def _notes(self) -> list[str]:
        notes = [] if self.order.repeats is None else [f"this run repeats {self.order.repeats}, which was interrupted"]
        if self.guarded is not None:
            notes += guard_notes(self.policy, self.guarded, plan_only=self.order.plan_only)
        if self.doubt is not None:
            notes.append(f"a run that prunes would be blocked: {self.doubt}")
        if self.other_approval:
            notes.append(
                "the annotation approve-plan names another plan than the published one, so it approves nothing"
            )
        for conflict in self.conflicts or ():
            if conflict.yields:
                other = f"{conflict.namespace}/{conflict.name}"
                number = len(conflict.repositories)
                what = "1 repository is" if number == 1 else f"{number} repositories are"
                notes.append(f"{what} kept whole: policy {other} prunes there")
        return [*notes, *self._changed_notes(), *self._untagged_notes(), *self._lookup_notes(), *self._scan_notes()]

    def _changed_notes(self) -> list[str]:
        """Return why planned tags were neither pruned nor failed, in the words of the report."""
        changed = {outcome: number for outcome in _CHANGED if (number := self._outcomes[outcome])}
        if not changed:
            return []
        told = ", ".join(f"{number} {outcome.value}" for outcome, number in changed.items())
        return [f"changed before their deletion, and so left alone: {told}"]

    def _scan_notes(self) -> list[str]:
        notes = () if self.scan is None else self.scan.notes
        more = [f"and {len(notes) - _NOTES} more notes on what is in use; see the log"] if len(notes) > _NOTES else []
        return [*notes[:_NOTES], *more]

    def _untagged_notes(self) -> list[str]:
        deletes = self.policy.untagged is Untagged.DELETE
        if self.order.plan_only and self._untagged:
            what = "untagged manifests would be deleted" if deletes else "manifests would be left untagged"
            return [f"{self._untagged} {what}"]
        if deletes and (deleted := self._untagged_outcomes[Outcome.PRUNED]):
            return [f"{deleted} untagged manifests were deleted"]
        if not deletes and self._untagged and self._outcomes[Outcome.PRUNED] and self.interrupted is None:
            return [f"up to {self._untagged} manifests are left untagged"]
        return []

    def _lookup_notes(self) -> list[str]:
        """Return what a registry that deletes by digest needs for it, where that is long."""
        if self.support is None or self.support.deletion.unit is not DeletionUnit.DIGEST:
            return []
        return lookup_notes(self.plans if self.guarded is None or self.order.plan_only else self.guarded.plans)

    def _idle_patterns(self) -> Sequence[str]:
        """Return the patterns and globs of the spec that match nothing, if all tags were seen."""
        whole = self.summary is not None and self._scanned and not self._failed
        return [*self.idle_globs, *self._idle] if whole else []


def _sampled(plan: RepositoryPlan) -> Iterator[PlannedItem]:
    for verdict in plan.verdicts:
        if verdict.goes and verdict.digest is not None:
            reasons = tuple(reason.value for reason in verdict.pruned)
            yield PlannedItem(plan.repository, verdict.tag, verdict.digest, verdict.rule or "", reasons)
