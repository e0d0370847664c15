"""What logs a policy in: from its Secret or ServiceAccount, with the hosts that each may be sent to."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from typing_extensions import override

from registry_cleanup.domain.docker_config import bare, names, user_and_password
from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.tenancy import TRUSTED_TOKEN_HOSTS
from registry_cleanup.domain.trust import Endpoint, Host, TrustedHosts
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NoAnswerError, NotThereError
from registry_cleanup.kube.expiry import stated_expiry
from registry_cleanup.kube.spec import GROUP, ParsedPolicy
from registry_cleanup.ports import Clock, Credential, CredentialKind, CredentialSource, RunError

_REGISTRY_ANNOTATION = f"{GROUP}/registry"
_TOKEN_HOSTS_ANNOTATION = f"{GROUP}/token-hosts"
# The shortest lifetime that TokenRequest grants (openshift.md, 1).
_TOKEN_SECONDS = 600
_RENEW_BEFORE = timedelta(minutes=2)
_CONFIRMED_FOR = timedelta(seconds=10)
# OpenShift puts the CA of its services into each namespace (registries.md, 6).
SERVICE_CA, SERVICE_CA_KEY = "openshift-service-ca.crt", "service-ca.crt"
_HOSTS_ROLE = "registry-cleanup-registry-hosts"
_NO_REGISTRY = (
    "the cluster names no registry of its own (images.config.openshift.io/cluster has no internalRegistryHostname; is "
    "its managementState Removed?); write spec.registry.url"
)


class PolicyCredentials(CredentialSource):
    """The credential that one policy names; read when first wanted, renewed before it ends."""

    def __init__(
        self,
        api: KubernetesAPI,
        policy: ParsedPolicy,
        clock: Clock,
        trusted_token_hosts: Sequence[Host],
        service_account: str,
        tell_expiry: Callable[[datetime | None], None] = lambda _: None,
    ) -> None:
        """Read for `policy`.

        Args:
            api: where from.
            policy: whose.
            clock: the time of day.
            trusted_token_hosts: by the operator's settings.
            service_account: the operator's own, as `namespace:name`, for messages.
            tell_expiry: told when the token of a Secret ends, as it says itself; None where it says nothing.
        """
        self._api = api
        self._policy = policy
        self._clock = clock
        self._trusted = tuple(trusted_token_hosts)
        self._grantee = service_account
        self._tell_expiry = tell_expiry
        self._current: Credential | None = None
        self._renewing = asyncio.Lock()
        self._confirmed: datetime | None = None

    @override
    async def credential(self) -> Credential | None:
        current = self._current
        if current is not None and (current.expires is None or current.expires - _RENEW_BEFORE > self._clock.now()):
            return current
        registry = self._policy.registry
        if registry.service_account_name is not None:
            self._current = await self._from_service_account(registry.service_account_name)
        elif registry.secret_ref is not None:
            self._current = await self._from_secret(registry.secret_ref.name)
        # Other tokens than those of Secrets are renewed in time.
        current = self._current if registry.secret_ref is not None else None
        self._tell_expiry(stated_expiry(current.secret) if current is not None else None)
        return self._current

    @override
    async def renew(self, refused: Credential) -> bool:
        # A ServiceAccount's token is renewed in time, and a fresh one has no other rights.
        if self._policy.registry.secret_ref is None:
            return False
        async with self._renewing:
            if self._current != refused:
                return True
            # A registry that grants little refuses often: the same Secret is not read for each refusal.
            now = self._clock.now()
            if self._confirmed is not None and timedelta(0) <= now - self._confirmed < _CONFIRMED_FOR:
                return False
            self._current = None
            if await self.credential() != refused:
                return True
            self._confirmed = now
            return False

    async def registry_url(self) -> str:
        """Return where the registry is: as the policy says, else OpenShift's own; raise `RunError`."""
        if self._policy.registry.url is not None:
            return self._policy.registry.url
        nothing = ("NoInternalRegistry", _NO_REGISTRY)
        async with self._explained(nothing, "read images.config.openshift.io/cluster"):
            hosts = await self._api.openshift_registry()
        if hosts.forbidden:
            raise self._hosts_forbidden("; or write spec.registry.url, and let that setting name its host")
        if hosts.internal is None:
            raise _mend(*nothing)
        return f"https://{hosts.internal}"

    async def ca_bundle(self, registry: Endpoint) -> str | None:
        """Return the CA certificates that the policy names, or those of OpenShift's services; raise `RunError`."""
        reference = self._policy.registry.ca_config_map_ref
        if reference is None:
            return await self._service_ca(registry)
        missing = (
            "CAConfigMapNotFound",
            f"spec.registry.caConfigMapRef: there is no ConfigMap {reference.name!r} in this namespace",
        )
        async with self._explained(missing, "read ConfigMaps"):
            config_map = await self._api.config_map(self._policy.namespace, reference.name)
        bundle = (config_map.data or {}).get(reference.key)
        if not bundle:
            message = f"spec.registry.caConfigMapRef: ConfigMap {reference.name!r} has no key {reference.key!r}"
            raise _mend("CAConfigMapInvalid", message)
        return str(bundle)

    async def _service_ca(self, registry: Endpoint) -> str | None:
        """Return the CA of OpenShift's services, where the registry is the one that the cluster names by itself."""
        if self._policy.registry.url is not None and not registry.host.endswith(".svc"):
            return None
        missing = ("CAConfigMapNotFound", f"OpenShift's ConfigMap {SERVICE_CA!r} is not in this namespace")
        try:
            async with self._explained(missing, "read ConfigMaps"):
                config_map = await self._api.config_map(self._policy.namespace, SERVICE_CA)
        except RunError as error:
            if error.failure.reason == missing[0]:
                return None  # a certificate that is not believed then says what to do
            raise
        return (config_map.data or {}).get(SERVICE_CA_KEY)

    async def _from_service_account(self, name: str) -> Credential:
        missing = (
            "ServiceAccountNotFound",
            f"spec.registry.serviceAccountName: there is no ServiceAccount {name!r} in this namespace",
        )
        async with self._explained(missing, "create tokens of ServiceAccounts"):
            token, expires = await self._api.service_account_token(self._policy.namespace, name, _TOKEN_SECONDS)
            cluster = await self._api.openshift_registry()
        if cluster.forbidden:
            registry = Endpoint.of(await self.registry_url())
            if not any(host.covers(registry) for host in self._trusted):
                raise self._hosts_forbidden("")
        hosts = [*(Host.parse(host) for host in cluster.all), *self._trusted]
        trust = TrustedHosts.of(hosts, allow_http=False)
        return Credential(CredentialKind.SERVICE_ACCOUNT, name, token, trust, expires)

    async def _from_secret(self, name: str) -> Credential:
        missing = ("SecretNotFound", f"spec.registry.secretRef: there is no Secret {name!r} in this namespace")
        async with self._explained(missing, "read Secrets"):
            secret = await self._api.secret(self._policy.namespace, name)
        annotations = (secret.metadata.annotations if secret.metadata is not None else None) or {}
        endpoint = Endpoint.of(await self.registry_url())
        hosts = [Host(endpoint.host), *_listed(annotations.get(_TOKEN_HOSTS_ANNOTATION, "")), *self._trusted]
        trust = TrustedHosts.of(hosts, allow_http=self._policy.registry.insecure)
        data = {key: _decoded(str(value)) for key, value in (secret.data or {}).items()}
        if ".dockerconfigjson" in data:
            user, password = _from_docker_config(data[".dockerconfigjson"], endpoint, name)
            return Credential(CredentialKind.PASSWORD, user, password, trust)
        if not names(annotations.get(_REGISTRY_ANNOTATION), endpoint):
            message = (
                f"spec.registry.secretRef: Secret {name!r} does not name this registry; its owner allows it with: "
                f"kubectl annotate secret {name} -n {self._policy.namespace} "
                f"{_REGISTRY_ANNOTATION}={endpoint.host_port}"
            )
            raise _mend("SecretNotForThisRegistry", message)
        if "token" in data:
            return Credential(CredentialKind.TOKEN, "token", data["token"].strip(), trust)
        if "username" in data and "password" in data:
            return Credential(CredentialKind.PASSWORD, data["username"], data["password"], trust)
        message = (
            f"spec.registry.secretRef: Secret {name!r} holds no .dockerconfigjson, no token, no username and password"
        )
        raise _mend("SecretInvalid", message)

    @asynccontextmanager
    async def _explained(self, missing: tuple[str, str], right: str) -> AsyncIterator[None]:
        """Turn what the API server refuses into what a person is told: reason and message of what is missing."""
        try:
            yield
        except NotThereError as error:
            raise _mend(*missing) from error
        except ForbiddenError as error:
            raise self._not_granted(right) from error
        except NoAnswerError as error:
            raise RunError(Failure("APIServerUnavailable", f"{error}; tried again later")) from error

    def _hosts_forbidden(self, more: str) -> RunError:
        return _mend(
            "RegistryHostsForbidden",
            "the operator may not read images.config.openshift.io/cluster, which names the hosts of the cluster's own "
            f"registry, and its setting {TRUSTED_TOKEN_HOSTS} names none: an administrator of the cluster adds the "
            f"host to that setting, or allows it with: kubectl create clusterrolebinding {_HOSTS_ROLE} "
            f"--clusterrole={_HOSTS_ROLE} --serviceaccount={self._grantee}{more}",
        )

    def _not_granted(self, what: str) -> RunError:
        namespace = self._policy.namespace
        return _mend(
            "CredentialsNotGranted",
            f"the operator may not {what} in namespace {namespace!r}; an administrator of it allows that with: "
            f"kubectl create rolebinding registry-cleanup-credentials --clusterrole=registry-cleanup-credentials "
            f"--serviceaccount={self._grantee} -n {namespace}",
        )


def _from_docker_config(text: str, endpoint: Endpoint, name: str) -> tuple[str, str]:
    """Return user and password that a `.dockerconfigjson` has for exactly this host and port."""
    try:
        auths = json.loads(text)["auths"]
        entry = next((entry for key, entry in auths.items() if names(bare(key), endpoint)), None)
        if entry is None:
            message = f"spec.registry.secretRef: Secret {name!r} has no entry for {endpoint.host_port}"
            raise _mend("SecretNotForThisRegistry", message)
        return user_and_password(entry)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        message = f"spec.registry.secretRef: the .dockerconfigjson of Secret {name!r} cannot be read"
        raise _mend("SecretInvalid", message) from error


def _listed(text: str) -> list[Host]:
    hosts = []
    for part in text.replace(",", " ").split():
        try:
            hosts.append(Host.parse(part))
        except ValueError as error:
            message = f"a Secret's annotation {_TOKEN_HOSTS_ANNOTATION} must list host[:port], separated by commas"
            raise _mend("SecretInvalid", message) from error
    return hosts


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _mend(reason: str, message: str) -> RunError:
    return RunError(Failure(reason, message, mendable=True))
