"""What is known of one repository at one instant: its tags and the manifests they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from registry_cleanup.domain.reference import Digest


class Format(StrEnum):
    """What a manifest is, by its media type."""

    IMAGE = "Image"
    INDEX = "Index"
    UNKNOWN = "Unknown"


class Blob(NamedTuple):
    """A config or layer: its digest, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of one manifest that decisions need; they never change for a digest.

    Attributes:
        digest: its content address.
        format: image, index, or something that we do not understand.
        children: of an index, the digests that it lists, in its order; empty otherwise.
        subject: the manifest that this one refers to (a signature, an SBOM), if any.
        created: when the image was built, aware; None where nobody says, or where nobody asked.
        config: of an image, the digest of its config; some container runtimes know an image by it.
        blobs: of an image, its config and layers, where the manifest was read.
        keep: what the mark `registrycleanup.dev/keep` says, if the manifest (annotation) or the config (label) bears
            it and was read anyway.
        read: whether the manifest itself was read, and not only what it is.
        inferred: whether `created` is what the config or the platforms tell, since the manifest itself does not.
        annotated: where its config was read, what `keep` would be without.
    """

    digest: Digest
    format: Format
    children: tuple[Digest, ...] = ()
    subject: Digest | None = None
    created: datetime | None = None
    config: Digest | None = None
    blobs: tuple[Blob, ...] = ()
    keep: str | None = None
    read: bool = True
    inferred: bool = False
    annotated: str | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What the rules of a policy need to know of one repository, so that nothing else is asked for.

    Attributes:
        dated: tags of which the manifest and its date are needed.
        read: tags of which the manifest is needed, and no date.
        resolved: tags of which only the digest (and the children, if it is an index) is needed.
        digests: of manifests in use, which are read so that their children are known, be there a tag on them or not.
        used: digests that the repository's name is used with: where nobody knows what it lists of a manifest, it may be
            one of these.
        image_ids: that containers are known by, which may be digests of manifests or of configs: where there are any,
            the digest of the config of each image has to be known, of the platforms of indexes, too.
        young_after: an index of which one platform was created then or later stays by every rule that may own it, so
            that the other platforms need not be read for its date; None where they always have to.
    """

    dated: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()
    digests: frozenset[Digest] = frozenset()
    used: frozenset[Digest] = frozenset()
    image_ids: frozenset[Digest] = frozenset()
    young_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that was gathered of one repository; whole, or never made.

    Attributes:
        repository: its name.
        tags: the digest of each tag that was resolved.
        unresolved: tags that are listed, and of which no rule needed to know more.
        undated: tags that were resolved, and of which no rule needed the date, so that nobody asked for it.
        dangling: tags that are listed and answer 404.
        manifests: facts by digest, of the tags' manifests and of all children of indexes among them.
        pushed: when each tag came to name what it names, where the registry records it; these are the tags' dates
            then, not those of their images.
        protected: tags that the repository itself keeps, by annotation.
        managed: tags that the repository's own spec imports or aliases, and would bring back.
        used: tags that something else refers to.
        history: tags that stand for more digests than the one they name, with all of them.
        named_only: whether a manifest can be pulled only as long as a tag or a listed index names it, so that the
            last tag takes it along (OpenShift).
    """

    repository: str
    tags: Mapping[str, Digest]
    unresolved: frozenset[str] = frozenset()
    dangling: frozenset[str] = frozenset()
    manifests: Mapping[Digest, Manifest] = field(default_factory=dict)
    pushed: Mapping[str, datetime] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    managed: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    history: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)
    named_only: bool = False
    undated: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """The number of tags that the registry listed."""
        return len(self.tags) + len(self.unresolved) + len(self.dangling)
