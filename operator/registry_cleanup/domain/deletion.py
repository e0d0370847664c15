"""What a registry can delete, the last look before it does, and what became of each planned tag."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry_cleanup.domain.closure import DeletionUnit, descendants
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import DigestGroup
from registry_cleanup.domain.reference import Digest


class Deletion(StrEnum):
    """What was found out about deletion at a registry; the values are reasons of `DeleteSupported`."""

    BY_TAG = "ByTag"
    BY_DIGEST = "ByDigest"
    UNKNOWN = "Unknown"  # the registry would not say: planned as by digest, and tried
    DISABLED = "DeletionDisabled"
    FORBIDDEN = "DeletionForbidden"  # the policy's ServiceAccount lacks a right on image streams

    @property
    def possible(self) -> bool:
        """Whether there is any sense in trying."""
        return self in (Deletion.BY_TAG, Deletion.BY_DIGEST, Deletion.UNKNOWN)

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
    NOT_DELETED = "NotDeleted"  # accepted, but still there
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The end of one planned tag; `code` is the registry's error code where it failed."""

    tag: str
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
            remaining.append(DigestGroup(group.digest, tuple(still)))
    if unit is DeletionUnit.TAG:
        return tuple(remaining), tuple(outcomes)
    needed = _needed(remaining, now_there)
    for group in remaining:
        if group.digest in needed:
            outcomes.extend(ItemOutcome(tag, group.digest, Outcome.NOW_SHARED) for tag in group.tags)
    return tuple(group for group in remaining if group.digest not in needed), tuple(outcomes)


def _needed(groups: list[DigestGroup], now_there: Inventory) -> set[Digest]:
    """Return the digests that the tags which stay stand on or list, nested too."""
    going = {(tag, group.digest) for group in groups for tag in group.tags}
    stays = {digest for tag, digest in now_there.tags.items() if (tag, digest) not in going}
    return stays | descendants(stays, now_there.manifests)
