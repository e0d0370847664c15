"""OpenShift's integrated registry, whose repositories are image streams: stand-ins behind the real API server."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.demo.session import Moment, Typed
from tests.demo.stage import Contents, listed, say, show, step
from tests.support.controlplane import ControlPlane
from tests.support.image_api import ImageApi
from tests.support.openshift_cluster import (
    ACCOUNT,
    SERVICE_CA,
    SERVICE_CA_KEY,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT
from tests.support.policies import CREDENTIALS_ROLE

_NOW = datetime.now(UTC)
_NAMESPACES = ("prod", "shop")
_TAGS_SHOWN = 4
_GROUP = "/apis/image.openshift.io/v1"


@contextmanager
def openshift_scene(plane: ControlPlane, folder: Path) -> Iterator["_OpenShift"]:
    """Make the plane an OpenShift cluster with image streams in two namespaces."""
    step("Make it an OpenShift cluster: image.openshift.io behind the API server, and the registry, as stand-ins")
    with openshift_cluster(plane, folder / "openshift") as cluster:
        for namespace in _NAMESPACES:
            plane.kubectl("create", "namespace", namespace)
        service_ca = f"--from-file={SERVICE_CA_KEY}={cluster.authority.ca_file}"
        plane.kubectl("create", "configmap", SERVICE_CA, service_ca, "-n", "shop")
        _fill(cluster.images)
        step("Grant what a policy needs: the least ready Role where it prunes, and its ServiceAccount's tokens")
        account = f"--serviceaccount=shop:{ACCOUNT}"
        show(plane, "create", "serviceaccount", ACCOUNT, "-n", "shop")
        for namespace in _NAMESPACES:
            tags = f"--clusterrole={TAGS_ROLE}"
            show(plane, "create", "rolebinding", "registry-cleanup", tags, account, "-n", namespace)
        operator = f"--serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT}"
        credentials = f"--clusterrole={CREDENTIALS_ROLE}"
        show(plane, "create", "rolebinding", CREDENTIALS_ROLE, credentials, operator, "-n", "shop")
        cluster.await_right(f"shop:{ACCOUNT}", "delete", "imagestreamtags", "", *_NAMESPACES)
        yield _OpenShift(cluster)


@dataclass(frozen=True)
class _OpenShift:
    """The scene.

    Attributes:
        cluster: Where the policy prunes.
    """

    cluster: OpenShiftCluster
    namespace: str = "shop"

    @property
    def session(self) -> Mapping[Moment, Sequence[Typed]]:
        return {Moment.BEFORE: (), Moment.AFTER: ()}

    def spec(self) -> dict[str, Any]:
        return {
            "registry": {"type": "OpenShift", "serviceAccountName": ACCOUNT},
            "repositories": {"include": [f"{namespace}/*" for namespace in _NAMESPACES]},
            "rules": [
                {"name": "builds", "tags": {"include": ["build-.*"]}, "olderThan": "14d", "keep": {"mostRecent": 1}}
            ],
        }

    def contents(self) -> Contents:
        return {
            f"{stream['metadata']['namespace']}/{stream['metadata']['name']}": {
                tag["tag"]: tag["items"][0]["image"] for tag in stream["status"].get("tags", []) if tag["items"]
            }
            for stream in self._streams()
        }

    def tell_login(self) -> None:
        step("How it logged in, as the registry saw it")
        shown = dict.fromkeys(
            f"{request.method} {request.path} {_presented(request.authorization)}"
            for request in self.cluster.registry.requests
        )
        for line in shown:
            say(line)
        say(f"image.openshift.io was asked by: {', '.join(sorted(self._service_accounts()))}")

    def compare(self, before: Contents, after: Contents) -> None:
        step("Image streams before")
        say(_table(before))
        step("Image streams after, read from the API")
        say(_table(after))
        for repository in sorted(before):
            gone = before[repository].keys() - after[repository].keys()
            say(f"{repository} lost {len(gone)}" + (f": {listed(gone)}" if gone else ""))
        for tag, why in _PROTECTED.items():
            say(f"{tag} is still there: {why}")

    def whole(self, after: Contents) -> bool:
        """Say whether all that is protected is there, and nothing was done but with the policy's own rights."""
        there = {f"{repository}:{tag}" for repository, tags in after.items() for tag in tags}
        account, operator = (
            f"system:serviceaccount:shop:{ACCOUNT}",
            f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}",
        )
        # The operator itself looks at what is in use, and does nothing else.
        own = {(request.method, request.path) for request in self.cluster.images.requests if request.user == operator}
        looks = {("GET", _GROUP), ("GET", f"{_GROUP}/imagestreams")}
        return there >= _PROTECTED.keys() and self._service_accounts() == {account, operator} and own <= looks

    def hints(self) -> Sequence[str]:
        return ["kubectl get imagestreams -A", "kubectl get imagestream api -n shop -o yaml"]

    def _streams(self) -> list[dict[str, Any]]:
        answer = self.cluster.plane.kubectl("get", "--raw", "/apis/image.openshift.io/v1/imagestreams")
        found: list[dict[str, Any]] = json.loads(answer)["items"]
        return found

    def _service_accounts(self) -> set[str]:
        """Return whose tokens the API was asked with, besides that of the administrator, who looks on here."""
        users = {request.user for request in self.cluster.images.requests}
        return {user for user in users if user.startswith("system:serviceaccount:")}


