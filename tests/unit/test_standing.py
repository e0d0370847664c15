"""A status that cannot be published is published as soon as that works."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.kube.api import APIError, ConflictError, ForbiddenError, KubernetesAPI, NoAnswerError
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
