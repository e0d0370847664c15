"""The few calls that the operator makes to the Kubernetes API, with foreign errors translated.

APIError
├── NotThereError    404, or another object of the same name
├── ForbiddenError   403: the operator's ServiceAccount lacks a right
├── ConflictError    409: somebody else was there first
├── RefusedError     422: the object is not what it may be
├── BarredError      nothing was sent: another operator may work by now
└── NoAnswerError    no connection, a time limit, 429 or 5xx: may pass
    └── UnauthorizedError    401: the credential is not accepted, or not any more
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import stamina
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from registry_cleanup.domain.run import Phase
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.kube.spec import GROUP, PLURAL, VERSION
from registry_cleanup.ports import Objection, no_objection

REQUEST_LIMIT = 20.0
_LEASES = ("coordination.k8s.io", "v1")
# Of what the API server says.
_LONGEST_MESSAGE = 300
_LONGEST_REFUSAL = 2000
# That of manifests/base/rbac.yaml.
_POLICIES_RULE = f"{{apiGroups: [{GROUP}], resources: [{PLURAL}], verbs: [get, list, watch]}}"


class APIError(Exception):
    """The API server did not do what was asked."""


class NotThereError(APIError):
    """404, or an object of the same name and another UID."""


class ForbiddenError(APIError):
    """403; the message is the API server's."""


class ConflictError(APIError):
    """409."""


class RefusedError(APIError):
    """422; the message is the API server's."""


class BarredError(APIError):
    """Nothing was sent, since this operator may not change anything any more; the message says why."""


class NoAnswerError(APIError):
    """Nothing that can be relied upon; may pass."""


class UnauthorizedError(NoAnswerError):
    """401; may pass, as a ServiceAccount's token is renewed in time."""


@dataclass(frozen=True, slots=True)
class Read:
    """An object as read, and the API server's clock at that moment (None if it does not tell)."""

    body: dict[str, Any]
    date: datetime | None


