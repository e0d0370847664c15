"""From runs to `status`: pure, so that what the resource says can be tested without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from registry_cleanup.domain.deletion import Deletion, DeletionSupport
from registry_cleanup.domain.run import Aftermath, Collector, Failure, Phase, PlanSummary, RunOrder, RunReport, Trigger

# Bytes of a message's JSON; the schema counts characters.
_MESSAGE = 1024
_FAILING = frozenset({Phase.FAILED, Phase.PARTIAL, Phase.BLOCKED})

_DELETION_MESSAGES = {
    Deletion.BY_TAG: "the registry removes tags alone",
    Deletion.BY_DIGEST: "the registry deletes whole digests; a tag goes only if every tag on its digest goes",
    Deletion.UNKNOWN: "the registry did not say whether this credential may delete; a run that prunes will tell",
    Deletion.DISABLED: "the registry does not allow deletion; for Docker Distribution set "
    "REGISTRY_STORAGE_DELETE_ENABLED=true and make sure that it is not read-only",
    Deletion.FORBIDDEN: "the ServiceAccount may not remove tags",
}


_COLLECTOR_MESSAGES = {
    Collector.ACTIVE: "the cluster's ImagePruner will free their space",
    Collector.SUSPENDED: "the cluster's ImagePruner, which would free their space, is suspended",
    Collector.MISSING: "the cluster has no ImagePruner, so their space stays in use",
    Collector.UNKNOWN: "whether an ImagePruner will free their space cannot be seen with this ServiceAccount's rights",
}


class Model(BaseModel):
    """A part of `status`: camelCase names; what an older or newer operator wrote is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Condition(Model):
    """`status.conditions[]`, as Kubernetes' API conventions have it."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str


class CountsStatus(Model):
    """`status.lastRun.counts`."""

    repositories_scanned: int = 0
    repositories_failed: int = 0
    tags_scanned: int = 0
    tags_matched: int = 0
    tags_kept: int = 0
    tags_planned: int = 0
    tags_pruned: int = 0
    tags_failed: int = 0
    tags_skipped: int = 0


class LastRun(Model):
    """`status.lastRun`."""

    id: str
    trigger: Trigger
    phase: Phase
    dry_run: bool
    start_time: str
    completion_time: str | None = None
    counts: CountsStatus | None = None
    kept_by_reason: dict[str, int] | None = None
    message: str | None = None


class SampleItem(Model):
    """`status.plan.sample[]`."""

    repository: str
    tag: str
    digest: str
    rule: str
    reasons: list[str]


class PlanStatus(Model):
    """`status.plan`."""

    hash: str
    observed_generation: int
    generated_at: str
    deletions: int
    sample: list[SampleItem]


class PolicyStatus(Model):
    """`status`."""

    observed_generation: int | None = None
    conditions: list[Condition] = []
    last_schedule_time: str | None = None
    next_schedule_time: str | None = None
    last_successful_time: str | None = None
    last_handled_run_request: str | None = None
    last_run: LastRun | None = None
    plan: PlanStatus | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON that the API server stores."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")

    @property
    def failed(self) -> bool:
        """Whether the last run that ended did not do all that it should."""
        return self.last_run is not None and self.last_run.phase in _FAILING

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if it is set."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


def parse_status(value: Mapping[str, Any] | None) -> PolicyStatus:
    """Return what `status` says; nothing where it cannot be read, so that the policy is planned anew."""
    try:
        return PolicyStatus.model_validate(value or {})
    except ValidationError:
        return PolicyStatus()


def rfc3339(moment: datetime | None) -> str | None:
    """Return `moment` as Kubernetes writes times: UTC, whole seconds."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """Return the instant of a time in status; None where there is none or it is damaged."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


