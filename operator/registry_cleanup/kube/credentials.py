"""What logs a policy in: from its Secret or ServiceAccount, with the hosts that each may be sent to."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.trust import Endpoint, Host, TrustedHosts
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NoAnswerError, NotThereError
from registry_cleanup.kube.spec import GROUP, ParsedPolicy
from registry_cleanup.ports import Clock, Credential, CredentialKind, CredentialSource, RunError

_REGISTRY_ANNOTATION = f"{GROUP}/registry"
_TOKEN_HOSTS_ANNOTATION = f"{GROUP}/token-hosts"
# The shortest lifetime that TokenRequest grants (openshift.md, 1).
_TOKEN_SECONDS = 600
_RENEW_BEFORE = timedelta(minutes=2)


class PolicyCredentials(CredentialSource):
    """The credential that one policy names; read when first wanted, renewed before it ends."""

    def __init__(
        self,
        api: KubernetesAPI,
        policy: ParsedPolicy,
        clock: Clock,
        trusted_token_hosts: Sequence[Host],
        service_account: str,
    ) -> None:
        """Read for `policy`; `service_account` is the operator's own, as `namespace:name`, for messages."""
        self._api = api
        self._policy = policy
        self._clock = clock
        self._trusted = tuple(trusted_token_hosts)
        self._grantee = service_account
        self._current: Credential | None = None

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
        return self._current

    async def ca_bundle(self) -> str | None:
        """Return the CA certificates that the policy names, None if it names none; raise `RunError`."""
        reference = self._policy.registry.ca_config_map_ref
        if reference is None:
            return None
        try:
            config_map = await self._api.config_map(self._policy.namespace, reference.name)
        except NotThereError as error:
            message = f"spec.registry.caConfigMapRef: there is no ConfigMap {reference.name!r} in this namespace"
            raise _mend("CAConfigMapNotFound", message) from error
        except ForbiddenError as error:
            raise self._not_granted("read ConfigMaps") from error
        except NoAnswerError as error:
            raise _passing(error) from error
        bundle = (config_map.data or {}).get(reference.key)
        if not bundle:
            message = f"spec.registry.caConfigMapRef: ConfigMap {reference.name!r} has no key {reference.key!r}"
            raise _mend("CAConfigMapInvalid", message)
        return str(bundle)

    async def _from_service_account(self, name: str) -> Credential:
        try:
            token, expires = await self._api.service_account_token(self._policy.namespace, name, _TOKEN_SECONDS)
            cluster_hosts = await self._api.openshift_registry_hosts()
        except NotThereError as error:
            message = f"spec.registry.serviceAccountName: there is no ServiceAccount {name!r} in this namespace"
            raise _mend("ServiceAccountNotFound", message) from error
        except ForbiddenError as error:
            raise self._not_granted("create tokens of ServiceAccounts") from error
        except NoAnswerError as error:
            raise _passing(error) from error
        hosts = [*(Host.parse(host) for host in cluster_hosts), *self._trusted]
        trust = TrustedHosts.of(hosts, allow_http=False)
        return Credential(CredentialKind.SERVICE_ACCOUNT, name, token, trust, expires)

    async def _from_secret(self, name: str) -> Credential:
        try:
            secret = await self._api.secret(self._policy.namespace, name)
        except NotThereError as error:
            message = f"spec.registry.secretRef: there is no Secret {name!r} in this namespace"
            raise _mend("SecretNotFound", message) from error
        except ForbiddenError as error:
            raise self._not_granted("read Secrets") from error
        except NoAnswerError as error:
            raise _passing(error) from error
        annotations = (secret.metadata.annotations if secret.metadata is not None else None) or {}
        endpoint = Endpoint.of(self._policy.registry.url)
        hosts = [Host(endpoint.host), *_listed(annotations.get(_TOKEN_HOSTS_ANNOTATION, "")), *self._trusted]
        trust = TrustedHosts.of(hosts, allow_http=self._policy.registry.insecure)
        data = {key: _decoded(str(value)) for key, value in (secret.data or {}).items()}
        if ".dockerconfigjson" in data:
            user, password = _from_docker_config(data[".dockerconfigjson"], endpoint, name)
            return Credential(CredentialKind.PASSWORD, user, password, trust)
        if not _names(annotations.get(_REGISTRY_ANNOTATION), endpoint):
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
        entry = next((entry for key, entry in auths.items() if _names(_bare(key), endpoint)), None)
        if entry is None:
            message = f"spec.registry.secretRef: Secret {name!r} has no entry for {endpoint.host_port}"
            raise _mend("SecretNotForThisRegistry", message)
        return _user_and_password(entry)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        message = f"spec.registry.secretRef: the .dockerconfigjson of Secret {name!r} cannot be read"
        raise _mend("SecretInvalid", message) from error


def _user_and_password(entry: Mapping[str, Any]) -> tuple[str, str]:
    if entry.get("auth"):
        user, separator, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not separator:
            raise ValueError("no colon")
        return user, password
    return str(entry["username"]), str(entry["password"])


def _bare(key: str) -> str:
    """Return host and port of a key of a Docker configuration, which may be a URL with a path."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _names(text: str | None, endpoint: Endpoint) -> bool:
    """Say whether `text` is exactly the host and port of `endpoint`; without a port it means the scheme's own."""
    try:
        host = Host.parse(text or "")
    except ValueError:
        return False
    return host.name == endpoint.host and (host.port or {"http": 80, "https": 443}[endpoint.scheme]) == endpoint.port


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


def _passing(error: NoAnswerError) -> RunError:
    return RunError(Failure("APIServerUnavailable", f"{error}; tried again later"))
