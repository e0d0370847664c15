"""The `/v2/` API of a registry, authorised: repositories, tags, manifests, configs, DELETE."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.reference import Digest, is_repository, is_tag, parse_digest
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.registry.auth import Authenticator
from registry_cleanup.registry.errors import (
    KNOWN_CODES,
    DeletionDisabledError,
    DeniedError,
    MalformedAnswerError,
    NotARegistryError,
    NotFoundError,
    ReadOnlyError,
    RegistryError,
    ServerFaultError,
    UnreachableError,
)
from registry_cleanup.registry.manifests import (
    ACCEPT,
    MOST_CHILDREN,
    Document,
    format_of,
    listed_manifests,
    read_manifest,
)
from registry_cleanup.registry.pages import joined, names, next_link
from registry_cleanup.registry.transport import Answer, Limits, Ready, Transport, json_object

# OCI distribution specification 1.1: registries should accept manifests of at least 4 MiB; configs are like them.
_MANIFEST_BYTES = 16 * 1024 * 1024
# Distribution refuses more than this in one page of its catalogue.
_CATALOG_PAGE = 1000
_MOST_PAGES = 100_000
_MOST_REDIRECTS = 5
_CATALOG_SCOPE = "registry:catalog:*"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a tag or digest names."""

    digest: Digest
    format: Format


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest as it was served.

    Attributes:
        digest: checked against the content, where we understand that.
        format: by its media type.
        media_type: as the registry calls it.
        body: its JSON; empty where we do not understand it.
        size: of the content, in bytes.
    """

    digest: Digest
    format: Format
    media_type: str
    body: Mapping[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A manifest byte for byte; its digest is checked."""

    digest: Digest
    media_type: str
    content: bytes


