"""Reading the API without building objects: discovery, lists page by page, and watches, as raw JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import stamina
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from registry_cleanup.kube.api import APIError, ForbiddenError, NoAnswerError, NotThereError, UnauthorizedError

PAGE = 500
# A hanging aggregated server answers 503 after 44 s (openshift.md, 8).
_PAGE_LIMIT = aiohttp.ClientTimeout(total=60)
# The API server ends a watch by itself after 5 minutes; what is silent for longer is dead.
_WATCH_SECONDS = 300
_WATCH_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=_WATCH_SECONDS + 30)
_ATTEMPTS = 4
_RESTARTS = 3


class ExpiredError(APIError):
    """410: the pages of a list, or the events of a watch, are not to be had any more from where they were left."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that can be listed.

    Attributes:
        api_version: such as `apps/v1`; of the core group `v1`.
        kind: such as `Deployment`.
        plural: such as `deployments`.
        namespaced: whether its objects are in namespaces.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None) -> str:
        """Return where the objects of a namespace are listed, or those of all namespaces."""
        where = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
        return f"{_root(self.api_version)}{where}/{quote(self.plural, safe='')}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        items: objects, as JSON has them.
        version: the resourceVersion of the list, from where a watch goes on.
    """

    items: list[dict[str, Any]]
    version: str


class RawAPI:
    """Reads with the rights of the operator's own ServiceAccount."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._client = api_client

    async def kinds(self, api_version: str) -> dict[str, Kind]:
        """Return what can be listed of a group and version, by kind; raise `NotThereError` where there is none such.

        A group whose aggregated server is down is there, and raises `NoAnswerError`.
        """
        found = await self._json(_root(api_version))
        resources = found.get("resources")
        if not isinstance(resources, list):
            raise NoAnswerError("the API server's discovery is of another shape")
        return {
            str(each["kind"]): Kind(
                api_version, str(each["kind"]), str(each["name"]), bool(each.get("namespaced", True))
            )
            for each in resources
            if "/" not in each["name"] and "list" in (each.get("verbs") or ())
        }

    async def versions(self, group: str) -> list[str]:
        """Return the versions that are served of a group, as apiVersions; none where there is no such group."""
        try:
            found = await self._json(f"/apis/{quote(group, safe='')}")
        except NotThereError:
            return []
        return [str(each["groupVersion"]) for each in found.get("versions") or []]

    async def namespace_labels(self, name: str) -> dict[str, str]:
        """Return the labels of a namespace; raise `NotThereError` where there is none of this name."""
        found = await self._json(f"/api/v1/namespaces/{quote(name, safe='')}")
        return dict((found.get("metadata") or {}).get("labels") or {})

    async def document(self, path: str, tag: str | None) -> tuple[dict[str, Any] | None, str | None]:
        """Return a JSON object and its ETag; None for an object that still has the ETag `tag`."""
        async for attempt in stamina.retry_context(on=NoAnswerError, attempts=_ATTEMPTS, wait_initial=0.5, timeout=60):
            with attempt:
                response = await self._open(path, {}, _PAGE_LIMIT, {} if tag is None else {"If-None-Match": tag})
                if response.status == 304:
                    response.release()
                    return None, tag
                return await _object(response), response.headers.get("ETag")
        raise AssertionError("unreachable: retry_context either returns or raises")

    async def pages(
        self, kind: Kind, selector: str | None = None, namespace: str | None = None, limit: int = PAGE
    ) -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind, or those of a namespace, page by page of so many; whole, or an error.

        A list that took too long is begun again, and then yields again what it has yielded before.
        """
        for attempt in range(_RESTARTS + 1):
            try:
                async with aclosing(self._pages(kind, selector, namespace, limit)) as pages:
                    async for page in pages:
                        yield page
            except ExpiredError:
                if attempt == _RESTARTS:
                    raise
            else:
                return

    async def _pages(
        self, kind: Kind, selector: str | None, namespace: str | None, limit: int
    ) -> AsyncGenerator[Page, None]:
        query = {"limit": str(limit), **({"labelSelector": selector} if selector is not None else {})}
        while True:
            body = await self._json(kind.path(namespace), query)
            metadata, items = body.get("metadata"), body.get("items")
            if not isinstance(metadata, dict) or not (isinstance(items, list) or ("items" in body and items is None)):
                raise NoAnswerError(f"the list of {kind.plural} is no list")
            yield Page(items or [], str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query["continue"] = str(metadata["continue"])

    @asynccontextmanager
    async def watch(
        self, kind: Kind, version: str, namespace: str | None = None
    ) -> AsyncIterator[AsyncGenerator[dict[str, Any], None]]:
        """Begin to watch a kind, or its objects in a namespace, from a resourceVersion on.

        Once entered, the API server has agreed to it.

        The events end when the API server ends them, as it does every few minutes; `ExpiredError` where they cannot
        be had from there.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = await self._open(kind.path(namespace), query, _WATCH_LIMIT)
        try:
            async with aclosing(_events(response)) as events:
                yield events
        finally:
            response.close()

    async def _json(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        """Ask, again where it may pass."""
        async for attempt in stamina.retry_context(on=NoAnswerError, attempts=_ATTEMPTS, wait_initial=0.5, timeout=180):
            with attempt:
                return await self._json_once(path, query or {})
        raise AssertionError("unreachable: retry_context either returns or raises")

    async def _json_once(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        return await _object(await self._open(path, query, _PAGE_LIMIT))

    async def _open(
        self, path: str, query: dict[str, str], limit: aiohttp.ClientTimeout, headers: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Begin a GET; the answer is a success and not read yet."""
        try:
            request = await self._client.param_serialize(
                "GET",
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", **(headers or {})},
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(*request, _request_timeout=limit)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError(f"no answer from the API server ({type(error).__name__})") from error
        response: aiohttp.ClientResponse = answer.response
        if response.status in (200, 304):
            return response
        try:
            raise _refusal(response.status)
        finally:
            response.close()


class _Pause:
    """Holds Python's collector up while something is parsed: it looks at every object of a page again and again.

    Pages are parsed in several threads, and the collector is the process's: the last one lets it go on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            gc.disable()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                gc.enable()


_uncollected = _Pause()


def parse_json(content: bytes) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return what `content` spells; raise `ValueError` where it is no JSON. A page takes a third of the time so."""
    with _uncollected:
        return json.loads(content)


async def _object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Read the JSON object of an answer."""
    try:
        # A page of pods is megabytes: the event loop stays free for everybody else.
        found = await asyncio.to_thread(parse_json, await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NoAnswerError(f"no whole answer from the API server ({type(error).__name__})") from error
    finally:
        response.release()
    if not isinstance(found, dict):
        raise NoAnswerError("the API server answers with something else than an object")
    return found


def _refusal(status: int) -> APIError:
    match status:
        case 401:
            return UnauthorizedError("the API server answers 401")
        case 403:
            return ForbiddenError("the API server forbids it")
        case 404:
            return NotThereError("the API server has no such thing")
        case 410:
            return ExpiredError("the API server has dropped what the list or watch was to go on from")
        case _:
            return NoAnswerError(f"the API server answers {status}")


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
    try:
        async for line in response.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"].get("code")
                raise _refusal(status if isinstance(status, int) else 0)
            yield event
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError) as error:
        raise NoAnswerError(f"the watch broke ({type(error).__name__})") from error


def _root(api_version: str) -> str:
    return f"/{'apis' if '/' in api_version else 'api'}/{quote(api_version, safe='/')}"
