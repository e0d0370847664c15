"""Who else may write to a registry's storage is found by the volumes of the namespace's pods."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from registry_cleanup.domain.collection import WorkloadName
from registry_cleanup.kube.collecting.job import JOB_LABEL
from registry_cleanup.kube.collecting.sharing import intruder_of
from registry_cleanup.kube.collecting.storage import Place
from tests.support.cluster_of_one import NAME, deployment, stranger

_PLACE = Place("registry", "storage", "/var/lib/registry", None, "registry")


def _found(
    *pods: dict[str, Any], body: dict[str, Any] | None = None, name: WorkloadName = NAME, collection: str | None = None
) -> str | None:
    body = body or deployment()
    return intruder_of(name, body, _PLACE, pods, collection)


def _pod(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a pod
    pod = stranger("p")
    for part, value in changes.items():
        pod[part] = {**pod[part], **value}
    return pod


def _own(**metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - any metadata
    return _pod(metadata={"labels": {"app": "registry"}, **metadata})


def test_a_pod_of_another_workload_with_the_claim_is_found() -> None:
    assert _found(stranger("other", claim="other"), stranger("canary")) == "canary"


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_a_pod_counts_until_it_has_ended(phase: str) -> None:
    assert _found(_pod(status={"phase": phase})) == "p"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_writes_nothing(phase: str) -> None:
    assert _found(_pod(status={"phase": phase})) is None


def test_what_mounts_the_volume_to_read_only_does_not_count() -> None:
    readers = _pod()
    readers["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = True
    assert _found(readers) is None
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "storage", "readOnly": True}}
    assert _found(_pod(spec={"volumes": [volume]})) is None


@pytest.mark.parametrize("part", ["initContainers", "ephemeralContainers"])
def test_a_container_of_any_kind_that_writes_counts(part: str) -> None:
    pod = _pod()
    writer = copy.deepcopy(pod["spec"]["containers"][0])
    pod["spec"]["containers"][0]["volumeMounts"] = []
    assert _found(pod) is None
    pod["spec"][part] = [writer]
    assert _found(pod) == "p"


def test_the_registrys_own_pods_do_not_count() -> None:
    assert _found(_own(ownerReferences=[{"kind": "ReplicaSet", "name": "registry-5d5c"}])) is None


@pytest.mark.parametrize("owners", [None, []])
def test_a_pod_that_somebody_made_by_hand_is_not_the_registrys_whatever_labels_it_bears(
    owners: list[Any] | None,
) -> None:
    """Its Service would send pushes there while the Deployment is read-only, or scaled to zero."""
    assert _found(_own(ownerReferences=owners)) == "p"


@pytest.mark.parametrize(
    ("kind", "owner"),
    [("ReplicaSet", "registry-canary-5d5c"), ("StatefulSet", "registry"), ("Job", "prune"), ("DaemonSet", "registry")],
)
def test_a_pod_that_bears_the_registrys_labels_and_is_anothers_counts(kind: str, owner: str) -> None:
    assert _found(_own(ownerReferences=[{"kind": kind, "name": owner}])) == "p"


def test_the_job_of_a_collection_counts_before_another_begins_and_not_after() -> None:
    job = _pod(metadata={"labels": {JOB_LABEL: "c1"}, "ownerReferences": [{"kind": "Job", "name": "j"}]})
    assert _found(job) == "p"
    assert _found(job, collection="c2") is None


@pytest.mark.parametrize(
    ("storage", "other", "shared"),
    [
        ({"hostPath": {"path": "/srv/registry"}}, {"hostPath": {"path": "/srv"}}, True),
        ({"hostPath": {"path": "/srv"}}, {"hostPath": {"path": "/srv/registry", "type": "Directory"}}, True),
        ({"hostPath": {"path": "/srv/registry"}}, {"hostPath": {"path": "/srv/registry2"}}, False),
        ({"nfs": {"server": "a", "path": "/x"}}, {"nfs": {"server": "a", "path": "/"}}, True),
        ({"nfs": {"server": "a", "path": "/x"}}, {"nfs": {"server": "b", "path": "/x"}}, False),
        ({"csi": {"driver": "d", "volumeAttributes": {"v": "1"}}}, {"csi": {"driver": "d"}}, False),
        ({"csi": {"driver": "d", "readOnly": False}}, {"csi": {"driver": "d"}}, True),
        ({"emptyDir": {}}, {"emptyDir": {}}, False),
        ({"persistentVolumeClaim": {"claimName": "other"}}, {"hostPath": {"path": "/"}}, False),
    ],
)
def test_volumes_are_one_where_they_have_files_in_common(
    storage: dict[str, Any], other: dict[str, Any], *, shared: bool
) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "storage", **storage}]
    pod = _pod(spec={"volumes": [{"name": "data", **other}]})
    assert (_found(pod, body=body) == "p") is shared


def test_the_claim_that_a_statefulset_makes_for_its_pod_is_known() -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["volumes"] = []
    body["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "storage"}}]
    name = WorkloadName("StatefulSet", "registry")
    assert _found(stranger("p", claim="storage-registry-0"), body=body, name=name) == "p"
    assert _found(stranger("p"), body=body, name=name) is None
