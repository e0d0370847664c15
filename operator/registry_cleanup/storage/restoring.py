"""Restoring from the trash: manifests first, children before what lists them, then the tags; each is read again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from registry_cleanup.domain.copies import CopiedManifest, CopiedTag, Outline, Undoable, Wanted, chosen, undo_levels
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.stored import Link
from registry_cleanup.domain.undoing import Undo, Undone, UndoOutcome, not_among, tag_result
from registry_cleanup.storage import layout
from registry_cleanup.storage.errors import DoubtError, TrashError
from registry_cleanup.storage.trash import Trash, locked, runs
from registry_cleanup.storage.tree import Tree


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What is to come back.

    Attributes:
        run: of which.
        wanted: what of it; all where nothing is named.
        force: whether tags are put back also where they name something else by now.
        dry_run: only say what would be done.
        now: the instant.
    """

    run: str
    wanted: Collection[Wanted]
    force: bool
    dry_run: bool
    now: datetime


def restore(tree: Tree, order: RestoreOrder) -> Undone:
    """Put back what the trash of a run holds; raise `StorageError` where nothing can be said of it."""
    layout.check(tree)
    with locked(tree):
        trash = Trash(tree, order.run)
        if trash.journal().plan is None:
            there = ", ".join(runs(tree)) or "none"
            raise TrashError(f"the trash has no run {order.run}; there are: {there}")
        held, damaged = _read(tree, trash)
        wanted = chosen(held.copies, order.wanted)
        if not order.dry_run and (wanted.tags or wanted.manifests):
            # Before anything comes back: a Job that prunes is not to take it away again when it is repeated.
            trash.note("restored", order.now)
        outcomes: list[UndoOutcome] = []
        for part in wanted.by_repository():
            repository = part.tags[0].repository if part.tags else part.manifests[0].repository
            restoring = _Restoring(tree, trash, order, repository, held.lost)
            outcomes += restoring.run(part.tags, part.manifests)
            trash.sync(restoring.moved)
        not_kept: list[str] = []
        for each in not_among(held.copies, order.wanted):
            # What came back before is in the trash no more.
            if (end := _there(tree, each)) is not None:
                outcomes.append(end)
            else:
                not_kept.append(each.reference)
    return Undone(order.run, outcomes, damaged, order.dry_run, not_kept=not_kept)


def _there(tree: Tree, wanted: Wanted) -> UndoOutcome | None:
    """Return that a tag or manifest is there, of which the trash has nothing; None where it is not."""
    where = (*layout.repository_parts(wanted.repository), "_manifests")
    if wanted.tag is not None:
        digest = dict(layout.tags(tree, (*where, "tags"))).get(wanted.tag)
    else:
        digest = next((each for each in layout.revisions(tree, (*where, "revisions")) if each == wanted.digest), None)
    return None if digest is None else UndoOutcome(wanted.repository, wanted.tag, digest, Undo.ALREADY_THERE)


@dataclass(slots=True)
class _Held:
    """What a trash holds.

    Attributes:
        copies: of what can be looked at.
        lost: manifests whose content the storage has lost, or that is not genuine.
    """

    copies: Undoable
    lost: dict[tuple[str, Digest], Undo] = field(default_factory=dict)


def _read(tree: Tree, trash: Trash) -> tuple[_Held, int]:
    """Return what the trash holds, and how many repositories of it cannot be read."""
    tags: list[CopiedTag] = []
    manifests: list[Outline] = []
    lost: dict[tuple[str, Digest], Undo] = {}
    damaged = 0
    for repository in trash.repositories():
        try:
            tags += [CopiedTag(repository, *item) for item in trash.tags(repository).items()]
            revisions = trash.revisions(repository)
        except DoubtError:
            damaged += 1
            continue
        for digest in sorted(revisions):
            try:
                found = layout.manifest(tree, repository, digest)
            except DoubtError:
                found, lost[repository, digest] = None, Undo.TAMPERED
            if found is None:
                lost.setdefault((repository, digest), Undo.MISSING)
            # Contents are read again where they are needed: all of them at once may be large.
            manifests.append(Outline.of(found or CopiedManifest(repository, digest, "", b""), 0))
    return _Held(Undoable(tuple(tags), tuple(manifests)), lost), damaged


