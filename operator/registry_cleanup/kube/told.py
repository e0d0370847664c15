"""What a run came to, as the parts of `status` tell it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from registry_cleanup.domain.course import Progress
from registry_cleanup.domain.run import Failure, PlanSummary, ReportReference, RunReport
from registry_cleanup.domain.undoing import Undo, Undone
from registry_cleanup.kube.bounds import LONGEST_PAST_MESSAGE, LONGEST_UNDO_MESSAGE, short
from registry_cleanup.kube.status import (
    CountsStatus,
    HistoryEntry,
    InUseStatus,
    LastRun,
    PlanStatus,
    ProgressStatus,
    ReportRef,
    SampleItem,
    TopRepository,
    UndoStatus,
    rfc3339,
)


def last_run(report: RunReport, earlier: ReportRef | None) -> LastRun:
    """Return what is told of the run that ended last; `earlier` is where the report of one before it is."""
    return LastRun(
        id=report.order.id,
        trigger=report.order.trigger,
        phase=report.phase,
        dry_run=report.order.plan_only,
        scheduled_time=rfc3339(report.order.scheduled_for),
        start_time=rfc3339(report.order.start) or "",
        completion_time=rfc3339(report.completion),
        counts=CountsStatus(**asdict(report.counts)),
        kept_by_reason=dict(sorted(report.kept_by_reason.items())),
        message=short(report.message),
        report_ref=_report_ref(report.reference) or earlier,
    )


def undo_status(undone: Undone | Failure, run: str, now: datetime) -> UndoStatus:
    """Return what is told of the undo of `run`, or of its failure."""
    ended = rfc3339(now) or ""
    if isinstance(undone, Failure):
        return UndoStatus(run=run, completion_time=ended, message=short(undone.message, LONGEST_UNDO_MESSAGE))
    return UndoStatus(
        run=run,
        completion_time=ended,
        restored=undone.count(Undo.RESTORED),
        already_there=undone.count(Undo.ALREADY_THERE),
        refused=undone.count(Undo.REFUSED, Undo.TAMPERED),
        missing=undone.count(Undo.MISSING),
        failed=undone.count(Undo.FAILED),
        message=short(undone.message, LONGEST_UNDO_MESSAGE),
    )


def progress_status(progress: Progress, now: datetime) -> ProgressStatus:
    """Return what is told of a run that goes on; numbers of what it has not come to yet are absent."""
    snapshot = progress.snapshot
    planned = snapshot.repositories is not None
    return ProgressStatus(
        message=progress.message,
        time=rfc3339(now) or "",
        stage=snapshot.stage,
        repositories=snapshot.repositories,
        repositories_done=snapshot.repositories_done if planned else None,
        tags=snapshot.tags,
        tags_read=snapshot.tags_read if planned else None,
        tags_to_prune=snapshot.tags_to_prune,
        tags_pruned=snapshot.tags_pruned if snapshot.tags_to_prune is not None else None,
        requests_per_second=progress.requests_per_second,
        remaining_seconds=progress.remaining,
    )


def past(run: LastRun) -> HistoryEntry:
    """Return what is told of a run once it is history."""
    message = short(run.message, LONGEST_PAST_MESSAGE) if run.message is not None else None
    # Its model passes over what it does not know.
    return HistoryEntry.model_validate({**run.model_dump(), "message": message})


def _report_ref(reference: ReportReference | None) -> ReportRef | None:
    if reference is None:
        return None
    return ReportRef(name=reference.name, key=reference.key, cut_repositories=reference.cut, sha256=reference.sha256)


def in_use(report: RunReport, generation: int) -> InUseStatus | None:
    """Return what is told of the look at what is in use; None where nobody looked."""
    if report.scan is None or report.scan.disabled:
        return None
    time = rfc3339(report.scan.began or report.order.start) or ""
    return InUseStatus(references=report.scan.references, observed_generation=generation, scan_time=time)


def published_plan(plan: PlanSummary, generation: int) -> PlanStatus:
    """Return what is told of a plan of a generation."""
    return PlanStatus(
        hash=plan.hash,
        observed_generation=generation,
        generated_at=rfc3339(plan.generated_at) or "",
        deletions=plan.deletions,
        prunable_from=rfc3339(plan.prunable_from),
        reclaimable_bytes=plan.reclaimable,
        untagged_manifests=plan.untagged,
        top_repositories=[
            TopRepository(repository=each.repository, tags=each.tags, deletions=each.deletions) for each in plan.top
        ],
        sample=[
            SampleItem(
                repository=item.repository,
                tag=item.tag,
                digest=item.digest,
                rule=item.rule,
                reasons=list(item.reasons),
            )
            for item in plan.sample
        ],
    )
