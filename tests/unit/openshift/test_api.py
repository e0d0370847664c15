"""What is asked of the API, where it answers in a way that only a server on a wire can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.errors import BusyError, ImageAPIError
from tests.support import clients
from tests.support.http import Server, serve


@asynccontextmanager
async def _opened(server: Server) -> AsyncIterator[ImageAPI]:
    async with client.ApiClient(client.Configuration(host=server.url)) as api_client:
        yield ImageAPI(api_client, clients.free(4))


def _page(*names: str) -> bytes:
    items = [{"metadata": {"namespace": "team", "name": name}} for name in names]
    return json.dumps({"items": items, "metadata": {}}, separators=(",", ":")).encode()


def _name(document: Any) -> str:  # noqa: ANN401 - any JSON
    return str(document["metadata"]["name"])


class _Broken:
    """Breaks its answers off after some bytes, so many times."""

    def __init__(self, page: bytes, after: int, times: int) -> None:
        self._page = page
        self._after = after
        self.times = times

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self.times:
            return web.Response(body=self._page, content_type="application/json")
        self.times -= 1
        response = web.StreamResponse(headers={"Content-Length": str(len(self._page))})
        await response.prepare(request)
        await response.write(self._page[: self._after])
        if request.transport is not None:
            request.transport.close()
        return response


async def test_a_page_that_breaks_off_midway_is_asked_for_again_and_each_stream_comes_once() -> None:
    page = _page("a", "b", "c")
    broken = _Broken(page, len(page) - 10, times=1)
    with serve(broken.answer) as server:
        async with _opened(server) as api:
            assert [name async for name in api.streams("team", _name)] == ["a", "b", "c"]
    assert [request.path for request in server.requests] == [
        "/apis/image.openshift.io/v1/namespaces/team/imagestreams"
    ] * 2
    assert broken.times == 0


async def test_a_page_that_never_comes_whole_yields_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_cleanup.openshift.api._ATTEMPTS", 2)
    page = _page("a", "b", "c")
    with serve(_Broken(page, len(page) - 10, times=2).answer) as server:
        async with _opened(server) as api:
            with pytest.raises(BusyError):
                await anext(api.streams("", _name))
    assert {request.path for request in server.requests} == {"/apis/image.openshift.io/v1/imagestreams"}


async def test_what_reading_a_stream_raises_ends_the_list_at_once() -> None:
    def refuse(_document: object) -> str:
        raise ImageAPIError("odd")

    with serve(_Broken(_page("a"), 0, times=0).answer) as server:
        async with _opened(server) as api:
            with pytest.raises(ImageAPIError, match="odd"):
                await anext(api.streams("", refuse))
    assert len(server.requests) == 1
