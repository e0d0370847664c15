"""What stands behind the stand-in for OpenShift's registry: the real API server and a real Distribution."""

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, web

from tests.support.controlplane import ControlPlane
from tests.support.http import Answer, Upstream
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


# The registry behind


class Streams:
    """Repositories of the registry behind, read as image streams."""

    def __init__(self, url: str) -> None:
        self._registry = Upstream(url)
        self._children: dict[str, frozenset[str]] = {}
        self._last_seen_at: dict[tuple[str, str], str] = {}

    async def forward(self, request: web.Request) -> Answer:
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
        """Return all tags, or None where there is no such stream."""
        answer = await self._registry.send("GET", f"/v2/{name}/tags/list")
        if answer.status == 404:
            return None
        return json.loads(answer.body)["tags"] or []

    async def refer_to(self, name: str, digest: str, tags: Sequence[str]) -> bool:
        """Tell whether one of the tags names the digest, or an index that lists it."""
        # The tag that named it last most likely still does, which saves asking for all of them.
        first = self._last_seen_at.get((name, digest))
        for tag in sorted(tags, key=lambda tag: tag != first):
            current = await self._digest(name, tag)
            if current and (current == digest or digest in await self._listed(name, current)):
                self._last_seen_at[name, digest] = tag
                return True
        return False

    async def _digest(self, name: str, tag: str) -> str | None:
        answer = await self._manifest("HEAD", name, tag)
        return answer.headers.get("Docker-Content-Digest")

    async def _listed(self, name: str, digest: str) -> frozenset[str]:
        if digest not in self._children:
            manifest = json.loads((await self._manifest("GET", name, digest)).body)
            self._children[digest] = frozenset(child["digest"] for child in manifest.get("manifests", []))
        return self._children[digest]

    async def _manifest(self, method: str, name: str, reference: str) -> Answer:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        return await self._registry.send(method, f"/v2/{name}/manifests/{reference}", headers=headers)


def is_stream(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts)
