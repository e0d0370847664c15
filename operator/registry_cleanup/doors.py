"""Which registries nobody works at just now: while garbage is collected there, no run is, and the other way round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from registry_cleanup.domain.trust import Endpoint


def registry_key(url: str | None) -> str:
    """Return what the registry of a policy is called here: host and port, or OpenShift's own.

    The names that one Service has within its cluster are one.
    """
    if url is None:
        return ""
    host, _, port = Endpoint.of(url).server.rpartition(":")
    service, namespace, *rest = [*host.split("."), ""]
    return f"{service}.{namespace}:{port}" if rest[:1] == ["svc"] else f"{host}:{port}"


class Doors:
    """The doors of all registries of this process.

    Runs, of plans too, are inside; a collection shuts the door, and begins once nobody is inside any more. Whoever
    comes meanwhile stays outside, so that a collection waits for the runs of one moment, and not for all of a day.

    Attributes:
        all_shut: while nobody knows yet what an operator before this one has left frozen.
    """

    def __init__(self) -> None:
        self.all_shut = False
        self._inside: Counter[str] = Counter()
        self._shut: Counter[str] = Counter()
        self._collecting: Counter[str] = Counter()

    def is_shut(self, registry: str) -> bool:
        """Say whether nobody may begin to work at `registry`."""
        return self.all_shut or self._shut[registry] > 0

    def is_empty(self, registry: str) -> bool:
        """Say whether nobody works at `registry`."""
        return self._inside[registry] == 0

    def is_collected(self, *keys: str) -> bool:
        """Say whether a collection that has begun there has not ended: at a registry, or of a workload."""
        return any(self._collecting[key] > 0 for key in keys)

    @property
    def any_is_collected(self) -> bool:
        """Whether a collection goes on at any registry."""
        return any(count > 0 for count in self._collecting.values())

    @contextmanager
    def collecting(self, *keys: str) -> Iterator[None]:
        """Let no other collection begin there."""
        self._collecting.update(keys)
        try:
            yield
        finally:
            self._collecting.subtract(keys)

    @contextmanager
    def inside(self, registry: str) -> Iterator[bool]:
        """Be inside, and say so; say that one is not where the door is shut."""
        if self.is_shut(registry):
            yield False
            return
        self._inside[registry] += 1
        try:
            yield True
        finally:
            self._inside[registry] -= 1

    @contextmanager
    def shut(self, registry: str) -> Iterator[None]:
        """Keep the door shut; who is inside stays there."""
        self._shut[registry] += 1
        try:
            yield
        finally:
            self._shut[registry] -= 1
