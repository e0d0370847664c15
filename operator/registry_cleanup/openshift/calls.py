"""Sending requests with the policy's token, raw where objects of a client would be in the way; errors translated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
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

# A hanging aggregated server answers 503 after 44 s (openshift.md, 8).
REQUEST_LIMIT = 60.0
_WHOLE = aiohttp.ClientTimeout(total=REQUEST_LIMIT)
# A page of the largest streams is hundreds of megabytes: it may take its time as long as it keeps coming.
_COMING = aiohttp.ClientTimeout(total=10 * REQUEST_LIMIT, sock_read=REQUEST_LIMIT)


class RawCalls:
    """Requests whose answers are read as they come, and whose bodies are sent as they are.

    The client's own methods hold an answer three times over, as bytes, as text and as objects, and walk through each
    value of a body: of a stream with 5,000 tags that takes longer than the request.
    """

    def __init__(self, api_client: client.ApiClient) -> None:
        self._client = api_client

    async def whole(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return the answer to a request.

        Raises:
            ImageAPIError: as the API server says, or because it says nothing.
        """
        async with self._opened(method, path, {}, _WHOLE, body) as response:
            return await response.read()

    @asynccontextmanager
    async def coming(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask for something large, and give its parts as they come; raise as `whole` does, also midway."""
        async with self._opened("GET", path, query, _COMING, None) as response:
            yield response.content.iter_any()

    @asynccontextmanager
    async def _opened(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limit: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            method, url, headers, *_ = await self._client.param_serialize(
                method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
            )
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=limit)
            response: aiohttp.ClientResponse = answer.response
            try:
                if response.status // 100 != 2:
                    raise ApiException(response.status, body=await response.text(errors="replace"))
                yield response
            finally:
                # What was not read to its end, since somebody gave up, is not waited for.
                response.close()
        except ApiException as error:
            raise _translated(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(error) from error


async def call(answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - the client's own types are unions with Any
    """Await a call of the client and translate its errors."""
    try:
        return await answer
    except ApiException as error:
        raise _translated(error) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _no_answer(error) from error


def _no_answer(error: Exception) -> BusyError:
    return BusyError(f"no answer from image.openshift.io ({type(error).__name__})")


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


def _status(error: ApiException) -> dict[str, Any]:
    try:
        status = json.loads(error.body or "")
    except (ValueError, TypeError):
        return {}
    return status if isinstance(status, dict) else {}
