"""What status tells of pruning in the storage: never more than is known, and until when it can be put back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from registry_cleanup.domain.collecting import Finish
from registry_cleanup.domain.collection import (
    CollectionMode,
    CollectionPhase,
    Measures,
    Step,
    StoragePruned,
    WorkloadName,
)
from registry_cleanup.kube.collecting import told
from registry_cleanup.kube.collecting.job import OrderFile, StorageOrder
from registry_cleanup.kube.status import CollectionStatus, StoragePruningStatus, rfc3339
from tests.support.builders import NOW

_DAYS = timedelta(days=5)
_RUNNING = CollectionStatus(id="c1", phase=CollectionPhase.RUNNING, start_time="2026-06-15T12:00:00Z")
_DEADLINE = NOW + timedelta(hours=1)


def _ordered(window: timedelta = _DAYS) -> CollectionStatus:
    return told.ordered(
        _RUNNING, StorageOrder((OrderFile("plan", ""), OrderFile("use", "")), "run-1", window), _DEADLINE
    )


def _ended(pruned: StoragePruned | None, failure: str | None = None, window: timedelta = _DAYS) -> CollectionStatus:
    measures = Measures(2048, 5, 1024, 3, pruned)
    restoring = told.stepped(_ordered(window), Step.RESTORING, "…", measures=measures, failure=failure)
    # Whoever goes on by status alone knows nothing of the storage.
    known = told.known_of(restoring)
    assert known is not None
    return told.finished(restoring, CollectionMode.RUN, Finish(known.measures, known.failure), NOW, None)


def test_before_the_job_has_told_the_run_can_be_restored_for_as_long_as_it_could_have_pruned() -> None:
    storage = _ordered().storage
    assert storage is not None
    assert (storage.run, storage.until) == ("run-1", rfc3339(_DEADLINE + _DAYS))
    assert storage.tags_pruned is None
    without = _ordered(timedelta(0)).storage
    assert without is not None
    assert without.until is None


def test_why_nothing_is_pruned_is_told() -> None:
    storage = told.ordered(_RUNNING, StorageOrder(None, None, _DAYS, "nothing is planned"), _DEADLINE).storage
    assert storage == StoragePruningStatus(message="nothing is pruned in the storage: nothing is planned")


def test_what_was_pruned_is_told_with_the_end_of_its_window() -> None:
    done = _ended(StoragePruned("run-1", 3, 2, 1))
    until = rfc3339(_DEADLINE + _DAYS)
    assert done.storage == StoragePruningStatus(
        run="run-1", until=until, tags_pruned=3, manifests_pruned=2, tags_stayed=1
    )
    assert done.message is not None
    assert f"3 tags pruned in the storage, 1 planned ones stay; the first collection after {until}" in done.message
    at_once = _ended(StoragePruned("run-1", 3, 2, 0), window=timedelta(0))
    assert (at_once.message or "").endswith("3 tags pruned in the storage")


def test_where_nothing_was_moved_there_is_nothing_to_restore() -> None:
    assert _ended(StoragePruned("run-1", 0, 0, 2)).storage == StoragePruningStatus(
        tags_pruned=0, manifests_pruned=0, tags_stayed=2
    )


def test_what_failed_before_it_told_may_have_moved_something() -> None:
    failure = "the volume is full"
    done = _ended(StoragePruned(failure=failure, told=False), f"pruning in the storage failed: {failure}")
    assert done.storage is not None
    assert (done.storage.run, done.storage.tags_pruned, done.storage.message) == ("run-1", None, failure)
    assert done.storage.until is not None
    assert done.phase is CollectionPhase.FAILED
    assert done.message == f"freed 1.0 KiB in 2 blobs; pruning in the storage failed: {failure}"
    assert done.bytes_freed_total == 1024


def test_what_stopped_within_a_repository_may_have_moved_some_of_it() -> None:
    # Only whole repositories are counted.
    done = _ended(StoragePruned("run-1", 0, 0, 5, "the volume is full"), "pruning in the storage failed: …")
    assert done.storage is not None
    assert (done.storage.run, done.storage.until) == ("run-1", rfc3339(_DEADLINE + _DAYS))
    assert (done.storage.tags_pruned, done.storage.message) == (0, "the volume is full")


def test_what_failed_before_it_moved_anything_leaves_nothing_to_restore() -> None:
    done = _ended(StoragePruned(stayed=None, failure="the layout is unknown"), "pruning in the storage failed: …")
    assert done.storage == StoragePruningStatus(tags_pruned=0, manifests_pruned=0, message="the layout is unknown")


def test_a_job_that_failed_has_not_told_what_it_pruned() -> None:
    done = told.finished(_ordered(), CollectionMode.RUN, Finish(failure="its pod was evicted"), NOW, None)
    assert done.storage is not None
    assert done.storage.run == "run-1"
    assert "list-trash" in (done.storage.message or "")


@pytest.mark.parametrize("begins", [True, False])
def test_what_can_be_restored_stays_told_until_another_collection_prunes(begins: bool) -> None:
    last = _ended(StoragePruned("run-1", 3, 2, 0))
    if begins:
        workload = WorkloadName("Deployment", "registry")
        now = told.begun(last, "c2", CollectionMode.RUN, workload, NOW, None, freezes=True)
    else:
        now = told.waiting(last, CollectionMode.RUN, "waits", None)
    assert now.storage == last.storage
