"""What makes a control plane an OpenShift cluster to a policy: image streams, their registry, and ready Roles."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.image_api import ImageApi
from tests.support.image_api.registration import admin_client
from tests.support.image_api.standin import image_api
from tests.support.openshift import OpenShiftRegistry, openshift_registry
from tests.support.openshift_config import set_image_config
from tests.support.operator import REPOSITORY_ROOT
from tests.support.processes import wait_until

ACCOUNT = "pruner"
# The ClusterRoles of manifests/openshift, with a right by which each shows that it is in force.
TAGS_ROLE = "registry-cleanup-image-tags"
STATUS_ROLE = "registry-cleanup-image-status"
_SHOWN_BY = {TAGS_ROLE: ("delete", "imagestreamtags", ""), STATUS_ROLE: ("update", "imagestreams", "status")}
# Where the service CA operator puts its certificate into each namespace.
SERVICE_CA, SERVICE_CA_KEY = "openshift-service-ca.crt", "service-ca.crt"
_LIMIT = 10.0


# What the operator looks at with its own account: whether there are image streams, and which images they refer to.
LOOKED_AT = {"/apis/image.openshift.io/v1", "/apis/image.openshift.io/v1/imagestreams"}


@dataclass(frozen=True)
class OpenShiftCluster:
    """A control plane with image streams.

    Attributes:
        plane: Its API server.
        images: The image streams.
        registry: The integrated registry before them.
        authority: Who issued the registry's certificate.
    """

    plane: ControlPlane
    images: ImageApi
    registry: OpenShiftRegistry
    authority: CertificateAuthority = field(repr=False)

    def name_registry(self) -> None:
        """Let the cluster name its registry as that of its services, and no other."""
        set_image_config(self.plane, internal=self.registry.host)

    @property
    def service_ca(self) -> dict[str, str]:
        """Return the data of the ConfigMap with the CA of the cluster's services."""
        return {SERVICE_CA_KEY: self.authority.ca_file.read_text()}

    def bind(self, role: str, account: str, *namespaces: str) -> None:
        """Bind a ready ClusterRole to `account` (`namespace:name`), as docs/openshift.md says."""
        for namespace in namespaces:
            name, to = f"{role}-{account.replace(':', '-')}", f"--serviceaccount={account}"
            self.plane.kubectl("create", "rolebinding", name, f"--clusterrole={role}", to, "-n", namespace)
        self.await_right(account, *_SHOWN_BY[role], *namespaces)

    def await_right(self, account: str, verb: str, resource: str, subresource: str, *namespaces: str) -> None:
        """Wait until the API server acts on what was granted to `account`."""
        user = f"system:serviceaccount:{account}"
        of = {"group": "image.openshift.io", "resource": resource, "subresource": subresource, "verb": verb}
        with admin_client(self.plane) as client:

            def allowed(namespace: str) -> bool:
                spec = {"user": user, "resourceAttributes": {**of, "namespace": namespace}}
                review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
                path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
                answer: dict[str, Any] = client.post(path, json=review).raise_for_status().json()
                return bool(answer["status"]["allowed"])

            wait_until(lambda: all(map(allowed, namespaces)), _LIMIT, f"{verb} {resource} for {account}")


@contextmanager
def openshift_cluster(plane: ControlPlane, folder: Path) -> Iterator[OpenShiftCluster]:
    """Make `plane` an OpenShift cluster with our manifests; one at a time on a plane."""
    plane.kubectl("apply", "-k", str(REPOSITORY_ROOT / "manifests" / "openshift"))
    authority = certificate_authority(folder / "service-ca")
    certificate = authority.issue("127.0.0.1", "localhost")
    with (
        image_api(plane, folder / "images") as images,
        openshift_registry(images, plane, certificate) as registry,
    ):
        cluster = OpenShiftCluster(plane, images, registry, authority)
        cluster.name_registry()
        try:
            yield cluster
        finally:
            set_image_config(plane)
