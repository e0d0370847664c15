"""The workload that serves a registry: how it stands, and the patches that freeze and restore it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from registry_cleanup.domain.collecting import Workload
from registry_cleanup.domain.collection import Mark, Strategy, Variable, WorkloadName
from registry_cleanup.kube.collecting.mark import MARK_ANNOTATION, MARK_LABEL, DamagedMarkError, mark_of, mark_text
from registry_cleanup.kube.spec import GROUP

Object = Mapping[str, Any]
Patch = list[dict[str, Any]]

# Both Distribution 2 and 3 read it as YAML; OpenShift's registry operator sets the same (registries.md, 6).
READ_ONLY_VARIABLE = "REGISTRY_STORAGE_MAINTENANCE_READONLY"
READ_ONLY_VALUE = '{"enabled": true}'
_READ_ONLY = {"name": READ_ONLY_VARIABLE, "value": READ_ONLY_VALUE}
# As `kubectl rollout restart` has it.
_RESTARTED = f"{GROUP}/restarted-at"
_LONGEST_TROUBLE = 200


def workload_of(name: WorkloadName, body: Object, pods: Sequence[Object]) -> Workload:
    """Return how a workload stands; raise `DamagedMarkError`.

    Args:
        name: of the workload.
        body: it.
        pods: all that its selector selects.
    """
    mark = mark_of(dict(body))
    spec, status = body["spec"], body.get("status") or {}
    replicas = spec.get("replicas", 1)
    present = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    container = mark.container if mark is not None else None
    wanted = _is_read_only(spec["template"]["spec"], container)
    old = [pod for pod in present if _is_read_only(pod["spec"], container) is not wanted]
    observed = status.get("observedGeneration", 0) >= body["metadata"].get("generation", 0)
    counts = [status.get(each, 0) for each in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return Workload(
        name=name,
        mark=mark,
        frozen=mark is not None and _is_frozen(body, mark),
        replicas=replicas,
        rolled_out=observed and all(count == replicas for count in counts),
        pods=len(present),
        old_pods=len(old),
        trouble=_trouble(present, status),
    )


def selector_of(body: Object) -> str:
    """Return the selector of a workload's pods, as a query has it."""
    selector = body["spec"].get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        values = f"({','.join(each.get('values') or ())})"
        words = {"In": f"{each['key']} in {values}", "NotIn": f"{each['key']} notin {values}"}
        words |= {"Exists": each["key"], "DoesNotExist": f"!{each['key']}"}
        parts.append(words[each["operator"]])
    return ",".join(parts)


