"""Two policies that select the same repository of the same registry: who prunes there, and what both keep."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from registry_cleanup.domain.policy import Policy, RepositorySelector, TagPattern
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Conflict


@dataclass(frozen=True, slots=True)
class Rival:
    """Another live policy (neither suspended nor a dry run) at the same registry, whatever name it uses for it.

    Attributes:
        namespace, name, uid: of its resource.
        older: whether it came before this policy.
        repositories: that it selects.
        keep_tags: that it never prunes.
    """

    namespace: str
    name: str
    uid: str
    older: bool
    repositories: RepositorySelector
    keep_tags: tuple[TagPattern, ...]


def yields(rivals: Iterable[Rival], repository: str) -> bool:
    """Say whether an older policy prunes `repository`, so that this one keeps everything there."""
    return any(rival.older and rival.repositories.selects(repository) for rival in rivals)


def with_rivals(policy: Policy, rivals: Iterable[Rival], repository: str) -> Policy:
    """Return the policy as it holds in `repository`: the `keepTags` of every policy there hold."""
    more = [pattern for rival in rivals if rival.repositories.selects(repository) for pattern in rival.keep_tags]
    return replace(policy, keep_tags=(*policy.keep_tags, *more)) if more else policy


def conflicts(rivals: Iterable[Rival], selected: Sequence[str]) -> tuple[Conflict, ...]:
    """Return the conflicts of a policy that selects the repositories `selected`."""
    found = []
    for rival in rivals:
        shared = tuple(sorted(filter(rival.repositories.selects, selected)))
        if shared:
            found.append(Conflict(rival.namespace, rival.name, rival.uid, rival.older, shared))
    return tuple(sorted(found, key=lambda conflict: (conflict.namespace, conflict.name)))


def mirrored(conflict: Conflict, namespace: str, name: str, uid: str) -> Conflict:
    """Return a conflict as the other policy sees it: with the policy that found it, `namespace`/`name`."""
    return Conflict(namespace, name, uid, not conflict.yields, conflict.repositories)


def seniority(created: datetime, namespace: str, name: str) -> tuple[datetime, str, str]:
    """Return what orders policies by age, the oldest first; those of one second by namespace and name."""
    return created, namespace, name


class Likeness(Enum):
    """Whether two registries that go by different names hold the same, as far as anybody looked."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def telling(names: Iterable[str], number: int) -> frozenset[str]:
    """Return a few of `names`, the same ones wherever the names are the same."""
    return frozenset(heapq.nsmallest(number, names, key=lambda name: hashlib.sha256(name.encode()).digest()))


def likeness(before: Mapping[str, Digest], theirs: Mapping[str, Digest], after: Mapping[str, Digest]) -> Likeness:
    """Compare what a few tags of one repository name in two registries.

    Args:
        before: in ours, before theirs was looked at.
        theirs: in theirs.
        after: in ours, after that; where ours changed in between, a difference tells nothing.
    """
    if theirs and theirs in (before, after):
        return Likeness.SAME
    return Likeness.DIFFERENT if before == after and theirs != before else Likeness.UNKNOWN


def overall(found: Collection[Likeness]) -> Likeness:
    """Return what several repositories tell together: one that differs is enough."""
    for word in (Likeness.DIFFERENT, Likeness.SAME):
        if word in found:
            return word
    return Likeness.UNKNOWN
