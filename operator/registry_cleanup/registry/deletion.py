"""Making tags and manifests go over `/v2/`: which goes when, the last look, and the proof."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome, recheck
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.domain.structure import descendants
from registry_cleanup.registry.deleter import Deleter
from registry_cleanup.registry.errors import SiblingLostError
from registry_cleanup.registry.untagged import Progress, Untagged


class Pruning:
    """The deletions of one repository."""

    def __init__(self, deleter: Deleter, plan: RepositoryPlan, unit: DeletionUnit) -> None:
        self._deleter = deleter
        self._plan = plan
        self._unit = unit
        self._progress = Progress()
        self._untagged = Untagged(deleter, plan, unit, self._progress)
        self._subjects = frozenset(subject for group in plan.groups for subject in group.after)
        self._siblings: defaultdict[Digest, set[str]] = defaultdict(set)
        for verdict in plan.verdicts:
            if verdict.digest is not None:
                self._siblings[verdict.digest].add(verdict.tag)
        self._looked: datetime | None = None
        self._listed: frozenset[str] = frozenset()
        self._deleted: set[str] = set()
        self._alone = False

    async def outcomes(self) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        """Delete what may go, and with it gone what may go then; yield the verified outcomes.

        Tags go first, then what they leave without a name, then the referrers of what is gone, and so on. Tags and
        manifests that were not touched have no outcome.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        waiting, further = self._plan.groups, True
        while further:
            further = False
            gone = self._progress.gone_subjects()
            ready = tuple(group for group in waiting if group.after <= gone)
            waiting = tuple(group for group in waiting if not group.after <= gone)
            async with aclosing(self._tags_go(ready)) as items:
                async for item in items:
                    further = True
                    self._progress.ended[item.tag] = item.outcome
                    yield item
            async with aclosing(self._untagged.outcomes()) as manifests:
                async for manifest in manifests:
                    further = True
                    yield manifest

    async def _tags_go(self, groups: tuple[DigestGroup, ...]) -> AsyncGenerator[ItemOutcome, None]:
        """Delete group by group and yield the outcome of each tag."""
        self._looked = None
        remaining = groups
        while remaining:
            if self._deleter.outdated(self._looked):
                self._looked = self._deleter.now()
                remaining, saved = await self._look_again(remaining)
                for outcome in saved:
                    yield outcome
                continue
            group, remaining = remaining[0], remaining[1:]
            for reference in group.tags if self._unit is DeletionUnit.TAG else (group.digest,):
                async for outcome in self._delete(group, reference):
                    yield outcome

    async def _look_again(
        self, groups: tuple[DigestGroup, ...]
    ) -> tuple[tuple[DigestGroup, ...], tuple[ItemOutcome, ...]]:
        planned = frozenset(tag for group in groups for tag in group.tags)
        everything = self._unit is DeletionUnit.DIGEST
        there = await self._deleter.look(
            lambda tags: Needs(resolved=frozenset(tags) if everything else planned.intersection(tags)),
            self._plan.manifests,
        )
        self._listed = there.unresolved | there.dangling | there.tags.keys()
        remaining, saved = recheck(groups, there, self._unit)
        if not everything:
            return remaining, saved
        still = {group.digest for group in remaining}
        for group in groups:
            if group.digest not in still and self._is_awaited(group.digest, still):
                lost = await self._deleter.resolve(group.digest) is None
                (self._progress.gone if lost else self._progress.staying).add(group.digest)
        # A tag that is not seen once may be there all the same: what an index lists goes only after the index.
        listed = descendants(self._progress.staying, self._plan.manifests)
        held = [group for group in remaining if group.digest in listed]
        self._progress.staying.update(group.digest for group in held)
        shared = [ItemOutcome(tag, group.digest, Outcome.NOW_SHARED) for group in held for tag in group.tags]
        return tuple(group for group in remaining if group not in held), (*saved, *shared)

    def _is_awaited(self, digest: Digest, going: Collection[Digest]) -> bool:
        """Say whether something goes only after `digest`: what refers to it, or what it lists, tagged or not."""
        if subject_key(digest) in self._subjects or self._untagged.waits_for(digest):
            return True
        return not descendants([digest], self._plan.manifests).isdisjoint(going)

    async def _delete(self, group: DigestGroup, reference: str) -> AsyncGenerator[ItemOutcome, None]:
        """Delete a digest with all its tags, or one tag of it, and prove it."""
        by_tag = self._unit is DeletionUnit.TAG
        tags = (reference,) if by_tag else group.tags
        if by_tag:
            # A tag may be moved at any time, and DELETE takes whatever it names then: look right before.
            current = await self._deleter.resolve(reference)
            if current != group.digest:
                change = Outcome.ALREADY_GONE if current is None else Outcome.MOVED
                yield ItemOutcome(reference, group.digest, change)
                return
        else:
            await self._untagged.before_deletion(group.digest)
        done = await self._deleter.delete(reference, group.digest, tags)
        if not by_tag:
            self._note(group.digest, gone=done.gone)
        for tag in tags:
            yield ItemOutcome(tag, group.digest, done.outcome, done.code)
        if done.error is not None:
            raise done.error
        if by_tag and done.outcome is Outcome.PRUNED:
            await self._prove_alone(reference, group.digest)

    def _note(self, digest: Digest, *, gone: bool) -> None:
        (self._progress.gone if gone else self._progress.staying).add(digest)
        if not gone and digest in self._plan.manifests and self._plan.manifests[digest].children:
            self._looked = None  # an index that stays after all keeps what it lists: look at all that was to go then

    async def _prove_alone(self, tag: str, digest: Digest) -> None:
        """See that no other tag went with `tag`; once its manifest outlives it, tags go alone at this registry.

        Not only known siblings count: where tags are deleted alone, nobody asked what the other tags stand on.
        """
        self._deleted.add(tag)
        if self._alone:
            return
        if await self._deleter.resolve(digest) is not None:
            self._alone = True
            return
        # Some registries drop a manifest with its last tag, some drop all its tags with the first: look which.
        there = await self._deleter.tags()
        expected = self._listed - self._deleted
        siblings = sorted(self._siblings[digest] & expected & there)
        lost = sorted(expected - there) or [tag for tag in siblings if await self._deleter.resolve(tag) is None]
        if lost:
            raise SiblingLostError(
                f"the registry removed {self._plan.repository}:{lost[0]} together with tag {tag!r}; nothing more is "
                "deleted in this run: report the registry's product and version, and push the tag again"
            )
