"""Where a registry's workload keeps its storage and its configuration, by what its pod template says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from registry_cleanup.domain.collection import WorkloadName
from registry_cleanup.kube.collecting.configuration import (
    DEFAULT_ROOT,
    StorageSettings,
    UnreadableConfigurationError,
    storage_settings,
)

Object = Mapping[str, Any]

_ROOT_VARIABLE = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"
_DRIVER_VARIABLE = "REGISTRY_STORAGE"
# Where the official images have their configuration: 3.x, 2.x. The first that is there is read.
DEFAULT_CONFIGURATIONS = ("/etc/distribution/config.yml", "/etc/docker/registry/config.yml")
_CONFIGURATION_VARIABLE = "REGISTRY_CONFIGURATION_PATH"
# Volumes whose content outlives pods, wherever these are; of a node's folder see `_stays`.
_LASTING = frozenset(
    {
        "persistentVolumeClaim",
        "hostPath",
        "nfs",
        *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker"),
        *("gcePersistentDisk", "glusterfs", "iscsi", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd"),
        *("scaleIO", "storageos", "vsphereVolume"),
    }
)
_NODE_NAMES = frozenset({"kubernetes.io/hostname", "metadata.name"})
# What it keeps of its layers: the first goes before a configuration.
_CACHE_VARIABLE = "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR"
_CACHE_VARIABLES = (_CACHE_VARIABLE, "REGISTRY_STORAGE_CACHE_LAYERINFO", "REGISTRY_STORAGE_CACHE")
_DECIDING_VARIABLES = (_ROOT_VARIABLE, _DRIVER_VARIABLE, _CONFIGURATION_VARIABLE)
_FIELD = "spec.garbageCollection.volume"


class UnfitWorkloadError(Exception):
    """Garbage cannot be collected as the workload is set up; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the registry is in its workload.

    Attributes:
        container: its name.
        volume: that holds the storage.
        root: the storage driver's root directory.
        configuration: path of the configuration; None for the image's default.
        program: the registry's program.
    """

    container: str
    volume: str
    root: str
    configuration: str | None
    program: str


@dataclass(frozen=True, slots=True)
class ConfigurationSource:
    """A ConfigMap's key that holds the configuration."""

    name: str
    key: str


def container_of(name: WorkloadName, pod: Object, volume: str | None) -> Object:
    """Return the registry's container of a pod template; raise `UnfitWorkloadError` where nobody can tell."""
    containers = pod["containers"]
    if len(containers) > 1:
        mounting = [each for each in containers if volume is None or volume in _mounted(each)]
        containers = [
            each for each in mounting if list(_holding(each, _variable(each, _ROOT_VARIABLE) or DEFAULT_ROOT))
        ]
        containers = containers or mounting
    if len(containers) != 1:
        raise UnfitWorkloadError(
            f"which container of {name} is the registry cannot be told: write in {_FIELD} the name of the volume that "
            "only that one mounts"
        )
    found: Object = containers[0]
    if volume is not None and volume not in _mounted(found):
        raise UnfitWorkloadError(f"{_FIELD}: container {found['name']} of {name} mounts no volume {volume!r}")
    return found


def configuration_of(container: Object) -> str | None:
    """Return the path of the configuration that the container's command names; None for the image's default."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    named = [word for word in words if word.endswith((".yml", ".yaml"))]
    return named[-1] if named else _variable(container, _CONFIGURATION_VARIABLE)


def configuration_source(pod: Object, container: Object, path: str | None) -> ConfigurationSource | None:
    """Return the ConfigMap that holds the configuration, if one does; without a `path`, the image's default."""
    paths = DEFAULT_CONFIGURATIONS if path is None else (path,)
    found = (_source_at(pod, container, each) for each in paths)
    return next((source for source in found if source is not None), None)


def _source_at(pod: Object, container: Object, path: str) -> ConfigurationSource | None:
    for mount in container.get("volumeMounts") or ():
        none: Object = {}
        volume = next((each for each in pod.get("volumes") or () if each["name"] == mount["name"]), none)
        source = volume.get("configMap")
        if source is None:
            continue
        at = PurePosixPath(mount["mountPath"])
        key = mount.get("subPath")
        if key is None:
            if not PurePosixPath(path).is_relative_to(at):
                continue
            key = str(PurePosixPath(path).relative_to(at))
        elif PurePosixPath(path) != at:
            continue
        keys = {item["path"]: item["key"] for item in source.get("items") or ()}
        return ConfigurationSource(source["name"], keys.get(key, key))
    return None


def expect_known(name: WorkloadName, container: Object, source: ConfigurationSource | None) -> None:
    """Raise `UnfitWorkloadError` where the registry may be set up by what nobody can read here, such as a Secret.

    It may store elsewhere, or keep in redis what it knows of its layers. Variables go before a configuration: where
    they tell both, nothing else matters.
    """
    values = {each["name"]: each.get("value") for each in container.get("env") or ()}
    if values.get(_ROOT_VARIABLE) and values.get(_CACHE_VARIABLE) == "inmemory":
        return
    path = configuration_of(container)
    found = None
    if source is None:
        paths = DEFAULT_CONFIGURATIONS if path is None else (path,)
        found = next((volume for each in paths if (volume := _volume_at(container, each)) is not None), None)
    if found is not None:
        unread = f"configuration is in volume {found!r}, which is no ConfigMap"
    elif container.get("envFrom"):
        unread = "variables come from envFrom"
    elif any(each in values and values[each] is None for each in _DECIDING_VARIABLES):
        unread = "variables come from elsewhere (valueFrom)"
    else:
        return
    raise UnfitWorkloadError(
        f"the registry's {unread}, so where {name} stores, and what its cache outlives, is not known here: set "
        f"{_ROOT_VARIABLE} (such as {DEFAULT_ROOT}) and {_CACHE_VARIABLE} (inmemory) in container {container['name']}"
    )


