"""How manifests hang together: what an index lists, what lists a manifest, and which goes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.reference import Digest


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
    unsorted = list(digests)
    indexes = [digest for digest in unsorted if (m := manifests.get(digest)) is not None and m.children]
    below = {digest: len(descendants([digest], manifests)) for digest in indexes}
    # A parent lists its child and all that the child lists, so it always has more below it.
    return sorted(unsorted, key=lambda digest: (-below.get(digest, 0), digest))
