"""Pruning in the storage: what a written plan lets go is moved to the trash, and nothing is deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.stored import (
    Link,
    StoragePlan,
    StoredRepository,
    TagEnd,
    UnfoundImageError,
    facts_of,
    plan_storage,
    used_tags,
)
from registry_cleanup.domain.written_plan import PlannedRepository, WrittenPlan
from registry_cleanup.storage import layout
from registry_cleanup.storage.errors import (
    DoubtError,
    HeldBackError,
    StorageError,
    TrashError,
    UnknownLayoutError,
    WritableError,
)
from registry_cleanup.storage.trash import Trash, locked
from registry_cleanup.storage.tree import Tree


@dataclass(frozen=True, slots=True)
class PrunedRepository:
    """What became of one repository.

    Attributes:
        name: its name.
        ends: of its planned tags.
        manifests: that went with them, or after them.
        doubt: why all of it stays; None where it was read.
    """

    name: str
    ends: Sequence[TagEnd] = ()
    manifests: int = 0
    doubt: str | None = None

    @property
    def pruned(self) -> int:
        """How many tags are in the trash, by now or since before."""
        return sum(end.why == Outcome.PRUNED for end in self.ends)


@dataclass(slots=True)
class Pruned:
    """What pruning came to.

    Attributes:
        run: by which it is restored.
        repositories: that were done.
        stopped: what ended it early; None where it is through.
    """

    run: str
    repositories: list[PrunedRepository] = field(default_factory=list)
    stopped: StorageError | None = None

    @property
    def tags(self) -> int:
        """How many tags are in the trash."""
        return sum(each.pruned for each in self.repositories)

    @property
    def manifests(self) -> int:
        """How many manifests went to the trash now."""
        return sum(each.manifests for each in self.repositories)


def prune(
    tree: Tree,
    plan: WrittenPlan,
    run: str,
    now: datetime,
    frozen: Callable[[], None],
    in_use: InUse = NOTHING_IN_USE,
) -> Pruned:
    """Move what goes by `plan` to the trash of `run`.

    All is read, and the journal is written, before the first link is moved.

    Args:
        tree: root of the storage.
        plan: that nothing forbids.
        run: names the trash.
        now: the instant.
        frozen: raises `WritableError` where the registry may change the storage; asked before each repository.
        in_use: what is in use by now, besides what the plan knew of; it stays.

    Raises:
        StorageError: nothing was moved.
    """
    layout.check(tree)
    frozen()
    with locked(tree):
        trash = Trash(tree, run)
        _check_trash(trash, plan)
        known = [each for each in plan.repositories if layout.has_repository(tree, each.name)]
        if plan.repositories and not known:
            raise UnknownLayoutError(f"{tree.path} holds no repository that the plan is about: is it another's?")
        done = Pruned(run, [_gone(each) for each in plan.repositories if each not in known])
        plans = [found for each in known if (found := _planned(tree, trash, plan, each, done, in_use)) is not None]
        if links := [link for each in plans for link in each.links]:
            trash.begin(plan, links, now)
        try:
            for each in plans:
                if each.links:
                    frozen()
                done.repositories.append(_move(trash, each))
        except StorageError as error:
            done.stopped = error
    return done


def _check_trash(trash: Trash, plan: WrittenPlan) -> None:
    journal = trash.journal()
    if journal.plan not in (None, plan.hash):
        raise TrashError(f"the trash has a run {trash.run} of another plan, {journal.plan}: name this one with --run")
    if journal.restored_at is not None:
        raise HeldBackError(
            f"run {trash.run} was restored at {journal.restored_at.isoformat()}: to prune by its plan after all, say "
            "--run with another ID"
        )


def _planned(
    tree: Tree, trash: Trash, plan: WrittenPlan, wanted: PlannedRepository, done: Pruned, in_use: InUse
) -> StoragePlan | None:
    """Return what is to be moved in a repository; None where it cannot be read whole, which is noted."""
    try:
        stored = read_repository(tree, wanted.name, trash)
        used = used_tags(stored, in_use)
    except (DoubtError, UnfoundImageError) as doubt:
        done.repositories.append(PrunedRepository(wanted.name, doubt=str(doubt)))
        return None
    return plan_storage(stored, wanted, plan.unit, deletes_untagged=plan.deletes_untagged, used=used)


def read_repository(tree: Tree, name: str, trash: Trash) -> StoredRepository:
    """Return what the storage holds of a repository, and what the trash of a run has of it already.

    Raises:
        UnknownLayoutError: there is something that nobody knows.
        DoubtError: it cannot be read whole.
    """
    where = (*layout.repository_parts(name), "_manifests")
    tags = dict(layout.tags(tree, (*where, "tags")))
    revisions = frozenset(layout.revisions(tree, (*where, "revisions")))
    trashed = trash.revisions(name)
    manifests = {}
    for digest in revisions | trashed:
        # What the storage has lost cannot be pulled, so it lists nothing.
        if (found := layout.manifest(tree, name, digest)) is not None:
            manifests[digest] = facts_of(found)
    return StoredRepository(name, tags, revisions, manifests, trash.tags(name), frozenset(trashed))


def _move(trash: Trash, plan: StoragePlan) -> PrunedRepository:
    """Move the links of one repository.

    Raises:
        WritableError: a tag has changed since it was read, so the storage is in use: all of the repository is put back.
    """
    moved: list[Link] = []
    for link in plan.links:
        taken = trash.take(link)
        moved += [link] * taken
        if link.tag is not None and (not taken or trash.named(link) != link.digest):
            for each in reversed(moved):
                trash.put_back(each)
            trash.sync(moved)
            raise WritableError(
                f"{link.repository}:{link.tag} was changed while it was moved, so something writes to the storage: "
                "stop that first"
            )
    trash.sync(plan.links)
    return PrunedRepository(plan.repository, plan.ends, sum(link.tag is None for link in moved))


def _gone(wanted: PlannedRepository) -> PrunedRepository:
    ends = [TagEnd(tag, planned.digest, Outcome.ALREADY_GONE.value) for tag, planned in wanted.tags.items()]
    return PrunedRepository(wanted.name, tuple(ends))
