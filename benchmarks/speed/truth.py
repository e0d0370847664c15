"""What was written into a registry, so that what a client says of it can be checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
"""The present, as far as the rules of a benchmark know: registries that are kept for the next time do not grow old."""

SPREAD = timedelta(days=100)
"""Creation dates are spread evenly over so long before `NOW`."""

Going = tuple[str, str, str]
"""Repository, tag and digest of a tag that is to go."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One manifest.

    Attributes:
        created: of an image, when it was made, in seconds since 1970; 0 of an index, which does not say it itself.
        config: of an image, the digest of its config.
        children: of an index, the digests that it lists.
    """

    created: int
    config: str | None
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryTruth:
    """One repository.

    Attributes:
        name: within its registry.
        tags: the digest of each tag, the oldest first.
        facts: of every manifest, by digest.
    """

    name: str
    tags: Mapping[str, str]
    facts: Mapping[str, Fact]

    def created(self, digest: str) -> datetime:
        """Return when an image was made; of an index, the newest date of its platforms."""
        fact = self.facts[digest]
        parts = [self.facts[child].created for child in fact.children] or [fact.created]
        return datetime.fromtimestamp(max(parts), UTC)

    def older_than(self, age: timedelta) -> Iterator[tuple[str, str]]:
        """Yield the tags, with their digests, of what was made longer than `age` before `NOW`."""
        old = {digest for digest in set(self.tags.values()) if NOW - self.created(digest) > age}
        return ((tag, digest) for tag, digest in self.tags.items() if digest in old)


@dataclass(frozen=True, slots=True)
class Truth:
    """A whole registry."""

    repositories: Sequence[RepositoryTruth]

    @property
    def size(self) -> int:
        """The number of tags."""
        return sum(len(repository.tags) for repository in self.repositories)

    def older_than(self, age: timedelta) -> set[Going]:
        """Return what a rule by age lets go."""
        return {(one.name, tag, digest) for one in self.repositories for tag, digest in one.older_than(age)}

    def dates(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return digest and date (RFC 3339, in whole seconds) by repository and tag."""
        return {
            (one.name, tag): (digest, one.created(digest).strftime("%Y-%m-%dT%H:%M:%SZ"))
            for one in self.repositories
            for tag, digest in one.tags.items()
        }

    def save(self, file: Path) -> None:
        """Write it down, a line for each repository."""
        with file.open("w", encoding="utf-8") as output:
            for one in self.repositories:
                facts = {digest: [fact.created, fact.config, fact.children] for digest, fact in one.facts.items()}
                output.write(json.dumps({"name": one.name, "tags": dict(one.tags), "facts": facts}) + "\n")


def load(file: Path) -> Truth:
    """Read what `Truth.save` wrote."""
    with file.open(encoding="utf-8") as lines:
        return Truth([_repository(json.loads(line)) for line in lines])


def _repository(line: dict[str, Any]) -> RepositoryTruth:
    facts = {
        digest: Fact(created, config, tuple(children)) for digest, (created, config, children) in line["facts"].items()
    }
    return RepositoryTruth(line["name"], line["tags"], facts)
