"""What a registry can delete, the last look before it does, and what became of each planned tag."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import ALL_TAGS, InUse
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import ancestors, descendants

_LOOKUP_SECONDS = 20e-6


class Deletion(StrEnum):
    """What was found out about deletion at a registry; the values are reasons of `DeleteSupported`."""

    BY_TAG = "ByTag"
    BY_DIGEST = "ByDigest"
    UNKNOWN = "Unknown"  # the registry would not say: planned as by digest, and tried
    WITHOUT_EFFECT = "DeletionWithoutEffect"  # accepted what does not exist: planned as by digest, and tried
    DISABLED = "DeletionDisabled"
    READ_ONLY = "ReadOnly"
    FORBIDDEN = "DeletionForbidden"  # the policy's ServiceAccount lacks a right on image streams

    @property
    def possible(self) -> bool:
        """Whether there is any sense in trying."""
        return self not in (Deletion.DISABLED, Deletion.READ_ONLY, Deletion.FORBIDDEN)

    @property
    def unit(self) -> DeletionUnit:
        """What a plan reckons with: digests, unless the registry showed that it removes tags alone."""
        return DeletionUnit.TAG if self in (Deletion.BY_TAG, Deletion.FORBIDDEN) else DeletionUnit.DIGEST


@dataclass(frozen=True, slots=True)
class DeletionSupport:
    """What was found out about deletion, with `detail` for people where there is more to say."""

    deletion: Deletion
    detail: str | None = None


class Outcome(StrEnum):
    """What happened to one planned item."""

    PRUNED = "Pruned"
    ALREADY_GONE = "AlreadyGone"
    MOVED = "Moved"  # names another digest now
    NOW_SHARED = "NowShared"  # a tag that stays stands on the digest now, or an index that stays lists it
    NOW_IN_USE = "NowInUse"  # a pod that appeared since the scan uses it
    NOT_DELETED = "NotDeleted"  # accepted, but still there
    NO_COPY = "NoCopy"  # stays, since no copy of it could be written
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The end of one planned tag; `code` is the registry's error code where it failed."""

    tag: str
    digest: Digest
    outcome: Outcome
    code: str | None = None


@dataclass(frozen=True, slots=True)
class UntaggedOutcome:
    """The end of one manifest without a name that was to be deleted; `code` as in `ItemOutcome`."""

    digest: Digest
    outcome: Outcome
    code: str | None = None


def recheck(
    groups: tuple[DigestGroup, ...], now_there: Inventory, unit: DeletionUnit
) -> tuple[tuple[DigestGroup, ...], tuple[ItemOutcome, ...]]:
    """Compare what is to go with what is there right before it goes.

    Args:
        groups: planned, in their order.
        now_there: the repository read again: the planned tags, and all others where digests are deleted.
        unit: what is deleted.

    Returns:
        The groups that still go, and the outcome of every tag that was saved by a change.
    """
    outcomes: list[ItemOutcome] = []
    remaining: list[DigestGroup] = []
    for group in groups:
        still: list[str] = []
        for tag in group.tags:
            current = now_there.tags.get(tag)
            if current == group.digest:
                still.append(tag)
            else:
                change = Outcome.ALREADY_GONE if current is None else Outcome.MOVED
                outcomes.append(ItemOutcome(tag, group.digest, change))
        if still:
            remaining.append(replace(group, tags=tuple(still)))
    if unit is DeletionUnit.TAG:
        return tuple(remaining), tuple(outcomes)
    needed = _needed(remaining, now_there)
    for group in remaining:
        if group.digest in needed:
            outcomes.extend(ItemOutcome(tag, group.digest, Outcome.NOW_SHARED) for tag in group.tags)
    return tuple(group for group in remaining if group.digest not in needed), tuple(outcomes)


def one_by_one(groups: Sequence[DigestGroup]) -> list[DigestGroup]:
    """Return groups of one tag each, in the same order."""
    return [group if len(group.tags) == 1 else replace(group, tags=(tag,)) for group in groups for tag in group.tags]


