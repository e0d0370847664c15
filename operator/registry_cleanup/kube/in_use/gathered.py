"""What was found to be in use: image strings and a few of their users, and the references that they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from registry_cleanup.domain.image_reference import UnparsableImageError, image_id, parse_image, protects, repositories
from registry_cleanup.domain.in_use import InUse, User
from registry_cleanup.domain.reference import Digest
from registry_cleanup.kube.in_use.uses import Use

# So many users of an image are told.
_USERS = 3
_UNPARSABLE_TOLD = 3


@dataclass(slots=True)
class Gathered:
    """Image strings of a cluster.

    Attributes:
        users: who uses each, a few of them.
        beside: of bare image IDs, the images of the specs of their pods.
        news: grows with all that changes what is in use.
    """

    users: dict[str, list[User]] = field(default_factory=dict)
    beside: dict[str, set[str]] = field(default_factory=dict)
    news: int = 0

    def __len__(self) -> int:
        """Return the number of distinct references."""
        return len(self.users)

    def add(self, use: Use, user: User) -> None:
        """Take note of an image and one who uses it."""
        users = self.users.get(use.text)
        if users is None:
            users = self.users[use.text] = []
            self.news += 1
        if len(users) < _USERS and user not in users:
            users.append(user)
        if use.beside and image_id(use.text) is not None:
            beside = self.beside.setdefault(use.text, set())
            if not use.beside <= beside:
                beside |= use.beside
                self.news += 1

    def merge(self, others: Mapping[Use, Sequence[User]]) -> None:
        """Take note of many."""
        for use, users in others.items():
            for user in users:
                self.add(use, user)

    def in_use(self, aliases: Sequence[str]) -> tuple[InUse, tuple[str, ...]]:
        """Return what all of them protect, and what a person should know of those that are no image.

        Args:
            aliases: path prefixes under which other registries serve the repositories.
        """
        protected = _Protected()
        odd: list[str] = []
        for text, users in self.users.items():
            digest = image_id(text)
            if digest is not None:
                protected.image(digest, _repositories(self.beside.get(text, ()), aliases), users)
                continue
            try:
                reference = parse_image(text)
            except UnparsableImageError as error:
                odd.append(f"{users[0]} names {text[:100]!r}, which is no image")
                if error.guess is None:
                    continue
                reference = error.guess
            if reference.digest is not None:
                protected.digest(reference.digest, repositories(reference, aliases), users)
            for pair in protects(reference, aliases):
                protected.tag(pair, users)
        more = [f"and {len(odd) - _UNPARSABLE_TOLD} more"] if len(odd) > _UNPARSABLE_TOLD else []
        return protected.result(), (*odd[:_UNPARSABLE_TOLD], *more)


@dataclass(slots=True)
class _Protected:
    """The references so far."""

    tags: dict[tuple[str, str], list[User]] = field(default_factory=dict)
    digests: dict[Digest, list[User]] = field(default_factory=dict)
    repositories: dict[Digest, set[str]] = field(default_factory=dict)
    image_ids: dict[Digest, set[str]] = field(default_factory=dict)

    def tag(self, pair: tuple[str, str], users: Sequence[User]) -> None:
        self.tags.setdefault(pair, []).extend(users)

    def digest(self, digest: Digest, names: Iterable[str], users: Sequence[User]) -> None:
        self.digests.setdefault(digest, []).extend(users)
        self.repositories.setdefault(digest, set()).update(names)

    def image(self, digest: Digest, names: Iterable[str], users: Sequence[User]) -> None:
        self.digests.setdefault(digest, []).extend(users)
        self.image_ids.setdefault(digest, set()).update(names)

    def result(self) -> InUse:
        return InUse(
            frozenset(self.digests),
            frozenset(self.tags),
            {digest: frozenset(names) for digest, names in self.image_ids.items()},
            {digest: _few(users) for digest, users in self.digests.items()},
            {pair: _few(users) for pair, users in self.tags.items()},
            {digest: frozenset(names) for digest, names in self.repositories.items()},
        )


def _few(users: Sequence[User]) -> tuple[User, ...]:
    return tuple(dict.fromkeys(users))[:_USERS]


def _repositories(texts: Iterable[str], aliases: Sequence[str]) -> set[str]:
    """Return the repositories that the images of a pod's spec may mean."""
    found: set[str] = set()
    for text in texts:
        try:
            reference = parse_image(text)
        except UnparsableImageError as error:
            if error.guess is None:
                continue
            reference = error.guess
        found |= repositories(reference, aliases)
    return found