class StatusWriter:
    """Derives the next status from the last one, for one generation at one instant."""

    def __init__(self, previous: PolicyStatus, generation: int, now: datetime) -> None:
        self._status = previous.model_copy(update={"observed_generation": generation})
        self._generation = generation
        self._now = now

    def invalid(self, message: str) -> PolicyStatus:
        """Say that the spec cannot be obeyed, and where."""
        self._set("Ready", "False", "InvalidSpec", message)
        self._set("Stalled", "True", "InvalidSpec", message)
        self._set("Reconciling", "False", "InvalidSpec", "waits for a valid spec")
        return self._update(next_schedule_time=None)

    def suspended(self) -> PolicyStatus:
        """Say that nothing runs; what is known of the policy stays."""
        message = "suspended: nothing is planned or pruned until spec.suspend is false"
        ready = self._status.condition("Ready")
        status = ready.status if ready is not None and self._planned() else "Unknown"
        self._set("Ready", status, "Suspended", message)
        self._set("Stalled", "False", "Suspended", message)
        self._set("Reconciling", "False", "Suspended", message)
        return self._update(next_schedule_time=None)

    def interrupted(self, message: str) -> PolicyStatus:
        """Say that the run that status shows as running has ended without a word."""
        last = self._status.last_run
        if last is None:
            return self._status
        ended = {"phase": Phase.INTERRUPTED, "message": message, "completion_time": rfc3339(self._now)}
        return self._update(last_run=last.model_copy(update=ended))

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
        return self._update(
            last_run=LastRun(
                id=order.id, trigger=order.trigger, phase=Phase.RUNNING, dry_run=order.plan_only, start_time=started
            )
        )

    def finished(
        self,
        report: RunReport,
        *,
        failed_before: bool,
        handled_request: str | None,
        scheduled_for: datetime | None,
        next_time: datetime | None,
    ) -> PolicyStatus:
        """Say how a run ended.

        Args:
            report: of the run.
            failed_before: whether the run before it failed as well, so that failing is no accident.
            handled_request: the request that this run answered, or the last one that was.
            scheduled_for: the scheduled time that this run stands for, if it does.
            next_time: the next scheduled time, if there is one.
        """
        last = _last_run(report)
        changes: dict[str, Any] = {
            "last_run": last,
            "last_handled_run_request": handled_request,
            "next_schedule_time": rfc3339(next_time),
        }
        if report.plan is not None and (report.phase is not Phase.INTERRUPTED or not report.order.plan_only):
            changes["plan"] = _plan(report.plan, self._generation)
        if scheduled_for is not None:
            changes["last_schedule_time"] = rfc3339(scheduled_for)
        if report.phase is Phase.SUCCEEDED:
            changes["last_successful_time"] = last.completion_time
        self._update(**changes)
        self._tell_causes(report)
        self._tell_ready(report, failed_before=failed_before)
        return self._status

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
            self._set("DeleteSupported", *_delete_supported(report.deletion, report.failures))
        elif report.phase is Phase.FAILED:
            self._forget("DeleteSupported")
        if report.aftermath is not None:
            self._set("ImagesCollected", *_collected(report.aftermath))

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
        failing = report.phase in _FAILING
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

    def _update(self, **changes: object) -> PolicyStatus:
        self._status = self._status.model_copy(update=changes)
        return self._status

    def _set(self, type_: str, status: str, reason: str, message: str) -> None:
        """Set a condition; its transition time moves only when its status changes."""
        old = self._status.condition(type_)
        moved = rfc3339(self._now) or ""
        new = Condition(
            type=type_,
            status=status,
            reason=reason,
            message=_short(message),
            observed_generation=self._generation,
            last_transition_time=old.last_transition_time if old is not None and old.status == status else moved,
        )
        others = [condition for condition in self._status.conditions if condition.type != type_]
        self._update(conditions=sorted([*others, new], key=lambda condition: condition.type))


def _delete_supported(support: DeletionSupport, failures: Sequence[Failure]) -> tuple[str, str, str]:
    """Return status, reason and message of `DeleteSupported`."""
    refused = next((f for f in failures if f.reason in ("DeletionDisabled", "DeletionWithoutEffect")), None)
    if refused is not None:
        return "False", refused.reason, refused.message
    deletion = support.deletion
    status = "Unknown" if deletion is Deletion.UNKNOWN else str(deletion.possible)
    return status, deletion.value, support.detail or _DELETION_MESSAGES[deletion]


def _collected(aftermath: Aftermath) -> tuple[str, str, str]:
    """Return status, reason and message of `ImagesCollected`."""
    count = f"{aftermath.unreferenced} images lost their last tag that this policy can see; "
    collector = aftermath.collector
    status = {Collector.ACTIVE: "True", Collector.UNKNOWN: "Unknown"}.get(collector, "False")
    return status, collector.value, count + _COLLECTOR_MESSAGES[collector]


def _last_run(report: RunReport) -> LastRun:
    return LastRun(
        id=report.order.id,
        trigger=report.order.trigger,
        phase=report.phase,
        dry_run=report.order.plan_only,
        start_time=rfc3339(report.order.start) or "",
        completion_time=rfc3339(report.completion),
        counts=CountsStatus(**asdict(report.counts)),
        kept_by_reason=dict(sorted(report.kept_by_reason.items())),
        message=_short(report.message),
    )


def _plan(plan: PlanSummary, generation: int) -> PlanStatus:
    return PlanStatus(
        hash=plan.hash,
        observed_generation=generation,
        generated_at=rfc3339(plan.generated_at) or "",
        deletions=plan.deletions,
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


def _short(message: str) -> str:
    """Return as much of `message` as takes no more than its share of the 16 KiB, as JSON."""
    if _size(message) <= _MESSAGE:
        return message
    sizes = accumulate(map(_size, message), initial=_size("…"))
    return message[: sum(size <= _MESSAGE for size in sizes) - 1] + "…"


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
