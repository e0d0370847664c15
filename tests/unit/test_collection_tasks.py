"""What was left frozen is found before anything begins, and every mark finds somebody who restores it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from typing_extensions import override

from registry_cleanup.application import Application
from registry_cleanup.collection_tasks import CollectionTasks
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.doors import Doors
from registry_cleanup.frozen import Left, owned
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NoAnswerError, RefusedError
from registry_cleanup.kube.collecting.workload import freeze
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.settings import Settings
from registry_cleanup.standing import Notify, Standing
from registry_cleanup.telemetry.metrics import Metrics
from tests.support.builders import NOW, minimal_spec
from tests.support.clients import HandClock
from tests.support.cluster_of_one import NAME, NAMESPACE, ClusterOfOne, deployment

_LIMIT = 20.0
_MARK = Mark("uid", "policy", "c1", "registry:5000", Strategy.OFFLINE, 2, None, None, NOW, timedelta(hours=1))


class _Cluster(ClusterOfOne):
    """Lists its own Deployment, or fails to a few times."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.errors: list[Exception] = []
        self.barred = False
        self.found: Callable[[], Awaitable[list[tuple[str, WorkloadName, Mark]]]] = self._found

    @override
    async def workload(self, namespace: str, name: WorkloadName) -> dict[str, Any] | None:
        if self.barred:
            raise ForbiddenError("may not get deployments")
        return await super().workload(namespace, name) if (namespace, name) == (NAMESPACE, NAME) else None

    @override
    async def marked(self, namespaces: Any) -> list[tuple[str, WorkloadName, Mark]]:
        if self.errors:
            raise self.errors.pop(0)
        return await self.found()

    async def _found(self) -> list[tuple[str, WorkloadName, Mark]]:
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
    cluster.apply(patch)
    return cluster


def _body(uid: str = "uid") -> dict[str, Any]:
    metadata = {"uid": uid, "namespace": NAMESPACE, "name": "policy", "generation": 1}
    return {"metadata": {**metadata, "creationTimestamp": "2026-06-01T00:00:00Z"}, "spec": minimal_spec()}


def _tasks(application: _Application, notify: Notify = lambda *_: None) -> CollectionTasks:
    async def nothing(*_: object) -> Any:  # noqa: ANN401 - stands for several
        return None

    collector = Collector(application.cluster, nothing, nothing, application.clock, nothing, "ns:operator")
    return CollectionTasks(cast("Application", application), collector, notify)


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
    application = _Application(cluster)
    tasks = _tasks(application)
    assert application.doors.all_shut
    await _until(lambda: not application.doors.all_shut)
    await tasks.stop(1)


async def test_what_a_task_that_begins_by_itself_has_to_tell_is_told_where_events_can_be_posted() -> None:
    """kopf posts an Event only in the context of a handler, and raises anywhere else."""
    application, body = _Application(_frozen(), [_body()]), _body()
    posting, heard = ContextVar[str]("posting"), list[str]()
    looked = asyncio.Event()
    real = application.cluster.found

    async def late() -> list[tuple[str, WorkloadName, Mark]]:
        await looked.wait()
        return await real()

    application.cluster.found = late
    tasks = _tasks(application, lambda *event: heard.append(f"{event[2]} {posting.get()}"))
    handler = copy_context()
    handler.run(posting.set, "where it can be")
    handler.run(tasks.observe, body, _standing(application, body))
    looked.set()
    await _until(lambda: "RegistryRestored where it can be" in heard)
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


async def test_a_look_that_fails_as_nobody_expects_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_cleanup.collection_tasks._AGAIN_AFTER", 0.01)
    application = _Application(_frozen())
    application.cluster.errors = [OverflowError("a bug")]
    tasks = _tasks(application)
    await _until(lambda: not application.doors.all_shut and _replicas(application) == 2)
    await tasks.stop(1)


async def test_a_mark_in_a_namespace_without_rights_shuts_nobody_s_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_cleanup.collection_task._AFTER_FORBIDDEN", 0.01)
    application = _Application(_frozen())
    application.cluster.barred = True
    tasks = _tasks(application)
    await _until(lambda: not application.doors.all_shut and not application.doors.is_shut("registry:5000"))
    for _ in range(10):
        await _a_moment()
        assert not application.doors.is_shut("registry:5000")
    # Once it is granted, what is frozen is restored.
    application.cluster.barred = False
    await _until(lambda: _replicas(application) == 2)
    await tasks.stop(1)


