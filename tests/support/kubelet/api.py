"""The API server as the kubelet sees it: watched collections, and writes that are tried until they are answered."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane

Document = dict[str, Any]
# Gets each object as it is made or changed, and once more when it is gone.
OnChange = Callable[[Document, bool], None]

_PAUSE = 0.2
_STRATEGIC = "application/strategic-merge-patch+json"


class Api:
    """The API server, asked with all rights."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str) -> Document | None:
        """Return an object, None where it is not there."""
        answer = await self._send("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: Document = answer.raise_for_status().json()
        return found

    async def create(self, path: str, document: Mapping[str, Any]) -> Document | None:
        """Create an object and return it; None where it cannot be, or is there already."""
        answer = await self._send("POST", path, json=dict(document))
        if answer.status_code in {httpx.codes.CONFLICT, httpx.codes.NOT_FOUND}:
            return None
        made: Document = answer.raise_for_status().json()
        return made

    async def patch(self, path: str, change: Mapping[str, Any]) -> None:
        """Change an object as the kubelet does; one that is gone or another by now stays as it is."""
        content, headers = json.dumps(change), {"Content-Type": _STRATEGIC}
        answer = await self._send("PATCH", path, content=content, headers=headers)
        if answer.status_code in {httpx.codes.CONFLICT, httpx.codes.NOT_FOUND}:
            return
        # That its name is another's by now is told as a uid that cannot be changed.
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY and "metadata.uid" in answer.text:
            return
        if answer.is_error:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")

    async def delete_now(self, path: str, uid: str) -> None:
        """Delete just this object, without a grace period."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        answer = await self._send("DELETE", path, json=options)
        if answer.status_code not in {httpx.codes.CONFLICT, httpx.codes.NOT_FOUND}:
            answer.raise_for_status()

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        while True:
            try:
                answer = await self._client.request(method, path, **parts)
            except httpx.TransportError:
                # It is down for a while, as tests want it now and then.
                await asyncio.sleep(_PAUSE)
                continue
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
                await asyncio.sleep(_PAUSE)
                continue
            return answer

    async def watch(self, path: str, on_change: OnChange, listed: asyncio.Event) -> None:
        """Tell of all objects of a collection for ever; `listed` is set when all that are there were told of."""
        known: dict[str, Document] = {}

        def tell(found: Document, *, gone: bool) -> None:
            uid = found["metadata"]["uid"]
            if gone:
                known.pop(uid, None)
            else:
                known[uid] = found
            on_change(found, gone)

        while True:
            try:
                answer = (await self._client.get(path)).raise_for_status().json()
                there = {found["metadata"]["uid"]: found for found in answer["items"]}
                for uid in known.keys() - there.keys():
                    tell(known[uid], gone=True)
                for found in there.values():
                    tell(found, gone=False)
                listed.set()
                await self._follow(path, answer["metadata"]["resourceVersion"], tell)
            except (httpx.TransportError, httpx.HTTPStatusError):
                await asyncio.sleep(_PAUSE)

    async def _follow(self, path: str, version: str, tell: Callable[..., None]) -> None:
        parameters = {"watch": "true", "resourceVersion": version}
        async with self._client.stream("GET", path, params=parameters, timeout=None) as stream:
            stream.raise_for_status()
            async for line in stream.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                tell(event["object"], gone=event["type"] == "DELETED")


@asynccontextmanager
async def api_of(plane: ControlPlane) -> AsyncIterator[Api]:
    """Open connections to the API server of a control plane."""
    trust = ssl.create_default_context(cafile=str(plane.ca_file))
    headers = {"Authorization": f"Bearer {plane.admin_token}"}
    async with httpx.AsyncClient(
        base_url=plane.url,
        trust_env=False,
        verify=trust,
        headers=headers,
        timeout=30,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        yield Api(client)


def path_of(kind: str, namespace: str, name: str = "") -> str:
    """Return the path of an object of the core API, of all of the kind without a name."""
    root = f"/api/v1/namespaces/{namespace}/{kind}"
    return f"{root}/{name}" if name else root
