"""What hangs together: the least set of kept tags that needs nothing which goes.

Kept tags keep their digest where only whole digests can be deleted; kept indexes keep what they list. The set
grows until nothing changes, and only then is the floor of `minTagsPerRepository` filled, which makes it grow again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum

from registry_cleanup.domain.inventory import Inventory, Manifest
from registry_cleanup.domain.reference import Digest, referrer_subject
from registry_cleanup.domain.verdict import KeepReason, Verdict


class DeletionUnit(StrEnum):
    """The smallest thing that a registry can delete."""

    TAG = "Tag"
    DIGEST = "Digest"


def descendants(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> set[Digest]:
    """Return all that the given manifests list, nested too, without those given (unless listed)."""
    found: set[Digest] = set()
    pending = list(digests)
    while pending:
        manifest = manifests.get(pending.pop())
        for child in manifest.children if manifest else ():
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def close(
    verdicts: Mapping[str, Verdict], inventory: Inventory, unit: DeletionUnit, minimum_tags: int
) -> dict[str, Verdict]:
    """Return `verdicts` with everything kept that a kept tag needs, and at least `minimum_tags` tags.

    Args:
        verdicts: of the rules, by tag.
        inventory: what they were made from.
        unit: what the registry can delete.
        minimum_tags: referrers and dangling tags do not count towards it.
    """
    closure = _Closure(verdicts, inventory.manifests, unit)
    kept = {v.digest for v in verdicts.values() if v.kept is not None and v.digest is not None}
    # All siblings first: where both reasons hold, the order in which tags are listed must not decide.
    for digest in kept:
        closure.keep_siblings(digest)
    for digest in kept:
        closure.keep_children(digest)
    for digest in closure.newest_first():
        if closure.kept_count() >= minimum_tags:
            break
        closure.keep_group(digest)
    return closure.verdicts


class _Closure:
    """The growing set: `verdicts` holds its state at any time."""

    def __init__(
        self, verdicts: Mapping[str, Verdict], manifests: Mapping[Digest, Manifest], unit: DeletionUnit
    ) -> None:
        self.verdicts = dict(verdicts)
        self._manifests = manifests
        self._whole_digests = unit is DeletionUnit.DIGEST
        self._going: dict[Digest, list[str]] = {}
        for verdict in verdicts.values():
            if verdict.kept is None and verdict.digest is not None:
                self._going.setdefault(verdict.digest, []).append(verdict.tag)
        self._listed: set[Digest] = set()
        self._kept = sum(_counts(verdict, manifests) for verdict in verdicts.values() if verdict.kept is not None)

    def kept_count(self) -> int:
        return self._kept

    def newest_first(self) -> list[Digest]:
        """Return the digests that go, the newest first; an unknown date counts as newest, then the name decides."""

        def rank(digest: Digest) -> tuple[float, str]:
            verdicts = [self.verdicts[tag] for tag in self._going[digest]]
            newest = max(verdict.date or datetime.max.replace(tzinfo=UTC) for verdict in verdicts)
            return (-newest.timestamp(), min(verdict.tag for verdict in verdicts))

        return sorted(self._going, key=rank)

    def keep_group(self, digest: Digest) -> None:
        """Keep every tag on `digest` for the floor's sake, and what follows from it."""
        self._keep_tags(digest, KeepReason.MINIMUM_TAGS)
        self.keep_children(digest)

    def keep_siblings(self, digest: Digest) -> None:
        """Keep the tags on `digest`, of which one is kept, where only all of them can go."""
        if self._whole_digests:
            self._keep_tags(digest, KeepReason.SHARED_DIGEST)

    def keep_children(self, digest: Digest) -> None:
        """Keep what the kept `digest` lists, nested too, where deleting a tag would delete it."""
        pending = [digest] if self._whole_digests else []
        while pending:
            manifest = self._manifests.get(pending.pop())
            for child in manifest.children if manifest else ():
                if child not in self._listed:
                    self._listed.add(child)
                    self._keep_tags(child, KeepReason.FOLLOWS_PARENT)
                    pending.append(child)

    def _keep_tags(self, digest: Digest, reason: KeepReason) -> None:
        for tag in self._going.pop(digest, ()):
            self.verdicts[tag] = replace(self.verdicts[tag], kept=reason, pruned=())
            # A tag on a kept index's child is an image that stays: it fills the floor, unlike a referrer.
            self._kept += 1


def _counts(kept: Verdict, manifests: Mapping[Digest, Manifest]) -> bool:
    """Say whether a kept tag stands for an image of its own; what does not fills no floor, whoever keeps it."""
    if kept.kept is KeepReason.DANGLING or referrer_subject(kept.tag) is not None:
        return False
    manifest = manifests.get(kept.digest) if kept.digest is not None else None
    return manifest is None or manifest.subject is None