def _volume_at(container: Object, path: str) -> str | None:
    """Return the volume that holds what is at `path`; None where that is the image's own."""
    mounts = [
        mount
        for mount in container.get("volumeMounts") or ()
        if PurePosixPath(path).is_relative_to(PurePosixPath(mount["mountPath"]))
    ]
    found = max(mounts, key=lambda mount: len(mount["mountPath"]), default=None)
    return None if found is None else str(found["name"])


def place_of(name: WorkloadName, pod: Object, volume: str | None, configuration: str | None) -> Place:
    """Return where the registry is; raise `UnfitWorkloadError` where nobody can tell, or it keeps no files.

    Args:
        name: of the workload.
        pod: its pod template's spec.
        volume: that the policy names, if it does.
        configuration: the text of the registry's configuration, where it is known.
    """
    container = container_of(name, pod, volume)
    root = _root(name, container, configuration)
    found = list(_holding(container, root))
    if volume is not None:
        if volume not in found:
            raise UnfitWorkloadError(
                f"{_FIELD}: {volume!r} of {name} is not mounted at the storage's root directory, {root}, or above it"
            )
        found = [volume]
    if not found:
        raise UnfitWorkloadError(
            f"{name} mounts no volume at the storage's root directory, {root}: what its registry stores goes with its "
            "pods, and there is nothing to collect"
        )
    # Of several that are mounted above one another, the innermost holds the files.
    if (obstacle := _goes(pod, found[0])) is not None:
        raise UnfitWorkloadError(f"{name}: volume {found[0]!r}, that holds the registry's storage, {obstacle}")
    command = container.get("command") or []
    own = bool(command) and PurePosixPath(command[0]).name == "registry"
    program = command[0] if own else "registry"
    return Place(container["name"], found[0], root, configuration_of(container), program)


def _goes(pod: Object, volume: str) -> str | None:
    """Return why what a volume holds may not be there any more once the pods are replaced, if it may not."""
    source = next((each for each in pod.get("volumes") or () if each["name"] == volume), None)
    if source is None:
        return None  # a claim that a StatefulSet makes
    if "hostPath" in source and not _stays(pod):
        return (
            "is a folder of a node, and the pods may come up on another: pin them to it with a nodeSelector or a "
            "required nodeAffinity of kubernetes.io/hostname, or use a PersistentVolumeClaim"
        )
    if not _LASTING.intersection(source):
        return "is none that outlives its pods, and to collect would be to lose it: use a PersistentVolumeClaim"
    return None


def _stays(pod: Object) -> bool:
    """Say whether a pod runs on one node only: of what else selects nodes, nobody can see here how many have it."""
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or ()
    named = [
        each
        for term in terms
        for each in (*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ()))
        if each["key"] in _NODE_NAMES and each["operator"] == "In" and len(each.get("values") or ()) == 1
    ]
    selected = (pod.get("nodeSelector") or {}).keys() & _NODE_NAMES
    return bool(pod.get("nodeName") or selected or (len(terms) == 1 and named))


def _root(name: WorkloadName, container: Object, configuration: str | None) -> str:
    try:
        settings = StorageSettings() if configuration is None else storage_settings(configuration)
    except UnreadableConfigurationError as error:
        raise UnfitWorkloadError(f"the configuration of the registry of {name} {error}") from error
    _expect_forgetful(name, settings.caches)
    variables = [each for each in container.get("env") or () if each["name"] in _CACHE_VARIABLES]
    _expect_forgetful(name, [each.get("value") if "valueFrom" not in each else "valueFrom" for each in variables])
    driver = _variable(container, _DRIVER_VARIABLE) or settings.driver
    if driver not in (None, "filesystem"):
        raise UnfitWorkloadError(
            f"the registry of {name} stores in {driver}, not in files: its garbage cannot be collected from here"
        )
    return str(PurePosixPath(_variable(container, _ROOT_VARIABLE) or settings.root))


def _expect_forgetful(name: WorkloadName, caches: Iterable[object]) -> None:
    """Raise `UnfitWorkloadError` where what the registry knows of its layers outlives its restart.

    It would go on to say that it has a layer that was collected: a client leaves that out of its push, which succeeds,
    and nobody can pull the image.
    """
    for cache in caches:
        if cache not in (None, "", "inmemory"):
            raise UnfitWorkloadError(
                f"the registry of {name} keeps what it knows of its layers in a cache ({str(cache)[:64]!r}) that may "
                "outlive its restart, and would say that it still has what was collected: set "
                "storage.cache.blobdescriptor to inmemory, or leave it out"
            )


def _holding(container: Object, root: str) -> Iterable[str]:
    """Yield the volumes that are mounted at `root` or above it, the innermost first."""
    mounts = [
        mount
        for mount in container.get("volumeMounts") or ()
        if PurePosixPath(root).is_relative_to(PurePosixPath(mount["mountPath"]))
    ]
    yield from (mount["name"] for mount in sorted(mounts, key=lambda mount: -len(mount["mountPath"])))


def _mounted(container: Object) -> list[str]:
    return [mount["name"] for mount in container.get("volumeMounts") or ()]


def _variable(container: Object, name: str) -> str | None:
    found = next((each.get("value") for each in container.get("env") or () if each["name"] == name), None)
    return str(found) if found else None
