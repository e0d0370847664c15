"""Rights on image streams, level by level, granted to a ServiceAccount. `facts/openshift.md` sections 8 and 12."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane
from tests.support.image_api.registration import admin_client
from tests.support.processes import wait_until

_RBAC = "rbac.authorization.k8s.io"
_GROUP = "image.openshift.io"
_LIMIT = 10.0


@dataclass(frozen=True)
class Level:
    """Some rights that go together.

    Attributes:
        name: Of its Role or ClusterRole.
        rules: Verbs by resource.
        cluster: Granted for the whole cluster rather than for namespaces.
    """

    name: str
    rules: Mapping[str, Sequence[str]]
    cluster: bool = False


# What a policy needs; a project's administrator can grant it.
LEAST = Level("least", {"imagestreams": ["get", "list"], "imagestreamtags": ["get", "delete"]})
# Only the cluster's administrator can grant the next two.
STATUS = Level("status", {"imagestreams/status": ["update"]})
DELETE_IMAGES = Level("delete-images", {"images": ["delete"]}, cluster=True)
# What the registry asks for before it shows tags and manifests.
PULL = Level("pull", {"imagestreams/layers": ["get"]})
LIST_EVERYWHERE = Level("list-everywhere", {"imagestreams": ["list"]}, cluster=True)


def grant(plane: ControlPlane, level: Level, account: tuple[str, str], *namespaces: str) -> None:
    """Grant a level to a ServiceAccount, made where it is missing; return when the API server acts on it.

    Args:
        plane: Whose API server.
        level: Which rights.
        account: Namespace, which must be there, and name.
        namespaces: Where the rights hold; none are needed for a level of the cluster.
    """
    service_account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(account[1], account[0])}
    objects = [service_account]
    for namespace in _places(level, namespaces):
        objects += _role_and_binding(level, account, namespace)
    _kubectl(plane, "apply", objects)
    _wait(plane, level, account, namespaces, allowed=True)


def revoke(plane: ControlPlane, level: Level, account: tuple[str, str], *namespaces: str) -> None:
    """Take back what `grant` granted with the same arguments; return when the API server acts on it."""
    bindings = [_role_and_binding(level, account, namespace)[1] for namespace in _places(level, namespaces)]
    _kubectl(plane, "delete", bindings)
    _wait(plane, level, account, namespaces, allowed=False)


def _places(level: Level, namespaces: Sequence[str]) -> Sequence[str | None]:
    return [None] if level.cluster else namespaces


def _role_and_binding(level: Level, account: tuple[str, str], namespace: str | None) -> list[dict[str, Any]]:
    prefix = "Cluster" if namespace is None else ""
    rules = [{"apiGroups": [_GROUP], "resources": [name], "verbs": verbs} for name, verbs in level.rules.items()]
    role_name = f"test-images-{level.name}"
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{prefix}Role",
        "metadata": _named(role_name, namespace),
        "rules": rules,
    }
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{prefix}RoleBinding",
        "metadata": _named(f"{role_name}-{account[0]}-{account[1]}", namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": f"{prefix}Role", "name": role_name},
        "subjects": [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}],
    }
    return [role, binding]


def _named(name: str, namespace: str | None) -> dict[str, str]:
    return {"name": name, **({} if namespace is None else {"namespace": namespace})}


def _kubectl(plane: ControlPlane, command: str, objects: Sequence[Mapping[str, Any]]) -> None:
    document = {"apiVersion": "v1", "kind": "List", "items": objects}
    plane.kubectl(command, "-f", "-", stdin=json.dumps(document))


def _wait(
    plane: ControlPlane, level: Level, account: tuple[str, str], namespaces: Sequence[str], *, allowed: bool
) -> None:
    questions = [
        {"user": f"system:serviceaccount:{account[0]}:{account[1]}", "resourceAttributes": attributes}
        for namespace in _places(level, namespaces)
        for attributes in _attributes(level, namespace)
    ]
    with admin_client(plane) as client:
        what = f"{level.name} of {account[1]} to be {'granted' if allowed else 'revoked'}"
        wait_until(lambda: all(_allowed(client, one) is allowed for one in questions), _LIMIT, what)


def _attributes(level: Level, namespace: str | None) -> Iterator[dict[str, str]]:
    for name, verbs in level.rules.items():
        resource, _, subresource = name.partition("/")
        for verb in verbs:
            of = {"group": _GROUP, "resource": resource, "subresource": subresource, "verb": verb}
            yield {**of, "namespace": namespace or ""}


def _allowed(client: httpx.Client, spec: Mapping[str, Any]) -> bool:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review).raise_for_status()
    allowed: bool = answer.json()["status"]["allowed"]
    return allowed
