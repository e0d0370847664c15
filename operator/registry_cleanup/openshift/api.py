"""The calls to `image.openshift.io` and to access reviews, each with the policy's token and never the operator's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import stamina
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from registry_cleanup.openshift.errors import (
    BusyError,
    ConflictError,
    GoneError,
    ImageAPIError,
    MissingRightError,
    OddAnswerError,
)
from registry_cleanup.ports import Passage

_GROUP, _VERSION = "image.openshift.io", "v1"
# A hanging aggregated server answers 503 after 44 s (openshift.md, 8).
_REQUEST_LIMIT = 60.0
_PAGE = 500
_ATTEMPTS = 4
_LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that a ServiceAccount may have to be allowed.

    Attributes:
        verb: of the API.
        resource: with its subresource after a slash, if any.
        namespace: empty for the whole cluster.
        group: of the API.
    """

    verb: str
    resource: str
    namespace: str = ""
    group: str = _GROUP


Document: TypeAlias = dict[str, Any]
"""An object of the API, as JSON has it."""


class ImageAPI:
    """`image.openshift.io` as one policy's ServiceAccount sees it."""

    def __init__(self, api_client: client.ApiClient, passage: Passage) -> None:
        """Call with `api_client`; reads wait for their `passage`, a write follows its last look at once."""
        self._custom = client.CustomObjectsApi(api_client)
        self._authorization = client.AuthorizationV1Api(api_client)
        self._passage = passage

    async def available(self) -> bool:
        """Say whether the cluster has image streams at all."""
        try:
            await self._read(self._custom.get_api_resources, _GROUP, _VERSION)
        except GoneError:
            return False
        return True

    async def streams(self, namespace: str) -> AsyncIterator[Document]:
        """Yield the image streams of a namespace (empty: of all), page by page; whole, or an error."""
        token: str | None = None
        while True:
            where = (_GROUP, _VERSION, namespace, "imagestreams") if namespace else (_GROUP, _VERSION, "imagestreams")
            ask = self._custom.list_namespaced_custom_object if namespace else self._custom.list_cluster_custom_object
            page = await self._read(ask, *where, limit=_PAGE, **({"_continue": token} if token else {}))
            for item in _items(page):
                yield item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return

    async def stream(self, namespace: str, name: str) -> Document:
        """Return one image stream."""
        return await self._get(namespace, "imagestreams", name)

    async def replace_status(self, stream: Document) -> None:
        """Replace a stream's status; raise `ConflictError` if it has changed since it was read."""
        metadata = stream["metadata"]
        self._passage.follow()
        await _call(
            self._custom.replace_namespaced_custom_object_status(
                _GROUP,
                _VERSION,
                metadata["namespace"],
                "imagestreams",
                metadata["name"],
                stream,
                _request_timeout=_REQUEST_LIMIT,
            )
        )

    async def tag(self, namespace: str, stream: str, tag: str) -> Document:
        """Return an image stream tag, with the metadata of its image."""
        return await self._get(namespace, "imagestreamtags", f"{stream}:{tag}")

    async def image(self, namespace: str, stream: str, digest: str) -> Document:
        """Return an image of a stream by its digest; also the children of its indexes."""
        return await self._get(namespace, "imagestreamimages", f"{stream}@{digest}")

    async def delete_tag(self, namespace: str, stream: str, tag: str, uid: str) -> None:
        """Delete a tag from status and spec of the stream with this UID (openshift.md, 5)."""
        body = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=uid))
        self._passage.follow()
        await _call(
            self._custom.delete_namespaced_custom_object(
                _GROUP,
                _VERSION,
                namespace,
                "imagestreamtags",
                f"{stream}:{tag}",
                body=body,
                _request_timeout=_REQUEST_LIMIT,
            )
        )

    async def image_exists(self, digest: str) -> bool:
        """Say whether the cluster still has the Image object of `digest`."""
        try:
            await self._read(self._custom.get_cluster_custom_object, _GROUP, _VERSION, "images", digest)
        except GoneError:
            return False
        return True

    async def image_pruner(self) -> Document | None:
        """Return the cluster's ImagePruner, None if there is none."""
        where = ("imageregistry.operator.openshift.io", "v1", "imagepruners", "cluster")
        try:
            found: Document = await self._read(self._custom.get_cluster_custom_object, *where)
        except GoneError:
            return None
        return found

    async def may(self, right: Right) -> bool:
        """Ask whether the ServiceAccount has `right`; asking needs no right of its own."""
        resource, _, subresource = right.resource.partition("/")
        attributes = client.V1ResourceAttributes(
            group=right.group,
            namespace=right.namespace or None,
            resource=resource,
            subresource=subresource or None,
            verb=right.verb,
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer = await self._read(self._authorization.create_self_subject_access_review, review)
        return bool(answer.status and answer.status.allowed)

    async def _get(self, namespace: str, plural: str, name: str) -> Document:
        ask = self._custom.get_namespaced_custom_object
        found: Document = await self._read(ask, _GROUP, _VERSION, namespace, plural, name)
        return found

    async def _read(self, ask: Any, *where: Any, **options: Any) -> Any:  # noqa: ANN401 - the client's own types
        """Ask what is safe to repeat, again where it may pass."""
        async for attempt in stamina.retry_context(on=_wait, attempts=_ATTEMPTS, wait_initial=0.5, timeout=None):
            with attempt:
                await self._passage.enter()
                try:
                    return await _call(ask(*where, _request_timeout=_REQUEST_LIMIT, **options))
                finally:
                    self._passage.leave()
        raise AssertionError("unreachable: retry_context either returns or raises")


def _wait(error: Exception) -> bool | float:
    """Tell stamina whether to try again, and after how many seconds if the server says."""
    if not isinstance(error, BusyError):
        return False
    return True if error.wait is None else min(error.wait, _LONGEST_WAIT)


async def _call(answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - the client's own types are unions with Any
    """Await a call of the client and translate its errors."""
    try:
        return await answer
    except ApiException as error:
        raise _translated(error) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise BusyError(f"no answer from image.openshift.io ({type(error).__name__})") from error


def _translated(error: ApiException) -> ImageAPIError:
    status = _status(error)
    details = status.get("details") or {}
    match error.status:
        case 403:
            return MissingRightError(
                f"the ServiceAccount may not do what is needed with {details.get('kind', 'image streams')} "
                f"{details.get('name', '')!r}; grant it with a Role of manifests/openshift",
                "Forbidden",
            )
        case 404:
            return GoneError("the image stream or tag is not there", str(details.get("name", "")))
        case 409:
            return ConflictError("the image stream was changed since it was read")
        case 401:
            return MissingRightError("the API server does not accept the ServiceAccount's token", "Unauthorized")
        case 410:
            # The same page never comes back: asking again is the next run's business.
            return ImageAPIError("the list of image streams took too long and has to start again", "Expired")
        case 429 | 500 | 502 | 503 | 504:
            # 503 is text/plain: the aggregated server is down (openshift.md, 8).
            code = str(status.get("reason") or f"HTTP {error.status}")
            return BusyError(f"image.openshift.io answers {error.status}", code, details.get("retryAfterSeconds"))
        case _:
            return OddAnswerError(f"image.openshift.io answers {error.status}", f"HTTP {error.status}")


def _status(error: ApiException) -> Document:
    try:
        status = json.loads(error.body or "")
    except (ValueError, TypeError):
        return {}
    return status if isinstance(status, dict) else {}


def _items(page: Any) -> list[Document]:  # noqa: ANN401 - whatever the server sent
    items = page.get("items") if isinstance(page, dict) else None
    if not isinstance(items, list):
        raise OddAnswerError("the list of image streams is no list")
    return items
