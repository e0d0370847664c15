"""A namespace of a test's own on a node that runs pods, and the workload of a registry for it."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from tests.support.kubelet import Kubelet
from tests.support.processes import wait_until
from tests.support.registries import Version

Document = dict[str, Any]

# Long enough for a busy machine; nothing waits so long where all is well.
LIMIT = 60.0
IMAGES: Mapping[Version, str] = {"2": "registry:2.8", "3": "registry:3.1"}
# Where the official images have their configuration.
CONFIGURATIONS: Mapping[Version, str] = {"2": "/etc/docker/registry/config.yml", "3": "/etc/distribution/config.yml"}
SHELL = "shell:1"
REGISTRY = "registry"
CLAIM = "storage"
STORAGE = "/var/lib/registry"
_LABELS = {"app": REGISTRY}
_IN_TIME = f"--timeout={LIMIT:g}s"


@dataclass(frozen=True)
class Space:
    """A namespace on a node.

    Attributes:
        node: The node.
        name: The namespace's.
    """

    node: Kubelet
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.node.plane.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin, check=check)

    def apply(self, *documents: Document) -> None:
        """Create or change objects of the namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    def get(self, kind: str, name: str) -> Document:
        """Return an object, empty where it is not there."""
        found = self.kubectl("get", kind, name, "--ignore-not-found", "-o=json")
        document: Document = json.loads(found) if found else {}
        return document

    def pods(self, selector: str = "") -> list[Document]:
        """Return the pods, the oldest first."""
        found = json.loads(self.kubectl("get", "pods", f"--selector={selector}", "-o=json"))["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def pod(self, name: str) -> Document:
        return self.get("pod", name)

    def wait(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        """Wait for a condition; the state of all pods is told where it does not come true."""

        def holds() -> bool:
            self.node.check()
            return condition()

        try:
            wait_until(holds, limit, what)
        except Exception as error:
            error.add_note(self.kubectl("get", "pods,jobs,deployments,statefulsets", "-o=wide", check=False))
            raise

    def wait_for_rollout(self, workload: str) -> None:
        """Wait until a workload (`deployment/name`) is as its object wants it."""
        self.kubectl("rollout", "status", workload, _IN_TIME)

    def scale(self, workload: str, replicas: int) -> None:
        """Scale a workload and wait until it has as many pods, terminating ones included."""
        self.kubectl("scale", workload, f"--replicas={replicas}")
        self.wait(lambda: len(self.pods(f"app={REGISTRY}")) == replicas, f"{replicas} pods of {workload}")
        self.wait_for_rollout(workload)

    def job_ends(self, name: str, limit: float = LIMIT) -> tuple[str, str]:
        """Wait for the end of a Job; return Complete or Failed, and the reason."""

        def ended() -> list[Document]:
            conditions = self.get("job", name).get("status", {}).get("conditions", [])
            return [one for one in conditions if one["type"] in {"Complete", "Failed"} and one["status"] == "True"]

        self.wait(lambda: bool(ended()), f"the end of the job {name}", limit)
        (end,) = ended()
        return end["type"], end.get("reason", "")

    def registry_host(self) -> str:
        """Return host and port of the registry's Service, as soon as it takes connections.

        Who learns of a rollout's end may be earlier than the Service, here as on a cluster.
        """
        address = self.node.address(self.name, REGISTRY)
        host, _, port = address.partition(":")

        def takes_connections() -> bool:
            with suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
                return True
            return False

        self.wait(takes_connections, "the registry's Service")
        return address


@contextmanager
def space(node: Kubelet, name: str) -> Iterator[Space]:
    """Make a namespace; at the end its pods are gone."""
    node.plane.kubectl("create", "namespace", name)
    made = Space(node, name)
    # No pod before.
    made.wait(lambda: bool(made.get("serviceaccount", "default")), "the default service account")
    try:
        yield made
    finally:
        made.kubectl("delete", "cronjobs,jobs,deployments,statefulsets", "--all", "--cascade=foreground", _IN_TIME)
        made.kubectl("delete", "pods", "--all", "--grace-period=1", _IN_TIME)
        # Its own end takes the controller some ten seconds, for which nobody needs to wait.
        node.plane.kubectl("delete", "namespace", name, "--wait=false")


def claim(name: str = CLAIM, mode: str = "ReadWriteOnce") -> Document:
    """Return a claim that any volume of `Kubelet.volume` can satisfy."""
    spec = {"accessModes": [mode], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


# Of a StatefulSet that is to be read-only for a while: with the default, a rollout that fails cannot be taken back.
PARALLEL: Mapping[str, Any] = {"podManagementPolicy": "Parallel"}


def registry_service() -> Document:
    spec = {"selector": _LABELS, "ports": [{"name": "http", "port": 5000, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": REGISTRY}, "spec": spec}


def registry_workload(
    version: Version,
    kind: Literal["Deployment", "StatefulSet"] = "Deployment",
    *,
    own_claims: bool = False,
    **more: Any,  # noqa: ANN401 - fields of the workload's spec
) -> Document:
    """Return a Deployment or StatefulSet as an administrator writes it for the official image.

    Args:
        version: Of the registry.
        kind: Of the workload.
        own_claims: Whether a StatefulSet makes its claim from a template, rather than use the claim CLAIM.
        more: Further fields of its spec.
    """
    container = {
        "name": REGISTRY,
        "image": IMAGES[version],
        "env": [{"name": "REGISTRY_STORAGE_DELETE_ENABLED", "value": "true"}],
        "ports": [{"name": "http", "containerPort": 5000}],
        "volumeMounts": [{"name": CLAIM, "mountPath": STORAGE}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    volume = {"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}
    pod = {"containers": [container], "volumes": [] if own_claims else [volume], "terminationGracePeriodSeconds": 5}
    spec: Document = {
        "replicas": 1,
        "selector": {"matchLabels": _LABELS},
        "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        **more,
    }
    if kind == "StatefulSet":
        spec["serviceName"] = REGISTRY
    if own_claims:
        spec["volumeClaimTemplates"] = [claim()]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": REGISTRY}, "spec": spec}


def job(name: str, pod: Document, **more: Any) -> Document:  # noqa: ANN401 - fields of the Job's spec
    """Return a Job, which tries once unless told otherwise."""
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", **pod}}, **more}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def collecting_pod(version: Version, *arguments: str, claim: str = CLAIM) -> Document:
    """Return a pod that collects the garbage of the registry on a claim."""
    container = {
        "name": "collect",
        "image": IMAGES[version],
        "command": ["registry", "garbage-collect", *arguments, CONFIGURATIONS[version]],
        "volumeMounts": [{"name": CLAIM, "mountPath": STORAGE}],
    }
    return {
        "containers": [container],
        "volumes": [{"name": CLAIM, "persistentVolumeClaim": {"claimName": claim}}],
    }


def shell_pod(script: str, **more: Any) -> Document:  # noqa: ANN401 - fields of the container
    """Return a pod that runs a script of the shell, and ends at once when it is told to."""
    container = {"name": "main", "image": SHELL, "command": ["sh", "-c", script], **more}
    return {"containers": [container], "terminationGracePeriodSeconds": 1}


def pod(name: str, spec: Document, labels: Mapping[str, str] | None = None) -> Document:
    metadata: Document = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def waiting_reasons(pod: Document) -> Sequence[str]:
    """Return why containers of a pod wait."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return [one["state"]["waiting"]["reason"] for one in statuses if "waiting" in one["state"]]
