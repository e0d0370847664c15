"""How the Job of a collection stands: by itself, and by what its pods left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.clocks import CLOCK_TOLERANCE
from registry_cleanup.domain.collecting import Job
from registry_cleanup.domain.collection import CollectionMode, Measures, StoragePruned
from registry_cleanup.kube.collecting.job import AFTER, BEFORE, COLLECT, EMPTY, PRUNE
from registry_cleanup.kube.status import parse_time

Object = Mapping[str, Any]

_BEFORE_PRUNE = (EMPTY, BEFORE, COLLECT, AFTER)
# Its pod is made within seconds, or something refuses it; the API server's clock may differ from ours.
_POD_WITHIN = CLOCK_TOLERANCE + timedelta(minutes=2)
_LONGEST_SAID = 200
_HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})


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
        if any(codes) and any(each["name"] == PRUNE for each in _containers(pod)):
            return StoragePruned(stayed=None, failure="nothing was pruned in the storage: the Job failed before that")
    return None


def _containers(pod: Object) -> list[Object]:
    """Return how the containers of a pod stand, in the order in which they run."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


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
    for each in _containers(pod):
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
        for each in _containers(pod):
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
        for container in (*_BEFORE_PRUNE, PRUNE):
            ended = _ended(pod, container)
            if ended is None or ended.get("exitCode") == 0:
                continue
            said = "" if container == COLLECT else f" ({' '.join(str(ended.get('message') or '').split())})"
            logs = f"kubectl logs job/{name} -c {container} -n {body['metadata']['namespace']}"
            code = f"exit code {ended.get('exitCode')}, {ended.get('reason')}"
            return f"its container {container} failed with {code}{said[:_LONGEST_SAID]}; read: {logs}"
    return f"the Job {name} failed: {condition.get('reason')}: {condition.get('message')}"[:_LONGEST_SAID]
