"""The calls to `image.openshift.io` and to access reviews, each with the policy's token and never the operator's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import stamina
from kubernetes.aio import client

from registry_cleanup.openshift.calls import REQUEST_LIMIT, RawCalls, call
from registry_cleanup.openshift.errors import BusyError, GoneError
from registry_cleanup.openshift.pages import PageReader
from registry_cleanup.ports import Passage

_GROUP, _VERSION = "image.openshift.io", "v1"
_PAGE = 500
# So many bytes of a page are parsed at a time; a stream with 5,000 tags has 1.6 million (openshift.md, 9).
_A_TIME = 2**20
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


Document: TypeAlias = Mapping[str, Any]
"""An object of the API, as JSON has it."""

_Read = TypeVar("_Read")


class ImageAPI:
    """`image.openshift.io` as one policy's ServiceAccount sees it.

    Attributes:
        sent: how many requests were sent so far, repetitions included.
    """

    def __init__(self, api_client: client.ApiClient, passage: Passage) -> None:
        """Call with `api_client`; reads wait for their `passage`, a write follows its last look at once."""
        self._custom = client.CustomObjectsApi(api_client)
        self._authorization = client.AuthorizationV1Api(api_client)
        self._raw = RawCalls(api_client)
        self._passage = passage
        self.sent = 0

    async def available(self) -> bool:
        """Say whether the cluster has image streams at all."""
        try:
            await self._read(self._custom.get_api_resources, _GROUP, _VERSION)
        except GoneError:
            return False
        return True

    async def streams(self, namespace: str, read: Callable[[Document], _Read]) -> AsyncIterator[_Read]:
        """Yield what `read` makes of each image stream of a namespace (empty: of all); whole, or an error.

        No more than one stream is held as a document at a time. `read` is called in another thread, and again for the
        streams of a page that broke off.
        """
        token = ""
        while True:
            streams, token = await self._again(partial(self._page, _path(namespace), token, read))
            for stream in streams:
                yield stream
            if not token:
                return

    async def _page(self, path: str, token: str, read: Callable[[Document], _Read]) -> tuple[list[_Read], str]:
        """Return a page of a list, and the token of the next."""
        query = {"limit": str(_PAGE), **({"continue": token} if token else {})}
        page, found = PageReader(), list[_Read]()
        async with self._raw.coming(path, query) as parts:
            pending, size = list[bytes](), 0

            def take(content: bytes) -> None:
                found.extend(map(read, page.feed(content)))

            async for part in parts:
                pending.append(part)
                size += len(part)
                if size >= _A_TIME:
                    # The event loop stays free for everybody else.
                    await asyncio.to_thread(take, b"".join(pending))
                    pending, size = [], 0

            def end() -> str:
                take(b"".join(pending))
                items, follows = page.end()
                found.extend(map(read, items))
                return follows

            return found, await asyncio.to_thread(end)

    async def stream(self, namespace: str, name: str) -> bytes:
        """Return one image stream, as JSON."""
        return await self._again(partial(self._raw.whole, "GET", _path(namespace, name)))

    async def replace_status(self, stream: Document) -> bytes:
        """Replace a stream's status, and return the stream as it then is, as JSON.

        Raises:
            ConflictError: it has changed since it was read.
        """
        metadata = stream["metadata"]
        self._passage.follow()
        self.sent += 1
        path = _path(metadata["namespace"], metadata["name"])
        return await self._raw.whole("PUT", f"{path}/status", stream)

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
        self.sent += 1
        await call(
            self._custom.delete_namespaced_custom_object(
                _GROUP,
                _VERSION,
                namespace,
                "imagestreamtags",
                f"{stream}:{tag}",
                body=body,
                _request_timeout=REQUEST_LIMIT,
            )
        )

    async def map_image(self, namespace: str, stream: str, tag: str, digest: str, reference: str) -> None:
        """Let a tag of a stream name an Image that exists, which the registry has at `reference` (openshift.md, 5)."""
        body = {
            "apiVersion": f"{_GROUP}/{_VERSION}",
            "kind": "ImageStreamMapping",
            "metadata": {"name": stream, "namespace": namespace},
            "image": {"metadata": {"name": digest}, "dockerImageReference": reference},
            "tag": tag,
        }
        self._passage.follow()
        self.sent += 1
        path = f"/apis/{_GROUP}/{_VERSION}/namespaces/{quote(namespace, safe='')}/imagestreammappings"
        await self._raw.whole("POST", path, body)

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
        return await self._again(lambda: call(ask(*where, _request_timeout=REQUEST_LIMIT, **options)))

    async def _again(self, ask: Callable[[], Awaitable[_Read]]) -> _Read:
        """Ask what is safe to repeat, again where it may pass."""
        async for attempt in stamina.retry_context(on=_wait, attempts=_ATTEMPTS, wait_initial=0.5, timeout=None):
            with attempt:
                await self._passage.enter()
                self.sent += 1
                try:
                    return await ask()
                finally:
                    self._passage.leave()
        raise AssertionError("unreachable: retry_context either returns or raises")


def _path(namespace: str, name: str = "") -> str:
    """Return where image streams are, of all namespaces where it is empty, or one of them."""
    where = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"/apis/{_GROUP}/{_VERSION}{where}/imagestreams" + (f"/{quote(name, safe='')}" if name else "")


def _wait(error: Exception) -> bool | float:
    """Tell stamina whether to try again, and after how many seconds if the server says."""
    if not isinstance(error, BusyError):
        return False
    return True if error.wait is None else min(error.wait, _LONGEST_WAIT)
