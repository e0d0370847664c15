"""What an administrator of a cluster can do to an operator by the API server's and etcd's own means."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.controlplane import ControlPlane
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT
from tests.support.processes import wait_until

_LIMIT = 30.0
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@contextmanager
def administrator(plane: ControlPlane) -> Iterator[httpx.Client]:
    """Open a client of the API server that may do everything."""
    trust = ssl.create_default_context(cafile=str(plane.ca_file))
    token = {"Authorization": f"Bearer {plane.admin_token}"}
    with httpx.Client(base_url=plane.url, headers=token, verify=trust, trust_env=False, timeout=20) as admin:
        yield admin


@contextmanager
def full_etcd(plane: ControlPlane) -> Iterator[None]:
    """Let etcd say that its space is used up, and take nothing more."""
    with httpx.Client(base_url=plane.etcd_url, trust_env=False) as etcd:
        members = etcd.post("/v3/cluster/member/list", json={}).raise_for_status().json()["members"]
        alarm = {"memberID": members[0]["ID"], "alarm": "NOSPACE"}
        etcd.post("/v3/maintenance/alarm", json={"action": "ACTIVATE", **alarm}).raise_for_status()
        try:
            yield
        finally:
            etcd.post("/v3/maintenance/alarm", json={"action": "DEACTIVATE", **alarm}).raise_for_status()


@contextmanager
def no_rights(plane: ControlPlane) -> Iterator[None]:
    """Take the operator's ClusterRoleBinding away."""
    path = f"{_RBAC}/clusterrolebindings/registry-cleanup-operator"
    with administrator(plane) as admin:
        binding = admin.get(path).raise_for_status().json()
        admin.delete(path).raise_for_status()
        wait_until(lambda: not _may_read(admin), _LIMIT, "the end of the operator's rights")
        try:
            yield
        finally:
            made = {"metadata": {"name": binding["metadata"]["name"]}}
            for part in ("roleRef", "subjects"):
                made[part] = binding[part]
            admin.post(f"{_RBAC}/clusterrolebindings", json=made).raise_for_status()
            wait_until(lambda: _may_read(admin), _LIMIT, "the operator's rights")


def _may_read(admin: httpx.Client) -> bool:
    attributes = {"group": "registrycleanup.dev", "resource": "registrycleanuppolicies", "verb": "get"}
    spec = {"user": f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}", "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    allowed: bool = admin.post(_REVIEWS, json=review).raise_for_status().json()["status"]["allowed"]
    return allowed
