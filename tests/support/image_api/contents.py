"""Manifests and configs as a client would push them, made without pushing; their digests are true."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_OCI = (OCI_MANIFEST, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
_DOCKER = (
    DOCKER_MANIFEST,
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a manifest's digest names.

    Attributes:
        digest: Of the manifest.
        media_type: Of the manifest.
        body: The manifest itself.
        config_digest: Empty for an index.
        config: The config itself; empty for an index.
    """

    digest: str
    media_type: str
    body: bytes
    config_digest: str = ""
    config: bytes = b""

    @property
    def manifest(self) -> Document:
        manifest: Document = json.loads(self.body)
        return manifest

    @property
    def children(self) -> list[str]:
        if not self.is_index:
            return []
        return [child["digest"] for child in self.manifest["manifests"]]

    @property
    def is_index(self) -> bool:
        return self.media_type in {OCI_INDEX, DOCKER_LIST}


def image_content(
    *,
    seed: str,
    built: datetime | None,
    platform: str = "linux/amd64",
    labels: Mapping[str, str] | None = None,
    layers: Sequence[int] = (32,),
    docker: bool = False,
) -> Content:
    """Make an image; `layers` are sizes, for nobody reads what is in them."""
    manifest_type, config_type, layer_type = _DOCKER if docker else _OCI
    system, architecture = platform.split("/")
    described = [
        {"mediaType": layer_type, "digest": digest_of(f"layer {number} of {seed}".encode()), "size": size}
        for number, size in enumerate(layers)
    ]
    config: Document = {
        "architecture": architecture,
        "os": system,
        "config": {"Cmd": ["/bin/true"], "Labels": dict(labels or {})},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in described]},
    }
    if built is not None:
        config["created"] = built.astimezone(UTC).isoformat().replace("+00:00", "Z")
    encoded_config = _encoded(config)
    config_digest = digest_of(encoded_config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": config_digest, "size": len(encoded_config)},
        "layers": described,
    }
    body = _encoded(manifest)
    return Content(digest_of(body), manifest_type, body, config_digest, encoded_config)


def index_content(children: Sequence[Content], *, docker: bool = False) -> Content:
    media_type = DOCKER_LIST if docker else OCI_INDEX
    manifests = []
    for child in children:
        described: Document = {"mediaType": child.media_type, "digest": child.digest, "size": len(child.body)}
        if child.config:
            config = json.loads(child.config)
            described["platform"] = {"architecture": config["architecture"], "os": config["os"]}
        manifests.append(described)
    body = _encoded({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})
    return Content(digest_of(body), media_type, body)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
