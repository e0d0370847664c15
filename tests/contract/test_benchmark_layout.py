"""The registries that benchmarks write on a disk: each version serves them as if they had been pushed, and as told."""

from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from benchmarks.speed.layout import Shape, WrittenRegistry, written
from benchmarks.speed.limit import drive
from benchmarks.speed.minimal import cold, deletions, warm
from tests.support.crane import Crane
from tests.support.images import MANIFEST_TYPES
from tests.support.registries import RegistryServer, Version, distribution

SHAPE = Shape(2, 100)
AGE = timedelta(days=30)


@pytest.fixture(scope="module")
def registry_on_disk(tmp_path_factory: pytest.TempPathFactory) -> WrittenRegistry:
    return written(SHAPE, tmp_path_factory.mktemp("registries"))


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_registry_serves_what_was_written_as_the_truth_says(
    version: Version, registry_on_disk: WrittenRegistry, tmp_path: Path
) -> None:
    truth = registry_on_disk.truth
    with (
        distribution(version, tmp_path / "server", storage=registry_on_disk.storage) as server,
        httpx.Client(base_url=f"{server.url}/v2/", trust_env=False) as client,
    ):
        names = client.get("_catalog").json()["repositories"]
        assert {
            (name, tag): _digest_and_date(client, name, tag)
            for name in names
            for tag in client.get(f"{name}/tags/list").json()["tags"]
        } == truth.dates()
        # A client that is not ours, and that checks what it reads against the digest.
        crane, first = Crane(tmp_path / "crane"), truth.repositories[0]
        for digest, fact in first.facts.items():
            if fact.children:
                manifest = crane.manifest(f"{server.host}/{first.name}@{digest}")
                assert [child["digest"] for child in manifest["manifests"]] == list(fact.children)
    shared = SHAPE.size - len({digest for one in truth.repositories for digest in one.tags.values()})
    assert shared == SHAPE.size // 10
    assert sum(bool(fact.children) for one in truth.repositories for fact in one.facts.values()) == SHAPE.size // 50


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_bare_client_has_every_request_answered(
    version: Version, registry_on_disk: WrittenRegistry, tmp_path: Path
) -> None:
    truth = registry_on_disk.truth
    with distribution(version, tmp_path / "server", storage=registry_on_disk.storage) as server:
        for requests in (list(cold(truth, AGE)), list(warm(truth))):
            assert drive(server.host, requests, 4).statuses == {200: len(requests)}


def test_what_was_deleted_comes_back(tmp_path: Path) -> None:
    registry = written(Shape(1, 60), tmp_path)
    everything = registry.tags_left()
    going = [(one.name, tag, digest) for one in registry.truth.repositories for tag, digest in one.tags.items()][:30]
    with distribution("3", tmp_path / "server", storage=registry.storage) as server:
        assert drive(server.host, deletions(going), 4).statuses == {202: 30}
        assert registry.tags_left() == everything - {(name, tag) for name, tag, _ in going}
        _delete_manifest(server, going[-1][0], registry.truth.repositories[0].tags["build-000040"])
        registry.restore()
        assert registry.tags_left() == everything
        requests = list(cold(registry.truth, AGE))
        assert drive(server.host, requests, 4).statuses == {200: len(requests)}


def _delete_manifest(server: RegistryServer, repository: str, digest: str) -> None:
    url = f"{server.url}/v2/{repository}/manifests/{digest}"
    httpx.delete(url, trust_env=False).raise_for_status()


def _digest_and_date(client: httpx.Client, repository: str, reference: str) -> tuple[str, str]:
    answer = client.get(f"{repository}/manifests/{reference}", headers={"Accept": ", ".join(MANIFEST_TYPES)})
    manifest, digest = answer.raise_for_status().json(), answer.headers["Docker-Content-Digest"]
    if "manifests" in manifest:
        return digest, max(_digest_and_date(client, repository, child["digest"])[1] for child in manifest["manifests"])
    config = client.get(f"{repository}/blobs/{manifest['config']['digest']}").raise_for_status()
    return digest, config.json()["created"]
