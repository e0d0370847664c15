"""The facts of one digest as a row of bytes, and back: small, since there are hundreds of thousands of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry_cleanup.domain.inventory import Format, Manifest
from registry_cleanup.domain.reference import Digest
from registry_cleanup.registry.manifests import Config, Document, Pool

# Raise this number whenever rows are written otherwise, or when `read_manifest` or `read_config` read anything else out
# of the same content: older rows are thrown away then, and asked again. A test holds both to what they were.
FORMAT = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORMATS = (Format.IMAGE, Format.INDEX)
_ALGORITHMS = {"sha256": b"\x01", "sha512": b"\x02"}
_LENGTHS = {1: ("sha256:", 32), 2: ("sha512:", 64)}


@dataclass(frozen=True, slots=True)
class Fact:
    """What the content of one digest says, and nothing that other content or the registry says.

    Attributes:
        document: of the manifest, without dates of its config or of its platforms.
        config: what its config says; None where that was not read. `Config()`: it was read, and says nothing.
    """

    document: Document
    config: Config | None = None


def packed(digest: Digest) -> bytes:
    """Return `digest` in as few bytes as it takes."""
    algorithm, _, value = digest.partition(":")
    return _ALGORITHMS[algorithm] + bytes.fromhex(value)


def encode(fact: Fact) -> bytes:
    """Return `fact` without its own digest, which is the row's key."""
    document, manifest = fact.document, fact.document.manifest
    # Each digest once: the manifest itself is 0, the others are numbered as they come.
    numbers: dict[Digest, int] = {manifest.digest: 0}

    def number(digest: Digest | None) -> int | None:
        return None if digest is None else numbers.setdefault(digest, len(numbers))

    head = [
        _FORMATS.index(manifest.format),
        _microseconds(manifest.created),
        manifest.keep,
        number(manifest.subject),
        number(manifest.config),
        list(map(number, manifest.children)),
        list(map(number, document.platforms)),
        list(map(number, document.nested)),
        [part for blob in manifest.blobs for part in (number(blob.digest), blob.size)],
        None if fact.config is None else [_microseconds(fact.config.created), fact.config.keep],
    ]
    digests = b"".join(packed(digest) for digest, number in numbers.items() if number)
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + digests


def decode(digest: Digest, content: bytes, pool: Pool) -> Fact:
    """Return the fact of `digest` that `content` holds, made of the pool's objects.

    Raises:
        ValueError, LookupError, TypeError, OverflowError: it is none.
    """
    head, _, rest = content.partition(b"\n")
    format_, created, keep, subject, config, children, platforms, nested, blobs, read = json.loads(head)
    digests = [pool.digest(digest), *(pool.digest(each) for each in _unpacked(rest))]
    manifest = Manifest(
        digests[0],
        _FORMATS[format_],
        tuple([digests[number] for number in children]),
        None if subject is None else digests[subject],
        _moment(created),
        None if config is None else digests[config],
        tuple([pool.blob(digests[number], size) for number, size in zip(blobs[::2], blobs[1::2], strict=True)]),
        keep,
    )
    document = Document(
        manifest, tuple([digests[number] for number in platforms]), tuple([digests[number] for number in nested])
    )
    return Fact(document, None if read is None else Config(_moment(read[0]), read[1]))


def _unpacked(content: bytes) -> list[Digest]:
    found, start = [], 0
    while start < len(content):
        prefix, length = _LENGTHS[content[start]]
        end = start + 1 + length
        found.append(Digest(prefix + content[start + 1 : end].hex()))
        start = end
    return found


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
