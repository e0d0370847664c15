"""The typed model of `status`: what the operator wrote, read again with patience."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic.alias_generators import to_camel

from registry_cleanup.domain.collection import CollectionMode, CollectionPhase, Step
from registry_cleanup.domain.copies import KnownCopies
from registry_cleanup.domain.course import Stage
from registry_cleanup.domain.run import Phase, Trigger

FAILING = frozenset({Phase.FAILED, Phase.PARTIAL, Phase.BLOCKED})
# Reason of `LimitExceeded` where nothing but limits held the last run back.
PLAN_BLOCKED = "PlanBlocked"
# What status calls the registry of a policy that names none: the cluster's own.
OWN_REGISTRY = "OpenShift"


class Model(BaseModel):
    """A part of `status`: camelCase names; what an older or newer operator wrote is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON that the API server stores."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


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


class ReportRef(Model):
    """`status.lastRun.reportRef`."""

    name: str
    key: str
    cut_repositories: int = 0
    sha256: str | None = None


class RunStatus(Model):
    """What `status` says of any run."""

    id: str
    trigger: Trigger
    phase: Phase
    dry_run: bool
    scheduled_time: str | None = None
    start_time: str
    completion_time: str | None = None
    message: str | None = None


class ProgressStatus(Model):
    """`status.lastRun.progress`."""

    message: str
    time: str
    stage: Stage
    repositories: int | None = None
    repositories_done: int | None = None
    tags: int | None = None
    tags_read: int | None = None
    tags_to_prune: int | None = None
    tags_pruned: int | None = None
    requests_per_second: int
    remaining_seconds: int | None = None


class LastRun(RunStatus):
    """`status.lastRun`."""

    progress: ProgressStatus | None = None

    counts: CountsStatus | None = None
    kept_by_reason: dict[str, int] | None = None
    report_ref: ReportRef | None = None

    @field_validator("progress", mode="wrap")
    @classmethod
    def _readable(cls, value: object, read: ValidatorFunctionWrapHandler) -> ProgressStatus | None:
        """Pass over what cannot be read: nobody goes on from it, and what else status says still holds."""
        try:
            progress: ProgressStatus | None = read(value)
        except ValidationError:
            return None
        return progress


class HistoryCounts(Model):
    """`status.history[].counts`."""

    tags_planned: int = 0
    tags_pruned: int = 0
    tags_failed: int = 0


class HistoryEntry(RunStatus):
    """`status.history[]`."""

    counts: HistoryCounts | None = None


class TopRepository(Model):
    """`status.plan.topRepositories[]`."""

    repository: str
    tags: int
    deletions: int


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
    prunable_from: str | None = None
    reclaimable_bytes: int = 0
    untagged_manifests: int = 0
    top_repositories: list[TopRepository] = []
    sample: list[SampleItem]


class InUseStatus(Model):
    """`status.inUse`."""

    references: int
    observed_generation: int
    scan_time: str


class StoragePruningStatus(Model):
    """`status.collection.storage`."""

    run: str | None = None
    until: str | None = None
    tags_pruned: int | None = None
    manifests_pruned: int | None = None
    tags_stayed: int | None = None
    message: str | None = None


class CollectionStatus(Model):
    """`status.collection`."""

    id: str | None = None
    mode: CollectionMode | None = None
    workload: str | None = None
    phase: CollectionPhase | None = None
    step: Step | None = None
    start_time: str | None = None
    completion_time: str | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    blobs_removed: int | None = None
    reclaimable_bytes: int | None = None
    reclaimable_blobs: int | None = None
    duration_seconds: int | None = None
    next_time: str | None = None
    scheduled_time: str | None = None
    last_successful_time: str | None = None
    bytes_freed_total: int | None = None
    blobs_removed_total: int | None = None
    failure: str | None = None
    frozen_since: str | None = None
    message: str | None = None
    storage: StoragePruningStatus | None = None


class UndoStatus(Model):
    """`status.lastUndo`."""

    run: str
    completion_time: str
    restored: int = 0
    already_there: int = 0
    refused: int = 0
    missing: int = 0
    failed: int = 0
    message: str


class FormerStatus(Model):
    """`status.undo.former[]`."""

    registry: str | None = None
    run: str
    until: str
    repository: str | None = None


class UndoableStatus(Model):
    """`status.undo`."""

    run: str
    until: str | None = None
    oldest_run: str
    oldest_until: str | None = None
    runs: int
    repository: str | None = None
    registry: str | None = None
    former: list[FormerStatus] | None = None

    def known(self, url: str | None) -> tuple[KnownCopies, ...]:
        """Return where copies are of a policy whose spec names the registry `url` by now."""
        here = registry_name(url)
        return tuple(
            KnownCopies(each.run, each.repository, (each.registry or None) if each.registry != here else None)
            for each in (self, *(self.former or ()))
        )


class PolicyStatus(Model):
    """`status`."""

    observed_generation: int | None = None
    conditions: list[Condition] = []
    last_schedule_time: str | None = None
    last_missed_schedule_time: str | None = None
    next_schedule_time: str | None = None
    schedule_counts_from: str | None = None
    suspended_time: str | None = None
    last_successful_time: str | None = None
    last_pruned_time: str | None = None
    last_handled_run_request: str | None = None
    last_handled_approval: str | None = None
    last_handled_undo: str | None = None
    last_undo: UndoStatus | None = None
    undo: UndoableStatus | None = None
    last_run: LastRun | None = None
    next_repository: str | None = None
    history: list[HistoryEntry] = []
    plan: PlanStatus | None = None
    in_use: InUseStatus | None = None
    last_handled_collect_request: str | None = None
    collection: CollectionStatus | None = None

    @property
    def failed(self) -> bool:
        """Whether the last run that ended did not do all that it should; to wait for a person is no failure."""
        if self.last_run is None or self.last_run.phase not in FAILING:
            return False
        limits = self.condition("LimitExceeded")
        waits = limits is not None and (limits.status, limits.reason) == ("True", PLAN_BLOCKED)
        return not (self.last_run.phase is Phase.BLOCKED and waits)

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if it is set."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


def registry_name(url: str | None) -> str:
    """Return what status calls the registry of a policy."""
    return OWN_REGISTRY if url is None else url


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
