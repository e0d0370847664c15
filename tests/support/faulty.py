"""A proxy in front of a real registry that breaks chosen answers and passes on all others.

A fault is a function of the request and of a way to get the real answer; `inject` says for which requests
and how often it replaces that answer.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, web
from multidict import CIMultiDict

from tests.support.certificates import ServerCertificate
from tests.support.http import Answer, Received, Upstream, serve

Forward = Callable[[], Awaitable[Answer]]
Fault = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


@dataclass
class Injection:
    """A fault with the requests that it concerns.

    Attributes:
        fault: What happens to them.
        method: Their method, or None for any.
        path: What their whole path, without the query, matches.
        left: How many more, or None without end.
        hits: How many so far.
    """

    fault: Fault
    method: str | None
    path: re.Pattern[str]
    left: int | None
    hits: int = 0

    def concerns(self, request: web.Request) -> bool:
        return (
            self.left != 0 and self.method in {None, request.method} and self.path.fullmatch(request.path) is not None
        )

    def use(self) -> None:
        self.hits += 1
        if self.left is not None:
            self.left -= 1


@dataclass(frozen=True)
class FaultyRegistry:
    """A running proxy.

    Attributes:
        url: To be used instead of the registry's.
        requests: What it received, in order.
        injections: In the order of their injection; the first that concerns a request wins.
    """

    url: str
    requests: list[Received]
    injections: list[Injection] = field(default_factory=list)

    def inject(
        self, fault: Fault, *, method: str | None = None, path: str = ".*", times: int | None = None
    ) -> Injection:
        """Let the fault happen to the next `times` matching requests, or to all from now on."""
        injection = Injection(fault, method, re.compile(path), times)
        self.injections.append(injection)
        return injection

    def heal(self) -> None:
        """Pass on everything again."""
        self.injections.clear()


@contextmanager
def faulty_registry(
    upstream_url: str, *, certificate: ServerCertificate | None = None, ca_file: Path | None = None
) -> Iterator[FaultyRegistry]:
    """Run a proxy, over https where there is a certificate; `ca_file` makes an https upstream trusted."""
    trust = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    upstream = Upstream(upstream_url, trust=trust)
    injections: list[Injection] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        async def forward() -> Answer:
            try:
                return await upstream.forward(request)
            except (ClientError, TimeoutError) as error:
                return Answer(502, f"the registry behind the proxy: {error}".encode())

        for injection in injections:
            if injection.concerns(request):
                injection.use()
                return await injection.fault(request, forward)
        return (await forward()).response()

    with serve(handle, certificate=certificate) as server:
        yield FaultyRegistry(server.url, server.requests, injections)


# Answers of its own


def answers(status: int, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer this, without asking the registry."""
    content = body.encode() if isinstance(body, str) else body

    async def fault(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        return Answer(status, content, CIMultiDict(headers or {})).response()

    return fault


def throttles(retry_after: str | None = "1") -> Fault:
    """Answer 429, with a Retry-After header in seconds or as a date, or without one."""
    body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests"}]}'
    headers = {"Content-Type": "application/json"}
    return answers(429, body, headers if retry_after is None else {**headers, "Retry-After": retry_after})


def is_not_json(status: int = 200) -> Fault:
    """Answer with a page for people, as a middle box or a wrong URL does."""
    return answers(status, "<html><body>Welcome</body></html>", {"Content-Type": "text/html"})


def redirects(url: str, status: int = 307) -> Fault:
    """Send the client elsewhere."""
    return answers(status, headers={"Location": url})


# Real answers, changed


def chops_the_body(to: float = 0.5) -> Fault:
    """Send the first part of the real body as if it were the whole: valid HTTP, broken JSON."""

    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        return Answer(answer.status, answer.body[: int(len(answer.body) * to)], answer.headers).response()

    return fault


def truncates_the_body(to: float = 0.5) -> Fault:
    """Announce the real body's length, send the first part of it and close the connection."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[: int(len(answer.body) * to)])
        if request.transport is not None:
            request.transport.close()
        return response

    return fault


def changes_headers(headers: Mapping[str, str | None]) -> Fault:
    """Replace headers of the real answer; None removes one."""

    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        for name, value in headers.items():
            answer.headers.popall(name, None)
            if value is not None:
                answer.headers[name] = value
        return answer.response()

    return fault


def lies_about_the_digest(digest: str = f"sha256:{'0' * 64}") -> Fault:
    """Name another digest than the content's in Docker-Content-Digest."""
    return changes_headers({"Docker-Content-Digest": digest})


def links_to(url: str) -> Fault:
    """Name this as the next page of a listing."""
    return changes_headers({"Link": f'<{url}>; rel="next"'})


def links_to_itself() -> Fault:
    """Name the page that was asked for as the next one: a listing without end."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        answer.headers["Link"] = f'<{request.raw_path}>; rel="next"'
        return answer.response()

    return fault


# Connections


def drops_the_connection() -> Fault:
    """Close the connection without a word; the registry never hears of the request."""

    async def fault(request: web.Request, _forward: Forward) -> web.StreamResponse:
        return _cut(request)

    return fault


def drops_the_answer() -> Fault:
    """Let the registry do what was asked, then close the connection: the client cannot know of it."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await forward()
        return _cut(request)

    return fault


def stalls(limit: float = 60.0) -> Fault:
    """Say nothing for so many seconds, then close the connection."""

    async def fault(request: web.Request, _forward: Forward) -> web.StreamResponse:
        await asyncio.sleep(limit)
        return _cut(request)

    return fault


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


# Time


def before(hook: Callable[[], object]) -> Fault:
    """Call the hook in another thread, wait for it, then pass the request on.

    This is how something changes in the registry between two requests of one client.
    """

    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.to_thread(hook)
        return (await forward()).response()

    return fault


def after(hook: Callable[[], object]) -> Fault:
    """Pass the request on, call the hook in another thread, and only then answer."""

    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        await asyncio.to_thread(hook)
        return answer.response()

    return fault
