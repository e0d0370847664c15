"""What the API knows: image streams, Image objects, and what the registry's storage holds of them; in memory."""

import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.support.image_api.contents import Content, Document
from tests.support.image_api.documents import image_document, tag_event
from tests.support.image_api.refusals import not_found
from tests.support.image_api.streams import Stream

INTERNAL_HOST = "image-registry.openshift-image-registry.svc:5000"
_FIRST_VERSION = 1000
_EVENTS_KEPT = 10_000

Key = tuple[str, str]


@dataclass(frozen=True)
class Event:
    """A change of a stream, as a watch tells it."""

    type: str
    version: int
    stream: Stream


@dataclass
class Store:
    """All of it, behind one lock, with one count of versions as etcd has.

    Attributes:
        host: Of the registry, in the references of what comes from now on.
        streams: By namespace and name.
        images: Image objects by digest.
        contents: What there is to pull, by digest; it outlives the Image object.
        blobs: Configs by digest.
        links: Manifests that the registry's storage holds, by repository and digest.
        pulled_through: Imported manifests that somebody read through the registry, which thereby stored them.
    """

    host: str = INTERNAL_HOST
    streams: dict[Key, Stream] = field(default_factory=dict)
    images: dict[str, Document] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    links: set[tuple[str, str]] = field(default_factory=set)
    pulled_through: list[tuple[str, str]] = field(default_factory=list)
    version: int = _FIRST_VERSION
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    compacted: int = _FIRST_VERSION
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._lock:
            yield

    # Streams

    def stream(self, namespace: str, name: str, *, asked_for: str = "imagestreams") -> Stream:
        """Return a stream; where it is missing, the refusal names what was asked for."""
        found = self.streams.get((namespace, name))
        if found is None:
            raise not_found(asked_for, name)
        return found

    def stream_or_new(self, namespace: str, name: str, moment: datetime) -> Stream:
        found = self.streams.get((namespace, name))
        return found or self.put(Stream(namespace, name, self.host, moment))

    def put(self, stream: Stream) -> Stream:
        """Keep a new version of a stream; what changes nothing makes no version."""
        key = (stream.namespace, stream.name)
        known = self.streams.get(key)
        if known == stream:
            return known
        stored = replace(stream, resource_version=self._next())
        self.streams[key] = stored
        self._record("ADDED" if known is None else "MODIFIED", stored)
        return stored

    def remove(self, stream: Stream) -> None:
        del self.streams[stream.namespace, stream.name]
        self._next()
        self._record("DELETED", stream)

    def compact(self) -> None:
        """Forget the changes so far, as etcd does after a while."""
        self.events.clear()
        self.compacted = self.version

    def current_item(self, namespace: str, name: str, tag: str) -> Document | None:
        stream = self.streams.get((namespace, name))
        return None if stream is None else stream.current(tag)

    # Images

    def add_image(self, content: Content, reference: str, *, created: datetime, managed: bool) -> None:
        """Make the Image object of a digest, unless there is one: that of the first push stays."""
        self.contents[content.digest] = content
        self.blobs[content.config_digest] = content.config
        if content.digest not in self.images:
            self.images[content.digest] = image_document(
                content,
                reference,
                uid=str(uuid.uuid4()),
                resource_version=self._next(),
                created=created,
                managed=managed,
            )

    def adopt_image(self, given: Mapping[str, Any]) -> None:
        """Make an Image object of what a client sent, unless there is one."""
        digest = given["metadata"]["name"]
        if digest not in self.images:
            metadata = {"name": digest, "uid": str(uuid.uuid4()), "resourceVersion": str(self._next())}
            self.images[digest] = {**given, "metadata": {**given["metadata"], **metadata}}

    def image(self, digest: str, *, asked_for: str = "images") -> Document:
        found = self.images.get(digest)
        if found is None:
            raise not_found(asked_for, digest)
        return found

    def tag(self, stream: Stream, tag: str, digest: str, reference: str, created: datetime) -> Stream:
        """Let a tag name an image, as a push or an import does."""
        return self.put(stream.with_item(tag, tag_event(digest, reference, created, stream.generation)))

    def serves(self, stream: Stream, digest: str) -> bool:
        """Tell whether a history of the stream, or an index in one, names a digest that has its Image object."""
        if digest not in self.images:
            return False
        named = stream.history_digests()
        return digest in named or any(digest in self.children(index) for index in named)

    def children(self, digest: str) -> list[str]:
        image = self.images.get(digest, {})
        return [child["digest"] for child in image.get("dockerImageManifests", ())]

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _record(self, type_: str, stream: Stream) -> None:
        if len(self.events) == self.events.maxlen:
            self.compacted = self.events[0].version
        self.events.append(Event(type_, self.version, stream))


def now() -> datetime:
    return datetime.now(UTC)
