"""Reading a registry for people who look: each tag in one request, everything else once for its digest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from typing_extensions import override

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.inventory import Blob, Format
from registry_cleanup.domain.listing import Child, ListedManifest, ListedRepository, ListedTag
from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import Lister, RunError, Tell
from registry_cleanup.registry.client import Content, RegistryClient
from registry_cleanup.registry.manifests import read_config, read_manifest

# What lists deeper, or refers in longer chains, is wrong or hostile.
_DEEPEST = 8
# OCI image specification 1.1, "Guidelines for Artifact Usage": the config that says nothing.
_EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
_LONGEST_TEXT = 255


@dataclass(frozen=True, slots=True)
class _Described:
    """What the config of an image says."""

    created: datetime | None
    platform: str | None


class _Configs:
    """What configs say, each read once: many repositories hold the same images, since they were promoted or mirrored.

    Attributes:
        read: by digest.
    """

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._locks: dict[Digest, asyncio.Lock] = {}
        self.read: dict[Digest, _Described] = {}

    async def want(self, repository: str, config: Digest) -> None:
        """Read a config of `repository`, unless somebody has done so, or is about to."""
        async with self._locks.setdefault(config, asyncio.Lock()):
            if config not in self.read:
                body = await self._client.config(repository, config) or {}
                self.read[config] = _Described(read_config(body).created, _platform(body))


class RegistryLister(Lister):
    """A registry over `/v2/`."""

    def __init__(self, client: RegistryClient, host: str, concurrency: int) -> None:
        """Look with `client`, with so many requests at a time."""
        self._client = client
        self._host = host
        self._concurrency = concurrency
        self._configs = _Configs(client)

    @property
    @override
    def host(self) -> str:
        return self._host

    @override
    async def repositories(self, wanted: RepositoryGlob | None) -> Sequence[str]:
        if wanted is not None and wanted.literal:
            return [wanted.text]
        return [name for name in await self._client.repositories() if wanted is None or wanted.matches(name)]

    @override
    async def names(self, repository: str) -> ListedRepository:
        tags = await self._client.tags(repository)
        return ListedRepository(repository, tuple(map(ListedTag, tags)), details=False)

    @override
    async def read(self, repository: str, tell: Tell) -> ListedRepository:
        reading = _Reading(self._client, repository, self._configs, tell, self._concurrency)
        return await reading.whole(await self._client.tags(repository))


class _Reading:
    """What was read so far of one repository."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        described: _Configs,
        tell: Tell,
        concurrency: int,
    ) -> None:
        self._client = client
        self._repository = repository
        self._described = described
        self._tell = tell
        self._concurrency = concurrency
        self._tags: dict[str, Digest | None] = {}
        self._manifests: dict[Digest, ListedManifest] = {}
        self._configs: dict[Digest, Digest] = {}
        self._referrers: dict[Digest, Collection[Digest]] = {}
        self._missing: set[Digest] = set()

    async def whole(self, tags: Sequence[str]) -> ListedRepository:
        """Return the repository, as far as it can be read: after the first error nothing more is asked."""
        failure: Failure | None = None
        try:
            await self._all(tags, self._tag)
            asked: set[Digest] = set()
            for _ in range(_DEEPEST):
                await self._listed()
                if not (subjects := self._manifests.keys() - asked):
                    break
                asked |= subjects
                await self._all(sorted(subjects), self._refer)
            unread = dict.fromkeys(config for config in self._configs.values() if config not in self._described.read)
            await self._all(list(unread), self._describe)
        except RunError as error:
            failure = replace(error.failure, repository=self._repository)
        self._complete()
        return ListedRepository(
            self._repository,
            tuple(ListedTag(tag, self._tags.get(tag), dangling=self._is_dangling(tag)) for tag in tags),
            self._manifests,
            self._referrers,
            frozenset(self._missing),
            failure=failure,
        )

    def _is_dangling(self, tag: str) -> bool:
        return tag in self._tags and self._tags[tag] is None

    async def _all(self, items: Collection[Any], work: Callable[[Any], Awaitable[None]]) -> None:
        """Do `work` on each item, and tell how it goes on."""
        self._tell(wanted=len(items))

        async def step(item: Any) -> None:  # noqa: ANN401 - whatever `work` takes
            await work(item)
            self._tell(done=1)

        await for_each(items, step, self._concurrency)

    async def _tag(self, tag: str) -> None:
        content = await self._client.content(self._repository, tag)
        self._tags[tag] = None if content is None else content.digest
        if content is not None:
            self._add(content)

    async def _listed(self) -> None:
        """Read what indexes list, and what refers to anything, level by level."""
        for _ in range(_DEEPEST):
            listed = (child.digest for manifest in self._manifests.values() for child in manifest.children)
            refers = (digest for digests in self._referrers.values() for digest in digests)
            unread = dict.fromkeys(d for d in (*listed, *refers) if d not in self._manifests and d not in self._missing)
            if not unread:
                return
            await self._all(list(unread), self._by_digest)

    async def _by_digest(self, digest: Digest) -> None:
        content = await self._client.content(self._repository, digest)
        if content is None:
            self._missing.add(digest)
        else:
            self._add(content)

    def _add(self, content: Content) -> None:
        if content.digest in self._manifests:
            return
        manifest, config = _listed_manifest(content)
        self._manifests[manifest.digest] = manifest
        if config is not None:
            self._configs[manifest.digest] = config

    async def _refer(self, digest: Digest) -> None:
        if referrers := await self._client.referrers(self._repository, digest):
            self._referrers[digest] = sorted(referrers)

    async def _describe(self, config: Digest) -> None:
        await self._described.want(self._repository, config)

    def _complete(self) -> None:
        """Let each image say what its config says, as far as that was read."""
        for digest, config in self._configs.items():
            if (described := self._described.read.get(config)) is not None:
                manifest = self._manifests[digest]
                created = manifest.created or described.created
                self._manifests[digest] = replace(manifest, created=created, platform=described.platform)


