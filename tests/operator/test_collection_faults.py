"""What goes wrong during a collection ends with the registry as it was, up and writable, and is told."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.storage.pruning import prune
from registry_cleanup.storage.restoring import RestoreOrder, restore
from registry_cleanup.storage.tree import Tree
from tests.support.collecting import (
    JOB,
    adopt,
    ask,
    collected,
    collecting_spec,
    ended,
    held,
    is_held_up,
    is_up_as_before,
    job_pods,
    jobs,
    left,
    wait,
)
from tests.support.faulty import before as before_each
from tests.support.faulty import faulty_registry
from tests.support.hosted import APP, BUILDS, COLLECTING_LABEL, FORMER_STATE, Hosted, collector, hosted
from tests.support.kubelet import Kubelet
from tests.support.operator import Operator
from tests.support.policies import NAME, Gate, condition, last_run
from tests.support.spaces import PARALLEL, REGISTRY, Space
from tests.support.stored import NOW, written
from tests.support.undo import blob_file

_READ_ONLY = "REGISTRY_STORAGE_MAINTENANCE_READONLY"
_OTHER = "another"
_ELSEWHERE = {"kind": "Deployment", "name": "another"}


@pytest.fixture(scope="module")
def running(ready_node: Kubelet) -> Iterator[Operator]:
    with collector(ready_node) as made:
        yield made


@pytest.fixture
def registry(running: Operator, place: Space, tmp_path: Path) -> Iterator[Hosted]:
    """Run Distribution 3.1 as a Deployment, with little in it."""
    assert running.lives()
    with hosted(place, tmp_path, filled=False) as made:
        yield made


# Clients


def test_a_push_during_a_collection_is_refused_and_works_later(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        assert "405" in registry.refused("new")
        registry.pull(APP, f"build-{BUILDS}")
        assert left(registry).marks == {COLLECTING_LABEL, FORMER_STATE}
    assert ended(registry, "held")["phase"] == "Succeeded"
    is_up_as_before(registry, before, "new")


def test_a_registry_that_is_offline_answers_nobody_until_it_is_back(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry, {"strategy": "Offline"}))
    with held(registry):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{registry.url}/v2/", trust_env=False)
        assert left(registry).replicas == 0
    assert ended(registry, "held")["phase"] == "Succeeded"
    is_up_as_before(registry, before, "new")


def test_another_policy_of_the_registry_waits_and_then_prunes(registry: Hosted) -> None:
    registry.push(APP, ["build-1"], "older")
    mine = collecting_spec(registry, repositories={"include": ["nothing/*"]})
    adopt(registry, mine)
    other = collecting_spec(
        registry, {"mode": "None"}, rules=[{"name": "all", "tags": {"include": ["build-1"]}, "olderThan": "30d"}]
    )
    adopt(registry, other, _OTHER)
    since = registry.namespace.policy(_OTHER)
    with held(registry):
        registry.namespace.request_run("now", _OTHER)
        # What it does of this is to wait: nothing else can be awaited of it.
        registry.place.wait(lambda: "405" in registry.refused("new"), "a registry that is read-only")
        assert registry.namespace.policy(_OTHER)["status"].get("lastHandledRunRequest") is None
    assert ended(registry, "held")["phase"] == "Succeeded"
    done = registry.namespace.handled("now", _OTHER)
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", 1)
    told = [json.dumps(each["status"]["conditions"]) for each in registry.namespace.history(since, _OTHER)]
    assert [each for each in told if "DeletionDisabled" in each] == []


def test_a_collection_waits_for_a_run_of_the_registry(registry: Hosted) -> None:
    registry.push(APP, ["build-1"], "older")
    before, gate = left(registry), Gate()
    rules = [{"name": "all", "tags": {"include": ["build-1"]}, "olderThan": "30d"}]
    with faulty_registry(registry.url) as proxy:
        adopt(registry, collecting_spec(registry, url=proxy.url, rules=rules))
        registry.namespace.planned()
        proxy.inject(before_each(gate), method="DELETE", times=1)
        registry.namespace.request_run("now")
        gate.wait()
        ask(registry, "now")
        wait(registry, lambda told: is_held_up(told, "the runs"), "a collection that waits")
        assert (left(registry), jobs(registry)) == (before, [])
        gate.open()
        assert last_run(registry.namespace.handled("now"))["counts"]["tagsPruned"] == 1
        assert ended(registry, "now")["phase"] == "Succeeded"
    is_up_as_before(registry, before, "new")


@pytest.mark.thorough
def test_two_policies_collect_one_after_the_other(registry: Hosted) -> None:
    before = left(registry)
    for name in (NAME, _OTHER):
        adopt(registry, collecting_spec(registry, repositories={"include": ["nothing/*"]}), name)
    with held(registry):
        ask(registry, "too", _OTHER)
        wait(registry, lambda told: is_held_up(told, "frozen"), "a collection that waits", _OTHER)
        assert len(job_pods(registry)) == 1
    first, second = ended(registry, "held"), ended(registry, "too", _OTHER)
    assert (first["phase"], second["phase"]) == ("Succeeded", "Succeeded")
    assert (first["blobsRemoved"] > 0, second["blobsRemoved"]) == (True, 0)
    assert second["startTime"] >= first["completionTime"]
    is_up_as_before(registry, before, "new")


# The Job


def test_a_registry_whose_collection_fails_is_restored(registry: Hosted) -> None:
    before = left(registry)
    # A manifest whose content is gone is what it does not get over.
    digest = registry.crane.digest(f"{registry.host}/{APP}:build-{BUILDS}")
    manifest = blob_file(registry.storage, digest)
    content = manifest.read_bytes()
    manifest.write_bytes(b"nothing that can be read")
    adopt(registry, collecting_spec(registry))

    told = collected(registry, "now")

    assert told["phase"] == "Failed"
    assert "blobsRemoved" not in told
    is_up_as_before(registry, before, "new")
    manifest.write_bytes(content)
    assert collected(registry, "again")["phase"] == "Succeeded"


def test_what_can_be_restored_from_the_trash_on_the_volume_is_not_collected(registry: Hosted) -> None:
    before = left(registry)
    tag = f"build-{BUILDS}"
    digest = parse_digest(registry.crane.digest(f"{registry.host}/{APP}:{tag}"))
    with Tree.open(registry.storage) as tree:
        assert prune(tree, written({tag: digest}, repository=APP), "monday", NOW, lambda: None).tags == 1
    adopt(registry, collecting_spec(registry))

    told = collected(registry, "now")

    assert told["phase"] == "Failed"
    assert "the trash holds monday" in told["message"]
    is_up_as_before(registry, before, "new")
    with Tree.open(registry.storage) as tree:
        assert restore(tree, RestoreOrder("monday", (), force=False, dry_run=False, now=NOW)).whole
    assert collected(registry, "again")["phase"] == "Succeeded"


@pytest.mark.parametrize("strategy", ["ReadOnly", pytest.param("Offline", marks=pytest.mark.thorough)])
def test_a_collection_over_its_time_is_ended(registry: Hosted, strategy: str) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry, {"strategy": strategy, "timeout": "12s"}))
    with held(registry):
        told = ended(registry, "held")
    assert told["phase"] == "Failed"
    assert "spec.garbageCollection.timeout" in told["message"]
    is_up_as_before(registry, before, "new")


@pytest.mark.parametrize("how", ["evicted", pytest.param("deleted", marks=pytest.mark.thorough)])
def test_a_collection_whose_pod_goes_has_failed(registry: Hosted, how: str) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        (pod,) = job_pods(registry)
        if how == "evicted":
            registry.place.node.evict(registry.place.name, pod)
        else:
            registry.place.kubectl("delete", "pod", pod, "--grace-period=1")
        told = ended(registry, "held")
    assert told["phase"] == "Failed"
    is_up_as_before(registry, before, "new")


@pytest.mark.thorough
def test_a_job_that_somebody_deletes_has_failed(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        registry.place.kubectl("delete", "jobs", "--all")
        told = ended(registry, "held")
    assert told["phase"] == "Failed"
    is_up_as_before(registry, before, "new")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a volume that gets full")
def test_a_full_volume_gets_room(running: Operator, place: Space, tmp_path: Path) -> None:
    assert running.lives()
    with hosted(place, tmp_path, filled=False, full_at="1500k") as registry:
        before = left(registry)
        with pytest.raises(httpx.HTTPStatusError, match="500"):  # noqa: PT012 - any of them may be the one
            for number in range(20):
                registry.litter(str(number))
        adopt(registry, collecting_spec(registry))

        assert collected(registry, "now")["phase"] == "Succeeded"

        is_up_as_before(registry, before, "new")


# The workload


def test_a_rollout_that_never_becomes_ready_is_taken_back(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry, {"timeout": "12s"}))
    with registry.place.node.faults.held(REGISTRY):
        told = collected(registry, "now")
        assert told["phase"] == "Failed"
        # The former pod never went.
        is_up_as_before(registry, before, "new")
        assert jobs(registry) == []


def test_a_stateful_set_whose_rollout_never_becomes_ready_is_up_again(
    running: Operator, place: Space, tmp_path: Path
) -> None:
    assert running.lives()
    with hosted(place, tmp_path, kind="StatefulSet", filled=False, **PARALLEL) as registry:
        script = f'test -z "${_READ_ONLY}" && exec registry serve "$0"'
        change = {"name": REGISTRY, "command": ["/bin/sh", "-c", script, "/etc/distribution/config.yml"]}
        registry.patch({"spec": {"template": {"spec": {"containers": [change]}}}})
        place.wait_for_rollout(f"statefulset/{REGISTRY}")
        before = left(registry)
        adopt(registry, collecting_spec(registry, {"timeout": "12s"}))

        assert collected(registry, "now")["phase"] == "Failed"

        is_up_as_before(registry, before, "new")


def test_a_stateful_set_whose_rollout_could_not_be_taken_back_is_told(
    running: Operator, place: Space, tmp_path: Path
) -> None:
    assert running.lives()
    with hosted(place, tmp_path, kind="StatefulSet", filled=False) as registry:
        before, generation = left(registry), registry.workload["metadata"]["generation"]
        adopt(registry, collecting_spec(registry))
        ask(registry, "now")
        wait(registry, lambda told: is_held_up(told, "podManagementPolicy Parallel"), "a collection that waits")
        assert (left(registry), registry.workload["metadata"]["generation"]) == (before, generation)


def test_a_registry_that_somebody_made_writable_is_not_collected_any_longer(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        # As a GitOps tool does, which knows no label of ours either.
        registry.place.kubectl("set", "env", f"deployment/{REGISTRY}", f"{_READ_ONLY}-")
        told = ended(registry, "held")
        assert told["phase"] == "Failed"
        assert job_pods(registry) == [] or _terminating(registry)
    is_up_as_before(registry, before, "new")


def test_a_registry_that_somebody_scaled_up_is_not_collected_any_longer(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry, {"strategy": "Offline"}))
    with held(registry):
        registry.place.kubectl("scale", f"deployment/{REGISTRY}", "--replicas=1")
        told = ended(registry, "held")
        assert told["phase"] == "Failed"
    is_up_as_before(registry, before, "new")


def test_what_somebody_changed_besides_stays(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        registry.patch({"metadata": {"labels": {"team": "a"}}, "spec": {"replicas": 2, "minReadySeconds": 1}})
    assert ended(registry, "held")["phase"] == "Succeeded"
    now = left(registry)
    assert (now.replicas, now.containers, now.marks) == (2, before.containers, frozenset())
    assert registry.workload["metadata"]["labels"] == {"team": "a"}
    assert registry.workload["spec"]["minReadySeconds"] == 1


@pytest.mark.thorough
def test_a_value_of_the_variable_that_was_there_before_is_there_again(registry: Hosted) -> None:
    registry.place.kubectl("set", "env", f"deployment/{REGISTRY}", f'{_READ_ONLY}={{"enabled":false}}')
    registry.place.wait_for_rollout(f"deployment/{REGISTRY}")
    registry.place.wait(lambda: len(registry.place.pods()) == 1, "the end of the former pod")
    before = left(registry)
    assert _READ_ONLY in json.dumps(before.containers)
    adopt(registry, collecting_spec(registry))
    assert collected(registry, "now")["phase"] == "Succeeded"
    is_up_as_before(registry, before, "new")


@pytest.mark.parametrize(
    "change", [{"mode": "None"}, pytest.param({"workloadRef": _ELSEWHERE}, marks=pytest.mark.thorough)]
)
def test_a_policy_that_is_changed_during_its_collection_leaves_the_registry_as_it_was(
    registry: Hosted, change: dict[str, Any]
) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        registry.namespace.change({"garbageCollection": change})
    wait(registry, lambda told: told.get("phase") in {"Succeeded", "Failed"}, "the end of the collection")
    is_up_as_before(registry, before, "new")


def test_a_suspended_policy_leaves_the_registry_as_it_was(registry: Hosted) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry))
    with held(registry):
        registry.namespace.change({"suspend": True})
    wait(registry, lambda told: told.get("phase") in {"Succeeded", "Failed"}, "the end of the collection")
    is_up_as_before(registry, before, "new")
    # It begins none, either.
    ask(registry, "suspended")
    registry.namespace.change({"suspend": False})
    assert ended(registry, "suspended")["phase"] == "Succeeded"


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
def test_a_policy_that_is_deleted_leaves_the_registry_as_it_was(registry: Hosted, strategy: str) -> None:
    before = left(registry)
    adopt(registry, collecting_spec(registry, {"strategy": strategy}))
    with held(registry):
        registry.namespace.delete()
        registry.place.wait(lambda: left(registry) == before, "the registry as it was")
    is_up_as_before(registry, before, "new")
    registry.place.wait(lambda: job_pods(registry) == [], "the end of the Job's pods")


def test_a_workload_that_is_not_there_is_told(registry: Hosted) -> None:
    adopt(registry, collecting_spec(registry, {"workloadRef": {"kind": "StatefulSet", "name": "nowhere"}}))
    ask(registry, "now")
    wait(registry, lambda told: is_held_up(told, "nowhere"), "a collection that waits")
    assert condition(registry.namespace.policy(), "Ready")["status"] == "True"
    registry.namespace.change({"garbageCollection": {"workloadRef": {"kind": registry.kind, "name": REGISTRY}}})
    assert ended(registry, "now")["phase"] == "Succeeded"


def _terminating(registry: Hosted) -> bool:
    pods = [pod for pod in registry.place.pods() if pod["metadata"]["name"].startswith(JOB)]
    return all("deletionTimestamp" in pod["metadata"] for pod in pods)
