"""From runs to `status`: pure, so that what the resource says can be tested without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.course import Progress
from registry_cleanup.domain.policy import UndoRules
from registry_cleanup.domain.run import Conflict, Failure, Phase, PlanSummary, RunOrder, RunReport
from registry_cleanup.domain.undoing import Undone
from registry_cleanup.kube.bounds import fitted, short
from registry_cleanup.kube.conditions import (
    approval_command,
    awaiting_approval,
    blocked_by_limits_only,
    delete_supported,
    images_collected,
    in_use_known,
    limit_exceeded,
    policy_conflict,
)
from registry_cleanup.kube.status import (
    FAILING,
    OWN_REGISTRY,
    CollectionStatus,
    Condition,
    LastRun,
    PolicyStatus,
    ReportRef,
    rfc3339,
)
from registry_cleanup.kube.told import in_use, last_run, past, progress_status, published_plan, undo_status
from registry_cleanup.kube.undoable import undoable, unsaid

# Of `spec.historyLimit`; where a limit is not known, the next run's end cuts the list to it.
_MOST_HISTORY = 10


class StatusWriter:
    """Derives the next status from the last one, for one generation at one instant."""

    def __init__(self, previous: PolicyStatus, namespace: str, name: str, generation: int, now: datetime) -> None:
        """Go on from `previous`; `namespace` and `name` of the policy are for commands in messages."""
        self._status = previous.model_copy(update={"observed_generation": generation})
        self._namespace = namespace
        self._name = name
        self._generation = generation
        self._now = now

    def invalid(self, message: str, reason: str = "InvalidSpec") -> PolicyStatus:
        """Say that the spec cannot be obeyed, or is not allowed (`reason`), and where."""
        self._set("Ready", "False", reason, message)
        self._set("Stalled", "True", reason, message)
        self._set("Reconciling", "False", reason, "waits for a spec that is valid and allowed")
        return self._done(next_schedule_time=None)

    def suspended(self) -> PolicyStatus:
        """Say that nothing runs; what is known of the policy stays."""
        message = "suspended: nothing is planned or pruned until spec.suspend is false"
        ready = self._status.condition("Ready")
        # That nothing happens is all that such a spec asks for: who waits for it to be carried out need not wait.
        status = ready.status if ready is not None and self._planned() else "True"
        self._set("Ready", status, "Suspended", message)
        self._set("Stalled", "False", "Suspended", message)
        self._set("Reconciling", "False", "Suspended", message)
        return self._done(next_schedule_time=None, suspended_time=self._status.suspended_time or rfc3339(self._now))

    def undone(self, undone: Undone | Failure, run: str, *, handled: bool = True) -> PolicyStatus:
        """Say what an undo came to that the annotation wanted; it is `handled` with that, or is tried again."""
        known = {"last_handled_undo": run} if handled else {}
        return self._done(**known, last_undo=undo_status(undone, run, self._now))

    def undoable(self, held: CopiesHeld, window: timedelta, registry: str) -> PolicyStatus:
        """Say which runs can be undone, and until when, as somebody has looked at `registry`."""
        return self._done(undo=undoable(self._status.undo, held, window, registry, self._now))

    def missed(self, time: datetime) -> PolicyStatus:
        """Say that a scheduled time, and those before it, passed without a run."""
        return self._done(last_missed_schedule_time=rfc3339(time))

    def waiting(self, next_time: datetime | None) -> PolicyStatus:
        """Say when the next run starts."""
        return self._done(next_schedule_time=rfc3339(next_time))

    def interrupted(self, message: str, changed: UndoRules | None = None) -> PolicyStatus:
        """Say that the run that status shows as running has ended without a word.

        With `changed` the spec was changed since it began, and says this of undo by now.
        """
        last = self._status.last_run
        if last is None:
            return self._status
        ended = {
            "phase": Phase.INTERRUPTED,
            "message": message,
            "completion_time": rfc3339(self._now),
            "progress": None,
        }
        if not last.dry_run:
            # Nobody knows what it pruned; what it did can be undone for as long as if it had just ended.
            self._update(last_pruned_time=rfc3339(self._now))
            if changed is not None and changed.enabled:
                self._update(undo=unsaid(self._status.undo, last.id, changed.repository, changed.kept_for))
        last = last.model_copy(update=ended)
        return self._done(last_run=last, history=[past(last), *self._status.history][:_MOST_HISTORY])

    def running(self, order: RunOrder) -> PolicyStatus:
        """Say that a run has begun."""
        stalled = self._status.condition("Stalled")
        waits = stalled is not None and stalled.status == "True" and stalled.observed_generation == self._generation
        if not self._planned() and not waits:
            self._set("Reconciling", "True", "Planning", "the first plan of this generation is on its way")
            if (ready := self._status.condition("Ready")) is None or ready.observed_generation != self._generation:
                self._set("Ready", "Unknown", "Planning", "the first plan of this generation is on its way")
            stalled = self._status.condition("Stalled")
            if stalled is not None and stalled.observed_generation != self._generation:
                self._set(
                    "Stalled", "False", "Planning", "what stalled an earlier generation may be mended by this one"
                )
        started = rfc3339(order.start) or ""
        return self._done(
            last_run=LastRun(
                id=order.id,
                trigger=order.trigger,
                phase=Phase.RUNNING,
                dry_run=order.plan_only,
                scheduled_time=rfc3339(order.scheduled_for),
                start_time=started,
                report_ref=self._last_report(),
            )
        )

    def progressing(self, run: str, progress: Progress) -> PolicyStatus | None:
        """Say where the run `run` is; None where it is not the one that is under way."""
        last = self._status.last_run
        if last is None or (last.id, last.phase) != (run, Phase.RUNNING):
            return None
        return self._done(last_run=last.model_copy(update={"progress": progress_status(progress, self._now)}))

    def finished(
        self,
        report: RunReport,
        *,
        failed_before: bool,
        handled_request: str | None,
        handled_approval: str | None,
        next_time: datetime | None,
        history_limit: int,
        undo_kept: timedelta = timedelta(0),
        registry: str = OWN_REGISTRY,
    ) -> PolicyStatus:
        """Say how a run ended.

        Args:
            report: of the run.
            failed_before: whether the run before it failed as well, so that failing is no accident.
            handled_request: the request that this run answered, or the last one that was.
            handled_approval: the approval that this run took note of, or the last one that was.
            next_time: when the schedule starts the next run, if it does.
            history_limit: so many ended runs stay in status.
            undo_kept: so long from its start a run can be undone.
            registry: at which it ran, as status calls it.
        """
        last = last_run(report, self._last_report())
        changes: dict[str, Any] = {
            "last_run": last,
            "last_handled_run_request": handled_request,
            "last_handled_approval": handled_approval,
            "next_schedule_time": rfc3339(next_time),
            "next_repository": report.next_repository,
            "history": [past(last), *self._status.history][:history_limit],
            "undo": undoable(self._status.undo, report.copies, undo_kept, registry, self._now),
        }
        if report.plan is not None and (report.phase is not Phase.INTERRUPTED or not report.order.plan_only):
            changes |= self._published(report.plan)
        if report.scan is not None:
            changes["in_use"] = in_use(report, self._generation)
        if report.order.scheduled_for is not None and report.phase is not Phase.INTERRUPTED:
            changes["last_schedule_time"] = rfc3339(report.order.scheduled_for)
        if report.phase is Phase.SUCCEEDED:
            changes["last_successful_time"] = last.completion_time
        # Untagged manifests count among no tags: whatever there is a copy of can be undone.
        copied = report.copies is not None and report.order.id in report.copies.runs
        if copied or report.counts.tags_pruned or report.counts.tags_failed:
            changes["last_pruned_time"] = last.completion_time
        self._update(**changes)
        self._tell_causes(report)
        self._tell_waiting(report)
        self._tell_ready(report, failed_before=failed_before)
        return self._done()

    def _published(self, plan: PlanSummary) -> dict[str, Any]:
        """Return what a published plan changes: with the first of a generation, times of its schedule begin to count.

        Those that came while the policy was suspended were missed, as with a CronJob.
        """
        before = self._status.plan
        if before is not None and self._planned():
            counts_from = self._status.schedule_counts_from or before.generated_at
        elif before is not None and self._status.suspended_time is not None:
            counts_from = self._status.suspended_time
        else:
            counts_from = rfc3339(plan.generated_at) or ""
        return {
            "plan": published_plan(plan, self._generation),
            "schedule_counts_from": counts_from,
            "suspended_time": None,
        }

    def _last_report(self) -> ReportRef | None:
        """Return where the last report is: of an earlier run, where the present one comes to no plan."""
        return self._status.last_run.report_ref if self._status.last_run is not None else None

    def conflict(self, conflicts: Sequence[Conflict]) -> PolicyStatus:
        """Say with which policies this one is in conflict, outside of a run too; nothing where it never was."""
        if conflicts or self._status.condition("PolicyConflict") is not None:
            self._set("PolicyConflict", *policy_conflict(conflicts))
        return self._done()

    def collection(self, status: CollectionStatus | None) -> PolicyStatus:
        """Say how garbage collection stands."""
        return self._done(collection=status)

    def collection_begun(self, status: CollectionStatus, handled: str | None) -> PolicyStatus:
        """Say that a collection begins, which answers a request if there is one."""
        return self._done(collection=status, last_handled_collect_request=handled)

    def collect_request(self, handled: str | None) -> PolicyStatus:
        """Say which request for a collection is answered."""
        return self._done(last_handled_collect_request=handled)

    def _tell_causes(self, report: RunReport) -> None:
        """Set the conditions that name what the run found out about the registry."""
        unreachable = next((failure for failure in report.failures if failure.reachable is False), None)
        if unreachable is not None:
            self._set("RegistryReachable", "False", unreachable.reason, unreachable.message)
        elif report.plan is not None or any(failure.reachable for failure in report.failures):
            self._set("RegistryReachable", "True", "Answered", "the registry answers")
        elif report.phase is Phase.FAILED:
            self._forget("RegistryReachable")
        if report.deletion is not None:
            self._set("DeleteSupported", *delete_supported(report.deletion, report.failures))
        elif report.phase is Phase.FAILED:
            self._forget("DeleteSupported")
        if report.aftermath is not None:
            self._set("ImagesCollected", *images_collected(report.aftermath))
        if (told := in_use_known(report)) is not None:
            self._set("InUseKnown", *told)
        elif report.phase is Phase.FAILED:
            self._forget("InUseKnown")
        if report.conflicts is not None:
            self.conflict(report.conflicts)

    def _tell_waiting(self, report: RunReport) -> None:
        """Set the conditions that name what holds the plan back, or would, with the command that lets it through."""
        command = None
        if report.plan is not None:
            again = report.plan.hash == self._status.last_handled_approval
            command = approval_command(self._namespace, self._name, report.plan.hash, again=again)
        if (told := limit_exceeded(report, command)) is not None:
            self._set("LimitExceeded", *told)
        if (told := awaiting_approval(report, command)) is not None:
            wanted = report.waiting is not None and report.waiting.approval
            if wanted or self._status.condition("AwaitingApproval") is not None:
                self._set("AwaitingApproval", *told)

    def _tell_ready(self, report: RunReport, *, failed_before: bool) -> None:
        """Set what kstatus reads: Ready, Reconciling and Stalled."""
        planned = self._planned()
        stuck = next((failure for failure in report.failures if failure.mendable), None)
        if stuck is not None:
            self._set("Stalled", "True", stuck.reason, report.message)
        else:
            self._set("Stalled", "False", "Working", "nothing that a person must mend")
        if planned:
            self._set("Reconciling", "False", "Planned", "the current generation is planned")
        elif stuck is not None:
            # kstatus reads Reconciling before Stalled: both at once would look like progress.
            self._set("Reconciling", "False", stuck.reason, "not planned until a person mends that; tried again")
        else:
            self._set("Reconciling", "True", "Retrying", "the current generation could not be planned yet; tried again")
        failing = report.phase in FAILING and not blocked_by_limits_only(report)
        if failing and (stuck is not None or failed_before):
            reason = (
                stuck.reason if stuck is not None else report.failures[0].reason if report.failures else "RunFailed"
            )
            self._set("Ready", "False", reason, report.message)
        elif planned:
            self._set("Ready", "True", report.phase.value, report.message)
        else:
            self._set("Ready", "Unknown", report.phase.value, report.message)

    def _forget(self, type_: str) -> None:
        """Say of what an earlier run found out that the last one did not get so far."""
        if self._status.condition(type_) is not None:
            self._set(type_, "Unknown", "NotAsked", "the last run did not get so far; see Ready")

    def _planned(self) -> bool:
        plan = self._status.plan
        return plan is not None and plan.observed_generation == self._generation

    def _update(self, **changes: object) -> None:
        self._status = self._status.model_copy(update=changes)

    def _done(self, **changes: object) -> PolicyStatus:
        self._update(**changes)
        return fitted(self._status)

    def _set(self, type_: str, status: str, reason: str, message: str) -> None:
        """Set a condition; its transition time moves only when its status changes."""
        old = self._status.condition(type_)
        moved = rfc3339(self._now) or ""
        new = Condition(
            type=type_,
            status=status,
            reason=reason,
            message=short(message),
            observed_generation=self._generation,
            last_transition_time=old.last_transition_time if old is not None and old.status == status else moved,
        )
        others = [condition for condition in self._status.conditions if condition.type != type_]
        self._update(conditions=sorted([*others, new], key=lambda condition: condition.type))
