"""From a resource and its status to the figures that metrics show: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.collection import CollectionMode
from registry_cleanup.domain.cron import InvalidScheduleError, Schedule, parse_time_zone
from registry_cleanup.domain.duration import parse_duration
from registry_cleanup.domain.figures import (
    CollectionFigures,
    ConditionFigure,
    RunFigures,
    SpecFigures,
    StatusFigures,
)
from registry_cleanup.domain.interval import expected_interval
from registry_cleanup.domain.run import Phase
from registry_cleanup.domain.verdict import KeepReason
from registry_cleanup.kube.status import CollectionStatus, LastRun, PolicyStatus, parse_time

# Whatever a status says that somebody else wrote: the page knows no other reasons.
_REASONS = frozenset(reason.value for reason in KeepReason)


def spec_figures(body: Mapping[str, Any], now: datetime) -> SpecFigures:
    """Return what the spec of a resource lets people expect, as far as it can be read.

    A spec that is invalid elsewhere still promises its schedule: an alarm must not fall silent with the policy.
    """
    spec = body.get("spec") or {}
    suspended = spec.get("suspend") is True
    schedule = _schedule(spec)
    return SpecFigures(
        since=_since(body["metadata"]),
        scheduled=spec.get("schedule") is not None,
        interval=expected_interval(schedule, now) if schedule is not None and not suspended else None,
        suspended=suspended,
        dry_run=spec.get("dryRun") is not False,
        collection_timeout=_collection_timeout(spec.get("garbageCollection")),
    )


def status_figures(status: PolicyStatus) -> StatusFigures:
    """Return what a status tells."""
    plan, in_use = status.plan, status.in_use
    return StatusFigures(
        last_success=parse_time(status.last_successful_time),
        last_run=_last_run(status.last_run),
        planned=plan.deletions if plan is not None else None,
        reclaimable=plan.reclaimable_bytes if plan is not None else None,
        references=in_use.references if in_use is not None else None,
        conditions=tuple(ConditionFigure(each.type, each.status, each.reason) for each in status.conditions),
        collection=_collection(status.collection),
    )


def _collection(status: CollectionStatus | None) -> CollectionFigures | None:
    if status is None:
        return None
    return CollectionFigures(
        phase=status.phase,
        freed=status.bytes_freed_total or 0,
        removed=status.blobs_removed_total or 0,
        seconds=status.duration_seconds,
        last_success=parse_time(status.last_successful_time),
        frozen_since=parse_time(status.frozen_since),
    )


def _collection_timeout(spec: object) -> timedelta | None:
    if not isinstance(spec, Mapping) or spec.get("mode") != CollectionMode.RUN.value:
        return None
    try:
        return parse_duration(str(spec.get("timeout", "1h")))
    except ValueError:
        return None


def _schedule(spec: Mapping[str, Any]) -> Schedule | None:
    text, zone = spec.get("schedule"), spec.get("timeZone") or "Etc/UTC"
    if not isinstance(text, str) or not isinstance(zone, str):
        return None
    try:
        return Schedule(text, parse_time_zone(zone))
    except InvalidScheduleError:
        return None


def _since(metadata: Mapping[str, Any]) -> datetime:
    """Return when the spec was last changed: who wrote it, wrote when, too. Else when the resource was created."""
    writes = [
        parse_time(entry.get("time"))
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
    ]
    return max([datetime.fromisoformat(metadata["creationTimestamp"]), *(time for time in writes if time is not None)])


def _last_run(run: LastRun | None) -> RunFigures | None:
    if run is None or run.phase is Phase.RUNNING:
        return None
    start, end = parse_time(run.start_time), parse_time(run.completion_time)
    seconds = (end - start).total_seconds() if start is not None and end is not None else None
    kept = {reason: number for reason, number in (run.kept_by_reason or {}).items() if reason in _REASONS}
    return RunFigures(run.phase, seconds, kept)
