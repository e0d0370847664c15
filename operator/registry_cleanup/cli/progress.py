"""Progress of long work: a bar on a terminal, quiet lines otherwise; always on stderr."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import click

from registry_cleanup.concurrency import give_up
from registry_cleanup.domain.course import Course, Progress, Stage
from registry_cleanup.kube.lease import MachineTime, Time
from registry_cleanup.narrator import USUAL_PACE, Follow, Pace, Sight

if TYPE_CHECKING:
    from rich.console import RenderableType

# Seconds from one look to the next, on a terminal. A run that is shorter than the first shows no bar, which would only
# flicker.
_FIRST, _EVERY = 0.3, 0.5
_BAR_COLUMNS = 40


def progress() -> Follow:
    """Return what follows a run and shows on stderr where it is."""
    return bar if on_terminal() else lines()


def on_terminal() -> bool:
    """Say whether somebody looks at stderr as it is written."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    except ValueError:  # closed
        return False


def lines(pace: Pace = USUAL_PACE, time: Time | None = None, write: Callable[[str], None] | None = None) -> Follow:
    """Return what tells of a run in single lines, at a bounded rate; of a short one nothing.

    Args:
        pace: of the looks and of the lines.
        time: that passes.
        write: writes one line; None for stderr.
    """
    clock = time or MachineTime()
    say = write or _write

    async def tell(look: Sight) -> None:
        course = Course.begin(look(), clock.now())
        told: Stage | None = None
        told_at = 0.0
        await clock.sleep(pace.first)
        while True:
            course = course.next(look(), clock.now())
            stage = course.now.stage
            if stage is not told or course.now_at - told_at >= pace.log_every:
                told, told_at = stage, course.now_at
                say(course.progress.message)
            await clock.sleep(pace.every)

    return _beside(tell)


@asynccontextmanager
async def bar(look: Sight) -> AsyncIterator[None]:
    """Show a bar for as long as the context lasts, and leave nothing of it."""
    from rich.console import Console
    from rich.live import Live

    # What others write to stderr meanwhile goes above the bar; stdout is nobody's business here.
    live = Live(console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=False)

    async def tell(look: Sight) -> None:
        course = Course.begin(look(), clock.now())
        await clock.sleep(_FIRST)
        live.start()
        while True:
            course = course.next(look(), clock.now())
            live.update(_picture(course.progress), refresh=True)
            await clock.sleep(_EVERY)

    clock = MachineTime()
    try:
        async with _beside(tell)(look):
            yield
    finally:
        with suppress(OSError):  # the terminal may be gone
            live.stop()


def _beside(tell: Callable[[Sight], Awaitable[None]]) -> Follow:
    """Return what runs `tell` beside a run. Whatever goes wrong there, such as a closed stderr, the run goes on."""

    @asynccontextmanager
    async def follow(look: Sight) -> AsyncIterator[None]:
        async def told() -> None:
            with suppress(OSError, ValueError):
                await tell(look)

        task = asyncio.create_task(told(), name="progress")
        try:
            yield
        finally:
            await give_up([task])

    return follow


def _picture(progress: Progress) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    words = Text(progress.message)
    share = progress.snapshot.share
    return words if share is None else Group(words, ProgressBar(1.0, share, width=_BAR_COLUMNS))


def _write(line: str) -> None:
    click.echo(line, err=True)