class KubernetesAPI:
    """What the operator asks of the API server, with the rights of its own ServiceAccount."""

    def __init__(self, api_client: client.ApiClient, objection: Objection = no_objection) -> None:
        """Ask through `api_client`, and change nothing while there is an objection: that raises `BarredError`."""
        self._objection = objection
        self._custom = client.CustomObjectsApi(api_client)
        self._core = client.CoreV1Api(api_client)
        self._apis = client.ApisApi(api_client)
        self._versions = client.VersionApi(api_client)

    async def lists_policies(self) -> bool:
        """Say whether the API server's discovery names the resource, which is where kopf looks for it, once."""
        groups = await call(self._apis.get_api_versions(_request_timeout=REQUEST_LIMIT))
        if all(group.name != GROUP for group in groups.groups):
            return False
        try:
            listed = await call(self._custom.get_api_resources(GROUP, VERSION, _request_timeout=REQUEST_LIMIT))
        except NotThereError:
            return False
        return any(resource.name == PLURAL for resource in listed.resources)

    async def policies_can_be_listed(self, namespaces: Sequence[str] = ()) -> None:
        """Raise where policies are not served, or may not be listed in these namespaces, or in the cluster."""
        limits: dict[str, Any] = {"limit": 1, "_request_timeout": REQUEST_LIMIT}
        if not namespaces:
            await call(self._custom.list_cluster_custom_object(GROUP, VERSION, PLURAL, **limits))
        for namespace in namespaces:
            await call(self._custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, **limits))

    async def policy(self, namespace: str, name: str) -> Read:
        """Return a policy as it is now."""
        answer = await call(
            self._custom.get_namespaced_custom_object_with_http_info(
                GROUP, VERSION, namespace, PLURAL, name, _request_timeout=REQUEST_LIMIT
            )
        )
        return Read(answer.data, _date((answer.headers or {}).get("Date")))

    async def date(self) -> datetime | None:
        """Return the API server's clock, which it tells also to whom it tells nothing else; None without an answer."""
        try:
            answer = await self._versions.get_code_with_http_info(_request_timeout=REQUEST_LIMIT)
        except ApiException as error:
            return _date((error.headers or {}).get("Date"))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return _date((answer.headers or {}).get("Date"))

    async def annotate(
        self, namespace: str, body: Mapping[str, Any], name: str, value: str | None, *, plan: str | None = None
    ) -> None:
        """Set an annotation of the policy that was read as `body`, or take it away.

        The API server tests, as it writes, that it is the same policy, and that its status still has the `plan` of this
        hash, where one is given.

        Raises:
            RefusedError: something of that is not so any more; read again.
            ForbiddenError: with the whole message of the API server, which says what an admission policy wants.
        """
        self._may_write()
        metadata = body["metadata"]
        annotations = metadata.get("annotations")
        patch: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/uid", "value": metadata["uid"]}]
        if plan is not None:
            patch.append({"op": "test", "path": "/status/plan/hash", "value": plan})
        path = f"/metadata/annotations/{name.replace('~', '~0').replace('/', '~1')}"
        if value is None:
            patch.append({"op": "remove", "path": path})
        elif annotations is None:
            # Whoever was faster with a first annotation must not lose it.
            version = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
            patch += [version, {"op": "add", "path": "/metadata/annotations", "value": {name: value}}]
        else:
            patch.append({"op": "add", "path": path, "value": value})
        await call(
            self._custom.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                metadata["name"],
                patch,
                _content_type="application/json-patch+json",
                _request_timeout=REQUEST_LIMIT,
            ),
            _LONGEST_REFUSAL,
        )

    async def replace_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        """Replace the whole status of the policy with this UID, trying for minutes.

        A JSON patch does that in one request, and fails on a policy of the same name that came later. The API server
        applies it to the resource as it is then; a conflict means that it gave up on others who write, and passes.
        """
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        may_pass = (NoAnswerError, ConflictError)
        async for attempt in stamina.retry_context(on=may_pass, attempts=None, timeout=180, wait_max=15):
            with attempt:
                await self._patch_status(namespace, name, patch)

    async def show_progress(self, namespace: str, name: str, uid: str, run: str, progress: dict[str, Any]) -> None:
        """Show where the run `run` of the policy with this UID is, if status still says that it is under way.

        The API server tests that as it writes: a patch that is overtaken by the end of the run, or by another operator,
        has no effect whenever it arrives. It is sent once.
        """
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/status/lastRun/id", "value": run},
            {"op": "test", "path": "/status/lastRun/phase", "value": Phase.RUNNING.value},
            {"op": "add", "path": "/status/lastRun/progress", "value": progress},
        ]
        await self._patch_status(namespace, name, patch)

    async def _patch_status(self, namespace: str, name: str, patch: list[dict[str, Any]]) -> None:
        self._may_write()
        try:
            await call(
                self._custom.patch_namespaced_custom_object_status(
                    GROUP,
                    VERSION,
                    namespace,
                    PLURAL,
                    name,
                    patch,
                    _content_type="application/json-patch+json",
                    _request_timeout=REQUEST_LIMIT,
                )
            )
        except RefusedError as error:
            raise NotThereError(str(error)) from error  # a test of the patch failed

    async def secret(self, namespace: str, name: str) -> client.V1Secret:
        """Return a Secret."""
        secret: client.V1Secret = await call(
            self._core.read_namespaced_secret(name, namespace, _request_timeout=REQUEST_LIMIT)
        )
        return secret

    async def config_map(self, namespace: str, name: str) -> client.V1ConfigMap:
        """Return a ConfigMap."""
        config_map: client.V1ConfigMap = await call(
            self._core.read_namespaced_config_map(name, namespace, _request_timeout=REQUEST_LIMIT)
        )
        return config_map

    async def config_map_data(self, namespace: str, name: str) -> dict[str, str]:
        """Return the texts of a ConfigMap."""
        return dict((await self.config_map(namespace, name)).data or {})

    async def create_config_map(self, namespace: str, config_map: client.V1ConfigMap) -> None:
        """Create a ConfigMap; raises `ConflictError` where there is one of that name."""
        self._may_write()
        await call(self._core.create_namespaced_config_map(namespace, config_map, _request_timeout=REQUEST_LIMIT))

    async def replace_config_map(self, namespace: str, name: str, config_map: client.V1ConfigMap) -> None:
        """Replace a ConfigMap that was read; raises `ConflictError` where somebody else changed it since."""
        self._may_write()
        await call(
            self._core.replace_namespaced_config_map(name, namespace, config_map, _request_timeout=REQUEST_LIMIT)
        )

    async def service_account_token(self, namespace: str, name: str, seconds: int) -> tuple[str, datetime]:
        """Return a token of a ServiceAccount for the API server's audience, and when it ends (TokenRequest)."""
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=seconds)
        )
        answer = await call(
            self._core.create_namespaced_service_account_token(name, namespace, request, _request_timeout=REQUEST_LIMIT)
        )
        return answer.status.token, answer.status.expiration_timestamp

    # The Lease, which is held while there is an objection to everything else

    async def lease(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a Lease."""
        lease: dict[str, Any] = await call(
            self._custom.get_namespaced_custom_object(*_LEASES, namespace, "leases", name)
        )
        return lease

    async def create_lease(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Lease and return it."""
        lease: dict[str, Any] = await call(
            self._custom.create_namespaced_custom_object(*_LEASES, namespace, "leases", body)
        )
        return lease

    async def replace_lease(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace the Lease of the resourceVersion that `body` names, and return it."""
        lease: dict[str, Any] = await call(
            self._custom.replace_namespaced_custom_object(*_LEASES, namespace, "leases", name, body)
        )
        return lease

    def _may_write(self) -> None:
        if (objection := self._objection()) is not None:
            raise BarredError(objection)

    async def openshift_registry(self) -> RegistryHosts:
        """Return the hosts of OpenShift's integrated registry that the cluster itself names; none elsewhere.

        An operator that is confined to namespaces may not read them, and then knows none.
        """
        try:
            body = await call(
                self._custom.get_cluster_custom_object(
                    "config.openshift.io", "v1", "images", "cluster", _request_timeout=REQUEST_LIMIT
                )
            )
        except NotThereError:
            return RegistryHosts(None)
        except ForbiddenError:
            return RegistryHosts(None, forbidden=True)
        status = body.get("status") or {}
        external = status.get("externalRegistryHostnames") or []
        return RegistryHosts(status.get("internalRegistryHostname") or None, tuple(host for host in external if host))


_TRANSLATED: Mapping[int, type[APIError]] = {
    403: ForbiddenError,
    404: NotThereError,
    409: ConflictError,
    422: RefusedError,
}


def right_to_policies(error: APIError) -> str:
    """Return what a message that policies cannot be read ends in: the rule to grant, where a right is missing."""
    if not isinstance(error, ForbiddenError):
        return ""
    return f"; ClusterRole registry-cleanup-operator of manifests/base grants it with: {_POLICIES_RULE}"


async def call(awaitable: Awaitable[Any], longest: int = _LONGEST_MESSAGE) -> Any:  # noqa: ANN401 - the client's own types are unions with Any
    """Await a call of the client and translate its errors; the client's types stop at unions that never occur."""
    try:
        return await awaitable
    except ApiException as error:
        if error.status in _TRANSLATED:
            raise _TRANSLATED[error.status](_message(error, longest)) from error
        unanswered = UnauthorizedError if error.status == 401 else NoAnswerError
        raise unanswered(f"the API server answers {error.status}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise NoAnswerError(f"no answer from the API server ({type(error).__name__})") from error


def _message(error: ApiException, longest: int) -> str:
    """Return what the API server says, in its words."""
    try:
        return str(json.loads(error.body or "")["message"])[:longest]
    except (KeyError, TypeError, ValueError):
        return str(error.reason)


def _date(text: str | None) -> datetime | None:
    try:
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None
