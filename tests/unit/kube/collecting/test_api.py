"""What is looked for in the cluster: workloads that bear a mark, and the image of the operator's own pod."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, cast

from kubernetes.aio.client import ApiClient
from typing_extensions import override

from registry_cleanup.domain.collection import Mark, Strategy, WorkloadName
from registry_cleanup.kube.api import ForbiddenError
from registry_cleanup.kube.collecting.api import CollectionAPI
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


async def test_an_operator_that_may_not_see_its_pod_does_not_know_its_image() -> None:
    assert await _api(_Raw({}, ForbiddenError("no"))).image_of("ns", "mine") is None
