"""`image.openshift.io/v1` as an aggregated API behind the real API server, and what a test does to it.

Facts: `facts/openshift.md`, sections 5 to 8. Not copied: PUT, PATCH and POST of imagestreamtags, imagetags,
patches other than merge patches, server-side apply, Tables, protobuf, gzip, set-based label selectors, bookmarks,
the limit of a stream's size, terminating streams, LimitRanges.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.http import serve
from tests.support.image_api.answers import Answers
from tests.support.image_api.contents import Content, Document, image_content, index_content
from tests.support.image_api.documents import failed_condition, tag_event
from tests.support.image_api.faults import ApiRequest, Fault, Faults, Hook, Match, usual_answer
from tests.support.image_api.registration import SERVER_NAME, registered
from tests.support.image_api.store import Store, now
from tests.support.image_api.streams import Events, Stream

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
_UPSTREAM = "registry.example.com"


@dataclass(frozen=True)
class ImageApi:
    """A running API, and the pushes, imports and faults of a test; its methods may be called from any thread.

    Attributes:
        store: What it knows; the registry's stand-in reads there too.
        requests: What the API server passed on for others than itself, in order; a test may clear it.
    """

    store: Store
    requests: list[ApiRequest]
    _answers: Answers = field(repr=False)
    _faults: Faults = field(repr=False)

    # What people and builds do

    def create_stream(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        created: datetime | None = None,
    ) -> None:
        """Create a stream without tags, or give the one that is there these labels and annotations."""
        with self.store.locked():
            stream = self.store.stream_or_new(namespace, name, created or now())
            if labels is not None:
                stream = replace(stream, labels=dict(labels))
            if annotations is not None:
                stream = replace(stream, annotations=dict(annotations))
            self.store.put(stream)

    def push(
        self,
        namespace: str,
        stream: str,
        tag: str | None,
        *,
        created: datetime | None = None,
        built: datetime | None = BUILT,
        children: Sequence[str] = (),
        platform: str = "linux/amd64",
        labels: Mapping[str, str] | None = None,
        layers: Sequence[int] = (32,),
        docker: bool = False,
        seed: str | None = None,
    ) -> str:
        """Push an image to the registry and return its digest.

        Args:
            namespace: Of the stream.
            stream: Made where it is missing.
            tag: None pushes by digest: there is an Image object, which no tag names.
            created: Moment of the push, by default now.
            built: Creation date in the config; None leaves it out.
            children: Digests pushed before, of which an index is made rather than an image.
            platform: `os/architecture`.
            labels: Of the config.
            layers: Their sizes.
            docker: Docker's media types rather than OCI's.
            seed: What makes the content distinct, by default stream and tag: pushing a tag again with the same
                arguments changes nothing, another `seed` gives it another digest.
        """
        if children:
            content = index_content([self.store.contents[child] for child in children], docker=docker)
        else:
            distinct = f"{namespace}/{stream}:{tag}" if seed is None else seed
            content = image_content(
                seed=distinct, built=built, platform=platform, labels=labels, layers=layers, docker=docker
            )
        self._push(namespace, stream, tag, content, created or now())
        return content.digest

    def push_again(
        self, namespace: str, stream: str, tag: str, digest: str, *, created: datetime | None = None
    ) -> None:
        """Push under a tag what was pushed before, here or elsewhere."""
        self._push(namespace, stream, tag, self.store.contents[digest], created or now())

    def _push(self, namespace: str, name: str, tag: str | None, content: Content, created: datetime) -> None:
        with self.store.locked():
            stream = self.store.stream_or_new(namespace, name, created)
            reference = f"{stream.repository}@{content.digest}"
            self.store.links.add((f"{namespace}/{name}", content.digest))
            self.store.add_image(content, reference, created=created, managed=True)
            if tag is not None:
                self.store.tag(stream, tag, content.digest, reference, created)

    def fill(
        self,
        namespace: str,
        stream: str,
        count: int,
        *,
        name: str = "v{:05}",
        created: datetime = BUILT,
        step: timedelta = timedelta(minutes=1),
        built: Callable[[int], datetime | None] = lambda _number: BUILT,
    ) -> dict[str, str]:
        """Push many images at once, oldest first, each under a tag of its own; return the tags' digests."""
        found: dict[str, str] = {}
        with self.store.locked():
            into = self.store.stream_or_new(namespace, stream, created)
            status_tags = dict(into.status_tags)
            for number in range(count):
                tag, moment = name.format(number), created + step * number
                content = image_content(seed=f"{namespace}/{stream}:{tag}", built=built(number))
                reference = f"{into.repository}@{content.digest}"
                self.store.links.add((f"{namespace}/{stream}", content.digest))
                self.store.add_image(content, reference, created=moment, managed=True)
                item = tag_event(content.digest, reference, moment, into.generation)
                status_tags[tag] = Events(tag=tag, items=[item, *into.items(tag)])
                found[tag] = content.digest
            self.store.put(replace(into, status_tags=status_tags))
        return found

    def import_tag(
        self,
        namespace: str,
        stream: str,
        tag: str,
        *,
        source: str | None = None,
        created: datetime | None = None,
        built: datetime | None = BUILT,
        annotations: Mapping[str, str] | None = None,
        seed: str | None = None,
    ) -> str:
        """Let the stream's spec import a tag from another registry, as it is there now; return its digest."""
        moment = created or now()
        source = source or f"{_UPSTREAM}/{stream}:{tag}"
        content = image_content(seed=seed or source, built=built)
        with self.store.locked():
            into = self._import_spec(namespace, stream, tag, source, moment, annotations)
            reference = f"{source.rpartition(':')[0]}@{content.digest}"
            self.store.add_image(content, reference, created=moment, managed=False)
            self.store.tag(into, tag, content.digest, reference, moment)
        return content.digest

    def fail_import(
        self,
        namespace: str,
        stream: str,
        tag: str,
        *,
        source: str | None = None,
        reason: str = "NotFound",
        created: datetime | None = None,
    ) -> None:
        """Let the stream's spec import a tag that its registry does not give."""
        moment = created or now()
        source = source or f"{_UPSTREAM}/{stream}:{tag}"
        with self.store.locked():
            into = self._import_spec(namespace, stream, tag, source, moment, None)
            condition = failed_condition(reason, f'dockerimage "{source}" {reason}', moment, into.generation)
            self.store.put(into.with_failed_import(tag, condition))

    def _import_spec(
        self,
        namespace: str,
        stream: str,
        tag: str,
        source: str,
        moment: datetime,
        annotations: Mapping[str, str] | None,
    ) -> Stream:
        spec = {"name": tag, "annotations": annotations, "from": {"kind": "DockerImage", "name": source}}
        return self._with_spec_tag(self.store.stream_or_new(namespace, stream, moment), spec)

    def alias(
        self,
        namespace: str,
        stream: str,
        tag: str,
        source_tag: str,
        *,
        source_stream: str | None = None,
        source_namespace: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Let the stream's spec name another tag, of this stream (which it then follows) or of another (a copy)."""
        elsewhere = source_stream is not None or source_namespace is not None
        name = f"{source_stream or stream}:{source_tag}" if elsewhere else source_tag
        origin = {"kind": "ImageStreamTag", "name": name}
        if source_namespace is not None:
            origin["namespace"] = source_namespace
        with self.store.locked():
            into = self.store.stream_or_new(namespace, stream, now())
            self._with_spec_tag(into, {"name": tag, "annotations": annotations, "from": origin})

    def _with_spec_tag(self, stream: Stream, spec: Document) -> Stream:
        tags = {**stream.spec_tags, spec["name"]: spec}
        changed = stream.with_spec(self.store.current_item, tags.values(), local_lookup=stream.local_lookup)
        return self.store.put(changed)

    def delete_stream(self, namespace: str, name: str) -> None:
        """Delete a stream; Image objects, manifests and links stay."""
        with self.store.locked():
            self.store.remove(self.store.stream(namespace, name))

    def delete_tag(self, namespace: str, stream: str, tag: str) -> None:
        """Delete a tag, as somebody else might."""
        with self.store.locked():
            changed = self.store.stream(namespace, stream).without_tag(tag)
            if changed is not None:
                self.store.put(changed)

    def remove_image_object(self, digest: str, *, with_content: bool = False) -> None:
        """Delete an Image object, though a tag may name it; `with_content` as the cluster's own pruner does."""
        with self.store.locked():
            del self.store.images[digest]
            if with_content:
                content = self.store.contents.pop(digest)
                self.store.blobs.pop(content.config_digest, None)

    # What a test looks at

    def stream(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a stream as GET does; a missing one is a `RefusalError`."""
        with self.store.locked():
            document: dict[str, Any] = json.loads(self.store.stream(namespace, name).encoded_alone)
        return document

    def tags(self, namespace: str, name: str) -> dict[str, str]:
        """Return the digest that each tag has now, without tags that have none."""
        with self.store.locked():
            stream = self.store.stream(namespace, name)
            return {tag: item["image"] for tag in stream.status_tags if (item := stream.current(tag))}

    def image(self, digest: str) -> dict[str, Any] | None:
        """Return an Image object, or None."""
        with self.store.locked():
            return self.store.images.get(digest)

    def most_deletions_at_once(self, namespace: str, stream: str) -> int:
        """Return how many DELETEs of one stream's tags ever ran at the same time; see `contention`."""
        return self._faults.contention.most[f"{namespace}/{stream}"]

    # What goes wrong

    def on_request(self, hook: Hook, *, method: str = ".*", path: str = ".*") -> ExitStack:
        """Call `hook` before each request that matches is carried out, until the result is closed.

        The hook runs in a thread of its own, so it may send requests; `with` closes the result too.
        """
        entry = (Match(method, path), hook)
        self._faults.hooks.append(entry)
        closing = ExitStack()
        closing.callback(self._faults.hooks.remove, entry)
        return closing

    def inject(
        self,
        status: int,
        body: Mapping[str, Any] | str | None = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = 1,
        *,
        method: str = ".*",
        path: str = ".*",
        delay: float = 0,
        carried_out: bool = False,
    ) -> None:
        """Answer the next requests that match with `status` in the API's place; times=None has no end.

        Without a body it is the one that such a status usually has: 409 of a stale version, 410 Expired, 429 and
        500 ServerTimeout with Retry-After, 503 as text. A body that is a string goes out as text/plain.
        `carried_out` lets the request take effect and loses only its answer.
        """
        usual, usual_headers = usual_answer(status)
        sent = usual if body is None else body
        sent_headers = usual_headers if headers is None else headers
        fault = Fault(Match(method, path), status, sent, sent_headers, times, delay, carried_out)
        self._faults.faults.append(fault)

    @contextmanager
    def unavailable(self, *, method: str = ".*", path: str = ".*") -> Iterator[None]:
        """Answer everything that matches with 503 `service unavailable` as text, as without the API's server."""
        body, headers = usual_answer(503)
        fault = Fault(Match(method, path), 503, body, headers, None)
        self._faults.faults.insert(0, fault)
        try:
            yield
        finally:
            self._faults.faults.remove(fault)

    def contention(self, *, seconds: float, at_once: int | None = 1) -> None:
        """Let each DELETE of a tag take so long, and those beyond `at_once` in one stream end in ServerTimeout."""
        self._faults.contention.seconds, self._faults.contention.at_once = seconds, at_once

    def compact(self) -> None:
        """Let all watches and continued lists that began before be too old."""
        with self.store.locked():
            self.store.compact()
            self._answers.lists.forget()

    def calm(self) -> None:
        """End all that a test set: faults, hooks, contention, and what was recorded."""
        self._faults.faults.clear()
        self._faults.hooks.clear()
        self._faults.contention.most.clear()
        self.contention(seconds=0, at_once=None)
        self.requests.clear()


@contextmanager
def image_api(plane: ControlPlane, folder: Path) -> Iterator[ImageApi]:
    """Run the API, with its certificate in `folder`, behind a control plane; one at a time."""
    store, faults, requests = Store(), Faults(), list[ApiRequest]()
    answers = Answers(store, faults, requests)
    authority = certificate_authority(folder)
    certificate = authority.issue(SERVER_NAME, "localhost", "127.0.0.1")
    with (
        serve(answers.answer, certificate=certificate, client_authority=plane.requestheader_ca_file) as server,
        registered(plane, server.url, authority),
    ):
        yield ImageApi(store, requests, answers, faults)
