"""Reading manifests: media types, children, subject, and when an image was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry_cleanup.domain.inventory import Format, Manifest
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
# RFC 3339 with any number of fractional digits; Python reads six at most.
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as fetched: its facts, and where its date still has to be read if it does not say itself.

    Attributes:
        manifest: without `created` unless the manifest itself says it.
        config: digest of the image's config blob; None for indexes and unknown formats.
        platforms: of an index, the children that hold an image for a platform (not attestations).
        nested: of an index, the children that it does not declare to be images, and that may list others.
    """

    manifest: Manifest
    config: Digest | None = None
    platforms: tuple[Digest, ...] = ()
    nested: tuple[Digest, ...] = ()


def format_of(content_type: str | None) -> Format:
    """Return what a media type stands for."""
    media_type = (content_type or "").partition(";")[0].strip()
    if media_type in _IMAGES:
        return Format.IMAGE
    return Format.INDEX if media_type in _INDEXES else Format.UNKNOWN


def read_manifest(digest: Digest, format_: Format, body: Mapping[str, Any]) -> Document:
    """Return the facts of a manifest's JSON; raise `MalformedAnswerError` where it is not what its type says."""
    try:
        subject = body.get("subject")
        subject_digest = parse_digest(subject["digest"]) if subject is not None else None
        created = parse_date((body.get("annotations") or {}).get(_CREATED))
        if format_ is Format.INDEX:
            return _read_index(digest, body, subject_digest, created)
        manifest = Manifest(digest, format_, (), subject_digest, created)
        return Document(manifest, parse_digest(body["config"]["digest"]) if format_ is Format.IMAGE else None)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswerError("the registry serves a manifest of another shape than its media type") from error


def _read_index(digest: Digest, body: Mapping[str, Any], subject: Digest | None, created: datetime | None) -> Document:
    children = [parse_digest(entry["digest"]) for entry in body["manifests"]]
    # BuildKit lists attestations with the platform unknown/unknown.
    platforms = [
        child
        for child, entry in zip(children, body["manifests"], strict=True)
        if (entry.get("platform") or {}).get("os") != "unknown"
    ]
    nested = [
        child for child, entry in zip(children, body["manifests"], strict=True) if entry.get("mediaType") not in _IMAGES
    ]
    manifest = Manifest(digest, Format.INDEX, tuple(children), subject, created)
    return Document(manifest, None, tuple(platforms), tuple(nested))


def parse_date(value: object) -> datetime | None:
    """Return the instant of an RFC 3339 text, or None where `value` is no such text: an unknown date."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", value))
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
