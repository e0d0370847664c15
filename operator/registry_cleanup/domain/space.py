"""How much space a plan would free: an estimate from the manifests that were read anyway."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.plan import RepositoryPlan


@dataclass(slots=True)
class SpaceEstimate:
    """The distinct blobs that nothing kept refers to, over all repositories that were added.

    An estimate: layers of manifests that nobody read are not known, neither to go nor to stay, and the space comes back
    only with the registry's garbage collection.
    """

    _going: dict[int, int] = field(default_factory=dict)
    _kept: set[int] = field(default_factory=set)

    def add(self, plan: RepositoryPlan) -> None:
        """Count the blobs of one repository."""
        gone = set(plan.untagged)
        if plan.unit is DeletionUnit.DIGEST:
            gone.update(group.digest for group in plan.groups)
        for digest, manifest in plan.manifests.items():
            # Blobs are told apart by 8 bytes of their digest: a few bytes for each, instead of some hundred.
            blobs = ((int(blob.digest.rpartition(":")[2][:16], 16), blob.size) for blob in manifest.blobs)
            if digest in gone:
                self._going.update(blobs)
            else:
                self._kept.update(number for number, _ in blobs)

    @property
    def size(self) -> int:
        """Bytes of blobs that go, and that nothing kept refers to."""
        return sum(size for number, size in self._going.items() if number not in self._kept)
