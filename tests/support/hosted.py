"""A registry that runs in the cluster: filled, measured on its disk, and pulled from with a client that is not ours."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane, CraneError
from tests.support.generated_registry import seeded
from tests.support.images import OCI_INDEX, OCI_MANIFEST, push_blob, push_raw_manifest
from tests.support.kubelet import Kubelet, python_image
from tests.support.operator import NAMESPACE, REPOSITORY_ROOT, SERVICE_ACCOUNT, Operator, install, operator
from tests.support.policies import Namespace, days_ago
from tests.support.registries import Version
from tests.support.spaces import CLAIM, REGISTRY, Document, Space, claim, registry_service, registry_workload

Kind = Literal["Deployment", "StatefulSet"]

COLLECTOR_ROLE = "registry-cleanup-collector"
COLLECTING_LABEL = "registrycleanup.dev/collecting"
FORMER_STATE = "registrycleanup.dev/collection"
OPERATOR_IMAGE = "operator:1"
APP, WEB, MULTI = "team/app", "team/web", "team/multi"
BUILDS = 5
# What these kinds of blobs weigh: enough that manifests and links between them come to less than one in a hundred.
_LAYER, _COMMON, _CONFIG = 150_000, 200_000, 200
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

# Each tag of each repository with its digest and every blob below it.
Pulled = Mapping[str, Mapping[str, tuple[str, frozenset[str]]]]


@dataclass(frozen=True)
class Measure:
    """What lies under the root of a storage.

    Attributes:
        files: Bytes of all files.
        blobs: Bytes of the blobs among them.
        number: How many blobs there are.
    """

    files: int
    blobs: int
    number: int


@dataclass(frozen=True)
class Hosted:
    """A registry of a namespace.

    Attributes:
        place: The namespace, on its node.
        namespace: The same one, with its policies.
        version: Of the registry.
        kind: Of its workload, which is called REGISTRY.
        storage: The folder that is its volume.
        host: Where it answers, as in an image reference.
        crane: Reads it.
    """

    place: Space
    namespace: Namespace
    version: Version
    kind: Kind
    storage: Path
    host: str
    crane: Crane

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def workload(self) -> Document:
        return self.place.get(self.kind.lower(), REGISTRY)

    @property
    def container(self) -> Document:
        """Return the registry's container in the workload's template."""
        (container,) = self.workload["spec"]["template"]["spec"]["containers"]
        found: Document = container
        return found

    def patch(self, change: Mapping[str, Any]) -> None:
        """Change the workload as somebody else does."""
        self.place.kubectl("patch", self.kind.lower(), REGISTRY, "--patch", json.dumps(change))

    # Its contents

    def fill(self) -> None:
        """Push builds, of which the last two stay by the policy of the tests: see `policy_spec`."""
        common = "common to all"
        for build in range(1, BUILDS + 1):
            # build-2 is a release, too. build-1 of the other repository has a layer of the last one here.
            self.push(APP, [f"build-{build}", *(["release"] if build == 2 else [])], f"app {build}", age=60 - build)
            layers = [common, f"app {BUILDS}" if build == 1 else f"web {build}"]
            self._image(WEB, [f"build-{build}"], layers, days_ago(60 - build))
            platforms = [
                self._image(MULTI, [], [common, f"{arch} {build}"], days_ago(60 - build), arch)
                for arch in ("amd64", "arm64")
            ]
            index = self._index(MULTI, [f"build-{build}"], platforms)
            # As cosign writes a signature for where there is no referrers API.
            self._image(MULTI, [f"{index.replace(':', '-')}.sig"], [f"signature {build}"], days_ago(60 - build))

    def push(self, repository: str, tags: Sequence[str], seed: str, age: int = 60) -> str:
        """Push an image with a layer that most have, and one that depends on the seed; return its digest."""
        return self._image(repository, tags, ["common to all", seed], days_ago(age))

    def litter(self, seed: str) -> None:
        """Push an image and delete it, so that there is something to collect."""
        self.delete(APP, self.push(APP, ["rubbish"], f"rubbish {seed}"))

    def _image(
        self, repository: str, tags: Sequence[str], layers: Sequence[str], created: datetime, arch: str = "amd64"
    ) -> str:
        config = {"created": created.isoformat(), "os": "linux", "architecture": arch, "of": "".join(layers)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": push_blob(self.url, repository, json.dumps(config).encode(), _CONFIG_TYPE),
            "layers": [push_blob(self.url, repository, _content(layer), _LAYER_TYPE) for layer in layers],
        }
        return push_raw_manifest(self.url, repository, tags, manifest, OCI_MANIFEST)

    def _index(self, repository: str, tags: Sequence[str], children: Sequence[str]) -> str:
        listed = []
        for child in children:
            text = self.crane.run("manifest", f"{self.host}/{repository}@{child}")
            listed.append({"mediaType": OCI_MANIFEST, "digest": child, "size": len(text)})
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return push_raw_manifest(self.url, repository, tags, index, OCI_INDEX)

    def delete(self, repository: str, reference: str) -> None:
        """Delete a manifest, as somebody does who uses no policy."""
        url = f"{self.url}/v2/{repository}/manifests/{reference}"
        httpx.delete(url, trust_env=False).raise_for_status()

    # What there is

    def measure(self) -> Measure:
        """Measure the storage, with nothing of the operator's."""
        sizes = {file: file.stat().st_size for file in self.storage.rglob("*") if file.is_file()}
        blobs = [size for file, size in sizes.items() if file.name == "data" and "blobs" in file.parts]
        return Measure(sum(sizes.values()), sum(blobs), len(blobs))

    def pulled(self) -> Pulled:
        """Pull every tag that policies may prune whole, and check each blob."""
        return {
            repository: {tag: self.pull(repository, tag) for tag in self.crane.ls(f"{self.host}/{repository}")}
            for repository in self.crane.catalog(self.host)
            if repository.startswith("team/")
        }

    def pull(self, repository: str, tag: str) -> tuple[str, frozenset[str]]:
        """Pull a tag whole; return its digest, and those of all below it."""
        place = f"{self.host}/{repository}"
        digest = self.crane.digest(f"{place}:{tag}")
        return digest, frozenset(self._below(place, digest))

    def _below(self, place: str, digest: str) -> Iterator[str]:
        text = self.crane.run("manifest", f"{place}@{digest}")
        assert _digest(text.encode()) == digest
        manifest = json.loads(text)
        yield digest
        for child in manifest.get("manifests", []):
            yield from self._below(place, child["digest"])
        for blob in [manifest["config"], *manifest["layers"]] if "config" in manifest else []:
            content = self.crane.blob(f"{place}@{blob['digest']}")
            assert (_digest(content), len(content)) == (blob["digest"], blob["size"])
            yield blob["digest"]

    def refused(self, tag: str) -> str:
        """Return what crane says of a push that is refused."""
        try:
            self.push_by_crane(tag)
        except CraneError as error:
            return str(error)
        raise AssertionError("the registry took a push")

    def push_by_crane(self, tag: str) -> None:
        """Push an image with a layer of its own by a client that is not ours."""
        layer = self.crane.folder / f"{tag}.tar"
        layer.parent.mkdir(parents=True, exist_ok=True)
        layer.write_bytes(_content(f"pushed as {tag}"))
        self.crane.run("append", f"--new_layer={layer}", f"--new_tag={self.host}/pushed:{tag}")


