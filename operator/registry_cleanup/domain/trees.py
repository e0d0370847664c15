"""What hangs on tags: what an index lists, and what refers to a manifest, by the registry's word or by a tag's name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.listing import Child, ListedRepository, ListedTag
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key


class Relation(StrEnum):
    """How a manifest of a tree hangs on the one above it."""

    NAMED = "Named"  # on none: a tag names it
    LISTED = "Listed"  # an index lists it
    REFERS = "Refers"  # it refers to the one above, which is its subject


@dataclass(frozen=True, slots=True)
class Node:
    """A manifest of a tree.

    Attributes:
        digest: of the manifest.
        relation: to the one above.
        tags: that name it.
        child: as the index above lists it; None elsewhere.
        below: first what it lists, then what refers to it; empty where the same tree has shown that before.
    """

    digest: Digest
    relation: Relation
    tags: tuple[str, ...] = ()
    child: Child | None = None
    below: tuple[Node, ...] = ()


class Trees:
    """The trees of one repository."""

    def __init__(self, repository: ListedRepository) -> None:
        self._repository = repository
        self._manifests = repository.manifests
        # What refers to each subject, with the tags by which it does so, if any.
        self._referrers: dict[str, dict[Digest, list[str]]] = {}
        for tag in repository.tags:
            if tag.digest is not None and (subject := self._subject(tag)) is not None:
                self._refers(subject, tag.digest).append(tag.name)
        for asked, digests in repository.referrers.items():
            for digest in digests:
                self._refers(subject_key(asked), digest)
        for manifest in self._manifests.values():
            if manifest.subject is not None:
                self._refers(subject_key(manifest.subject), manifest.digest)
        for refers in self._referrers.values():
            self._take_out_listed(refers)

    def _refers(self, subject: str, digest: Digest) -> list[str]:
        return self._referrers.setdefault(subject, {}).setdefault(digest, [])

    def _take_out_listed(self, refers: dict[Digest, list[str]]) -> None:
        """Leave out what the tag schema's own index lists, which stands below that."""
        indexes = [manifest for each in refers if (manifest := self._manifests.get(each)) is not None]
        for child in [child.digest for manifest in indexes for child in manifest.children]:
            if refers.get(child) == []:
                del refers[child]

    def _subject(self, tag: ListedTag) -> str | None:
        manifest = self._manifests.get(tag.digest) if tag.digest is not None else None
        own = manifest.subject if manifest is not None else None
        return referrer_subject(tag.name) or (subject_key(own) if own is not None else None)

    def referrer_count(self, digest: Digest | None) -> int:
        """Return how many manifests refer to this one; an index of the tag schema stands for those that it lists."""
        if digest is None:
            return 0
        refers = self._referrers.get(subject_key(digest), {})
        return sum(self._stands_for(each, tags) for each, tags in refers.items())

    def _stands_for(self, digest: Digest, tags: Collection[str]) -> int:
        manifest = self._manifests.get(digest)
        by_schema = any("." not in tag and referrer_subject(tag) for tag in tags)
        return len(manifest.children) if by_schema and manifest is not None and manifest.format is Format.INDEX else 1

    def of_tags(self, tags: Iterable[ListedTag]) -> list[Node]:
        """Return what hangs on `tags`, one tree for each digest, in their order.

        What refers to something that is here stands below that alone.
        """
        named: dict[Digest, list[str]] = {}
        here = {subject_key(digest) for digest in self._manifests}
        for tag in tags:
            if tag.digest is not None and self._subject(tag) not in here:
                named.setdefault(tag.digest, []).append(tag.name)
        return [self._node(digest, Relation.NAMED, set(), names) for digest, names in named.items()]

    def of_tag(self, tag: ListedTag) -> Node | None:
        """Return what hangs on one tag."""
        return None if tag.digest is None else self._node(tag.digest, Relation.NAMED, set(), [tag.name])

    def _node(
        self,
        digest: Digest,
        relation: Relation,
        shown: set[Digest],
        tags: Collection[str] = (),
        child: Child | None = None,
    ) -> Node:
        below: list[Node] = []
        manifest = self._manifests.get(digest)
        # Whoever builds indexes that list each other many times over must not keep us busy for ever.
        if manifest is not None and digest not in shown:
            shown.add(digest)
            below += [self._node(each.digest, Relation.LISTED, shown, (), each) for each in manifest.children]
            refers = self._referrers.get(subject_key(digest), {}).items()
            below += [self._node(each, Relation.REFERS, shown, names) for each, names in refers]
        return Node(digest, relation, tuple(tags), child, tuple(below))
