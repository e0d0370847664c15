"""Where a connection leads is looked at before anything is sent: a name may resolve to any address."""

import asyncio
import base64
import ssl
import traceback
from dataclasses import replace

import pytest
from aiohttp import web
from typing_extensions import override

from registry_cleanup.domain.trust import link_local
from registry_cleanup.lanes import Lane, OwnLimits
from registry_cleanup.registry.errors import ForbiddenAddressError, RegistryError, UnreachableError
from registry_cleanup.registry.transport import Transport
from tests.support.clients import QUICK, SystemClock, free
from tests.support.http import serve
from tests.support.processes import free_port


async def _answer(_request: web.Request) -> web.StreamResponse:
    return web.json_response({})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_name_that_leads_to_a_forbidden_address_gets_nothing(host: str, method: str) -> None:
    asked: list[str] = []

    def forbidden(address: str) -> bool:
        asked.append(address)
        return not allowed

    allowed = False
    with serve(_answer) as server:
        url = server.url.replace("127.0.0.1", host)
        transport = Transport(
            SystemClock(), ssl.create_default_context(), free(1), max_connections=1, limits=QUICK, forbidden=forbidden
        )
        with pytest.raises(ForbiddenAddressError, match=r"leads to 127\.0\.0\.1") as caught:
            await transport.request(method, f"{url}/v2/", {"Authorization": "Basic secret"})
        assert asked == ["127.0.0.1"]  # once: it is no failure that passes
        # The server has seen the first connection end when it answers on the next.
        allowed = True
        assert (await transport.request("GET", f"{url}/other", {})).status == 200
        await transport.close()
    assert (caught.value.failure.mendable, caught.value.failure.reachable) == (True, False)
    assert [request.path for request in server.requests] == ["/other"]


async def test_a_connection_is_looked_at_once_and_then_used_again() -> None:
    asked: list[str] = []

    def forbidden(address: str) -> bool:
        asked.append(address)
        return False

    with serve(_answer) as server:
        transport = Transport(
            SystemClock(), ssl.create_default_context(), free(2), max_connections=2, limits=QUICK, forbidden=forbidden
        )
        for _ in range(3):
            assert (await transport.request("GET", f"{server.url}/v2/", {})).status == 200
        await asyncio.gather(*(transport.request("GET", f"{server.url}/v2/", {}) for _ in range(2)))
        await transport.close()
    assert asked in (["127.0.0.1"], ["127.0.0.1"] * 2)


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("169.254.169.254", True),
        ("fe80::1", True),
        ("::ffff:169.254.169.254", True),
        ("169.253.255.255", False),
        ("10.0.0.1", False),
        ("::1", False),
    ],
)
def test_link_local_addresses_are_the_forbidden_ones(address: str, *, forbidden: bool) -> None:
    assert link_local(address) is forbidden


@pytest.mark.parametrize(("bypassed", "through_proxy"), [("", True), ("127.0.0.1", False)])
async def test_requests_go_through_the_proxy_that_the_environment_names_unless_it_excepts_the_host(
    monkeypatch: pytest.MonkeyPatch, bypassed: str, *, through_proxy: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serve(_answer) as proxy, serve(_answer) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", bypassed)
        transport = Transport(SystemClock(), ssl.create_default_context(), free(1), max_connections=1, limits=QUICK)
        assert (await transport.request("GET", f"{server.url}/v2/", {})).status == 200
        await transport.close()
    assert (len(proxy.requests), len(server.requests)) == ((1, 0) if through_proxy else (0, 1))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_gets_its_login_and_no_error_tells_it(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    heads: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv(f"{scheme}_proxy", f"http://puser:PROXYSECRET@127.0.0.1:{port}")
        transport = Transport(SystemClock(), ssl.create_default_context(), free(1), max_connections=1, limits=QUICK)
        try:
            with pytest.raises(RegistryError) as caught:
                await transport.request("GET", f"{scheme}://registry.example.com/v2/", {})
        finally:
            await transport.close()
    assert "PROXYSECRET" not in "".join(traceback.format_exception(caught.value))
    login = base64.b64encode(b"puser:PROXYSECRET").decode()
    assert heads
    assert all(head.count(f"Proxy-Authorization: Basic {login}") == 1 for head in heads)


async def test_every_attempt_is_counted_and_an_overload_is_told_at_the_gate() -> None:
    statuses = iter([503, 429, 200])
    told: list[bool] = []

    class Told(Lane):
        @override
        def leave(self, *, overloaded: bool = False) -> None:
            told.append(overloaded)
            super().leave(overloaded=overloaded)

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=next(statuses))

    with serve(answer) as server:
        lane = Told(None, "tests", OwnLimits(1))
        transport = Transport(SystemClock(), ssl.create_default_context(), lane, max_connections=1, limits=QUICK)
        assert (await transport.request("GET", f"{server.url}/v2/", {})).status == 200
        await transport.close()
    assert (transport.sent, told) == (3, [True, True, False])


async def _hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _why(url: str) -> str:
    limits = replace(QUICK, attempts=1, read=0.2)
    transport = Transport(SystemClock(), ssl.create_default_context(), free(1), max_connections=1, limits=limits)
    try:
        with pytest.raises(UnreachableError) as caught:
            await transport.request("GET", url, {})
    finally:
        await transport.close()
    return caught.value.failure.message


async def test_why_there_is_no_answer_is_told_in_a_few_words() -> None:
    assert "cannot be reached (connection refused)" in await _why(f"http://127.0.0.1:{free_port()}/v2/")
    assert "cannot be reached (no such host)" in await _why("http://registry.invalid/v2/")
    with serve(_hangs) as server:
        assert await _why(server.url) == "no whole answer from the registry (time limit)"
    with serve(_hangs_up) as server:
        assert await _why(server.url) == "no whole answer from the registry (connection lost)"
