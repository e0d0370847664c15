"""A proxy in front of a real API server: passes on and counts, watches included, and breaks what a test says.

`python -m tests.support.api_proxy KUBECONFIG FOLDER` runs one for a benchmark: it prints the path of a kubeconfig that
leads through it, and for each line on its standard input the counts since the last one, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import yaml
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.faulty import Fault, Forward, answers
from tests.support.http import Answer, Received, serve

When = Callable[[web.Request], bool]

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# So soon the end of a watch is noticed whose client has gone.
_LOOK_AFTER = 1.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True)
class Write:
    """A write that came through.

    Attributes:
        method: In capitals.
        path: Whole, without the query.
        body: As it was sent.
        status: Of the API server's answer.
    """

    method: str
    path: str
    body: bytes = field(repr=False)
    status: int


@dataclass
class Injection:
    """A fault with the requests that it concerns.

    Attributes:
        fault: What happens to them.
        when: Says which.
        left: How many more, or None without end.
        hits: How many so far.
    """

    fault: Fault
    when: When
    left: int | None
    hits: int = 0

    def use(self) -> None:
        self.hits += 1
        if self.left is not None:
            self.left -= 1


@dataclass(frozen=True)
class APIProxy:
    """A running proxy.

    Attributes:
        url: To be used instead of the API server's.
        ca_file: PEM file of the authority of its certificate.
    """

    url: str
    ca_file: Path
    _handler: _Handler = field(repr=False)

    @property
    def writes(self) -> list[Write]:
        """Writes that came through so far, in the order of their answers; a test may clear it."""
        return self._handler.writes

    def inject(self, fault: Fault, when: When, times: int | None = None) -> Injection:
        """Let the fault happen to the next `times` requests that `when` names, or to all from now on.

        The fault that was injected first wins.
        """
        injection = Injection(fault, when, times)
        self._handler.injections.append(injection)
        return injection

    def heal(self) -> None:
        """Pass on everything again."""
        self._handler.injections.clear()

    def counts(self) -> Counter[str]:
        """Return how many requests there were so far, by method and path; namespaces and names are `*`.

        A watch counts once, as `WATCH` in place of its method.
        """
        with self._handler.lock:
            return Counter(self._handler.counts)

    def cut(self) -> None:
        """End all connections that are open now."""
        self._handler.switch.cut()

    @contextmanager
    def down(self) -> Iterator[Callable[[], int]]:
        """End all connections, and every new one at its first request, as long as the context lasts.

        Yields what counts the requests that came in vain.
        """
        switch = self._handler.switch
        first = switch.in_vain
        switch.down = True
        self.cut()
        try:
            yield lambda: switch.in_vain - first
        finally:
            switch.down = False

    def before(self, plane: ControlPlane, folder: Path) -> ControlPlane:
        """Return `plane` as it looks to who comes through the proxy; `folder` takes its kubeconfigs.

        The administrator's own way leads past the proxy all the same.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return replace(plane, url=self.url, ca_file=self.ca_file, folder=folder)


# Which requests


def is_watch(request: web.Request, path: str = "") -> bool:
    """Tell whether this is a watch, of a path that ends so."""
    return request.query.get("watch") in ("1", "true") and request.path.endswith(path)


def is_list(request: web.Request, path: str) -> bool:
    """Tell whether this lists what a path names."""
    return request.method == "GET" and not is_watch(request) and request.path.endswith(path)


def writes_status(request: web.Request) -> bool:
    """Tell whether this writes the status of a policy."""
    return request.method in _WRITES and request.path.endswith("/status")


def is_write(request: web.Request) -> bool:
    """Tell whether this changes something; Leases, renewed all the time, and Events count for nothing."""
    return request.method in _WRITES and not re.search("/(leases|events)(/|$)", request.path)


# Answers of its own, as the API server gives them


def refuses(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Fault:
    """Answer with a Status."""
    return answers(code, json.dumps(_status(code, reason, message)), {**_JSON, **(headers or {})})


def etcd_times_out() -> Fault:
    return refuses(500, "InternalError", "etcdserver: request timed out")


def etcd_is_full() -> Fault:
    return refuses(500, "InternalError", "etcdserver: mvcc: database space exceeded")


def conflicts() -> Fault:
    return refuses(409, "Conflict", "Operation cannot be fulfilled: the object has been modified")


def throttles_by_priority() -> Fault:
    """Answer as API priority and fairness does."""
    headers = {"Retry-After": "1", "X-Kubernetes-PF-FlowSchema-UID": "x", "Content-Type": "text/plain; charset=utf-8"}
    return answers(429, "Too many requests, please try again later.\n", headers)


def expired() -> Fault:
    """Answer 410, as to a resourceVersion that is too old."""
    return refuses(410, "Expired", "too old resource version: 1 (2)")


def expires_in_stream() -> Fault:
    """Begin a watch, and say in it that its resourceVersion is too old."""

    async def fault(request: web.Request, _forward: Forward) -> web.StreamResponse:
        response = web.StreamResponse(headers=_JSON)
        await response.prepare(request)
        event = {"type": "ERROR", "object": _status(410, "Expired", "too old resource version: 1 (2)")}
        await response.write(json.dumps(event).encode() + b"\n")
        return response

    return fault


_JSON = {"Content-Type": "application/json"}


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**head, "message": message, "reason": reason, "code": code}


