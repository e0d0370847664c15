"""How the API server learns of the API: an APIService, and a Service that leads to loopback."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.certificates import CertificateAuthority
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until

NAMESPACE = "openshift-apiserver"
SERVICE = "api"
# What the API server expects the certificate to name.
SERVER_NAME = f"{SERVICE}.{NAMESPACE}.svc"

_API_SERVICE = "v1.image.openshift.io"
_API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
_API = "/apis/image.openshift.io/v1"
_LIMIT = 30.0


def admin_client(plane: ControlPlane) -> httpx.Client:
    """Return a client of the API server with all rights."""
    return httpx.Client(
        base_url=plane.url,
        trust_env=False,
        verify=ssl.create_default_context(cafile=str(plane.ca_file)),
        headers={"Authorization": f"Bearer {plane.admin_token}"},
        timeout=_LIMIT,
    )


@contextmanager
def registered(plane: ControlPlane, url: str, authority: CertificateAuthority) -> Iterator[None]:
    """Let the API server pass requests for image.openshift.io on to `url`; at the end it forgets the API."""
    with admin_client(plane) as client:
        _create(client, "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
        spec = {"type": "ExternalName", "externalName": "localhost"}
        service = {"kind": "Service", "metadata": {"name": SERVICE}, "spec": spec}
        _create(client, f"/api/v1/namespaces/{NAMESPACE}/services", service)
        client.post(_API_SERVICES, json=_api_service(url, authority)).raise_for_status()
        try:
            wait_until(lambda: _available(client), _LIMIT, "image.openshift.io behind the API server")
            yield
        finally:
            client.delete(f"{_API_SERVICES}/{_API_SERVICE}").raise_for_status()
            # Who comes next is on a cluster that is not OpenShift.
            wait_until(lambda: client.get(_API).status_code == 404, _LIMIT, "the end of image.openshift.io")


def _api_service(url: str, authority: CertificateAuthority) -> dict[str, Any]:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": _API_SERVICE},
        "spec": {
            "group": "image.openshift.io",
            "version": "v1",
            "groupPriorityMinimum": 9900,
            "versionPriority": 15,
            "service": {"namespace": NAMESPACE, "name": SERVICE, "port": urlsplit(url).port},
            "caBundle": base64.b64encode(authority.ca_file.read_bytes()).decode(),
        },
    }


def _create(client: httpx.Client, path: str, document: dict[str, Any]) -> None:
    """Create what may be there from the time before."""
    answer = client.post(path, json={"apiVersion": "v1", **document})
    if answer.status_code != 409:
        answer.raise_for_status()


def _available(client: httpx.Client) -> bool:
    conditions = client.get(f"{_API_SERVICES}/{_API_SERVICE}").json().get("status", {}).get("conditions", [])
    return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)