def leading(groups: Sequence[DigestGroup], at: int, most: int, manifests: Mapping[Digest, Manifest]) -> int:
    """Return how many groups from `at` on, at most `most`, may go at the same time: none is listed by one before it.

    What an index lists goes only when the index is verified gone, or someone could pull the index without it.
    """
    listed: set[Digest] = set()
    for number, group in enumerate(islice(groups, at, at + most)):
        if group.digest in listed:
            return number
        if most > 1 and group.digest in manifests:
            listed |= descendants([group.digest], manifests)
    return min(most, len(groups) - at)


def lookup_seconds(size: int, planned: int, deletions: int) -> float:
    """Return about how many seconds of a processor a registry takes that looks up every tag on each deletion.

    Distribution 2.8 takes 20 microseconds for each tag of the repository (performance.md).

    Args:
        size: number of tags in the repository, of which fewer are left with each deletion.
        planned: number of tags that go.
        deletions: number of digests that they stand on.
    """
    return deletions * (size - planned / 2) * _LOOKUP_SECONDS


class Effect:
    """Whether a registry does what it accepts, by one outcome after the other in a repository.

    A single tag that is still there where others went was pushed again, most likely: it stays, and the rest goes on.
    """

    def __init__(self, unit: DeletionUnit) -> None:
        self._whole = unit is DeletionUnit.DIGEST
        self._works = False
        self._passed: Digest | None = None

    def lacks(self, outcome: ItemOutcome | UntaggedOutcome) -> bool:
        """Say whether `outcome` shows that deletions have no effect: the first, or a second one in a row."""
        if outcome.outcome is Outcome.PRUNED:
            self._works, self._passed = True, None
        if outcome.outcome is not Outcome.NOT_DELETED:
            return False
        if not self._works:
            return not (self._whole and outcome.digest == self._passed)  # one more tag of the same deletion
        self._works, self._passed = False, outcome.digest
        return False


class UsedSince:
    """What is used of one repository since its plan was made, and what that saves."""

    def __init__(self, plan: RepositoryPlan, in_use: InUse) -> None:
        self.in_use = in_use
        self._plan = plan
        self._use = in_use.at(plan.repository)
        manifests = plan.manifests
        by_config = {digest for digest, m in manifests.items() if m.config is not None and m.config in in_use.digests}
        used = by_config.union(in_use.digests)
        self._used = used | ancestors(used, manifests)
        self._listed = descendants(self._used, manifests)

    def saves(self, digest: Digest, tags: Collection[str]) -> bool:
        """Say whether `tags`, or without any the manifest `digest`, must not go after all.

        Args:
            digest: of the manifest, which goes too where only digests can be deleted.
            tags: on it that would go.
        """
        if ALL_TAGS in self._use.tags or any(map(self._use.uses_tag, tags)):
            return True
        stood_for = {digest}.union(*(self._plan.history.get(tag, ()) for tag in tags))
        if not self._used.isdisjoint(stood_for):
            return True
        whole = self._plan.unit is DeletionUnit.DIGEST or not tags
        if whole and digest in self._listed:
            return True
        # A container that is known by an image ID may run whatever nobody knows the config of.
        return bool(self._use.image_ids) and not all(map(self._has_known_configs, stood_for))

    def _has_known_configs(self, digest: Digest) -> bool:
        manifests = self._plan.manifests
        below = [manifests.get(each) for each in (digest, *descendants([digest], manifests))]
        return all(m is not None and (m.format is Format.INDEX or m.config is not None) for m in below)


def _needed(groups: list[DigestGroup], now_there: Inventory) -> set[Digest]:
    """Return the digests that the tags which stay stand on or list, nested too."""
    going = {(tag, group.digest) for group in groups for tag in group.tags}
    stays = {digest for tag, digest in now_there.tags.items() if (tag, digest) not in going}
    return stays | descendants(stays, now_there.manifests)
