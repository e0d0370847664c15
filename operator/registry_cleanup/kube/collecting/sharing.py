"""Which pods besides a registry's own may write to its storage: what they put there a collection would take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from registry_cleanup.domain.collection import WorkloadName
from registry_cleanup.kube.collecting.job import JOB_LABEL, volumes_of
from registry_cleanup.kube.collecting.storage import Place
from registry_cleanup.kube.collecting.workload import selector_of
from registry_cleanup.kube.in_use.labels import bears

Object = Mapping[str, Any]

_ENDED = ("Succeeded", "Failed")


def intruder_of(
    name: WorkloadName, body: Object, place: Place, pods: Iterable[Object], collection: str | None
) -> str | None:
    """Return a pod of the namespace that is none of the registry's and may write to its storage, if there is one.

    Args:
        name: of the workload.
        body: it.
        place: where its registry is.
        pods: all of the namespace.
        collection: that goes on, so that Jobs of collections are no strangers; None before any begins.
    """
    template = body["spec"]["template"]["spec"]
    container = next(each for each in template["containers"] if each["name"] == place.container)
    storage = next((each for each in volumes_of(name, body, container) if each["name"] == place.volume), None)
    if storage is None:
        return None
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if (pod.get("status") or {}).get("phase") in _ENDED or (collection is not None and JOB_LABEL in labels):
            continue
        if bears(labels, selector_of(body)) and _made_by(name, pod):
            continue
        if any(_same(storage, volume) and _writes(pod, volume) for volume in pod["spec"].get("volumes") or ()):
            return str(pod["metadata"]["name"])
    return None


def _made_by(name: WorkloadName, pod: Object) -> bool:
    """Say whether a pod that a workload's selector selects is its own, and not another's, or made by hand."""
    owners = pod["metadata"].get("ownerReferences") or ()
    for owner in owners:
        # A ReplicaSet is called like its Deployment and a hash.
        made = owner["name"].rpartition("-")[0] if owner["kind"] == "ReplicaSet" else owner["name"]
        kind = "Deployment" if owner["kind"] == "ReplicaSet" else owner["kind"]
        if (kind, made) != (name.kind, name.name):
            return False
    return bool(owners)


def _same(storage: Object, volume: Object) -> bool:
    """Say whether two volumes of pods of one namespace have files in common."""
    for kind, source in storage.items():
        other = volume.get(kind)
        if kind == "name" or other is None or kind in ("emptyDir", "ephemeral"):
            continue  # those are each pod's own
        if kind == "persistentVolumeClaim":
            return bool(source["claimName"] == other["claimName"])
        if kind in ("hostPath", "nfs"):
            one, two = PurePosixPath(source["path"]), PurePosixPath(other["path"])
            return source.get("server") == other.get("server") and (one.is_relative_to(two) or two.is_relative_to(one))
        return _without_mode(source) == _without_mode(other)
    return False


def _without_mode(source: Object) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "readOnly"}


def _writes(pod: Object, volume: Object) -> bool:
    if any(isinstance(source, Mapping) and source.get("readOnly") for source in volume.values()):
        return False
    containers = [
        each for part in ("initContainers", "containers", "ephemeralContainers") for each in pod["spec"].get(part) or ()
    ]
    mounts = [mount for each in containers for mount in each.get("volumeMounts") or ()]
    return any(mount["name"] == volume["name"] and not mount.get("readOnly") for mount in mounts)
