"""Repositories as a listing has them, in few words: a digest is the letter that it consists of."""

from datetime import UTC, datetime

from registry_cleanup.domain.inventory import Blob, Format
from registry_cleanup.domain.listing import Child, ListedManifest, ListedRepository, ListedTag
from registry_cleanup.domain.reference import Digest, parse_digest


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def digest(letter: str) -> Digest:
    return parse_digest(f"sha256:{letter * 64}")


def blob(letter: str, size: int) -> Blob:
    return Blob(digest(letter), size)


def image(
    letter: str,
    *blobs: Blob,
    created: datetime | None = None,
    platform: str | None = "linux/amd64",
    subject: str | None = None,
) -> ListedManifest:
    of = digest(subject) if subject is not None else None
    return ListedManifest(digest(letter), Format.IMAGE, created=created, platform=platform, blobs=blobs, subject=of)


def index(letter: str, *children: tuple[str, str | None], attestations: str = "") -> ListedManifest:
    listed = [Child(digest(child), platform) for child, platform in children]
    listed += [Child(digest(child), "unknown/unknown", image=False) for child in attestations]
    return ListedManifest(digest(letter), Format.INDEX, children=tuple(listed))


def repository(
    tags: dict[str, str | None],
    *manifests: ListedManifest,
    referrers: dict[str, str] | None = None,
    missing: str = "",
    name: str = "team/app",
) -> ListedRepository:
    named = [ListedTag(tag, digest(on) if on is not None else None) for tag, on in sorted(tags.items())]
    return ListedRepository(
        name,
        tuple(named),
        {manifest.digest: manifest for manifest in manifests},
        {digest(subject): [digest(d) for d in found] for subject, found in (referrers or {}).items()},
        frozenset(map(digest, missing)),
    )
