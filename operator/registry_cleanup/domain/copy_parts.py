"""How copies are written down: parts, each whole by itself, that tell what of a run is there and what is gone.

A part is a gzip file of short lines of JSON: first its head, then a line for each manifest, which is followed by the
manifest's bytes as they are, then a line for each tag. Whoever may write where parts are kept may write anything: so a
part is read line by line, no further than the first thing that is wrong, and never more of it than one of ours holds.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from registry_cleanup.domain.copies import CopiedManifest, CopiedTag, Copies, is_media_type
from registry_cleanup.domain.reference import is_repository, is_tag, parse_digest

ARTIFACT_TYPE = "application/vnd.registrycleanup.copies.v1"
LAYER_TYPE = "application/vnd.registrycleanup.copies.v1.part+gzip"

_VERSION = 1
# The client reads manifests of up to 16 MiB, and the largest is a part by itself.
_MOST_BYTES = 24 * 1024 * 1024
_LONGEST_LINE = 16 * 1024
MOST_THINGS = 10_000

_Thing: TypeAlias = CopiedManifest | CopiedTag


class DamagedCopyError(ValueError):
    """Bytes that are no part, or not the one that was asked for; the message says how that shows."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the copies of a run.

    Attributes:
        copies: what it holds.
        number: counted from 1; one that could not be written uses its number up.
        after: the number of the one that was written before it; 0 for none. So the loss of any but the last shows.
        registry: that the run pruned from; None where the copies are in that registry themselves.
        left: whether it holds no copies, but tags that were copied and did not go; of the last it is so in any case.
        last: whether the run wrote none after it: it is there so that the loss of any other shows.
    """

    copies: Copies
    number: int
    after: int = 0
    registry: str | None = None
    last: bool = False
    left: bool = False


def cut(things: Iterable[_Thing], most_bytes: int) -> Iterator[Sequence[_Thing]]:
    """Yield what makes one part each: of so many bytes, unless one thing alone has more, and of not too many things."""
    some: list[_Thing] = []
    held = 0
    for thing in things:
        size = len(thing.content) if isinstance(thing, CopiedManifest) else len(_line(_tag_line(thing)))
        if some and (held + size > most_bytes or len(some) == MOST_THINGS):
            yield some
            some, held = [], 0
        some.append(thing)
        held += size
    if some:
        yield some


def lost_parts(after: Mapping[int, int], unreadable: Iterable[int]) -> int:
    """Return how many parts were written, and cannot be used, as far as those that can be used tell.

    Args:
        after: of those that can be used, by their number, which was written before.
        unreadable: the numbers of others that are there; of one that the next good one does not count with, nothing
            was pruned, since it was never written whole.
    """
    numbers = sorted(after)

    def counts(number: int) -> bool:
        following = bisect_left(numbers, number)
        return following == len(numbers) or after[numbers[following]] >= number

    gone = {number for number in after.values() if number} - after.keys()
    return len(gone | {number for number in unreadable if counts(number)})


# Writing and reading


def encode(part: Part) -> bytes:
    """Return `part` as it is kept."""
    copies = part.copies
    head = {
        "type": "copies",
        "version": _VERSION,
        "policy": copies.policy,
        "run": copies.run,
        "part": part.number,
        "after": part.after,
        "registry": part.registry,
        "last": part.last,
        "left": part.left,
        "manifests": len(copies.manifests),
        "tags": len(copies.tags),
    }
    packed = io.BytesIO()
    # Level 6, and no time in it: what is the same has the same digest.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(_line(head))
        for manifest in copies.manifests:
            file.write(_line(_manifest_line(manifest)))
            file.write(manifest.content + b"\n")
        for tag in copies.tags:
            file.write(_line(_tag_line(tag)))
    return packed.getvalue()


def decode(content: bytes, policy: str, run: str, number: int) -> Part:
    """Return the part that `encode` made for this run of this policy; raise `DamagedCopyError` for anything else.

    Whether each manifest is genuine has to be asked of it.
    """
    try:
        return _Reading(content).part(policy, run, number)
    except DamagedCopyError:
        raise
    except (EOFError, zlib.error, OSError) as error:
        raise DamagedCopyError("they are not whole") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCopyError("they cannot be read") from error


class _Reading:
    """One part as it is unpacked, no further than it is read."""

    def __init__(self, content: bytes) -> None:
        self._file = gzip.GzipFile(fileobj=io.BytesIO(content))
        self._left = _MOST_BYTES

    def part(self, policy: str, run: str, number: int) -> Part:
        head = self._line("copies")
        if tuple(head[key] for key in ("version", "policy", "run", "part")) != (_VERSION, policy, run, number):
            raise DamagedCopyError("they say that they are of another part, run, policy or version")
        manifests, tags, after, registry = head["manifests"], head["tags"], head["after"], head["registry"]
        if not 0 <= after < number or manifests < 0 or tags < 0 or manifests + tags > MOST_THINGS:
            raise DamagedCopyError("they hold more than any part does, or are out of order")
        if not (registry is None or isinstance(registry, str)):
            raise DamagedCopyError("they name a registry that cannot be one")
        copies = Copies(
            policy,
            run,
            manifests=tuple([self._manifest() for _ in range(manifests)]),
            tags=tuple([self._tag() for _ in range(tags)]),
        )
        if self._file.read(1):
            raise DamagedCopyError("they go on after their end")
        return Part(copies, number, int(after), registry, head["last"] is True, head.get("left") is True)

    def _manifest(self) -> CopiedManifest:
        line = self._line("manifest")
        if not is_media_type(line["mediaType"]):
            raise DamagedCopyError("they name a media type that cannot be one")
        content = self._bytes(line["size"])
        return CopiedManifest(_repository(line), parse_digest(line["digest"]), line["mediaType"], content)

    def _tag(self) -> CopiedTag:
        line = self._line("tag")
        if not is_tag(line["tag"]):
            raise DamagedCopyError("they name a tag that cannot be one")
        reference = line.get("reference")
        if not (reference is None or isinstance(reference, str)):
            raise DamagedCopyError("they name a reference that cannot be one")
        return CopiedTag(
            _repository(line), line["tag"], parse_digest(line["digest"]), reference, line.get("managed") is True
        )

    def _line(self, kind: str) -> Mapping[str, Any]:
        text = self._file.readline(min(_LONGEST_LINE, self._left) + 1)
        self._left -= len(text)
        if self._left < 0 or not text.endswith(b"\n"):
            raise DamagedCopyError("they break off, or have a line that is too long")
        line: Mapping[str, Any] = json.loads(text)
        if line["type"] != kind:
            raise DamagedCopyError("they hold something else than they say")
        return line

    def _bytes(self, size: int) -> bytes:
        if not 0 <= size < self._left:
            raise DamagedCopyError("they hold more than any part does")
        content = self._file.read(size)
        self._left -= size + 1
        if len(content) != size or self._file.read(1) != b"\n":
            raise DamagedCopyError("they break off")
        return content


def _line(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _manifest_line(manifest: CopiedManifest) -> Mapping[str, Any]:
    return {
        "type": "manifest",
        "repository": manifest.repository,
        "digest": manifest.digest,
        "mediaType": manifest.media_type,
        "size": len(manifest.content),
    }


def _tag_line(tag: CopiedTag) -> Mapping[str, Any]:
    line: dict[str, Any] = {"type": "tag", "repository": tag.repository, "tag": tag.tag, "digest": tag.digest}
    if tag.reference is not None:
        line["reference"] = tag.reference
    if tag.managed:
        line["managed"] = True
    return line


def _repository(line: Mapping[str, Any]) -> str:
    repository: str = line["repository"]
    if not is_repository(repository):
        raise DamagedCopyError("they name a repository that cannot be one")
    return repository
