"""Objects of a cluster that name images, as the API server takes them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.controlplane import ControlPlane
from tests.support.policies import Namespace

Document = dict[str, Any]
_LABELS = {"app": "used"}
_OPENSHIFT_KINDS = (
    ("apps.openshift.io", "DeploymentConfig"),
    ("build.openshift.io", "BuildConfig"),
    ("build.openshift.io", "Build"),
    ("image.openshift.io", "ImageStream"),
)


def container(image: str, name: str = "main") -> Document:
    return {"name": name, "image": image}


def pod_spec(*images: str, **more: Any) -> Document:  # noqa: ANN401 - values of any field
    return {"containers": [container(image, f"c{number}") for number, image in enumerate(images)], **more}


def template(image: str, **more: Any) -> Document:  # noqa: ANN401 - values of any field
    return {"metadata": {"labels": _LABELS}, "spec": pod_spec(image, **more)}


def workload(image: str, **more: Any) -> Document:  # noqa: ANN401 - values of any field
    """Return the spec of a Deployment or the like."""
    return {"selector": {"matchLabels": _LABELS}, "template": template(image), **more}


def job(image: str) -> Document:
    return {"suspend": True, "template": {"spec": pod_spec(image, restartPolicy="Never")}}


@dataclass(frozen=True)
class Workloads:
    """The objects of a namespace, made as an administrator makes them."""

    namespace: Namespace

    def create(self, path: str, name: str, **parts: Any) -> Document:  # noqa: ANN401 - parts of any kind
        """Create an object; `path` is such as `apis/apps/v1/deployments`."""
        root, _, plural = path.rpartition("/")
        metadata = {"name": name, **parts.pop("metadata", {})}
        where = f"/{root}/namespaces/{self.namespace.name}/{plural}"
        answer = self.namespace.api.post(where, json={"metadata": metadata, **parts})
        assert answer.is_success, answer.text
        found: Document = answer.json()
        return found

    def pod(self, name: str, spec: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> None:
        """Create a pod, with the status that a kubelet would write."""
        self.create("api/v1/pods", name, spec=dict(spec))
        if status is not None:
            self.patch(f"/api/v1/namespaces/{self.namespace.name}/pods/{name}/status", {"status": dict(status)})

    def patch(self, path: str, change: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        answer = self.namespace.api.patch(path, json=dict(change), headers=headers)
        assert answer.is_success, answer.text


def running(image: str, image_id: str, name: str = "c0") -> Document:
    """Return the status of a pod whose container runs."""
    return _status("Running", image, image_id, name, {"running": {}})


def finished(image: str, image_id: str, at: str, name: str = "c0") -> Document:
    """Return the status of a pod whose container ended."""
    return _status("Succeeded", image, image_id, name, {"terminated": {"exitCode": 0, "finishedAt": at}})


def _status(phase: str, image: str, image_id: str, name: str, state: Document) -> Document:
    one = {"name": name, "image": image, "imageID": image_id, "ready": True, "restartCount": 0, "state": state}
    return {"phase": phase, "containerStatuses": [one]}


@contextmanager
def openshift_kinds(plane: ControlPlane) -> Iterator[None]:
    """Let the API server keep OpenShift's kinds, as they are, until the context ends."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = []
    for group, kind in _OPENSHIFT_KINDS:
        plural = f"{kind.lower()}s"
        names.append(f"crd/{plural}.{group}")
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [version],
            },
        }
        plane.kubectl("apply", "-f", "-", stdin=json.dumps(definition))
    plane.wait_for_crds(*(name.removeprefix("crd/") for name in names))
    try:
        yield
    finally:
        plane.kubectl("delete", *names)
