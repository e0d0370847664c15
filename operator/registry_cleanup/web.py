"""The operator's one port: whether it lives, whether it is ready, and its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from registry_cleanup.telemetry import Metrics

# An open connection of a scraper must not hold up the end.
_SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the operator can do its work.

    Attributes:
        ready: the verdict.
        checks: what was found, in one line each, by the name of the check.
    """

    ready: bool
    checks: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def serve(
    port: int, readiness: Callable[[], Readiness], metrics: Metrics | None = None, host: str | None = None
) -> AsyncIterator[None]:
    """Answer on `port` as long as the context lasts.

    `/healthz` says 200 as long as the event loop runs; `/readyz` says 200 or 503, with a line for each check;
    `/metrics` is for Prometheus.

    Args:
        port: 0 for nowhere.
        readiness: asked for each request; must not wait for anything.
        metrics: without them there is no `/metrics`.
        host: an address of this machine; all of them where it is left out.

    Raises:
        OSError: the port is taken.
    """
    if port == 0:
        yield
        return
    runner = web.AppRunner(_application(readiness, metrics), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _application(readiness: Callable[[], Readiness], metrics: Metrics | None) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        found = readiness()
        lines = [f"{name}: {text}\n" for name, text in found.checks.items()]
        return web.Response(status=200 if found.ready else 503, text="".join(lines) or "ok\n")

    async def page(request: web.Request) -> web.Response:
        if metrics is None:
            raise web.HTTPNotFound
        headers = request.headers
        made = await metrics.page(headers.get("Accept", ""), headers.get("Accept-Encoding", ""))
        more = {"Content-Encoding": "gzip"} if made.compressed else {}
        return web.Response(body=made.content, headers={"Content-Type": made.content_type, **more})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    return application
