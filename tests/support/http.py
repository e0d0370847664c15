"""Servers of the tests' own: aiohttp in a thread, on a free loopback port, with a record of what came in."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiMapping
from yarl import URL

from tests.support.certificates import ServerCertificate

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_START_LIMIT = 10.0
# Handlers that stall on purpose must not hold up the end of a test.
_STOP_LIMIT = 0.1
_CLOSE_TIME = 0.01
_LARGEST_BODY = 64 * 1024 * 1024
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True)
class Received:
    """A request as it arrived.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: All parameters, in order.
        headers: Names in any capitalisation.
    """

    method: str
    path: str
    query: MultiMapping[str] = field(default_factory=MultiDict)
    headers: MultiMapping[str] = field(default_factory=CIMultiDict)

    @property
    def authorization(self) -> str | None:
        return self.headers.get(hdrs.AUTHORIZATION)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: Scheme, host and port, without a slash at the end.
        requests: What it received, in order; a test may clear it.
    """

    url: str
    requests: list[Received]


@dataclass(frozen=True)
class Answer:
    """A whole answer, as it came from an upstream or as it shall go out.

    Attributes:
        status: HTTP status.
        body: Bytes of the body.
        headers: Without those that concern only one connection.
    """

    status: int
    body: bytes = b""
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)

    def response(self) -> web.Response:
        headers = self.headers.copy()
        if self.body:
            headers.popall(hdrs.CONTENT_LENGTH, None)
        return web.Response(status=self.status, body=self.body, headers=headers)


async def _nothing() -> None:
    return


@contextmanager
def serve(
    handler: Handler,
    *,
    certificate: ServerCertificate | None = None,
    client_authority: Path | None = None,
    requests: list[Received] | None = None,
    cleanup: Callable[[], Awaitable[None]] = _nothing,
) -> Iterator[Server]:
    """Answer every request with `handler`, over https where there is a certificate.

    A client may show a certificate of `client_authority`, and none of any other; whether it must, and whose it
    has to be, is the handler's business. `cleanup` ends what handlers share, in the server's own event loop.

    An exception that a handler did not mean to raise is the server's bug: it is raised again at the end.
    """
    received: list[Received] = [] if requests is None else requests
    bugs: list[Exception] = []
    connections: WeakSet[asyncio.Transport] = WeakSet()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started: Future[int] = Future()

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        received.append(Received(request.method, request.path, request.query, request.headers))
        if request.transport is not None:
            connections.add(request.transport)
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            bugs.append(error)
            raise

    async def run() -> None:
        application = web.Application(middlewares=[record], client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_LIMIT)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        try:
            site = web.SockSite(runner, listener, ssl_context=_context(certificate, client_authority))
            await site.start()
            started.set_result(listener.getsockname()[1])
            await stop.wait()
        finally:
            await _stop_accepting(listener)
            await runner.cleanup()
            await _abort(connections)
            await cleanup()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                runner.run(run())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

    thread = threading.Thread(target=work, name="test-server", daemon=True)
    thread.start()
    port = started.result(_START_LIMIT)
    try:
        yield Server(f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}", received)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
    if bugs:
        raise ExceptionGroup("a server of the tests raised", bugs)


async def _stop_accepting(listener: socket.socket) -> None:
    """Shut the door before the server closes, and let those through that came in.

    A connection that asyncio accepts while its server closes is never made, and nobody closes its socket.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _turn in ("asyncio makes the connections that it accepted", "the server hears of them"):
        await asyncio.sleep(0)


async def _abort(connections: Iterable[asyncio.Transport]) -> None:
    """End what a client keeps open: it may never answer the end of TLS, and the loop ends now."""
    for connection in connections:
        connection.abort()
    await asyncio.sleep(_CLOSE_TIME)


def _context(certificate: ServerCertificate | None, client_authority: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Upstream:
    """A client of the server that a stand-in has behind it; lives in the stand-in's own event loop.

    One connection per request: a test may stop the upstream and start it again at any moment.
    """

    def __init__(self, url: str, *, trust: ssl.SSLContext | None = None, limit: float = 30.0) -> None:
        self._url = url.rstrip("/")
        self._trust = trust
        self._limit = ClientTimeout(total=limit)

    async def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | CIMultiDict[str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request; `target` is path and query as they go over the line."""
        async with (
            ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=self._limit) as session,
            session.request(
                method,
                URL(self._url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=True if self._trust is None else self._trust,
                # What the caller did not send must not reach the upstream: an Accept changes its answers.
                skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
            ) as response,
        ):
            return Answer(response.status, await response.read(), _end_to_end(response.headers))

    async def forward(self, request: web.Request, *, without: Sequence[str] = ()) -> Answer:
        """Send a request on as it came, Host header and all, but for the headers in `without`."""
        headers = _end_to_end(request.headers)
        for name in without:
            headers.popall(name, None)
        headers["X-Forwarded-Proto"] = request.scheme
        body = await request.read()
        return await self.send(request.method, request.raw_path, headers=headers, body=body or None)


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
