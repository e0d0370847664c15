"""Sizes, dates, ages and kinds of manifests in a few words."""

from __future__ import annotations

from datetime import datetime

from registry_cleanup.cli.output.words import DIGITS, short_digest
from registry_cleanup.cli.output.words import size as bytes_text
from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.listing import ListedManifest
from registry_cleanup.domain.reference import Digest, referrer_subject
from registry_cleanup.domain.rules import plausible

UNKNOWN = "unknown"
# What cosign's tags end with.
_BY_SUFFIX = {"sig": "signature", "att": "attestation", "sbom": "SBOM"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size_text(size: int | None) -> str:
    """Return so many bytes in the unit that keeps it short."""
    return UNKNOWN if size is None else bytes_text(size)


def date_text(date: datetime | None, now: datetime, *, whole: bool = False) -> str:
    """Return a day, or the `whole` time; a date that cannot be true is shown as it is, and marked."""
    if date is None:
        return UNKNOWN
    text = rfc3339(date) if whole else f"{date:%Y-%m-%d}"
    # strftime leaves the zeros of year 1 out.
    text = text if whole else text.rjust(10, "0")
    return text if plausible(date, now) else f"{text} ({UNKNOWN})"


def rfc3339(date: datetime) -> str:
    """Return a time as JSON has it, in whole seconds."""
    return date.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def age_text(date: datetime | None, now: datetime) -> str:
    """Return how long ago something was, as kubectl does: in the largest unit of which there are several."""
    if date is None or not plausible(date, now):
        return "-"
    seconds = max(int((now - date).total_seconds()), 0)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * unit:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


def digest_text(digest: Digest, *, whole: bool) -> str:
    """Return the first digits of a digest, or all of it."""
    return digest if whole else short_digest(digest)


def tag_text(tag: str, *, whole: bool) -> str:
    """Return a tag; of one that is made of a digest, as signatures have it, the first digits do."""
    if whole or referrer_subject(tag) is None:
        return tag
    algorithm, _, rest = tag.partition("-")
    digits, dot, suffix = rest.partition(".")
    return f"{algorithm}-{digits[:DIGITS]}…{dot}{suffix}"


def kind_text(manifest: ListedManifest | None, tags: tuple[str, ...]) -> str:
    """Return what refers to something: its type, or what its tag says, or just that it does."""
    for tag in tags:
        if referrer_subject(tag) is not None and (kind := _BY_SUFFIX.get(tag.rpartition(".")[2])) is not None:
            return kind
    if manifest is None:
        return "missing"
    if manifest.artifact_type:
        return manifest.artifact_type
    return "referrers" if manifest.format is Format.INDEX else "referrer"
