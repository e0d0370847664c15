"""What of a pod matters to collections: a namespace may have thousands, and each look holds all that have not ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry_cleanup.kube.collecting.workload import READ_ONLY_VARIABLE

Object = Mapping[str, Any]

ENDED = ("Succeeded", "Failed")
# Volumes that are each pod's own, or that nobody writes to.
_NO_STORAGE = frozenset({"configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "projected", "secret"})
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_METADATA = ("name", "uid", "labels", "ownerReferences")
_STATUS = ("phase", "reason", "message")
_STATUSES = ("initContainerStatuses", "containerStatuses")
_OF_CONTAINER = ("name", "image", "state")


def essence_of(pod: Object) -> dict[str, Any]:
    """Return a pod with nothing but what decides: whose it is, what it mounts, whether it is read-only, how it does."""
    spec, status = pod["spec"], pod.get("status") or {}
    volumes = [each for each in spec.get("volumes") or () if not _NO_STORAGE.intersection(each)]
    return {
        "metadata": _some(pod["metadata"], _METADATA),
        "spec": {part: _containers(spec[part]) for part in _CONTAINERS if spec.get(part)} | {"volumes": volumes},
        "status": {
            **_some(status, _STATUS),
            **{part: [_some(each, _OF_CONTAINER) for each in status[part]] for part in _STATUSES if status.get(part)},
            "conditions": [each for each in status.get("conditions") or () if each["type"] == "PodScheduled"],
        },
    }


def _containers(containers: Iterable[Object]) -> list[dict[str, Any]]:
    return [
        {
            "name": each["name"],
            "env": [variable for variable in each.get("env") or () if variable["name"] == READ_ONLY_VARIABLE],
            "volumeMounts": [_some(mount, ("name", "readOnly")) for mount in each.get("volumeMounts") or ()],
        }
        for each in containers
    ]


def _some(found: Object, keys: Iterable[str]) -> dict[str, Any]:
    return {key: found[key] for key in keys if key in found}
