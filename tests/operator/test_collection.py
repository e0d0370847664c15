"""A policy prunes, its window for undo passes, and the registry collects its garbage: the space comes back, exactly."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.collecting import (
    adopt,
    ask,
    collected,
    collecting_spec,
    collection,
    ended,
    is_held_up,
    is_up_as_before,
    jobs,
    left,
    wait,
)
from tests.support.hosted import APP, COLLECTOR_ROLE, MULTI, WEB, Hosted, Kind, collector, hosted
from tests.support.kubelet import Kubelet
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator
from tests.support.policies import NAME, Resource, last_run
from tests.support.registries import Version
from tests.support.spaces import PARALLEL, STORAGE, Space

_WINDOW = "8s"
# Of a run, which adds to the window.
_TIMEOUT = "30s"
_ONE_IN_A_HUNDRED = 0.01


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


def _pruned(registry: Hosted) -> Resource:
    """Plan, and prune; return the policy as it was planned."""
    planned = registry.namespace.planned()
    done = last_run(registry.namespace.run("prune"))
    assert (done["phase"], done["counts"]["tagsPruned"]) == ("Succeeded", planned["status"]["plan"]["deletions"])
    return planned


@pytest.mark.parametrize(
    ("version", "kind", "strategy"),
    [
        ("2", "Deployment", "Offline"),
        ("2", "StatefulSet", "ReadOnly"),
        ("3", "Deployment", "ReadOnly"),
        ("3", "StatefulSet", "Offline"),
    ],
)
def test_what_the_plan_estimated_comes_back_and_every_kept_tag_pulls_whole(
    running: Operator, place: Space, tmp_path: Path, version: Version, kind: Kind, strategy: str
) -> None:
    # One of the StatefulSets has a claim of its own; the other is rolled out.
    own = kind == "StatefulSet" and version == "3"
    parallel = PARALLEL if kind == "StatefulSet" and strategy == "ReadOnly" else {}
    with hosted(place, tmp_path, version, kind, own_claims=own, **parallel) as registry:
        before = left(registry)
        undo = {"window": _WINDOW, "repository": "ops/undo"}
        adopt(registry, collecting_spec(registry, {"strategy": strategy}, undo=undo, timeout=_TIMEOUT))
        estimate = _pruned(registry)["status"]["plan"]["reclaimableBytes"]
        kept = registry.pulled()
        assert {"build-4", "build-5", "release"} <= kept[APP].keys()
        assert {"build-4", "build-5"} == {tag for tag in kept[MULTI] if tag.startswith("build")} == kept[WEB].keys()
        full = registry.measure()

        ask(registry, "now")
        wait(registry, lambda told: is_held_up(told, "undo"), "a collection that waits")
        told = _time(registry.namespace.policy()["status"]["undo"]["until"])
        done = ended(registry, "now")

        assert (done["phase"], done["mode"]) == ("Succeeded", "Run"), done
        assert _time(done["startTime"]) >= told
        free = registry.measure()
        assert (done["bytesBefore"], done["bytesAfter"]) == (full.blobs, free.blobs)
        assert done["blobsRemoved"] == full.number - free.number > 0
        assert full.files - free.files == pytest.approx(estimate, rel=_ONE_IN_A_HUNDRED)
        assert done["durationSeconds"] == pytest.approx(
            (_time(done["completionTime"]) - _time(done["startTime"])).total_seconds(), abs=1
        )
        assert registry.pulled() == kept
        is_up_as_before(registry, before, "after")
        metrics = running.series(namespace=place.name, name=NAME)
        assert metrics["registry_cleanup_policy_collection_freed_bytes_total"] == full.blobs - free.blobs


def test_a_dry_run_tells_what_would_be_freed_and_changes_nothing(registry: Hosted) -> None:
    before, workload, version = registry.measure(), left(registry), registry.workload["metadata"]["generation"]
    adopt(registry, collecting_spec(registry, {"mode": "Report"}))

    told = collected(registry, "now")

    assert (told["phase"], told["mode"]) == ("Succeeded", "Report"), told
    assert told["bytesBefore"] == before.blobs
    assert {"bytesAfter", "blobsRemoved"}.isdisjoint(told)
    assert registry.measure() == before
    assert (left(registry), registry.workload["metadata"]["generation"]) == (workload, version)


def test_a_second_collection_finds_nothing_more(registry: Hosted) -> None:
    adopt(registry, collecting_spec(registry))
    first = collected(registry, "first")
    assert first["blobsRemoved"] > 0

    second = collected(registry, "second")

    assert (second["phase"], second["blobsRemoved"]) == ("Succeeded", 0)
    assert second["bytesBefore"] == second["bytesAfter"] == first["bytesAfter"]
    assert second["bytesFreedTotal"] == first["bytesBefore"] - first["bytesAfter"]


@pytest.mark.parametrize("version", ["2", pytest.param("3", marks=pytest.mark.thorough)])
def test_a_registry_with_a_configuration_and_a_folder_of_its_own_is_collected(
    running: Operator, place: Space, tmp_path: Path, version: Version
) -> None:
    assert running.lives()
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": f"{STORAGE}/of/its/own"}, "delete": {"enabled": True}},
        "http": {"addr": ":5000"},
    }
    with hosted(place, tmp_path, version, filled=False, configuration=settings) as registry:
        before, full = left(registry), registry.measure()
        assert (registry.storage / "of/its/own/docker").is_dir()
        adopt(registry, collecting_spec(registry))

        done = collected(registry, "now")

        free = registry.measure()
        assert done["phase"] == "Succeeded", done
        assert (done["bytesBefore"], done["bytesAfter"]) == (full.blobs, free.blobs)
        assert done["blobsRemoved"] == full.number - free.number > 0
        is_up_as_before(registry, before, "after")


def test_without_the_rights_nothing_is_changed_and_the_message_says_who_grants_them(
    running: Operator, place: Space, tmp_path: Path
) -> None:
    assert running.lives()
    with hosted(place, tmp_path, granted=False, filled=False) as registry:
        before, generation = left(registry), registry.workload["metadata"]["generation"]
        adopt(registry, collecting_spec(registry))

        ask(registry, "now")
        told = wait(registry, lambda told: is_held_up(told, "kubectl"), "a collection that waits for rights")

        command = f"kubectl create rolebinding {COLLECTOR_ROLE} --clusterrole={COLLECTOR_ROLE}"
        assert f"{command} --serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT} -n {place.name}" in told["message"]
        assert (left(registry), registry.workload["metadata"]["generation"]) == (before, generation)
        assert jobs(registry) == []
        # Whoever does what it says is served.
        place.kubectl(*told["message"].partition("kubectl ")[2].split())
        assert ended(registry, "now")["phase"] == "Succeeded"


def test_a_run_that_can_still_be_undone_can_be_undone_as_long_as_a_collection_waits(registry: Hosted) -> None:
    registry.fill()
    full = registry.pulled()
    adopt(registry, collecting_spec(registry, undo={"window": "1h", "repository": "ops/undo"}))
    _pruned(registry)
    ask(registry, "now")
    waiting = wait(registry, lambda told: is_held_up(told, "undo"), "a collection that waits")
    pruned = last_run(registry.namespace.policy())
    assert waiting["nextTime"] == registry.namespace.policy()["status"]["undo"]["until"]

    registry.place.kubectl("annotate", "rcp", NAME, f"registrycleanup.dev/undo-run={pruned['id']}")
    registry.namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == pruned["id"], "the undo")

    assert registry.pulled() == full
    assert collection(registry.namespace.policy())["phase"] == "Waiting"


def test_a_window_that_is_shortened_is_waited_for_as_status_tells_it(registry: Hosted) -> None:
    undo = {"window": "1h", "repository": "ops/undo"}
    registry.push(APP, ["build-1"], "older")
    rules = [{"name": "all", "tags": {"include": ["build-1"]}, "olderThan": "30d"}]
    adopt(registry, collecting_spec(registry, rules=rules, undo=undo))
    _pruned(registry)
    began, full = _time(last_run(registry.namespace.policy())["startTime"]), registry.measure()
    registry.namespace.change({"undo": {"window": "5s"}})
    planned = registry.namespace.planned()["status"]

    ask(registry, "now")
    waiting = wait(registry, lambda told: is_held_up(told, "undo"), "a collection that waits")

    assert waiting["nextTime"] == planned["undo"]["until"]
    # A run may take four hours, and nobody looks how long it did.
    assert _time(waiting["nextTime"]) == began + timedelta(hours=4, seconds=5)
    assert registry.measure().blobs == full.blobs


def test_what_was_collected_does_not_come_back_and_an_undo_says_so(registry: Hosted) -> None:
    registry.push(APP, ["build-1"], "older")
    rules = [{"name": "all", "tags": {"include": ["build-1"]}, "olderThan": "30d"}]
    undo = {"window": _WINDOW, "repository": "ops/undo"}
    adopt(registry, collecting_spec(registry, rules=rules, undo=undo, timeout=_TIMEOUT))
    _pruned(registry)
    pruned = last_run(registry.namespace.policy())["id"]
    assert collected(registry, "now")["phase"] == "Succeeded"
    kept = registry.pulled()

    registry.place.kubectl("annotate", "rcp", NAME, f"registrycleanup.dev/undo-run={pruned}")
    undone = registry.namespace.wait(lambda policy: policy["status"].get("lastHandledUndo") == pruned, "the undo")

    told = undone["status"]["lastUndo"]
    assert (told["restored"], f"there are no copies of run {pruned}" in told["message"]) == (0, True), told
    assert registry.pulled() == kept


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