def _content(seed: str) -> bytes:
    """Return what a layer holds: nothing that a disk or a client could make smaller."""
    return seeded(seed).randbytes(_COMMON if seed.startswith("common") else _LAYER)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def ready_to_collect(node: Kubelet) -> None:
    """Install all that `manifests/base` ships, and have the node know the operator's image."""
    node.images[OPERATOR_IMAGE] = python_image(
        REPOSITORY_ROOT, entrypoint=["python", "-m", "registry_cleanup"], PYTHONPATH=str(REPOSITORY_ROOT / "operator")
    )
    install(node.plane)


@contextmanager
def collector(node: Kubelet, plane: ControlPlane | None = None, folder: Path | None = None) -> Iterator[Operator]:
    """Run the operator for a node that `ready_to_collect` was called for.

    Args:
        node: Which runs what it starts.
        plane: The node's, as the operator sees it; without one, it is waited for until it leads.
        folder: For its log, which lies with the plane's otherwise.
    """
    place = folder or node.plane.folder / "logs" / "operator"
    wanted = {"OPERATOR_IMAGE": OPERATOR_IMAGE, "CONCURRENT_RUNS": "20"}
    with operator(plane or node.plane, place, wanted, leads=plane is None) as running:
        yield running


def grant_collection(plane: ControlPlane, namespace: str) -> None:
    """Do what the administrator of a namespace does for policies that collect there."""
    role, account = f"--clusterrole={COLLECTOR_ROLE}", f"--serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT}"
    plane.kubectl("create", "rolebinding", COLLECTOR_ROLE, role, account, f"--namespace={namespace}")


def _configured(workload: Document, configuration: Mapping[str, Any]) -> Document:
    """Have the registry read its configuration from a ConfigMap, and return that."""
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["args"] = ["/etc/registry/settings.yml"]
    container["volumeMounts"].append({"name": "settings", "mountPath": "/etc/registry"})
    pod["volumes"].append({"name": "settings", "configMap": {"name": REGISTRY}})
    data = {"settings.yml": json.dumps(configuration)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": REGISTRY}, "data": data}


@contextmanager
def hosted(
    place: Space,
    folder: Path,
    version: Version = "3",
    kind: Kind = "Deployment",
    *,
    full_at: str | None = None,
    granted: bool = True,
    filled: bool = True,
    own_claims: bool = False,
    configuration: Mapping[str, Any] | None = None,
    **workload: Any,  # noqa: ANN401 - fields of the workload's spec
) -> Iterator[Hosted]:
    """Run a registry, filled, in a namespace of a test's own.

    Args:
        place: The namespace.
        folder: For crane.
        version: Of the registry.
        kind: Of its workload.
        full_at: How much its volume takes, as `Kubelet.volume` has it.
        granted: Whether the operator may collect here.
        filled: Whether it has all those builds, rather than one image and a piece of rubbish.
        own_claims: Whether a StatefulSet makes its claim from a template.
        configuration: Of the registry, in a ConfigMap; without one it is the image's.
        workload: Further fields of the workload's spec.
    """
    of = f"{CLAIM}-{REGISTRY}-0" if own_claims else CLAIM
    storage = place.node.volume(f"{place.name}-storage", claim=(place.name, of), full_at=full_at)
    document = registry_workload(version, kind, own_claims=own_claims, **workload)
    if configuration is not None:
        place.apply(_configured(document, configuration))
    place.apply(*([] if own_claims else [claim()]), registry_service(), document)
    if granted:
        grant_collection(place.node.plane, place.name)
    place.wait_for_rollout(f"{kind.lower()}/{REGISTRY}")
    namespace = Namespace(place.node.plane, place.name)
    try:
        made = Hosted(place, namespace, version, kind, storage, place.registry_host(), Crane(folder / "crane"))
        if filled:
            made.fill()
        else:
            made.push(APP, [f"build-{BUILDS}"], "the only one")
            made.litter("at first")
        yield made
    finally:
        # Or the operator would go on while the test's namespace goes.
        for policy in namespace.policies():
            namespace.delete(policy["metadata"]["name"])
        namespace.api.close()
