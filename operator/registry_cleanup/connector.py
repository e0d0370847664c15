"""Opening the registry of a policy, as what it turns out to be, with whatever login it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from kubernetes.aio import client

from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.tenancy import Bounds
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.spec import NotAllowedError, ParsedPolicy
from registry_cleanup.lanes import Gates, Lane, OwnLimits
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.listing import StreamLister
from registry_cleanup.openshift.registry import OpenShiftRegistry
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import Clock, CredentialSource, Lister, Observer, Registry, RegistryAddress, RunError
from registry_cleanup.registry.backend import DistributionRegistry, open_registry
from registry_cleanup.registry.fact_store import FactStore

_NOT_OPENSHIFT = Failure(
    "NotOpenShift",
    "spec.registry.type is OpenShift, or the registry looks like it, but registry and cluster do not both show "
    "OpenShift's signs (its login at the registry, image.openshift.io in the cluster); check url and type",
    mendable=True,
)

_NO_STREAMS = Failure("NotOpenShift", "the cluster has no image streams", mendable=True)


class Login(CredentialSource, Protocol):
    """How somebody gets into one registry: where it is, whose certificate is believed, and the credential."""

    async def registry_url(self) -> str:
        """Return where the registry is; raise `RunError` where nobody says."""

    async def ca_bundle(self, registry: Endpoint) -> str | None:
        """Return PEM certificates that are believed besides the system's; raise `RunError`."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The way to `image.openshift.io`.

    Attributes:
        client: shows the login's credential, and no other.
        account: whose rights hold there, for messages.
        host: by which plans know the registry, where it is reached by another name; None for the same.
    """

    client: client.ApiClient
    account: Subject
    host: str | None = None


OpenStreams = Callable[[], AbstractAsyncContextManager[Streams]]
"""Opens the way to image streams, when it turns out to be needed; raises `RunError` where there is none."""


class Connector:
    """Opens registries, within the limits of the process and of each policy."""

    def __init__(
        self,
        clock: Clock,
        bounds: Bounds,
        concurrent_requests: int,
        max_concurrency: int,
        max_requests_per_second: float = 0.0,
        observer: Observer | None = None,
        facts: FactStore | None = None,
    ) -> None:
        """Open registries that `bounds` allow.

        Args:
            clock: the time of day.
            bounds: of every policy.
            concurrent_requests: at a time, where a policy says nothing.
            max_concurrency: requests at a time at one registry, whatever policies say.
            max_requests_per_second: at one registry; 0 for any number.
            observer: is told of every request.
            facts: from earlier runs; None to ask for everything.
        """
        self.gates = Gates(max_concurrency, max_requests_per_second)
        self._clock = clock
        self._bounds = bounds
        self._concurrent_requests = concurrent_requests
        self._max_concurrency = max_concurrency
        self._observer = observer
        self._facts = facts

    @asynccontextmanager
    async def open(self, policy: ParsedPolicy, login: Login, streams: OpenStreams | Failure) -> AsyncIterator[Registry]:
        """Open the registry of `policy` with `login`; raise `RunError` where it lets nobody in, or is another kind.

        `streams` are for OpenShift's registry: how the same login gets at them, or why it cannot.
        """
        spec = policy.registry
        # Where the policy leaves the address to the cluster, it is known only now.
        url = await self._allowed(login, "spec.registry")
        address = RegistryAddress(
            url,
            spec.insecure,
            await login.ca_bundle(Endpoint.of(url)),
            spec.token_url,
            policy.policy.repositories.literals,
        )
        own = self._own_limits(policy)
        with self.gates.lane(Endpoint.of(url).server, policy.namespace, own) as lane:
            async with open_registry(
                address, login, self._clock, own.most, lane, observer=self._observer, facts=self._facts
            ) as registry:
                if registry.openshift:
                    # Its API server is no registry: only the policy's own limits hold there.
                    async with _image_streams(policy, registry, streams, own) as image_streams:
                        yield image_streams
                elif spec.type == "OpenShift":
                    raise RunError(_NOT_OPENSHIFT)
                else:
                    yield registry

    @asynccontextmanager
    async def open_lister(
        self, login: Login, streams: Callable[[], Awaitable[client.ApiClient | None]], *, insecure: bool
    ) -> AsyncIterator[Lister]:
        """Open a registry with `login` only to look at it; raise `RunError` where it lets nobody in.

        `streams` are asked for where it is OpenShift's: the way to the API server that serves them, if anybody knows.
        """
        url = await self._allowed(login, "the registry")
        address = RegistryAddress(url, insecure, await login.ca_bundle(Endpoint.of(url)))
        own = OwnLimits(min(self._concurrent_requests, self._max_concurrency))
        with self.gates.lane(Endpoint.of(url).server, "", own) as lane:
            async with open_registry(address, login, self._clock, own.most, lane, observer=self._observer) as registry:
                api_client = await streams() if registry.openshift else None
                if api_client is None:
                    yield registry.lister()
                else:
                    yield await self.stream_lister(api_client, registry.host)

    @asynccontextmanager
    async def open_plain(self, login: Login, *, insecure: bool) -> AsyncIterator[DistributionRegistry]:
        """Open a registry with `login` over `/v2/`, whatever else it is; raise `RunError` where it lets nobody in."""
        url = await self._allowed(login, "the registry")
        address = RegistryAddress(url, insecure, await login.ca_bundle(Endpoint.of(url)))
        own = OwnLimits(min(self._concurrent_requests, self._max_concurrency))
        with self.gates.lane(Endpoint.of(url).server, "", own) as lane:
            async with open_registry(address, login, self._clock, own.most, lane, observer=self._observer) as registry:
                yield registry

    async def stream_lister(self, api_client: client.ApiClient, called: str | None) -> Lister:
        """Return the image streams of a cluster, whose registry is `called` so; raise `RunError` where it has none."""
        own = OwnLimits(min(self._concurrent_requests, self._max_concurrency))
        api = ImageAPI(api_client, Lane(None, "", own))
        if not await api.available():
            raise RunError(_NO_STREAMS)
        return StreamLister(api, called, own.most)

    async def _allowed(self, login: Login, whose: str) -> str:
        """Return the registry's URL, if the settings allow it."""
        url = await login.registry_url()
        if (refusal := self._bounds.registry_refusal(Endpoint.of(url))) is not None:
            raise RunError(Failure(NotAllowedError.reason, f"{whose} {refusal}", mendable=True))
        return url

    def _own_limits(self, policy: ParsedPolicy) -> OwnLimits:
        limits = policy.policy.limits
        most = limits.max_concurrency or self._concurrent_requests
        return OwnLimits(min(most, self._max_concurrency), limits.requests_per_second or 0)


@asynccontextmanager
async def _image_streams(
    policy: ParsedPolicy, registry: DistributionRegistry, streams: OpenStreams | Failure, own: OwnLimits
) -> AsyncIterator[Registry]:
    """Open the image streams behind OpenShift's registry."""
    if isinstance(streams, Failure):
        raise RunError(streams)
    async with streams() as way:
        api = ImageAPI(way.client, Lane(None, policy.namespace, own))
        if not await api.available():
            raise RunError(_NOT_OPENSHIFT)
        yield OpenShiftRegistry(
            api, registry, policy.policy.repositories, policy.policy.tag_date, way.account, own.most, way.host
        )
