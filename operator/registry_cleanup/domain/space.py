"""How much space a plan would free: an estimate from the manifests that were read anyway."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest, short_number

# What a registry says of a blob's size may be any number; no blob is larger than this.
_LARGEST = 2**63
# Blobs of a registry are compared in so many parts, one after the other.
_PARTS = 64


@dataclass(slots=True)
class _Part:
    """Some of the blobs, by 8 bytes of their digests: a few bytes for each, instead of some hundred.

    Attributes:
        going: that manifests which go refer to.
        sizes: of these, in bytes.
        kept: that other manifests refer to.
    """

    going: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    kept: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def freed(self) -> int:
        going = dict(zip(self.going, self.sizes, strict=True))
        for number in self.kept:
            going.pop(number, None)
        return sum(going.values())


@dataclass(slots=True)
class SpaceEstimate:
    """The distinct blobs that nothing kept refers to, over all repositories that were added.

    An estimate: layers of manifests that nobody read are not known, neither to go nor to stay, and the space comes back
    only with the registry's garbage collection.
    """

    _parts: list[_Part] = field(default_factory=lambda: [_Part() for _ in range(_PARTS)])

    def add(self, plan: RepositoryPlan) -> None:
        """Count the blobs of one repository."""
        gone = set(plan.untagged)
        if plan.unit is DeletionUnit.DIGEST:
            gone.update(group.digest for group in plan.groups)
        going: dict[Digest, int] = {}
        kept: set[Digest] = set()
        for digest, manifest in plan.manifests.items():
            if digest in gone:
                going.update(manifest.blobs)
            else:
                kept.update([blob.digest for blob in manifest.blobs])
        for blob in kept:
            number = short_number(blob)
            self._parts[number % _PARTS].kept.append(number)
        for blob, size in going.items():
            if blob not in kept:
                number = short_number(blob)
                part = self._parts[number % _PARTS]
                part.going.append(number)
                part.sizes.append(min(size, _LARGEST))

    @property
    def size(self) -> int:
        """Bytes of blobs that go, and that nothing kept refers to."""
        return sum(part.freed for part in self._parts)
