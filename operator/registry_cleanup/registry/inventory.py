"""Gathering one repository over `/v2/`, with no request that the rules do not need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.course import Reading
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import young_by_a_platform
from registry_cleanup.ports import RunError
from registry_cleanup.registry.client import Descriptor, RegistryClient
from registry_cleanup.registry.errors import (
    MalformedAnswerError,
    NoSuchRepositoryError,
    NotFoundError,
    ServerFaultError,
)
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.registry.facts import RepositoryFacts
from registry_cleanup.registry.manifests import Config, Document, Pool, either_mark, read_config

# Real indexes nest once; a registry that serves deeper ones is wrong or hostile.
_DEEPEST_INDEX = 8
# The date of an index of more platforms than this is not worth the requests: it is unknown, which keeps.
_MOST_PLATFORMS = 256


async def gather(
    client: RegistryClient,
    repository: str,
    needs: Callable[[Collection[str]], Needs],
    known: Mapping[Digest, Manifest],
    concurrency: int,
    *,
    must_exist: bool,
    store: FactStore | None = None,
    reading: Reading | None = None,
) -> Inventory:
    """Return the repository whole, or raise the `RegistryError` of whatever part could not be read.

    Args:
        client: logged in with the policy's credential.
        repository: its name.
        needs: told the listed tags, says what has to be known of them.
        known: facts of digests that need not be fetched again.
        concurrency: requests at a time.
        must_exist: whether an unknown repository is an error; one from the catalogue may have been emptied.
        store: of facts from earlier runs, which need not be fetched again either.
        reading: counts what was read so far.
    """
    try:
        tags = await client.tags(repository)
    except NotFoundError as error:
        # Any other 404, as of a middle box, does not say that the repository is empty.
        if error.code != "NAME_UNKNOWN":
            raise
        if must_exist:
            message = "there is no such repository; check spec.repositories.include"
            raise NoSuchRepositoryError(message, error.code) from error
        tags = []
    gathering = _Gathering(client, repository, known, store, reading)
    try:
        inventory = await _gather(gathering, tags, needs(tags), concurrency)
    except RunError as error:
        error.listed = len(tags)
        await gathering.facts.save()  # the next run need not ask again for what was read
        raise
    await gathering.facts.save()
    return inventory


async def read_manifests(
    client: RegistryClient,
    repository: str,
    digests: Collection[Digest],
    known: Mapping[Digest, Manifest],
    concurrency: int,
) -> Mapping[Digest, Manifest]:
    """Return the facts of those of `digests` that the repository has, and of the indexes that they list."""
    gathering = _Gathering(client, repository, known, None)
    await for_each(sorted(digests), gathering.by_digest, concurrency)
    return gathering.inventory(frozenset()).manifests


async def _gather(gathering: _Gathering, tags: Collection[str], wanted: Needs, concurrency: int) -> Inventory:
    # A date takes a second step, but for what shares a digest or tells it otherwise: how many is known at the configs.
    gathering.reading.tags = len(tags)
    gathering.reading.wanted = 2 * len(wanted.dated) + len(wanted.read) + len(wanted.resolved)
    if await gathering.facts.warm():
        gathering.reading.wanted += len(wanted.dated) + len(wanted.read)
        await for_each(sorted(wanted.dated | wanted.read), gathering.named, concurrency)
        await for_each(await gathering.named_unread(), gathering.listed, concurrency)
    await for_each(sorted(wanted.dated), gathering.dated, concurrency)
    await for_each(sorted(wanted.read), gathering.read, concurrency)
    await for_each(sorted(wanted.resolved), gathering.resolved, concurrency)
    await for_each(await gathering.indexes_unread(), gathering.listed, concurrency)
    # Last: most of what is in use has a tag, and is known by now.
    await for_each(sorted(wanted.digests), gathering.by_digest, concurrency)
    if wanted.image_ids:
        await for_each(await gathering.platforms_unread(), gathering.listed, concurrency)
        await for_each(gathering.unknown(wanted.image_ids), gathering.by_image_id, concurrency)
    if wanted.young_after is not None:
        await for_each(await gathering.first_platforms(), gathering.platform, concurrency)
        await for_each(gathering.configs_wanted(), gathering.config, concurrency)
        gathering.settle_young(wanted.young_after)
    while gathering.goes_deeper:
        await for_each(await gathering.platforms_wanted(), gathering.platform, concurrency)
    configs = gathering.configs_wanted()
    gathering.reading.wanted = gathering.reading.done + len(configs)
    await for_each(configs, gathering.config, concurrency)
    return gathering.inventory(frozenset(tags) - wanted.dated - wanted.read - wanted.resolved)


class _Gathering:
    """What was found so far.

    Attributes:
        facts: what is remembered of the repository from earlier runs, and what is new.
        reading: counts what was read so far.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        known: Mapping[Digest, Manifest],
        store: FactStore | None,
        reading: Reading | None = None,
    ) -> None:
        self.reading = reading or Reading()
        self._client = client
        self._repository = repository
        self._known = known
        self._pool = Pool()
        self.facts = RepositoryFacts(store, client.server, repository, self._pool)
        self._named: dict[str, Descriptor] = {}
        self._tags: dict[str, Digest] = {}
        self._dangling: set[str] = set()
        self._manifests: dict[Digest, Manifest] = {}
        self._documents: dict[Digest, Document] = {}
        self._missing: set[Digest] = set()
        self._indexes: dict[Digest, None] = {}
        self._undated: dict[Digest, None] = {}
        self._asked: set[Digest] = set()
        self._next_level: dict[Digest, None] = {}
        self._level = 0

    async def named(self, tag: str) -> None:
        """Ask for the digest of `tag` alone, as its manifest may be remembered."""
        descriptor = await self._client.resolve(self._repository, tag)
        self.reading.done += 1
        # Whatever is odd about the answer, the manifest is read by the tag then.
        if descriptor is not None and descriptor.format is not Format.UNKNOWN:
            self._named[tag] = Descriptor(self._pool.digest(descriptor.digest), descriptor.format)

    async def named_unread(self) -> list[Digest]:
        """Return what tags name and nobody remembers, each once."""
        digests = dict.fromkeys(descriptor.digest for descriptor in self._named.values())
        await self.facts.load(digests)
        return [digest for digest in digests if self.facts.document(digest) is None]

    async def dated(self, tag: str) -> None:
        """Read the manifest of `tag`; its date follows once per digest."""
        await self.read(tag)
        if tag in self._tags:
            self._want_date(self._tags[tag])

    async def read(self, tag: str) -> None:
        """Read the manifest of `tag`, in one request with its digest."""
        document = self._named_document(tag) or await self._fetch(tag)
        self.reading.done += 1
        if document is None:
            self._dangling.add(tag)
            return
        await self._add(document)
        self._tags[tag] = document.manifest.digest

    async def resolved(self, tag: str) -> None:
        """Read the digest of `tag`; the manifest follows only if it is an index, whose children are kept with it."""
        descriptor = await self._client.resolve(self._repository, tag)
        self.reading.done += 1
        if descriptor is None:
            self._dangling.add(tag)
            return
        digest = self._tags[tag] = self._pool.digest(descriptor.digest)
        if descriptor.format is Format.INDEX:
            self._indexes[digest] = None
        elif digest not in self._known:
            self._manifests.setdefault(digest, Manifest(digest, descriptor.format, read=False))

    async def indexes_unread(self) -> list[Digest]:
        """Return the indexes that were resolved and have to be read, each once."""
        await self.facts.load(self._indexes)
        return list(self._indexes)

    async def listed(self, digest: Digest) -> None:
        """Read the manifest `digest`, which a tag or an index names, unless it is known or remembered."""
        if digest not in self._documents:
            await self._read(digest, 0)

    async def by_digest(self, digest: Digest) -> None:
        """Read the manifest `digest`, if the repository has it and nothing is known of it."""
        # Whether it is there matters, and is no fact: nobody looked up what is remembered of it.
        if digest not in self._manifests:
            await self._read(digest, 0)

    async def platforms_unread(self) -> list[Digest]:
        """Return the platforms of all indexes that were read, of which nothing is known yet, each once."""
        listed = (d.platforms for d in self._documents.values() if len(d.platforms) <= _MOST_PLATFORMS)
        unread = [child for child in dict.fromkeys(c for each in listed for c in each) if child not in self._manifests]
        await self.facts.load(unread)
        return unread

    def unknown(self, image_ids: Collection[Digest]) -> list[Digest]:
        """Return those of `image_ids` that are no manifest or config that is known."""
        known = {child for document in self._documents.values() for child in document.manifest.children}
        known |= {document.manifest.config for document in self._documents.values() if document.manifest.config}
        return sorted(set(image_ids) - known - self._manifests.keys())

    async def by_image_id(self, digest: Digest) -> None:
        """Read the manifest `digest`, if it is one that the repository has."""
        # Asked for a config as if it were a manifest, Distribution 2 answers 500. Whatever else such a fault may be,
        # the image is not found then, and that keeps all that would go.
        with suppress(ServerFaultError):
            await self.by_digest(digest)

    @property
    def goes_deeper(self) -> bool:
        """Whether there are indexes whose date is that of platforms not looked at yet."""
        return bool(self._next_level)

    async def first_platforms(self) -> list[Digest]:
        """Return of each index whose date is wanted the first platform, if it has to be read for it, each once."""
        return await self._undated_of([self._documents[index].platforms[:1] for index in self._next_level])

    def settle_young(self, after: datetime) -> None:
        """Be content with the dates of those indexes of which one platform is younger than any rule lets go."""
        platforms = {index: self._documents[index].platforms for index in self._next_level}
        for index, newest in young_by_a_platform(platforms, self._dated_before, after).items():
            self._manifests[index] = replace(self._manifests[index], created=newest, inferred=True)
            del self._undated[index], self._next_level[index]

    async def platforms_wanted(self) -> list[Digest]:
        """Go one level down; return the platforms there, each once, that have to be read."""
        platforms = [self._documents[index].platforms for index in self._next_level]
        self._next_level = {}
        self._level += 1
        return await self._undated_of(platforms)

    async def _undated_of(self, platforms: Iterable[tuple[Digest, ...]]) -> list[Digest]:
        """Return those of `platforms` that have to be read for their date; ask for the dates of those that were."""
        children = dict.fromkeys(child for each in platforms for child in each)
        unread: list[Digest] = []
        for child in children:
            if child in self._documents:
                self._want_date(child)
            elif child not in self._missing and self._dated_before(child) is None:
                unread.append(child)
        await self.facts.load(unread)
        return unread

    async def platform(self, digest: Digest) -> None:
        """Read a platform of an index whose date is wanted."""
        document = self.facts.document(digest) or await self._fetch(digest)
        if document is None:
            self._missing.add(digest)
            return
        await self._add(document, self._level)
        self._want_date(document.manifest.digest)

    def configs_wanted(self) -> list[Digest]:
        """Return the images whose config still has to be read for their date, each once."""
        images = [digest for digest in self._undated if self._manifests[digest].config is not None]
        return [digest for digest in images if digest not in self._asked]

    async def config(self, digest: Digest) -> None:
        """Read the config of the image `digest`: when it was created, and whether it is pinned."""
        manifest = self._manifests[digest]
        if manifest.config is None:
            return
        self._asked.add(digest)
        body = await self._client.config(self._repository, manifest.config)
        self.reading.done += 1
        if body is not None:
            config = read_config(body)
            self._date(manifest, config)
            await self.facts.learn_config(digest, config)

    def inventory(self, unresolved: frozenset[str]) -> Inventory:
        """Return all that was found."""
        for digest in self._undated:
            if self._manifests[digest].format is Format.INDEX:
                self._manifests[digest] = replace(self._manifests[digest], created=self._newest(digest), inferred=True)
        facts = {**self._known, **self._manifests}
        return Inventory(self._repository, self._tags, unresolved, frozenset(self._dangling), facts)

    async def _fetch(self, reference: str) -> Document | None:
        """Read a manifest at the registry, and remember it."""
        document = await self._client.manifest(self._repository, reference)
        if document is not None:
            document = self._pool.document(document)
            await self.facts.learn(document)
        return document

    def _named_document(self, tag: str) -> Document | None:
        """Return the manifest that `tag` was found to name, if it is the one that the registry says it is."""
        descriptor = self._named.pop(tag, None)
        if descriptor is None:
            return None
        document = self._documents.get(descriptor.digest) or self.facts.document(descriptor.digest)
        return document if document is not None and document.manifest.format is descriptor.format else None

    async def _read(self, digest: Digest, depth: int) -> None:
        """Read the manifest `digest` and the indexes below it, unless known or looked up."""
        if digest in self._documents or digest in self._known or digest in self._missing:
            return
        document = self.facts.document(digest) or await self._fetch(digest)
        if document is None:  # an index may list a platform that was never pushed here
            self._missing.add(digest)
        else:
            await self._add(document, depth)

    async def _add(self, document: Document, depth: int = 0) -> None:
        digest = document.manifest.digest
        if digest in self._documents:
            return
        if depth > _DEEPEST_INDEX:
            raise MalformedAnswerError(f"an index of {self._repository} nests deeper than {_DEEPEST_INDEX}")
        self._documents[digest] = document
        self._manifests[digest] = document.manifest
        for child in document.nested:
            await self._read(child, depth + 1)

    def _want_date(self, digest: Digest) -> None:
        """Ask for the date of a manifest that was read, unless it is known or would take too many requests."""
        manifest, before = self._manifests[digest], self._known.get(digest)
        if manifest.created is not None:
            return
        if before is not None and before.created is not None:
            self._date(manifest, Config(before.created, before.keep))
        elif (config := self.facts.config(digest)) is not None:
            self._date(manifest, config)
        elif digest not in self._undated:
            self._undated[digest] = None
            if len(self._documents[digest].platforms) <= _MOST_PLATFORMS:
                self._next_level[digest] = None

    def _date(self, manifest: Manifest, config: Config) -> None:
        """Take note of what the config of an image says."""
        keep = either_mark(manifest.keep, config.keep)
        self._manifests[manifest.digest] = replace(
            manifest, created=config.created, keep=keep, inferred=True, annotated=manifest.keep
        )

    def _dated_before(self, digest: Digest) -> datetime | None:
        """Return the date that is known of `digest` without asking."""
        facts = self._manifests.get(digest)
        if facts is None or facts.created is None:
            facts = self._known.get(digest)
        return None if facts is None else facts.created

    def _newest(self, index: Digest) -> datetime | None:
        """Return the newest date of an index's platforms, nested too; None if one of them is unknown."""
        newest: datetime | None = None
        pending, seen = [*self._documents[index].platforms], set[Digest]()
        if len(pending) > _MOST_PLATFORMS:
            return None
        while pending:
            child = pending.pop()
            if child in seen:
                continue
            seen.add(child)
            created = self._dated_before(child)
            if created is not None:
                newest = created if newest is None else max(newest, created)
                continue
            document = self._documents.get(child)
            if document is None or not document.platforms or len(document.platforms) > _MOST_PLATFORMS:
                return None
            pending.extend(document.platforms)
        return newest
