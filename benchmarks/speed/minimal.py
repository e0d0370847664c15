"""The least requests that the work of a policy takes, worked out from what was written, and not by the operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from benchmarks.speed.truth import NOW, Going, RepositoryTruth, Truth
from tests.support.images import MANIFEST_TYPES

_ACCEPT = f"Accept: {', '.join(MANIFEST_TYPES)}\r\n"


class Request(NamedTuple):
    """One request: method, path, and more lines of its head."""

    method: str
    path: str
    more: str = ""

    def encoded(self, host: str) -> bytes:
        """Return it as HTTP/1.1 sends it to `host`."""
        return f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\n{self.more}\r\n".encode()


def names(truth: Truth) -> Iterator[Request]:
    """Yield what a policy takes whose rules read nothing but names: the lists."""
    yield Request("GET", "/v2/_catalog?n=1000")
    for one in truth.repositories:
        yield Request("GET", f"/v2/{one.name}/tags/list")


def cold(truth: Truth, age: timedelta) -> Iterator[Request]:
    """Yield what a policy takes that sees everything for the first time, and by which goes what is older than `age`.

    The lists; each tag's manifest, which brings its digest; the config of each image that is tagged. The date of an
    index is the newest of its platforms, which are reached through their manifests: one that is young enough will do.
    """
    yield from names(truth)
    for one in truth.repositories:
        yield from (_manifest("GET", one, tag) for tag in one.tags)
        tagged = dict.fromkeys(one.tags.values())
        images = {digest: None for digest in tagged if not one.facts[digest].children}
        platforms = dict.fromkeys(child for digest in tagged for child in _telling(one, digest, age))
        yield from (_manifest("GET", one, child) for child in platforms if child not in tagged)
        configs = dict.fromkeys(one.facts[digest].config for digest in [*images, *platforms])
        yield from (Request("GET", f"/v2/{one.name}/blobs/{config}") for config in configs)


def _telling(one: RepositoryTruth, index: str, age: timedelta) -> Iterator[str]:
    """Yield the platforms of an index that have to be read until it is known whether it is older than `age`."""
    for child in one.facts[index].children:
        yield child
        if NOW - one.created(child) <= age:
            return


def warm(truth: Truth) -> Iterator[Request]:
    """Yield what the same policy takes that has seen all of it before: the lists, and each tag's digest."""
    yield from names(truth)
    for one in truth.repositories:
        yield from (_manifest("HEAD", one, tag) for tag in one.tags)


def deletions(going: Iterable[Going]) -> Iterator[Request]:
    """Yield what makes these tags go at a registry that deletes tags."""
    for repository, tag, _ in going:
        yield Request("DELETE", f"/v2/{repository}/manifests/{tag}")


def _manifest(method: str, one: RepositoryTruth, reference: str) -> Request:
    return Request(method, f"/v2/{one.name}/manifests/{reference}", _ACCEPT)
