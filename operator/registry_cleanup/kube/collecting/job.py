"""The Job that collects: made from the registry's own workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from registry_cleanup.domain.collection import CollectionMode, WorkloadName
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.kube.collecting.storage import DEFAULT_CONFIGURATIONS, Place, UnfitWorkloadError
from registry_cleanup.kube.spec import GROUP, KIND, VERSION, ParsedPolicy

Object = Mapping[str, Any]

# Of its containers: what is there before, the collection, and what is there afterwards.
BEFORE, COLLECT, AFTER = "measure-before", "collect", "measure-after"
# Where the registry deletes nothing: what was pruned long enough ago goes for good, and what is planned to the trash.
EMPTY, PRUNE = "empty-trash", "prune-storage"
JOB_LABEL = f"{GROUP}/collection-id"
_HOSTNAME = "kubernetes.io/hostname"
# For a day people can read its logs.
_KEPT_SECONDS = 24 * 3600
_OUTPUT_VOLUME, _OUTPUT_FOLDER = "registry-cleanup-output", "/registry-cleanup"
_OUTPUT = f"{_OUTPUT_FOLDER}/output"
_ORDER_VOLUME, _ORDER_FOLDER = "registry-cleanup-plan", "/registry-cleanup-plan"
PLAN_KEY, IN_USE_KEY = "plan.ndjson.gz", "in-use.json.gz"
_TERMINATION_LOG = "--termination-log=/dev/termination-log"
_UNLESS_TRASH = "--unless-trash"
_FIND = f'for file in {" ".join(DEFAULT_CONFIGURATIONS)}; do if [ -f "$file" ]; then break; fi; done'
_COPIED = (
    "imagePullSecrets",
    "nodeSelector",
    "tolerations",
    "affinity",
    "securityContext",
    "serviceAccountName",
    "runtimeClassName",
    "priorityClassName",
    "hostUsers",
)
_CONTAINER_COPIED = ("env", "envFrom", "image", "imagePullPolicy", "resources", "securityContext")
# Beside a proxy of a service mesh no Job ever ends.
_NO_SIDECAR = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}


@dataclass(frozen=True, slots=True)
class OrderFile:
    """A file that a Job is given.

    Attributes:
        config_map: that holds it.
        sha256: of its bytes, in hex: others may write that ConfigMap, too.
    """

    config_map: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StorageOrder:
    """What a Job is to do in the storage of a registry that deletes nothing.

    Attributes:
        files: the plan, and what is in use; None where nothing is to be pruned now.
        run: that made the plan.
        window: for so long what is pruned can be put back.
        why_not: why nothing is to be pruned now.
        as_root: whether the containers run as root where the workload names no user.
    """

    files: tuple[OrderFile, OrderFile] | None
    run: str | None
    window: timedelta
    why_not: str | None = None
    as_root: bool = True


def job_name(collection: str) -> str:
    """Return the name of the Job of a collection."""
    return f"registry-cleanup-collect-{collection}"


def job_document(
    policy: ParsedPolicy,
    collection: str,
    mode: CollectionMode,
    name: WorkloadName,
    workload: Object,
    place: Place,
    operator_image: str,
    seconds: int,
    order: StorageOrder | None = None,
) -> dict[str, Any]:
    """Return the Job of a collection; raise `UnfitWorkloadError` where there is none for this workload.

    Args:
        policy: that owns it.
        collection: its ID.
        mode: Report or Run.
        name: of the workload.
        workload: it, as it is now.
        place: where its registry is.
        operator_image: that measures.
        seconds: that it may take.
        order: what it does in the storage besides, where the policy wants that.
    """
    template = workload["spec"]["template"]["spec"]
    container = next(each for each in template["containers"] if each["name"] == place.container)
    volumes = volumes_of(name, workload, container)
    mounts = list(container.get("volumeMounts") or ())
    storage = [mount for mount in mounts if mount["name"] == place.volume]
    reports = mode is CollectionMode.REPORT
    output = [{"name": _OUTPUT_VOLUME, "mountPath": _OUTPUT_FOLDER}] if reports else []

    def ours(container_name: str, command: str, *arguments: str, mounted: list[dict[str, Any]]) -> dict[str, Any]:
        # The same resources, too: a quota may want some of every container.
        own = {key: container[key] for key in ("securityContext", "resources") if key in container}
        return {
            "name": container_name,
            "image": operator_image,
            "args": ["storage", command, f"--root={place.root}", *arguments],
            # Its own words where it fails; of the registry's, only the exit code is told.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounted,
            **own,
        }

    def measuring(container_name: str, *arguments: str) -> dict[str, Any]:
        mounted = [*({**mount, "readOnly": True} for mount in storage), *output]
        return ours(container_name, "measure", _TERMINATION_LOG, *arguments, mounted=mounted)

    def changing(container_name: str, command: str, *arguments: str, mounted: Object | None = None) -> dict[str, Any]:
        found = ours(container_name, command, *arguments, mounted=[*storage, *([dict(mounted)] if mounted else [])])
        if order is not None and order.as_root and not _names_user(template) and not _names_user(container):
            # Whom the registry's image runs as nobody knows from here; the moved files keep their owners.
            found["securityContext"] = {**found.get("securityContext", {}), "runAsUser": 0}
        return found

    collect = {
        "name": COLLECT,
        **{key: container[key] for key in _CONTAINER_COPIED if key in container},
        "command": _command(place, reports=reports),
        "volumeMounts": [*mounts, *output],
    }
    if reports:
        volumes.append({"name": _OUTPUT_VOLUME, "emptyDir": {}})
    # What the trash of `storage prune` holds can be restored only as long as nothing was collected; who prunes by hand
    # meanwhile is told afterwards that it was.
    first = measuring(BEFORE, *([] if reports else [_UNLESS_TRASH]))
    last = measuring(AFTER, f"--eligible={_OUTPUT}" if reports else _UNLESS_TRASH)
    steps = [first, collect, last]
    if order is not None and not reports:
        older = f"--older-than={duration_text(order.window)}"
        steps.insert(0, changing(EMPTY, "empty-trash", f"--policy={policy.uid}", older))
        if order.files is not None:
            plan, use = order.files
            # A pod waits for a ConfigMap that somebody deleted, and the registry stays frozen as long; a file that is
            # not there fails at once.
            sources = [{"configMap": {"name": each.config_map, "optional": True}} for each in order.files]
            volumes.append({"name": _ORDER_VOLUME, "projected": {"sources": sources}})
            arguments = [
                f"--plan={_ORDER_FOLDER}/{PLAN_KEY}",
                f"--plan-sha256={plan.sha256}",
                f"--in-use={_ORDER_FOLDER}/{IN_USE_KEY}",
                f"--in-use-sha256={use.sha256}",
                "--offline",  # it is frozen, and whoever thaws it ends the Job
                _TERMINATION_LOG,
            ]
            planned = {"name": _ORDER_VOLUME, "mountPath": _ORDER_FOLDER, "readOnly": True}
            prune = changing(PRUNE, "prune", *arguments, mounted=planned)
            # What can be put back for a while must not be collected now.
            steps.insert(len(steps) if order.window else 0, prune)
    pod: dict[str, Any] = {
        **{key: template[key] for key in _COPIED if key in template},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "initContainers": steps[:-1],
        "containers": steps[-1:],
        "volumes": volumes,
    }
    if workload["spec"].get("replicas", 1):
        # A volume that only one node may have (ReadWriteOnce) is where the registry's pods are.
        pod["affinity"] = _beside(workload, pod.get("affinity"))
    labels = {JOB_LABEL: collection}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(collection),
            "namespace": policy.namespace,
            "labels": labels,
            "ownerReferences": [
                {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": policy.name, "uid": policy.uid}
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": max(seconds, 1),
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": _NO_SIDECAR}, "spec": pod},
        },
    }


def _names_user(spec: Object) -> bool:
    """Say whether a pod or a container says whom it runs as, or whom not."""
    context = spec.get("securityContext") or {}
    return "runAsUser" in context or bool(context.get("runAsNonRoot"))


def _command(place: Place, *, reports: bool) -> list[str]:
    """Return what collects: never with --delete-untagged, which takes the platforms of tagged indexes on 2.x."""
    command = [place.program, "garbage-collect"]
    if not reports and place.configuration is not None:
        return [*command, place.configuration]
    # The image's default has to be looked for, and what a dry run says is read by the container after it.
    find = "file=$1" if place.configuration is not None else _FIND
    how = f'--dry-run "$file" >{_OUTPUT}' if reports else '"$file"'
    script = f'{find}; exec "$0" garbage-collect {how}'
    return ["/bin/sh", "-c", script, place.program, *([place.configuration] if place.configuration else [])]


def volumes_of(name: WorkloadName, workload: Object, container: Object) -> list[dict[str, Any]]:
    """Return the volumes that the registry's container mounts."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
    template = workload["spec"]["template"]["spec"]
    volumes = [dict(each) for each in template.get("volumes") or () if each["name"] in mounted]
    claims = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates") or ()]
    first = (workload["spec"].get("ordinals") or {}).get("start", 0)
    for claim in claims:
        if claim not in mounted:
            continue
        if workload["spec"].get("replicas", 1) > 1:
            raise UnfitWorkloadError(
                f"each of the {workload['spec']['replicas']} replicas of {name} has a storage of its own "
                f"(volumeClaimTemplates): one registry cannot be told from them"
            )
        volumes = [each for each in volumes if each["name"] != claim]
        volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name.name}-{first}"}})
    return volumes


def _beside(workload: Object, affinity: Object | None) -> dict[str, Any]:
    """Return an affinity to the registry's pods besides the one that they have themselves."""
    found: dict[str, Any] = dict(affinity or {})
    # Theirs may keep them apart from one another, and then would keep the Job apart from them.
    found.pop("podAntiAffinity", None)
    term = {"labelSelector": workload["spec"]["selector"], "topologyKey": _HOSTNAME}
    of_pods = dict(found.get("podAffinity") or {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    of_pods[required] = [*(of_pods.get(required) or ()), term]
    return {**found, "podAffinity": of_pods}
