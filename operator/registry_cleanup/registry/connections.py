"""Connections to registries: httpx's requests over aiohttp's, which cost a third of those of httpx (performance.md)."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from urllib.request import getproxies, proxy_bypass

import httpx
from aiohttp import (
    AddrInfoType,
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    InvalidURL,
    NonHttpUrlClientError,
    SocketTimeoutError,
    TCPConnector,
)
from typing_extensions import override
from yarl import URL

# Seconds: servers close what is idle for longer, and a DELETE that meets such a connection would have no answer.
_IDLE = 5.0
_CHUNK = 64 * 1024


class AddressError(OSError):
    """A name leads to an address to which no connection is opened.

    Attributes:
        address: which.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"no connection is opened to {address}")
        self.address = address


class AiohttpTransport(httpx.AsyncBaseTransport):
    """What httpx sends goes over aiohttp's connections; what fails there is raised as httpx would raise it.

    Nothing is ever sent twice, unlike aiohttp does by itself with what HTTP calls idempotent, DELETE among it.
    """

    def __init__(self, tls: ssl.SSLContext, max_connections: int, forbidden: Callable[[str], bool]) -> None:
        """Open at most `max_connections`, and none to an address that is `forbidden`, whatever name leads to it."""
        self._tls = tls
        self._most = max_connections
        self._forbidden = forbidden
        self._proxies = getproxies()
        self._session: ClientSession | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        times = request.extensions["timeout"]
        session = self._session or self._open()
        proxy, login = self._proxy(request.url) if self._proxies else (None, {})
        # Through a tunnel the login is for the proxy alone; without one the proxy reads the request itself.
        own = login.items() if request.url.scheme == "http" else ()
        with _as_httpx():
            response = await session.request(
                request.method,
                # As it is: to quote it again might name something else.
                URL(str(request.url), encoded=True),
                headers=[*request.headers.multi_items(), *own],
                # Not as bytes: aiohttp warns of many of them.
                data=BytesIO(request.content) if request.content else None,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=login or None,
                timeout=ClientTimeout(sock_connect=times["connect"], sock_read=times["read"]),
            )
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
            request=request,
        )

    @override
    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> ClientSession:
        """Make the session, which has to be done where a loop runs."""
        connector = TCPConnector(limit=self._most, ssl=self._tls, keepalive_timeout=_IDLE, socket_factory=self._socket)
        self._session = ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        # A DELETE that may have been carried out is never repeated, and aiohttp has no other way to say so.
        self._session._retry_connection = False  # noqa: SLF001 - a test sees that nothing is sent twice
        return self._session

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """Return the socket of a new connection, where it leads to an address that is allowed."""
        family, kind, protocol, _, address = info
        host = str(address[0]).partition("%")[0]
        if self._forbidden(host):
            raise AddressError(host)
        return socket.socket(family, kind, protocol)

    def _proxy(self, url: httpx.URL) -> tuple[URL | None, dict[str, str]]:
        """Return the proxy that the environment wants for `url` (HTTPS_PROXY and the like, as httpx reads them).

        Its login comes apart from its address, which errors tell: as the header for it.
        """
        found = None if proxy_bypass(url.netloc.decode()) else self._proxies.get(url.scheme) or self._proxies.get("all")
        if not found:
            return None, {}
        proxy = URL(found)
        if proxy.user is None:
            return proxy, {}
        pair = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        return proxy.with_user(None), {"Proxy-Authorization": f"Basic {pair}"}


class _Body(httpx.AsyncByteStream):
    """The body of a response; its connection is free again when it was read whole."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for chunk in self._response.content.iter_chunked(_CHUNK):
                yield chunk

    @override
    async def aclose(self) -> None:
        self._response.close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Translate what aiohttp raises."""
    try:
        yield
    except (ConnectionTimeoutError, SocketTimeoutError) as error:
        connecting = isinstance(error, ConnectionTimeoutError)
        raise (httpx.ConnectTimeout if connecting else httpx.ReadTimeout)(str(error)) from error
    except ClientConnectorError as error:  # nothing was sent
        cause = error.certificate_error if isinstance(error, ClientConnectorCertificateError) else error.os_error
        raise httpx.ConnectError(str(error)) from cause
    except (NonHttpUrlClientError, InvalidURL) as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    except ClientError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except ValueError as error:  # what cannot be written as a header
        raise httpx.LocalProtocolError(str(error)) from error