class RegistryClient:
    """Reads and deletes at one registry.

    Attributes:
        signatures: whether an answer bore OpenShift's `X-Registry-Supports-Signatures`.
    """

    def __init__(self, url: str, transport: Transport, auth: Authenticator) -> None:
        """Make a client of the registry at `url` (scheme, host and port)."""
        self._url = url
        self._origin = Endpoint.of(url)
        self._transport = transport
        self._auth = auth
        self.signatures = False
        self._has_referrers = True

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self._url

    @property
    def server(self) -> str:
        """`host:port` of the registry."""
        return self._origin.server

    @property
    def limits(self) -> Limits:
        """How long and how often one request is tried."""
        return self._transport.limits

    @property
    def clock_offset(self) -> timedelta | None:
        """The registry's clock minus ours; None before its first answer."""
        return self._transport.clock_offset

    @property
    def requests(self) -> int:
        """How many requests were sent so far, those to token services included."""
        return self._transport.sent

    @property
    def openshift(self) -> bool:
        """Whether the answers so far are those of OpenShift's integrated registry."""
        return self._auth.openshift or self.signatures

    async def ping(self) -> None:
        """Ask for `/v2/`, logging in if that is wanted; raise `RegistryError` where no registry answers."""
        answer = await self.send("GET", f"{self._url}/v2/", "")
        self.signatures = self.signatures or "X-Registry-Supports-Signatures" in answer.headers
        if answer.status == 400 and not answer.body:
            self._expect_ok(answer, "API version")  # OpenShift's, which passes
        if answer.status != 200:
            raise NotARegistryError(
                f"no registry answers at {self._origin.host_port} (GET /v2/: {answer.status}); "
                + self._auth.words.address
            )

    async def repositories(self) -> list[str]:
        """Return the names of all repositories, sorted."""
        try:
            return await self._list(f"/v2/_catalog?n={_CATALOG_PAGE}", _CATALOG_SCOPE, "repositories", is_repository)
        except MalformedAnswerError as error:
            if error.code != "PAGINATION_NUMBER_INVALID":
                raise
            # A registry that allows smaller pages only: let it choose.
            return await self._list("/v2/_catalog", _CATALOG_SCOPE, "repositories", is_repository)

    async def tags(self, repository: str) -> list[str]:
        """Return the names of all tags, sorted; raise `NotFoundError` if the repository is unknown.

        `n` is never sent: Distribution 2 ignores it, 3.0 skips a tag behind a `last` that is gone, OpenShift loses
        tags (registries.md, 2 and 7). Registries that page by themselves say so in `Link`.
        """
        return await self._list(f"/v2/{repository}/tags/list", _scope(repository), "tags", is_tag)

    async def resolve(
        self, repository: str, reference: str, *, deleting: bool = False, expected: Digest | None = None
    ) -> Descriptor | None:
        """Return what a tag or digest names now, or None if the registry has no such manifest.

        If it is `expected` to name a digest, the registry may say just that it does, which costs Distribution 3.1 less
        than half (0.14 ms instead of 0.31, measured): it reads the tag then, and not the manifest.
        """
        url = f"{self._url}/v2/{repository}/manifests/{reference}"
        headers = {"Accept": ACCEPT}
        if expected is not None:
            headers["If-None-Match"] = f'"{expected}"'
        answer = await self.send("HEAD", url, _scope(repository, deleting=deleting), headers)
        if answer.status == 404:
            return None
        if answer.status == 304 and expected is not None:
            named = answer.headers.get("Docker-Content-Digest", expected)
            return Descriptor(_digest(named), Format.UNKNOWN)
        self._expect_ok(answer, f"HEAD of {repository}:{reference}")
        digest = answer.headers.get("Docker-Content-Digest")
        if digest is None:  # the header is optional for registries: hash the body then
            document = await self.manifest(repository, reference)
            return None if document is None else Descriptor(document.manifest.digest, document.manifest.format)
        return Descriptor(_digest(digest), format_of(answer.headers.get("Content-Type")))

    async def manifest(self, repository: str, reference: str) -> Document | None:
        """Return the facts of the manifest that a tag or digest names, in one request; None if there is none."""
        found = await self.content(repository, reference)
        return None if found is None else read_manifest(found.digest, found.format, found.body, found.size)

    async def content(self, repository: str, reference: str) -> Content | None:
        """Return the manifest that a tag or digest names, body and digest in one request; None if there is none."""
        url = f"{self._url}/v2/{repository}/manifests/{reference}"
        answer = await self.send("GET", url, _scope(repository), {"Accept": ACCEPT}, _MANIFEST_BYTES)
        if answer.status == 404:
            return None
        self._expect_ok(answer, f"manifest of {repository}:{reference}")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        format_ = format_of(media_type)
        named = answer.headers.get("Docker-Content-Digest")
        if format_ is Format.UNKNOWN:
            # Schema 1 is named by the digest of its payload without signatures: not ours to check.
            digest = _digest(named) if named else _sha256(answer.body)
            return Content(digest, format_, media_type, {}, len(answer.body))
        digest = _verified(answer.body, named, reference)
        return Content(digest, format_, media_type, json_object(answer), len(answer.body))

    async def config(self, repository: str, digest: Digest) -> dict[str, Any] | None:
        """Return an image's config, empty where it is no JSON object; None if the registry has no such blob."""
        answer = await self._blob(repository, digest, f"config {digest} of {repository}")
        if answer is None:
            return None
        try:
            return json_object(answer)
        except MalformedAnswerError:
            return {}  # an artifact's config need not be JSON, and then it says nothing

    async def blob(self, repository: str, digest: Digest) -> bytes | None:
        """Return a blob that its digest names; None if the registry has none."""
        answer = await self._blob(repository, digest, f"blob {digest} of {repository}")
        return None if answer is None else answer.body

    async def serves_blob(self, repository: str, digest: Digest) -> bool:
        """Say whether the registry has a blob, and not only knows of it.

        Distribution remembers sizes of blobs (`storage.cache.blobdescriptor`, on in its image's own configuration), so
        HEAD finds one whose file a garbage collection took: one byte of it is asked for.
        """
        url = f"{self._url}/v2/{repository}/blobs/{digest}"
        try:
            answer = await self.send("GET", url, _scope(repository), {"Range": "bytes=0-0"}, _MANIFEST_BYTES)
        except MalformedAnswerError:
            return True  # all of it, which is large, instead of a byte
        except UnreachableError:
            await self.ping()  # raises if it is not this blob alone that is cut off
            return False
        # A redirect leads to where it is; of a blob of no bytes there is no first one (416).
        if answer.status not in (200, 206, 301, 302, 303, 307, 308, 404, 416):
            self._expect_ok(answer, f"blob {digest} of {repository}")
        return answer.status != 404

    async def _blob(self, repository: str, digest: Digest, what: str) -> Answer | None:
        url = f"{self._url}/v2/{repository}/blobs/{digest}"
        answer = await self._follow(await self.send("GET", url, _scope(repository)), url)
        if answer.status == 404:
            return None
        self._expect_ok(answer, what)
        _verified(answer.body, None, digest)
        return answer

    async def raw(self, repository: str, reference: str) -> Raw | None:
        """Return the manifest that a tag or digest names, byte for byte; None if there is none.

        Raises:
            MalformedAnswerError: it is not what its digest names, as of Docker's schema 1.
        """
        url = f"{self._url}/v2/{repository}/manifests/{reference}"
        answer = await self.send("GET", url, _scope(repository), {"Accept": ACCEPT}, _MANIFEST_BYTES)
        if answer.status == 404:
            return None
        self._expect_ok(answer, f"manifest of {repository}:{reference}")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = _verified(answer.body, answer.headers.get("Docker-Content-Digest"), reference)
        return Raw(digest, media_type, answer.body)

    async def delete(
        self, repository: str, reference: str, ready: Ready | None = None, *, again: bool = False
    ) -> Answer:
        """Send one DELETE of a tag or digest and return what the registry says, be it 202, 400 or 404.

        Args:
            repository: its repository.
            reference: the tag or digest.
            ready: awaited right before it is sent, however long that took; what it raises is raised.
            again: whether it was sent before, and refused.

        Raises:
            RetryableError: it has to be `ready`, and nothing was done: it may be sent again after another look.
            DeletionDisabledError, ReadOnlyError: 405.
            DeniedError: 403, or 401 with a good login.
            RegistryError: no clear answer; the manifest may or may not be gone.
        """
        url = f"{self._url}/v2/{repository}/manifests/{reference}"
        answer = await self.send("DELETE", url, _scope(repository, deleting=True), ready=ready, again=again)
        if answer.status == 405:
            raise not_allowed(answer)
        return answer

    async def referrers(self, repository: str, digest: Digest) -> Collection[Digest]:
        """Return what the registry says that refers to `digest`; nothing where it has no such API."""
        found: set[Digest] = set()
        if not self._has_referrers:
            return found
        path = f"/v2/{repository}/referrers/{digest}"
        async for answer in self._pages(path, _scope(repository), f"referrers of {repository}", optional=True):
            if answer.status == 404:
                # A registry that has this API never says so (OCI distribution specification 1.1, "Listing Referrers").
                self._has_referrers = False
                return found
            found.update(listed_manifests(json_object(answer)))
            if len(found) > MOST_CHILDREN:
                raise MalformedAnswerError(f"a manifest of {repository} has more than {MOST_CHILDREN} referrers")
        return found

    async def _list(self, path: str, scope: str, key: str, valid: Callable[[str], bool]) -> list[str]:
        """Return the names of a list; whole, or an error."""
        found: set[str] = set()
        async for answer in self._pages(path, scope, f"list of {key}"):
            found.update(names(json_object(answer), key, valid))
        return sorted(found)

    async def _pages(self, path: str, scope: str, what: str, *, optional: bool = False) -> AsyncGenerator[Answer, None]:
        """Yield one page after the other to the last; if it is `optional`, the first one may be a 404."""
        url, seen = f"{self._url}{path}", set[str]()
        for _ in range(_MOST_PAGES):
            seen.add(url)
            answer = await self.send("GET", url, scope)
            if answer.status == 404 and len(seen) > 1:
                # Not the unknown repository that a 404 of the first page means.
                raise MalformedAnswerError(f"the registry's {what} breaks off: it has no next page")
            if not (optional and answer.status == 404):
                self._expect_ok(answer, what)
            yield answer
            link = next_link(answer)
            if link is None:
                return
            url = joined(url, link)
            if not self._is_own(url):
                raise MalformedAnswerError("the registry's next page is on another host; it was not followed")
            if url in seen:
                raise MalformedAnswerError("the registry's pages go round in a circle")
        raise MalformedAnswerError(f"the registry's {what} has more than {_MOST_PAGES} pages")

    async def send(
        self,
        method: str,
        url: str,
        scope: str,
        headers: dict[str, str] | None = None,
        most: int | None = None,
        ready: Ready | None = None,
        again: bool = False,
        content: bytes | None = None,
    ) -> Answer:
        """Send a request, logging in on a first 401 or once more with a fresh token, or with what replaced a Secret."""

        async def request() -> Answer:
            return await self._transport.request(
                method, url, sent, most_bytes=most, ready=ready, again=again, content=content
            )

        login = await self._auth.headers(scope)
        sent = {**(headers or {}), **login}
        answer = await request()
        if answer.status == 401:
            self._auth.learn(answer, scope, login)
            sent |= (login := await self._auth.headers(scope))
            answer = await request()
        if answer.status == 401 and await self._auth.renew(scope, login):
            sent |= await self._auth.headers(scope)
            answer = await request()
        if answer.status == 401:
            raise await self._auth.refused(answer, scope, f"{self._url}/v2/")
        if answer.status == 403:
            raise DeniedError(f"the registry does not allow {method} with {scope or 'this login'!r}", answer.code)
        return answer

    async def _follow(self, answer: Answer, url: str) -> Answer:
        """Follow redirects to a blob store, without the credential."""
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            url = joined(url, answer.headers.get("Location", ""))
            try:
                target = Endpoint.of(url)
            except ValueError as error:
                raise MalformedAnswerError("the registry redirects to no URL") from error
            if target.link_local or (target.scheme == "http" and self._origin.scheme == "https"):
                raise MalformedAnswerError(f"the registry redirects to {target.host_port}, which is not followed")
            answer = await self._transport.request("GET", url, {}, most_bytes=_MANIFEST_BYTES)
        raise MalformedAnswerError("the registry redirects without end")

    def _is_own(self, url: str) -> bool:
        try:
            return Endpoint.of(url) == self._origin
        except ValueError:
            return False

    def _expect_ok(self, answer: Answer, what: str) -> None:
        if answer.status == 200:
            return
        if answer.status == 404:
            raise NotFoundError(f"the registry has no {what}", answer.code)
        if answer.status == 400 and not answer.body:
            # OpenShift's registry when its API server hangs: looks like our fault, and passes (openshift.md, 2).
            raise ServerFaultError(f"the registry refuses the {what} without saying why", answer.code)
        raise MalformedAnswerError(f"the registry answers {answer.status} to the {what}", answer.code)


