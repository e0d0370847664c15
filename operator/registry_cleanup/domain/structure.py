"""How things hang together: tags on a digest, what an index lists, what lists a manifest, and which goes first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.reference import Digest


class TagsOnDigests:
    """The tags that stand on each of many digests, in the order in which they come; on most digests it is one."""

    __slots__ = ("_first", "_others")

    def __init__(self) -> None:
        # A list for each of 100,000 digests would take its time and its memory.
        self._first: dict[Digest, str] = {}
        self._others: dict[Digest, list[str]] = {}

    @property
    def digests(self) -> Collection[Digest]:
        """Those on which a tag stands."""
        return self._first.keys()

    def add(self, digest: Digest, tag: str) -> None:
        """Note that `tag` stands on `digest`."""
        if self._first.setdefault(digest, tag) is not tag:
            self._others.setdefault(digest, []).append(tag)

    def on(self, digest: Digest) -> tuple[str, ...]:
        """Return the tags on `digest`."""
        first = self._first.get(digest)
        return (first, *self._others.get(digest, ())) if first is not None else ()

    def take(self, digest: Digest) -> tuple[str, ...]:
        """Return the tags on `digest`, and forget them."""
        found = self.on(digest)
        if found:
            del self._first[digest]
            self._others.pop(digest, None)
        return found


def indexes(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> list[Digest]:
    """Return those of the given manifests that list others."""
    return [digest for digest in digests if (m := manifests.get(digest)) is not None and m.children]


def descendants(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> set[Digest]:
    """Return all that the given manifests list, nested too, without those given (unless listed)."""
    found: set[Digest] = set()
    # Most manifests are images, which list nothing.
    pending = indexes(digests, manifests)
    while pending:
        manifest = manifests.get(pending.pop())
        for child in manifest.children if manifest is not None else ():
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def ancestors(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> set[Digest]:
    """Return all known indexes that list any of the given manifests, nested too."""
    pending = list(digests)
    if not pending:
        return set()
    parents: dict[Digest, list[Digest]] = {}
    for manifest in manifests.values():
        for child in manifest.children:
            parents.setdefault(child, []).append(manifest.digest)
    found: set[Digest] = set()
    while pending:
        for parent in parents.get(pending.pop(), ()):
            if parent not in found:
                found.add(parent)
                pending.append(parent)
    return found


def parents_first(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> list[Digest]:
    """Sort by depth: what lists others goes before what it lists, so that nothing pullable ever lacks a part."""
    below: dict[Digest, int] = {}
    others: list[Digest] = []
    for digest in digests:
        manifest = manifests.get(digest)
        if manifest is not None and manifest.children:
            below[digest] = len(descendants([digest], manifests))
        else:
            others.append(digest)
    # A parent lists its child and all that the child lists, so it always has more below it.
    return sorted(below, key=lambda digest: (-below[digest], digest)) + sorted(others)


def young_by_a_platform(
    platforms: Mapping[Digest, Collection[Digest]], date_of: Callable[[Digest], datetime | None], after: datetime
) -> dict[Digest, datetime]:
    """Return the indexes of which a platform was created at `after` or later, with the newest date that shows it.

    One that is found young may show the same of what lists it, in whichever order they come.

    Args:
        platforms: what each index lists.
        date_of: tells the dates that are known of platforms.
        after: since when whatever was created is young.
    """
    young: dict[Digest, datetime] = {}
    while found := {
        index: newest
        for index, listed in platforms.items()
        if index not in young
        and (newest := max(filter(None, (young.get(d) or date_of(d) for d in listed)), default=None)) is not None
        and newest >= after
    }:
        young |= found
    return young
