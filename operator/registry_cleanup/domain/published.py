"""The published plan as it is remembered: a fingerprint for each item, and since when it is published.

One item is one tag on one digest of one repository. `gracePeriod` counts from the first publication without a break; an
approval marks the items that a person has seen.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest

# An approval lets a plan through for so long.
APPROVAL_LASTS = timedelta(hours=24)

_MAGIC = b"RCP1"
_HEADER = struct.Struct(">4s32sqI")  # magic, hash of the plan, when it was made (seconds), number of repositories
_REPOSITORY = struct.Struct(">QI")  # fingerprint, number of entries
_ENTRY = struct.Struct(">QII")  # fingerprint, first published, approved (seconds, 0 for never)


_MOST_PROTECTED = 50_000
_ALL_PROTECTED = b"all"


class DamagedError(ValueError):
    """Bytes that are no published plan."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of one item: seconds since 1970, `approved` 0 for never."""

    first: int
    approved: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A published plan.

    Attributes:
        uid: of the policy; part of every fingerprint.
        hash: of the plan, hexadecimal.
        generated_at: when it was made.
        repositories: fingerprints of items with what is remembered of each, by fingerprint of their repository.
    """

    uid: str
    hash: str
    generated_at: datetime
    repositories: Mapping[int, Mapping[int, Entry]] = field(default_factory=dict)

    def first(self, repository: str, tag: str, digest: Digest) -> datetime | None:
        """Return since when this item has been published; None if it is not."""
        entry = self._entry(repository, tag, digest)
        return None if entry is None else datetime.fromtimestamp(entry.first, UTC)

    def approved(self, repository: str, tag: str, digest: Digest, now: datetime) -> bool:
        """Say whether the item was in a plan that was approved, not too long ago."""
        entry = self._entry(repository, tag, digest)
        if entry is None or not entry.approved:
            return False
        return timedelta(0) <= now - datetime.fromtimestamp(entry.approved, UTC) <= APPROVAL_LASTS

    def size_without(self, repositories: Collection[str]) -> int:
        """Return the number of items in all but these repositories."""
        left_out = {_fingerprint(self.uid, name) for name in repositories}
        return sum(len(entries) for place, entries in self.repositories.items() if place not in left_out)

    def approve(self, now: datetime) -> Published:
        """Return the plan with every item approved."""
        seconds = int(now.timestamp())
        entry_of = _Entries()
        marked = {
            repository: {item: entry_of(entry.first, seconds) for item, entry in entries.items()}
            for repository, entries in self.repositories.items()
        }
        return replace(self, repositories=marked)

    def unapproved(self) -> Published:
        """Return the plan without anything that was approved."""
        entry_of = _Entries()
        left = {
            repository: {item: entry_of(entry.first, 0) for item, entry in entries.items()}
            for repository, entries in self.repositories.items()
        }
        return replace(self, repositories=left)

    def renewed(
        self, plans: Iterable[RepositoryPlan], unread: Collection[str], plan_hash: str, now: datetime
    ) -> Published:
        """Return the plan that follows this one: `plans` of all repositories in which something goes.

        An item that was published keeps its time, one that is new starts now. What is not planned any more is
        forgotten: it starts anew should it come back, so that a clock or a scan that was wrong once does no harm. Of
        repositories that could not be read (`unread`) everything is remembered.
        """
        seconds = int(now.timestamp())
        fresh = Entry(seconds)
        repositories: dict[int, Mapping[int, Entry]] = {}
        for name in unread:
            place = _fingerprint(self.uid, name)
            if place in self.repositories:
                repositories[place] = self.repositories[place]
        for plan in plans:
            place = _fingerprint(self.uid, plan.repository)
            old = self.repositories.get(place, {})
            entries: dict[int, Entry] = {}
            for item in _items(self.uid, plan):
                entry = old.get(item)
                # A time to come was written by a clock that was wrong.
                entries[item] = entry if entry is not None and entry.first <= seconds else fresh
            repositories[place] = entries
        return Published(self.uid, plan_hash, now, repositories)

    def settled(
        self, repository: str, gone: Iterable[tuple[str, Digest]], tried: Iterable[tuple[str, Digest]]
    ) -> Published:
        """Return the plan after a run went through these items of a repository.

        Those that are `gone` start anew should they come back. For the others that were `tried` an approval is used up:
        it lets a plan through once.
        """
        place = _fingerprint(self.uid, repository)
        entries = dict(self.repositories.get(place, {}))
        for tag, digest in gone:
            entries.pop(_fingerprint(self.uid, repository, tag, digest), None)
        for tag, digest in tried:
            item = _fingerprint(self.uid, repository, tag, digest)
            if item in entries:
                entries[item] = Entry(entries[item].first)
        return replace(self, repositories={**self.repositories, place: entries})

    def _entry(self, repository: str, tag: str, digest: Digest) -> Entry | None:
        entries = self.repositories.get(_place(self.uid, repository))
        return entries.get(_fingerprint(self.uid, repository, tag, digest)) if entries else None


def nothing_published(uid: str) -> Published:
    """Return what is remembered of a policy that was never planned."""
    return Published(uid, "0" * 64, datetime.fromtimestamp(0, UTC))


def encode(published: Published) -> bytes:
    """Return the plan as bytes, 16 for each item."""
    parts = [
        _HEADER.pack(
            _MAGIC,
            bytes.fromhex(published.hash),
            int(published.generated_at.timestamp()),
            len(published.repositories),
        )
    ]
    for repository, entries in sorted(published.repositories.items()):
        parts.append(_REPOSITORY.pack(repository, len(entries)))
        parts.extend(_ENTRY.pack(item, entry.first, entry.approved) for item, entry in sorted(entries.items()))
    return b"".join(parts)


def decode(uid: str, content: bytes) -> Published:
    """Return the plan of the policy `uid` that `encode` made; raise `DamagedError` for any other bytes."""
    try:
        magic, digest, generated_at, count = _HEADER.unpack_from(content)
        if magic != _MAGIC:
            raise DamagedError("not a published plan of this version")
        place = _HEADER.size
        entry_of = _Entries()
        repositories: dict[int, Mapping[int, Entry]] = {}
        for _ in range(count):
            repository, number = _REPOSITORY.unpack_from(content, place)
            place += _REPOSITORY.size
            end = place + number * _ENTRY.size
            if end > len(content):
                raise DamagedError("breaks off")
            repositories[repository] = {
                item: entry_of(first, approved) for item, first, approved in _ENTRY.iter_unpack(content[place:end])
            }
            place = end
        if place != len(content):
            raise DamagedError("goes on after its end")
        return Published(uid, digest.hex(), datetime.fromtimestamp(generated_at, UTC), repositories)
    except (struct.error, OverflowError, ValueError, OSError) as error:
        raise DamagedError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Protected:
    """What was put back, and is not pruned again before its policy is changed.

    Attributes:
        uid: of the policy; part of every fingerprint.
        items: fingerprints; None stands for everything, where they are too many to tell.
    """

    uid: str
    items: frozenset[int] | None = frozenset()

    def holds(self, repository: str, tag: str, digest: Digest) -> bool:
        """Say whether the item stays."""
        if not self.items:
            return self.items is None
        return _fingerprint(self.uid, repository, tag, digest) in self.items

    def with_more(self, items: Iterable[tuple[str, str, Digest]]) -> Protected:
        """Return what is protected when these items, repository, tag and digest, are so, too."""
        if self.items is None:
            return self
        more = self.items | {_fingerprint(self.uid, *item) for item in items}
        return replace(self, items=more if len(more) <= _MOST_PROTECTED else None)

    def encode(self) -> bytes:
        """Return it as bytes."""
        if self.items is None:
            return _ALL_PROTECTED
        return b"".join(item.to_bytes(8, "big") for item in sorted(self.items))

    @classmethod
    def decode(cls, uid: str, content: bytes) -> Protected:
        """Return what `encode` wrote; of anything else nobody knows what it protects, so that it is everything."""
        if content == _ALL_PROTECTED or len(content) % 8:
            return cls(uid, None)
        return cls(uid, frozenset(int.from_bytes(content[at : at + 8], "big") for at in range(0, len(content), 8)))


class _Entries:
    """Makes equal entries one object: of 100,000 items, most were first published by a few runs."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], Entry] = {}

    def __call__(self, first: int, approved: int) -> Entry:
        key = (first, approved)
        return self._made.get(key) or self._made.setdefault(key, Entry(first, approved))


def _items(uid: str, plan: RepositoryPlan) -> Iterator[int]:
    for group in plan.groups:
        for tag in group.tags:
            yield _fingerprint(uid, plan.repository, tag, group.digest)


@lru_cache(maxsize=1024)
def _place(uid: str, repository: str) -> int:
    """Return the fingerprint of a repository, which is asked for with each of its items."""
    return _fingerprint(uid, repository)


def _fingerprint(uid: str, *parts: str) -> int:
    """Return eight bytes that stand for `parts`; the policy's UID makes them its own."""
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=uid.encode()[:64]).digest(), "big")
