"""Images of the tests, pushed over the registry's HTTP API, and crane to look at the result.

Neither uses the operator's own client: a mistake there must not hide itself. An image's digest depends on
nothing but the arguments; two images with the same arguments are one image, which `seed` avoids.
"""

import hashlib
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES: Final = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)

_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_DEFAULT_CREATED = datetime(2026, 1, 1, tzinfo=UTC)

Auth = tuple[str, str] | httpx.Auth | None


@dataclass(frozen=True)
class Target:
    """A repository to push to.

    Attributes:
        base_url: Of the registry, without `/v2/`.
        repository: Name within the registry.
        auth: What httpx authenticates with.
        verify: Trust for https; plain http needs none.
    """

    base_url: str
    repository: str
    auth: Auth = None
    verify: ssl.SSLContext | bool = False

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.base_url}/v2/{self.repository}/",
            auth=self.auth,
            verify=self.verify,
            trust_env=False,
            timeout=30,
        )


def push_image(
    base_url: str,
    repository: str,
    tags: Sequence[str] = (),
    *,
    created: datetime | str | None = _DEFAULT_CREATED,
    platform: str = "linux/amd64",
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    subject: str | None = None,
    artifact_type: str | None = None,
    seed: str = "",
    auth: Auth = None,
    verify: ssl.SSLContext | bool = False,
) -> str:
    """Push an image of one tiny layer and return its digest.

    Args:
        base_url: The registry, without `/v2/`.
        repository: Name within the registry.
        tags: Its tags; without any it is pushed by digest and stays untagged.
        created: Into the config; a string goes in as it is, None leaves the field out.
        platform: `os/architecture` in the config.
        docker: Docker's media types rather than OCI's.
        annotations: Of the manifest.
        labels: Of the config.
        subject: Digest of a manifest of the same repository, which this one then refers to.
        artifact_type: The manifest's `artifactType`.
        seed: Makes the content distinct.
        auth: What httpx authenticates with.
        verify: Trust for https.
    """
    system, architecture = platform.split("/")
    with Target(base_url, repository, auth, verify).client() as client:
        layer = _push_blob(client, f"layer of {seed}".encode(), _DOCKER_LAYER if docker else _OCI_LAYER)
        config: dict[str, Any] = {
            "architecture": architecture,
            "os": system,
            "config": {"Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        if created is not None:
            config["created"] = created if isinstance(created, str) else _rfc3339(created)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": _push_blob(client, _encoded(config), _DOCKER_CONFIG if docker else _OCI_CONFIG),
            "layers": [layer],
        }
        if artifact_type is not None:
            manifest["artifactType"] = artifact_type
        if annotations is not None:
            manifest["annotations"] = dict(annotations)
        if subject is not None:
            manifest["subject"] = _descriptor(client, subject)
        return _push_manifest(client, tags, _encoded(manifest), manifest["mediaType"])


def push_index(
    base_url: str,
    repository: str,
    tags: Sequence[str] = (),
    *,
    children: Sequence[str],
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
    subject: str | None = None,
    auth: Auth = None,
    verify: ssl.SSLContext | bool = False,
) -> str:
    """Push an OCI index, or a Docker manifest list, of children that the repository has; return its digest.

    A child's platform is read from its config, as `docker buildx` writes it.
    """
    with Target(base_url, repository, auth, verify).client() as client:
        index: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_LIST if docker else OCI_INDEX,
            "manifests": [_descriptor(client, child, with_platform=True) for child in children],
        }
        if annotations is not None:
            index["annotations"] = dict(annotations)
        if subject is not None:
            index["subject"] = _descriptor(client, subject)
        return _push_manifest(client, tags, _encoded(index), index["mediaType"])


def push_raw_manifest(
    base_url: str,
    repository: str,
    tags: Sequence[str],
    content: bytes | Mapping[str, Any],
    media_type: str,
    *,
    auth: Auth = None,
    verify: ssl.SSLContext | bool = False,
) -> str:
    """Push a manifest byte for byte, or as JSON, and return its digest; what it names must be there."""
    body = content if isinstance(content, bytes) else _encoded(content)
    with Target(base_url, repository, auth, verify).client() as client:
        return _push_manifest(client, tags, body, media_type)


def push_blob(
    base_url: str,
    repository: str,
    content: bytes,
    media_type: str,
    *,
    auth: Auth = None,
    verify: ssl.SSLContext | bool = False,
) -> dict[str, Any]:
    """Push a blob and return its descriptor."""
    with Target(base_url, repository, auth, verify).client() as client:
        return _push_blob(client, content, media_type)


def _push_blob(client: httpx.Client, content: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(content)
    if not client.head(f"blobs/{digest}").is_success:
        upload = client.post("blobs/uploads/").raise_for_status()
        place = upload.url.join(upload.headers["Location"]).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        client.put(place, content=content, headers=headers).raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _push_manifest(client: httpx.Client, tags: Sequence[str], content: bytes, media_type: str) -> str:
    digest = _digest(content)
    for place in tags or [digest]:
        answer = client.put(f"manifests/{place}", content=content, headers={"Content-Type": media_type})
        if not answer.is_success:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
    return digest


def _descriptor(client: httpx.Client, digest: str, *, with_platform: bool = False) -> dict[str, Any]:
    answer = client.get(f"manifests/{digest}", headers={"Accept": ", ".join(MANIFEST_TYPES)})
    manifest = answer.raise_for_status().json()
    found: dict[str, Any] = {
        "mediaType": manifest["mediaType"],
        "digest": digest,
        "size": len(answer.content),
    }
    if with_platform and "config" in manifest:
        config = client.get(f"blobs/{manifest['config']['digest']}").raise_for_status().json()
        if "architecture" in config:
            found["platform"] = {"architecture": config["architecture"], "os": config["os"]}
    return found


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
