"""What people see of a registry: tags and what they name, how much that takes, and how it is sorted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from registry_cleanup.domain.inventory import Blob, Format
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.rules import plausible
from registry_cleanup.domain.run import Failure


class Sort(StrEnum):
    """What stands first."""

    NAME = "name"
    DATE = "date"  # the newest
    SIZE = "size"  # the largest


class Child(NamedTuple):
    """What an index lists.

    Attributes:
        digest: of the manifest.
        platform: as the index names it, such as `linux/arm64/v8`; None where it names none.
        image: whether it is an image for a platform, and no attestation.
    """

    digest: Digest
    platform: str | None
    image: bool = True


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """What people want to know of one manifest.

    Attributes:
        digest: its content address.
        format: image, index, or something that we do not understand.
        media_type: of the manifest; empty where nobody says.
        artifact_type: of an artifact, such as a signature; empty for images.
        created: when the image was built, aware; None where nobody says.
        platform: of an image, as its config names it, such as `linux/amd64`.
        blobs: of an image, its config and layers; None where nobody says.
        children: of an index, in its order.
        subject: the manifest that this one refers to, if any.
    """

    digest: Digest
    format: Format
    media_type: str = ""
    artifact_type: str = ""
    created: datetime | None = None
    platform: str | None = None
    blobs: tuple[Blob, ...] | None = ()
    children: tuple[Child, ...] = ()
    subject: Digest | None = None


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag.

    Attributes:
        name: of the tag.
        digest: that it names; None where it was not read, or names nothing.
        pushed: when it came to name that, where the registry records it.
        dangling: whether it is listed, and names nothing.
    """

    name: str
    digest: Digest | None = None
    pushed: datetime | None = None
    dangling: bool = False


@dataclass(frozen=True)
class ListedRepository:
    """What was read of one repository; other than an inventory it may lack something, and then says so.

    Attributes:
        name: of the repository.
        tags: all that are listed, in the order of their names.
        manifests: that were read, by digest.
        referrers: of each subject, as the registry's own API tells.
        missing: what an index lists, or a subject has, and the repository does not hold.
        details: whether manifests were read, and not only the names of tags.
        failure: why something was not read; None where everything was.
        notes: what nobody could tell, for people.
    """

    name: str
    tags: tuple[ListedTag, ...] = ()
    manifests: Mapping[Digest, ListedManifest] = field(default_factory=dict)
    referrers: Mapping[Digest, Collection[Digest]] = field(default_factory=dict)
    missing: frozenset[Digest] = frozenset()
    details: bool = True
    failure: Failure | None = None
    notes: tuple[str, ...] = ()

    def created(self, digest: Digest | None) -> datetime | None:
        """Return when an image was built: an index's newest platform, as long as the date of each is known."""
        newest: datetime | None = None
        pending, seen = [digest], set[Digest]()
        while pending:
            manifest = self.manifests.get(each) if (each := pending.pop()) is not None else None
            if manifest is None:
                return None
            if manifest.digest in seen:
                continue
            seen.add(manifest.digest)
            images = [child.digest for child in manifest.children if child.image]
            if manifest.created is not None:
                newest = manifest.created if newest is None else max(newest, manifest.created)
            elif not images:
                return None
            else:
                pending.extend(images)
        return newest

    def date(self, tag: ListedTag) -> datetime | None:
        """Return when a tag was pushed, where that is recorded, else when its image was built."""
        return tag.pushed or self.created(tag.digest)

    def newest(self, now: datetime) -> datetime | None:
        """Return the newest date that can be true of any tag."""
        dates = (self.date(tag) for tag in self.tags)
        return max((date for date in dates if date is not None and plausible(date, now)), default=None)

    def platforms(self, digest: Digest | None) -> tuple[str, ...]:
        """Return the platforms of an image, or all of an index, each once."""
        found: dict[str, None] = {}
        pending, seen = [(digest, self._own_platform(digest))], set[Digest]()
        while pending:
            each, platform = pending.pop()
            manifest = self.manifests.get(each) if each is not None else None
            images = [child for child in manifest.children if child.image] if manifest is not None else []
            if manifest is None or not images:
                if platform is not None:
                    found[platform] = None
            elif manifest.digest not in seen:
                seen.add(manifest.digest)
                pending += [
                    (child.digest, child.platform or self._own_platform(child.digest)) for child in images[::-1]
                ]
        return tuple(found)

    def _own_platform(self, digest: Digest | None) -> str | None:
        manifest = self.manifests.get(digest) if digest is not None else None
        return manifest.platform if manifest is not None else None

    def blobs(self, digests: Iterable[Digest]) -> dict[Digest, int] | None:
        """Return the size of each blob of some manifests and of all that they list; None if one is not known.

        What an index lists, and the repository does not hold, takes no room there.
        """
        found: dict[Digest, int] = {}
        seen: set[Digest] = set()
        pending = list(digests)
        if not self.missing.isdisjoint(pending):
            return None
        while pending:
            digest = pending.pop()
            if digest in seen or digest in self.missing:
                continue
            seen.add(digest)
            manifest = self.manifests.get(digest)
            if manifest is None or manifest.blobs is None:
                return None
            found.update(manifest.blobs)
            pending.extend(child.digest for child in manifest.children)
        return found

    def size(self, digest: Digest | None) -> int | None:
        """Return the bytes of an image, of an index those of all that it lists, each blob once."""
        blobs = None if digest is None else self.blobs([digest])
        return None if blobs is None else sum(blobs.values())

    @cached_property
    def distinct(self) -> Distinct:
        """All manifests and blobs that were read, each once."""
        blobs: dict[Digest, int] = {}
        unknown = 0
        for manifest in self.manifests.values():
            if manifest.blobs is None:
                unknown += 1
            else:
                blobs.update(manifest.blobs)
        return Distinct(self.manifests.keys(), blobs, unknown)

    def sorted_tags(self, by: Sort) -> list[ListedTag]:
        """Return the tags by name, or the newest or largest first, and the unknown last."""
        match by:
            case Sort.NAME:
                return list(self.tags)
            case Sort.DATE:
                dates = {tag.name: self.date(tag) for tag in self.tags}
                return sorted(self.tags, key=lambda tag: _descending(_seconds(dates[tag.name])))
            case Sort.SIZE:
                sizes = {tag.name: self.size(tag.digest) for tag in self.tags}
                return sorted(self.tags, key=lambda tag: _descending(sizes[tag.name]))