_PROTECTED = {
    "prod/web:build-live": "the stream's own spec says what it names (ManagedBySpec)",
    "shop/web:build-7": "the spec of prod/web refers to it (InUse)",
    "shop/base:build-1": "the stream's annotation registrycleanup.dev/keep says so (KeepTags)",
    "shop/base:build-imported": "the stream's own spec imports it (ManagedBySpec)",
}


def _fill(images: ImageApi) -> None:
    """Push the interesting cases."""

    def days(age: float) -> datetime:
        return (_NOW - timedelta(days=age)).replace(microsecond=0)

    # Many tags, one a day; one image has two names, of which only one goes.
    for number in range(1, 41):
        images.push("shop", "api", f"build-{number}", created=days(41 - number))
    images.push_again("shop", "api", "v1.0", images.tags("shop", "api")["build-3"], created=days(30))
    images.push("shop", "api", "latest", created=days(1))
    # Production runs what was built as build-7: its spec refers to it.
    for number in range(5, 10):
        images.push("shop", "web", f"build-{number}", created=days(60 - number))
    images.alias("prod", "web", "build-live", "build-7", source_stream="web", source_namespace="shop")
    # Pushed tags can carry no mark, so the stream does; and one tag is imported from elsewhere.
    images.create_stream("shop", "base", annotations={"registrycleanup.dev/keep": "build-1"})
    for number in range(1, 4):
        images.push("shop", "base", f"build-{number}", created=days(90 - number))
    images.import_tag("shop", "base", "build-imported", created=days(80))


def _table(contents: Contents) -> str:
    """Return streams as `oc get imagestreams -A` lists them, without the times."""
    lines = [f"{'NAMESPACE':<10} {'NAME':<6} TAGS"]
    for repository, tags in sorted(contents.items()):
        namespace, _, name = repository.partition("/")
        shown, more = listed(list(tags)[:_TAGS_SHOWN]), len(tags) - _TAGS_SHOWN
        lines.append(f"{namespace:<10} {name:<6} {shown}" + (f" + {more} more" if more > 0 else ""))
    return "\n".join(lines)


def _presented(authorization: str | None) -> str:
    """Say whose token a header holds, without the token."""
    scheme, _, value = (authorization or "").partition(" ")
    if not value:
        return "without a login"
    token = base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"with {scheme} and the token of {claims['sub']}, good for {claims['exp'] - claims['iat']} s"