class _Restoring:
    """The work on one repository.

    Attributes:
        moved: what came back, to be made lasting.
    """

    def __init__(
        self, tree: Tree, trash: Trash, order: RestoreOrder, repository: str, lost: Mapping[tuple[str, Digest], Undo]
    ) -> None:
        self._tree = tree
        self._trash = trash
        self._order = order
        self._name = repository
        self._lost = lost
        self._ends: dict[Digest, UndoOutcome] = {}
        self.moved: list[Link] = []
        # Read anew: somebody may have pushed meanwhile.
        where = (*layout.repository_parts(repository), "_manifests")
        self._tags = dict(layout.tags(tree, (*where, "tags")))
        self._revisions = set(layout.revisions(tree, (*where, "revisions")))

    def run(self, tags: Sequence[CopiedTag], manifests: Sequence[Outline]) -> Iterator[UndoOutcome]:
        """Put back manifests, then tags, and say what became of each tag, and of manifests that no tag here names."""
        for level in undo_levels(manifests):
            for manifest in level:
                self._ends[manifest.digest] = self._manifest(manifest.digest)
        named = {tag.digest for tag in tags}
        for digest, end in self._ends.items():
            if digest not in named and end.result is not Undo.ALREADY_THERE:
                yield end
        for tag in sorted(tags, key=lambda each: each.tag):
            yield self._tag(tag)

    def _manifest(self, digest: Digest) -> UndoOutcome:
        def end(result: Undo, missing: tuple[Digest, ...] = (), code: str | None = None) -> UndoOutcome:
            return UndoOutcome(self._name, None, digest, result, None, missing, code)

        if digest in self._revisions:
            return end(Undo.ALREADY_THERE)
        if (lost := self._lost.get((self._name, digest))) is not None:
            # A revision without its content would make the registry's garbage collection fail for good.
            return end(lost, (digest,) if lost is Undo.MISSING else ())
        manifest = layout.manifest(self._tree, self._name, digest)
        if missing := (digest,) if manifest is None else self._missing(manifest):
            return end(Undo.MISSING, missing)
        if not self._order.dry_run:
            put = self._move(Link(self._name, None, digest))
            if not put or layout.link(self._tree, layout.revision_parts(self._name, digest)) != digest:
                return end(Undo.FAILED, code="PlaceTaken")
        self._revisions.add(digest)
        return end(Undo.RESTORED)

    def _missing(self, manifest: CopiedManifest) -> tuple[Digest, ...]:
        """Return what a manifest needs that cannot be pulled any more."""
        lost: dict[Digest, None] = {}
        for child in manifest.children:
            below = self._ends.get(child)
            if child not in self._revisions:
                # Of a child that could not come back, what keeps it away says more.
                lost |= dict.fromkeys((below.missing if below is not None else ()) or (child,))
        lost |= dict.fromkeys(blob for blob in manifest.blobs if not layout.has_blob(self._tree, self._name, blob))
        return tuple(lost)

    def _tag(self, tag: CopiedTag) -> UndoOutcome:
        def end(result: Undo, missing: tuple[Digest, ...] = (), code: str | None = None) -> UndoOutcome:
            return UndoOutcome(self._name, tag.tag, tag.digest, result, current, missing, code)

        current = self._tags.get(tag.tag)
        result = tag_result(current, tag.digest, force=self._order.force)
        if result is not Undo.RESTORED:
            return end(result)
        manifest = self._ends.get(tag.digest)
        if tag.digest not in self._revisions:
            if manifest is None:
                return end(Undo.MISSING, (tag.digest,))
            return end(manifest.result, manifest.missing, manifest.code)
        if manifest is None and self._lacks(tag.digest):
            return end(Undo.MISSING, (tag.digest,))
        if not self._order.dry_run and not self._put_back(tag, replaces=current is not None):
            return end(Undo.FAILED, code="PlaceTaken")
        return end(Undo.RESTORED)

    def _move(self, link: Link) -> bool:
        moved = self._trash.put_back(link)
        self.moved += [link] * moved
        return moved

    def _lacks(self, digest: Digest) -> bool:
        """Say whether a manifest that was never moved has lost its content since."""
        try:
            return layout.manifest(self._tree, self._name, digest) is None
        except DoubtError:
            return True

    def _put_back(self, tag: CopiedTag, *, replaces: bool) -> bool:
        link = Link(self._name, tag.tag, tag.digest)
        if replaces:
            self._trash.replace(link)
        if not self._move(link):
            return False
        return layout.link(self._tree, (*layout.tag_parts(self._name, tag.tag), "current")) == tag.digest
