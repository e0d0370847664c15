"""The copies of one run: written part by part before what they are of goes, and removed once their window is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from registry_cleanup.domain.copies import (
    COPY_TOO_LARGE,
    CopiedManifest,
    CopiedTag,
    Copies,
    CopiesHeld,
    KnownCopies,
    expired,
    is_of_the_future,
)
from registry_cleanup.domain.copy_parts import DamagedCopyError, Part, cut, decode, encode
from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import CopyStore, Registry, RunError

_log = logging.getLogger(__name__)

_NOWHERE = Failure(
    "NoCopy",
    "spec.undo wants copies of what is pruned, and there is no place for them here: name a repository of the registry "
    "in spec.undo.repository",
    mendable=True,
)
_KEPT = "copies whose window is over could not be removed, which is tried again"
_UNWRITTEN = "what has no copy is not pruned, and copies cannot be written"
# Nobody saw the tag afterwards as it was.
_MAY_BE_GONE = frozenset({Outcome.PRUNED, Outcome.ALREADY_GONE, Outcome.FAILED})
_UNREAD = Failure("NotStored", "what was kept of them is not what comes back when they are read", mendable=True)


class RunCopies:
    """Writes down what a run is about to prune; once that cannot be done for good, it is not tried again.

    Attributes:
        failure: why copies could not be written, the last time that they could not.
    """

    def __init__(self, store: CopyStore, policy: str, run: str, registry: str | None = None) -> None:
        """Write the copies of a `run` at `registry` of the policy with the UID `policy` to `store`."""
        self.failure: Failure | None = None
        self._store = store
        self._policy = policy
        self._run = run
        # What is kept in the registry is where it belongs, whatever name that goes by.
        self._registry = registry if store.repository is None else None
        self._number = 0
        self._written = 0
        self._given_up = False
        self._left: dict[tuple[str, str], CopiedTag] = {}
        self._writing = asyncio.Lock()

    def held_with(self, others: CopiesHeld | None) -> CopiesHeld:
        """Return what there are copies of, with those of other runs where somebody has looked."""
        own = (self._run,) if self._number else ()
        known = () if others is None else others.runs
        return CopiesHeld(sorted({*known, *own}), self._store.repository, all=others is not None)

    async def keep(self, tags: Sequence[CopiedTag], manifests: Sequence[CopiedManifest]) -> None:
        """Write copies down as one part, or as several where they are many, and read them back; raise `RunError`."""
        async with self._writing:
            if self._given_up and self.failure is not None:
                raise RunError(self.failure)
            # The tags come last, so that what is named by a copy has one.
            for some in cut((*manifests, *tags), self._store.most_bytes):
                copies = Copies(
                    self._policy,
                    self._run,
                    tuple([each for each in some if isinstance(each, CopiedTag)]),
                    tuple([each for each in some if isinstance(each, CopiedManifest)]),
                )
                try:
                    await self._write(copies)
                except RunError as error:
                    self._given_up = error.failure.mendable and error.failure.reason != COPY_TOO_LARGE
                    self.failure = replace(
                        error.failure,
                        reason="NoCopy",
                        message=f"{_UNWRITTEN}: {error.failure.message}",
                        blocks=False,
                        stops_run=False,
                    )
                    raise RunError(self.failure, error.code or error.failure.reason) from error
                self._left.update({(tag.repository, tag.tag): tag for tag in copies.tags})

    def note(self, repository: str, outcome: ItemOutcome) -> None:
        """Take note of the end of a tag: what was copied, and has not gone, is nothing that an undo puts back."""
        if outcome.outcome in _MAY_BE_GONE:
            self._left.pop((repository, outcome.tag), None)

    async def close(self) -> None:
        """Write down that these are all, so that nobody has to doubt it; without it, an undo says that it may not be.

        Whatever went has its copy: that this cannot be written is no fault of the run.
        """
        async with self._writing:
            if not self._written:
                return
            try:
                *many, rest = list(cut(self._left.values(), self._store.most_bytes)) or [()]
                for some in many:
                    await self._write(self._tags(some), left=True)
                await self._write(self._tags(rest), last=True)
            except RunError as error:
                extra = {"run": self._run, "reason": error.failure.reason}
                _log.warning("the end of the copies of a run was not written: %s", error.failure.message, extra=extra)

    def _tags(self, things: Iterable[CopiedManifest | CopiedTag]) -> Copies:
        return Copies(self._policy, self._run, tuple([each for each in things if isinstance(each, CopiedTag)]))

    async def _write(self, copies: Copies, *, last: bool = False, left: bool = False) -> None:
        """Write the next part, and see that an undo will read of it what was to be kept."""
        # Used up also where it fails: nobody knows what is there under that name, or will be.
        self._number += 1
        part = Part(copies, self._number, self._written, self._registry, last, left)
        served = await self._store.write(self._run, part.number, await asyncio.to_thread(encode, part))
        try:
            found = await asyncio.to_thread(decode, served, self._policy, self._run, part.number)
        except DamagedCopyError as error:
            raise RunError(_UNREAD) from error
        if found != part:
            raise RunError(_UNREAD)
        self._written = part.number


def copies_of(policy: Policy, registry: Registry, elsewhere: CopyStore | None) -> CopyStore:
    """Return where the copies of `policy` are: in the repository that it names, or `elsewhere`; raise `RunError`."""
    named = policy.undo.repository
    store = registry.copies_in(named, policy.uid) if named is not None else None
    if store is None:
        store = elsewhere
    if store is None:
        raise RunError(_NOWHERE)
    return store


async def copies_with(
    run: str | None, policy: Policy, registry: Registry, elsewhere: CopyStore | None, known: Iterable[KnownCopies] = ()
) -> CopyStore:
    """Return where the copies of `run` are: where those of `policy` are now, or were before it was changed.

    Args:
        run: its ID; None for the last one of which there are copies.
        policy: whose run it was.
        registry: open.
        elsewhere: where copies are that are in no repository.
        known: where status says that copies are.

    Raises:
        RunError: a place could not be looked at.
    """
    place = copies_of(policy, registry, elsewhere)
    stores = [place]
    for repository in {each.repository: None for each in known}:
        before = registry.copies_in(repository, policy.uid) if repository is not None else elsewhere
        if before is not None and before.repository != place.repository:
            stores.append(before)
    if run is None:
        return await _with_last_run(stores)
    for store in (*stores, elsewhere):
        if store is not None and run in await store.runs():
            return store
    return place


async def _with_last_run(stores: Sequence[CopyStore]) -> CopyStore:
    """Return which of `stores` has the copies of the last run, the first one where none has any."""
    found = stores[0]
    last = max(await found.runs(), default="")
    for store in stores[1:]:
        if (run := max(await store.runs(), default="")) > last:
            found, last = store, run
    return found


async def remove_expired(store: CopyStore, window: timedelta, now: datetime) -> CopiesHeld:
    """Remove the copies of runs that can be undone no more, and return what is left; raise `RunError`."""
    try:
        runs = await store.runs()
        over = expired(runs, window, now)
        failure: RunError | None = None
        for run in over:
            _log.info("the copies of a run are removed, since undo.window is over", extra={"run": run})
            try:
                await store.remove(run)
            except RunError as error:
                if error.failure.stops_run or error.failure.reachable is False:
                    raise
                failure = failure or error  # what is wrong with the copies of one run is no reason to keep all others
        if failure is not None:
            raise failure
    except RunError as error:
        # Whatever it is, it keeps copies: nothing else of the run is worse for it.
        message = f"{_KEPT}: {error.failure.message}"
        kept = replace(
            error.failure, reason="CopiesKept", message=message, mendable=False, blocks=False, stops_run=False
        )
        raise RunError(kept, error.code) from error
    left = [run for run in runs if run not in over and not is_of_the_future(run, now)]
    return CopiesHeld(left, store.repository)
