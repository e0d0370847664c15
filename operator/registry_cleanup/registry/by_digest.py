"""Digests that go with all their tags: looked at again and again, several at a time where none needs another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, leading, recheck
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.domain.structure import descendants
from registry_cleanup.registry.copier import Copier
from registry_cleanup.registry.deleter import Deleted, Deleter, Look, LookAgainError
from registry_cleanup.registry.together import Together
from registry_cleanup.registry.untagged import Progress, Untagged

_Groups = tuple[DigestGroup, ...]
_Saved = tuple[ItemOutcome, ...]

# Distribution 2.8 looks up every tag of the repository on each deletion: 205 ms at 10,000 tags one at a time, 110 ms
# four at a time, and more only wait longer (performance.md).
_MOST = 4
# So many are proved one by one before several go at a time.
_SINGLY = 8


class ByDigest:
    """The digests of one repository that go."""

    def __init__(
        self, deleter: Deleter, plan: RepositoryPlan, untagged: Untagged, progress: Progress, copier: Copier
    ) -> None:
        self._deleter = deleter
        self._copier = copier
        self._plan = plan
        self._untagged = untagged
        self._progress = progress
        self._subjects = frozenset(subject for group in plan.groups for subject in group.after)
        self._look: Look | None = None
        self._again: list[DigestGroup] = []  # what the registry did not do yet
        self._listed: frozenset[str] = frozenset()
        self._proved = 0

    async def outcomes(self, groups: _Groups) -> AsyncGenerator[ItemOutcome, None]:
        """Delete the digests of `groups`, in their order, and yield the outcome of each tag.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        self._look = None
        remaining = groups
        while remaining:
            await self._copier.take(remaining, 0)
            if (refusal := self._copier.refusal(remaining[0])) is not None:
                for outcome in self._stay(remaining[0], refusal):
                    yield outcome
                remaining = remaining[1:]
                continue
            # Whatever it took, something goes after each look: in a large repository it may take longer than it holds.
            look = self._look_again if self._deleter.outdated(self._look) else self._look_at_new_tags
            remaining, saved = await look(remaining)
            for outcome in saved:
                yield outcome
            most = min(_MOST, self._deleter.concurrency) if self._proved >= _SINGLY else 1
            # Empty where the look has saved all that was left, or where what comes next has no copy yet.
            most = self._copier.covered(remaining, 0, most)
            wave = remaining[: leading(remaining, 0, most, self._plan.manifests)]
            remaining = remaining[len(wave) :]
            async for outcome in self._delete(wave):
                yield outcome
            if self._again:
                # In their place: nothing that they list may go before them.
                remaining = (*(group for group in wave if group in self._again), *remaining)
                self._again.clear()
                self._look = None

    async def _look_again(self, groups: _Groups) -> tuple[_Groups, _Saved]:
        """Resolve every tag again; return what still goes, and what a change has saved."""
        began = self._deleter.now()
        there = await self._deleter.look(lambda tags: Needs(resolved=frozenset(tags)), self._plan.manifests)
        self._look = Look(began, self._deleter.now())
        self._listed = frozenset({*there.dangling, *there.tags})
        remaining, saved = recheck(groups, there, DeletionUnit.DIGEST)
        still = {group.digest for group in remaining}
        for group in groups:
            if group.digest not in still and self._is_awaited(group.digest, still):
                lost = await self._deleter.resolve(group.digest) is None
                (self._progress.gone if lost else self._progress.staying).add(group.digest)
        # A tag that is not seen once may be there all the same: what an index lists goes only after the index.
        listed = descendants(self._progress.staying, self._plan.manifests)
        kept, shared = self._without(remaining, listed)
        return kept, (*saved, *shared)

    async def _look_at_new_tags(self, groups: _Groups) -> tuple[_Groups, _Saved]:
        """Resolve tags with names that the last look did not see: one list tells whether there are any."""
        new = await self._deleter.tags() - self._listed
        if not new:
            return groups, ()
        there = await self._deleter.look(
            lambda tags: Needs(resolved=frozenset(new.intersection(tags))), self._plan.manifests
        )
        self._listed |= there.tags.keys()
        named = set(there.tags.values())
        return self._without(groups, named | descendants(named, there.manifests))

    def _without(self, groups: _Groups, needed: Collection[Digest]) -> tuple[_Groups, _Saved]:
        """Keep the groups that something stands on or lists by now."""
        held = [group for group in groups if group.digest in needed]
        self._progress.staying.update(group.digest for group in held)
        saved = tuple(ItemOutcome(tag, group.digest, Outcome.NOW_SHARED) for group in held for tag in group.tags)
        return (tuple(group for group in groups if group.digest not in needed), saved) if held else (groups, ())

    def _stay(self, group: DigestGroup, refusal: str) -> Iterator[ItemOutcome]:
        """Leave a digest alone of which there is no copy, and look anew at all that it may need."""
        self._progress.staying.add(group.digest)
        if group.digest in self._plan.manifests and self._plan.manifests[group.digest].children:
            self._look = None
        for tag in group.tags:
            yield ItemOutcome(tag, group.digest, Outcome.NO_COPY, refusal)

    def _is_awaited(self, digest: Digest, going: Collection[Digest]) -> bool:
        """Say whether something goes only after `digest`: what refers to it, or what it lists, tagged or not."""
        if subject_key(digest) in self._subjects or self._untagged.waits_for(digest):
            return True
        return not descendants([digest], self._plan.manifests).isdisjoint(going)

    async def _delete(self, groups: Sequence[DigestGroup]) -> AsyncGenerator[ItemOutcome, None]:
        """Delete digests at the same time, and prove each."""
        together = Together()
        ends: list[tuple[DigestGroup, Deleted]] = []

        async def delete(group: DigestGroup) -> None:
            await self._untagged.before_deletion(group.digest)
            try:
                done = await self._deleter.delete(group.digest, group.digest, group.tags, together.unless_halted)
            except LookAgainError:
                self._again.append(group)
                return
            ends.append((group, done))
            self._note(group.digest, done)
            if done.error is not None:
                raise done.error

        await together.run(groups, delete, _MOST)
        for group, done in ends:
            for tag in group.tags:
                yield ItemOutcome(tag, group.digest, done.outcome, done.code)
        if together.error is not None:
            raise together.error

    def _note(self, digest: Digest, done: Deleted) -> None:
        self._proved = self._proved + 1 if done.gone else 0
        (self._progress.gone if done.gone else self._progress.staying).add(digest)
        if not done.gone and digest in self._plan.manifests and self._plan.manifests[digest].children:
            self._look = None  # an index that stays after all keeps what it lists: look at all that was to go then
