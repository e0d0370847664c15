"""What a registry's storage holds of one repository, and which of its links go by a written plan.

The plan was made over `/v2/`, some time ago. What is moved is planned anew from what the storage holds by now, with the
same closure: a tag goes if it is planned and names the same digest still; a manifest, if nothing that stays needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.copies import CopiedManifest
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest, referrer_subject
from registry_cleanup.domain.structure import descendants
from registry_cleanup.domain.usage import stands_for, unfound_images, used_digests
from registry_cleanup.domain.verdict import KeepReason, Verdict
from registry_cleanup.domain.written_plan import PlannedRepository, PlannedTag


@dataclass(frozen=True, slots=True)
class StoredRepository:
    """What a storage holds of one repository, and what an earlier attempt of the same run has moved already.

    Attributes:
        name: its name.
        tags: what each names; None of one whose link is not written, which nobody can pull.
        revisions: manifests that can be pulled by digest.
        manifests: the facts of revisions, those in the trash among them; of those whose content is there.
        trashed_tags: what the run has moved already.
        trashed_revisions: the same.
    """

    name: str
    tags: Mapping[str, Digest | None]
    revisions: AbstractSet[Digest]
    manifests: Mapping[Digest, Manifest]
    trashed_tags: Mapping[str, Digest] = field(default_factory=dict)
    trashed_revisions: AbstractSet[Digest] = frozenset()


class Link(NamedTuple):
    """A link that is moved, with its folder: of a tag, or of a manifest (`tag` is None), which makes it a revision."""

    repository: str
    tag: str | None
    digest: Digest


class TagEnd(NamedTuple):
    """What becomes of a planned tag; `why` is an `Outcome`, or in the words of the report why it stays."""

    tag: str
    digest: Digest
    why: str


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """What is moved in one repository.

    Attributes:
        repository: its name.
        links: in the order in which they go: indexes before what they list, tags before the manifest.
        ends: of all planned tags.
    """

    repository: str
    links: tuple[Link, ...]
    ends: tuple[TagEnd, ...]


def facts_of(manifest: CopiedManifest) -> Manifest:
    """Return what decisions need to know of a stored manifest; whatever lists others counts as an index."""
    children = manifest.children
    format_ = Format.INDEX if children else Format.IMAGE if manifest.blobs else Format.UNKNOWN
    return Manifest(manifest.digest, format_, children=children, subject=manifest.subject, config=manifest.config)


class UnfoundImageError(Exception):
    """An image runs under the repository's name that is nowhere in it, so nobody knows what it is of."""


def used_tags(stored: StoredRepository, in_use: InUse) -> frozenset[str]:
    """Return the tags of a repository that are used, by name or by what they stand for; raise `UnfoundImageError`.

    What the run has moved already is among them: its manifest may be here still.
    """
    if in_use == NOTHING_IN_USE:
        return frozenset()
    tags = {**stored.trashed_tags, **{tag: digest for tag, digest in stored.tags.items() if digest is not None}}
    inventory = Inventory(stored.name, tags, manifests=stored.manifests)
    if unfound := unfound_images(inventory, in_use):
        raise UnfoundImageError(f"image {min(unfound)} runs under its name, and is not found in it")
    digests, named = used_digests(inventory, in_use), in_use.at(stored.name)
    return frozenset(tag for tag in tags if named.uses_tag(tag) or not digests.isdisjoint(stands_for(inventory, tag)))


def plan_storage(
    stored: StoredRepository,
    planned: PlannedRepository,
    unit: DeletionUnit | None,
    *,
    deletes_untagged: bool,
    used: AbstractSet[str] = frozenset(),
) -> StoragePlan:
    """Say which links of a repository go.

    Args:
        stored: what is there.
        planned: what should go.
        unit: what the plan reckons with. Where it does not say, siblings stay together, and no manifest goes.
        deletes_untagged: whether manifests that are left without a name go too.
        used: tags that are in use by now; they stay, with what they stand for.
    """
    ends = {tag: _end(stored, tag, wanted, used) for tag, wanted in planned.tags.items()}
    going = {tag for tag, why in ends.items() if why == Outcome.PRUNED}
    # Where one tag of a digest has moved, somebody works with it: the others stay with it.
    disturbed = {planned.tags[tag].digest for tag, why in ends.items() if why == Outcome.MOVED}
    held = {tag: KeepReason.SHARED_DIGEST for tag in going if planned.tags[tag].digest in disturbed}
    held |= dict.fromkeys(going & used, KeepReason.IN_USE)
    closed = _as_plan(stored, planned, going, unit, deletes_untagged=deletes_untagged).closed(held)
    leaving = closed.going_tags()
    for tag in (going - leaving) & stored.tags.keys():
        ends[tag] = Outcome.NOW_SHARED.value
    gone = _revisions(stored, planned, closed, unit)
    links = tuple(_links(stored, closed, gone))
    return StoragePlan(stored.name, links, tuple(TagEnd(tag, planned.tags[tag].digest, ends[tag]) for tag in ends))


