"""The plan: every verdict of a run before any effect, and the hash that names it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit, close, descendants
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.rules import judge
from registry_cleanup.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class DigestGroup:
    """The tags on one digest that go together.

    Attributes:
        digest: what they name.
        tags: sorted; where only digests can be deleted, all tags on it.
    """

    digest: Digest
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepositoryPlan:
    """What becomes of one repository.

    Attributes:
        repository: its name.
        verdicts: one for each tag that the registry listed.
        groups: what goes, indexes before what they list, so that nothing pullable ever lacks a part.
        manifests: the facts that it was planned from, by digest.
    """

    repository: str
    verdicts: tuple[Verdict, ...]
    groups: tuple[DigestGroup, ...]
    manifests: Mapping[Digest, Manifest]

    @property
    def planned(self) -> int:
        """The number of tags that go."""
        return sum(len(group.tags) for group in self.groups)

    def only_going(self) -> RepositoryPlan:
        """Return the part of the plan that pruning needs: what stands on digests that go, and the indexes."""
        going = {group.digest for group in self.groups}
        return replace(
            self,
            verdicts=tuple(verdict for verdict in self.verdicts if verdict.digest in going),
            manifests={digest: m for digest, m in self.manifests.items() if m.format is Format.INDEX},
        )

    def kept_by_reason(self) -> Counter[str]:
        """Return how many tags stay, by reason."""
        return Counter(verdict.kept.value for verdict in self.verdicts if verdict.kept is not None)


def plan_repository(policy: Policy, inventory: Inventory, unit: DeletionUnit, now: datetime) -> RepositoryPlan:
    """Decide what becomes of each tag of one repository.

    Args:
        policy: whose rules.
        inventory: the whole repository, with what `rules.needs` asked for.
        unit: what the registry can delete.
        now: the instant of the decision, aware.
    """
    verdicts = close(judge(policy, inventory, now), inventory, unit, policy.minimum_tags)
    return RepositoryPlan(
        inventory.repository,
        tuple(verdicts[tag] for tag in sorted(verdicts)),
        _groups(verdicts.values(), inventory.manifests),
        inventory.manifests,
    )


def plan_hash(policy: Policy, plans: Iterable[RepositoryPlan]) -> str:
    """Return the name of a plan: SHA-256 over policy UID, registry and the sorted (repository, tag, digest)."""
    digest = hashlib.sha256()
    digest.update(f"{policy.uid}\n{policy.registry}\n".encode())
    for plan in sorted(plans, key=lambda plan: plan.repository):
        for tag, address in sorted((tag, group.digest) for group in plan.groups for tag in group.tags):
            digest.update(f"{plan.repository}\t{tag}\t{address}\n".encode())
    return digest.hexdigest()


def _groups(verdicts: Iterable[Verdict], manifests: Mapping[Digest, Manifest]) -> tuple[DigestGroup, ...]:
    going: dict[Digest, list[str]] = {}
    for verdict in verdicts:
        if verdict.kept is None and verdict.digest is not None:
            going.setdefault(verdict.digest, []).append(verdict.tag)
    ordered = _parents_first(going, manifests)
    return tuple(DigestGroup(digest, tuple(sorted(going[digest]))) for digest in ordered)


def _parents_first(digests: Iterable[Digest], manifests: Mapping[Digest, Manifest]) -> list[Digest]:
    """Sort by depth: what lists others goes before what it lists."""
    indexes = [digest for digest in digests if (m := manifests.get(digest)) is not None and m.children]
    below = {digest: len(descendants([digest], manifests)) for digest in indexes}
    # A parent lists its child and all that the child lists, so it always has more below it.
    return sorted(digests, key=lambda digest: (-below.get(digest, 0), digest))
