"""Tells of a run while it goes on: where it is, in status and in the log, at a bounded rate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from registry_cleanup.concurrency import give_up
from registry_cleanup.domain.course import Course, Progress, Snapshot, Stage
from registry_cleanup.kube.lease import MachineTime, Time

_log = logging.getLogger(__name__)

Sight = Callable[[], Snapshot]
"""Says what a run has come to, at once."""
Follow = Callable[[Sight], AbstractAsyncContextManager[None]]
"""Tells of a run, as long as the context lasts."""
Show = Callable[[Progress], Awaitable[None]]
"""Shows in status where a run is; what cannot be shown is left out."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a run is told of, in seconds.

    Attributes:
        first: from its begin on; a shorter run is told of by its end alone.
        every: at least, from one look to the next, and so from one change of status to the next.
        log_every: from one line in the log to the next, unless the run is at another stage by then.
    """

    first: float = 5.0
    every: float = 10.0
    log_every: float = 30.0


USUAL_PACE = Pace()


def unfollowed(_look: Sight) -> AbstractAsyncContextManager[None]:
    """Tell nobody of a run."""
    return nullcontext()


class Narrator:
    """Tells of one run. It may come late, or to nothing: the run does not notice."""

    def __init__(self, policy: str, run: str, show: Show, pace: Pace = USUAL_PACE, time: Time | None = None) -> None:
        """Tell of the run `run` of `policy` (`namespace/name`)."""
        self._fields = {"policy": policy, "run": run}
        self._show = show
        self._pace = pace
        self._time = time or MachineTime()
        self._shown: Progress | None = None
        self._logged: Stage | None = None
        self._logged_at = 0.0

    @asynccontextmanager
    async def follow(self, look: Sight) -> AsyncIterator[None]:
        """Tell of the run that `look` sees until the context ends; whatever is being told then is dropped."""
        task = asyncio.create_task(self._tell(look), name=f"progress of {self._fields['policy']}")
        try:
            yield
        finally:
            await give_up([task])

    async def _tell(self, look: Sight) -> None:
        try:
            course = Course.begin(look(), self._time.now())
            await self._time.sleep(self._pace.first)
            while True:
                course = course.next(look(), self._time.now())
                self._log(course.progress, course.now_at)
                if course.progress != self._shown:
                    self._shown = course.progress
                    await self._show(course.progress)
                await self._time.sleep(self._pace.every)
        except Exception:  # a bug in what is told must not end what it tells of
            _log.exception("unexpected error", extra=self._fields)

    def _log(self, progress: Progress, at: float) -> None:
        snapshot = progress.snapshot
        if snapshot.stage is self._logged and at - self._logged_at < self._pace.log_every:
            return
        self._logged, self._logged_at = snapshot.stage, at
        _log.info(
            progress.message,
            extra={
                **self._fields,
                "stage": snapshot.stage.value,
                "repositories": snapshot.repositories,
                "repositoriesDone": snapshot.repositories_done,
                "tags": snapshot.tags,
                "tagsRead": snapshot.tags_read,
                "tagsToPrune": snapshot.tags_to_prune,
                "tagsPruned": snapshot.tags_pruned,
                "requests": snapshot.requests,
                "requestsPerSecond": progress.requests_per_second,
                "remainingSeconds": progress.remaining,
            },
        )