def _scope(repository: str, *, deleting: bool = False) -> str:
    return f"repository:{repository}:{'delete,pull' if deleting else 'pull'}"


def not_allowed(answer: Answer) -> RegistryError:
    """Tell deletion that is off, an error of the API, from read-only mode, which takes the method away."""
    # registries.md, 7: plain text, with the methods that are left.
    plain = answer.headers.get("Content-Type", "").startswith("text/plain")
    if plain and "Allow" in answer.headers and answer.code not in KNOWN_CODES:
        return ReadOnlyError(
            "the registry is read-only, mostly for a garbage collection: wait until that is done; else end it, for "
            "Docker Distribution with REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: false}",
            answer.code,
        )
    return DeletionDisabledError(
        "the registry does not allow deletion; for Docker Distribution set REGISTRY_STORAGE_DELETE_ENABLED=true",
        answer.code,
    )


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise MalformedAnswerError("the registry names a manifest by something that is no digest") from error


def _sha256(body: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(body).hexdigest())


def _verified(body: bytes, named: str | None, reference: str) -> Digest:
    """Return the digest of `body`; raise if the registry, or the request, named it by another."""
    expected = named or (reference if ":" in reference else None)
    if expected is None:
        return _sha256(body)
    digest = _digest(expected)
    algorithm, _, value = digest.partition(":")
    if hashlib.new(algorithm, body).hexdigest() != value or (":" in reference and digest != reference):
        raise MalformedAnswerError("the registry serves content that its digest does not name")
    return digest
