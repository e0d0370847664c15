"""What is in use: what runs, or could be rolled back to, as far as it concerns one registry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import override

from registry_cleanup.domain.reference import Digest

_Key = TypeVar("_Key")
ALL_TAGS = "*"
"""Stands for every tag of a repository, where nobody can tell which one is meant; no tag is called so."""


@dataclass(frozen=True, slots=True, order=True)
class User:
    """An object of the cluster that uses an image.

    Attributes:
        kind: such as `Deployment`.
        namespace: where it is; empty for what has none.
        name: its name.
    """

    kind: str
    namespace: str
    name: str

    @override
    def __str__(self) -> str:
        """Return it as a person would name it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class UseAt:
    """What of all that is in use bears the name of one repository.

    Attributes:
        tags: that are used; all of them where `ALL_TAGS` is among them.
        digests: of manifests, which the repository is asked for, be there a tag on them or not.
        image_ids: that run under its name; one that is found neither among its manifests nor among their configs is
            an image of the repository of which nobody knows where it is.
    """

    tags: frozenset[str] = frozenset()
    digests: frozenset[Digest] = frozenset()
    image_ids: frozenset[Digest] = frozenset()

    def uses_tag(self, tag: str) -> bool:
        """Say whether `tag` is used by its name."""
        return tag in self.tags or ALL_TAGS in self.tags


@dataclass(frozen=True, slots=True)
class InUse:
    """The references that protect.

    Attributes:
        digests: of manifests, of children of indexes, and of images' configs; each protects wherever it is found.
        tags: as (repository, tag): a reference by tag protects by repository path, whatever host it names. `ALL_TAGS`
            as the tag means each one, known or not.
        image_ids: bare image IDs of running containers, which may be digests of manifests or of configs, each with the
            repositories that the pod's spec names: one that is found in none of them makes those unknown. All of them
            are among `digests`, too.
        digest_users, tag_users: who uses each, a few of them.
        repositories: the repositories by whose names each digest is used, so that no other is asked for it; one that is
            neither here nor among `image_ids` may be of any, and is asked for everywhere.
    """

    digests: frozenset[Digest] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()
    image_ids: Mapping[Digest, frozenset[str]] = field(default_factory=dict)
    digest_users: Mapping[Digest, tuple[User, ...]] = field(default_factory=dict)
    tag_users: Mapping[tuple[str, str], tuple[User, ...]] = field(default_factory=dict)
    repositories: Mapping[Digest, frozenset[str]] = field(default_factory=dict)
    # Thousands of repositories each ask for their part of thousands of references.
    _parts: Mapping[str, UseAt] = field(init=False, repr=False, compare=False)
    _anywhere: frozenset[Digest] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sort everything by repository."""
        tags: defaultdict[str, set[str]] = defaultdict(set)
        for repository, tag in self.tags:
            tags[repository].add(tag)
        digests, ids = _by_repository(self.repositories), _by_repository(self.image_ids)
        parts = {
            name: UseAt(frozenset(tags.get(name, ())), frozenset(digests.get(name, ())), frozenset(ids.get(name, ())))
            for name in tags.keys() | digests.keys() | ids.keys()
        }
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_anywhere", self.digests - self.repositories.keys() - self.image_ids.keys())

    def at(self, repository: str) -> UseAt:
        """Return what bears the name of `repository`."""
        part = self._parts.get(repository, UseAt())
        return UseAt(part.tags, (part.digests - part.image_ids) | self._anywhere, part.image_ids)

    def users_of(self, repository: str, tag: str, digests: Iterable[Digest]) -> tuple[User, ...]:
        """Return who uses a tag of `repository`, by its name or by one of the `digests` that it stands for."""
        found = {*self.tag_users.get((repository, tag), ()), *self.tag_users.get((repository, ALL_TAGS), ())}
        for digest in digests:
            found.update(self.digest_users.get(digest, ()))
        return tuple(sorted(found))


def _by_repository(names: Mapping[Digest, frozenset[str]]) -> Mapping[str, set[Digest]]:
    found: defaultdict[str, set[Digest]] = defaultdict(set)
    for digest, repositories in names.items():
        for repository in repositories:
            found[repository].add(digest)
    return found


NOTHING_IN_USE = InUse()


def together(parts: Sequence[InUse]) -> InUse:
    """Return what protects whatever any of `parts` protects."""
    return InUse(
        frozenset().union(*(part.digests for part in parts)),
        frozenset().union(*(part.tags for part in parts)),
        _merged(part.image_ids for part in parts),
        _joined(part.digest_users for part in parts),
        _joined(part.tag_users for part in parts),
        _merged(part.repositories for part in parts),
    )


def _merged(parts: Iterable[Mapping[Digest, frozenset[str]]]) -> dict[Digest, frozenset[str]]:
    found: dict[Digest, frozenset[str]] = {}
    for part in parts:
        for digest, names in part.items():
            found[digest] = found.get(digest, frozenset()) | names
    return found


def _joined(parts: Iterable[Mapping[_Key, tuple[User, ...]]]) -> dict[_Key, tuple[User, ...]]:
    found: dict[_Key, tuple[User, ...]] = {}
    for part in parts:
        for key, users in part.items():
            found[key] = (*found.get(key, ()), *users)
    return found
