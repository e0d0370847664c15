"""Image streams as they are held from the list on: packed, since a run works on few of them at a time."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from registry_cleanup.domain.reference import Digest, short_number
from registry_cleanup.openshift.streams import Stream, StreamTag

_QUICK = 1


@dataclass(frozen=True, slots=True)
class PackedStream:
    """An image stream, its tags in some 50 bytes each.

    Attributes:
        bare: all of the stream but its tags.
        marks: of the digests of all histories, as `short_number` makes them.
    """

    bare: Stream
    marks: array[int]
    _tags: bytes | None

    @classmethod
    def of(cls, stream: Stream, *, tags: bool = True) -> PackedStream:
        """Pack a stream, without its tags where nobody will ask for them."""
        marks = array("Q", map(short_number, stream.digests()))
        packed = zlib.compress(_lines(stream).encode(), _QUICK) if tags else None
        return cls(replace(stream, tags={}), marks, packed)

    @property
    def size(self) -> int:
        """The bytes that tags and marks take."""
        return len(self._tags or b"") + self.marks.itemsize * len(self.marks)

    def unpacked(self) -> Stream | None:
        """Return the stream as it was packed; None where its tags were left out."""
        if self._tags is None:
            return None
        return replace(self.bare, tags=dict(map(_tag, zlib.decompress(self._tags).decode().splitlines())))


def _lines(stream: Stream) -> str:
    """Return a line for each tag: no name, time or digest has a space."""
    return "\n".join(_line(name, tag) for name, tag in stream.tags.items())


def _line(name: str, tag: StreamTag) -> str:
    pushed = tag.pushed.isoformat() if tag.pushed is not None else "-"
    return " ".join((name, pushed, *tag.history))


def _tag(line: str) -> tuple[str, StreamTag]:
    name, pushed, *digests = line.split(" ")
    history = tuple(map(Digest, digests))
    moment = None if pushed == "-" else datetime.fromisoformat(pushed)
    return name, StreamTag(history[0] if history else None, moment, history)


def without(marks: set[int], streams: Iterable[PackedStream]) -> int:
    """Return how many of `marks` no stream has."""
    left = set(marks)
    for stream in streams:
        left.difference_update(stream.marks)
    return len(left)
