"""What stands behind the stand-in for OpenShift's registry: the real API server, and where its images are.

These are either those of a real Distribution, or those of the stand-in for `image.openshift.io`, in memory.
"""

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import ClientError, hdrs, web
from multidict import CIMultiDict

from tests.support.controlplane import ControlPlane
from tests.support.http import Answer, Upstream
from tests.support.image_api.contents import digest_of
from tests.support.image_api.store import Store
from tests.support.image_api.streams import Stream
from tests.support.images import MANIFEST_TYPES

_CATALOG_LIMIT = 1000


# The API server


class UnavailableError(Exception):
    """The API server did not answer."""


class NotAStreamError(Exception):
    """A repository's name is not `namespace/name`."""


@dataclass(frozen=True)
class Want:
    """What a request wants to do, in the words of the registry's answer.

    Attributes:
        type: Of what: `repository` or `registry`.
        name: Of the repository, or `catalog`.
        action: `pull`, `push`, `delete` or `*`.
    """

    type: str
    name: str
    action: str

    @property
    def detail(self) -> dict[str, str]:
        return {"Type": self.type, "Class": "", "Name": self.name, "Action": self.action}

    @property
    def attributes(self) -> dict[str, str]:
        """Return the resource attributes that the registry asks the API server about."""
        group = {"group": "image.openshift.io"}
        if self.type == "registry":
            return {**group, "resource": "imagestreams", "verb": "list"}
        if self.action == "delete":
            # Cluster-wide: a Role in the stream's namespace does not suffice.
            return {**group, "resource": "images", "verb": "delete"}
        namespace, name = self.name.split("/")
        verb = "update" if self.action == "push" else "get"
        # The registry sends the subresource as a part of the resource's name.
        resource = {"resource": "imagestreams/layers", "namespace": namespace, "name": name}
        return {**group, **resource, "verb": verb}


class ApiServer:
    """What the registry asks the real API server, each time anew and with its caller's own token."""

    def __init__(self, control_plane: ControlPlane) -> None:
        trust = ssl.create_default_context(cafile=str(control_plane.ca_file))
        self._server = Upstream(control_plane.url, trust=trust)
        self._admin_token = control_plane.admin_token

    async def review(self, token: str) -> Answer:
        """Ask who the token's owner is; 201 is a good token."""
        return await self._create("authentication.k8s.io", "SelfSubjectReview", {}, token)

    async def allows(self, token: str, want: Want) -> bool:
        spec: dict[str, Any] = {"resourceAttributes": want.attributes}
        if token:
            answer = await self._create("authorization.k8s.io", "SelfSubjectAccessReview", spec, token)
        else:
            # Nobody may ask about itself only when logged in: the registry asks for those who are not.
            spec |= {"user": "system:anonymous", "groups": ["system:unauthenticated"]}
            answer = await self._create("authorization.k8s.io", "SubjectAccessReview", spec, self._admin_token)
        if answer.status != 201:
            return False
        allowed: bool = json.loads(answer.body)["status"]["allowed"]
        return allowed

    async def _create(self, group: str, kind: str, spec: Mapping[str, Any], token: str) -> Answer:
        body = {"apiVersion": f"{group}/v1", "kind": kind, **({"spec": spec} if spec else {})}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        target = f"/apis/{group}/v1/{kind.lower()}s"
        try:
            return await self._server.send("POST", target, headers=headers, body=json.dumps(body).encode())
        except (ClientError, TimeoutError) as error:
            raise UnavailableError from error


# The images behind


class Behind(Protocol):
    """Where image streams and their manifests come from; a name is `namespace/name`."""

    async def names(self) -> list[str]:
        """Return the names of all streams, sorted."""

    async def tags(self, name: str) -> list[str] | None:
        """Return all tags, or None where there is no such stream."""

    async def refer_to(self, name: str, digest: str, tags: Sequence[str]) -> bool:
        """Tell whether the stream keeps the digest: for reading, and from deletion."""

    async def manifest(self, request: web.Request, name: str, reference: str) -> Answer:
        """Answer a GET or HEAD of what a tag or a digest of the stream names."""

    async def blob(self, request: web.Request, name: str, digest: str) -> Answer:
        """Answer a GET or HEAD."""

    async def delete(self, request: web.Request, name: str, digest: str) -> Answer:
        """Answer the DELETE of a manifest that the stream does not keep."""


