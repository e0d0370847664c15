"""How registries, repositories, tags and digests are named."""

from __future__ import annotations

import re
from typing import NewType

# OCI distribution specification 1.1, "Pulling manifests".
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# OCI image specification, "Digests": registries in the field answer with these two algorithms.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
# OCI distribution specification 1.1, "Referrers Tag Schema", and the suffixes that cosign adds to it.
# The schema cuts a digest's hexadecimal part off after 64 digits, which leaves a sha256 whole.
_REFERRER_TAG = re.compile(r"(sha256|sha512)-([a-f0-9]{64})(?:\.(?:sig|att|sbom))?")
_SUBJECT = len("sha256:") + 64
# The 64 bits after `sha256:` or `sha512:`, which are equally long.
_SHORT = slice(7, 23)

Digest = NewType("Digest", str)
"""An immutable content address, `sha256:<hex>`; made by `parse_digest` only."""


def parse_digest(text: str) -> Digest:
    """Return the digest that `text` spells; raise `ValueError` where it spells none."""
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"not a digest: {text[:100]!r}")
    return Digest(text)


def short_number(digest: Digest) -> int:
    """Return 64 bits that stand for `digest` where there are many; two that share them are next to impossible."""
    return int(digest[_SHORT], 16)


def is_repository(text: str) -> bool:
    """Say whether `text` may name a repository."""
    return len(text) <= 255 and _REPOSITORY.fullmatch(text) is not None


def leading_repository(text: str) -> str:
    """Return the longest beginning of `text` that may name a repository; empty if none does."""
    match = _REPOSITORY.match(text[:255])
    return match[0] if match is not None else ""


def is_tag(text: str) -> bool:
    """Say whether `text` may name a tag."""
    return _TAG.fullmatch(text) is not None


def referrer_subject(tag: str) -> str | None:
    """Return the subject, as `subject_key` has it, if `tag` names a referrer by the tag schema, else None."""
    match = _REFERRER_TAG.fullmatch(tag) if tag.startswith("sha") else None
    return f"{match[1]}:{match[2]}" if match is not None else None


def subject_key(digest: Digest) -> str:
    """Return as much of `digest` as the tag schema keeps of a subject."""
    return digest[:_SUBJECT]
