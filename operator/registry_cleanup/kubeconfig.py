"""What a person's kubeconfig gives to logins: a token, and what its cluster says of its own registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.kube.api import (
    APIError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
    UnauthorizedError,
)
from registry_cleanup.kube.credentials import SERVICE_CA, SERVICE_CA_KEY
from registry_cleanup.kube.raw import Kind, RawAPI
from registry_cleanup.logins.cluster import ClusterLogin
from registry_cleanup.ports import RunError

_IMAGES = "image.openshift.io/v1"
_STREAMS = Kind(_IMAGES, "ImageStream", "imagestreams")
# Everybody may read it on OpenShift, and it is never empty.
_SHARED_NAMESPACE = "openshift"
_BEARER = "Bearer "
_REQUEST_LIMIT = 30.0


class KubeconfigLogin(ClusterLogin):
    """The cluster of a kubeconfig.

    Attributes:
        client: shows the kubeconfig's credential.
    """

    def __init__(
        self, api: KubernetesAPI, raw: RawAPI, api_client: client.ApiClient, namespaces: Sequence[str]
    ) -> None:
        """Ask with the kubeconfig's own rights; in `namespaces` there may be image streams."""
        self._api = api
        self._raw = raw
        self.client = api_client
        self._namespaces = namespaces

    @override
    async def registry_hosts(self) -> RegistryHosts:
        async with _translated(self.client):
            hosts = await self._api.openshift_registry()
            if not hosts.forbidden or not await self.has_image_streams():
                return hosts
            for namespace in dict.fromkeys((_SHARED_NAMESPACE, *self._namespaces)):
                if (named := await self._named_by_stream(namespace)) is not None:
                    return named
            return hosts

    @override
    async def has_image_streams(self) -> bool:
        async with _translated(self.client):
            try:
                return bool(await self._raw.kinds(_IMAGES))
            except (NotThereError, ForbiddenError):
                return False

    @override
    async def token(self) -> str | None:
        shown = await self.client.configuration.get_api_key_with_prefix("BearerToken") or ""
        return shown.removeprefix(_BEARER).strip() or None if shown.startswith(_BEARER) else None

    @override
    async def service_ca(self, namespace: str) -> str | None:
        try:
            config_map = await self._api.config_map(namespace, SERVICE_CA)
        except APIError:
            return None  # a certificate that is not believed then says what to do
        return (config_map.data or {}).get(SERVICE_CA_KEY)

    async def user(self) -> str | None:
        """Return the name by which the API server knows the person; None where it does not tell."""
        review = client.AuthenticationV1Api(self.client).create_self_subject_review
        try:
            answer = await review(client.V1SelfSubjectReview(), _request_timeout=_REQUEST_LIMIT)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError):
            return None
        info = answer.status.user_info if answer.status is not None else None
        return info.username if info is not None else None

    async def _named_by_stream(self, namespace: str) -> RegistryHosts | None:
        """Return the hosts that any image stream names, as `oc registry info` does; the API server writes them."""
        try:
            async with aclosing(self._raw.pages(_STREAMS, namespace=namespace, limit=1)) as pages:
                async for page in pages:
                    for stream in page.items:
                        return _hosts(stream)
        except (NotThereError, ForbiddenError):
            return None
        return None


def _hosts(stream: dict[str, Any]) -> RegistryHosts:
    status = stream.get("status") or {}
    inside, outside = (
        str(status.get(key) or "").partition("/")[0] for key in ("dockerImageRepository", "publicDockerImageRepository")
    )
    return RegistryHosts(inside or None, (outside,) if outside else ())


@contextmanager
def naming_server(api_client: client.ApiClient) -> Iterator[None]:
    """Say in errors which API server was asked, and what a person can do: a kubeconfig may name many."""
    server = api_client.configuration.host
    try:
        yield
    except UnauthorizedError as error:
        raise UnauthorizedError(not_accepted(server)) from error
    except NoAnswerError as error:
        step = "see with kubectl cluster-info whether it can be reached, or name another with --context"
        raise NoAnswerError(f"{error}: {server}; {step}") from error


def not_accepted(server: str) -> str:
    """Return what a person is told whose credential the API server does not accept."""
    return (
        f"the API server {server} does not accept the kubeconfig's credential (401): log in anew, as with oc login, or "
        "name another with --kubeconfig or --context"
    )


@asynccontextmanager
async def _translated(api_client: client.ApiClient) -> AsyncIterator[None]:
    try:
        with naming_server(api_client):
            yield
    except NoAnswerError as error:
        raise RunError(Failure("APIServerUnavailable", str(error))) from error
    except APIError as error:
        raise RunError(Failure("APIServerUnavailable", f"the cluster: {error}", mendable=True)) from error
