"""What a collection comes to, as `status.collection` tells it: pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from registry_cleanup.domain.collecting import Finish, Known
from registry_cleanup.domain.collection import (
    CollectionMode,
    CollectionPhase,
    Measures,
    Step,
    StoragePruned,
    WorkloadName,
)
from registry_cleanup.kube.bounds import short
from registry_cleanup.kube.collecting.job import StorageOrder
from registry_cleanup.kube.status import CollectionStatus, StoragePruningStatus, parse_time, rfc3339

# Bytes of JSON: beside the longest messages of everything else, they still fit into a status.
_LONGEST_MESSAGE, _LONGEST_FAILURE = 768, 512
_UNTOLD = "the Job has not told yet what it pruned"
_NEVER_TOLD = "the Job ended before it told what it pruned; registry-cleanup storage list-trash tells it"


def begun(
    last: CollectionStatus,
    collection: str,
    mode: CollectionMode,
    workload: WorkloadName,
    now: datetime,
    scheduled: datetime | None,
    *,
    freezes: bool,
) -> CollectionStatus:
    """Return what is told of a collection that begins now; of the last one only what counts on."""
    return CollectionStatus(
        id=collection,
        mode=mode,
        workload=f"{workload.kind}/{workload.name}",
        phase=CollectionPhase.RUNNING,
        step=Step.FREEZING if freezes else None,
        start_time=rfc3339(now),
        scheduled_time=rfc3339(scheduled) or last.scheduled_time,
        last_successful_time=last.last_successful_time,
        bytes_freed_total=last.bytes_freed_total,
        blobs_removed_total=last.blobs_removed_total,
        message="the registry is about to be frozen" if freezes else "it begins",
        storage=last.storage,
    )


def ordered(last: CollectionStatus, order: StorageOrder, deadline: datetime) -> CollectionStatus:
    """Return what is told of a collection that begins to prune in the storage, until `deadline` at most."""
    if order.files is None:
        why = short(f"nothing is pruned in the storage: {order.why_not}", _LONGEST_FAILURE)
        storage = StoragePruningStatus(message=why)
    else:
        # Whoever is killed meanwhile has moved something perhaps.
        until = deadline + order.window if order.window else None
        storage = StoragePruningStatus(run=order.run, until=rfc3339(until), message=_UNTOLD)
    return last.model_copy(update={"storage": storage})


def not_ordered(last: CollectionStatus, why: str) -> CollectionStatus:
    """Return what is told where there is no Job for what was ordered."""
    pruned = StoragePruned(stayed=None, failure=f"nothing was pruned in the storage: {why}")
    return last.model_copy(update={"storage": _storage(pruned, last.storage)})


def prunes(status: CollectionStatus) -> bool:
    """Say whether a Job was ordered to prune in the storage, and has not told what came of it."""
    return status.storage is not None and status.storage.run is not None and status.storage.message == _UNTOLD


def waiting(last: CollectionStatus, mode: CollectionMode, message: str, until: datetime | None) -> CollectionStatus:
    """Return what is told of a collection that is due and cannot begin; what the last one came to stays."""
    update = {"phase": CollectionPhase.WAITING, "step": None, "mode": mode, "failure": None}
    return last.model_copy(update={**update, "message": short(message, _LONGEST_MESSAGE), "next_time": rfc3339(until)})


def resting(last: CollectionStatus, mode: CollectionMode, next_time: datetime | None) -> CollectionStatus:
    """Return what is told while none is due."""
    update: dict[str, object] = {"next_time": rfc3339(next_time)}
    if last.phase in (None, CollectionPhase.WAITING):
        # What was waited for is not due any more, since the policy was changed.
        update |= {"phase": None, "mode": mode, "message": None}
    return last.model_copy(update=update)


def stepped(
    last: CollectionStatus,
    step: Step,
    message: str,
    *,
    measures: Measures | None = None,
    failure: str | None = None,
    frozen_since: datetime | None = None,
    pruned: StoragePruned | None = None,
) -> CollectionStatus:
    """Return what is told of one that goes on; what was found out stays."""
    update: dict[str, object] = {"step": step, "message": short(message, _LONGEST_MESSAGE)}
    update["frozen_since"] = rfc3339(frozen_since)
    if measures is not None:
        update |= _measured(measures, last.storage)
    elif pruned is not None and prunes(last):
        update["storage"] = _storage(pruned, last.storage)
    if failure is not None:
        update["failure"] = short(failure, _LONGEST_FAILURE)
    return last.model_copy(update=update)


def finished(
    last: CollectionStatus, mode: CollectionMode, end: Finish, now: datetime, next_time: datetime | None
) -> CollectionStatus:
    """Return what is told of one that has ended."""
    succeeded = end.failure is None and (end.measures is not None or end.note is not None)
    start = parse_time(last.start_time) or now
    update: dict[str, object] = {
        "phase": CollectionPhase.SUCCEEDED if succeeded else CollectionPhase.FAILED,
        "step": None,
        "failure": None,
        "frozen_since": None,
        "completion_time": rfc3339(now),
        "duration_seconds": max(int((now - start).total_seconds()), 0),
        "next_time": rfc3339(next_time),
    }
    if end.measures is not None and mode is CollectionMode.REPORT:
        update |= {
            "bytes_before": end.measures.bytes_before,
            "reclaimable_bytes": end.measures.freed,
            "reclaimable_blobs": end.measures.removed,
        }
    elif end.measures is not None:
        update |= _measured(end.measures, last.storage)
        # What went is gone, also where the registry did not come up afterwards.
        update["bytes_freed_total"] = (last.bytes_freed_total or 0) + end.measures.freed
        update["blobs_removed_total"] = (last.blobs_removed_total or 0) + end.measures.removed
    elif last.storage is not None and last.storage.message == _UNTOLD:
        update["storage"] = last.storage.model_copy(update={"message": _NEVER_TOLD})
    if succeeded:
        update["last_successful_time"] = rfc3339(now)
    ended = last.model_copy(update=update)
    message = _end_message(mode, end, now - start, ended.storage)
    return ended.model_copy(update={"message": short(message, _LONGEST_MESSAGE)})


def _end_message(mode: CollectionMode, end: Finish, took: timedelta, storage: StoragePruningStatus | None) -> str:
    """Return the sentence that a collection ends with.

    Args:
        mode: of the collection.
        end: of it.
        took: how long.
        storage: what status tells of pruning in the storage.
    """
    if end.failure is not None and end.measures is not None and mode is CollectionMode.RUN:
        return f"freed {size_text(end.measures.freed)} in {end.measures.removed} blobs; {end.failure}"
    if end.failure is not None:
        what = "the registry's dry run failed" if mode is CollectionMode.REPORT else "collecting garbage failed"
        return f"{what}: {end.failure}"
    if end.measures is None:
        return end.note or "nothing was done"
    size, blobs = size_text(end.measures.freed), f"{end.measures.removed} blobs"
    if mode is CollectionMode.REPORT:
        return f"a collection would free {size} in {blobs}; what was pushed meanwhile is not counted"
    return f"freed {size} in {blobs}; it took {int(took.total_seconds())} s{_pruned_note(storage)}"


def _pruned_note(storage: StoragePruningStatus | None) -> str:
    if storage is None:
        return ""
    if storage.tags_pruned is None:
        return f"; {storage.message}"
    note = f"; {storage.tags_pruned} tags pruned in the storage"
    if storage.tags_stayed:
        note += f", {storage.tags_stayed} planned ones stay"
    return note if storage.until is None else f"{note}; the first collection after {storage.until} frees their space"


def known_of(status: CollectionStatus) -> Known | None:
    """Return what a status says of the collection that it shows as running."""
    start = parse_time(status.start_time)
    if status.phase is not CollectionPhase.RUNNING or status.id is None or start is None:
        return None
    measures = None
    if status.bytes_before is not None and status.bytes_after is not None:
        # How many blobs there were in all is in the Job only; what was removed is what counts on.
        measures = Measures(status.bytes_before, status.blobs_removed or 0, status.bytes_after, 0)
    return Known(
        status.id,
        status.step or Step.FREEZING,
        start,
        status.frozen_since is not None or status.step in (Step.RESTORING, Step.VERIFYING),
        measures,
        status.failure,
    )


def workload_of(status: CollectionStatus) -> WorkloadName | None:
    """Return whose collection a status tells of."""
    kind, _, name = (status.workload or "").partition("/")
    return WorkloadName(kind, name) if kind and name else None


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _measured(measures: Measures, storage: StoragePruningStatus | None) -> dict[str, object]:
    found: dict[str, object] = {
        "bytes_before": measures.bytes_before,
        "bytes_after": measures.bytes_after,
        "blobs_removed": measures.removed,
    }
    if measures.pruned is not None:
        found["storage"] = _storage(measures.pruned, storage)
    return found


def _storage(pruned: StoragePruned, before: StoragePruningStatus | None) -> StoragePruningStatus:
    failure = short(pruned.failure, _LONGEST_FAILURE) if pruned.failure is not None else None
    if not pruned.told:
        kept = before or StoragePruningStatus()
        return kept.model_copy(update={"tags_pruned": None, "message": failure})
    # Of a repository in which it was stopped nothing is counted.
    moved = pruned.run is not None and bool(pruned.tags or pruned.manifests or pruned.failure)
    return StoragePruningStatus(
        run=pruned.run if moved else None,
        until=before.until if moved and before is not None else None,
        tags_pruned=pruned.tags,
        manifests_pruned=pruned.manifests,
        tags_stayed=pruned.stayed,
        message=failure,
    )
