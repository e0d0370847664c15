"""The Job that collects is made of the registry's own workload; what became of it is told by its pods."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry_cleanup.domain.collecting import Job
from registry_cleanup.domain.collection import CollectionMode, Measures, WorkloadName
from registry_cleanup.kube.collecting.job import AFTER, BEFORE, COLLECT, job_document, job_of
from registry_cleanup.kube.collecting.storage import Place, UnfitWorkloadError
from registry_cleanup.kube.spec import parse_policy
from tests.support.builders import minimal_spec, resource

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
    workload: dict[str, Any] | None = None, mode: CollectionMode = CollectionMode.RUN, place: Place = _PLACE
) -> dict[str, Any]:
    policy = parse_policy(resource(minimal_spec()))
    return job_document(policy, "c1", mode, _NAME, workload or _workload(), place, "operator:1", 600)


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


_BODY = {"metadata": {"name": "registry-cleanup-collect-c1", "namespace": "team"}}


def _ended(name: str, code: int, message: str = "", reason: str = "Completed") -> dict[str, Any]:
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message, "reason": reason}}}


def _job(kind: str, *containers: dict[str, Any], reason: str = "", mode: CollectionMode = CollectionMode.RUN) -> Job:
    condition = {"type": kind, "status": "True", "reason": reason, "message": "said so"}
    pod = {"status": {"phase": "Failed" if kind == "Failed" else "Succeeded", "containerStatuses": list(containers)}}
    return job_of({**_BODY, "status": {"conditions": [condition]}}, [pod], mode)


def test_what_was_measured_before_and_after_is_read_from_its_pod() -> None:
    before, after = _ended(BEFORE, 0, '{"bytes": 100, "blobs": 5}'), _ended(AFTER, 0, '{"bytes": 60, "blobs": 3}')
    assert _job("Complete", before, after).measures == Measures(100, 5, 60, 3)
    eligible = _ended(AFTER, 0, json.dumps({"bytes": 100, "blobs": 5, "eligibleBytes": 30, "eligibleBlobs": 2}))
    assert _job("Complete", before, eligible, mode=CollectionMode.REPORT).measures == Measures(100, 5, 70, 3)


@pytest.mark.parametrize("message", ["", "no JSON", "[]", '{"bytes": "many", "blobs": 1}'])
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
    found = job_of({**_BODY, "status": {"conditions": [condition]}}, [pod], CollectionMode.RUN)
    assert "Evicted: The node was low on resource" in str(found.failure)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_a_container_that_cannot_start_fails_before_its_time_is_over(reason: str) -> None:
    waiting = {"name": BEFORE, "image": "operator:1", "state": {"waiting": {"reason": reason}}}
    pod = {"status": {"phase": "Pending", "initContainerStatuses": [waiting]}}
    found = job_of(_BODY, [pod], CollectionMode.RUN)
    assert (found.ended, found.active) == (False, 1)
    assert f"{reason}, image operator:1" in str(found.failure)


def test_a_job_that_goes_on_tells_nothing() -> None:
    assert job_of(_BODY, [{"status": {"phase": "Running"}}], CollectionMode.RUN) == Job(ended=False, active=1)
