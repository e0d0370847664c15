"""What was left frozen is found before anything begins, and every mark finds somebody who restores it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from typing_extensions import override

from registry_cleanup.application import Application
from registry_cleanup.collection_tasks import CollectionTasks
from registry_cleanup.collector import Collector
from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.doors import Doors
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NoAnswerError
from registry_cleanup.kube.collecting.workload import freeze
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.settings import Settings
from registry_cleanup.standing import Standing
from registry_cleanup.telemetry.metrics import Metrics
from tests.support.builders import NOW, minimal_spec
from tests.support.clients import HandClock
from tests.support.cluster_of_one import NAME, NAMESPACE, ClusterOfOne, deployment

_LIMIT = 20.0
_MARK = Mark("uid", "policy", "c1", "registry:5000", Strategy.OFFLINE, 2, None, None, NOW, timedelta(hours=1))


class _Cluster(ClusterOfOne):
    """Lists its own Deployment, or fails to a few times."""

    errors: list[Exception]

    @override
    async def marked(self, namespaces: Any) -> list[tuple[str, WorkloadName, Mark]]:
        if self.errors:
            raise self.errors.pop(0)
        return [(NAMESPACE, NAME, mark) for mark in await self.marks()]


class _API(KubernetesAPI):
    def __init__(self) -> None:
        self.statuses: list[dict[str, Any]] = []

    @override
    async def replace_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        self.statuses.append(status)


@dataclass
class _Application:
    """As much of the application as collections need."""

    cluster: _Cluster
    known: list[Mapping[str, Any]] = field(default_factory=list)
    doors: Doors = field(default_factory=Doors)
    clock: HandClock = field(default_factory=lambda: HandClock(NOW))
    settings: Settings = field(default_factory=lambda: Settings(schedule_jitter_seconds=0))

    async def policies(self) -> AsyncIterator[Mapping[str, Any]]:
        for body in self.known:
            yield body

    def parse(self, body: Mapping[str, Any]) -> ParsedPolicy:
        return parse_policy(body)

    def reports_only(self, _: ParsedPolicy) -> bool:
        return False


def _frozen() -> _Cluster:
    cluster = _Cluster(deployment(replicas=2))
    assert cluster.body is not None
    patch = freeze(cluster.body, _MARK)
    cluster.errors = []
    cluster.apply(patch)
    return cluster


def _body(uid: str = "uid") -> dict[str, Any]:
    metadata = {"uid": uid, "namespace": NAMESPACE, "name": "policy", "generation": 1}
    return {"metadata": {**metadata, "creationTimestamp": "2026-06-01T00:00:00Z"}, "spec": minimal_spec()}


def _tasks(application: _Application) -> CollectionTasks:
    async def nothing(*_: object) -> Any:  # noqa: ANN401 - stands for several
        return None

    collector = Collector(application.cluster, nothing, nothing, application.clock, nothing, "ns:operator")
    return CollectionTasks(cast("Application", application), collector, lambda *_: None)


def _standing(application: _Application, body: Mapping[str, Any]) -> Standing:
    return Standing(_API(), application.clock, body, lambda: None, Metrics().policies)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LIMIT):
        while not condition():
            await _a_moment()


async def _a_moment() -> None:
    """Let the tasks go on: what they come to nobody tells."""
    await asyncio.sleep(0.01)


def _replicas(application: _Application) -> int:
    assert application.cluster.body is not None
    found: int = application.cluster.body["spec"]["replicas"]
    return found


async def test_without_anything_frozen_the_doors_open_at_once() -> None:
    cluster = _Cluster(deployment())
    cluster.errors = []
    application = _Application(cluster)
    tasks = _tasks(application)
    assert application.doors.all_shut
    await _until(lambda: not application.doors.all_shut)
    await tasks.stop(1)


async def test_what_a_policy_left_that_is_gone_is_restored() -> None:
    application = _Application(_frozen())
    assert _replicas(application) == 0
    tasks = _tasks(application)
    await _until(lambda: _replicas(application) == 2)
    await _until(lambda: not application.doors.is_shut("registry:5000"))
    assert await application.cluster.marks() == []
    await tasks.stop(1)


async def test_what_a_policy_left_waits_for_that_policy_and_nothing_begins_before() -> None:
    application = _Application(_frozen(), [_body()])
    tasks = _tasks(application)
    await asyncio.sleep(0.05)
    assert application.doors.all_shut
    tasks.observe(_body(), _standing(application, _body()))
    # It collects no more: its spec says nothing of that.
    await _until(lambda: _replicas(application) == 2)
    await _until(lambda: not application.doors.all_shut)
    await tasks.stop(1)


async def test_a_policy_that_goes_before_any_event_showed_it_leaves_a_restored_registry() -> None:
    application = _Application(_frozen(), [_body()])
    tasks = _tasks(application)
    await asyncio.sleep(0.05)
    application.known.clear()
    await _until(lambda: _replicas(application) == 2)
    await _until(lambda: not application.doors.all_shut)
    await tasks.stop(1)


async def test_an_operator_that_may_list_no_workloads_has_frozen_none() -> None:
    cluster = _Cluster(deployment())
    cluster.errors = [ForbiddenError("may not list")]
    application = _Application(cluster)
    tasks = _tasks(application)
    await _until(lambda: not application.doors.all_shut)
    await tasks.stop(1)


async def test_nothing_begins_while_it_is_not_known_what_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_cleanup.frozen._AGAIN_AFTER", 0.1)
    cluster = _frozen()
    cluster.errors = [NoAnswerError("no answer")]
    application = _Application(cluster)
    tasks = _tasks(application)
    await asyncio.sleep(0.02)
    assert application.doors.all_shut
    await _until(lambda: _replicas(application) == 2)
    await tasks.stop(1)
