"""What the API server may answer about the image pruner besides what was asked for, and that no Job is made twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from registry_cleanup.domain.image_pruner import JobState
from registry_cleanup.domain.run import Failure
from registry_cleanup.openshift.image_pruner import ImagePruner
from registry_cleanup.openshift.pruner_documents import Asker, job_of
from registry_cleanup.ports import Objection, RunError, no_objection
from tests.support.http import Server, serve
from tests.support.image_pruner import cron_job

_ASKER = Asker("team/nightly", "4d7f", "20260615-030000-abcdef")
_CRON_JOB = cron_job() | {"metadata": {"name": "image-pruner", "uid": "c0"}}
_JOBS = "/apis/batch/v1/namespaces/openshift-image-registry/jobs"


@dataclass
class _Cluster:
    """Answers as a cluster does, except where a test says otherwise.

    Attributes:
        faults: statuses to answer with, one after the other, by method and end of the path.
        loses: how many answers to the making of a Job get lost; the Job is made.
        jobs: what there is, by name.
        reviews: what was asked of rights.
    """

    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    loses: int = 0
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    reviews: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if faults := self.faults.get((request.method, request.path.rpartition("/")[2])):
            return _status(faults.pop(0))
        if request.path.endswith("/selfsubjectaccessreviews"):
            review = await request.json()
            self.reviews.append(review["spec"]["resourceAttributes"])
            return web.json_response({**review, "status": {"allowed": True}}, status=201)
        if request.path.endswith("/cronjobs/image-pruner"):
            return web.json_response(_CRON_JOB)
        if request.method == "POST":
            return await self._make(request)
        if request.path == _JOBS:
            return web.json_response({"items": [*self.jobs.values()]})
        found = self.jobs.get(request.path.rpartition("/")[2])
        return _status(404) if found is None else web.json_response(found)

    async def _make(self, request: web.Request) -> web.StreamResponse:
        job = await request.json()
        if job["metadata"]["name"] in self.jobs:
            return _status(409)
        self.jobs[job["metadata"]["name"]] = job
        if self.loses:
            self.loses -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response(job, status=201)


def _status(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": "as the test says"}, status=code)


@asynccontextmanager
async def _opened(server: Server, objection: Objection = no_objection) -> AsyncIterator[ImagePruner]:
    async with client.ApiClient(client.Configuration(host=server.url)) as api_client:
        yield ImagePruner(api_client, objection)


async def _allowed() -> Failure | None:
    return None


async def _failure(server: Server, objection: Objection = no_objection) -> Failure:
    async with _opened(server, objection) as pruner:
        with pytest.raises(RunError) as raised:
            await pruner.start_or_find(_ASKER, _allowed)
    return raised.value.failure


async def test_what_is_asked_is_asked_for_that_namespace_and_that_cron_job_alone() -> None:
    cluster = _Cluster()
    with serve(cluster.answer) as server:
        async with _opened(server) as pruner:
            await pruner.start_or_find(_ASKER, _allowed)
    assert {(each["group"], each["namespace"]) for each in cluster.reviews} == {("batch", "openshift-image-registry")}
    assert [(each["verb"], each["resource"], each.get("name")) for each in cluster.reviews] == [
        ("get", "cronjobs", "image-pruner"),
        ("create", "jobs", None),
        ("get", "jobs", None),
        ("list", "jobs", None),
    ]


async def test_a_report_needs_no_right_on_jobs() -> None:
    cluster = _Cluster()
    with serve(cluster.answer) as server:
        async with _opened(server) as pruner:
            await pruner.setup()
    assert [(each["verb"], each["resource"]) for each in cluster.reviews] == [("get", "cronjobs")]
    assert {request.method for request in server.requests if "/batch/" in request.path} == {"GET"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    cluster = _Cluster(faults={("GET", "image-pruner"): [status], ("POST", "jobs"): [status]})
    with serve(cluster.answer) as server:
        async with _opened(server) as pruner:
            job = await pruner.start_or_find(_ASKER, _allowed)
    assert (job.name, job.state) == (_ASKER.job, JobState.RUNNING)
    assert list(cluster.jobs) == [_ASKER.job]


@pytest.mark.parametrize("where", [("POST", "selfsubjectaccessreviews"), ("GET", "image-pruner"), ("POST", "jobs")])
async def test_what_does_not_pass_is_left_to_the_next_try_and_nobody_has_to_mend_it(
    where: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_cleanup.openshift.image_pruner._ATTEMPTS", 2)
    cluster = _Cluster(faults={where: [503, 503]})
    with serve(cluster.answer) as server:
        failure = await _failure(server)
    assert (failure.reason, failure.mendable) == ("ImagePrunerUnavailable", False)
    assert cluster.jobs == {}


async def test_a_job_whose_making_was_not_answered_is_found_and_not_made_again() -> None:
    cluster = _Cluster(loses=1)
    with serve(cluster.answer) as server:
        async with _opened(server) as pruner:
            job = await pruner.start_or_find(_ASKER, _allowed)
    assert (job.name, job.state, job.ours) == (_ASKER.job, JobState.RUNNING, True)
    assert list(cluster.jobs) == [_ASKER.job]


@pytest.mark.parametrize("status", [403, 422])
async def test_a_job_that_the_cluster_does_not_admit_is_for_a_person_to_mend(status: int) -> None:
    with serve(_Cluster(faults={("POST", "jobs"): [status]}).answer) as server:
        failure = await _failure(server)
    assert (failure.reason, failure.mendable) == ("ImagePrunerRefused", True)
    assert f"answers {status}" in failure.message


async def test_an_operator_that_may_not_work_any_more_makes_no_job() -> None:
    cluster = _Cluster()
    with serve(cluster.answer) as server:
        failure = await _failure(server, lambda: "another operator may have taken over")
    assert failure.message == "another operator may have taken over"
    assert cluster.jobs == {}


async def test_a_policy_that_may_start_none_still_finds_the_job_that_it_started() -> None:
    cluster = _Cluster(jobs={_ASKER.job: dict(job_of(_CRON_JOB, _ASKER))})

    async def refused() -> Failure:
        raise AssertionError("asked before anything is to be started")

    with serve(cluster.answer) as server:
        async with _opened(server) as pruner:
            assert (await pruner.start_or_find(_ASKER, refused)).ours


@pytest.mark.parametrize("going", [False, True])
async def test_a_job_that_is_going_is_not_waited_for(*, going: bool) -> None:
    job = {**job_of(_CRON_JOB, _ASKER)}
    job["metadata"] = {
        **job["metadata"],
        "name": "by-hand",
        **({"deletionTimestamp": "2026-06-15T12:00:00Z"} if going else {}),
    }
    with serve(_Cluster(jobs={"by-hand": job}).answer) as server:
        async with _opened(server) as pruner:
            found = await pruner.start_or_find(_ASKER, _allowed)
    assert (found.name, found.ours) == ((_ASKER.job, True) if going else ("by-hand", False))
