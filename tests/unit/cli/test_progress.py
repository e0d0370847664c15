"""Progress is shown at a bounded rate, never on stdout, and never ends the work that it shows."""

import asyncio
import sys

import pytest

from registry_cleanup.cli import progress as shown
from registry_cleanup.domain.course import Snapshot, Stage
from registry_cleanup.narrator import Pace
from tests.support.virtual_time import VirtualTime

_PACE = Pace(first=5, every=10, log_every=30)


async def test_lines_come_at_a_bounded_rate_and_at_once_with_a_new_stage() -> None:
    time, told = VirtualTime(), list[tuple[float, str]]()
    snapshot = Snapshot(Stage.LOOKING)

    def write(line: str) -> None:
        told.append((time.now() - 1000, line))

    async with shown.lines(_PACE, time, write)(lambda: snapshot):
        await time.pass_by(20)
        snapshot = Snapshot(Stage.PLANNING, repositories=20)
        await time.pass_by(60)
    assert [at for at, _ in told] == [5, 25, 55]
    assert told[0][1] == "looking: what is in use, and which repositories there are, 0 requests/s"
    assert told[1][1].startswith("planning: 0 of 20 repositories")


async def test_of_a_short_run_nothing_is_told() -> None:
    time, told = VirtualTime(), list[str]()
    async with shown.lines(_PACE, time, told.append)(lambda: Snapshot(Stage.LOOKING)):
        await time.pass_by(4)
    assert told == []


async def test_a_stderr_that_is_gone_does_not_end_the_run() -> None:
    time = VirtualTime()

    def broken(_line: str) -> None:
        raise BrokenPipeError

    async with shown.lines(_PACE, time, broken)(lambda: Snapshot(Stage.LOOKING)):
        await time.pass_by(100)


async def test_what_goes_wrong_in_the_run_ends_the_progress_and_is_raised() -> None:
    time, told = VirtualTime(), list[str]()
    with pytest.raises(RuntimeError, match="of the run"):
        async with shown.lines(_PACE, time, told.append)(lambda: Snapshot(Stage.LOOKING)):
            raise RuntimeError("of the run")
    await time.pass_by(100)
    assert told == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize(
    ("terminal", "kind", "expected"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_a_bar_needs_a_terminal_that_can_show_one(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: str, expected: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", kind)
    assert shown.on_terminal() is expected
