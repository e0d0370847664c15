"""Pushing blobs and manifests: whole, in one piece, and believed once the registry names them by their digest."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import urlencode, urljoin, urlsplit

from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.registry.client import RegistryClient, not_allowed
from registry_cleanup.registry.errors import (
    ContentMissingError,
    NotStoredError,
    ReadOnlyError,
    RegistryError,
    ServerFaultError,
    UnreachableError,
)
from registry_cleanup.registry.transport import Answer, json_object

_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
_MOST_MISSING = 1000
_PROBE_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


class Pusher:
    """Pushes to one registry; what is there already is not sent again, and all of it may be done twice."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    async def blob(self, repository: str, content: bytes) -> Digest:
        """Push a blob and return its digest; raise `RegistryError`."""
        digest = Digest("sha256:" + hashlib.sha256(content).hexdigest())

        async def push() -> None:
            url = f"{self._client.url}/v2/{repository}/blobs/uploads/"
            begun = await self._client.send("POST", url, _scope(repository), content=b"")
            _expect(begun, 202, "upload")
            headers = {"Content-Type": "application/octet-stream"}
            place = _joined(url, begun.headers.get("Location", ""), digest)
            _expect(await self._client.send("PUT", place, _scope(repository), headers, content=content), 201, "blob")

        await self._patiently(push)
        return digest

    async def is_taken(self, repository: str) -> bool:
        """Say whether the registry would take a push, by pushing a manifest that is none, under a random tag.

        An upload that is begun tells the same, and leaves files behind, also where it is cancelled.

        Raises:
            RegistryError: it does not say.
        """
        url = f"{self._client.url}/v2/{repository}/manifests/registry-cleanup-probe-{secrets.token_hex(16)}"
        answer = await self._client.send("PUT", url, _scope(repository), {"Content-Type": _PROBE_TYPE}, content=b"")
        if answer.status == 405 and isinstance(not_allowed(answer), ReadOnlyError):
            return False
        _expect(answer, 400, "manifest that is none")
        return True

    async def manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        """Push a manifest by tag or digest, and return its digest.

        Raises:
            ContentMissingError: the registry lacks what it names.
            RegistryError: it is not taken for another reason.
        """
        digest = Digest("sha256:" + hashlib.sha256(content).hexdigest())
        url = f"{self._client.url}/v2/{repository}/manifests/{reference}"

        async def push() -> None:
            headers = {"Content-Type": media_type}
            answer = await self._client.send("PUT", url, _scope(repository), headers, content=content)
            _expect(answer, 201, "manifest")

        await self._patiently(push)
        return digest

    async def _patiently(self, push: Callable[[], Awaitable[None]]) -> None:
        """Push again where nobody knows whether it was taken: the same content has the same name."""
        limits = self._client.limits
        for tries in range(1, limits.attempts):
            try:
                await push()
            except (UnreachableError, ServerFaultError):
                await asyncio.sleep(limits.wait(None, tries))
            else:
                return
        await push()


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _joined(url: str, location: str, digest: Digest) -> str:
    """Return where a blob goes that an upload at `url` was begun for.

    On the registry's own host and scheme, whatever it takes them to be: the login goes with it.
    """
    try:
        place = urlsplit(urljoin(url, location))
    except ValueError as error:
        raise NotStoredError("the registry names no place for an upload") from error
    if not place.path.startswith("/"):
        # It would be read as part of the host.
        raise NotStoredError("the registry names no place for an upload")
    query = f"{place.query}&" if place.query else ""
    own = urlsplit(url)
    return f"{own.scheme}://{own.netloc}{place.path}?{query}{urlencode({'digest': digest})}"


def _expect(answer: Answer, status: int, what: str) -> None:
    """Raise unless the registry has taken what was pushed."""
    if answer.status == status:
        return
    if answer.status == 405 and isinstance(error := not_allowed(answer), ReadOnlyError):
        raise error
    missing = tuple(_missing(answer)) if answer.code in _MISSING else ()
    if what == "manifest" and answer.code in _MISSING and answer.status != 404:
        raise ContentMissingError("the registry lacks what the manifest names", answer.code, missing)
    raise NotStoredError(f"the registry answers {answer.status} ({answer.code}) to the push of a {what}", answer.code)


def _missing(answer: Answer) -> Iterator[Digest]:
    """Yield what the registry says that it lacks."""
    try:
        errors = json_object(answer)["errors"][:_MOST_MISSING]
        details = [error.get("detail") for error in errors if error.get("code") in _MISSING]
    except (RegistryError, LookupError, TypeError, AttributeError):
        return
    for detail in details:
        # Distribution 2 and 3 give the digest itself, or an object that holds it.
        for text in detail.values() if isinstance(detail, dict) else [detail]:
            try:
                yield parse_digest(text)
            except (ValueError, TypeError):
                continue
