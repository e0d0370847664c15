"""What is looked for in the cluster: workloads that bear a mark, and the image of the operator's own pod."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, cast

import pytest
from kubernetes.aio.client import ApiClient
from typing_extensions import override

from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.kube.api import ForbiddenError
from registry_cleanup.kube.collecting.api import CollectionAPI
from registry_cleanup.kube.collecting.job import job_name
from registry_cleanup.kube.collecting.mark import MARK_ANNOTATION, mark_text
from registry_cleanup.kube.raw import Kind, Page, RawAPI
from tests.support.builders import NOW

_MARK = Mark("uid", "policy", "c1", "r:5000", Strategy.OFFLINE, 1, None, None, NOW, timedelta(hours=1))


class _Raw(RawAPI):
    """Lists what it is given, by kind; each list that was asked for is noted."""

    def __init__(self, objects: dict[str, list[dict[str, Any]]], error: Exception | None = None) -> None:
        self._objects = objects
        self._error = error
        self.asked: list[tuple[str, str | None, str | None]] = []

    @override
    async def pages(
        self, kind: Kind, selector: str | None = None, namespace: str | None = None, limit: int = 500
    ) -> AsyncGenerator[Page, None]:
        self.asked.append((kind.plural, selector, namespace))
        if self._error is not None:
            raise self._error
        yield Page(self._objects.get(kind.plural, []), "1")


def _api(raw: RawAPI) -> CollectionAPI:
    return CollectionAPI(cast(ApiClient, None), raw)


def _workload(name: str, mark: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team", "annotations": {MARK_ANNOTATION: mark}}}


async def test_a_forged_mark_of_a_stranger_hides_no_other() -> None:
    forged = mark_text(_MARK).replace('"timeoutSeconds":3600', f'"timeoutSeconds":1{20 * "0"}')
    raw = _Raw({"deployments": [_workload("forged", forged), _workload("a", mark_text(_MARK))]})
    assert await _api(raw).marked([]) == [("team", WorkloadName("Deployment", "a"), _MARK)]


async def test_workloads_that_bear_a_mark_are_found_by_their_label_and_damaged_marks_passed_over() -> None:
    raw = _Raw(
        {
            "deployments": [_workload("a", mark_text(_MARK)), _workload("broken", "{")],
            "statefulsets": [_workload("b", mark_text(_MARK))],
        }
    )
    found = await _api(raw).marked([])
    assert found == [
        ("team", WorkloadName("Deployment", "a"), _MARK),
        ("team", WorkloadName("StatefulSet", "b"), _MARK),
    ]
    assert {selector for _, selector, _ in raw.asked} == {"registrycleanup.dev/collecting=true"}


async def test_an_operator_that_is_confined_to_namespaces_looks_in_those_only() -> None:
    raw = _Raw({})
    assert await _api(raw).marked(["a", "b"]) == []
    assert {namespace for _, _, namespace in raw.asked} == {"a", "b"}


async def test_the_image_of_the_operator_is_that_of_its_own_pod() -> None:
    pods = [
        {"metadata": {"name": name, "uid": name}, "spec": {"containers": [{"image": f"operator:{name}"}]}}
        for name in ("other", "mine")
    ]
    assert await _api(_Raw({"pods": pods})).image_of("ns", "mine") == "operator:mine"
    assert await _api(_Raw({"pods": pods})).image_of("ns", "gone") is None


async def test_the_image_of_a_sidecar_that_stands_before_the_operator_is_not_taken_for_its_own() -> None:
    """A service mesh puts its proxy first where others are to wait for that."""
    containers = [{"name": "istio-proxy", "image": "proxy:1"}, {"name": "operator", "image": "operator:1"}]
    pod = {"metadata": {"name": "mine", "uid": "mine"}, "spec": {"containers": containers}}
    assert await _api(_Raw({"pods": [pod]})).image_of("ns", "mine") == "operator:1"


async def test_an_operator_that_may_not_see_its_pod_does_not_know_its_image() -> None:
    assert await _api(_Raw({}, ForbiddenError("no"))).image_of("ns", "mine") is None


@pytest.mark.parametrize("refused", ["a", "statefulsets"])
async def test_what_may_not_be_listed_hides_no_marks_of_the_rest(
    refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    class _Partly(_Raw):
        @override
        async def pages(
            self, kind: Kind, selector: str | None = None, namespace: str | None = None, limit: int = 500
        ) -> AsyncGenerator[Page, None]:
            if refused in (kind.plural, namespace):
                raise ForbiddenError("may not list")
            async for page in super().pages(kind, selector, namespace, limit):
                yield page

    found = await _api(_Partly({"deployments": [_workload("frozen", mark_text(_MARK))]})).marked(["a", "team"])
    assert found == [("team", WorkloadName("Deployment", "frozen"), _MARK)]
    assert "may not be listed" in caplog.text


async def test_who_may_list_no_workloads_at_all_has_frozen_none(caplog: pytest.LogCaptureFixture) -> None:
    assert await _api(_Raw({}, ForbiddenError("may not list"))).marked([]) == []
    assert caplog.text == ""


def _pod(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "uid": name, "ownerReferences": list(owners)}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": "Running"}}


async def test_a_pod_that_only_bears_the_label_of_a_collection_is_none_of_its_job() -> None:
    job = {"kind": "Job", "name": job_name("c1"), "controller": True}
    own = _pod("own", job)
    strangers = [_pod("label"), _pod("owned", {**job, "controller": False}), _pod("other", {**job, "name": "other"})]
    found, active = await _api(_Raw({"pods": [*strangers, own]})).job_pods("team", "c1")
    assert ([pod["metadata"]["name"] for pod in found], active) == (["own"], 1)


_VARIABLES = [{"name": "REGISTRY_STORAGE_MAINTENANCE_READONLY", "value": "x"}, {"name": "PASSWORD", "value": "secret"}]


def _whole(name: str, **status: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a status
    """Return a pod with much that decides nothing."""
    mounts = [{"name": "data", "mountPath": "/data", "readOnly": True}, {"name": "token", "mountPath": "/var/run"}]
    container = {"name": "c", "image": "i", "env": _VARIABLES, "volumeMounts": mounts, "resources": {"limits": {}}}
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "d"}}
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {"app": "registry"},
            "annotations": {"a": "b"},
            "managedFields": [{"manager": "m"}],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "registry-1"}],
        },
        "spec": {"containers": [container], "volumes": [claim, {"name": "token", "projected": {}}], "tolerations": []},
        "status": {"phase": "Running", **status},
    }


async def test_of_the_pods_of_a_namespace_no_more_is_held_than_decides() -> None:
    """There may be thousands, and each look takes all of them: the operator has half a gigabyte."""
    waiting = {"name": "c", "image": "i", "imageID": "x", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    pod = _whole("a", conditions=[scheduled, {"type": "Ready", "status": "False"}], containerStatuses=[waiting])
    ended = [_whole("b", phase="Succeeded"), _whole("c", phase="Failed")]
    mounts = [{"name": "data", "readOnly": True}, {"name": "token"}]
    assert await _api(_Raw({"pods": [pod, *ended]})).pods("team") == [
        {
            "metadata": {
                "name": "a",
                "uid": "a",
                "labels": {"app": "registry"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "registry-1"}],
            },
            "spec": {
                "containers": [{"name": "c", "env": _VARIABLES[:1], "volumeMounts": mounts}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "d"}}],
            },
            "status": {
                "phase": "Running",
                "conditions": [scheduled],
                "containerStatuses": [
                    {"name": "c", "image": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
                ],
            },
        }
    ]


async def test_pods_of_a_job_are_seen_also_once_they_have_ended() -> None:
    owner = {"kind": "Job", "name": job_name("c1"), "controller": True}
    state = {"terminated": {"exitCode": 0, "message": "{}"}}
    pod = _whole("a", phase="Succeeded", initContainerStatuses=[{"name": "measure-before", "state": state}])
    pod["metadata"]["ownerReferences"] = [owner]
    (found,), active = await _api(_Raw({"pods": [pod]})).job_pods("team", "c1")
    assert active == 0
    assert found["status"]["initContainerStatuses"] == [{"name": "measure-before", "state": state}]