async def test_a_mark_that_nobody_can_take_away_shuts_a_door_for_ten_minutes_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry_cleanup.collection_task._AFTER_ERROR", 0.01)
    application = _Application(_frozen())

    def refuse(what: str) -> None:
        raise RefusedError(what)

    application.cluster.writing = refuse
    tasks = _tasks(application)
    await _until(lambda: not application.doors.all_shut)
    assert application.doors.is_shut("registry:5000")
    application.clock.move(timedelta(minutes=11))
    await _until(lambda: not application.doors.is_shut("registry:5000"))
    await tasks.stop(1)


async def test_a_policy_answers_for_no_registry_but_its_own() -> None:
    body = _body()
    body["spec"]["registry"] = {"url": "http://other:5000", "insecure": True}
    application = _Application(_frozen(), [body])

    def refuse(what: str) -> None:
        raise RefusedError(what)

    application.cluster.writing = refuse
    tasks = _tasks(application)
    tasks.observe(body, _standing(application, body))
    await _until(lambda: not application.doors.all_shut)
    application.clock.move(timedelta(minutes=11))
    await _until(lambda: not application.doors.is_shut("registry:5000"))
    await tasks.stop(1)


@pytest.mark.parametrize("first", [True, False])
async def test_of_two_marks_of_one_policy_both_are_restored(first: bool) -> None:
    """Somebody copied a frozen Deployment, or wrote its mark elsewhere: the real one is found as well."""
    application = _Application(_frozen(), [_body()])
    forged = ("stranger", WorkloadName("Deployment", "copy"), replace(_MARK, registry="elsewhere:5000"))

    async def both() -> list[tuple[str, WorkloadName, Mark]]:
        found = [(NAMESPACE, NAME, mark) for mark in await application.cluster.marks()]
        return [*found, forged] if first else [forged, *found]

    application.cluster.found = both
    tasks = _tasks(application)
    tasks.observe(_body(), _standing(application, _body()))
    await _until(lambda: _replicas(application) == 2 and not application.doors.all_shut)
    await tasks.stop(1)


def test_of_several_marks_a_policy_goes_on_with_the_one_that_it_names() -> None:
    body = _body()
    body["spec"]["garbageCollection"] = {"workloadRef": {"kind": NAME.kind, "name": NAME.name}}
    places = [("stranger", NAME), (NAMESPACE, WorkloadName("Deployment", "copy")), (NAMESPACE, NAME)]
    left = [Left("uid", Collection.of(namespace, name, _MARK)) for namespace, name in places]
    assert owned(left, {"uid": body}) == {"uid": left[2].collection}
    assert owned(reversed(left), {"uid": body}) == {"uid": left[2].collection}
    assert owned(left, {}) == {}
    assert owned(left[:1], {"uid": body}) == {}


async def test_what_is_frozen_later_without_anybody_s_knowledge_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a patch was lost, and it took effect after its collection had ended."""
    monkeypatch.setattr("registry_cleanup.collection_tasks._LOOK_EVERY", 0.01)
    cluster = _Cluster(deployment(replicas=2))
    application = _Application(cluster, [_body()])
    tasks = _tasks(application)
    tasks.observe(_body(), _standing(application, _body()))
    await _until(lambda: not application.doors.all_shut)
    assert cluster.body is not None
    cluster.apply(freeze(cluster.body, _MARK))
    await _until(lambda: _replicas(application) == 2)
    assert await cluster.marks() == []
    await tasks.stop(1)


async def test_an_event_before_it_is_known_what_was_left_makes_no_second_task() -> None:
    cluster = _frozen()
    body = _body()
    body["spec"]["garbageCollection"] = {
        "mode": "Run",
        "schedule": "0 0 1 1 *",
        "workloadRef": {"kind": NAME.kind, "name": NAME.name},
    }
    application = _Application(cluster, [body])
    tasks = _tasks(application)
    tasks.observe(body, _standing(application, body))  # the first look has not even begun
    await _until(lambda: not application.doors.all_shut)
    await _until(lambda: _tasks_under_way() == 1)
    tasks.observe(body, _standing(application, body))
    await _a_moment()
    assert _tasks_under_way() == 1
    await tasks.stop(1)


def _tasks_under_way() -> int:
    return sum(task.get_name() == "collects garbage" for task in asyncio.all_tasks())
