"""Undoing a run: its copies are read, checked and put back. Sees ports, never clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from registry_cleanup.domain.copies import (
    CopiedManifest,
    CopiedTag,
    KnownCopies,
    Outline,
    Undoable,
    Wanted,
    chosen,
    without,
)
from registry_cleanup.domain.copy_parts import DamagedCopyError, Part, decode, lost_parts
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.undo_failures import at_another, no_copies
from registry_cleanup.domain.undoing import NOT_SELECTED, Undo, Undone, UndoOutcome, not_among
from registry_cleanup.ports import CopyStore, Registry, RunError

# Tags, manifests and what these list, of which an undo knows at once: some hundred megabytes.
_MOST_THINGS = 500_000
# Of what a run has copies of, where it has none of what is wanted.
_MOST_NAMED = 5

Protect = Callable[[Sequence[tuple[str, str, Digest]]], Awaitable[None]]
"""Remembers repository, tag and digest of what is put back."""


@dataclass(frozen=True, slots=True)
class UndoOrder:
    """What is to be undone.

    Attributes:
        policy: UID of the policy whose run it is.
        run: its ID; None for the last that there are copies of.
        wanted: what of it; all where that is nothing.
        force: whether a tag is put back that names something else by now.
        dry_run: whether nothing is done.
    """

    policy: str
    run: str | None = None
    wanted: Collection[Wanted] = ()
    force: bool = False
    dry_run: bool = False


async def undo(
    order: UndoOrder,
    registry: Registry,
    store: CopyStore,
    protect: Protect | None = None,
    told: Callable[[UndoOutcome], None] = lambda _: None,
    policy: Policy | None = None,
    known: Sequence[KnownCopies] = (),
) -> Undone:
    """Put back what a run pruned, as far as there are copies of it, and say what became of each thing.

    Args:
        order: what.
        registry: that it was pruned from.
        store: of the copies.
        protect: remembers what is put back, so that the next runs leave it alone; None where nobody does.
        told: is told of each outcome at once.
        policy: whose run it was; what it may not prune, it may not put back either. None where anything may be.
        known: where copies are, by what is told of the policy.

    Raises:
        RunError: there are no copies of such a run, or going on makes no sense.
    """
    runs = await store.runs()
    run = _run_of(order.run, runs, known, registry.claimed_as)
    found = await _read(store, order, run, registry.claimed_as)
    outcomes: list[UndoOutcome] = []
    undoable = found.undoable(order.wanted)
    part = chosen(undoable, order.wanted)
    if policy is not None:
        # Whoever may write where the copies are must gain no more by it than the policy has.
        part, foreign = within(policy, part)
        for tag in foreign:
            outcomes.append(UndoOutcome(tag.repository, tag.tag, tag.digest, Undo.REFUSED, code=NOT_SELECTED))
            told(outcomes[-1])
    if order.wanted and not (part.tags or part.manifests or found.lost or outcomes):
        raise RunError(_not_copied(run, found, order.wanted))
    if protect is not None and not order.dry_run:
        # Before: a run that begins meanwhile must not take it away again. Also what is there already is meant to stay.
        await protect([(tag.repository, tag.tag, tag.digest) for tag in part.tags])

    async def contents(number: int) -> Mapping[tuple[str, Digest], CopiedManifest]:
        part = await _part(store, order.policy, run, number)
        manifests = () if part is None else part.copies.manifests
        return {(each.repository, each.digest): each for each in manifests}

    failure = None
    try:
        async with aclosing(registry.restore(part, contents, force=order.force, dry_run=order.dry_run)) as ends:
            async for outcome in ends:
                outcomes.append(outcome)
                told(outcome)
    except RunError as error:
        if not outcomes:
            raise
        failure = error.failure  # what was done is told all the same
    return Undone(
        run,
        outcomes,
        found.lost,
        order.dry_run,
        registry.history_is_lost,
        failure,
        unfinished=not found.finished,
        not_kept=[each.reference for each in not_among(undoable, order.wanted)],
    )


def _run_of(named: str | None, runs: Sequence[str], known: Sequence[KnownCopies], here: str) -> str:
    """Return the run that is undone, of which there are copies here; raise `RunError` where there are none."""
    last = next(reversed(runs), None)
    there = [each for each in known if each.elsewhere is not None]
    other = max(there, key=lambda each: each.run, default=None)
    if named is None and other is not None and (last is None or other.run > last):
        # Who names no run means the last one.
        raise RunError(at_another(other.run, other.elsewhere, here, last))
    run = named or last
    if run is not None and run in runs:
        return run
    other = next((each for each in there if each.run == run), None)
    if run is not None and other is not None:
        raise RunError(at_another(run, other.elsewhere, here))
    raise RunError(no_copies(run, runs, there))


def within(policy: Policy, copies: Undoable) -> tuple[Undoable, Sequence[CopiedTag]]:
    """Return of `copies` what the policy could have pruned, and the tags that it could not."""

    def ours(repository: str) -> bool:
        protected = any(glob.matches(repository) for glob in policy.protected_repositories)
        return policy.repositories.selects(repository) and not protected

    foreign = [
        tag
        for tag in copies.tags
        if not ours(tag.repository) or any(pattern.matches(tag.tag) for pattern in policy.protected_tags)
    ]
    left_out = set(foreign)
    named = {(tag.repository, tag.digest) for tag in copies.tags if tag not in left_out}
    only_foreign = {(tag.repository, tag.digest) for tag in foreign} - named
    manifests = [
        each
        for each in copies.manifests
        if ours(each.repository) and (each.repository, each.digest) not in only_foreign
    ]
    tags = tuple(tag for tag in copies.tags if tag not in left_out)
    return replace(copies, tags=tags, manifests=tuple(manifests)), foreign


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is of the copies of a run.

    Attributes:
        copies: all that they hold.
        left: tags of them that the run saw stay.
        lost: how many parts are damaged or gone.
        finished: whether the run says that there are no more.
        repositories: of which there are copies, whatever is wanted.
    """

    copies: Undoable
    left: Collection[CopiedTag]
    lost: int
    finished: bool
    repositories: Collection[str]

    def undoable(self, wanted: Collection[Wanted]) -> Undoable:
        """Return what the run pruned, and what of the rest a person names by tag or digest."""
        named = [each for each in wanted if each.tag is not None or each.digest is not None]
        return without(self.copies, {tag for tag in self.left if not any(each.covers(tag) for each in named)})


