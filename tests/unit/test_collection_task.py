"""A collection goes its way in small steps: killed at any of them, disturbed or not wanted any more, it restores."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.collection_task import CollectionTask
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.doors import Doors, registry_key
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NoAnswerError, RefusedError
from registry_cleanup.kube.collecting.job import COLLECT, PRUNE, OrderFile, StorageOrder
from registry_cleanup.kube.collecting.mark import MARK_ANNOTATION, MARK_LABEL, mark_of, mark_text
from registry_cleanup.kube.collecting.workload import READ_ONLY_VARIABLE, freeze
from registry_cleanup.kube.spec import COLLECT_ANNOTATION, ParsedPolicy, parse_policy
from registry_cleanup.kube.status import PolicyStatus
from registry_cleanup.standing import Standing
from registry_cleanup.telemetry.metrics import Metrics
from registry_cleanup.undo_windows import UndoWindow
from tests.support.builders import NOW, minimal_spec
from tests.support.clients import HandClock
from tests.support.cluster_of_one import NAME, NAMESPACE, ClusterOfOne, KilledError, deployment, stranger

_URL = "http://registry.team:5000"
_REGISTRY = "registry.team:5000"
_LIMIT = 20.0
_FILES = (OrderFile("plan", "a" * 64), OrderFile("use", "b" * 64))
_PLAN = {"hash": "h", "observedGeneration": 1, "generatedAt": "2026-06-15T00:00:00Z", "deletions": 0, "sample": []}


def _body(strategy: str = "ReadOnly", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    spec = minimal_spec()
    spec["registry"] = {"url": _URL, "insecure": True}
    spec["dryRun"] = False
    spec["garbageCollection"] = {
        "mode": "Run",
        "schedule": "0 0 1 1 *",
        "workloadRef": {"kind": NAME.kind, "name": NAME.name},
        "strategy": strategy,
    }
    return {
        "metadata": {
            "uid": "a-uid",
            "namespace": NAMESPACE,
            "name": "policy",
            "generation": 1,
            "creationTimestamp": "2026-06-01T00:00:00Z",
            "annotations": {COLLECT_ANNOTATION: "now"},
        },
        "spec": spec | changes,
    }


class _API(KubernetesAPI):
    """Keeps the status that it is given."""

    def __init__(self, world: _World) -> None:
        self._world = world

    @override
    async def replace_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        self._world.cluster.writing("status")
        self._world.status = copy.deepcopy(status)
        self._world.cluster.writing("published")


@dataclass
class _World:
    """The world of collections, and what of it outlives an operator."""

    cluster: ClusterOfOne
    body: dict[str, Any] = field(default_factory=_body)
    status: dict[str, Any] = field(default_factory=lambda: {"plan": _PLAN, "observedGeneration": 1})
    doors: Doors = field(default_factory=Doors)
    clock: HandClock = field(default_factory=lambda: HandClock(NOW))
    window: UndoWindow | None = None
    meanwhile: UndoWindow | None = None
    answer: Answer | None = None
    ask: Callable[[ParsedPolicy], Awaitable[Answer]] | None = None
    doubts: str | None = None
    only_reports: bool = False
    order: StorageOrder = field(default_factory=lambda: StorageOrder(None, None, timedelta(0), "nothing is planned"))
    told_none: bool = False  # of the marks that there are: the list is by label
    events: list[str] = field(default_factory=list)
    standing: Standing | None = None

    @property
    def pruner_course(self) -> None:
        """No OpenShift."""
        return

    def parse(self, body: Mapping[str, Any]) -> ParsedPolicy:
        return parse_policy(body)

    def reports_only(self, policy: ParsedPolicy) -> bool:
        return self.only_reports or policy.dry_run

    async def doubt(self) -> str | None:
        return self.doubts

    async def undo_window(self, _: ParsedPolicy, __: datetime | None) -> UndoWindow | None:
        return self.window

    async def undo_window_since(self, _: ParsedPolicy, __: datetime) -> UndoWindow | None:
        return self.meanwhile

    async def storage_order(self, _: ParsedPolicy, __: PolicyStatus) -> StorageOrder:
        self.cluster.writing("order")
        return self.order

    async def _ask(self, policy: ParsedPolicy) -> Answer:
        if self.ask is not None:
            return await self.ask(policy)
        return self.answer or self.cluster.answer()

    async def _nothing(self, _: str, __: str) -> Mapping[str, str]:
        return {}

    async def _image(self) -> str:
        return "operator:1"

    async def start(self, *, gone: bool = False) -> CollectionTask:
        """Start an operator, which finds what is there."""
        collector = Collector(self.cluster, self._nothing, self._ask, self.clock, self._image, "ns:operator")
        marks = [] if self.told_none else await self.cluster.marks()
        left = Collection.of(NAMESPACE, NAME, marks[0]) if marks else None
        self.standing = None
        if not gone:
            body = {**copy.deepcopy(self.body), "status": copy.deepcopy(self.status)}
            self.standing = Standing(_API(self), self.clock, body, lambda: None, Metrics().policies)
        return CollectionTask(self, collector, self._notify, self.standing, timedelta(0), left, look_seconds=0.0)

    def _notify(self, _body: Mapping[str, Any], _warning: bool, reason: str, _message: str) -> None:
        self.events.append(reason)

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status.get("collection", {})
        return found

    @property
    def is_over(self) -> bool:
        return (
            self.told.get("phase") in ("Succeeded", "Failed") and self.status.get("lastHandledCollectRequest") == "now"
        )


async def _until(task: CollectionTask, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LIMIT):
        while not condition() and not task.task.done():
            await _a_moment()


async def _a_moment() -> None:
    """Let the tasks go on: what they come to nobody tells but the status."""
    await asyncio.sleep(0)


async def _ended(world: _World, task: CollectionTask) -> None:
    await _until(task, lambda: world.is_over)
    task.stop()
    await task.task


def _restored(world: _World, before: Mapping[str, Any]) -> None:
    """See that the registry is as it was, but for what Kubernetes itself counts."""
    body = world.cluster.body
    assert body is not None
    annotations = body["metadata"].get("annotations") or {}
    labels = body["metadata"].get("labels") or {}
    assert not any("registrycleanup" in each for each in (*annotations, *labels))
    assert _essence(body["spec"]) == _essence(before["spec"])
    assert not world.cluster.harmed
    assert not world.doors.is_shut(_REGISTRY)


def _essence(spec: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    found = copy.deepcopy(dict(spec))
    container = found["template"]["spec"]["containers"][0]
    if not container.get("env"):
        container.pop("env", None)
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
async def test_a_collection_freezes_collects_restores_and_tells(strategy: str) -> None:
    world = _World(ClusterOfOne(deployment()), _body(strategy))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    await _ended(world, await world.start())
    assert world.told["phase"] == "Succeeded", world.told
    assert (world.told["bytesBefore"], world.told["bytesAfter"], world.told["blobsRemoved"]) == (100, 60, 2)
    assert (world.told["bytesFreedTotal"], world.told["blobsRemovedTotal"]) == (40, 2)
    assert "frozenSince" not in world.told
    assert world.events == ["CollectionBegan", "RegistryFrozen", "RegistryRestored", "CollectionSucceeded"]
    _restored(world, before)


async def test_a_variable_that_was_there_before_comes_back_where_it_was() -> None:
    variables: list[dict[str, Any]] = [
        {"name": "A", "value": "1"},
        {"name": READ_ONLY_VARIABLE, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "B", "value": "2"},
    ]
    world = _World(ClusterOfOne(deployment(*variables)))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    await _ended(world, await world.start())
    assert world.told["phase"] == "Succeeded"
    _restored(world, before)


async def _killed_at(world: _World, write: int) -> bool:
    """Run an operator until its n-th half of a write kills it; say whether it came so far."""
    done = 0

    def count(_: str) -> None:
        nonlocal done
        done += 1
        if done == write:
            raise KilledError

    world.cluster.writing = count
    task = await world.start()
    assert world.standing is not None
    # A kill ends the task at once, and nothing that it does afterwards counts.
    while done < write and not world.is_over:
        await _a_moment()
    world.cluster.writing = _dead if done >= write else lambda _: None
    task.task.cancel()
    await asyncio.gather(task.task, return_exceptions=True)
    world.cluster.writing = lambda _: None
    world.doors = Doors()
    return done >= write


def _dead(_: str) -> None:
    raise KilledError


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
async def test_an_operator_that_is_killed_at_any_write_leaves_what_the_next_one_brings_to_its_end(
    strategy: str, prunes: bool
) -> None:
    write, kills = 1, 0
    while True:
        world = _World(ClusterOfOne(deployment(replicas=2)), _body(strategy))
        if prunes:
            _prunes(world)
        before = copy.deepcopy(world.cluster.body)
        assert before is not None
        if not await _killed_at(world, write):
            break
        kills += 1
        await _ended(world, await world.start())
        assert world.told["phase"] == "Succeeded", (write, world.told)
        assert world.cluster.collected >= 1
        if prunes:
            storage = {**world.told["storage"]}
            assert storage.pop("until") >= "2026-06-20T13:00:00Z"
            assert storage == {"run": "run-1", "tagsPruned": 3, "manifestsPruned": 2, "tagsStayed": 1}, write
        _restored(world, before)
        write += 1
    assert kills > 15


def _prunes(world: _World) -> None:
    """Let the Job of a collection prune something in the storage, and tell it."""
    world.body["spec"]["garbageCollection"]["pruneStorage"] = True
    world.order = StorageOrder(_FILES, "run-1", timedelta(days=5))
    told = json.dumps({"run": "run-1", "tags": 3, "manifests": 2, "stayed": 1})
    world.cluster.job_states = [{"name": PRUNE, "state": {"terminated": {"exitCode": 0, "message": told}}}]


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
async def test_a_policy_that_is_deleted_while_no_operator_is_there_leaves_a_restored_registry(strategy: str) -> None:
    write = 1
    while True:
        world = _World(ClusterOfOne(deployment()), _body(strategy))
        before = copy.deepcopy(world.cluster.body)
        assert before is not None
        if not await _killed_at(world, write):
            break
        if await world.cluster.marks():
            task = await world.start(gone=True)
            async with asyncio.timeout(_LIMIT):
                await task.task
        _restored(world, before)
        write += 1


@pytest.mark.parametrize("step", ["Freezing", "Collecting", "Restoring", "Verifying"])
@pytest.mark.parametrize("how", ["suspend", "delete", "None", "dryRun", "workload"])
async def test_a_collection_that_is_not_wanted_any_more_ends_with_the_registry_restored(step: str, how: str) -> None:
    world = _World(ClusterOfOne(deployment()))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == step)
    assert world.standing is not None
    if how == "delete":
        task.abandon()
        async with asyncio.timeout(_LIMIT):
            await task.task
    else:
        body = copy.deepcopy(dict(world.standing.body))
        if how == "suspend":
            body["spec"]["suspend"] = True
        elif how == "dryRun":
            body["spec"]["dryRun"] = True
        elif how == "None":
            body["spec"]["garbageCollection"]["mode"] = "None"
        else:
            body["spec"]["garbageCollection"]["workloadRef"]["name"] = "another"
        world.standing.body = body
        task.observe()
        await _ended(world, task)
    _restored(world, before)
    if step == "Freezing" and how != "delete":
        assert world.told["phase"] == "Failed"
        assert world.cluster.collected == 0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"suspend": True}, "begins once spec.suspend is false"),
        ({"garbageCollection": {"mode": "None"}}, "begins once spec.garbageCollection.mode is Report or Run"),
    ],
)
async def test_what_is_requested_of_a_policy_that_collects_nothing_now_is_said_to_wait(
    spec: Mapping[str, Any], words: str
) -> None:
    world = _World(ClusterOfOne(deployment()), _body(**spec))
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") == "Waiting")
    assert words in world.told["message"]
    assert world.standing is not None
    body = copy.deepcopy(dict(world.standing.body))
    del body["metadata"]["annotations"]
    world.standing.body = body
    task.observe()
    await _until(task, lambda: "phase" not in world.told)
    task.stop()
    await task.task
    assert world.events == []


async def test_a_job_that_fails_is_told_and_the_registry_restored() -> None:
    world = _World(ClusterOfOne(deployment()))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.cluster.job_fails = True
    await _ended(world, await world.start())
    assert world.told["phase"] == "Failed"
    assert "BackoffLimitExceeded" in world.told["message"]
    assert "bytesFreedTotal" not in world.told
    _restored(world, before)


async def test_a_collection_over_its_time_is_ended_and_the_registry_restored() -> None:
    world = _World(ClusterOfOne(deployment()))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.cluster.job_lasts = 10**9
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    world.clock.move(timedelta(hours=1))
    await _ended(world, task)
    assert world.told["phase"] == "Failed"
    assert "timeout" in world.told["message"]
    _restored(world, before)


async def test_a_configuration_that_cannot_be_read_any_more_keeps_no_registry_frozen_past_its_time() -> None:
    class _Refusing(_World):
        refuses = False

        @override
        async def _nothing(self, _: str, __: str) -> Mapping[str, str]:
            if self.refuses:
                raise ForbiddenError("may not get configmaps")
            return {"config.yml": "storage: {filesystem: {}}"}

    body = deployment()
    pod = body["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "config", "configMap": {"name": "c"}})
    pod["containers"][0]["volumeMounts"].append({"name": "config", "mountPath": "/etc/distribution"})
    world = _Refusing(ClusterOfOne(body))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.cluster.job_lasts = 10**9
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    world.refuses = True
    world.clock.move(timedelta(hours=2))
    task.observe()
    await _ended(world, task)
    assert (world.told["phase"], world.cluster.job_body) == ("Failed", None)
    _restored(world, before)


async def test_a_workload_that_became_unfit_before_it_is_frozen_is_left_alone() -> None:
    """It may be hours after the look, where an operator was killed in between."""
    world = _World(ClusterOfOne(deployment()), _body("Offline"))
    assert world.cluster.body is not None
    world.cluster.body["spec"]["persistentVolumeClaimRetentionPolicy"] = {"whenScaled": "Delete"}
    world.status["collection"] = {
        "id": "c1",
        "mode": "Run",
        "workload": "Deployment/registry",
        "phase": "Running",
        "step": "Freezing",
        "startTime": "2026-06-15T11:59:00Z",
        "message": "the registry is about to be frozen",
    }
    world.status["lastHandledCollectRequest"] = "now"
    before = copy.deepcopy(world.cluster.body)
    told: list[object] = []
    world.cluster.writing = lambda _: told.append(world.told.get("frozenSince"))
    await _ended(world, await world.start())
    assert world.told["phase"] == "Failed"
    assert set(told) == {None}
    assert "whenScaled" in world.told["message"]
    assert "RegistryFrozen" not in world.events
    _restored(world, before)


async def test_a_registry_that_somebody_scales_up_in_between_ends_the_job_and_is_restarted() -> None:
    world = _World(ClusterOfOne(deployment()), _body("Offline"))
    world.cluster.job_lasts = 10**9
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    world.cluster.change(lambda body: body["spec"].update(replicas=3))
    await _ended(world, task)
    assert world.told["phase"] == "Failed"
    assert "scaled the workload up" in world.told["message"]
    body = world.cluster.body
    assert body is not None
    assert body["spec"]["replicas"] == 3
    assert "registrycleanup.dev/restarted-at" in body["spec"]["template"]["metadata"]["annotations"]
    assert world.cluster.job_body is None


async def test_a_job_whose_creation_takes_effect_after_the_restoration_collects_nothing() -> None:
    """The API server gave no answer to its creation, and the policy was suspended then."""

    class _Late(ClusterOfOne):
        late: dict[str, Any] | None = None

        @override
        async def create_job(self, namespace: str, body: dict[str, Any]) -> None:
            self.late = body
            raise NoAnswerError("timeout")

    cluster = _Late(deployment())
    cluster.job_lasts = 10**9
    world = _World(cluster)
    task = await world.start()
    await _until(task, lambda: cluster.late is not None)
    assert world.standing is not None
    body = copy.deepcopy(dict(world.standing.body))
    body["spec"]["suspend"] = True
    world.standing.body = body
    task.observe()
    await _until(task, lambda: world.told.get("step") == "Verifying")
    cluster.job_body = cluster.late
    await _ended(world, task)
    assert (world.told["phase"], cluster.collected, cluster.job_body) == ("Failed", 0, None)
    assert "frozenSince" not in world.told
    assert cluster.body is not None
    assert "registrycleanup.dev/restarted-at" in cluster.body["spec"]["template"]["metadata"]["annotations"]


async def test_no_run_is_at_the_registry_while_it_is_frozen_and_none_begins() -> None:
    world = _World(ClusterOfOne(deployment()))
    with world.doors.inside(_REGISTRY) as inside:
        assert inside
        task = await world.start()
        await _until(task, lambda: "runs at this registry" in world.told.get("message", ""))
        assert await world.cluster.marks() == []
        with world.doors.inside(_REGISTRY) as second:
            assert not second
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


async def test_it_waits_for_the_window_of_undo_and_says_until_when_without_keeping_runs_off() -> None:
    until = NOW + timedelta(hours=2)
    world = _World(
        ClusterOfOne(deployment()), window=UndoWindow(until, "team/other", timedelta(days=1), timedelta(hours=1))
    )
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") == "Waiting")
    assert world.told["nextTime"] == "2026-06-15T14:00:00Z"
    assert "team/other" in world.told["message"]
    assert "more often than that window can pass" in world.told["message"]
    assert not world.doors.is_shut(_REGISTRY)
    assert "lastHandledCollectRequest" not in world.status
    world.window = None
    task.observe()
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


async def test_status_calls_a_registry_frozen_until_the_pods_that_take_changes_are_up() -> None:
    world = _World(ClusterOfOne(deployment()))
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Verifying")
    assert world.told["frozenSince"]
    await _ended(world, task)
    assert "frozenSince" not in world.told


async def test_it_waits_for_what_can_be_put_back_into_the_storage() -> None:
    world = _World(ClusterOfOne(deployment()))
    storage = {"run": "run-1", "until": "2026-06-15T14:00:00Z", "tagsPruned": 3}
    world.status["collection"] = {"id": "c0", "phase": "Succeeded", "storage": storage}
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") == "Waiting")
    assert world.told["nextTime"] == "2026-06-15T14:00:00Z"
    assert "run-1 can be restored until 2026-06-15T14:00:00Z" in world.told["message"]
    assert world.cluster.job_body is None
    assert not world.doors.is_shut(_REGISTRY)
    world.clock.move(timedelta(hours=2))
    task.observe()
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


def _containers(world: _World) -> list[str]:
    assert world.cluster.job_body is not None
    pod = world.cluster.job_body["spec"]["template"]["spec"]
    return [each["name"] for each in [*pod["initContainers"], *pod["containers"]]]


async def test_nothing_is_ordered_in_the_storage_unless_the_policy_wants_it() -> None:
    world = _World(ClusterOfOne(deployment()), order=StorageOrder(_FILES, "run-1", timedelta(0)))
    await _ended(world, await world.start())
    assert PRUNE not in _containers(world)
    assert "storage" not in world.told


async def test_what_is_ordered_in_the_storage_is_told_before_its_job_is_there() -> None:
    world = _World(ClusterOfOne(deployment()), order=StorageOrder(_FILES, "run-1", timedelta(0)))
    world.body["spec"]["garbageCollection"]["pruneStorage"] = True
    told: list[object] = []

    def writing(what: str) -> None:
        if what == "create":
            told.append(world.told.get("storage", {}).get("run"))

    world.cluster.writing = writing
    await _ended(world, await world.start())
    assert told == ["run-1"]
    assert PRUNE in _containers(world)


def _refuses_jobs(world: _World) -> None:
    def writing(what: str) -> None:
        if what == "create":
            raise ForbiddenError("exceeded quota: jobs")

    world.cluster.writing = writing


def _fails_to_collect(world: _World) -> None:
    world.cluster.job_fails = True
    world.cluster.job_states = [
        {"name": COLLECT, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
        {"name": PRUNE, "state": {"waiting": {"reason": "PodInitializing"}}},
    ]


@pytest.mark.parametrize("fail", [_refuses_jobs, _fails_to_collect])
async def test_where_the_job_never_came_to_prune_nothing_has_to_wait_for_a_window(
    fail: Callable[[_World], None],
) -> None:
    world = _World(ClusterOfOne(deployment()), order=StorageOrder(_FILES, "run-1", timedelta(days=5)))
    world.body["spec"]["garbageCollection"]["pruneStorage"] = True
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    fail(world)
    await _ended(world, await world.start())
    assert world.told["phase"] == "Failed"
    storage = world.told["storage"]
    assert "nothing was pruned in the storage" in storage.pop("message")
    assert storage == {"tagsPruned": 0, "manifestsPruned": 0}
    _restored(world, before)


async def test_what_a_job_pruned_before_it_failed_is_told() -> None:
    world = _World(ClusterOfOne(deployment()), order=StorageOrder(_FILES, "run-1", timedelta(0)))
    world.body["spec"]["garbageCollection"]["pruneStorage"] = True
    world.cluster.job_fails = True
    told = json.dumps({"run": "run-1", "tags": 3, "manifests": 2, "stayed": 1})
    world.cluster.job_states = [
        {"name": PRUNE, "state": {"terminated": {"exitCode": 0, "message": told}}},
        {"name": COLLECT, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
    ]
    await _ended(world, await world.start())
    assert world.told["phase"] == "Failed"
    assert world.told["storage"] == {"run": "run-1", "tagsPruned": 3, "manifestsPruned": 2, "tagsStayed": 1}


async def test_a_policy_that_is_changed_before_its_plan_is_pruned_by_ends_the_job() -> None:
    world = _World(ClusterOfOne(deployment()), order=StorageOrder(_FILES, "run-1", timedelta(days=5)))
    world.body["spec"]["garbageCollection"]["pruneStorage"] = True
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.cluster.job_lasts = 1000
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    assert world.standing is not None
    body = copy.deepcopy(dict(world.standing.body))
    body["spec"]["keepTags"] = ["build-1"]
    body["metadata"]["generation"] += 1
    world.standing.body = body
    world.cluster.job_lasts = 3
    task.observe()
    await _ended(world, task)
    assert (world.told["phase"], world.cluster.collected) == ("Failed", 0)
    assert "was changed" in world.told["message"]
    _restored(world, before)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda world: world.cluster.missing.append("patch deployments"), "kubectl create rolebinding"),
        (lambda world: setattr(world.cluster, "body", None), "there is no Deployment registry"),
        (lambda world: setattr(world, "doubts", "the served CRD is another"), "the served CRD is another"),
        (lambda world: setattr(world, "answer", Answer.READ_ONLY), "read-only mode already"),
        (lambda world: setattr(world, "answer", Answer.UNCLEAR), "cannot be seen"),
    ],
)
async def test_what_keeps_it_from_beginning_is_told_before_anything_is_changed(
    prepare: Callable[[_World], None], words: str
) -> None:
    world = _World(ClusterOfOne(deployment()))
    prepare(world)
    before = copy.deepcopy(world.cluster.body)
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") == "Waiting")
    assert words in world.told["message"]
    assert world.cluster.body is None or before is None or world.cluster.body["spec"] == before["spec"]
    assert await world.cluster.marks() == []
    task.stop()
    await task.task


@pytest.mark.parametrize("source", [{"secret": {"secretName": "c"}}, {"configMap": {"name": "c"}}])
async def test_a_registry_whose_configuration_nobody_can_read_is_left_alone(source: dict[str, Any]) -> None:
    """It may say that it stores elsewhere, or keeps in redis what it knows of its layers; a Secret is nobody's to read.

    The ConfigMap lacks the key that is mounted.
    """
    body = deployment()
    pod = body["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "config", **source})
    pod["containers"][0]["volumeMounts"].append({"name": "config", "mountPath": "/etc/distribution"})
    world = _World(ClusterOfOne(body))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") in ("Waiting", "Running"))
    task.stop()
    await task.task
    assert (world.told["phase"], world.events) == ("Waiting", ["WorkloadUnfit"])
    assert world.cluster.body is not None
    assert world.cluster.body["spec"] == before["spec"]


async def test_a_request_that_a_policy_bears_from_the_beginning_is_none() -> None:
    world = _World(ClusterOfOne(deployment()), status={})
    task = await world.start()
    await _until(task, lambda: world.status.get("lastHandledCollectRequest") == "now")
    world.status["plan"] = _PLAN
    task.stop()
    await task.task
    later = await world.start()
    await _until(later, lambda: bool(world.told.get("nextTime")))
    assert world.told.get("phase") is None
    later.stop()
    await later.task


async def test_a_pod_of_another_workload_that_writes_to_the_storage_keeps_it_from_beginning() -> None:
    world = _World(ClusterOfOne(deployment()))
    world.cluster.strangers.append(stranger("canary-1"))
    task = await world.start()
    await _until(task, lambda: world.told.get("phase") == "Waiting")
    assert "canary-1" in world.told["message"]
    assert "StorageShared" in world.events
    assert await world.cluster.marks() == []
    world.cluster.strangers.clear()
    world.clock.move(timedelta(minutes=1))
    task.observe()
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


@pytest.mark.parametrize("step", ["Freezing", "Collecting"])
async def test_a_pod_that_comes_to_the_storage_in_between_ends_the_collection(step: str) -> None:
    world = _World(ClusterOfOne(deployment()))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.cluster.job_lasts = 10**9
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == step)
    world.cluster.strangers.append(stranger("canary-1"))
    await _ended(world, task)
    assert (world.told["phase"], world.cluster.collected, world.cluster.job_body) == ("Failed", 0, None)
    assert "canary-1" in world.told["message"]
    _restored(world, before)


async def test_a_registry_that_says_only_sometimes_that_it_is_read_only_is_not_collected() -> None:
    """A second workload behind the same Service answers every third request."""
    world = _World(ClusterOfOne(deployment()))
    asked = 0

    async def ask(_: ParsedPolicy) -> Answer:
        nonlocal asked
        asked += world.cluster.answer() is Answer.READ_ONLY
        return Answer.WRITABLE if asked % 3 == 0 else world.cluster.answer()

    world.ask = ask
    await _ended(world, await world.start())
    assert (world.told["phase"], world.cluster.collected) == ("Failed", 0)
    assert "another workload serves it" in world.told["message"]


async def test_a_run_under_another_name_of_the_service_is_inside_too() -> None:
    world = _World(ClusterOfOne(deployment()))
    with world.doors.inside(registry_key("http://registry.team.svc.cluster.local:5000")) as inside:
        assert inside
        task = await world.start()
        await _until(task, lambda: "runs at this registry" in world.told.get("message", ""))
        assert world.cluster.collected == 0
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


async def test_a_run_that_is_under_way_by_its_status_is_waited_for_without_keeping_others_off() -> None:
    world = _World(ClusterOfOne(deployment()))
    world.window = UndoWindow(NOW + timedelta(days=7), "team/other", timedelta(days=7), None, runs=True)
    task = await world.start()
    await _until(task, lambda: "team/other is under way" in world.told.get("message", ""))
    assert not world.doors.is_shut(_REGISTRY)
    assert await world.cluster.marks() == []
    world.window = None
    task.observe()
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
async def test_what_was_pruned_under_another_name_before_the_registry_was_frozen_is_not_collected(
    strategy: str,
) -> None:
    world = _World(ClusterOfOne(deployment()), _body(strategy))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    world.meanwhile = UndoWindow(NOW + timedelta(days=7), "team/other", timedelta(days=7), None)
    await _ended(world, await world.start())
    assert (world.told["phase"], world.cluster.collected, world.cluster.job_body) == ("Failed", 0, None)
    assert "team/other" in world.told["message"]
    _restored(world, before)


@pytest.mark.parametrize("url", [_URL, "http://10.0.0.1:5000"])
async def test_of_two_policies_that_want_one_registry_or_workload_the_second_waits(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("registry_cleanup.collection_task._LOOK_AT_OBSTACLE", 0.0)
    world = _World(ClusterOfOne(deployment()))
    second = _World(world.cluster, _body(registry={"url": url, "insecure": True}), doors=world.doors)
    second.body["metadata"] |= {"uid": "b-uid", "name": "second"}
    one, two = await world.start(), await second.start()
    await _ended(world, one)
    await _ended(second, two)
    assert (world.told["phase"], second.told["phase"]) == ("Succeeded", "Succeeded")
    assert world.cluster.collected == 2


async def test_a_workload_that_another_operators_collection_has_frozen_meanwhile_is_said_to_be() -> None:
    world = _World(ClusterOfOne(deployment()))
    task = await world.start()
    await _until(task, lambda: "RegistryFrozen" in world.events)
    (mark,) = await world.cluster.marks()
    text = mark_text(replace(mark, id="another", policy_name="theirs"))
    world.cluster.change(lambda body: body["metadata"]["annotations"].update({MARK_ANNOTATION: text}))
    await _ended(world, task)
    assert world.told["phase"] == "Failed"
    assert "a collection of policy theirs has frozen the workload" in world.told["message"]


async def test_a_dry_run_policy_only_reports() -> None:
    world = _World(ClusterOfOne(deployment()), _body(dryRun=True))
    before = copy.deepcopy(world.cluster.body)
    assert before is not None
    task = await world.start()
    await _until(task, lambda: world.is_over)
    assert world.told["mode"] == "Report"
    body = world.cluster.body
    assert body is not None
    assert body["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    task.stop()
    await task.task


async def test_a_report_whose_job_a_quota_refuses_ends_at_once_and_says_so() -> None:
    class _Full(ClusterOfOne):
        tried = 0

        @override
        async def create_job(self, namespace: str, body: dict[str, Any]) -> None:
            self.tried += 1
            raise ForbiddenError("exceeded quota")

    cluster = _Full(deployment())
    world = _World(cluster, _body(dryRun=True))
    await _ended(world, await world.start())
    assert (world.told["phase"], cluster.tried) == ("Failed", 1)
    assert "exceeded quota" in world.told["message"]


@pytest.mark.parametrize("what", ["broken", "doubt", "frozen"])
async def test_what_may_last_keeps_no_run_off_once_the_runs_inside_have_ended(what: str) -> None:
    world = _World(ClusterOfOne(deployment()))
    with world.doors.inside(_REGISTRY):
        task = await world.start()
        await _until(task, lambda: "runs at this registry" in world.told.get("message", ""))
        assert world.doors.is_shut(_REGISTRY)
        body = world.cluster.body
        assert body is not None
        if what == "broken":
            world.cluster.breaks = True
        elif what == "doubt":
            world.doubts = "the served CRD is another"
        else:
            mark = Mark("other", "other", "c", _REGISTRY, Strategy.OFFLINE, 1, None, None, NOW, timedelta(hours=1))
            world.cluster.apply(freeze(body, mark))
    told = {"broken": "not ready", "doubt": "CRD", "frozen": "has frozen"}[what]
    task.observe()
    await _until(task, lambda: told in world.told.get("message", "") and not world.doors.is_shut(_REGISTRY))
    assert not world.doors.is_shut(_REGISTRY)
    task.stop()
    await task.task


async def _killed_while_it_collects() -> _World:
    """Return the world of the next operator, in which somebody has put the workload back by hand."""
    world = _World(ClusterOfOne(deployment()))
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    task.stop()
    await task.task
    return _World(ClusterOfOne(deployment()), status=copy.deepcopy(world.status))


async def test_a_policy_that_is_not_valid_after_a_crash_tells_of_no_frozen_registry_that_is_none() -> None:
    world = await _killed_while_it_collects()
    world.body["spec"]["rules"] = []
    task = await world.start()
    await _until(task, lambda: world.told["phase"] != "Running")
    task.stop()
    await task.task
    assert world.told["phase"] == "Failed", world.told
    assert "somebody else put the workload back" in world.told["message"]
    assert "frozenSince" not in world.told


async def test_only_the_workload_of_a_collection_is_restarted_after_it_though_the_policy_names_another() -> None:
    world = await _killed_while_it_collects()
    world.body["spec"]["garbageCollection"]["workloadRef"]["name"] = "another"
    world.body["spec"]["suspend"] = True
    seen: set[WorkloadName] = set()
    real = world.cluster.workload

    async def workload(namespace: str, name: WorkloadName) -> dict[str, Any] | None:
        seen.add(name)
        return await real(namespace, name)

    world.cluster.workload = workload  # type: ignore[method-assign]  # one call is watched
    task = await world.start()
    await _until(task, lambda: world.told["phase"] != "Running")
    task.stop()
    await task.task
    assert seen == {NAME}
    assert world.told["phase"] == "Failed", world.told


async def test_a_collection_whose_status_does_not_tell_of_which_workload_it_was_has_failed() -> None:
    world = await _killed_while_it_collects()
    del world.status["collection"]["workload"]
    before = copy.deepcopy(world.cluster.body)
    task = await world.start()
    await _until(task, lambda: world.told["phase"] != "Running")
    task.stop()
    await task.task
    assert "does not tell of which workload" in world.told["message"]
    assert "frozenSince" not in world.told
    assert before is not None
    assert world.cluster.body is not None
    assert world.cluster.body["spec"] == before["spec"]


async def test_rights_that_are_taken_away_while_it_is_frozen_are_told_with_the_command_that_grants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry_cleanup.collection_task._AFTER_FORBIDDEN", 0.01)
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster)
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")

    def refuse(what: str) -> None:
        if what == "patch":
            raise ForbiddenError("may not patch deployments in team")

    cluster.writing = refuse
    await _until(task, lambda: "kubectl create rolebinding" in world.told.get("message", ""))
    assert "CollectorRoleMissing" in world.events
    assert world.told["frozenSince"]
    await _until(task, lambda: not world.doors.is_shut(_REGISTRY))
    cluster.writing = lambda _: None
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"
    _restored(world, before)


@pytest.mark.parametrize("uid", ["a-uid", "new-uid"])
async def test_what_a_forgotten_collection_left_frozen_is_restored_before_another_begins(uid: str) -> None:
    """The label was taken off, and the status lost or the policy made again: the annotation is all that is left."""
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster)
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    task.task.cancel()
    await asyncio.gather(task.task, return_exceptions=True)
    cluster.change(lambda body: body["metadata"]["labels"].clear())
    again = _World(cluster, _body())
    again.body["metadata"] |= {"uid": uid}
    again.told_none = True
    later = await again.start()
    if uid != "a-uid":
        await _until(later, lambda: "this one begins when that is through" in again.told.get("message", ""))
        again.clock.move(timedelta(hours=1, minutes=10))
        later.observe()
    await _until(later, lambda: "left it so" in again.told.get("failure", ""))
    await _ended(again, later)
    assert again.told["phase"] == "Succeeded"
    _restored(again, before)


async def test_what_refuses_the_restoration_again_and_again_is_told() -> None:
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster)
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")

    def refuse(what: str) -> None:
        if what == "patch":
            raise RefusedError("denied the request: no change of replicas on Sundays")

    cluster.writing = refuse
    await _until(task, lambda: "no change of replicas on Sundays" in world.told.get("message", ""))
    assert world.events.count("RestoreRefused") == 1
    cluster.writing = lambda _: None
    await _ended(world, task)
    assert world.told["phase"] == "Succeeded"
    _restored(world, before)


@pytest.mark.parametrize("what", ["patch", "create"])
async def test_what_refuses_a_freezing_or_a_job_again_and_again_ends_the_collection_with_the_cause(what: str) -> None:
    """As an admission policy does: a registry must not stay frozen for a Job that never comes."""
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    refused = 0

    def refuse(written: str) -> None:
        nonlocal refused
        if written == what and (what == "create" or cluster.body == before):
            refused += 1
            raise RefusedError("denied the request: not on Sundays")

    world = _World(cluster)
    cluster.writing = refuse
    await _ended(world, await world.start())
    assert world.told["phase"] == "Failed"
    assert "not on Sundays" in world.told["message"]
    assert 0 < refused < 20
    _restored(world, before)


async def test_what_changed_once_is_looked_at_again_and_frozen_then() -> None:
    cluster = ClusterOfOne(deployment())
    refusals = ["the test of /metadata/resourceVersion failed"] * 3

    def refuse(written: str) -> None:
        if written == "patch" and refusals:
            raise RefusedError(refusals.pop())

    world = _World(cluster)
    cluster.writing = refuse
    await _ended(world, await world.start())
    assert world.told["phase"] == "Succeeded"


def _without_mark(body: dict[str, Any]) -> None:
    body["metadata"]["annotations"].clear()
    body["metadata"]["labels"].clear()


def _with_damaged_mark(body: dict[str, Any]) -> None:
    body["metadata"]["annotations"][MARK_ANNOTATION] = "{"


def _without_label(body: dict[str, Any]) -> None:
    body["metadata"]["labels"].clear()


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
@pytest.mark.parametrize("change", [_without_mark, _with_damaged_mark, _without_label])
async def test_a_mark_that_somebody_takes_off_is_put_back_and_the_registry_restored(
    strategy: str, change: Callable[[dict[str, Any]], None]
) -> None:
    cluster = ClusterOfOne(deployment(replicas=2))
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster, _body(strategy))
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    cluster.change(change)
    patched: list[dict[str, Any]] = []

    def note(what: str) -> None:
        if what == "patched":
            patched.append(copy.deepcopy(cluster.body or {}))

    cluster.writing = note
    await _ended(world, task)
    assert mark_of(patched[0]) is not None
    assert patched[0]["metadata"]["labels"][MARK_LABEL] == "true"
    assert world.told["phase"] == "Succeeded"
    _restored(world, before)


async def _killed_and_without_mark(strategy: str) -> tuple[_World, dict[str, Any]]:
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster, _body(strategy))
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    task.task.cancel()
    await asyncio.gather(task.task, return_exceptions=True)
    cluster.change(_without_mark)
    world.doors = Doors()
    return world, before


async def test_a_registry_whose_mark_is_gone_after_a_crash_is_made_writable_again() -> None:
    world, before = await _killed_and_without_mark("ReadOnly")
    await _ended(world, await world.start())
    assert world.told["phase"] == "Succeeded"
    _restored(world, before)


async def test_where_nothing_tells_any_more_how_many_replicas_there_were_a_person_is_asked_to_restore_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry_cleanup.collection_task._AFTER_ERROR", 0.01)
    world, before = await _killed_and_without_mark("Offline")
    task = await world.start()
    await _until(task, lambda: f"kubectl scale -n {NAMESPACE} deployment/registry" in world.told.get("message", ""))
    assert "MarkDamaged" in world.events
    assert world.told["frozenSince"]
    world.cluster.change(lambda body: body.update(spec=copy.deepcopy(before["spec"])))
    await _ended(world, task)
    assert world.told["phase"] == "Failed"
    assert "frozenSince" not in world.told


async def test_a_rollout_that_is_undone_to_a_read_only_revision_leaves_no_registry_frozen() -> None:
    """`kubectl rollout undo` brings back the variable, and the annotation; not the label."""
    cluster = ClusterOfOne(deployment())
    before = copy.deepcopy(cluster.body)
    assert before is not None
    world = _World(cluster)
    task = await world.start()
    await _until(task, lambda: world.told.get("step") == "Collecting")
    frozen = copy.deepcopy(cluster.body)
    assert frozen is not None
    await _ended(world, task)

    def undo(body: dict[str, Any]) -> None:
        body["spec"] = frozen["spec"]
        body["metadata"]["annotations"] = frozen["metadata"]["annotations"]

    cluster.change(undo)
    world.body["metadata"]["annotations"] = {COLLECT_ANNOTATION: "now"}
    world.told_none = True
    later = await world.start()
    await _until(later, lambda: world.told.get("phase") == "Failed")
    assert "left it so" in world.told["message"]
    later.stop()
    await later.task
    _restored(world, before)
