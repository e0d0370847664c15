"""Deleting what pruned tags leave without a name: parents before what they list, subjects before their referrers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import Outcome, UntaggedOutcome
from registry_cleanup.domain.inventory import Manifest, Needs
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.domain.rules import pinned
from registry_cleanup.domain.structure import ancestors, descendants, parents_first
from registry_cleanup.registry.copier import Copier
from registry_cleanup.registry.deleter import Deleter, Look, LookAgainError

_NO_TAG_LEFT = frozenset({Outcome.PRUNED, Outcome.ALREADY_GONE})


@dataclass(slots=True)
class Progress:
    """What is known so far of what was to go.

    Attributes:
        ended: the outcome of each planned tag that has one.
        gone: manifests that the registry was seen not to have any more.
        staying: manifests that were to go, and stay.
    """

    ended: dict[str, Outcome] = field(default_factory=dict)
    gone: set[Digest] = field(default_factory=set)
    staying: set[Digest] = field(default_factory=set)

    def gone_subjects(self) -> set[str]:
        """Return what is gone as referrers name it."""
        return {subject_key(digest) for digest in self.gone}


class _State(Enum):
    READY = auto()
    WAITS = auto()  # for a tag, a parent or a subject
    STAYS = auto()


class Untagged:
    """The manifests without a name that are to go from one repository."""

    def __init__(
        self, deleter: Deleter, plan: RepositoryPlan, unit: DeletionUnit, progress: Progress, copier: Copier
    ) -> None:
        self._deleter = deleter
        self._copier = copier
        self._plan = plan
        self._progress = progress
        self._active = plan.deletes_untagged
        self._pending: dict[Digest, None] = dict.fromkeys(plan.untagged if plan.deletes_untagged else ())
        self._going = {group.digest for group in plan.groups} if unit is DeletionUnit.DIGEST else set[Digest]()
        self._going.update(self._pending)
        self._tags: defaultdict[Digest, list[str]] = defaultdict(list)
        for group in plan.groups:
            self._tags[group.digest].extend(group.tags)
        self._found: set[Digest] = set()
        self._subjects: defaultdict[Digest, set[Digest]] = defaultdict(set)
        self._parents: defaultdict[Digest, set[Digest]] = defaultdict(set)
        if self._active:
            self._learn(plan.manifests.values())
        self._look: Look | None = None
        self._held: set[Digest] = set()

    def waits_for(self, digest: Digest) -> bool:
        """Say whether anything here goes only after the manifest `digest`."""
        manifest = self._plan.manifests.get(digest) if self._pending else None
        return manifest is not None and any(child in self._pending for child in manifest.children)

    async def before_deletion(self, digest: Digest) -> None:
        """Ask what refers to `digest`, which is about to go, while the registry can still tell."""
        if not self._active:
            return
        found = await self._deleter.referrers(digest)
        self._learn(found.values())
        now = self._deleter.now()
        pins = {manifest.digest for manifest in found.values() if pinned(manifest.keep, now)} | self._plan.needed
        pins |= ancestors(pins, found)
        for referrer in sorted(manifest.digest for manifest in found.values() if manifest.subject == digest):
            if referrer in pins:
                continue
            self._subjects[referrer].add(digest)
            new = {referrer, *descendants([referrer], found)} - self._going
            self._found |= new
            self._going |= new
            self._pending.update(dict.fromkeys(parents_first(new, found)))

    async def outcomes(self) -> AsyncGenerator[UntaggedOutcome, None]:
        """Delete whatever may go by now, and yield its verified outcome.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        self._look = None  # tags were deleted since, and others may have been pushed
        found_more = True
        while found_more:
            found_more = False
            for digest in tuple(self._pending):
                state = self._state(digest)
                if state is _State.WAITS:
                    continue
                del self._pending[digest]
                found_more = True
                async for outcome in self._end(digest, stays=state is _State.STAYS):
                    yield outcome

    def _state(self, digest: Digest) -> _State:
        """Say whether `digest` may go, as far as that is known without asking."""
        progress = self._progress
        if digest in self._plan.needed:
            return _State.STAYS
        if any(progress.ended.get(tag) not in _NO_TAG_LEFT for tag in self._tags.get(digest, ())):
            return _State.WAITS
        parents = self._parents.get(digest, set()) - progress.gone
        if any(parent in progress.staying or parent not in self._going for parent in parents):
            return _State.STAYS
        return _State.WAITS if parents or self._subjects.get(digest, set()) - progress.gone else _State.READY

    async def _end(self, digest: Digest, *, stays: bool) -> AsyncGenerator[UntaggedOutcome, None]:
        """Delete `digest`, unless something holds it, and prove it."""
        if not stays:
            await self.before_deletion(digest)
            if await self._deleter.resolve(digest) is None:
                self._progress.gone.add(digest)
                yield UntaggedOutcome(digest, Outcome.ALREADY_GONE)
                return
            stays = await self._is_held(digest)
        if stays:
            self._progress.staying.add(digest)
            # A referrer that has a name of its own was never to go.
            if digest not in self._found:
                yield UntaggedOutcome(digest, Outcome.NOW_SHARED)
            return
        if (refusal := await self._refusal(digest)) is not None:
            self._progress.staying.add(digest)
            yield UntaggedOutcome(digest, Outcome.NO_COPY, refusal)
            return
        try:
            done = await self._deleter.delete(digest, digest, ())
        except LookAgainError:
            self._look = None
            self._pending[digest] = None
            return
        (self._progress.gone if done.gone else self._progress.staying).add(digest)
        yield UntaggedOutcome(digest, done.outcome, done.code)
        if done.error is not None:
            raise done.error

    async def _refusal(self, digest: Digest) -> str | None:
        """Return why there is no copy of `digest`; None where there is one, or is to be none."""
        going = [DigestGroup(each, ()) for each in (digest, *self._pending)]
        await self._copier.take(going, 0)
        return self._copier.refusal(going[0])

    async def _is_held(self, digest: Digest) -> bool:
        """Say whether a tag stands on `digest`, or an index on a tag lists it, as of right now."""
        if self._deleter.outdated(self._look):
            began = self._deleter.now()
            there = await self._deleter.look(lambda tags: Needs(resolved=frozenset(tags)), self._plan.manifests)
            self._look = Look(began, self._deleter.now())
            named = set(there.tags.values())
            self._held = named | descendants(named, there.manifests)
        return digest in self._held

    def _learn(self, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            for child in manifest.children:
                self._parents[child].add(manifest.digest)