def obstacle_of(name: WorkloadName, body: Object, strategy: Strategy) -> str | None:
    """Return why a workload cannot be frozen as it is set up, if it cannot."""
    spec = body["spec"]
    if spec.get("replicas", 1) == 0:
        return f"{name} is scaled to zero, so nobody can tell that it is restored: scale it up"
    if strategy is Strategy.OFFLINE:
        if (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get("whenScaled") == "Delete":
            return (
                f"{name} deletes its claims, and with them all images, where it is scaled down "
                "(persistentVolumeClaimRetentionPolicy.whenScaled: Delete): let it Retain them"
            )
        return None
    if spec.get("paused"):
        return f"{name} is paused, so that read-only mode would not be rolled out: resume it, or use strategy Offline"
    update = spec.get("updateStrategy") or {}
    if update.get("type") == "OnDelete" or (update.get("rollingUpdate") or {}).get("partition", 0):
        return f"the update strategy of {name} replaces no pods by itself: use strategy Offline"
    if name.kind == "StatefulSet" and spec.get("podManagementPolicy", "OrderedReady") != "Parallel":
        # Kubernetes, "StatefulSets", "Forced rollback": it would wait for the broken pod after the restoration, too.
        return (
            f"{name} replaces no pod that does not become ready, so a rollout that fails could not be taken back: use "
            "strategy Offline, or podManagementPolicy Parallel"
        )
    return None


def variable_of(body: Object, container: str) -> Variable | None:
    """Return the variable for read-only mode that a container has, if it has one."""
    found = _container(body["spec"]["template"]["spec"], container)
    for index, entry in enumerate((found or {}).get("env") or ()):
        if entry["name"] == READ_ONLY_VARIABLE:
            return Variable(index, json.dumps(entry))
    return None


# Patches: each tests that the workload is still what was looked at


def freeze(body: Object, mark: Mark) -> Patch:
    """Return the patch that puts `mark` on a workload and freezes it."""
    patch = [*_unchanged(body), *_put(body, "annotations", MARK_ANNOTATION, mark_text(mark))]
    patch += _put(body, "labels", MARK_LABEL, "true")
    if mark.strategy is Strategy.OFFLINE:
        return [*patch, {"op": "add", "path": "/spec/replicas", "value": 0}]
    index, container = _place(body, mark.container)
    variables = list(container.get("env") or ())
    if mark.variable is not None:
        variables[mark.variable.index] = _READ_ONLY
    else:
        variables.append(_READ_ONLY)
    return [*patch, _set_variables(index, variables)]


def mark_again(body: Object, mark: Mark) -> Patch:
    """Return the patch that puts `mark` back where somebody took it off, or damaged it; none where nothing is to do.

    What is not as the freezing made it any more was put back by somebody, and needs no mark.
    """
    if not _is_frozen(body, mark):
        return []
    try:
        found = mark_of(dict(body))
    except DamagedMarkError:
        found = None
    if found is not None and (found.id != mark.id or MARK_LABEL in (body["metadata"].get("labels") or {})):
        return []
    patch = [*_unchanged(body), *_put(body, "annotations", MARK_ANNOTATION, mark_text(mark))]
    return [*patch, *_put(body, "labels", MARK_LABEL, "true")]


def read_only_container(body: Object) -> str | None:
    """Return the container that has the variable as freezing sets it, if one has."""
    containers = body["spec"]["template"]["spec"]["containers"]
    return next((str(each["name"]) for each in containers if _READ_ONLY in (each.get("env") or ())), None)


def restore(body: Object, mark: Mark | None, restarted_at: str | None) -> Patch:
    """Return the patch that restores a workload: what is still as the freezing made it, and nothing else.

    Args:
        body: the workload.
        mark: that it bears, if it still does.
        restarted_at: the time, where the registry has to be restarted besides.
    """
    patch = _unchanged(body)
    if restarted_at is not None:
        metadata = body["spec"]["template"].get("metadata") or {}
        if "metadata" not in body["spec"]["template"]:
            patch.append({"op": "add", "path": "/spec/template/metadata", "value": {}})
        patch += _put({"metadata": metadata}, "annotations", _RESTARTED, restarted_at, "/spec/template")
    if mark is None:
        return patch
    patch.append(_take("annotations", MARK_ANNOTATION))
    if MARK_LABEL in (body["metadata"].get("labels") or {}):
        patch.append(_take("labels", MARK_LABEL))
    if not _is_frozen(body, mark):
        return patch
    if mark.strategy is Strategy.OFFLINE:
        return [*patch, {"op": "add", "path": "/spec/replicas", "value": mark.replicas}]
    index, container = _place(body, mark.container)
    variables = [each for each in container.get("env") or () if each["name"] != READ_ONLY_VARIABLE]
    if mark.variable is not None:
        variables.insert(mark.variable.index, json.loads(mark.variable.entry))
    return [*patch, _set_variables(index, variables)]


def _unchanged(body: Object) -> Patch:
    metadata = body["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
    ]


def _put(body: Object, part: str, key: str, value: str, at: str = "") -> Patch:
    path = f"{at}/metadata/{part}"
    if (body["metadata"].get(part)) is None:
        return [{"op": "add", "path": path, "value": {key: value}}]
    return [{"op": "add", "path": f"{path}/{_escaped(key)}", "value": value}]


def _take(part: str, key: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/metadata/{part}/{_escaped(key)}"}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _set_variables(container: int, variables: list[Any]) -> dict[str, Any]:
    return {"op": "add", "path": f"/spec/template/spec/containers/{container}/env", "value": variables}


# How it stands


def _is_frozen(body: Object, mark: Mark) -> bool:
    if mark.strategy is Strategy.OFFLINE:
        return bool(body["spec"].get("replicas", 1) == 0)
    return _is_read_only(body["spec"]["template"]["spec"], mark.container)


def _is_read_only(pod: Object, container: str | None) -> bool:
    """Say whether a container of a pod has the variable as freezing sets it; of no certain one, whether any has."""
    containers = pod["containers"] if container is None else [_container(pod, container) or {}]
    return any(_READ_ONLY in (each.get("env") or ()) for each in containers)


def _container(pod: Object, name: str | None) -> Object | None:
    return next((each for each in pod["containers"] if each["name"] == name), None)


def _place(body: Object, name: str | None) -> tuple[int, Object]:
    for index, container in enumerate(body["spec"]["template"]["spec"]["containers"]):
        if container["name"] == name:
            return index, container
    raise LookupError(name)


def _trouble(pods: Sequence[Object], status: Object) -> str | None:
    """Return what keeps pods from becoming ready, in Kubernetes' words."""
    for pod in pods:
        state = pod.get("status") or {}
        for container in [*(state.get("initContainerStatuses") or ()), *(state.get("containerStatuses") or ())]:
            waiting = (container.get("state") or {}).get("waiting")
            if waiting is not None and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                return f"pod {pod['metadata']['name']}: {waiting['reason']}"
        for condition in state.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                words = f"pod {pod['metadata']['name']}: {condition.get('reason')}: {condition.get('message')}"
                return words[:_LONGEST_TROUBLE]
    for condition in status.get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message"))[:_LONGEST_TROUBLE]
    return None