def _end(stored: StoredRepository, tag: str, wanted: PlannedTag, used: AbstractSet[str]) -> str:
    """Say what becomes of a tag by itself: `Pruned` if it goes."""
    if wanted.spared is not None:
        return wanted.spared
    if tag in used and tag in stored.tags:
        return Outcome.NOW_IN_USE.value
    if tag not in stored.tags:
        moved = stored.trashed_tags.get(tag) == wanted.digest
        return Outcome.PRUNED.value if moved else Outcome.ALREADY_GONE.value
    if stored.tags[tag] != wanted.digest or tag in stored.trashed_tags:
        return Outcome.MOVED.value  # or it was pushed again since it went
    # A manifest that nobody can read may list anything.
    return Outcome.PRUNED.value if wanted.digest in stored.manifests else KeepReason.DANGLING.value


def _as_plan(
    stored: StoredRepository,
    planned: PlannedRepository,
    going: AbstractSet[str],
    unit: DeletionUnit | None,
    *,
    deletes_untagged: bool,
) -> RepositoryPlan:
    """Return the storage as a plan has it, where all other tags stay, and whatever lists something and has no tag."""
    verdicts = [_goes(tag, planned.tags[tag]) for tag in sorted(going)]
    verdicts += [Verdict(tag, stored.tags[tag], KeepReason.UNMATCHED) for tag in sorted(stored.tags.keys() - going)]
    digests = {planned.tags[tag].digest for tag in going}
    related = digests | descendants(digests, stored.manifests)
    strangers = (stored.revisions & stored.manifests.keys()) - related
    return RepositoryPlan(
        stored.name,
        tuple(verdicts),
        (),
        stored.manifests,
        len(verdicts),
        unit or DeletionUnit.DIGEST,
        deletes_untagged=deletes_untagged,
        needed=frozenset(digest for digest in strangers if stored.manifests[digest].children),
    )


def _goes(tag: str, wanted: PlannedTag) -> Verdict:
    return Verdict(tag, wanted.digest, None, subject=wanted.subject or referrer_subject(tag))


def _revisions(
    stored: StoredRepository, planned: PlannedRepository, closed: RepositoryPlan, unit: DeletionUnit | None
) -> set[Digest]:
    """Return the manifests that go: no more than the plan says, and nothing that what stays lists or refers to."""
    gone: set[Digest] = set()
    if unit is DeletionUnit.DIGEST:
        gone |= {group.digest for group in closed.groups}
    if unit is not None and closed.deletes_untagged:
        gone |= planned.untagged.intersection(closed.untagged)
    gone &= stored.manifests.keys()
    named = {digest for tag, digest in stored.tags.items() if tag not in closed.going_tags()}
    gone -= named
    while True:
        staying = [stored.manifests[each] for each in stored.revisions - gone if each in stored.manifests]
        listed = {child for manifest in staying for child in manifest.children}
        there = stored.revisions - gone
        referring = {each for each in gone if stored.manifests[each].subject in there}
        kept = gone & (listed | referring)
        if not kept:
            return gone
        gone -= kept


def _links(stored: StoredRepository, closed: RepositoryPlan, gone: set[Digest]) -> Iterator[Link]:
    """Yield what is still to be moved."""
    left = gone & stored.revisions
    for group in closed.groups:
        for tag in group.tags:
            if tag in stored.tags:
                yield Link(stored.name, tag, group.digest)
        # A digest may have several groups; its manifest goes after the last of them, with what is below.
    ordered = dict.fromkeys([*(group.digest for group in closed.groups), *closed.untagged])
    for digest in ordered:
        if digest in left:
            yield Link(stored.name, None, digest)
