"""Image streams as values: what pushes, imports, updates and deletions make of one. `facts/openshift.md`, 5 to 7."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from tests.support.image_api.contents import Document
from tests.support.image_api.documents import API_VERSION, timestamp

# (namespace, stream, tag) to the item that it has now
Source = Callable[[str, str, str], Document | None]

_IMPORT_POLICY: Mapping[str, Any] = {"importMode": "Legacy"}
_REFERENCE_POLICY: Mapping[str, Any] = {"type": "Source"}


_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Events(dict[str, Any]):
    """What a stream's status has of a tag; nobody changes one, so it is encoded once."""

    @cached_property
    def encoded(self) -> bytes:
        return _ENCODER.encode(self).encode()


@dataclass(frozen=True)
class Stream:
    """One version of an image stream.

    Attributes:
        host: Of the registry, in `status.dockerImageRepository`.
        resource_version: Of the change that made this version.
        generation: Of the spec; pushes leave it.
        spec_tags: By name; what a push creates has none.
        status_tags: By name, each with its items and conditions.
    """

    namespace: str
    name: str
    host: str
    created: datetime
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    resource_version: int = 0
    generation: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    local_lookup: bool = False
    spec_tags: Mapping[str, Document] = field(default_factory=dict)
    status_tags: Mapping[str, Events] = field(default_factory=dict)

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.namespace}/{self.name}"

    @property
    def metadata(self) -> Document:
        metadata: Document = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "resourceVersion": str(self.resource_version),
            "generation": self.generation,
            "creationTimestamp": timestamp(self.created),
        }
        for key, marks in (("labels", self.labels), ("annotations", self.annotations)):
            if marks:
                metadata[key] = dict(marks)
        return metadata

    @cached_property
    def encoded(self) -> bytes:
        """Return it as an item of a list: without kind and apiVersion, and `tags` only where there are any."""
        spec: Document = {"lookupPolicy": {"local": self.local_lookup}}
        if self.spec_tags:
            spec["tags"] = [self.spec_tags[name] for name in sorted(self.spec_tags)]
        status = {"dockerImageRepository": self.repository}
        head = _ENCODER.encode({"metadata": self.metadata, "spec": spec, "status": status}).encode()
        if not self.status_tags:
            return head
        tags = b",".join(self.status_tags[name].encoded for name in sorted(self.status_tags))
        return head.removesuffix(b"}}") + b',"tags":[' + tags + b"]}}"

    @property
    def encoded_alone(self) -> bytes:
        """Return it as the answer to a GET."""
        return b'{"kind":"ImageStream","apiVersion":"' + API_VERSION.encode() + b'",' + self.encoded[1:]

    def items(self, tag: str) -> list[Document]:
        return events["items"] or [] if (events := self.status_tags.get(tag)) else []

    def current(self, tag: str) -> Document | None:
        return next(iter(self.items(tag)), None)

    def history_digests(self) -> set[str]:
        return {item["image"] for events in self.status_tags.values() for item in events["items"] or []}

    # What happens to it; none of these sets the resourceVersion.

    def with_item(self, tag: str, item: Document) -> "Stream":
        """Return it with a tag that names an image anew, and with it the aliases of this stream that follow."""
        if (now := self.current(tag)) is not None and now["image"] == item["image"]:
            return self
        events = Events(tag=tag, items=[item, *self.items(tag)])
        changed = replace(self, status_tags={**self.status_tags, tag: events})
        for name, spec in self.spec_tags.items():
            if name != tag and _source_of(self, spec) == (self.namespace, self.name, tag):
                changed = changed.with_item(name, item)
        return changed

    def with_failed_import(self, tag: str, condition: Document) -> "Stream":
        events = Events(tag=tag, items=self.items(tag) or None, conditions=[condition])
        return replace(self, status_tags={**self.status_tags, tag: events})

    def with_spec(self, source: Source, tags: Iterable[Document], *, local_lookup: bool) -> "Stream":
        """Return it with another spec; the status follows only where a new tag is an alias."""
        given = {tag["name"]: _defaulted(tag) for tag in tags}
        news = [name for name, tag in given.items() if _differ(tag, self.spec_tags.get(name))]
        if not news and given.keys() == self.spec_tags.keys() and local_lookup == self.local_lookup:
            return self
        generation = self.generation + 1
        spec_tags = {
            name: {**tag, "generation": generation if name in news else self.spec_tags[name]["generation"]}
            for name, tag in given.items()
        }
        changed = replace(self, spec_tags=spec_tags, generation=generation, local_lookup=local_lookup)
        for name in news:
            changed = _aliased(changed, source, name)
        return changed

    def with_status(self, tags: Iterable[Document]) -> "Stream":
        """Return it with another status; a tag without items stays, with null."""
        status_tags: dict[str, Events] = {}
        for tag in tags:
            events = Events(tag, items=tag.get("items") or None)
            known = self.status_tags.get(tag["tag"])
            status_tags[tag["tag"]] = known if known is not None and known == events else events
        return replace(self, status_tags=status_tags)

    def without_tag(self, tag: str) -> "Stream | None":
        """Return it without a tag and its history, in spec and status; None where neither has it."""
        if tag not in self.spec_tags and tag not in self.status_tags:
            return None
        spec_tags = {name: spec for name, spec in self.spec_tags.items() if name != tag}
        status_tags = {
            name: events
            for name, events in self.status_tags.items()
            # Section 7: what a status update emptied goes with the deletion of any tag.
            if name != tag and (events["items"] or events.get("conditions"))
        }
        generation = self.generation + (tag in self.spec_tags)
        return replace(self, spec_tags=spec_tags, status_tags=status_tags, generation=generation)


def _aliased(stream: Stream, source: Source, name: str) -> Stream:
    """Return a stream whose tag has what its spec names, where that is another tag."""
    at = _source_of(stream, stream.spec_tags[name])
    if at is None:
        return stream
    own = at[:2] == (stream.namespace, stream.name)
    item = stream.current(at[2]) if own else source(*at)
    if item is None:
        return stream
    item = {**item, "generation": stream.generation}
    changed = stream
    if own:
        # Section 5: the generation of the source's item changes too; it is none of the image's.
        events = stream.status_tags[at[2]]
        events = Events(events, items=[item, *events["items"][1:]])
        changed = replace(stream, status_tags={**stream.status_tags, at[2]: events})
    return changed.with_item(name, item)


def _source_of(stream: Stream, spec: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return namespace, stream and tag that an alias follows, or None where it is none."""
    origin = spec.get("from") or {}
    if origin.get("kind") != "ImageStreamTag":
        return None
    name, colon, tag = origin["name"].partition(":")
    namespace = origin.get("namespace") or stream.namespace
    return (namespace, name, tag) if colon else (namespace, stream.name, name)


def _defaulted(tag: Mapping[str, Any]) -> Document:
    defaults = {"annotations": None, "importPolicy": _IMPORT_POLICY, "referencePolicy": _REFERENCE_POLICY}
    given = {key: value for key, value in tag.items() if value or key == "annotations"}
    return {"name": tag["name"], **defaults, **given}


def _differ(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    def essence(tag: Mapping[str, Any]) -> Document:
        return {key: value for key, value in tag.items() if key != "generation"}

    return other is None or essence(one) != essence(other)
