"""The login of a person at one registry: given with options, stored by Docker or Podman, or that of the kubeconfig."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from typing_extensions import override

from registry_cleanup.domain.docker_config import StoredKind
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.trust import Endpoint, Host, RegistryHosts, TrustedHosts
from registry_cleanup.logins.cluster import ClusterLogin
from registry_cleanup.logins.files import Found, StoredLogins
from registry_cleanup.logins.options import LoginOptions
from registry_cleanup.logins.words import Told, words_of
from registry_cleanup.ports import Credential, CredentialKind, CredentialSource, LoginWords, RunError

_KINDS = {
    StoredKind.PASSWORD: CredentialKind.PASSWORD,
    StoredKind.IDENTITY_TOKEN: CredentialKind.IDENTITY_TOKEN,
    StoredKind.REGISTRY_TOKEN: CredentialKind.TOKEN,
}
_SERVICES = ".svc"
_OTHER_CLUSTER = Failure(
    "OtherCluster",
    "this is OpenShift's registry, whose tags are image streams, and the cluster of the kubeconfig does not name it as "
    "its own: name its cluster with --context or --kubeconfig, or, where you may not read which one it names, say that "
    "it is its own with --token-host",
    mendable=True,
)


class PersonalLogin(CredentialSource):
    """What a person has for one registry; looked for when it is first wanted."""

    def __init__(
        self,
        options: LoginOptions,
        url: str | None,
        *,
        insecure: bool,
        environment: Mapping[str, str] = os.environ,
        cluster: ClusterLogin | None = None,
        namespace: str = "default",
        trusted: Sequence[Host] = (),
        of_policy: Sequence[str] = (),
        anonymous: bool = False,
    ) -> None:
        """Log in at a registry.

        Args:
            options: what the person says.
            url: where the registry is; None where the cluster says that.
            insecure: whether the policy says so, as the options may.
            environment: says where logins are stored.
            cluster: of the kubeconfig, if there is one.
            namespace: of the policy, in which the cluster may have the CA of its services.
            trusted: hosts that may receive the login besides, by the settings.
            of_policy: fields of the policy that name another login or CA, which is the operator's.
            anonymous: whether nothing is shown to it, whatever there is.
        """
        self._options = options
        self._url = url
        self._insecure = insecure
        self._cluster = cluster
        self._namespace = namespace
        self._allowed = (*map(Host.parse, options.token_hosts), *trusted)
        self._stored = StoredLogins(options.registry_config, environment)
        self._told = Told(url or "", tuple(of_policy))
        self._current: Credential | None = None
        self._known = anonymous
        self._confirmed = False
        self._looking = asyncio.Lock()
        self._hosts: RegistryHosts | None = None
        self.known_as: str | None = None
        """Host and port by which plans know the registry, where it is reached by another name."""

    @property
    @override
    def words(self) -> LoginWords:
        return words_of(self._told)

    async def registry_url(self) -> str:
        """Return where the registry is: as the policy says, else the cluster's own; raise `RunError`."""
        if self._url is None:
            self._url = await self._own_registry()
            self._told = replace(self._told, url=self._url)
        return self._url

    async def ca_bundle(self, registry: Endpoint) -> str | None:
        """Return PEM certificates that are believed besides the system's; raise `RunError`."""
        bundles = [self._options.ca_bundle]
        if self._cluster is not None and (self._hosts is not None or registry.host.endswith(_SERVICES)):
            bundles.append(await self._cluster.service_ca(self._namespace))
        return "\n".join(bundle for bundle in bundles if bundle) or None

    @override
    async def credential(self) -> Credential | None:
        async with self._looking:
            if not self._known:
                self._current = await self._find()
                self._known = True
            current = self._current
            if current is not None and current.kind is CredentialKind.KUBECONFIG and self._cluster is not None:
                # In a pod it is another one every hour; who has no token any more is told by the registry.
                self._current = replace(current, secret=await self._cluster.token() or current.secret)
            return self._current

    @override
    async def renew(self, refused: Credential) -> bool:
        if self._options.username is not None or self._current is None:
            return False
        async with self._looking:
            if self._current != refused:
                return True
            # What is the same when read again is wrong, and not old.
            if self._confirmed:
                return False
            self._current = await self._find()
            self._confirmed = self._current == refused
            return not self._confirmed

    async def expect_own_registry(self) -> None:
        """Raise `RunError` unless the registry is known to be that of the kubeconfig's cluster."""
        if self._cluster is None or self._url is None:
            raise RunError(_OTHER_CLUSTER)
        named = await self._named_by_cluster(self._cluster, Endpoint.of(self._url))
        credential = await self.credential()
        # A registry asks its own cluster whether a token is good.
        if not named and (credential is None or credential.secret != await self._cluster.token()):
            raise RunError(_OTHER_CLUSTER)

    async def _own_registry(self) -> str:
        """Return the URL of the registry that the cluster names."""
        if self._cluster is None:
            message = (
                "the policy leaves the registry to the cluster, and there is no cluster to ask: name one with "
                "--kubeconfig or --context, or write spec.registry.url"
            )
            raise RunError(Failure("NoCluster", message, mendable=True))
        hosts = self._hosts = await self._cluster.registry_hosts()
        if not hosts.all:
            message = (
                "you may read neither images.config.openshift.io/cluster nor an image stream, which name the cluster's "
                "registry; write spec.registry.url"
                if hosts.forbidden
                else "the policy leaves the registry to the cluster, and the cluster names none; write "
                "spec.registry.url, or name another cluster with --context"
            )
            raise RunError(Failure("NoInternalRegistry", message, mendable=True))
        url = f"https://{hosts.all[0]}"
        endpoint = Endpoint.of(url)
        if hosts.internal is None or not hosts.external or not endpoint.host.endswith(_SERVICES):
            return url
        if await _resolves(endpoint):
            return url
        # Outside the cluster only its route is reached; the plan is the operator's all the same.
        self.known_as = endpoint.host_port
        return f"https://{hosts.external[0]}"

    async def _find(self) -> Credential | None:
        endpoint = Endpoint.of(await self.registry_url())
        options = self._options
        trust = TrustedHosts.of([Host(endpoint.host), *self._allowed], allow_http=self._insecure or options.insecure)
        if options.username is not None and options.password is not None:
            self._told = replace(self._told, given=True)
            return Credential(CredentialKind.PASSWORD, options.username, options.password, trust)
        found = await self._stored.find(endpoint)
        self._told = replace(self._told, where=found.where, searched=found.searched, notes=())
        if found.login is not None:
            return Credential(_KINDS[found.login.kind], found.login.username, found.login.secret, trust)
        return await self._of_kubeconfig(endpoint, found)

    async def _of_kubeconfig(self, endpoint: Endpoint, found: Found) -> Credential | None:
        """Return the kubeconfig's token, if the registry is one that its cluster names."""
        if self._cluster is None or endpoint.scheme != "https":
            return None
        try:
            named = await self._named_by_cluster(self._cluster, endpoint)
            why_not = "" if named else await self._why_not(self._cluster, endpoint)
            token = await self._cluster.token() if named else None
        except RunError as error:
            # Whoever needs no login is not held up by a cluster that does not answer.
            self._note(f"the cluster of the kubeconfig could not be asked: {error.failure.message}")
            return None
        if not named:
            self._note(why_not)
            return None
        if token is None:
            self._note(
                "the kubeconfig logs in to the cluster without a token, such as by a client certificate: oc login, or "
                "give a token with --username and --password-stdin"
            )
            return None
        if self._insecure and not self._options.insecure:
            self._note("the policy accepts any certificate, and the kubeconfig's token goes there with --insecure only")
            return None
        self._told = replace(self._told, where="the kubeconfig", searched=found.searched)
        # Nothing that a person says for other logins widens where this one goes.
        trust = TrustedHosts.of(named, allow_http=False)
        return Credential(CredentialKind.KUBECONFIG, "kubeconfig", token, trust)

    async def _named_by_cluster(self, cluster: ClusterLogin, endpoint: Endpoint) -> Sequence[Host]:
        """Return the hosts that are the cluster's registry, if `endpoint` is among them; else none."""
        hosts = self._hosts = self._hosts or await cluster.registry_hosts()
        # A route without a port is one of https; another port of its host may be anybody's.
        named = [replace(host, port=host.port or 443) for host in map(Host.parse, hosts.all)]
        return named if any(host.covers(endpoint) for host in named) else []

    async def _why_not(self, cluster: ClusterLogin, endpoint: Endpoint) -> str:
        """Say, on OpenShift, why a registry does not get the kubeconfig's token."""
        if not await cluster.has_image_streams():
            return ""
        known = ", ".join(self._hosts.all) if self._hosts is not None else ""
        names = f"names {known} as its registry" if known else "does not tell you which registry is its own"
        return (
            f"the kubeconfig's cluster {names}, so its token is not sent to {endpoint.host_port}; if that is its own, "
            "give the token yourself: oc whoami -t | registry-cleanup ... --username x --password-stdin"
        )

    def _note(self, note: str) -> None:
        if note:
            self._told = replace(self._told, notes=(*self._told.notes, note))


async def _resolves(endpoint: Endpoint) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return True