async def _read(store: CopyStore, order: UndoOrder, run: str, here: str) -> _Found:
    """Return what there is of the copies of a run that may be wanted; raise `RunError` where it pruned elsewhere.

    One part after the other is unpacked, and no content is held. What was pruned from another registry may have been
    deleted `here` on purpose.
    """
    repositories = {wanted.repository for wanted in order.wanted}
    tags: dict[CopiedTag, None] = {}
    manifests: dict[tuple[str, Digest], Outline] = {}
    afters: dict[int, int] = {}
    unreadable: list[int] = []
    left: set[CopiedTag] = set()
    finished, listed = False, 0
    copied = set[str]()
    for number in await store.numbers(run):
        part = await _part(store, order.policy, run, number)
        if part is None:
            unreadable.append(number)
            continue
        afters[number] = part.after
        if part.registry not in (None, here):
            raise RunError(at_another(run, part.registry, here))
        if part.last or part.left:
            finished = part.last
            left.update(part.copies.tags)
            continue
        copied.update(tag.repository for tag in part.copies.tags)
        copied.update(manifest.repository for manifest in part.copies.manifests)
        copies = part.copies.within(repositories) if repositories else part.copies
        tags.update(dict.fromkeys(copies.tags))
        for manifest in copies.manifests:
            name = manifest.repository, manifest.digest
            if name not in manifests or manifest.genuine:
                manifests[name] = Outline.of(manifest, number)
                listed += len(manifests[name].children)
        if len(tags) + len(left) + len(manifests) + listed > _MOST_THINGS:
            raise RunError(_too_many(run))
    held = Undoable(tuple(tags), tuple(manifests.values()))
    return _Found(held, left, lost_parts(afters, unreadable), finished, copied)


async def _part(store: CopyStore, policy: str, run: str, number: int) -> Part | None:
    """Return a part of the copies of a run; None where it is gone or damaged."""
    content = await store.read(run, number)
    try:
        return None if content is None else await asyncio.to_thread(decode, content, policy, run, number)
    except DamagedCopyError:
        return None


def _too_many(run: str) -> Failure:
    message = (
        f"run {run} has copies of more than is put back at once ({_MOST_THINGS} tags, manifests, and what these list): "
        "name one repository after the other to registry-cleanup undo"
    )
    return Failure("UndoTooLarge", message, mendable=True)


def _not_copied(run: str, found: _Found, wanted: Collection[Wanted]) -> Failure:
    """Return that a run has nothing of what is wanted, and what it has instead."""
    named = ", ".join(each.reference for each in wanted)
    there = sorted({each.repository for each in wanted}.intersection(found.repositories))
    if there:
        tags = [tag.tag for tag in found.copies.tags if tag.repository == there[0]]
        has = f", so it did not prune that: of {there[0]} it has {_some(tags) or 'only manifests without a tag'}"
    else:
        has = (
            f": it has some of {_some(found.repositories) or 'nothing'}; name one as REPOSITORY, REPOSITORY:TAG or "
            "REPOSITORY@DIGEST"
        )
    return Failure("NothingToUndo", f"run {run} has no copies of {named}{has}", mendable=True)


def _some(names: Collection[str]) -> str:
    """Return some names, and how many there are besides."""
    more = len(names) - _MOST_NAMED
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
