"""The kubelet's own server, as far as the API server asks it for `kubectl logs`."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.support.certificates import certificate_authority
from tests.support.kubelet.doors import LOOPBACK
from tests.support.kubelet.pods import PodLife

_LOOK = 0.1


@asynccontextmanager
async def log_server(folder: Path, lives: Callable[[], Iterable[PodLife]]) -> AsyncIterator[int]:
    """Serve the logs of containers, and return the port."""
    certificate = certificate_authority(folder / "certificates").issue(LOOPBACK, "localhost")
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(certificate.certificate, certificate.key)
    server = _Server(lives)
    application = web.Application()
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", server.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=trust)
    try:
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class _Server:
    def __init__(self, lives: Callable[[], Iterable[PodLife]]) -> None:
        self._lives = lives

    async def answer(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info
        life = find(self._lives(), names["namespace"], names["pod"])
        if life is None:
            return web.Response(status=404, text="there is no such pod on this node")
        keeper = next((one for one in life.keepers if one.record.name == names["container"]), None)
        if keeper is None:
            return web.Response(status=404, text="there is no such container")
        attempt = keeper.record.restarts - (request.query.get("previous") == "true")
        file = keeper.log(attempt)
        if not file.exists():
            return web.Response(status=400, text=f"container {keeper.record.name} has not been started")
        if request.query.get("follow") != "true":
            return web.Response(body=_cut(file.read_bytes(), request))
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        while True:
            over = keeper.record.restarts != attempt or keeper.container is None
            content = file.read_bytes()[sent:]
            await response.write(content)
            sent += len(content)
            if over:
                return response
            await asyncio.sleep(_LOOK)


def find(lives: Iterable[PodLife], namespace: str, name: str) -> PodLife | None:
    """Return the pod of this name."""
    return next((life for life in lives if (life.namespace, life.name) == (namespace, name)), None)


def _cut(content: bytes, request: web.Request) -> bytes:
    if tail := request.query.get("tailLines"):
        lines = content.splitlines(keepends=True)
        content = b"".join(lines[max(len(lines) - int(tail), 0) :])
    if limit := request.query.get("limitBytes"):
        content = content[: int(limit)]
    return content
