"""A status that cannot be published is published as soon as that works."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.domain.course import Progress, Snapshot, Stage
from registry_cleanup.domain.run import Conflict, Phase, RunOrder, RunReport, Trigger
from registry_cleanup.kube.api import (
    APIError,
    BarredError,
    ConflictError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
)
from registry_cleanup.standing import Standing
from registry_cleanup.telemetry.metrics import Metrics
from tests.support.builders import NOW
from tests.support.clients import HandClock

_LIMIT = 10.0
_BODY: dict[str, Any] = {
    "metadata": {
        "uid": "a-uid",
        "namespace": "team",
        "name": "policy",
        "generation": 1,
        "creationTimestamp": "2026-06-01T00:00:00Z",
    }
}


class _API(KubernetesAPI):
    """Refuses a status so often, and keeps what it takes."""

    def __init__(self, error: APIError, times: int) -> None:
        self._error = error
        self._left = times
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.news = asyncio.Event()

    @override
    async def replace_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        self.asked += 1
        self.news.set()
        if self._left:
            self._left -= 1
            raise self._error
        self.taken.append(status)

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LIMIT):
            while not condition():
                self.news.clear()
                await self.news.wait()


def _standing(api: _API, again_after: float = 0.01) -> Standing:
    return Standing(api, HandClock(NOW), _BODY, lambda: None, Metrics().policies, again_after=again_after)


@pytest.mark.parametrize(
    "error", [NoAnswerError("full"), ConflictError("busy"), ForbiddenError("no")], ids=["no answer", "409", "403"]
)
async def test_a_status_that_could_not_be_written_is_written_as_soon_as_that_works(
    error: APIError, caplog: pytest.LogCaptureFixture
) -> None:
    api = _API(error, times=3)
    standing = _standing(api)
    assert await standing.write(standing.writer().suspended())
    assert standing.mute is isinstance(error, ForbiddenError)
    await api.wait(lambda: api.taken != [])
    assert api.taken == [standing.status.as_json()]
    assert standing.mute is False
    told = [record for record in caplog.records if record.message == "the status could not be written"]
    assert [vars(record)["status"] for record in told] == [standing.status.as_json()] * 3
    # That was all.
    assert (api.asked, len(asyncio.all_tasks())) == (4, 1) or await _rests(api)


async def _rests(api: _API) -> bool:
    """Say whether nothing is left to do once the task that published has ended."""
    await asyncio.sleep(0)
    return (api.asked, len(asyncio.all_tasks())) == (4, 1)


async def test_a_later_status_takes_the_place_of_one_that_could_not_be_written() -> None:
    api = _API(NoAnswerError("full"), times=1)
    standing = _standing(api, again_after=_LIMIT)
    await standing.write(standing.writer().invalid("spec.schedule: no"))
    await standing.write(standing.writer().suspended())
    assert api.taken == [standing.status.as_json()]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_nothing_is_written_after_the_end() -> None:
    api = _API(NoAnswerError("full"), times=1)
    standing = _standing(api, again_after=_LIMIT)
    await standing.write(standing.writer().suspended())
    await standing.settle()
    await asyncio.sleep(0)
    assert (api.asked, len(asyncio.all_tasks())) == (1, 1)


async def test_a_status_that_rests_is_the_same_and_is_not_written_again() -> None:
    api = _API(NoAnswerError("never"), times=0)
    standing = _standing(api)
    await standing.write(standing.writer().suspended())
    before = standing.status
    standing.rest()
    standing.rest()
    assert standing.status is not before
    assert standing.status == before
    standing.rest()
    assert not await standing.write(before)
    assert len(api.taken) == 1


# Where a run is

_ORDER = RunOrder("run-1", Trigger.REQUEST, plan_only=True, start=NOW)
_PROGRESS = Progress(Snapshot(Stage.PLANNING, 20, 3, None, 400, requests=900), 80, 60)
_CONFLICT = Conflict("team", "older", "older-uid", yields=True, repositories=("team/app",))


class _ShowingAPI(_API):
    """Takes every status; of what a run shows, what `refusal` does not speak against."""

    def __init__(self, refusal: APIError | None = None) -> None:
        super().__init__(NoAnswerError("never"), times=0)
        self.refusal = refusal
        self.shown: list[tuple[str, dict[str, Any]]] = []

    @override
    async def show_progress(self, namespace: str, name: str, uid: str, run: str, progress: dict[str, Any]) -> None:
        assert (namespace, name, uid) == ("team", "policy", "a-uid")
        self.shown.append((run, progress))
        if self.refusal is not None:
            raise self.refusal


async def test_where_a_run_is_is_shown_and_stays_when_other_news_is_written() -> None:
    api = _ShowingAPI()
    standing = _standing(api)
    await standing.write(standing.writer().running(_ORDER))
    before = standing.status
    await standing.show("run-1", _PROGRESS)
    told = {
        "message": "planning: 3 of 20 repositories, 400 tags, 80 requests/s, about 1 min left",
        "time": "2026-06-15T12:00:00Z",
        "stage": "Planning",
        "repositories": 20,
        "repositoriesDone": 3,
        "tagsRead": 400,
        "requestsPerSecond": 80,
        "remainingSeconds": 60,
    }
    assert api.shown == [("run-1", told)]
    # That alone: conditions say nothing of it.
    assert len(api.taken) == 1
    assert standing.status.conditions == before.conditions
    standing.tell(_CONFLICT)
    await standing.settle()
    assert api.taken[-1]["lastRun"]["progress"] == told
    # The end of the run is news, and the end of this.
    report = RunReport(_ORDER, Phase.FAILED, NOW)
    ended = standing.writer().finished(
        report, failed_before=False, handled_request=None, handled_approval=None, next_time=None, history_limit=5
    )
    assert await standing.write(ended)
    assert "progress" not in api.taken[-1]["lastRun"]
    assert [set(run) & {"progress"} for run in api.taken[-1]["history"]] == [set()]


@pytest.mark.parametrize("run", ["run-0", "run-1"], ids=["another", "ended"])
async def test_of_a_run_that_is_not_under_way_nothing_is_shown(run: str) -> None:
    api = _ShowingAPI()
    standing = _standing(api)
    await standing.show(run, _PROGRESS)
    await standing.write(standing.writer().running(_ORDER))
    if run == _ORDER.id:
        await standing.write(standing.writer().interrupted("it ended"))
    await standing.show(run, _PROGRESS)
    assert api.shown == []


@pytest.mark.parametrize(
    "refusal",
    [NoAnswerError("full"), ConflictError("busy"), ForbiddenError("no"), NotThereError("ended"), BarredError("lost")],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_what_cannot_be_shown_is_left_out_and_disturbs_nothing(
    refusal: APIError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api = _ShowingAPI(refusal)
    standing = _standing(api)
    await standing.write(standing.writer().running(_ORDER))
    await standing.show("run-1", _PROGRESS)
    await asyncio.sleep(0.05)  # longer than a status takes to be tried again
    assert (len(api.shown), len(api.taken), standing.mute) == (1, 1, False)
    assert (len(asyncio.all_tasks()), caplog.records) == (1, [])
