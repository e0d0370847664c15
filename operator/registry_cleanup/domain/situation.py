"""All that the plan of one repository is made from, and what of it the operator would have read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.conflict import Rival, with_rivals, yields
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import RepositoryPlan, conflicting, plan_repository
from registry_cleanup.domain.policy import Policy, TagDate
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import descendants, young_by_a_platform


@dataclass(frozen=True, slots=True)
class Situation:
    """What one repository is planned from.

    Attributes:
        policy: whose rules, by itself.
        inventory: the repository.
        unit: what the registry can delete.
        now: the instant of the decision, aware.
        in_use: what runs, or could be rolled back to.
        rivals: who else prunes at the registry.
    """

    policy: Policy
    inventory: Inventory
    unit: DeletionUnit
    now: datetime
    in_use: InUse = NOTHING_IN_USE
    rivals: tuple[Rival, ...] = ()

    @property
    def tags(self) -> frozenset[str]:
        """All tags that are listed."""
        return frozenset((*self.inventory.tags, *self.inventory.unresolved, *self.inventory.dangling))

    @property
    def effective(self) -> Policy:
        """The policy as it holds in the repository: the `keepTags` of rivals hold there, too."""
        return with_rivals(self.policy, self.rivals, self.inventory.repository)

    @property
    def yields(self) -> bool:
        """Whether an older policy prunes the repository."""
        return yields(self.rivals, self.inventory.repository)

    def plan(self) -> RepositoryPlan:
        """Decide what becomes of each tag."""
        if self.yields:
            return conflicting(self.inventory)
        return plan_repository(self.effective, self.inventory, self.unit, self.now, self.in_use)

    def needs(self, *, least: bool = True) -> Needs:
        """Return what has to be read of the tags for the plan; `least` as in `asked`."""
        return asked(
            self.policy,
            self.rivals,
            self.inventory.repository,
            self.tags,
            self.unit,
            self.in_use,
            self.now,
            least=least,
        )


def asked(
    policy: Policy,
    rivals: Collection[Rival],
    repository: str,
    tags: Collection[str],
    unit: DeletionUnit,
    in_use: InUse,
    now: datetime,
    *,
    least: bool = True,
) -> Needs:
    """Return what has to be read of `tags` to plan `repository`: nothing where an older policy prunes.

    Not the `least` is asked to tell how it would be otherwise: also where nothing can go anyway.
    """
    if least and yields(rivals, repository):
        return Needs()
    return needs(with_rivals(policy, rivals, repository), repository, tags, unit, in_use, now, least=least)


def united(first: Needs, second: Needs) -> Needs:
    """Return what two readings know together."""
    return Needs(
        first.dated | second.dated,
        first.read | second.read,
        first.resolved | second.resolved,
        first.digests | second.digests,
        first.used | second.used,
        first.image_ids | second.image_ids,
    )


def covers(read: Needs, wanted: Needs, tags: Collection[str]) -> bool:
    """Say whether all that is `wanted` of those of the `tags` that the registry listed was `read`."""
    known = read.dated | read.read
    return (
        wanted.dated.intersection(tags) <= read.dated
        and wanted.read.intersection(tags) <= known
        and wanted.resolved.intersection(tags) <= known | read.resolved
        and wanted.digests <= read.digests
        and wanted.image_ids <= read.image_ids
    )


def merged(first: Inventory, closer: Inventory) -> Inventory:
    """Return what two readings of one repository know together; where a tag moved in between, the first holds."""
    tags = {**closer.tags, **first.tags}
    manifests = {**first.manifests, **closer.manifests}
    for digest, manifest in first.manifests.items():
        second = closer.manifests.get(digest)
        if second is None or (manifest.read and not second.read):
            manifests[digest] = manifest
        elif not second.inferred:
            # Where it was, the closer look also went through the platforms that the first one could leave unread.
            created, keep = second.created or manifest.created, second.keep or manifest.keep
            blobs = second.blobs or manifest.blobs
            inferred, annotated = manifest.inferred, manifest.annotated
            manifests[digest] = replace(
                second, created=created, keep=keep, blobs=blobs, inferred=inferred, annotated=annotated
            )
    listed = {*first.tags, *first.unresolved, *first.dangling}
    return replace(
        first,
        tags={tag: digest for tag, digest in tags.items() if tag in listed},
        unresolved=first.unresolved - closer.tags.keys() - closer.dangling,
        dangling=first.dangling | (closer.dangling & first.unresolved),
        manifests=manifests,
        undated=first.undated & closer.undated,
    )


def as_read(situation: Situation) -> Situation:
    """Return the situation with what the operator would have read of the repository, and no more.

    More would decide otherwise now and then: a mark counts only where it is read anyway, for one.
    """
    wanted, there = situation.needs(), situation.inventory
    if there.named_only:
        return replace(situation, inventory=_as_a_stream_tells(situation, wanted))
    seen = wanted.dated | wanted.read | wanted.resolved
    tags = {tag: digest for tag, digest in there.tags.items() if tag in seen}
    unresolved = (there.tags.keys() | there.dangling | there.unresolved) - tags.keys() - (there.dangling & seen)
    inventory = replace(
        there,
        tags=tags,
        unresolved=frozenset(unresolved),
        dangling=there.dangling & seen,
        manifests=_facts(there, wanted),
    )
    return replace(situation, inventory=inventory)


def _facts(there: Inventory, wanted: Needs) -> dict[Digest, Manifest]:
    """Return the manifests of `there` as `registry.inventory` would know them."""
    facts: dict[Digest, Manifest] = {}

    def know(digests: Collection[Digest], *, dated: bool, read: bool) -> None:
        for digest in digests:
            manifest = there.manifests.get(digest)
            if manifest is None:
                continue
            if not read and manifest.format is not Format.INDEX:
                facts[digest] = Manifest(digest, manifest.format, read=False)
            else:
                facts[digest] = manifest if dated else _undated(manifest)

    def named(tags: Collection[str]) -> set[Digest]:
        return {there.tags[tag] for tag in tags if tag in there.tags}

    def indexes(digests: set[Digest]) -> set[Digest]:
        listed = descendants(digests, there.manifests)
        return {d for d in listed if (m := there.manifests.get(d)) is not None and m.format is Format.INDEX}

    know(resolved := named(wanted.resolved), dated=False, read=False)
    read = named(wanted.read) | wanted.digests | wanted.image_ids
    know(read, dated=False, read=True)
    dated = named(wanted.dated)
    if wanted.image_ids:
        # The configs of all platforms are looked at.
        know(descendants(read | dated | resolved, there.manifests), dated=False, read=True)
    know(indexes(read | resolved | dated), dated=False, read=True)
    firsts, young = _settled(there, dated, wanted.young_after)
    whole = dated - young.keys()
    know(dated | firsts | descendants(whole, there.manifests), dated=True, read=True)
    facts |= {index: replace(there.manifests[index], created=date, inferred=True) for index, date in young.items()}
    return facts


def _settled(
    there: Inventory, dated: Collection[Digest], after: datetime | None
) -> tuple[set[Digest], dict[Digest, datetime]]:
    """Return what is looked at of indexes first, and the dates of those that this shows to be young.

    As `registry.inventory` goes about it: the first platform of each, and what has a date anyway.
    """
    if after is None:
        return set(), {}
    known = {digest: m for digest in dated if (m := there.manifests.get(digest)) is not None}
    pending = {digest: m for digest, m in known.items() if m.format is Format.INDEX and m.inferred}
    firsts = {m.children[0] for m in pending.values() if m.children} & there.manifests.keys()
    for first in firsts:
        known[first] = manifest = there.manifests[first]
        if manifest.format is Format.INDEX and manifest.inferred:
            pending.setdefault(first, manifest)
    dates = {digest: m.created for digest, m in known.items() if digest not in pending}
    return firsts, young_by_a_platform({index: m.children for index, m in pending.items()}, dates.get, after)


def _undated(manifest: Manifest) -> Manifest:
    """Return what the manifest alone says, where it was not worth a request for its config."""
    if not manifest.inferred:
        return manifest
    keep = manifest.keep if manifest.format is Format.INDEX else manifest.annotated
    return replace(manifest, created=None, keep=keep, inferred=False, annotated=None)


def _as_a_stream_tells(situation: Situation, wanted: Needs) -> Inventory:
    """Return an image stream as it is read: whole, but for the dates of images, which have to be asked for."""
    there = situation.inventory
    if situation.policy.tag_date is TagDate.AUTO:
        return there
    dated = {there.tags[tag] for tag in wanted.dated if tag in there.tags}
    facts = {d: m if d in dated else replace(m, created=None) for d, m in there.manifests.items()}
    return replace(there, manifests=facts, undated=frozenset(there.tags.keys() - wanted.dated))
