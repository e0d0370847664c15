"""Opening registries for people who only look: by address, or that of the kubeconfig's own cluster."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from kubernetes.aio import client

from registry_cleanup.connector import Connector
from registry_cleanup.domain.trust import Host
from registry_cleanup.kubeconfig import KubeconfigLogin
from registry_cleanup.logins.options import LoginOptions
from registry_cleanup.logins.personal import PersonalLogin
from registry_cleanup.ports import Lister, RunError
from registry_cleanup.registry.backend import DistributionRegistry


class Listers:
    """Opens registries with a person's login."""

    def __init__(
        self,
        connector: Connector,
        options: LoginOptions,
        trusted: Sequence[Host],
        house: Callable[[Sequence[str]], KubeconfigLogin] | None,
    ) -> None:
        """Log in as `options` say.

        Args:
            connector: opens connections.
            options: of the person.
            trusted: hosts that may receive the login besides, by the settings.
            house: returns what the kubeconfig gives to logins, told in which namespaces there may be image streams;
                None without a cluster.
        """
        self._connector = connector
        self._options = options
        self._trusted = trusted
        self._house = house

    @asynccontextmanager
    async def open(self, urls: Sequence[str], namespace: str | None) -> AsyncIterator[Lister]:
        """Open the registry at the first of `urls` that answers; raise `RunError`.

        On OpenShift `namespace` is one whose image streams the person may see.
        """
        house = None if self._house is None else self._house([namespace] if namespace else [])
        async with AsyncExitStack() as stack:
            yield await self._first(stack, urls, house)

    @asynccontextmanager
    async def open_own(self, namespace: str | None) -> AsyncIterator[Lister | None]:
        """Open the image streams of the kubeconfig's cluster; None without one; raise `RunError` where it has none."""
        if self._house is None:
            yield None
            return
        house = self._house([namespace] if namespace else [])
        lister = await self._connector.stream_lister(house.client, None)
        hosts = await house.registry_hosts()
        if named := (*hosts.external, *hosts.all):
            lister = await self._connector.stream_lister(house.client, named[0])
        yield lister

    @asynccontextmanager
    async def open_plain(self, url: str) -> AsyncIterator[DistributionRegistry]:
        """Open the registry at `url` over `/v2/`; raise `RunError`."""
        login = PersonalLogin(self._options, url, insecure=False, cluster=None, trusted=self._trusted)
        async with self._connector.open_plain(login, insecure=self._options.insecure) as registry:
            yield registry

    async def _first(self, stack: AsyncExitStack, urls: Sequence[str], house: KubeconfigLogin | None) -> Lister:
        url, *others = urls
        login = PersonalLogin(self._options, url, insecure=False, cluster=house, trusted=self._trusted)

        async def streams() -> client.ApiClient | None:
            """Return the way to the cluster, as long as the registry is known to be its own."""
            if house is None:
                return None
            try:
                await login.expect_own_registry()
            except RunError:
                return None  # what `/v2/` tells is true of any registry
            return house.client

        try:
            return await stack.enter_async_context(
                self._connector.open_lister(login, streams, insecure=self._options.insecure)
            )
        except RunError as error:
            if not others or error.failure.reachable is not False:
                raise
            try:
                return await self._first(stack, others, house)
            except RunError as other:
                # Of two addresses that both fail, the one that people mean: where no TLS is spoken, that is http.
                if other.failure.reachable is not False or _speaks_no_tls(error):
                    raise
                also = f"{error.failure.message}; nor did {others[0]} answer: {other.failure.message.partition(';')[0]}"
                raise RunError(replace(error.failure, message=also), error.code) from error


def _speaks_no_tls(error: RunError) -> bool:
    """Say whether something answered that is no TLS, and not only a certificate that nobody trusts."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None and not isinstance(cause, ssl.SSLCertVerificationError)
