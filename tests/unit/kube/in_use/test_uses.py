"""Which images an object names: each kind's JSON, what counts of pods that ended, and what only history names."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry_cleanup.domain.in_use import User
from registry_cleanup.kube.in_use import uses
from registry_cleanup.kube.in_use.look import Filter
from registry_cleanup.kube.in_use.sources import BUILT_IN, PODS
from registry_cleanup.kube.in_use.uses import STREAM_HOST, Document, Reader, Scope
from registry_cleanup.ports import RunError
from tests.support.builders import NOW

_SHA = "sha256:" + "a" * 64
_SPEC = {
    "containers": [{"name": "a", "image": "one:1"}, {"name": "b", "image": "two:2"}],
    "initContainers": [{"name": "c", "image": "three:3"}],
    "ephemeralContainers": [{"name": "d", "image": "four:4"}],
    "volumes": [{"name": "v", "image": {"reference": "five:5"}}, {"name": "w", "emptyDir": {}}],
}
_FIVE = {"one:1", "two:2", "three:3", "four:4", "five:5"}
_TEMPLATE = {"spec": _SPEC}


def _metadata(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of metadata
    return {"metadata": {"namespace": "team", "name": "x", **parts}}


def _texts(read: Reader, document: Document, *, history: bool = True, now: datetime = NOW) -> set[str]:
    return {use.text for use in read(document, Scope(now, history))}


def _stream(name: str, kind: str = "ImageStreamTag", **more: str) -> dict[str, str]:
    return {"kind": kind, "name": name, **more}


_ONE = f"{STREAM_HOST}/team/app:one"

_DOCUMENTS: list[tuple[str, Reader, dict[str, Any], set[str]]] = [
    ("pod", uses.pod, {"spec": _SPEC}, _FIVE),
    ("template", uses.template, {"spec": {"template": _TEMPLATE}}, _FIVE),
    ("cron job", uses.cron_job, {"spec": {"jobTemplate": {"spec": {"template": _TEMPLATE}}}}, _FIVE),
    ("pod template", uses.pod_template, {"template": _TEMPLATE}, _FIVE),
    ("revision", uses.controller_revision, {"data": {"spec": {"template": {"$patch": "replace", **_TEMPLATE}}}}, _FIVE),
    ("revision of another kind", uses.controller_revision, {"data": {"spec": ["odd"]}}, set()),
    ("revision without data", uses.controller_revision, {}, set()),
    ("replication controller without template", uses.template, {"spec": {"replicas": 1}}, set()),
    ("nulls", uses.pod, {"spec": {"containers": None, "volumes": None}, "status": None}, set()),
    ("container without image", uses.pod, {"spec": {"containers": [{"name": "a"}]}}, set()),
    ("config", uses.deployment_config, {"spec": {"template": _TEMPLATE}}, _FIVE),
    (
        "config's triggers",
        uses.deployment_config,
        {
            "spec": {
                "triggers": [
                    {"type": "ConfigChange"},
                    {"imageChangeParams": {"from": _stream("app:one"), "lastTriggeredImage": f"r/team/app@{_SHA}"}},
                ]
            }
        },
        {_ONE, f"r/team/app@{_SHA}"},
    ),
    (
        "build config",
        uses.build,
        {
            "spec": {
                "strategy": {"type": "Docker", "dockerStrategy": {"from": _stream("app:one")}},
                "source": {"images": [{"from": _stream(f"app@{_SHA}", "ImageStreamImage")}]},
                "output": {"to": _stream("out:two", namespace="other")},
                "triggers": [{"imageChange": {"from": _stream("base:3"), "lastTriggeredImageID": "r/base:4"}}],
            },
            "status": {"imageChangeTriggers": [{"lastTriggeredImageID": "r/base:5"}]},
        },
        {
            _ONE,
            f"{STREAM_HOST}/team/app@{_SHA}",
            f"{STREAM_HOST}/other/out:two",
            f"{STREAM_HOST}/team/base:3",
            "r/base:4",
            "r/base:5",
        },
    ),
    (
        "build",
        uses.build,
        {"spec": {}, "status": {"outputDockerImageReference": "r/out:1", "output": {"to": {"imageDigest": _SHA}}}},
        {"r/out:1", _SHA},
    ),
    (
        "stream",
        uses.image_stream,
        {
            "spec": {
                "tags": [
                    {"name": "a", "from": _stream("one")},
                    {"name": "b", "from": _stream("other:two")},
                    {"name": "c", "from": _stream("quay.io/x/y:z", "DockerImage")},
                    {"name": "d"},
                ]
            }
        },
        {f"{STREAM_HOST}/team/x:one", f"{STREAM_HOST}/team/other:two", "quay.io/x/y:z"},
    ),
    (
        "triggers",
        uses.template,
        _metadata(annotations={uses.TRIGGERS_ANNOTATION: json.dumps([{"from": _stream("app:one")}, "odd"])}),
        {_ONE},
    ),
    ("triggers that are no JSON", uses.template, _metadata(annotations={uses.TRIGGERS_ANNOTATION: "{"}), set()),
    ("triggers that are no list", uses.template, _metadata(annotations={uses.TRIGGERS_ANNOTATION: "7"}), set()),
]


@pytest.mark.parametrize(("read", "document", "texts"), [pytest.param(*each[1:], id=each[0]) for each in _DOCUMENTS])
def test_an_object_uses_what_it_names(read: Reader, document: dict[str, Any], texts: set[str]) -> None:
    assert _texts(read, {**_metadata(), **document}) == texts


# Pods


def _status(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a status
    return {"spec": {"containers": [{"name": "a", "image": "app:1"}]}, "status": parts}


@pytest.mark.parametrize("statuses", ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"])
def test_a_pod_uses_what_runs_whatever_its_spec_says(statuses: str) -> None:
    pod = _status(phase="Running", **{statuses: [{"name": "a", "image": "app:2", "imageID": f"r/app@{_SHA}"}]})
    assert _texts(uses.pod, pod) == {"app:1", "app:2", f"r/app@{_SHA}"}


def test_a_bare_image_id_comes_with_the_images_of_the_spec() -> None:
    pod = _status(containerStatuses=[{"name": "a", "image": "", "imageID": _SHA}])
    (found,) = [use for use in uses.pod(pod, Scope(NOW)) if use.text == _SHA]
    assert found.beside == {"app:1"}


def test_an_image_volume_uses_what_was_mounted() -> None:
    mount = {"name": "v", "mountPath": "/v", "volumeStatus": {"image": {"imageRef": f"r/data@{_SHA}"}}}
    pod = _status(containerStatuses=[{"name": "a", "volumeMounts": [mount]}])
    assert f"r/data@{_SHA}" in _texts(uses.pod, pod)


def _ended(*finished: datetime | None, conditions: tuple[datetime, ...] = ()) -> dict[str, Any]:
    states = [{"terminated": {"finishedAt": each.isoformat()}} if each is not None else {} for each in finished]
    return _status(
        phase="Failed",
        containerStatuses=[{"name": "a", "state": state} for state in states],
        conditions=[{"type": "Ready", "lastTransitionTime": each.isoformat()} for each in conditions],
    )


_LONG_AGO, _OF_LATE = NOW - timedelta(minutes=61), NOW - timedelta(minutes=59)


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        (_ended(_LONG_AGO), False),
        (_ended(_OF_LATE), True),
        (_ended(_LONG_AGO, _OF_LATE), True),
        (_ended(_LONG_AGO, None), False),
        # Evicted before any container began: its conditions tell when.
        (_ended(conditions=(_LONG_AGO,)), False),
        (_ended(conditions=(_LONG_AGO, _OF_LATE)), True),
        # Nobody can tell when.
        (_ended(), True),
        (_status(phase="Failed", containerStatuses=[{"state": {"terminated": {"finishedAt": "odd"}}}]), True),
        (_status(phase="Unknown"), True),
        (_status(phase="Pending"), True),
    ],
)
def test_a_pod_that_ended_counts_for_an_hour(pod: dict[str, Any], counts: bool) -> None:
    assert ("app:1" in _texts(uses.pod, pod)) is counts


# History


def _set(owner: str | None, replicas: int | None) -> dict[str, Any]:
    owners = [{"kind": owner, "controller": True}] if owner is not None else []
    spec = {"template": _TEMPLATE, **({"replicas": replicas} if replicas is not None else {})}
    return {**_metadata(ownerReferences=owners), "spec": spec}


@pytest.mark.parametrize(
    ("read", "document", "counts"),
    [
        (uses.replica_set, _set("Deployment", 0), False),
        (uses.replica_set, _set("Deployment", 2), True),
        (uses.replica_set, _set("Deployment", None), True),
        # Nobody else has its template.
        (uses.replica_set, _set(None, 0), True),
        (uses.replica_set, _set("Rollout", 0), True),
        (uses.replication_controller, _set("DeploymentConfig", 0), False),
        (uses.replication_controller, _set("DeploymentConfig", 1), True),
        (uses.controller_revision, {"data": {"spec": {"template": _TEMPLATE}}}, False),
        (uses.template, {"spec": {"template": _TEMPLATE, "replicas": 0}}, True),
    ],
)
def test_only_what_a_rollback_would_use_is_history(read: Reader, document: dict[str, Any], counts: bool) -> None:
    assert _texts(read, document) == _FIVE
    assert bool(_texts(read, document, history=False)) is counts


# What counts


_POD_SOURCE = next(source for source in BUILT_IN if source.kind == PODS)


def _pod(namespace: str, image: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": {"containers": [{"image": image}]}}


def _read(selected: Filter, *pods: dict[str, Any]) -> dict[str, list[User]]:
    found = selected.read(_POD_SOURCE, pods, datetime.now(UTC))
    return {use.text: users for use, users in found.items()}


def test_objects_of_other_namespaces_do_not_count() -> None:
    found = _read(Filter(frozenset({"a"})), _pod("a", "app:1"), _pod("b", "app:2"))
    assert found == {"app:1": [User("Pod", "a", "p")]}


def test_where_there_are_image_streams_a_name_of_one_part_may_be_one() -> None:
    pods = [_pod("a", "app:1"), _pod("a", f"app@{_SHA}"), _pod("a", "host.example.com/b/app:2"), _pod("a", _SHA)]
    texts = set(_read(Filter(streams=True), *pods))
    assert texts - set(_read(Filter(), *pods)) == {f"{STREAM_HOST}/a/app:1", f"{STREAM_HOST}/a/app@{_SHA}"}


def test_an_object_of_an_odd_shape_is_a_doubt() -> None:
    with pytest.raises(RunError, match="Pod a/p is of a shape that the operator does not know") as caught:
        _read(Filter(), {"metadata": {"namespace": "a", "name": "p"}, "spec": {"containers": ["odd"]}})
    assert caught.value.failure.blocks
