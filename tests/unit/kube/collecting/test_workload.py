"""A workload is frozen and restored by patches that take hold only of what was looked at."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.kube.api import RefusedError
from registry_cleanup.kube.collecting.workload import (
    READ_ONLY_VALUE,
    READ_ONLY_VARIABLE,
    freeze,
    obstacle_of,
    restore,
    selector_of,
    workload_of,
)
from tests.support.builders import NOW
from tests.support.cluster_of_one import NAME, ClusterOfOne, deployment


def _mark(strategy: Strategy = Strategy.READ_ONLY) -> Mark:
    container = "registry" if strategy is Strategy.READ_ONLY else None
    return Mark("uid", "policy", "c1", "r:5000", strategy, 2, container, None, NOW, timedelta(hours=1))


def _looked_at(cluster: ClusterOfOne) -> dict[str, Any]:
    assert cluster.body is not None
    return copy.deepcopy(cluster.body)


@pytest.mark.parametrize("strategy", Strategy)
def test_what_was_changed_since_it_was_looked_at_is_not_frozen(strategy: Strategy) -> None:
    cluster = ClusterOfOne(deployment(replicas=2))
    before = _looked_at(cluster)
    cluster.change(lambda body: body["spec"].update(replicas=3))
    with pytest.raises(RefusedError):
        cluster.apply(freeze(before, _mark(strategy)))
    assert _looked_at(cluster)["spec"]["replicas"] == 3


def test_what_was_changed_since_it_was_looked_at_is_not_restored() -> None:
    cluster = ClusterOfOne(deployment(replicas=2))
    cluster.apply(freeze(_looked_at(cluster), _mark()))
    before = _looked_at(cluster)
    cluster.change(lambda body: body["spec"].update(replicas=3))
    with pytest.raises(RefusedError):
        cluster.apply(restore(before, _mark(), None))


def test_the_mark_and_what_it_stands_for_come_and_go_together() -> None:
    cluster = ClusterOfOne(deployment(replicas=2))
    cluster.apply(freeze(_looked_at(cluster), _mark()))
    frozen = workload_of(NAME, _looked_at(cluster), [])
    assert (frozen.mark, frozen.frozen) == (_mark(), True)
    (container,) = _looked_at(cluster)["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": READ_ONLY_VARIABLE, "value": READ_ONLY_VALUE}]
    cluster.apply(restore(_looked_at(cluster), _mark(), None))
    restored = workload_of(NAME, _looked_at(cluster), [])
    assert (restored.mark, restored.frozen) == (None, False)


def test_what_somebody_else_made_of_it_stays() -> None:
    cluster = ClusterOfOne(deployment(replicas=2))
    cluster.apply(freeze(_looked_at(cluster), _mark(Strategy.OFFLINE)))
    cluster.change(lambda body: body["spec"].update(replicas=5, paused=True))
    assert not workload_of(NAME, _looked_at(cluster), []).frozen
    cluster.apply(restore(_looked_at(cluster), _mark(Strategy.OFFLINE), None))
    assert (_looked_at(cluster)["spec"]["replicas"], _looked_at(cluster)["spec"]["paused"]) == (5, True)


def test_a_pod_of_before_is_an_old_one_and_one_that_has_ended_is_none() -> None:
    cluster = ClusterOfOne(deployment())
    old = {"metadata": {"name": "old"}, "spec": _looked_at(cluster)["spec"]["template"]["spec"], "status": {}}
    cluster.apply(freeze(_looked_at(cluster), _mark()))
    new = {**old, "spec": _looked_at(cluster)["spec"]["template"]["spec"]}
    ended = {**old, "status": {"phase": "Failed"}}
    seen = workload_of(NAME, _looked_at(cluster), [old, new, ended])
    assert (seen.pods, seen.old_pods) == (2, 1)


def test_what_keeps_a_pod_from_becoming_ready_is_told() -> None:
    body = deployment()
    waiting = {"name": "registry", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pod = {
        "metadata": {"name": "p"},
        "spec": body["spec"]["template"]["spec"],
        "status": {"containerStatuses": [waiting]},
    }
    assert workload_of(NAME, body, [pod]).trouble == "pod p: CrashLoopBackOff"
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    pod["status"] = {"conditions": [unscheduled]}
    assert workload_of(NAME, body, [pod]).trouble == "pod p: Unschedulable: no room"


@pytest.mark.parametrize(
    ("change", "strategy", "words"),
    [
        ({"replicas": 0}, Strategy.OFFLINE, "scaled to zero"),
        ({"paused": True}, Strategy.READ_ONLY, "is paused"),
        ({"updateStrategy": {"type": "OnDelete"}}, Strategy.READ_ONLY, "replaces no pods by itself"),
        ({"updateStrategy": {"rollingUpdate": {"partition": 1}}}, Strategy.READ_ONLY, "replaces no pods by itself"),
        ({"paused": True}, Strategy.OFFLINE, None),
        ({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}, Strategy.READ_ONLY, None),
    ],
)
def test_what_could_not_be_frozen_is_told_before(change: dict[str, Any], strategy: Strategy, words: str | None) -> None:
    body = deployment()
    body["spec"] |= change
    found = obstacle_of(NAME, body, strategy)
    assert found is None if words is None else words in str(found)


@pytest.mark.parametrize(
    ("management", "strategy", "fits"),
    [
        (None, Strategy.READ_ONLY, False),
        ("OrderedReady", Strategy.READ_ONLY, False),
        ("Parallel", Strategy.READ_ONLY, True),
        (None, Strategy.OFFLINE, True),
    ],
)
def test_a_stateful_set_that_waits_for_broken_pods_for_ever_is_not_rolled_out(
    management: str | None, strategy: Strategy, *, fits: bool
) -> None:
    body = deployment()
    if management is not None:
        body["spec"]["podManagementPolicy"] = management
    found = obstacle_of(WorkloadName("StatefulSet", "registry"), body, strategy)
    assert found is None if fits else "use strategy Offline, or podManagementPolicy Parallel" in str(found)


def test_the_pods_are_found_by_the_whole_selector() -> None:
    body = deployment()
    body["spec"]["selector"] = {
        "matchLabels": {"app": "registry"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    }
    assert selector_of(body) == "app=registry,tier in (a,b),!canary"


@pytest.mark.parametrize(
    ("policy", "strategy", "fits"),
    [
        ({"whenScaled": "Delete"}, Strategy.OFFLINE, False),
        ({"whenScaled": "Delete", "whenDeleted": "Retain"}, Strategy.READ_ONLY, True),
        ({"whenScaled": "Retain", "whenDeleted": "Delete"}, Strategy.OFFLINE, True),
        (None, Strategy.OFFLINE, True),
    ],
)
def test_a_stateful_set_that_deletes_its_claims_when_it_is_scaled_down_is_not_scaled_to_zero(
    policy: dict[str, str] | None, strategy: Strategy, *, fits: bool
) -> None:
    """All images would go with them."""
    body = deployment()
    body["kind"] = "StatefulSet"
    body["spec"] |= {"podManagementPolicy": "Parallel", "persistentVolumeClaimRetentionPolicy": policy}
    found = obstacle_of(WorkloadName("StatefulSet", "registry"), body, strategy)
    assert (found is None) is fits
    assert fits or "whenScaled" in str(found)
