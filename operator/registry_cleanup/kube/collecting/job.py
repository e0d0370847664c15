"""The Job that collects: made from the registry's own workload, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.collecting import Job
from registry_cleanup.domain.collection import CollectionMode, Measures, StoragePruned, WorkloadName
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.rules import CLOCK_TOLERANCE
from registry_cleanup.kube.collecting.storage import DEFAULT_CONFIGURATIONS, Place, UnfitWorkloadError
from registry_cleanup.kube.spec import GROUP, KIND, VERSION, ParsedPolicy
from registry_cleanup.kube.status import parse_time

Object = Mapping[str, Any]

# Of its containers: what is there before, the collection, and what is there afterwards.
BEFORE, COLLECT, AFTER = "measure-before", "collect", "measure-after"
# Where the registry deletes nothing: what was pruned long enough ago goes for good, and what is planned to the trash.
EMPTY, PRUNE = "empty-trash", "prune-storage"
_BEFORE_PRUNE = (EMPTY, BEFORE, COLLECT, AFTER)
JOB_LABEL = f"{GROUP}/collection-id"
_HOSTNAME = "kubernetes.io/hostname"
# Its pod is made within seconds, or something refuses it; the API server's clock may differ from ours.
_POD_WITHIN = CLOCK_TOLERANCE + timedelta(minutes=2)
# For a day people can read its logs.
_KEPT_SECONDS = 24 * 3600
_OUTPUT_VOLUME, _OUTPUT_FOLDER = "registry-cleanup-output", "/registry-cleanup"
_OUTPUT = f"{_OUTPUT_FOLDER}/output"
_ORDER_VOLUME, _ORDER_FOLDER = "registry-cleanup-plan", "/registry-cleanup-plan"
PLAN_KEY, IN_USE_KEY = "plan.ndjson.gz", "in-use.json.gz"
_TERMINATION_LOG = "--termination-log=/dev/termination-log"
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
_LONGEST_SAID = 200
# Beside a proxy of a service mesh no Job ever ends.
_NO_SIDECAR = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
_HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})


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
    # What the trash of `storage prune` holds can be restored only as long as nothing was collected.
    first = measuring(BEFORE, *([] if reports else ["--unless-trash"]))
    last = measuring(AFTER, *([f"--eligible={_OUTPUT}"] if reports else []))
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


# What became of it


def job_of(body: Object, pods: Sequence[Object], mode: CollectionMode, now: datetime) -> Job:
    """Return how a Job stands at `now`, by itself and its pods."""
    status = body.get("status") or {}
    ended = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
    ending = body["metadata"].get("deletionTimestamp") is not None
    active = active_pods(pods)
    if "Complete" in ended:
        measures = measures_of(pods, mode)
        if measures is None:
            return Job(ended=True, active=active, failure="its pod is gone, with what it measured", ending=ending)
        return Job(ended=True, active=active, measures=measures, ending=ending, pruned=measures.pruned)
    if "Failed" in ended:
        failure = _why(body, ended["Failed"], pods)
        return Job(ended=True, active=active, failure=failure, ending=ending, pruned=_pruned_before(pods))
    return Job(ended=False, active=active, failure=_stuck(body, pods, now), ending=ending)


def active_pods(pods: Sequence[Object]) -> int:
    """Return how many pods may still do something."""
    return sum((pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") for pod in pods)


def measures_of(pods: Sequence[Object], mode: CollectionMode) -> Measures | None:
    """Return what a pod measured before and after; None where none of them has told both."""
    for pod in pods:
        before, after = _told(pod, BEFORE), _told(pod, AFTER)
        if before is None or after is None:
            continue
        try:
            bytes_after, blobs_after = after["bytes"], after["blobs"]
            if mode is CollectionMode.REPORT:
                # Not of what is there afterwards: the registry takes pushes meanwhile.
                bytes_after = before["bytes"] - after["eligibleBytes"]
                blobs_after = before["blobs"] - after["eligibleBlobs"]
            return Measures(
                int(before["bytes"]), int(before["blobs"]), int(bytes_after), int(blobs_after), _pruned(pod)
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return None


def _pruned(pod: Object) -> StoragePruned | None:
    """Return what a pod pruned in the storage; None where it was not to prune. Raises for what nobody can read."""
    if _ended(pod, PRUNE) is None:
        return None
    told = _told(pod, PRUNE)
    if told is None:
        return StoragePruned(failure=f"its container {PRUNE} did not say what it did", told=False)
    stayed = int(told["stayed"]) if "stayed" in told else None
    return StoragePruned(told.get("run"), int(told["tags"]), int(told["manifests"]), stayed, told.get("failure"))


def _pruned_before(pods: Sequence[Object]) -> StoragePruned | None:
    """Return what a Job pruned in the storage before it failed; None where it was not to, or nobody knows."""
    for pod in pods:
        if _ended(pod, PRUNE) is not None:
            try:
                found = _pruned(pod)
            except (KeyError, TypeError, ValueError):
                return None
            return found if found is not None and found.told else None
        codes = [ended.get("exitCode") for each in _BEFORE_PRUNE if (ended := _ended(pod, each)) is not None]
        # After a container that failed no other begins.
        if _has(pod, PRUNE) and any(codes):
            return StoragePruned(stayed=None, failure="nothing was pruned in the storage: the Job failed before that")
    return None


def _has(pod: Object, container: str) -> bool:
    status = pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return any(each["name"] == container for each in states)


def _told(pod: Object, container: str) -> Object | None:
    """Return the JSON object that a container left; None where it left none."""
    ended = _ended(pod, container)
    if ended is None or ended.get("exitCode") != 0:
        return None
    try:
        found = json.loads(ended.get("message") or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _ended(pod: Object, container: str) -> Object | None:
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if each["name"] == container:
            found: Object | None = (each.get("state") or {}).get("terminated")
            return found
    return None


def _stuck(body: Object, pods: Sequence[Object], now: datetime) -> str | None:
    """Return what a Job waits for in vain: the registry must not stay frozen for that until the end of its time."""
    created = parse_time(body["metadata"].get("creationTimestamp"))
    if not pods and created is not None and now - created > _POD_WITHIN:
        name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
        return (
            f"the Job {name} gets no pod, since a quota or an admission policy refuses it; read: kubectl describe job "
            f"{name} -n {namespace}"
        )
    for pod in pods:
        status = pod.get("status") or {}
        for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            reason = ((each.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in _HOPELESS:
                name = body["metadata"]["name"]
                return f"container {each['name']} of the Job {name} does not start: {reason}, image {each.get('image')}"
    return None


def _why(body: Object, condition: Object, pods: Sequence[Object]) -> str:
    """Return why a Job failed, in Kubernetes' words and its containers' codes."""
    name = body["metadata"]["name"]
    if condition.get("reason") == "DeadlineExceeded":
        return f"the Job {name} was not through in the time that spec.garbageCollection.timeout left it"
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("reason"):
            message = " ".join(str(status.get("message") or "").split())
            return f"the pod of the Job {name} failed: {status['reason']}: {message}"[:_LONGEST_SAID]
        for container in (EMPTY, BEFORE, COLLECT, AFTER, PRUNE):
            ended = _ended(pod, container)
            if ended is None or ended.get("exitCode") == 0:
                continue
            said = "" if container == COLLECT else f" ({' '.join(str(ended.get('message') or '').split())})"
            logs = f"kubectl logs job/{name} -c {container} -n {body['metadata']['namespace']}"
            code = f"exit code {ended.get('exitCode')}, {ended.get('reason')}"
            return f"its container {container} failed with {code}{said[:_LONGEST_SAID]}; read: {logs}"
    return f"the Job {name} failed: {condition.get('reason')}: {condition.get('message')}"[:_LONGEST_SAID]
