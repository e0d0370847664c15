"""Reading image streams: pure, from the API's documents to inventories (openshift.md, 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.policy import InvalidPatternError, TagPattern
from registry_cleanup.domain.reference import Digest, is_tag, parse_digest
from registry_cleanup.openshift.errors import BadMarkError, OddAnswerError

KEEP_ANNOTATION = "registrycleanup.dev/keep"


@dataclass(frozen=True, slots=True)
class StreamTag:
    """One tag of a stream's status.

    Attributes:
        digest: what it names now; None where its import failed or was emptied.
        pushed: when it came to name it.
        history: all digests that it has ever named, the current one first; each can still be pulled.
    """

    digest: Digest | None
    pushed: datetime | None
    history: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """An image stream.

    Attributes:
        namespace, name: where it is.
        tags: of its status.
        managed: tags that its spec imports or aliases.
        keep: the annotation `registrycleanup.dev/keep`: patterns of tags.
        references: what its spec refers to, as (namespace, stream, tag or digest).
        uid: of the object; another one is another stream, whatever its name.
        version: of the object, which every change makes another.
    """

    namespace: str
    name: str
    tags: Mapping[str, StreamTag]
    managed: frozenset[str]
    keep: str
    references: frozenset[tuple[str, str, str]]
    uid: str = ""
    version: str = ""

    @property
    def repository(self) -> str:
        """The name of the repository that it is."""
        return f"{self.namespace}/{self.name}"

    def digests(self) -> set[Digest]:
        """Return all digests of all histories."""
        return {digest for tag in self.tags.values() for digest in tag.history}

    def named_by(self, references: AbstractSet[str]) -> set[str]:
        """Return the tags that `references` mean, by name or by a digest of their history."""
        if not references:
            return set()
        return {name for name, tag in self.tags.items() if name in references or not references.isdisjoint(tag.history)}

    def inventory(self, used: Iterable[str]) -> Inventory:
        """Return the repository that the stream is; `used` are its tags that others refer to.

        Raises:
            BadMarkError: nobody can tell which tags its annotation means.
        """
        keep = self._keep_patterns()
        named = {name: tag.digest for name, tag in self.tags.items() if tag.digest is not None}
        return Inventory(
            self.repository,
            named,
            dangling=frozenset(self.tags.keys() - named.keys()),
            # What an image is does not matter where tags are removed alone: what a tag lists goes with it or stays.
            manifests={digest: Manifest(digest, Format.IMAGE) for digest in named.values()},
            pushed={name: tag.pushed for name, tag in self.tags.items() if name in named and tag.pushed is not None},
            protected=frozenset(name for name in self.tags if any(pattern.matches(name) for pattern in keep)),
            managed=self.managed & named.keys(),
            used=frozenset(used) & named.keys(),
            history={name: self.tags[name].history for name in named if len(self.tags[name].history) > 1},
            named_only=True,
        )

    def _keep_patterns(self) -> tuple[TagPattern, ...]:
        try:
            return tuple(TagPattern(part) for part in re.split(r"[,\s]+", self.keep.strip()) if part)
        except InvalidPatternError as error:
            raise BadMarkError(
                f"the annotation {KEEP_ANNOTATION} of image stream {self.repository} {error}; "
                "write tag patterns, separated by commas"
            ) from error


def parse_stream(answer: bytes) -> Stream:
    """Return the stream that an answer of the API describes; raise `OddAnswerError` where it describes none."""
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise OddAnswerError("image.openshift.io serves an image stream that is no JSON") from error
    return read_stream(document)


def read_stream(document: Mapping[str, Any]) -> Stream:
    """Return the stream that a document of the API describes; raise `OddAnswerError` where it describes none."""
    try:
        metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        spec_tags = spec.get("tags") or []
        return Stream(
            namespace,
            name,
            {str(tag["tag"]): _read_tag(tag) for tag in status.get("tags") or [] if is_tag(str(tag["tag"]))},
            frozenset(str(tag["name"]) for tag in spec_tags if tag.get("from")),
            str((metadata.get("annotations") or {}).get(KEEP_ANNOTATION, "")),
            frozenset(found for tag in spec_tags if (found := _reference(tag.get("from") or {}, namespace, name))),
            str(metadata.get("uid") or ""),
            str(metadata.get("resourceVersion") or ""),
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise OddAnswerError("image.openshift.io serves an image stream of another shape") from error


def _read_tag(tag: Mapping[str, Any]) -> StreamTag:
    items = tag.get("items") or []
    history = tuple(parse_digest(item["image"]) for item in items)
    created = items[0]["created"] if items else None
    # A time of zero is null; a tag without a date is kept.
    pushed = datetime.fromisoformat(created) if created is not None else None
    if pushed is not None and pushed.tzinfo is None:
        raise ValueError("a time without zone")
    return StreamTag(history[0] if history else None, pushed, history)


def _reference(source: Mapping[str, Any], namespace: str, name: str) -> tuple[str, str, str] | None:
    """Return what a spec tag's `from` refers to in a stream, as (namespace, stream, tag or digest)."""
    target, text = str(source.get("namespace") or namespace), str(source.get("name", ""))
    match source.get("kind"):
        case "ImageStreamTag":
            stream, _, tag = text.rpartition(":")
            return target, stream or name, tag
        case "ImageStreamImage":
            stream, _, digest = text.partition("@")
            return target, stream, digest
        case "DockerImage":
            # Whatever host it names (service, route, mirror): a path of two parts may mean a stream.
            path = text.partition("/")[2] if text.count("/") == 2 else text
            match = re.fullmatch(r"([^/@:]+)/([^/@:]+)(?::([^@]+))?(?:@(.+))?", path)
            return (match[1], match[2], match[4] or match[3] or "latest") if match else None
        case _:
            return None
