"""A stand-in for OpenShift's integrated registry: its logins, rights and quirks.

Whether a token is good and what it may do, the real API server decides. The images are those of the stand-in for
`image.openshift.io`, with the histories of its streams; or those of a real Distribution 3.1, whose repositories
of the form `namespace/name` are the image streams. Facts: `facts/openshift.md`, sections 1 to 4 and 8.

Not copied: pushes and blob deletions (501), schema 1 for clients that accept nothing, the limiter, /admin and
/extensions; before a real Distribution also the history of a tag (only its current digest and, for an index,
its children count as referenced); in memory the content of layers.
"""

import asyncio
import base64
import binascii
import bisect
import json
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web

from tests.support.certificates import ServerCertificate
from tests.support.controlplane import ControlPlane
from tests.support.http import Received, serve
from tests.support.image_api import ImageApi
from tests.support.images import OCI_INDEX, OCI_MANIFEST
from tests.support.openshift_backend import (
    ApiServer,
    Behind,
    NotAStreamError,
    RegistryBehind,
    StreamsBehind,
    UnavailableError,
    Want,
    is_stream,
)

TOKEN_PATH = "/openshift/token"

_Handler = Callable[[], Awaitable[web.Response]]

_ANONYMOUS = "anonymous"
_VERSION_HEADER = {"Docker-Distribution-Api-Version": "registry/2.0"}
_SIGNATURES_HEADER = {"X-Registry-Supports-Signatures": "1"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>tags|manifests|blobs)/(?P<reference>[^/]+)")
_NEEDED_IN_ACCEPT = {
    OCI_MANIFEST: "manifest found, but accept header does not support OCI manifests",
    OCI_INDEX: "index found, but accept header does not support OCI indexes",
}
_CATALOG_DEFAULT = 100
_CATALOG_LIMIT = 1000


@dataclass
class _Switches:
    hang: float | None = None
    failures: int = 0
    realm: str | None = None


@dataclass(frozen=True)
class OpenShiftRegistry:
    """A running stand-in.

    Attributes:
        url: Of the registry.
        requests: What it received, in order.
    """

    url: str
    requests: list[Received]
    _switches: _Switches = field(repr=False)

    @property
    def host(self) -> str:
        """Return host and port, as `images.config.openshift.io` names the registry."""
        return self.url.partition("//")[2]

    def token_hangs(self, seconds: float | None) -> None:
        """Refuse every token after so long, as if the API server hung (35 s on a real one); None ends it."""
        self._switches.hang = seconds

    def token_fails_times(self, number: int) -> None:
        """Refuse the next tokens at the token endpoint, good or not, as if the API server failed."""
        self._switches.failures = number

    def forge_realm(self, url: str | None) -> None:
        """Send clients elsewhere for a token, as with an X-Forwarded-Host that a middle box forged."""
        self._switches.realm = url


@contextmanager
def openshift_registry(
    behind: str | ImageApi, control_plane: ControlPlane, certificate: ServerCertificate, *, seed: int = 0
) -> Iterator[OpenShiftRegistry]:
    """Run a stand-in before the image streams of `behind`, or before the registry at that URL.

    Streams that are made from now on name this registry as theirs. `seed` orders what is listed in no order.
    """
    switches = _Switches()
    images: Behind = RegistryBehind(behind) if isinstance(behind, str) else StreamsBehind(behind.store)
    standin = _StandIn(ApiServer(control_plane), images, switches, seed)
    with serve(standin.answer, certificate=certificate) as server:
        if isinstance(behind, ImageApi):
            behind.store.host = server.url.partition("//")[2]
        yield OpenShiftRegistry(server.url, server.requests, switches)


# The answers


