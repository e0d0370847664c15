"""The hosts that are OpenShift's own registry, as a cluster says them in `images.config.openshift.io`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.controlplane import ControlPlane

_IMAGE_CONFIG_CRD: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "images.config.openshift.io"},
    "spec": {
        "group": "config.openshift.io",
        "names": {"kind": "Image", "listKind": "ImageList", "plural": "images", "singular": "image"},
        "scope": "Cluster",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object"},
                            "status": {
                                "type": "object",
                                "properties": {
                                    "internalRegistryHostname": {"type": "string"},
                                    "externalRegistryHostnames": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def set_image_config(control_plane: ControlPlane, *, internal: str | None = None, external: Sequence[str] = ()) -> None:
    """Say in `images.config.openshift.io/cluster` which hosts are the cluster's registry.

    The first call installs a minimal definition of that resource; every call replaces the whole status.
    """
    crd = "customresourcedefinition/images.config.openshift.io"
    image = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Image",
        "metadata": {"name": "cluster"},
        "spec": {},
    }
    status = {"internalRegistryHostname": internal, "externalRegistryHostnames": list(external) or None}
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(_IMAGE_CONFIG_CRD))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", crd)
    # The server is to do it, unvalidated: kubectl would wait seconds for the new resource's schema.
    control_plane.kubectl("apply", "--server-side", "--validate=false", "-f", "-", stdin=json.dumps(image))
    patch = json.dumps({"status": status})
    name = "images.config.openshift.io/cluster"
    control_plane.kubectl("patch", name, "--subresource=status", "--type=merge", f"--patch={patch}")
