"""The API's documents, in the shapes that `facts/openshift.md` section 6 measured."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.support.image_api.contents import Content, Document

API_VERSION = "image.openshift.io/v1"
_METADATA_VERSION = "image.openshift.io/1.0"
# What an image's metadata is where the API did not look: LIST imagestreamtags.
_ZERO_METADATA: Mapping[str, Any] = {
    "kind": "DockerImage",
    "apiVersion": _METADATA_VERSION,
    "Id": "",
    "Created": None,
    "ContainerConfig": {},
}

SUCCESS: Mapping[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def timestamp(moment: datetime) -> str:
    """Write a time as the API does: to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_document(
    content: Content, reference: str, *, uid: str, resource_version: int, created: datetime, managed: bool
) -> Document:
    """Return an Image object, `created` being the moment when it was pushed or imported."""
    annotations = {
        **({"openshift.io/image.managed": "true"} if managed else {}),
        "image.openshift.io/dockerLayersOrder": "ascending",
        "image.openshift.io/manifestBlobStored": "true",
    }
    described = _index_metadata(content, created) if content.is_index else _image_metadata(content)
    return {
        "metadata": {
            "name": content.digest,
            "uid": uid,
            "resourceVersion": str(resource_version),
            "creationTimestamp": timestamp(created),
            "annotations": annotations,
        },
        "dockerImageReference": reference,
        "dockerImageMetadataVersion": "1.0",
        **described,
        "dockerImageManifestMediaType": content.media_type,
    }


def _image_metadata(content: Content) -> Document:
    manifest, config = content.manifest, json.loads(content.config)
    layers = [
        {"name": layer["digest"], "size": layer["size"], "mediaType": layer["mediaType"]}
        for layer in manifest["layers"]
    ]
    built = config.get("created")
    metadata = {
        "kind": "DockerImage",
        "apiVersion": _METADATA_VERSION,
        "Id": content.config_digest,
        "Created": None if built is None else timestamp(datetime.fromisoformat(built)),
        "ContainerConfig": {},
        "Config": config["config"],
        "Architecture": config["architecture"],
        "Size": manifest["config"]["size"] + sum(layer["size"] for layer in layers),
    }
    return {"dockerImageMetadata": metadata, "dockerImageLayers": layers}


def _index_metadata(content: Content, created: datetime) -> Document:
    """Describe an index, of which the API knows no build time, size or config."""
    metadata = {**_ZERO_METADATA, "Id": content.digest, "Created": timestamp(created)}
    manifests = [
        {
            "digest": child["digest"],
            "mediaType": child["mediaType"],
            "manifestSize": child["size"],
            "architecture": child.get("platform", {}).get("architecture", ""),
            "os": child.get("platform", {}).get("os", ""),
        }
        for child in content.manifest["manifests"]
    ]
    return {"dockerImageMetadata": metadata, "dockerImageManifests": manifests}


def tag_event(digest: str, reference: str, created: datetime, generation: int) -> Document:
    moment = timestamp(created)
    return {"created": moment, "dockerImageReference": reference, "image": digest, "generation": generation}


def failed_condition(reason: str, message: str, moment: datetime, generation: int) -> Document:
    return {
        "type": "ImportSuccess",
        "status": "False",
        "lastTransitionTime": timestamp(moment),
        "reason": reason,
        "message": message,
        "generation": generation,
    }


def bare_image(item: Mapping[str, Any]) -> Document:
    """Return an image as LIST imagestreamtags shows it: its name and nothing of its metadata."""
    return {
        "metadata": {"name": item["image"]},
        "dockerImageReference": item["dockerImageReference"],
        "dockerImageMetadata": _ZERO_METADATA,
        "dockerImageMetadataVersion": "1.0",
        "dockerImageLayers": None,
    }
