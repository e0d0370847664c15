"""What an OpenShift cluster says of its registry: the hosts that it has, and who prunes its images."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.controlplane import ControlPlane

_STRING = {"type": "string"}
_CONDITION_KEYS = ("type", "status", "lastTransitionTime", "reason", "message")


def set_image_config(control_plane: ControlPlane, *, internal: str | None = None, external: Sequence[str] = ()) -> None:
    """Say in `images.config.openshift.io/cluster` which hosts are the cluster's registry.

    The first call installs a minimal definition of that resource; every call replaces the whole status.
    """
    properties = {
        "internalRegistryHostname": _STRING,
        "externalRegistryHostnames": {"type": "array", "items": _STRING},
    }
    definition = _definition("config.openshift.io", "Image", "images", {"type": "object"}, properties)
    status = {"internalRegistryHostname": internal, "externalRegistryHostnames": list(external) or None}
    _set(control_plane, definition, {}, status)


def set_image_pruner(
    control_plane: ControlPlane,
    *,
    suspend: bool | None = False,
    schedule: str = "",
    keep_tag_revisions: int | None = 3,
    keep_younger_than: str | None = None,
    conditions: Sequence[Mapping[str, str]] = (),
) -> None:
    """Say in `imagepruners.imageregistry.operator.openshift.io/cluster` whether the cluster prunes its images.

    The first call installs a minimal definition of that resource; every call replaces spec and status. None
    leaves a field out. Facts: `facts/registries.md` section 4.

    Args:
        control_plane: Which cluster.
        suspend: Whether it does not.
        schedule: Of cron; empty is what the cluster's operator takes for midnight.
        keep_tag_revisions: How many items of a tag's history stay.
        keep_younger_than: A duration.
        conditions: Of the status; a type and a status are enough.
    """
    definition = _definition(
        "imageregistry.operator.openshift.io",
        "ImagePruner",
        "imagepruners",
        {
            "type": "object",
            "properties": {
                "suspend": {"type": "boolean"},
                "schedule": _STRING,
                "keepTagRevisions": {"type": "integer"},
                "keepYoungerThanDuration": _STRING,
                "ignoreInvalidImageReferences": {"type": "boolean"},
                "logLevel": {"type": "string", "default": "Normal"},
            },
        },
        {
            "observedGeneration": {"type": "integer"},
            "conditions": {
                "type": "array",
                "items": {"type": "object", "properties": dict.fromkeys(_CONDITION_KEYS, _STRING)},
            },
        },
    )
    spec = {
        "suspend": suspend,
        "schedule": schedule,
        "keepTagRevisions": keep_tag_revisions,
        "keepYoungerThanDuration": keep_younger_than,
        "ignoreInvalidImageReferences": True,
    }
    defaults = {"lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "AsExpected", "message": ""}
    status = {"conditions": [{**defaults, **condition} for condition in conditions] or None}
    _set(control_plane, definition, {key: value for key, value in spec.items() if value is not None}, status)


def _definition(
    group: str, kind: str, plural: str, spec: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    properties = {"spec": spec, "status": {"type": "object", "properties": status}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": "Cluster",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                }
            ],
        },
    }


def _set(
    control_plane: ControlPlane, definition: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]
) -> None:
    """Give the resource `cluster` of a definition this spec and status."""
    plural = definition["metadata"]["name"]
    document = {
        "apiVersion": f"{definition['spec']['group']}/v1",
        "kind": definition["spec"]["names"]["kind"],
        "metadata": {"name": "cluster"},
        "spec": spec,
    }
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(definition))
    control_plane.wait_for_crds(plural)
    # The server is to do it, unvalidated: kubectl would wait seconds for the new resource's schema.
    control_plane.kubectl("apply", "--server-side", "--validate=false", "-f", "-", stdin=json.dumps(document))
    patch = json.dumps({"status": status})
    control_plane.kubectl("patch", f"{plural}/cluster", "--subresource=status", "--type=merge", f"--patch={patch}")