class RegistryBehind:
    """Repositories of a real registry, read as image streams."""

    def __init__(self, url: str) -> None:
        self._registry = Upstream(url)
        self._children: dict[str, frozenset[str]] = {}
        self._last_seen_at: dict[tuple[str, str], str] = {}

    async def manifest(self, request: web.Request, name: str, reference: str) -> Answer:
        del name, reference  # the path has them
        return await self._forward(request)

    async def blob(self, request: web.Request, name: str, digest: str) -> Answer:
        del name, digest
        return await self._forward(request)

    async def delete(self, request: web.Request, name: str, digest: str) -> Answer:
        del name, digest
        return await self._forward(request)

    async def _forward(self, request: web.Request) -> Answer:
        # The registry behind knows nothing of the cluster's tokens.
        return await self._registry.forward(request, without=["Authorization"])

    async def names(self) -> list[str]:
        found: list[str] = []
        target = f"/v2/_catalog?n={_CATALOG_LIMIT}"
        while target:
            answer = await self._registry.send("GET", target)
            found += json.loads(answer.body)["repositories"]
            link = re.match(r"<([^>]*)>", answer.headers.get("Link", ""))
            target = link[1] if link else ""
        return sorted(name for name in found if is_stream(name))

    async def tags(self, name: str) -> list[str] | None:
        answer = await self._registry.send("GET", f"/v2/{name}/tags/list")
        if answer.status == 404:
            return None
        return json.loads(answer.body)["tags"] or []

    async def refer_to(self, name: str, digest: str, tags: Sequence[str]) -> bool:
        # The tag that named it last most likely still does, which saves asking for all of them.
        first = self._last_seen_at.get((name, digest))
        for tag in sorted(tags, key=lambda tag: tag != first):
            current = await self._digest(name, tag)
            if current and (current == digest or digest in await self._listed(name, current)):
                self._last_seen_at[name, digest] = tag
                return True
        return False

    async def _digest(self, name: str, tag: str) -> str | None:
        answer = await self._ask("HEAD", name, tag)
        return answer.headers.get("Docker-Content-Digest")

    async def _listed(self, name: str, digest: str) -> frozenset[str]:
        if digest not in self._children:
            manifest = json.loads((await self._ask("GET", name, digest)).body)
            self._children[digest] = frozenset(child["digest"] for child in manifest.get("manifests", []))
        return self._children[digest]

    async def _ask(self, method: str, name: str, reference: str) -> Answer:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        return await self._registry.send(method, f"/v2/{name}/manifests/{reference}", headers=headers)


class StreamsBehind:
    """The image streams of the stand-in for `image.openshift.io`, and what was pushed or imported there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def names(self) -> list[str]:
        with self._store.locked():
            return sorted("/".join(key) for key in self._store.streams)

    async def tags(self, name: str) -> list[str] | None:
        with self._store.locked():
            stream = self._stream(name)
            # Section 3: a tag whose import failed is none; one whose Image object is gone is one.
            return None if stream is None else [tag for tag in stream.status_tags if stream.items(tag)]

    async def refer_to(self, name: str, digest: str, tags: Sequence[str]) -> bool:
        del tags  # a history may name what no tag names now
        with self._store.locked():
            stream = self._stream(name)
            return stream is not None and self._store.serves(stream, digest)

    async def manifest(self, request: web.Request, name: str, reference: str) -> Answer:
        del request
        with self._store.locked():
            stream = self._stream(name)
            item = None if stream is None else stream.current(reference)
            digest = reference if item is None else item["image"]
            content = self._store.contents.get(digest)
            image = self._store.images.get(digest)
            if content is None or image is None:
                return _unknown("MANIFEST_UNKNOWN", "manifest unknown", {"Tag": reference})
            if "openshift.io/image.managed" not in image["metadata"]["annotations"]:
                self._store.pulled_through.append((name, digest))
                self._store.links.add((name, digest))
        headers = {hdrs.CONTENT_TYPE: content.media_type, "Docker-Content-Digest": digest}
        return Answer(200, content.body, CIMultiDict(headers))

    async def blob(self, request: web.Request, name: str, digest: str) -> Answer:
        del request, name
        body = self._store.blobs.get(digest)
        if body is None:
            return _unknown("BLOB_UNKNOWN", "blob unknown to registry", digest)
        headers = {hdrs.CONTENT_TYPE: "application/octet-stream", "Docker-Content-Digest": digest_of(body)}
        return Answer(200, body, CIMultiDict(headers))

    async def delete(self, request: web.Request, name: str, digest: str) -> Answer:
        del request
        with self._store.locked():
            # Section 4: without the manifest the link can no longer be found, though it is there.
            if (name, digest) not in self._store.links or digest not in self._store.contents:
                return Answer(404)
            self._store.links.remove((name, digest))
        return Answer(202)

    def _stream(self, name: str) -> Stream | None:
        namespace, _, stream = name.partition("/")
        return self._store.streams.get((namespace, stream))


def _unknown(code: str, message: str, detail: object) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()
    return Answer(404, body, CIMultiDict({hdrs.CONTENT_TYPE: "application/json"}))


def is_stream(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts)