def _listed_manifest(content: Content) -> tuple[ListedManifest, Digest | None]:
    """Return what a manifest says, and the digest of the config that says more."""
    document = read_manifest(content.digest, content.format, content.body, content.size)
    facts, body = document.manifest, content.body
    blobs: tuple[Blob, ...] | None = None
    config: Digest | None = None
    children: tuple[Child, ...] = ()
    artifact = body.get("artifactType")
    match content.format:
        case Format.INDEX:
            blobs, images = (), frozenset(document.platforms)
            entries = zip(facts.children, body["manifests"], strict=True)
            children = tuple(Child(d, _platform(each.get("platform") or {}), d in images) for d, each in entries)
        case Format.IMAGE:
            blobs = tuple(blob for blob in facts.blobs if blob.digest != content.digest)
            kind = body["config"].get("mediaType")
            config = facts.config if kind != _EMPTY_CONFIG else None
            if artifact is None and not _is_of_image(kind):
                artifact = kind  # OCI image specification 1.1: so artifacts say what they are that name no type
        case Format.UNKNOWN:
            pass
    manifest = ListedManifest(
        content.digest,
        content.format,
        content.media_type,
        _text(artifact),
        facts.created,
        None,
        blobs,
        children,
        facts.subject,
    )
    return manifest, config


def _is_of_image(media_type: object) -> bool:
    return media_type in {
        None,
        _EMPTY_CONFIG,
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }


def _platform(described: Mapping[str, Any]) -> str | None:
    """Return `os/architecture[/variant]` of a config, or of the platform in an index; None where it says none."""
    parts = (_text(described.get(key)) for key in ("os", "architecture", "variant"))
    return "/".join(filter(None, parts)) or None


def _text(value: object) -> str:
    """Return a text that a terminal only shows; empty for anything else."""
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value.isprintable() else ""
