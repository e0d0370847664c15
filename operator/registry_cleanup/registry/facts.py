"""The facts of digests, remembered from one run to the next, so that only tags have to be asked again.

Facts are read out of content that was checked against its digest. They are kept by repository all the same: a registry
shows what a repository holds to those who may read there, and nobody shall learn, or come to depend on, what is in
those of others. That a manifest is not there is no fact: it may be pushed the next moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.reference import Digest
from registry_cleanup.registry.fact_rows import Fact
from registry_cleanup.registry.fact_store import FactStore, Scope
from registry_cleanup.registry.manifests import Config, Document, Pool

# So many are read or written at a time: some milliseconds of work, in a thread.
_BATCH = 500
# So many new facts wait at most to be written: they outlive a run that does not come to its end.
_MOST_UNSAVED = 500


class RepositoryFacts:
    """What is remembered of one repository, as far as somebody asked for it, and what is new.

    Without a store it remembers nothing, and costs nothing.
    """

    def __init__(self, store: FactStore | None, registry: str, repository: str, pool: Pool) -> None:
        """Remember in `store`, if there is one, facts of `repository` at `registry` (`host:port`)."""
        self._store = store
        self._scope: Final = Scope(registry, repository)
        self._pool = pool
        self._warm = False
        self._facts: dict[Digest, Fact] = {}
        self._unsaved: dict[Digest, None] = {}
        self._stale: set[Digest] = set()

    async def warm(self) -> bool:
        """Say whether anything is remembered of this repository, so that it is worth asking for digests first."""
        if self._store is not None:
            self._warm = await asyncio.to_thread(self._store.knows, self._scope)
        return self._warm

    async def load(self, digests: Collection[Digest]) -> None:
        """Look up what is remembered of `digests`, and of what they list without saying that it is an image."""
        if self._store is None or not self._warm:
            return
        wanted = [digest for digest in digests if digest not in self._facts]
        while wanted:
            batch, wanted = wanted[:_BATCH], wanted[_BATCH:]
            found = await asyncio.to_thread(self._store.load, self._scope, batch, self._pool)
            self._facts.update(found.facts)
            self._stale.update(found.stale)
            nested = (child for fact in found.facts.values() for child in fact.document.nested)
            wanted.extend(child for child in nested if child not in self._facts)

    def document(self, digest: Digest) -> Document | None:
        """Return what is remembered of the manifest `digest`, if it was looked up."""
        fact = self._facts.get(digest)
        return None if fact is None else fact.document

    def config(self, digest: Digest) -> Config | None:
        """Return what is remembered of the config of the image `digest`; None if it has to be read."""
        fact = self._facts.get(digest)
        return None if fact is None else fact.config

    async def learn(self, document: Document) -> None:
        """Remember a manifest that was read, whose content is what its digest says."""
        # Nobody checked the digest of what we do not understand.
        if self._store is not None and document.manifest.format is not Format.UNKNOWN:
            await self._remember(Fact(document, self.config(document.manifest.digest)))

    async def learn_config(self, digest: Digest, config: Config) -> None:
        """Remember what the config of the image `digest` says, be it nothing."""
        fact = self._facts.get(digest)
        if fact is not None:
            await self._remember(replace(fact, config=config))

    async def save(self) -> None:
        """Write down what is new, and that what was remembered is still of use."""
        if self._store is None:
            return
        unsaved, self._unsaved = list(self._unsaved), {}
        used, self._stale = list(self._stale.difference(unsaved)), set()
        for start in range(0, len(unsaved), _BATCH):
            facts = [self._facts[digest] for digest in unsaved[start : start + _BATCH]]
            await asyncio.to_thread(self._store.save, self._scope, facts)
        for start in range(0, len(used), _BATCH):
            await asyncio.to_thread(self._store.used, self._scope, used[start : start + _BATCH])

    async def _remember(self, fact: Fact) -> None:
        digest = fact.document.manifest.digest
        self._facts[digest] = fact
        self._unsaved[digest] = None
        if len(self._unsaved) >= _MOST_UNSAVED:
            await self.save()
