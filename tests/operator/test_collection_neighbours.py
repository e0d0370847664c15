"""Who else writes to a registry's storage keeps garbage from being collected, and what has no storage is left alone."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collecting import (
    adopt,
    ask,
    collected,
    collecting_spec,
    ended,
    held,
    is_held_up,
    is_up_as_before,
    jobs,
    left,
    wait,
)
from tests.support.hosted import Hosted, collector, hosted
from tests.support.kubelet import Kubelet
from tests.support.operator import Operator
from tests.support.spaces import CLAIM, REGISTRY, Space, registry_workload

_CANARY = "canary"


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


def _add_canary(place: Space) -> None:
    """Let a second Deployment serve the storage of the first."""
    canary = copy.deepcopy(registry_workload("3"))
    canary["metadata"]["name"] = _CANARY
    labels = {"app": _CANARY}
    canary["spec"]["selector"]["matchLabels"] = canary["spec"]["template"]["metadata"]["labels"] = labels
    place.apply(canary)
    place.wait_for_rollout(f"deployment/{_CANARY}")


def test_a_second_deployment_on_the_same_volume_keeps_a_collection_from_beginning(registry: Hosted) -> None:
    """What is pushed through it meanwhile would lose its layers."""
    _add_canary(registry.place)
    adopt(registry, collecting_spec(registry))
    before, generation = left(registry), registry.workload["metadata"]["generation"]

    ask(registry, "now")
    wait(registry, lambda told: is_held_up(told, f"pod {_CANARY}-"), "a collection that waits for the canary's end")

    assert (left(registry), registry.workload["metadata"]["generation"], jobs(registry)) == (before, generation, [])
    registry.place.kubectl("delete", f"deployment/{_CANARY}")
    assert ended(registry, "now")["phase"] == "Succeeded"


def test_a_second_deployment_that_comes_in_between_ends_the_collection(registry: Hosted) -> None:
    adopt(registry, collecting_spec(registry))
    before = left(registry)

    with held(registry):
        _add_canary(registry.place)
    told = ended(registry, "held")

    assert told["phase"] == "Failed"
    assert f"pod {_CANARY}-" in told["message"]
    is_up_as_before(registry, before, "after")
    registry.place.kubectl("delete", f"deployment/{_CANARY}")
    registry.place.wait(lambda: len(registry.place.pods()) == 1, "the end of the canary")
    assert collected(registry, "again")["phase"] == "Succeeded"


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
def test_a_registry_whose_storage_goes_with_its_pods_is_left_alone(registry: Hosted, strategy: str) -> None:
    volume = {"name": CLAIM, "emptyDir": {}}
    patch = [{"op": "replace", "path": "/spec/template/spec/volumes/0", "value": volume}]
    registry.place.kubectl("patch", f"deployment/{REGISTRY}", "--type=json", "--patch", json.dumps(patch))
    registry.place.wait_for_rollout(f"deployment/{REGISTRY}")
    registry.push("team/app", ["build-9"], "the only one in the world")
    adopt(registry, collecting_spec(registry, {"strategy": strategy}))
    generation = registry.workload["metadata"]["generation"]

    ask(registry, "now")
    wait(registry, lambda told: is_held_up(told, "outlives its pods"), "a collection that does not begin")

    assert registry.workload["metadata"]["generation"] == generation
    assert registry.pull("team/app", "build-9")
