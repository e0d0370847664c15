"""A registry's Deployment, its pods and Jobs in memory: what a collection sees and changes, for tests that kill it.

The controllers are there as far as they matter: each look at the workload lets them go one step further.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.collection import Mark, WorkloadName
from registry_cleanup.kube.api import ConflictError, RefusedError
from registry_cleanup.kube.collecting.api import CollectionAPI
from registry_cleanup.kube.collecting.job import AFTER, BEFORE, JOB_LABEL, job_name
from registry_cleanup.kube.collecting.job_state import active_pods
from registry_cleanup.kube.collecting.mark import mark_of
from registry_cleanup.kube.collecting.workload import READ_ONLY_VARIABLE

NAME = WorkloadName("Deployment", "registry")
NAMESPACE = "team"
_LABELS = {"app": "registry"}


class KilledError(Exception):
    """The process of the operator is killed: of a fake, it may be raised where nobody expects it."""


def deployment(*variables: Mapping[str, Any], replicas: int = 1) -> dict[str, Any]:
    """Return the Deployment of a registry with these variables."""
    container: dict[str, Any] = {
        "name": "registry",
        "image": "registry:3",
        "args": ["/etc/distribution/config.yml"],
        "volumeMounts": [{"name": "storage", "mountPath": "/var/lib/registry"}],
    }
    if variables:
        container["env"] = list(variables)
    volume = {"name": "storage", "persistentVolumeClaim": {"claimName": "storage"}}
    return {
        "kind": "Deployment",
        "metadata": {"name": "registry", "namespace": NAMESPACE, "uid": "w", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": {"containers": [container], "volumes": [volume]}},
        },
    }


def stranger(name: str, *, claim: str = "storage") -> dict[str, Any]:
    """Return a pod of another workload that has the registry's volume, too."""
    container = {"name": "other", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    owner = {"kind": "ReplicaSet", "name": f"{name}-5d5c"}
    return {
        "metadata": {"name": name, "uid": f"uid of {name}", "labels": {"app": "other"}, "ownerReferences": [owner]},
        "spec": {"containers": [container], "volumes": [volume]},
        "status": {"phase": "Running"},
    }


class ClusterOfOne(CollectionAPI):
    """The API server, as far as collections ask it.

    Attributes:
        body: the Deployment.
        job_body: the Job, if there is one.
        collected: how often a Job ran to its end.
        harmed: whether one did while the registry took changes.
        writing: called with what is about to be written, and again once it is.
        job_states: of containers of its pod, once it has ended, besides those that measure.
        missing: the rights that the operator lacks.
        strangers: other pods of the namespace.
        breaks: whether no pod becomes ready.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self.body: dict[str, Any] | None = body
        self.job_body: dict[str, Any] | None = None
        self.collected = 0
        self.harmed = False
        self.missing: list[str] = []
        self.strangers: list[dict[str, Any]] = []
        self.job_fails = False
        self.job_states: list[dict[str, Any]] = []
        self.job_lasts = 3
        self.breaks = False
        self.writing: Callable[[str], None] = lambda _: None
        self._pods = [self._pod() for _ in range(body["spec"]["replicas"])]
        self._job_age = 0
        self._roll()

    # The controllers

    def _pod(self) -> dict[str, Any]:
        assert self.body is not None
        template = copy.deepcopy(self.body["spec"]["template"])
        number = int(self.body["metadata"]["resourceVersion"])
        return {
            "metadata": {
                "name": f"registry-{number}",
                "uid": f"p{number}",
                "labels": _LABELS,
                "ownerReferences": [{"kind": "ReplicaSet", "name": "registry-5d5c"}],
            },
            "spec": template["spec"],
            "status": {"phase": "Running"},
        }

    def _roll(self) -> None:
        """Let the Deployment's controller and the kubelet do one thing."""
        if self.body is None:
            self._pods = []
            return
        replicas, template = self.body["spec"]["replicas"], self.body["spec"]["template"]["spec"]
        old = [pod for pod in self._pods if pod["spec"] != template]
        if len(self._pods) > replicas:
            self._pods.pop(0)
        elif old:
            self._pods[self._pods.index(old[0])] = self._pod()
        elif len(self._pods) < replicas:
            self._pods.append(self._pod())
        fresh = 0 if self.breaks else sum(pod["spec"] == template for pod in self._pods)
        self.body["status"] = {
            "observedGeneration": self.body["metadata"]["generation"],
            "replicas": len(self._pods),
            "updatedReplicas": fresh,
            "readyReplicas": fresh,
            "availableReplicas": fresh,
        }

    def _work(self) -> None:
        """Let the Job go on."""
        if self.job_body is None or self.job_body.get("status"):
            return
        self._job_age += 1
        self.harmed = self.harmed or self.answer() is Answer.WRITABLE
        if self._job_age >= self.job_lasts:
            kind = "Failed" if self.job_fails else "Complete"
            self.job_body["status"] = {
                "conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]
            }
            self.collected += not self.job_fails

    def answer(self) -> Answer:
        """Return what the registry says to a change."""
        if not self._pods:
            return Answer.SILENT
        frozen = all(
            any(each["name"] == READ_ONLY_VARIABLE and "true" in each.get("value", "") for each in _variables(pod))
            for pod in self._pods
        )
        return Answer.READ_ONLY if frozen else Answer.WRITABLE

    # What is asked

    @override
    async def missing_rights(self, namespace: str, workload: WorkloadName) -> list[str]:
        return self.missing

    async def marks(self) -> list[Mark]:
        """Return the mark that the Deployment bears, if it does."""
        mark = None if self.body is None else mark_of(self.body)
        return [] if mark is None else [mark]

    @override
    async def workload(self, namespace: str, name: WorkloadName) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        self._roll()
        self._work()
        return copy.deepcopy(self.body)

    @override
    async def patch_workload(self, namespace: str, name: WorkloadName, patch: list[dict[str, Any]]) -> None:
        await asyncio.sleep(0)
        self.writing("patch")
        self.apply(patch)
        self.writing("patched")

    def apply(self, patch: list[dict[str, Any]]) -> None:
        """Change the Deployment by a JSON patch."""
        assert self.body is not None
        changed = _patched(self.body, patch)
        changed["metadata"]["generation"] += changed["spec"] != self.body["spec"]
        changed["metadata"]["resourceVersion"] = str(int(changed["metadata"]["resourceVersion"]) + 1)
        self.body = changed

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the Deployment as somebody else does."""
        assert self.body is not None
        change(self.body)
        self.body["metadata"]["generation"] += 1
        self.body["metadata"]["resourceVersion"] = str(int(self.body["metadata"]["resourceVersion"]) + 1)

    @override
    async def pods(self, namespace: str, selector: str | None = None) -> list[dict[str, Any]]:
        return copy.deepcopy([*self._pods, *self.strangers])

    @override
    async def job(self, namespace: str, collection: str) -> dict[str, Any] | None:
        if self.job_body is None or self.job_body["metadata"]["name"] != job_name(collection):
            return None
        return copy.deepcopy(self.job_body)

    @override
    async def job_pods(self, namespace: str, collection: str) -> tuple[list[dict[str, Any]], int]:
        if self.job_body is None or self.job_body["metadata"]["labels"][JOB_LABEL] != collection:
            return [], 0
        ended = bool(self.job_body.get("status"))
        states = [(BEFORE, '{"bytes": 100, "blobs": 5}'), (AFTER, '{"bytes": 60, "blobs": 3}')]
        told = [
            {"name": name, "state": {"terminated": {"exitCode": 0, "message": message}}}
            for name, message in states
            if ended and not self.job_fails
        ]
        told += self.job_states if ended else []
        pod = {
            "metadata": {"name": "job-1", "uid": "j"},
            "status": {"phase": "Succeeded" if ended else "Running", "containerStatuses": told},
        }
        return [pod], active_pods([pod])

    @override
    async def create_job(self, namespace: str, body: dict[str, Any]) -> None:
        self.writing("create")
        if self.job_body is not None and self.job_body["metadata"]["name"] == body["metadata"]["name"]:
            raise ConflictError("it is there")
        self.job_body, self._job_age = copy.deepcopy(body), 0
        self.writing("created")

    @override
    async def delete_job(self, namespace: str, collection: str) -> None:
        self.writing("delete")
        self.job_body = None
        self.writing("deleted")


def _variables(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(pod["spec"]["containers"][0].get("env") or ())


def _patched(body: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `body` with a JSON patch, as the API server has it."""
    changed = copy.deepcopy(body)
    for each in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:]]
        place: Any = changed
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        match each["op"]:
            case "test":
                if place.get(last) != each["value"]:
                    raise RefusedError(f"the test of {each['path']} failed")
            case "add":
                place[last] = copy.deepcopy(each["value"])
            case _:
                del place[last]
    return changed