# The proxy itself


class _Switch:
    """What tests turn from their own thread."""

    def __init__(self) -> None:
        self.down = False
        self.in_vain = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.open: WeakSet[asyncio.Transport] = WeakSet()

    def cut(self) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for transport in list(self.open):
            with suppress(AttributeError):  # of one over TLS that has ended already, by Python 3.11.2
                transport.abort()


@contextmanager
def api_proxy(url: str, ca_file: Path, folder: Path) -> Iterator[APIProxy]:
    """Run a proxy before the API server at `url`, whose authority is in `ca_file`; `folder` takes its own."""
    certificate = certificate_authority(folder / "certificates").issue("127.0.0.1", "localhost")
    line = _Line(url, ssl.create_default_context(cafile=str(ca_file)))
    handler = _Handler(line)
    with serve(handler.handle, certificate=certificate, requests=handler.requests, cleanup=line.close) as server:
        yield APIProxy(server.url, certificate.ca_file, handler)


class _Handler:
    """What happens to each request."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.requests: list[Received] = []
        self.switch = _Switch()
        self.injections: list[Injection] = []
        self.writes: list[Write] = []
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.clear()  # in hours of a benchmark they would be many
        self.switch.loop = asyncio.get_running_loop()
        if request.transport is not None:
            self.switch.open.add(request.transport)
        if self.switch.down:
            self.switch.in_vain += 1
            return cut(request)
        with self.lock:
            self.counts[described(request)] += 1
        try:
            return await self._answer(request)
        except (ClientError, TimeoutError):
            return cut(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        async def forward() -> Answer:
            async with self._line.open(request) as response:
                answer = Answer(response.status, await response.read(), _end_to_end(response.headers))
            if is_write(request):
                self.writes.append(Write(request.method, request.path, await request.read(), answer.status))
            return answer

        for injection in self.injections:
            if injection.left != 0 and injection.when(request):
                injection.use()
                return await injection.fault(request, forward)
        if is_watch(request):
            return await self._line.stream(request)
        return (await forward()).response()


def cut(request: web.Request) -> web.Response:
    """End the connection of a request without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def described(request: web.Request) -> str:
    """Return method and path of a request, without what names one namespace or object."""
    parts = request.path.strip("/").split("/")
    root = 2 if parts[0] == "api" else 3
    rest = parts[root:]
    if len(rest) > 2 and rest[0] == "namespaces":
        rest[1] = "*"
        name = 3
    else:
        name = 1
    if len(rest) > name:
        rest[name] = "*"
    method = "WATCH" if is_watch(request) else request.method
    return f"{method} /{'/'.join([*parts[:root], *rest])}"


class _Line:
    """Connections to the API server, kept open as its clients keep theirs."""

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self._url = url.rstrip("/")
        self._trust = trust
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def open(self, request: web.Request) -> AsyncIterator[ClientResponse]:
        if self._session is None:
            timeout = ClientTimeout(total=None, sock_connect=10)
            self._session = ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=timeout)
        async with self._session.request(
            request.method,
            URL(self._url + request.raw_path, encoded=True),
            headers=_end_to_end(request.headers),
            data=await request.read() or None,
            allow_redirects=False,
            ssl=self._trust,
            skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
        ) as response:
            yield response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Pass on an answer piece by piece, until one of both ends it."""
        async with self.open(request) as response:
            passed = web.StreamResponse(status=response.status, headers=_end_to_end(response.headers))
            await passed.prepare(request)
            while request.transport is not None and not request.transport.is_closing():
                try:
                    async with asyncio.timeout(_LOOK_AFTER):
                        piece = await response.content.readany()
                except TimeoutError:
                    continue
                if not piece:
                    break
                await passed.write(piece)
            return passed

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _end_to_end(headers: Any) -> CIMultiDict[str]:  # noqa: ANN401 - a request's and an answer's headers share no type
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Count what goes to an API server.")
    parser.add_argument("kubeconfig", type=Path, help="with certificate-authority as a file")
    parser.add_argument("folder", type=Path, help="takes the certificate and the kubeconfig of the proxy")
    arguments = parser.parse_args()
    config = yaml.safe_load(arguments.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    with api_proxy(cluster["server"], Path(cluster["certificate-authority"]), arguments.folder) as proxy:
        cluster |= {"server": proxy.url, "certificate-authority": str(proxy.ca_file)}
        file = arguments.folder / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        print(file, flush=True)  # noqa: T201 - its output is its purpose
        before: Counter[str] = Counter()
        for _ in sys.stdin:
            now = proxy.counts()
            print(json.dumps(dict((now - before).most_common())), flush=True)  # noqa: T201 - the same
            before = now


if __name__ == "__main__":
    _main()
