"""Reading image streams for people who look: tags with the time of their push, and what the cluster knows of images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from typing_extensions import override

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.inventory import Blob, Format
from registry_cleanup.domain.listing import Child, ListedManifest, ListedRepository, ListedTag
from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.run import Failure
from registry_cleanup.openshift.api import ImageAPI, Right
from registry_cleanup.openshift.errors import GoneError, MissingRightError, OddAnswerError
from registry_cleanup.openshift.streams import Stream, parse_stream, read_stream
from registry_cleanup.ports import Lister, RunError, Tell

# What people call the registry of a cluster that does not tell them its hosts.
NAMELESS = "image.openshift.io"
_INDEXES = frozenset(
    {"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"}
)


class StreamLister(Lister):
    """The image streams that a person may see."""

    def __init__(self, api: ImageAPI, called: str | None, concurrency: int) -> None:
        """Look with `api`, with so many requests at a time, at what people call `called`, or by no host at all."""
        self._called = called or NAMELESS
        # What is no host cannot be named as one.
        where = "-n my-project" if called is None else f"'{called}/my-project/**'"
        self._example = f"registry-cleanup list {where}"
        self._api = api
        self._concurrency = concurrency
        self._streams: dict[str, Stream] = {}
        self._may_read: dict[str, bool] = {}

    @property
    @override
    def host(self) -> str:
        return self._called

    @override
    async def repositories(self, wanted: RepositoryGlob | None) -> Sequence[str]:
        if wanted is not None and wanted.literal:
            return [wanted.text]
        async for stream in self._api.streams(await self._namespace(wanted), read_stream):
            if wanted is None or wanted.matches(stream.repository):
                self._streams[stream.repository] = stream
        return sorted(self._streams)

    @override
    async def names(self, repository: str) -> ListedRepository:
        return ListedRepository(repository, _tags(await self._stream(repository)), details=False)

    @override
    async def read(self, repository: str, tell: Tell) -> ListedRepository:
        stream = await self._stream(repository)
        reading = _Images(self._api, stream, tell, self._concurrency)
        failure: Failure | None = None
        notes: tuple[str, ...] = ()
        if await self._may_get_images(stream.namespace):
            try:
                await reading.all()
            except RunError as error:
                failure = replace(error.failure, repository=repository)
        else:
            notes = (
                f"platforms and sizes of {stream.namespace} are not known: you may not get imagestreamimages there",
            )
        manifests, missing = reading.found, frozenset(reading.missing)
        tags = _tags(stream)
        return ListedRepository(repository, tags, manifests, missing=missing, failure=failure, notes=notes)

    async def _stream(self, repository: str) -> Stream:
        """Return a stream as it was listed, or read it where it was named."""
        if (listed := self._streams.get(repository)) is not None:
            return listed
        namespace, slash, name = repository.partition("/")
        if not slash or "/" in name:
            raise GoneError(f"there is no repository {repository}: an image stream's is called NAMESPACE/NAME")
        try:
            return parse_stream(await self._api.stream(namespace, name))
        except GoneError as error:
            raise GoneError(f"there is no image stream {name} in namespace {namespace}") from error
        except MissingRightError as error:
            raise MissingRightError(f"you may not get image streams in namespace {namespace}") from error

    async def _namespace(self, wanted: RepositoryGlob | None) -> str:
        """Return the namespace to list; empty for all at once."""
        named = wanted.text.partition("/")[0] if wanted is not None else ""
        if named and "*" not in named and "?" not in named:
            if not await self._api.may(Right("list", "imagestreams", named)):
                raise MissingRightError(f"you may not list image streams in namespace {named}")
            return named
        if not await self._api.may(Right("list", "imagestreams")):
            raise MissingRightError(
                f"you may not list the image streams of all namespaces: name one, as in {self._example}"
            )
        return ""

    async def _may_get_images(self, namespace: str) -> bool:
        if namespace not in self._may_read:
            self._may_read[namespace] = await self._api.may(Right("get", "imagestreamimages", namespace))
        return self._may_read[namespace]


class _Images:
    """What the cluster knows of the images of one stream.

    Attributes:
        found: by digest.
        missing: of which the cluster has no Image object.
    """

    def __init__(self, api: ImageAPI, stream: Stream, tell: Tell, concurrency: int) -> None:
        self._api = api
        self._stream = stream
        self._tell = tell
        self._concurrency = concurrency
        self.found: dict[Digest, ListedManifest] = {}
        self.missing: set[Digest] = set()

    async def all(self) -> None:
        """Read what tags name now, and what indexes list."""
        wanted = {tag.digest for tag in self._stream.tags.values() if tag.digest is not None}
        while wanted:
            self._tell(wanted=len(wanted))
            await for_each(sorted(wanted), self._read, self._concurrency)
            listed = {child.digest for manifest in self.found.values() for child in manifest.children}
            wanted = listed - self.found.keys() - self.missing

    async def _read(self, digest: Digest) -> None:
        try:
            answer = await self._api.image(self._stream.namespace, self._stream.name, digest)
            self.found[digest] = _listed_manifest(digest, answer["image"])
        except GoneError:
            self.missing.add(digest)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise OddAnswerError("image.openshift.io serves an image of another shape") from error
        self._tell(done=1)


def _tags(stream: Stream) -> tuple[ListedTag, ...]:
    return tuple(
        ListedTag(name, tag.digest, tag.pushed, dangling=tag.digest is None)
        for name, tag in sorted(stream.tags.items())
    )


def _listed_manifest(digest: Digest, image: Mapping[str, Any]) -> ListedManifest:
    """Return what an Image object says (openshift.md, 6); an index's date there is that of its push."""
    media_type = str(image.get("dockerImageManifestMediaType") or "")
    listed = image.get("dockerImageManifests") or []
    if listed or media_type in _INDEXES:
        children = tuple(Child(parse_digest(each["digest"]), _platform(each), _is_image(each)) for each in listed)
        return ListedManifest(digest, Format.INDEX, media_type, children=children)
    metadata = image.get("dockerImageMetadata") or {}
    created = metadata.get("Created")
    moment = datetime.fromisoformat(created) if isinstance(created, str) else None
    return ListedManifest(
        digest,
        Format.IMAGE,
        media_type,
        created=moment if moment is not None and moment.tzinfo is not None else None,
        # The API does not say for which operating system.
        platform=str(metadata["Architecture"]) if metadata.get("Architecture") else None,
        blobs=_blobs(metadata, image.get("dockerImageLayers")),
    )


def _blobs(metadata: Mapping[str, Any], layers: Collection[Mapping[str, Any]] | None) -> tuple[Blob, ...] | None:
    """Return layers and config; `Size` is the sum of both, so the config's own is what the layers leave of it."""
    if layers is None:
        return None
    blobs = [Blob(parse_digest(layer["name"]), int(layer["size"])) for layer in layers]
    rest = int(metadata.get("Size") or 0) - sum(blob.size for blob in blobs)
    try:
        config = parse_digest(str(metadata.get("Id")))
    except ValueError:
        return tuple(blobs)  # an image of the oldest format has no config
    return (Blob(config, rest), *blobs) if rest > 0 else tuple(blobs)


def _platform(child: Mapping[str, Any]) -> str | None:
    return "/".join(str(child[key]) for key in ("os", "architecture", "variant") if child.get(key)) or None


def _is_image(child: Mapping[str, Any]) -> bool:
    return child.get("os") != "unknown"
