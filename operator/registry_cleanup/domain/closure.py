"""What hangs together: the least set of kept tags that needs nothing which goes, and what follows its subject.

Kept tags keep their digest where only whole digests can be deleted; kept and used indexes keep what they list. The
set grows until nothing changes, and only then is the floor of `minTagsPerRepository` filled, which makes it grow
again. Referrers go last, and only with a manifest that goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key
from registry_cleanup.domain.structure import TagsOnDigests, descendants
from registry_cleanup.domain.verdict import KeepReason, PruneReason, Verdict


class DeletionUnit(StrEnum):
    """The smallest thing that a registry can delete."""

    TAG = "Tag"
    DIGEST = "Digest"


def close(
    verdicts: Mapping[str, Verdict],
    manifests: Mapping[Digest, Manifest],
    unit: DeletionUnit,
    minimum_tags: int,
    needed: Collection[Digest] = (),
) -> dict[str, Verdict]:
    """Return `verdicts` with everything kept that a kept tag needs, and at least `minimum_tags` tags.

    Args:
        verdicts: of the rules, by tag.
        manifests: what is known of manifests.
        unit: what the registry can delete.
        minimum_tags: referrers and dangling tags do not count towards it.
        needed: manifests that are kept for another reason than a tag, such as those in use.
    """
    closure = _Closure(verdicts, manifests, unit)
    kept = {v.digest for v in verdicts.values() if v.kept is not None and v.digest is not None}
    # All siblings first: where both reasons hold, the order in which tags are listed must not decide.
    for digest in kept:
        closure.keep_siblings(digest)
    for digest in kept.union(needed):
        closure.keep_children(digest)
    if closure.kept_count() < minimum_tags:
        for digest in closure.newest_first():
            closure.keep_group(digest)
            if closure.kept_count() >= minimum_tags:
                break
    return closure.verdicts


class _Closure:
    """The growing set: `verdicts` holds its state at any time."""

    def __init__(
        self, verdicts: Mapping[str, Verdict], manifests: Mapping[Digest, Manifest], unit: DeletionUnit
    ) -> None:
        self.verdicts = dict(verdicts)
        self._manifests = manifests
        self._whole_digests = unit is DeletionUnit.DIGEST
        self._going = TagsOnDigests()
        self._kept = 0
        for tag, verdict in verdicts.items():
            if verdict.kept is not None:
                self._kept += _counts(verdict, manifests)
            elif verdict.digest is not None:
                self._going.add(verdict.digest, tag)
        self._listed: set[Digest] = set()

    def kept_count(self) -> int:
        return self._kept

    def newest_first(self) -> list[Digest]:
        """Return the digests that go, the newest first; an unknown date counts as newest, then the name decides."""

        def rank(digest: Digest) -> tuple[float, str]:
            verdicts = [self.verdicts[tag] for tag in self._going.on(digest)]
            newest = max(verdict.date or datetime.max.replace(tzinfo=UTC) for verdict in verdicts)
            return (-newest.timestamp(), min(verdict.tag for verdict in verdicts))

        return sorted(self._going.digests, key=rank)

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
        for tag in self._going.take(digest):
            self.verdicts[tag] = self.verdicts[tag].staying(reason)
            # A tag on a kept index's child is an image that stays: it fills the floor, unlike a referrer.
            self._kept += 1


class Vanishing:
    """Which manifests cease to exist with a set of verdicts, and which they leave without a name.

    Attributes:
        nameless: manifests that still exist, and that pruning leaves without a name.
        gone: manifests that cease to exist, those in `nameless` among them where they are deleted too.
    """

    def __init__(
        self,
        verdicts: Iterable[Verdict],
        manifests: Mapping[Digest, Manifest],
        unit: DeletionUnit,
        needed: Collection[Digest],
        history: Mapping[str, tuple[Digest, ...]],
        *,
        named_only: bool,
        deletes_untagged: bool,
    ) -> None:
        """Look at `verdicts`; `history` and `named_only` as in `Inventory`, `deletes_untagged` as the policy says."""
        going: set[Digest] = set()
        stays: set[Digest] = set(needed)
        for verdict in verdicts:
            if verdict.digest is not None:
                (going if verdict.kept is None else stays).add(verdict.digest)
            if history and verdict.kept is not None:
                stays.update(history.get(verdict.tag, ()))
        held = stays | descendants(stays, manifests)
        unnamed = going - held
        related = unnamed | descendants(unnamed, manifests)
        # An index that is known, and has nothing to do with what goes, stays too.
        known = {m.digest for m in manifests.values() if m.children and m.digest not in related}
        left = related - held - descendants(known, manifests)
        if unit is DeletionUnit.DIGEST:
            left -= going
        self.nameless = left
        self.gone = set(going) if unit is DeletionUnit.DIGEST else set[Digest]()
        if deletes_untagged or named_only:
            self.gone |= left


def follow(
    verdicts: Mapping[str, Verdict],
    manifests: Mapping[Digest, Manifest],
    unit: DeletionUnit,
    needed: Collection[Digest] = (),
    history: Mapping[str, tuple[Digest, ...]] | None = None,
    *,
    named_only: bool = False,
    deletes_untagged: bool = False,
) -> tuple[dict[str, Verdict], set[Digest]]:
    """Let the referrers go whose subject goes, for its reasons, and theirs in turn.

    A referrer stays where its digest has another tag that stays and only digests can be deleted, or where a kept index
    lists it.

    Returns:
        The verdicts, and the manifests that are left without a name.
    """
    result = dict(verdicts)
    waiting = [v for v in verdicts.values() if v.subject is not None and v.kept is KeepReason.FOLLOWS_PARENT]
    while True:
        vanishing = Vanishing(
            result.values(),
            manifests,
            unit,
            needed,
            history or {},
            named_only=named_only,
            deletes_untagged=deletes_untagged,
        )
        subjects = {subject_key(digest) for digest in vanishing.gone}
        followers = [verdict for verdict in waiting if verdict.subject in subjects] if subjects else []
        if unit is DeletionUnit.DIGEST:
            followers = _whole_groups(followers, result.values(), manifests, needed)
        if not followers:
            return result, vanishing.nameless
        owners = _owners({verdict.subject for verdict in followers}, result.values(), manifests)
        for verdict in followers:
            rule, reasons = owners.get(verdict.subject or "", (None, ()))
            result[verdict.tag] = verdict._replace(kept=None, rule=rule, pruned=reasons)
        gone = {verdict.tag for verdict in followers}
        waiting = [verdict for verdict in waiting if verdict.tag not in gone]


def _whole_groups(
    followers: list[Verdict],
    verdicts: Collection[Verdict],
    manifests: Mapping[Digest, Manifest],
    needed: Collection[Digest],
) -> list[Verdict]:
    """Return those of `followers` whose digest goes with all its tags, and that nothing else needs."""
    names = {verdict.tag for verdict in followers}
    stays = {v.digest for v in verdicts if not v.goes and v.tag not in names and v.digest is not None} | set(needed)
    held = stays | descendants(stays, manifests)
    # What a follower lists that stays for this is held already: nothing has to be looked at twice.
    return [verdict for verdict in followers if verdict.digest is not None and verdict.digest not in held]


def _owners(
    subjects: Collection[str | None], verdicts: Iterable[Verdict], manifests: Mapping[Digest, Manifest]
) -> dict[str, tuple[str | None, tuple[PruneReason, ...]]]:
    """Return rule and reasons of those of `subjects` that go, or that what goes lists: of the first tag by name."""
    first: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.kept is not None or verdict.digest is None:
            continue
        manifest = manifests.get(verdict.digest)
        below = descendants((verdict.digest,), manifests) if manifest is not None and manifest.children else ()
        for digest in (verdict.digest, *below):
            subject = subject_key(digest)
            if subject in subjects and (subject not in first or verdict.tag < first[subject].tag):
                first[subject] = verdict
    return {subject: (verdict.rule, verdict.pruned) for subject, verdict in first.items()}


def _counts(kept: Verdict, manifests: Mapping[Digest, Manifest]) -> bool:
    """Say whether a kept tag stands for an image of its own; what does not fills no floor, whoever keeps it."""
    if kept.kept is KeepReason.DANGLING or referrer_subject(kept.tag) is not None:
        return False
    # An SBOM may have a tag of its own: only who was read is known to be none.
    manifest = manifests.get(kept.digest) if kept.digest is not None else None
    return manifest is not None and manifest.read and manifest.subject is None
