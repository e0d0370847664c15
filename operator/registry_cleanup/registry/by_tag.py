"""Tags that go alone, where a registry can do that: one at a time until that is proved, then in batches that grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, leading, one_by_one, recheck
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.registry.batch import Batch
from registry_cleanup.registry.copier import Copier
from registry_cleanup.registry.deleter import Deleted, Deleter, LookAgainError
from registry_cleanup.registry.errors import SiblingLostError

# So many deletions are proved one by one before several go at a time: what a registry does with the first of them tells
# what it would do with all. A batch is at most twice what is proved by then.
_SINGLY = 8
# A list of all tags proves a batch, and costs by their number: where there are many, a batch is a share of them.
_BATCH = 256
_SHARE = 16


class ByTag:
    """The tags of one repository that go, each resolved right before its own deletion."""

    def __init__(self, deleter: Deleter, plan: RepositoryPlan, copier: Copier) -> None:
        self._deleter = deleter
        self._copier = copier
        self._plan = plan
        self._siblings: defaultdict[Digest, set[str]] = defaultdict(set)
        for verdict in plan.verdicts:
            if verdict.digest is not None:
                self._siblings[verdict.digest].add(verdict.tag)
        self._listed: set[str] = set()  # the tags that are there, as far as is known
        self._alone = False  # whether a manifest outlived one of its tags
        self._proved = 0

    async def outcomes(self, groups: tuple[DigestGroup, ...]) -> AsyncGenerator[ItemOutcome, None]:
        """Delete the tags of `groups`, in their order, and yield the outcome of each.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        if not groups:
            return
        line, saved = await self._look(one_by_one(groups))
        for outcome in saved:
            yield outcome
        at = 0
        while at < len(line):
            await self._copier.take(line, at)
            if (refusal := self._copier.refusal(line[at])) is not None:
                yield ItemOutcome(line[at].tags[0], line[at].digest, Outcome.NO_COPY, refusal)
                at += 1
                continue
            most = self._copier.covered(line, at, self._size())
            batch = line[at : at + leading(line, at, most, self._plan.manifests)]
            at += len(batch)
            if len(batch) == 1:
                async for outcome in self._delete(batch[0]):
                    yield outcome
            else:
                async for outcome in self._delete_together(batch):
                    yield outcome

    async def _look(self, line: Sequence[DigestGroup]) -> tuple[Sequence[DigestGroup], Sequence[ItemOutcome]]:
        """See which tags are there, and that the registry tells of the first ones what they name."""
        first, later = line[:_SINGLY], line[_SINGLY:]
        asked = {tag for group in first for tag in group.tags}
        there = await self._deleter.look(
            lambda tags: Needs(resolved=frozenset(asked.intersection(tags))), self._plan.manifests
        )
        self._listed = {*there.unresolved, *there.dangling, *there.tags}
        still, saved = recheck(tuple(first), there, DeletionUnit.TAG)
        gone = [
            ItemOutcome(tag, group.digest, Outcome.ALREADY_GONE)
            for group in later
            for tag in group.tags
            if tag not in self._listed
        ]
        return [*still, *(group for group in later if self._listed.issuperset(group.tags))], [*saved, *gone]

    def _size(self) -> int:
        """Return how many tags may go at the same time."""
        if not self._alone or self._proved < _SINGLY:
            return 1
        return min(2 * self._proved, max(_BATCH, len(self._listed) // _SHARE))

    def _count(self, outcome: ItemOutcome) -> None:
        if outcome.outcome is Outcome.PRUNED:
            self._listed.discard(outcome.tag)
            self._proved += 1
        elif outcome.outcome in (Outcome.FAILED, Outcome.NOT_DELETED):
            self._proved = 0  # something is wrong there: begin anew with one at a time

    async def _delete(self, group: DigestGroup) -> AsyncGenerator[ItemOutcome, None]:
        """Delete one tag, and prove it before anything else goes."""
        (tag,) = group.tags
        done: Deleted | None = None
        while done is None:
            # A tag may be moved at any time, and DELETE takes whatever it names then: look right before.
            current = await self._deleter.resolve(tag, group.digest)
            if current != group.digest:
                change = Outcome.ALREADY_GONE if current is None else Outcome.MOVED
                yield ItemOutcome(tag, group.digest, change)
                return
            with suppress(LookAgainError):
                done = await self._deleter.delete(tag, group.digest, group.tags)
        outcome = ItemOutcome(tag, group.digest, done.outcome, done.code)
        self._count(outcome)
        yield outcome
        if done.error is not None:
            raise done.error
        if done.outcome is Outcome.PRUNED and not self._alone:
            await self._prove_alone(tag, group.digest)

    async def _delete_together(self, groups: Sequence[DigestGroup]) -> AsyncGenerator[ItemOutcome, None]:
        """Delete several tags at a time, and prove them all before anything else goes."""
        batch = Batch(self._deleter, groups)
        for outcome in await batch.outcomes(self._listed):
            self._count(outcome)
            yield outcome
        if batch.error is not None:
            raise batch.error
        if batch.missing:
            await self._prove_siblings(groups, batch.missing)

    async def _prove_alone(self, tag: str, digest: Digest) -> None:
        """See that no other tag went with `tag`; once its manifest outlives it, tags go alone at this registry.

        Not only known siblings count: where tags are deleted alone, nobody asked what the other tags stand on.
        """
        if await self._deleter.resolve(digest) is not None:
            self._alone = True
            return
        # Some registries drop a manifest with its last tag, some drop all its tags with the first: look which.
        there = await self._deleter.tags()
        siblings = sorted(self._siblings[digest] & self._listed & there)
        lost = sorted(self._listed - there) or [each for each in siblings if await self._deleter.resolve(each) is None]
        if lost:
            raise self._sibling_lost(lost[0], tag)

    async def _prove_siblings(self, groups: Sequence[DigestGroup], missing: AbstractSet[str]) -> None:
        """See that no sibling is missing because it went with a tag of `groups`; anybody may take away other tags."""
        for group in groups:
            for sibling in sorted(self._siblings[group.digest] & missing):
                # A manifest that is still there did not go with all its tags.
                if await self._deleter.resolve(group.digest) is None and await self._deleter.resolve(sibling) is None:
                    raise self._sibling_lost(sibling, group.tags[0])
        self._listed -= missing

    def _sibling_lost(self, lost: str, tag: str) -> SiblingLostError:
        return SiblingLostError(
            f"the registry removed {self._plan.repository}:{lost} together with tag {tag!r}; nothing more is "
            "deleted in this run: report the registry's product and version, and push the tag again"
        )