class Distinct(NamedTuple):
    """Manifests and blobs, each once.

    Attributes:
        manifests: their digests.
        blobs: the size of each.
        unknown: number of manifests whose blobs nobody told.
    """

    manifests: Collection[Digest]
    blobs: Mapping[Digest, int]
    unknown: int

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(self.blobs.values())


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all repositories that are shown.

    Attributes:
        repositories, tags: how many.
        manifests: distinct ones: those that tags name, what indexes list, and referrers.
        named_bytes: of each tag, summed up.
        distinct_bytes: of the blobs of all manifests, each once in the whole registry.
        unknown: number of tags, or manifests, whose size is in no sum since nobody told it.
    """

    repositories: int
    tags: int
    manifests: int
    named_bytes: int
    distinct_bytes: int
    unknown: int


def totals(repositories: Collection[ListedRepository]) -> Totals:
    """Return the totals of what was read."""
    manifests: set[Digest] = set()
    blobs: dict[Digest, int] = {}
    named = unread = unknown = 0
    for repository in repositories:
        sizes: dict[Digest, int | None] = {}
        for tag in repository.tags:
            if tag.digest is None or tag.digest not in repository.manifests:
                unread += not tag.dangling
                continue
            if tag.digest not in sizes:
                sizes[tag.digest] = repository.size(tag.digest)
            named += sizes[tag.digest] or 0
        manifests.update(repository.distinct.manifests)
        blobs.update(repository.distinct.blobs)
        unknown += repository.distinct.unknown
    tags = sum(len(repository.tags) for repository in repositories)
    return Totals(len(repositories), tags, len(manifests), named, sum(blobs.values()), unread + unknown)


def sorted_repositories(repositories: Iterable[ListedRepository], by: Sort, now: datetime) -> list[ListedRepository]:
    """Return repositories by name, or the one with the newest tag or the most bytes first, and the unknown last."""
    named = sorted(repositories, key=lambda repository: repository.name)
    match by:
        case Sort.NAME:
            return named
        case Sort.DATE:
            return sorted(named, key=lambda repository: _descending(_seconds(repository.newest(now))))
        case Sort.SIZE:
            return sorted(named, key=lambda repository: -repository.distinct.size)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _descending(number: float | None) -> tuple[bool, float]:
    return number is None, -(number or 0)
