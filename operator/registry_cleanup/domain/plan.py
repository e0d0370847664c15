"""The plan: every verdict of a run before any effect, and the hash that names it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit, close, follow
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.policy import Policy, Untagged
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.domain.rules import judge
from registry_cleanup.domain.structure import TagsOnDigests, descendants, parents_first
from registry_cleanup.domain.usage import unfound_images, used_digests
from registry_cleanup.domain.verdict import KeepReason, Verdict


@dataclass(frozen=True, slots=True)
class DigestGroup:
    """The tags on one digest that go together.

    Attributes:
        digest: what they name.
        tags: sorted; where only digests can be deleted, all tags on it.
        after: of referrers, the subjects (`reference.subject_key`) that must be verified gone before.
    """

    digest: Digest
    tags: tuple[str, ...]
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RepositoryPlan:
    """What becomes of one repository.

    Attributes:
        repository: its name.
        verdicts: one for each tag that the registry listed.
        groups: what goes, indexes before what they list and subjects before their referrers, so that nothing pullable
            ever lacks a part.
        manifests: the facts that it was planned from, by digest.
        size: the number of tags that the registry listed.
        unit: what is deleted.
        untagged: manifests that are left without a name, indexes before what they list; where not all tags were
            resolved, some of them may have one.
        deletes_untagged: whether those are deleted too.
        needed: manifests that must stay although no verdict here says so.
        named_only: as in `Inventory`.
        history: as in `Inventory`.
    """

    repository: str
    verdicts: tuple[Verdict, ...]
    groups: tuple[DigestGroup, ...]
    manifests: Mapping[Digest, Manifest]
    size: int = 0
    unit: DeletionUnit = DeletionUnit.DIGEST
    untagged: tuple[Digest, ...] = ()
    deletes_untagged: bool = False
    needed: frozenset[Digest] = field(default=frozenset())
    named_only: bool = False
    history: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)

    @property
    def planned(self) -> int:
        """The number of tags that go."""
        return sum(len(group.tags) for group in self.groups)

    def going_tags(self) -> set[str]:
        """Return the tags that go."""
        return {tag for group in self.groups for tag in group.tags}

    def only_going(self) -> RepositoryPlan:
        """Return the part of the plan that pruning needs: what stands on digests that go, and the indexes."""
        going = {group.digest for group in self.groups}
        stays = {v.digest for v in self.verdicts if not v.goes and v.digest is not None} | self.needed
        relevant = going | descendants(going, self.manifests)
        verdicts = tuple(verdict for verdict in self.verdicts if verdict.digest in going)
        history = {v.tag: self.history[v.tag] for v in verdicts if v.tag in self.history}
        before = {digest for digests in history.values() for digest in digests}
        told = relevant | before | descendants(before, self.manifests)
        # What refers to a manifest without a name is found only as that goes, and may be in use, too.
        used = self.needed & self.manifests.keys()
        relevant = relevant | used | descendants(used, self.manifests)
        return replace(
            self,
            verdicts=verdicts,
            history=history,
            manifests={
                digest: replace(m, blobs=()) if m.blobs else m
                for digest, m in self.manifests.items()
                # Of images the config tells whether a pod that appeared since runs them.
                if m.format is Format.INDEX or (digest in told and m.config is not None)
            },
            needed=frozenset((stays | descendants(stays, self.manifests)) & relevant),
        )

    def hold(self, held: Mapping[str, KeepReason]) -> RepositoryPlan:
        """Return the plan without the tags `held`, each kept for its reason, and without what has to stay with them."""
        return self.closed(held) if held else self

    def closed(self, held: Mapping[str, KeepReason]) -> RepositoryPlan:
        """Return what `hold` does, closed also where nothing is held: for verdicts that were not made by a plan."""
        verdicts = {verdict.tag: verdict for verdict in self.verdicts}
        for tag, verdict in verdicts.items():
            if verdict.kept is None and tag in held:
                verdicts[tag] = verdict.staying(held[tag])
            elif verdict.kept is None and verdict.subject is not None:
                verdicts[tag] = verdict.staying(KeepReason.FOLLOWS_PARENT)
        closed = close(verdicts, self.manifests, self.unit, 0, self.needed)
        return _complete(self, closed)

    def kept_by_reason(self) -> Counter[str]:
        """Return how many tags stay, by reason."""
        return Counter(verdict.kept.value for verdict in self.verdicts if verdict.kept is not None)


def plan_repository(
    policy: Policy,
    inventory: Inventory,
    unit: DeletionUnit,
    now: datetime,
    in_use: InUse = NOTHING_IN_USE,
) -> RepositoryPlan:
    """Decide what becomes of each tag of one repository.

    Args:
        policy: whose rules.
        inventory: the whole repository, with what `rules.needs` asked for.
        unit: what the registry can delete.
        now: the instant of the decision, aware.
        in_use: what runs, or could be rolled back to.
    """
    used = used_digests(inventory, in_use)
    judged = judge(policy, inventory, now, in_use)
    verdicts = close(judged, inventory.manifests, unit, policy.minimum_tags, used)
    plan = RepositoryPlan(
        inventory.repository,
        (),
        (),
        inventory.manifests,
        inventory.size,
        unit,
        deletes_untagged=policy.untagged is Untagged.DELETE and not inventory.named_only,
        needed=frozenset(used),
        named_only=inventory.named_only,
        history=inventory.history,
    )
    planned = _complete(plan, verdicts)
    unfound = unfound_images(inventory, in_use) if planned.groups else frozenset()
    if not unfound:
        return planned
    users = in_use.users_of(inventory.repository, "", unfound)
    whole = planned.hold(dict.fromkeys(planned.going_tags(), KeepReason.IN_USE_UNKNOWN))
    return replace(
        whole,
        verdicts=tuple(
            verdict._replace(users=users) if verdict.kept is KeepReason.IN_USE_UNKNOWN else verdict
            for verdict in whole.verdicts
        ),
    )


def conflicting(inventory: Inventory) -> RepositoryPlan:
    """Return the plan of a repository that an older policy prunes: everything stays."""
    tags = sorted((*inventory.tags, *inventory.unresolved, *inventory.dangling))
    verdicts = tuple(Verdict(tag, inventory.tags.get(tag), KeepReason.POLICY_CONFLICT) for tag in tags)
    return RepositoryPlan(inventory.repository, verdicts, (), {}, inventory.size)


def plan_hash(policy: Policy, plans: Iterable[RepositoryPlan]) -> str:
    """Return the name of a plan: SHA-256 over policy UID, registry and the sorted (repository, tag, digest)."""
    digest = hashlib.sha256()
    digest.update(f"{policy.uid}\n{policy.registry}\n".encode())
    for plan in sorted(plans, key=lambda plan: plan.repository):
        for tag, address in sorted((tag, group.digest) for group in plan.groups for tag in group.tags):
            digest.update(f"{plan.repository}\t{tag}\t{address}\n".encode())
    return digest.hexdigest()


def _complete(plan: RepositoryPlan, closed: Mapping[str, Verdict]) -> RepositoryPlan:
    """Return `plan` with these verdicts, what follows from them, and the groups in their order."""
    verdicts, nameless = follow(
        closed,
        plan.manifests,
        plan.unit,
        plan.needed,
        plan.history,
        named_only=plan.named_only,
        deletes_untagged=plan.deletes_untagged,
    )
    # A tag that stays stands for all that it named before, too.
    history = (d for tag, ds in plan.history.items() if tag in verdicts and not verdicts[tag].goes for d in ds)
    by_tag = tuple(map(verdicts.__getitem__, sorted(verdicts)))
    return replace(
        plan,
        needed=plan.needed.union(history),
        verdicts=by_tag,
        groups=_groups(by_tag, plan),
        untagged=tuple(parents_first(nameless, plan.manifests)),
    )


def _groups(verdicts: Iterable[Verdict], plan: RepositoryPlan) -> tuple[DigestGroup, ...]:
    """Return what goes, in the order in which it may; `verdicts` are sorted by tag."""
    going = TagsOnDigests()
    subjects: dict[Digest, dict[str, str]] = {}
    for verdict in verdicts:
        if verdict.kept is None and verdict.digest is not None:
            going.add(verdict.digest, verdict.tag)
            if verdict.subject is not None:
                subjects.setdefault(verdict.digest, {})[verdict.tag] = verdict.subject
    groups: list[DigestGroup] = []
    for digest in parents_first(going.digests, plan.manifests):
        if digest not in subjects:
            groups.append(DigestGroup(digest, going.on(digest)))
        elif plan.unit is DeletionUnit.DIGEST:
            groups.append(DigestGroup(digest, going.on(digest), frozenset(subjects[digest].values())))
        else:
            groups.extend(_by_subject(digest, going.on(digest), subjects[digest]))
    return tuple(_subjects_first(groups, plan))


def _by_subject(digest: Digest, tags: Iterable[str], subjects: Mapping[str, str]) -> Iterable[DigestGroup]:
    """Yield the tags on one digest, each of which can go alone, apart by what each has to wait for."""
    waiting: dict[frozenset[str], list[str]] = {}
    for tag in tags:
        after = frozenset({subjects[tag]}) if tag in subjects else frozenset[str]()
        waiting.setdefault(after, []).append(tag)
    for after in sorted(waiting, key=sorted):
        yield DigestGroup(digest, tuple(waiting[after]), after)


def _subjects_first(groups: list[DigestGroup], plan: RepositoryPlan) -> list[DigestGroup]:
    """Move referrers behind what they refer to, as often as they refer to each other."""
    ordered = [group for group in groups if not group.after]
    waiting = [group for group in groups if group.after]
    while waiting:
        digests = [group.digest for group in waiting]
        unfinished = {subject_key(digest) for digest in (*digests, *descendants(digests, plan.manifests))}
        later = [group.digest for group in waiting if group.after & unfinished]
        # An index that has to wait keeps what it lists waiting.
        blocked = descendants(later, plan.manifests).union(later)
        ready = [group for group in waiting if group.digest not in blocked]
        if not ready:
            return ordered + waiting
        ordered += ready
        waiting = [group for group in waiting if group.digest in blocked]
    return ordered
