"""Pods that appeared since a look: a watch that goes on beside a run, and says so when it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse, together
from registry_cleanup.kube.api import APIError
from registry_cleanup.kube.in_use.doubt import doubt, stopped, unreadable
from registry_cleanup.kube.in_use.gathered import Gathered
from registry_cleanup.kube.in_use.look import Filter, Found
from registry_cleanup.kube.in_use.sources import BUILT_IN, PODS
from registry_cleanup.kube.raw import ExpiredError, RawAPI
from registry_cleanup.ports import Clock, RunError

_log = logging.getLogger(__name__)

_SOURCE = next(source for source in BUILT_IN if source.kind == PODS)
# So long a run waits for a watch that is being mended before it stops.
_PATIENCE = 30.0
_PAUSE = 1.0


class PodWatch:
    """Gathers what pods use that came or changed since a look."""

    def __init__(
        self,
        api: RawAPI,
        clock: Clock,
        found: Found,
        aliases: Sequence[str],
        patience: float = _PATIENCE,
        namespace: str | None = None,
    ) -> None:
        """Go on from `found`, in a namespace that was looked at or in the whole cluster.

        A run waits for `patience` seconds for a watch that broke to be mended.
        """
        self._namespace = namespace
        self._patience = patience
        self._api = api
        self._clock = clock
        self._filter: Filter = found.filter
        self._version = found.pods_versions[namespace]
        self._aliases = aliases
        self._gathered = Gathered()
        self._told: tuple[int, InUse] = (0, NOTHING_IN_USE)
        self._current = asyncio.Event()
        self._doubt: RunError | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PodWatch]:
        """Watch as long as the context lasts.

        Raises:
            RunError: the API server does not let the operator watch.
        """
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._live(begun), name="pods in use")
        try:
            await begun
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def since(self) -> InUse:
        """Return what pods use that came or changed since the look; raise `RunError` where that is not known."""
        try:
            async with asyncio.timeout(self._patience):
                await self._current.wait()
        except TimeoutError as error:
            raise stopped(self._doubt or doubt("the watch of pods broke", mendable=False)) from error
        if self._told[0] != self._gathered.news:
            self._told = (self._gathered.news, self._gathered.in_use(self._aliases)[0])
        return self._told[1]

    async def _live(self, begun: asyncio.Future[None]) -> None:
        """Watch, and mend the watch where it breaks, until cancelled."""
        while True:
            try:
                await self._follow(begun)
            except ExpiredError:
                await self._again(begun)
            except APIError as error:
                self._broken(unreadable(PODS, "watch", error), begun)
                await asyncio.sleep(_PAUSE)
            except RunError as error:
                self._broken(error, begun)
                await asyncio.sleep(_PAUSE)
            except Exception:  # a bug here must stop the deletions, rather than leave them without a look
                _log.exception("unexpected error")
                self._broken(doubt("the watch of pods met an unexpected error, which the log has"), begun)
                await asyncio.sleep(_PAUSE)

    async def _follow(self, begun: asyncio.Future[None]) -> None:
        """Take note of events until the API server ends them."""
        async with self._api.watch(PODS, self._version, self._namespace) as events:
            self._current.set()
            if not begun.done():
                begun.set_result(None)
            try:
                async for event in events:
                    self._take(event)
            finally:
                self._current.clear()

    async def _again(self, begun: asyncio.Future[None]) -> None:
        """List all pods anew where events are lost: what all of them use is known then, and more than is needed."""
        self._current.clear()
        await asyncio.sleep(_PAUSE)  # where events are always lost, lists must not follow one another without end
        version = ""
        try:
            async for page in self._api.pages(PODS, namespace=self._namespace):
                version = version or page.version
                self._gathered.merge(await asyncio.to_thread(self._filter.read, _SOURCE, page.items, self._clock.now()))
        except APIError as error:
            self._broken(unreadable(PODS, "list", error), begun)
            await asyncio.sleep(_PAUSE)
            return
        self._version = version

    def _take(self, event: dict[str, Any]) -> None:
        pod = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            self._gathered.merge(self._filter.read(_SOURCE, [pod], self._clock.now()))
        self._version = str(pod["metadata"]["resourceVersion"])

    def _broken(self, error: RunError, begun: asyncio.Future[None]) -> None:
        self._current.clear()
        self._doubt = error
        if not begun.done():
            begun.set_exception(error)
        else:
            _log.warning("the watch of pods broke", extra={"cause": error.failure.message})


class AllWatches:
    """Watches of several namespaces, as one."""

    def __init__(self, watches: Sequence[PodWatch]) -> None:
        self._watches = watches
        self._parts = [NOTHING_IN_USE for _ in watches]
        self._told = NOTHING_IN_USE

    async def since(self) -> InUse:
        """Return what pods of any namespace use that came or changed since the look; raise `RunError`."""
        parts = [await watch.since() for watch in self._watches]
        # A watch tells the same object until there is news, of which there is little between two deletions.
        if any(new is not old for new, old in zip(parts, self._parts, strict=True)):
            self._parts, self._told = parts, together(parts)
        return self._told
