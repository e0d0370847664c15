"""Reading manifests and configs: media types, children, subject, blobs, pins, and when an image was made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from registry_cleanup.domain.inventory import Blob, Format, Manifest
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.registry.errors import MalformedAnswerError

_IMAGES = frozenset(
    {"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"}
)
_INDEXES = frozenset(
    {"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"}
)
# Asking for less makes registries convert, and answer with another digest (registries.md, 7).
ACCEPT = ", ".join(sorted(_IMAGES | _INDEXES))
# OCI image specification, "Pre-Defined Annotation Keys".
_CREATED = "org.opencontainers.image.created"
# The mark that keeps an image, as annotation of the manifest or label of the config.
_KEEP = "registrycleanup.dev/keep"
_LONGEST_MARK = 100
# Real indexes list some dozens; no registry is asked for the parts of one that lists more than this.
MOST_CHILDREN = 10_000
# RFC 3339 with any number of fractional digits; Python reads six at most.
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as fetched: its facts, and where its date still has to be read if it does not say itself.

    Attributes:
        manifest: without `created` unless the manifest itself says it.
        platforms: of an index, the children that hold an image for a platform (not attestations).
        nested: of an index, the children that it does not declare to be images, and that may list others.
    """

    manifest: Manifest
    platforms: tuple[Digest, ...] = ()
    nested: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """What a config says of its image.

    Attributes:
        created: when the image was built, aware; None if it does not say.
        keep: the label that pins it, if it bears one.
    """

    created: datetime | None = None
    keep: str | None = None


class Pool:
    """Equal digests and blobs as one object: a layer that thousands of images share takes its memory once."""

    def __init__(self) -> None:
        self._digests: dict[Digest, Digest] = {}
        self._blobs: dict[Blob, Blob] = {}

    def digest(self, digest: Digest) -> Digest:
        """Return the object that stands for `digest`."""
        return self._digests.setdefault(digest, digest)

    def blob(self, digest: Digest, size: int) -> Blob:
        """Return the object that stands for a blob of this size, whose digest is one of the pool's."""
        blob = Blob(digest, size)
        return self._blobs.setdefault(blob, blob)

    def document(self, document: Document) -> Document:
        """Return `document` made of the pool's objects."""
        manifest = document.manifest
        pooled = replace(
            manifest,
            digest=self.digest(manifest.digest),
            children=tuple(map(self.digest, manifest.children)),
            config=None if manifest.config is None else self.digest(manifest.config),
            blobs=tuple([self.blob(self.digest(blob.digest), blob.size) for blob in manifest.blobs]),
        )
        platforms, nested = tuple(map(self.digest, document.platforms)), tuple(map(self.digest, document.nested))
        return Document(pooled, platforms, nested)


def format_of(content_type: str | None) -> Format:
    """Return what a media type stands for."""
    media_type = (content_type or "").partition(";")[0].strip()
    if media_type in _IMAGES:
        return Format.IMAGE
    return Format.INDEX if media_type in _INDEXES else Format.UNKNOWN


# What the two functions below say of a content is remembered from one run to the next: whoever changes it raises
# `fact_rows.FORMAT`.
def read_manifest(digest: Digest, format_: Format, body: Mapping[str, Any], size: int) -> Document:
    """Return the facts of a manifest's JSON of `size` bytes.

    Raises:
        MalformedAnswerError: it is not what its media type says.
    """
    try:
        subject = body.get("subject")
        annotations = body.get("annotations") or {}
        manifest = Manifest(
            digest,
            format_,
            subject=parse_digest(subject["digest"]) if subject is not None else None,
            created=parse_date(annotations.get(_CREATED)),
            keep=_mark(annotations),
        )
        if format_ is Format.INDEX:
            return _read_index(replace(manifest, blobs=(Blob(digest, size),)), body)
        if format_ is Format.IMAGE:
            config = parse_digest(body["config"]["digest"])
            parts = (body["config"], *(body.get("layers") or ()))
            manifest = replace(manifest, config=config, blobs=(Blob(digest, size), *_blobs(parts)))
        return Document(manifest)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswerError("the registry serves a manifest of another shape than its media type") from error


def listed_manifests(body: Mapping[str, Any]) -> list[Digest]:
    """Return what an index lists; raise `MalformedAnswerError` where it is none."""
    try:
        return [parse_digest(entry["digest"]) for entry in body["manifests"]]
    except (LookupError, TypeError, ValueError) as error:
        raise MalformedAnswerError("the registry's list of referrers holds something else") from error


def read_config(body: Mapping[str, Any]) -> Config:
    """Return what a config's JSON says; configs of artifacts are of any shape, and say nothing."""
    inner = body.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    return Config(parse_date(body.get("created")), _mark(labels) if isinstance(labels, dict) else None)


def either_mark(annotation: str | None, label: str | None) -> str | None:
    """Return what stands for two marks of one image: each of them keeps it, and doubt keeps."""
    marks = {mark for mark in (annotation, label) if mark is not None and mark.strip().lower() != "false"}
    if len(marks) > 1:
        return "true"
    return marks.pop() if marks else annotation or label


def _read_index(manifest: Manifest, body: Mapping[str, Any]) -> Document:
    entries = body["manifests"]
    if len(entries) > MOST_CHILDREN:
        raise MalformedAnswerError(f"the registry serves an index that lists more than {MOST_CHILDREN} manifests")
    children = [parse_digest(entry["digest"]) for entry in entries]
    # BuildKit lists attestations with the platform unknown/unknown.
    platforms = [
        child
        for child, entry in zip(children, entries, strict=True)
        if (entry.get("platform") or {}).get("os") != "unknown"
    ]
    nested = [child for child, entry in zip(children, entries, strict=True) if entry.get("mediaType") not in _IMAGES]
    return Document(replace(manifest, children=tuple(children)), tuple(platforms), tuple(nested))


def _blobs(descriptors: tuple[Any, ...]) -> Iterator[Blob]:
    """Yield the blobs of descriptors; they only serve an estimate, so one that is none is passed over."""
    for descriptor in descriptors:
        try:
            digest, size = parse_digest(descriptor["digest"]), descriptor["size"]
        except (LookupError, TypeError, ValueError):
            continue
        if isinstance(size, int) and size >= 0:
            yield Blob(digest, size)


def _mark(marks: Mapping[str, Any]) -> str | None:
    value = marks.get(_KEEP)
    return None if value is None else str(value)[:_LONGEST_MARK]


def parse_date(value: object) -> datetime | None:
    """Return the instant of an RFC 3339 text, or None where `value` is no such text: an unknown date."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", value))
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
