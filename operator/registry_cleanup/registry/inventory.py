"""Gathering one repository over `/v2/`, with no request that the rules do not need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.reference import Digest
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import MalformedAnswerError, NotFoundError
from registry_cleanup.registry.manifests import Document, parse_date

# Real indexes nest once; a registry that serves deeper ones is wrong or hostile.
_DEEPEST_INDEX = 8


async def gather(
    client: RegistryClient,
    repository: str,
    needs: Callable[[Collection[str]], Needs],
    known: Mapping[Digest, Manifest],
    concurrency: int,
    *,
    must_exist: bool,
) -> Inventory:
    """Return the repository whole, or raise the `RegistryError` of whatever part could not be read.

    Args:
        client: logged in with the policy's credential.
        repository: its name.
        needs: told the listed tags, says what has to be known of them.
        known: facts of digests that need not be fetched again.
        concurrency: requests at a time.
        must_exist: whether an unknown repository is an error; one from the catalogue may have been emptied.
    """
    try:
        tags = await client.tags(repository)
    except NotFoundError as error:
        # Any other 404, as of a middle box, does not say that the repository is empty.
        if error.code != "NAME_UNKNOWN":
            raise
        if must_exist:
            message = "there is no such repository; check spec.repositories.include"
            raise NotFoundError(message, error.code) from error
        tags = []
    wanted = needs(tags)
    gathering = _Gathering(client, repository, known)
    await for_each(sorted(wanted.dated), gathering.dated, concurrency)
    await for_each(sorted(wanted.resolved), gathering.resolved, concurrency)
    await for_each(gathering.dates_wanted(), gathering.date, concurrency)
    return gathering.inventory(frozenset(tags) - wanted.dated - wanted.resolved)


class _Gathering:
    """What was found so far."""

    def __init__(self, client: RegistryClient, repository: str, known: Mapping[Digest, Manifest]) -> None:
        self._client = client
        self._repository = repository
        self._known = known
        self._tags: dict[str, Digest] = {}
        self._dangling: set[str] = set()
        self._manifests: dict[Digest, Manifest] = {}
        self._documents: dict[Digest, Document] = {}
        self._undated: dict[Digest, None] = {}
        self._dates: dict[Digest, datetime | None] = {}

    async def dated(self, tag: str) -> None:
        """Read the manifest of `tag`; its date follows once per digest."""
        document = await self._client.manifest(self._repository, tag)
        if document is None:
            self._dangling.add(tag)
            return
        digest = document.manifest.digest
        self._tags[tag] = digest
        await self._add(document)
        if self._manifests[digest].created is None:
            self._undated[digest] = None

    async def resolved(self, tag: str) -> None:
        """Read the digest of `tag`, and the manifest only if it is an index, whose children are kept with it."""
        descriptor = await self._client.resolve(self._repository, tag)
        if descriptor is None:
            self._dangling.add(tag)
            return
        self._tags[tag] = descriptor.digest
        if descriptor.format is Format.INDEX:
            await self._read(descriptor.digest, 0)
        else:
            self._manifests.setdefault(descriptor.digest, Manifest(descriptor.digest, descriptor.format))

    def dates_wanted(self) -> list[Digest]:
        """Return the digests whose date still has to be read, each once."""
        return list(self._undated)

    async def date(self, digest: Digest) -> None:
        """Read when `digest` was created, if anything says so."""
        created = await self._created(self._documents[digest], 0)
        self._manifests[digest] = replace(self._manifests[digest], created=created)

    def inventory(self, unresolved: frozenset[str]) -> Inventory:
        """Return all that was found."""
        facts = {**self._known, **self._manifests}
        return Inventory(self._repository, self._tags, unresolved, frozenset(self._dangling), facts)

    async def _read(self, digest: Digest, depth: int) -> None:
        """Read the manifest `digest` and the indexes below it, unless known."""
        if digest in self._documents or digest in self._known:
            return
        document = await self._client.manifest(self._repository, digest)
        if document is not None:  # an index may list a platform that was never pushed here
            await self._add(document, depth)

    async def _add(self, document: Document, depth: int = 0) -> None:
        manifest = document.manifest
        if manifest.digest in self._documents:
            return
        if depth > _DEEPEST_INDEX:
            raise MalformedAnswerError(f"an index of {self._repository} nests deeper than {_DEEPEST_INDEX}")
        self._documents[manifest.digest] = document
        self._manifests[manifest.digest] = manifest
        for child in document.nested:
            await self._read(child, depth + 1)

    async def _created(self, document: Document, depth: int) -> datetime | None:
        """Return the date of an image by its config, of an index by its newest platform; None if unknown."""
        manifest = document.manifest
        known = self._known.get(manifest.digest)
        if known is not None and known.created is not None:
            return known.created
        if manifest.created is None and manifest.digest not in self._dates:
            config = document.config
            self._dates[manifest.digest] = (
                await self._newest(document.platforms, depth) if config is None else await self._configured(config)
            )
        return manifest.created or self._dates[manifest.digest]

    async def _configured(self, config: Digest) -> datetime | None:
        blob = await self._client.config(self._repository, config)
        return None if blob is None else parse_date(blob.get("created"))

    async def _newest(self, platforms: Iterable[Digest], depth: int) -> datetime | None:
        """Return the newest date of an index's platforms; None if one of them is unknown."""
        newest: datetime | None = None
        for child in platforms if depth <= _DEEPEST_INDEX else ():
            document = self._documents.get(child) or await self._client.manifest(self._repository, child)
            created = None if document is None else await self._created(document, depth + 1)
            if created is None:
                return None
            newest = created if newest is None else max(newest, created)
        return newest
