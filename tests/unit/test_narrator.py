"""A run is told of while it goes on, at a bounded rate, and never notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from registry_cleanup.domain.course import Progress, Snapshot, Stage
from registry_cleanup.narrator import Narrator
from tests.support.virtual_time import VirtualTime

_PLANNING = Snapshot(Stage.PLANNING, repositories=20)
_PRUNING = Snapshot(Stage.PRUNING, 20, 20, tags_to_prune=9)


@dataclass
class _Run:
    """A run in virtual time, and what is told of it.

    Attributes:
        snapshot: what it has come to.
        shown: in status, with the seconds since its begin.
        takes: seconds that it takes to show something.
        error: raised by showing.
        looks: how often somebody looked at it.
        ended: changes of status that came to their end.
    """

    snapshot: Snapshot = _PLANNING
    shown: list[tuple[float, Progress]] = field(default_factory=list)
    takes: float = 0.0
    error: Exception | None = None
    looks: int = 0
    ended: int = 0
    time: VirtualTime = field(default_factory=VirtualTime)

    def look(self) -> Snapshot:
        self.looks += 1
        return self.snapshot

    async def show(self, progress: Progress) -> None:
        self.shown.append((self.time.now() - 1000.0, progress))
        if self.error is not None:
            raise self.error
        if self.takes:
            await self.time.sleep(self.takes)
        self.ended += 1

    @property
    def moments(self) -> list[float]:
        return [moment for moment, _ in self.shown]

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        narrator = Narrator("team/builds", "run-1", self.show, time=self.time)
        async with narrator.follow(self.look):
            yield
        # Nothing is told once it is over.
        before = (self.looks, len(self.shown))
        await self.time.pass_by(100)
        assert (self.looks, len(self.shown)) == before
        assert len(asyncio.all_tasks()) == 1


def _logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "registry_cleanup.narrator"]


async def test_twenty_changes_in_a_minute_are_six_changes_of_status(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = _Run()
    async with run.told():
        for number in range(20):
            run.snapshot = replace(
                _PLANNING, repositories_done=number, share=number / 20, requests=300 * number, tags_read=10 * number
            )
            await run.time.pass_by(3)
    assert run.moments == [5, 15, 25, 35, 45, 55]
    assert [progress.snapshot.repositories_done for _, progress in run.shown] == [1, 4, 8, 11, 14, 18]
    assert run.shown[-1][1].message == "planning: 18 of 20 repositories, 180 tags, 120 requests/s, about 10 s left"
    told = _logged(caplog)
    # Every half minute.
    assert [record.message for record in told] == [run.shown[0][1].message, run.shown[3][1].message]
    fields = vars(told[1])
    assert (fields["policy"], fields["run"], fields["stage"], told[1].levelname) == (
        "team/builds",
        "run-1",
        "Planning",
        "INFO",
    )
    assert (fields["repositories"], fields["repositoriesDone"], fields["tagsRead"]) == (20, 11, 110)
    assert (fields["requests"], fields["requestsPerSecond"], fields["remainingSeconds"]) == (3300, 90, 29)


async def test_a_short_run_is_told_of_by_its_end_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = _Run()
    async with run.told():
        await run.time.pass_by(4.9)
    assert (run.shown, _logged(caplog)) == ([], [])


async def test_what_stays_the_same_is_told_once() -> None:
    run = _Run(Snapshot(Stage.WAITING))
    async with run.told():
        await run.time.pass_by(600)
        assert run.moments == [5]
        run.snapshot = _PLANNING
        await run.time.pass_by(10)
        assert len(run.shown) == 2


async def test_a_new_stage_is_logged_at_once_and_no_stage_more_often_than_status_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    run = _Run(Snapshot(Stage.LOOKING))
    async with run.told():
        await run.time.pass_by(6)
        for stage in (Stage.WAITING, Stage.LOOKING, Stage.PLANNING, Stage.PRUNING):
            run.snapshot = _PRUNING  # between two looks
            await run.time.pass_by(7)
            run.snapshot = Snapshot(stage)
            await run.time.pass_by(3)
        await run.time.pass_by(60)
    stages = [vars(record)["stage"] for record in _logged(caplog)]
    # At 5, 15, 25, 35, 45, and then every half minute.
    assert stages == ["Looking", "Waiting", "Looking", "Planning", "Pruning", "Pruning", "Pruning"]


async def test_what_takes_long_to_show_is_followed_by_a_rest_and_dropped_at_the_end() -> None:
    run = _Run(takes=20)
    async with run.told():
        for number in range(75):
            run.snapshot = replace(_PLANNING, tags_read=number)
            await run.time.pass_by(1)
        assert run.moments == [5, 35, 65]
        assert run.ended == 2
    assert run.ended == 2


async def test_a_mistake_in_what_is_told_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    run = _Run(error=ValueError("a bug"))
    async with run.told():
        await run.time.pass_by(30)
    assert run.moments == [5]
    assert [record.message for record in caplog.records] == ["unexpected error"]


async def test_the_error_of_a_run_is_its_own() -> None:
    async def fail() -> None:
        async with Narrator("team/builds", "run-1", run.show, time=run.time).follow(run.look):
            await run.time.pass_by(7)
            raise ValueError("of the run")

    run = _Run()
    with pytest.raises(ValueError, match="of the run"):
        await fail()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
