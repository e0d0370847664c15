"""The Job that collects is made of the registry's own workload; what became of it is told by its pods."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from registry_cleanup.domain.collecting import Job
from registry_cleanup.domain.collection import CollectionMode, Measures, StoragePruned, WorkloadName
from registry_cleanup.kube.collecting.job import (
    AFTER,
    BEFORE,
    COLLECT,
    EMPTY,
    PRUNE,
    OrderFile,
    StorageOrder,
    job_document,
)
from registry_cleanup.kube.collecting.job_state import job_of
from registry_cleanup.kube.collecting.storage import Place, UnfitWorkloadError
from registry_cleanup.kube.spec import parse_policy
from tests.support.builders import NOW, minimal_spec, resource

_NAME = WorkloadName("StatefulSet", "registry")
_PLACE = Place("registry", "storage", "/var/lib/registry", "/etc/distribution/config.yml", "registry")


def _workload(replicas: int = 1, *, claims: bool = False, **pod: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the pod
    container = {
        "name": "registry",
        "image": "registry:3",
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"containerPort": 5000}],
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [
            {"name": "storage", "mountPath": "/var/lib/registry"},
            {"name": "config", "mountPath": "/etc/c"},
        ],
    }
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": "c"}}, {"name": "unused", "emptyDir": {}}]
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "registry"}},
        "template": {"spec": {"containers": [container], "volumes": volumes, **pod}},
    }
    if claims:
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "storage"}}]
    else:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": "data"}})
    return {"spec": spec}


def _document(
    workload: dict[str, Any] | None = None,
    mode: CollectionMode = CollectionMode.RUN,
    place: Place = _PLACE,
    order: StorageOrder | None = None,
) -> dict[str, Any]:
    policy = parse_policy(resource(minimal_spec()))
    return job_document(policy, "c1", mode, _NAME, workload or _workload(), place, "operator:1", 600, order)


def _pod_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def test_it_has_the_registry_s_image_variables_and_volumes_and_ends_with_the_policy() -> None:
    document = _document()
    (owner,) = document["metadata"]["ownerReferences"]
    assert owner["kind"] == "RegistryCleanupPolicy"
    assert (document["spec"]["backoffLimit"], document["spec"]["activeDeadlineSeconds"]) == (0, 600)
    pod = _pod_of(document)
    before, collect = pod["initContainers"]
    assert (collect["image"], collect["env"]) == ("registry:3", [{"name": "A", "value": "1"}])
    assert "ports" not in collect
    assert {each["name"] for each in pod["volumes"]} == {"storage", "config"}
    (after,) = pod["containers"]
    for measuring in (before, after):
        assert measuring["image"] == "operator:1"
        assert measuring["securityContext"] == {"runAsUser": 1000}
        assert [mount["readOnly"] for mount in measuring["volumeMounts"]] == [True]
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("mode", [CollectionMode.RUN, CollectionMode.REPORT])
@pytest.mark.parametrize("configuration", ["/etc/distribution/config.yml", None])
def test_it_never_deletes_what_is_untagged(mode: CollectionMode, configuration: str | None) -> None:
    place = Place("registry", "storage", "/var/lib/registry", configuration, "registry")
    command = " ".join(_pod_of(_document(mode=mode, place=place))["initContainers"][1]["command"])
    assert "garbage-collect" in command
    assert "delete-untagged" not in command
    assert " -m" not in command
    assert ("--dry-run" in command) is (mode is CollectionMode.REPORT)


def test_it_needs_no_shell_where_the_configuration_is_named() -> None:
    assert _pod_of(_document())["initContainers"][1]["command"] == [
        "registry",
        "garbage-collect",
        "/etc/distribution/config.yml",
    ]


def test_it_is_where_the_registry_s_pods_are_and_not_kept_from_them() -> None:
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "x"}]}}
    affinity = _pod_of(_document(_workload(affinity=apart)))["affinity"]
    (term,) = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"] == {"matchLabels": {"app": "registry"}}
    assert "podAntiAffinity" not in affinity
    assert "affinity" not in _pod_of(_document(_workload(replicas=0)))


def test_a_claim_from_a_template_is_that_of_the_only_replica() -> None:
    volumes = {each["name"]: each for each in _pod_of(_document(_workload(claims=True)))["volumes"]}
    assert volumes["storage"]["persistentVolumeClaim"] == {"claimName": "storage-registry-0"}
    with pytest.raises(UnfitWorkloadError, match="a storage of its own"):
        _document(_workload(replicas=2, claims=True))


def test_it_fails_where_the_trash_has_anything_before_or_after_it_collects() -> None:
    pod = _pod_of(_document())
    before, after = pod["initContainers"][0], pod["containers"][0]
    assert ["--unless-trash" in each["args"] for each in (before, after)] == [True, True]
    report = _pod_of(_document(mode=CollectionMode.REPORT))
    containers = [*report["initContainers"], *report["containers"]]
    assert not any("--unless-trash" in each.get("args", ()) for each in containers)


_BODY = {"metadata": {"name": "registry-cleanup-collect-c1", "namespace": "team"}}


def _ended(name: str, code: int, message: str = "", reason: str = "Completed") -> dict[str, Any]:
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message, "reason": reason}}}


def _job(kind: str, *containers: dict[str, Any], reason: str = "", mode: CollectionMode = CollectionMode.RUN) -> Job:
    condition = {"type": kind, "status": "True", "reason": reason, "message": "said so"}
    pod = {"status": {"phase": "Failed" if kind == "Failed" else "Succeeded", "containerStatuses": list(containers)}}
    return job_of({**_BODY, "status": {"conditions": [condition]}}, [pod], mode, NOW)


def test_what_was_measured_before_and_after_is_read_from_its_pod() -> None:
    before, after = _ended(BEFORE, 0, '{"bytes": 100, "blobs": 5}'), _ended(AFTER, 0, '{"bytes": 60, "blobs": 3}')
    assert _job("Complete", before, after).measures == Measures(100, 5, 60, 3)
    eligible = _ended(AFTER, 0, json.dumps({"bytes": 100, "blobs": 5, "eligibleBytes": 30, "eligibleBlobs": 2}))
    assert _job("Complete", before, eligible, mode=CollectionMode.REPORT).measures == Measures(100, 5, 70, 3)


def test_what_is_pushed_during_a_dry_run_does_not_make_less_of_what_it_would_free() -> None:
    before = _ended(BEFORE, 0, json.dumps({"bytes": 100, "blobs": 5}))
    eligible = _ended(AFTER, 0, json.dumps({"bytes": 190, "blobs": 9, "eligibleBytes": 30, "eligibleBlobs": 2}))
    measures = _job("Complete", before, eligible, mode=CollectionMode.REPORT).measures
    assert measures is not None
    assert (measures.freed, measures.removed) == (30, 2)


@pytest.mark.parametrize(
    "message",
    ["", "no JSON", "[]", '{"bytes": "many", "blobs": 1}', '{"bytes": Infinity, "blobs": 1}', 2000 * "["],
)
def test_a_job_that_left_no_measures_has_failed(message: str) -> None:
    found = _job("Complete", _ended(BEFORE, 0, '{"bytes": 100, "blobs": 5}'), _ended(AFTER, 0, message))
    assert found.measures is None
    assert found.failure is not None


def test_the_container_that_failed_is_told_with_the_command_that_shows_its_log_and_none_of_it() -> None:
    found = _job("Failed", _ended(COLLECT, 2, "secret text of the registry", "Error"), reason="BackoffLimitExceeded")
    assert found.failure == (
        "its container collect failed with exit code 2, Error; "
        "read: kubectl logs job/registry-cleanup-collect-c1 -c collect -n team"
    )
    assert "no space left" in str(_job("Failed", _ended(BEFORE, 1, "no space\n left", "Error")).failure)


def test_a_job_over_its_time_says_so() -> None:
    assert "spec.garbageCollection.timeout" in str(_job("Failed", reason="DeadlineExceeded").failure)


def test_a_pod_that_was_evicted_says_why() -> None:
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": ""}
    pod = {"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource"}}
    found = job_of({**_BODY, "status": {"conditions": [condition]}}, [pod], CollectionMode.RUN, NOW)
    assert "Evicted: The node was low on resource" in str(found.failure)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_a_container_that_cannot_start_fails_before_its_time_is_over(reason: str) -> None:
    waiting = {"name": BEFORE, "image": "operator:1", "state": {"waiting": {"reason": reason}}}
    pod = {"status": {"phase": "Pending", "initContainerStatuses": [waiting]}}
    found = job_of(_BODY, [pod], CollectionMode.RUN, NOW)
    assert (found.ended, found.active) == (False, 1)
    assert f"{reason}, image operator:1" in str(found.failure)


@pytest.mark.parametrize(("seconds", "pods", "fails"), [(419, 0, False), (421, 1, False), (421, 0, True)])
def test_a_job_that_gets_no_pod_fails_before_its_time_is_over(seconds: int, pods: int, fails: bool) -> None:
    created = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {**_BODY, "metadata": {**_BODY["metadata"], "creationTimestamp": created}}
    found = job_of(body, [{"status": {"phase": "Pending"}}] * pods, CollectionMode.RUN, NOW)
    told = "kubectl describe job registry-cleanup-collect-c1 -n team" in (found.failure or "")
    assert (told, found.ended) == (fails, False)


def test_a_job_that_goes_on_tells_nothing() -> None:
    assert job_of(_BODY, [{"status": {"phase": "Running"}}], CollectionMode.RUN, NOW) == Job(ended=False, active=1)


# Pruning in the storage

_FILES = (OrderFile("plan", "a" * 64), OrderFile("use", "b" * 64))
_ORDER = StorageOrder(_FILES, "run-1", timedelta(0))
_KEPT = StorageOrder(_FILES, "run-1", timedelta(days=5))
_NOTHING = StorageOrder(None, None, timedelta(days=5), "nothing is planned")


def _steps(order: StorageOrder | None, mode: CollectionMode = CollectionMode.RUN) -> list[str]:
    pod = _pod_of(_document(order=order, mode=mode))
    return [each["name"] for each in [*pod["initContainers"], *pod["containers"]]]


def test_what_is_pruned_in_the_storage_is_collected_at_once_only_where_nobody_may_want_it_back() -> None:
    assert _steps(_ORDER) == [PRUNE, EMPTY, BEFORE, COLLECT, AFTER]
    assert _steps(_KEPT) == [EMPTY, BEFORE, COLLECT, AFTER, PRUNE]
    assert _steps(_NOTHING) == [EMPTY, BEFORE, COLLECT, AFTER]
    assert _steps(None) == _steps(_ORDER, CollectionMode.REPORT) == [BEFORE, COLLECT, AFTER]


def test_the_trash_is_emptied_of_the_policy_s_own_runs_once_their_window_has_passed() -> None:
    document = _document(order=_KEPT)
    uid = document["metadata"]["ownerReferences"][0]["uid"]
    empty = _pod_of(document)["initContainers"][0]
    assert empty["args"] == [
        "storage",
        "empty-trash",
        "--root=/var/lib/registry",
        f"--policy={uid}",
        "--older-than=5d",
    ]
    assert empty["volumeMounts"] == [{"name": "storage", "mountPath": "/var/lib/registry"}]


def test_what_prunes_has_the_plan_and_may_write_and_runs_as_the_registry_does() -> None:
    pod = _pod_of(_document(order=_KEPT))
    (prune,) = pod["containers"]
    # Of a ConfigMap each, since one holds no more than 1 MiB. Where somebody deletes one, the Job begins all the same.
    sources = [{"configMap": {"name": name, "optional": True}} for name in ("plan", "use")]
    assert {"name": "registry-cleanup-plan", "projected": {"sources": sources}} in pod["volumes"]
    storage, plan = prune["volumeMounts"]
    assert ("readOnly" in storage, plan["readOnly"]) == (False, True)
    files = [each.partition("=")[2] for each in prune["args"] if each.startswith(("--plan", "--in-use"))]
    # Whoever may write ConfigMaps could change them once the Job is made.
    assert [files[1], files[3]] == ["a" * 64, "b" * 64]
    assert [file.startswith(plan["mountPath"]) for file in files] == [True, False, True, False]
    assert prune["securityContext"] == {"runAsUser": 1000}


@pytest.mark.parametrize(
    ("own", "of_pod", "as_root", "user"),
    [
        ({}, {}, True, {"runAsUser": 0}),
        ({"readOnlyRootFilesystem": True}, {}, True, {"readOnlyRootFilesystem": True, "runAsUser": 0}),
        ({}, {"runAsUser": 5}, True, {}),
        ({"runAsNonRoot": True}, {}, True, {"runAsNonRoot": True}),
        ({}, {}, False, {}),
    ],
)
def test_where_the_workload_names_no_user_root_may_move_what_its_image_wrote(
    own: dict[str, Any], of_pod: dict[str, Any], as_root: bool, user: dict[str, Any]
) -> None:
    workload = _workload(securityContext=of_pod)
    workload["spec"]["template"]["spec"]["containers"][0]["securityContext"] = own
    (prune,) = _pod_of(_document(workload, order=replace(_KEPT, as_root=as_root)))["containers"]
    assert prune["securityContext"] == user


_MEASURED = (_ended(BEFORE, 0, '{"bytes": 100, "blobs": 5}'), _ended(AFTER, 0, '{"bytes": 60, "blobs": 3}'))


@pytest.mark.parametrize(
    ("told", "pruned"),
    [
        ('{"run": "r", "tags": 3, "manifests": 2, "stayed": 1}', StoragePruned("r", 3, 2, 1)),
        ('{"tags": 0, "manifests": 0, "failure": "no"}', StoragePruned(stayed=None, failure="no")),
        ("", StoragePruned(failure="its container prune-storage did not say what it did", told=False)),
    ],
)
def test_what_was_pruned_in_the_storage_is_read_from_its_pod(told: str, pruned: StoragePruned) -> None:
    found = _job("Complete", *_MEASURED, _ended(PRUNE, 0, told))
    assert found.measures == Measures(100, 5, 60, 3, pruned)


def test_a_container_that_could_not_empty_the_trash_or_prune_is_told() -> None:
    assert "its container empty-trash failed" in (_job("Failed", _ended(EMPTY, 1, "the volume is full")).failure or "")
    failed = _job("Failed", *_MEASURED, _ended(PRUNE, 137, "", "OOMKilled"))
    assert "its container prune-storage failed" in (failed.failure or "")


_WAITS = {"name": PRUNE, "state": {"waiting": {"reason": "PodInitializing"}}}


@pytest.mark.parametrize(
    ("states", "known"),
    [
        ([_ended(EMPTY, 1), _WAITS], True),
        ([_ended(EMPTY, 0), _ended(COLLECT, 137), _WAITS], True),
        # A node that is lost says no more than it did: it may have begun since.
        ([_ended(EMPTY, 0), _WAITS], False),
        ([*_MEASURED, _ended(PRUNE, 137)], False),
        ([_ended(EMPTY, 1)], False),
    ],
)
def test_that_a_failed_job_pruned_nothing_is_said_only_where_it_cannot_have_begun_to(
    states: list[dict[str, Any]], known: bool
) -> None:
    pruned = _job("Failed", *states).pruned
    assert (pruned is not None) == known
    assert pruned is None or (pruned.run, pruned.told) == (None, True)
