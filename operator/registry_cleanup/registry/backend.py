"""A registry that is worked on over `/v2/` alone: Docker Distribution and its like, IBM Cloud Private."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from typing_extensions import override

from registry_cleanup.domain.copies import Undoable
from registry_cleanup.domain.course import Readings
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, UntaggedOutcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Aftermath
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.domain.undoing import UndoOutcome
from registry_cleanup.ports import (
    Clock,
    Contents,
    CopyStore,
    CredentialSource,
    Keep,
    Lister,
    Observer,
    Passage,
    Proceed,
    Registry,
    RegistryAddress,
)
from registry_cleanup.registry.artifacts import ArtifactCopies
from registry_cleanup.registry.auth import Authenticator
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.copier import Copier
from registry_cleanup.registry.deleter import Deleter
from registry_cleanup.registry.deletion import Pruning
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.registry.inventory import gather
from registry_cleanup.registry.listing import RegistryLister
from registry_cleanup.registry.probe import probe
from registry_cleanup.registry.pushing import Pusher
from registry_cleanup.registry.restoring import Restoring
from registry_cleanup.registry.tls import tls_context
from registry_cleanup.registry.transport import USUAL_LIMITS, Limits, Transport


@asynccontextmanager
async def open_registry(
    address: RegistryAddress,
    source: CredentialSource,
    clock: Clock,
    concurrency: int,
    passage: Passage,
    limits: Limits = USUAL_LIMITS,
    observer: Observer | None = None,
    facts: FactStore | None = None,
) -> AsyncIterator[DistributionRegistry]:
    """Log in to the registry at `address` and close its connections in the end.

    Args:
        address: where it is.
        source: of the credential.
        clock: the time of day.
        concurrency: so many requests may be worth sending at a time.
        passage: that every request passes.
        limits: of one request.
        observer: is told of every request.
        facts: from earlier runs, and for later ones; None to ask for everything.

    Raises:
        RunError: it cannot be reached, or does not accept the credential.
    """
    transport = Transport(
        clock,
        tls_context(insecure=address.insecure, ca_bundle=address.ca_bundle, no_certificate=source.words.no_certificate),
        passage,
        max_connections=concurrency,
        limits=limits,
        observer=observer,
        words=source.words,
    )
    try:
        auth = Authenticator(transport, Endpoint.of(address.url), source, clock, address.token_url)
        client = RegistryClient(address.url, transport, auth)
        await client.ping()
        yield DistributionRegistry(client, clock, address, concurrency, facts)
    finally:
        await transport.close()


class DistributionRegistry(Registry):
    """The port `Registry` over `/v2/`."""

    def __init__(
        self,
        client: RegistryClient,
        clock: Clock,
        address: RegistryAddress,
        concurrency: int,
        facts: FactStore | None = None,
    ) -> None:
        self._facts = facts
        self._client = client
        self._clock = clock
        self._endpoint = Endpoint.of(address.url)
        self._literals = frozenset(address.repositories or ())
        self._concurrency = concurrency
        self._readings = Readings()

    @property
    @override
    def host(self) -> str:
        return self._endpoint.host_port

    async def takes_pushes(self, repository: str) -> bool:
        """Say whether anything can be pushed; raise `RunError` where the registry does not say."""
        return await Pusher(self._client).is_taken(repository)

    @property
    @override
    def claimed_as(self) -> str:
        return self._endpoint.server

    @property
    @override
    def requests(self) -> int:
        return self._client.requests

    @property
    @override
    def readings(self) -> Readings:
        return self._readings

    @override
    async def clock_offset(self) -> timedelta | None:
        return self._client.clock_offset

    @override
    async def repositories(self) -> Sequence[str]:
        return sorted(self._literals) if self._literals else await self._client.repositories()

    @property
    @override
    def parallel(self) -> int:
        return 1  # Distribution 2 looks up every tag on each deletion: more at a time only wait longer (performance.md)

    @override
    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        return await probe(self._client, repositories[0])

    @property
    def openshift(self) -> bool:
        """Whether this is the `/v2/` side of OpenShift's integrated registry, where tags are not deleted."""
        return self._client.openshift

    def lister(self) -> Lister:
        """Return the same registry as a person sees it who only looks."""
        return RegistryLister(self._client, self.host, self._concurrency)

    async def unlink(self, repository: str, digest: Digest) -> None:
        """Delete the manifest `digest`, which nothing refers to any more; raise `RegistryError` if it stays."""
        await self._client.delete(repository, digest)

    @override
    async def aftermath(self) -> Aftermath | None:
        return None

    @override
    async def inventory(
        self,
        repository: str,
        needs: Callable[[Collection[str]], Needs],
        known: Mapping[Digest, Manifest],
    ) -> Inventory:
        with self._readings.one() as reading:
            return await gather(
                self._client,
                repository,
                needs,
                known,
                self._concurrency,
                must_exist=repository in self._literals,
                store=self._facts,
                reading=reading,
            )

    @override
    def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        deleter = Deleter(self._client, plan.repository, self._clock, proceed, self._concurrency)
        copier = Copier(self._client, plan.repository, keep, self._concurrency)
        return Pruning(deleter, plan, deletion.unit, copier).outcomes()

    @override
    def copies_in(self, repository: str, policy: str) -> CopyStore | None:
        return ArtifactCopies(self._client, repository, policy)

    @override
    def restore(
        self, copies: Undoable, contents: Contents, *, force: bool, dry_run: bool
    ) -> AsyncGenerator[UndoOutcome, None]:
        return Restoring(self._client, copies, contents, self._concurrency, force=force, dry_run=dry_run).outcomes()