class _StandIn:
    """Answers like the integrated registry."""

    def __init__(self, api: ApiServer, streams: Behind, switches: _Switches, seed: int) -> None:
        self._api = api
        self._streams = streams
        self._switches = switches
        # Random like the real one, and the same in every run of a test.
        self._random = random.Random(seed)  # noqa: S311 - no cryptography

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in {"/", "/healthz"}:
            return web.Response()
        if request.path.startswith(TOKEN_PATH):
            answered = await self._token(request)
            answered.headers.update(_VERSION_HEADER)
            return answered
        found = self._route(request)
        if found is None:
            return web.Response(status=404, text="404 page not found\n", headers=_VERSION_HEADER)
        wants, handler = found
        response = await self._refusal(request, wants)
        if response is None:
            response = await handler()
        response.headers.update({**_VERSION_HEADER, **_SIGNATURES_HEADER})
        return response

    def _route(self, request: web.Request) -> tuple[Sequence[Want], _Handler] | None:
        if request.path == "/v2/":
            return [], _ping
        if request.path == "/v2/_catalog":
            return [Want("registry", "catalog", "*")], partial(self._catalog, request)
        found = _ROUTE.fullmatch(request.path)
        if found is None:
            return None
        handler: _Handler = _not_copied
        name, kind, reference = found["name"], found["kind"], found["reference"]
        match kind, request.method:
            case "tags", "GET" if reference == "list":
                handler = partial(self._tags, request, name)
            case "manifests", "GET" | "HEAD":
                handler = partial(self._manifest, request, name, reference)
            case "manifests", "DELETE":
                handler = partial(self._delete, request, name, reference)
            case "blobs", "GET" | "HEAD":
                handler = partial(self._blob, request, name, reference)
            case "tags", _:
                return None
            case _:
                pass
        actions = {"GET": ["pull"], "HEAD": ["pull"], "DELETE": ["delete"]}.get(request.method, ["pull", "push"])
        return [Want("repository", name, action) for action in actions], handler

    # Section 1

    async def _token(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return web.Response(status=405)
        for scope in request.query.getall("scope", []):
            parts = scope.split(":")
            if len(parts) == 3 and parts[0] in {"repository", "signature"} and not is_stream(parts[1]):
                form = "it must be of the format <project>/<name>"
                return _details(f'repository name "{parts[1]}" invalid: {form}')
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if authorization is None:
            return _echo(_ANONYMOUS)
        password = _basic_password(authorization)
        if password is None:
            return _bare_refusal()
        if self._switches.hang is not None:
            await asyncio.sleep(self._switches.hang)
            return _details("unable to validate token")
        if self._switches.failures > 0:
            self._switches.failures -= 1
            return _details("unable to validate token")
        return await self._validated(password)

    async def _validated(self, password: str) -> web.Response:
        try:
            review = await self._api.review(password)
        except UnavailableError:
            return _details("unable to validate token")
        if review.status == 201:
            return _echo(password)
        if review.status == 401:
            return _bare_refusal()
        return _details(f"unable to validate token: {json.loads(review.body)['reason']}")

    # Sections 2 and 8

    async def _refusal(self, request: web.Request, wants: Sequence[Want]) -> web.Response | None:
        """Return what refuses the request, or None."""
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        scheme, _, credential = authorization.partition(" ")
        match scheme.lower():
            case "bearer" if credential:
                token = "" if credential == _ANONYMOUS else credential
            case "basic":
                token = _basic_password(authorization) or ""
                if not token:
                    return _challenge('Basic realm=openshift,error="failed to decode credentials"', wants)
            case _:
                return _challenge(f'Bearer realm="{self._realm(request)}"', wants)
        try:
            allowed = await self._allowed(token, wants)
        except (UnavailableError, NotAStreamError):
            return web.Response(status=400)
        return None if allowed else _challenge('Basic realm=openshift,error="access denied"', wants)

    async def _allowed(self, token: str, wants: Sequence[Want]) -> bool:
        if token and (await self._api.review(token)).status != 201:
            return False
        for want in wants:
            if want.type == "repository" and not is_stream(want.name):
                raise NotAStreamError
            if not await self._api.allows(token, want):
                return False
        return True

    def _realm(self, request: web.Request) -> str:
        if self._switches.realm is not None:
            return self._switches.realm + TOKEN_PATH
        # Whoever stands between client and registry may say who the registry is.
        forwarded = {name: request.headers.get(f"X-Forwarded-{name}", "") for name in ("Proto", "Host", "Port")}
        host = forwarded["Host"] or request.host
        if forwarded["Port"]:
            host = f"{host.partition(':')[0]}:{forwarded['Port']}"
        return f"{forwarded['Proto'] or request.scheme}://{host}{TOKEN_PATH}"

    # Section 3

    async def _catalog(self, request: web.Request) -> web.Response:
        names = await self._streams.names()
        last = request.query.get("last", "")
        names = [name for name in names if name > last]
        number = _page_size(request, _CATALOG_DEFAULT)
        if number is None or number > _CATALOG_LIMIT:
            return _bad_page_size(request)
        page = names[:number]
        return _page(request, {"repositories": page}, page, more=len(names) > number)

    async def _tags(self, request: web.Request, name: str) -> web.Response:
        tags = await self._streams.tags(name)
        if tags is None:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
        self._random.shuffle(tags)
        if last := request.query.get("last"):
            # A binary search in a list without order: this is how the real one loses tags.
            tags = tags[bisect.bisect_left(tags, last) + 1 :]
        number = _page_size(request, len(tags))
        if number is None:
            return _bad_page_size(request)
        page = tags[:number]
        return _page(request, {"name": name, "tags": page}, page, more=len(tags) > number)

    async def _manifest(self, request: web.Request, name: str, reference: str) -> web.Response:
        tags = await self._streams.tags(name)
        is_digest = _DIGEST.fullmatch(reference) is not None
        if tags is None and is_digest:
            return _error(500, "UNKNOWN", "unknown error", {})
        if tags is None:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry")
        if is_digest and not await self._streams.refer_to(name, reference, tags):
            # The blob may still be there: what counts is the stream.
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Name": name, "Revision": reference})
        if not is_digest and reference not in tags:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Tag": reference})
        answer = await self._streams.manifest(request, name, reference)
        accepted = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        media_type = answer.headers.get(hdrs.CONTENT_TYPE, "")
        if media_type in _NEEDED_IN_ACCEPT and media_type not in accepted:
            message = f"OCI {_NEEDED_IN_ACCEPT[media_type]}"
            return _error(404, "MANIFEST_UNKNOWN", message)
        return answer.response()

    async def _blob(self, request: web.Request, name: str, digest: str) -> web.Response:
        return (await self._streams.blob(request, name, digest)).response()

    # Section 4

    async def _delete(self, request: web.Request, name: str, reference: str) -> web.Response:
        if _DIGEST.fullmatch(reference) is None:
            return web.Response(status=202)
        tags = await self._streams.tags(name)
        if tags is None:
            return _error(500, "UNKNOWN", "unknown error", {})
        if await self._streams.refer_to(name, reference, tags):
            return _error(405, "UNSUPPORTED", "The operation is unsupported.")
        answer = await self._streams.delete(request, name, reference)
        if answer.status == 404:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return web.Response(status=answer.status)


def _basic_password(authorization: str) -> str | None:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if colon else None


def _page_size(request: web.Request, default: int) -> int | None:
    """Return the parameter `n`, or None where it is no number of entries."""
    try:
        number = int(request.query.get("n", default))
    except ValueError:
        return None
    return number if number >= 0 else None


def _page(request: web.Request, body: Mapping[str, Any], page: Sequence[str], *, more: bool) -> web.Response:
    response = _json(200, body)
    if page and more:
        target = f"{request.path}?{urlencode({'last': page[-1], 'n': len(page)})}"
        response.headers["Link"] = f'<{target}>; rel="next"'
    return response


def _bad_page_size(request: web.Request) -> web.Response:
    detail = {"n": request.query.get("n", "")}
    return _error(400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested", detail)


def _challenge(header: str, wants: Sequence[Want]) -> web.Response:
    detail = [want.detail for want in wants] or None
    body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": detail}]}
    return _json(401, body, {"WWW-Authenticate": header})


def _error(status: int, code: str, message: str, detail: Mapping[str, str] | None = None) -> web.Response:
    more = {} if detail is None else {"detail": detail}
    return _json(status, {"errors": [{"code": code, "message": message, **more}]})


def _echo(token: str) -> web.Response:
    return _json(200, {"access_token": token, "token": token})


def _details(details: str) -> web.Response:
    return _json(401, {"details": details})


def _bare_refusal() -> web.Response:
    return web.Response(status=401, body=b"", headers={hdrs.CONTENT_TYPE: "application/json"})


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    text = json.dumps(body, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
    return web.Response(status=status, text=f"{text}\n", content_type="application/json", headers=dict(headers or {}))


async def _ping() -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")


async def _not_copied() -> web.Response:
    return web.Response(status=501, text="the stand-in for OpenShift's registry cannot do this\n")
