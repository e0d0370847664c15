"""A stand-in for the API server, for what a real one does too rarely: lost pages and lost events."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from registry_cleanup.kube.raw import RawAPI
from tests.support.http import Received, Server, serve

PODS = "/api/v1/pods"


def pod(name: str, image: str, version: int = 1, **status: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a status
    metadata = {"namespace": "team", "name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"containers": [{"name": "a", "image": image}]}, "status": status}


def event(type_: str, object_: dict[str, Any]) -> dict[str, Any]:
    return {"type": type_, "object": object_}


def bookmark(version: int) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


GONE = event("ERROR", {"kind": "Status", "code": 410})

# Instead of a status: no answer at all.
SILENCE = 0


@dataclass
class FakeAPI:
    """What it serves; a test changes it at any time.

    Attributes:
        pages: Of the list of pods: objects, or the status that is answered instead.
        statuses: What other paths are answered with, instead of an empty list.
        watches: For each watch in turn the events that it sends before it ends, or the status that is answered
            instead; the last one stays open.
        expired: How many times a second page is not to be had any more.
    """

    pages: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])
    statuses: dict[str, int] = field(default_factory=dict)
    watches: list[list[dict[str, Any]] | int] = field(default_factory=list)
    expired: int = 0
    bodies: dict[str, Any] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)

    def lists(self, path: str = PODS) -> list[Received]:
        """Return the requests for first pages of a list."""
        return [each for each in self.requests if each.path == path and not {"watch", "continue"} & each.query.keys()]

    def watched_from(self) -> list[str]:
        return [each.query["resourceVersion"] for each in self.requests if "watch" in each.query]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        if request.path in self.statuses:
            return web.json_response({"kind": "Status"}, status=self.statuses[request.path])
        if request.path in self.bodies:
            return web.json_response(self.bodies[request.path])
        if request.path.startswith("/apis/") and "openshift.io" in request.path:
            return web.json_response({"kind": "Status"}, status=404)
        return self._page(request) if request.path == PODS else web.json_response({"metadata": {}, "items": None})

    def _page(self, request: web.Request) -> web.Response:
        number = int(request.query.get("continue", "0"))
        if number and self.expired:
            self.expired -= 1
            return web.json_response({"kind": "Status"}, status=410)
        metadata = {"resourceVersion": "10"}
        if number + 1 < len(self.pages):
            metadata["continue"] = str(number + 1)
        return web.json_response({"metadata": metadata, "items": self.pages[number]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        script = self.watches.pop(0) if self.watches else []
        if script == SILENCE:
            await asyncio.Event().wait()
        if isinstance(script, int):
            return web.json_response({"kind": "Status"}, status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for each in script:
            await response.write(json.dumps(each).encode() + b"\n")
        if not self.watches:
            await asyncio.Event().wait()
        return response


@contextmanager
def serving(api: FakeAPI) -> Iterator[Server]:
    with serve(api.handle, requests=api.requests) as server:
        yield server


@asynccontextmanager
async def raw(server: Server) -> AsyncIterator[RawAPI]:
    async with client.ApiClient(client.Configuration(host=server.url)) as api_client:
        yield RawAPI(api_client)
