"""What is in the trash, run by run, and emptying it: the only place where anything is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry_cleanup.storage import layout
from registry_cleanup.storage.errors import StorageError, TrashError
from registry_cleanup.storage.trash import Trash, finish_emptying, locked, runs
from registry_cleanup.storage.tree import Tree


@dataclass(frozen=True, slots=True)
class TrashedRun:
    """What the trash has of one run.

    Attributes:
        run: its ID.
        plan: hash of the plan that was pruned by; None where the journal does not say.
        registry: host and port, as the plan has it.
        policy: UID of the policy whose plan it was; None where the journal does not say.
        pruned_at: when that was; None where nobody knows.
        restored_at: when anything of it was last put back.
        tags: that are there.
        manifests: that are there.
        damaged: why it cannot be read; None where it can.
    """

    run: str
    plan: str | None = None
    registry: str | None = None
    policy: str | None = None
    pruned_at: datetime | None = None
    restored_at: datetime | None = None
    tags: int = 0
    manifests: int = 0
    damaged: str | None = None


def trashed(tree: Tree) -> list[TrashedRun]:
    """Return what is in the trash, by the ID of the run; raise `StorageError`."""
    layout.check(tree)
    return [_look(tree, run) for run in runs(tree)]


def occupied(tree: Tree) -> list[str]:
    """Return the runs of which a garbage collection would take something: all that can still be restored."""
    return [run for run in runs(tree) if (look := _look(tree, run)).damaged or look.tags or look.manifests]


def empty(
    tree: Tree, run: str | None, older_than: timedelta | None, now: datetime, policy: str | None = None
) -> list[TrashedRun]:
    """Delete what is in the trash, and return what that was.

    Args:
        tree: root of the storage.
        run: only this one; None for all.
        older_than: only those pruned longer ago; of which nobody knows when, only if it is None. None for any age.
        now: the instant.
        policy: only what was pruned by plans of the policy with this UID; None for all.

    Raises:
        StorageError: there is no such run, or the volume refuses; what was begun is finished by the next time.
    """
    layout.check(tree)
    with locked(tree):
        finished = finish_emptying(tree)
        there = runs(tree)
        if run is not None and run not in (*there, *finished):
            raise TrashError(f"the trash has no run {run}; there are: {', '.join(there) or 'none'}")
        found = [_look(tree, each) for each in there if run in (None, each)]
        chosen = [each for each in found if _is_old(each, older_than, now) and policy in (None, each.policy)]
        for each in chosen:
            Trash(tree, each.run).empty()
    return chosen


def _is_old(run: TrashedRun, older_than: timedelta | None, now: datetime) -> bool:
    if older_than is None:
        return True
    return run.pruned_at is not None and now - run.pruned_at >= older_than


def _look(tree: Tree, run: str) -> TrashedRun:
    trash = Trash(tree, run)
    try:
        journal = trash.journal()
        tags, manifests = (sum(numbers) for numbers in zip(*_counts(trash), strict=True))
    except (StorageError, ValueError, LookupError) as error:
        return TrashedRun(run, damaged=str(error))
    return TrashedRun(
        run,
        journal.plan,
        journal.registry,
        journal.policy,
        journal.pruned_at,
        journal.restored_at,
        tags,
        manifests,
    )


def _counts(trash: Trash) -> Iterator[tuple[int, int]]:
    yield 0, 0
    for repository in trash.repositories():
        yield len(trash.tags(repository)), len(trash.revisions(repository))
