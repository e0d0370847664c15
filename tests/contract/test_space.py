"""What docs/space.md says of Docker Distribution: what a prune frees, what a collection frees, and what neither does.

Each sentence of its table that is about Distribution 2.8 or 3.1 is held here to the real program on a real file system.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.binaries import binary
from tests.support.crane import Crane, CraneError
from tests.support.images import OCI_MANIFEST, push_blob, push_image, push_index, push_raw_manifest
from tests.support.processes import environment_without, free_port, running, wait_until
from tests.support.registries import RegistryServer

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_APP = "team/app"
_QUIET = {"OTEL_TRACES_EXPORTER": "none"}


def _held(registry: RegistryServer) -> dict[str, int]:
    """Return the size of each blob that the storage holds, by digest."""
    blobs = registry.storage / "docker/registry/v2/blobs/sha256"
    return {f"sha256:{file.parent.name}": file.stat().st_size for file in blobs.glob("*/*/data")}


def _links(registry: RegistryServer, kind: str) -> int:
    return sum(1 for _ in (registry.storage / "docker/registry/v2/repositories" / _APP / kind).rglob("link"))


def _collect(registry: RegistryServer, *options: str, **environment: str) -> str:
    """Collect as docs/space.md says to do by hand; return what it printed."""
    program = binary("registry-2" if registry.version == "2" else "registry-3")
    done = subprocess.run(
        [program, "garbage-collect", *options, registry.configuration],
        env=environment_without("REGISTRY_", "OTEL_", **_QUIET, **environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _delete(registry: RegistryServer, reference: str) -> int:
    return httpx.delete(f"{registry.url}/v2/{_APP}/manifests/{reference}", trust_env=False).status_code


def _image(registry: RegistryServer, tag: str | None, own: bytes, shared: bytes = b"base layer" * 100) -> str:
    """Push an image of a layer of its own and a shared one, and return its digest."""
    url = registry.url
    layers = [push_blob(url, _APP, content, _LAYER) for content in (shared, own)]
    config = push_blob(url, _APP, json.dumps({"os": "linux", "of": own.decode()}).encode(), _CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    return push_raw_manifest(url, _APP, [tag] if tag else [], manifest, OCI_MANIFEST)


def test_a_prune_frees_no_blob_and_a_collection_frees_all_that_nothing_else_uses(
    registry: RegistryServer, crane: Crane
) -> None:
    _image(registry, "kept", b"kept" * 100)
    with_both = _held(registry)
    gone = _image(registry, "gone", b"gone" * 1000)
    before = _held(registry)

    assert _delete(registry, gone) == 202
    assert _held(registry) == before

    _collect(registry)
    # Its manifest, its config and its own layer; the layer that both have stays.
    assert _held(registry) == with_both
    assert len(before) - len(with_both) == 3
    assert crane.ls(f"{registry.host}/{_APP}") == ["kept"]
    assert "base layer" in crane.run("blob", f"{registry.host}/{_APP}@{_layers(crane, registry, 'kept')[0]}")


def _layers(crane: Crane, registry: RegistryServer, tag: str) -> list[str]:
    return [layer["digest"] for layer in crane.manifest(f"{registry.host}/{_APP}:{tag}")["layers"]]


def test_a_collection_may_run_in_the_container_of_a_registry_that_is_read_only(registry: RegistryServer) -> None:
    assert _delete(registry, _image(registry, "gone", b"gone")) == 202

    _collect(registry, REGISTRY_STORAGE_MAINTENANCE_READONLY='{"enabled":true}')

    assert _held(registry) == {}


def test_a_manifest_without_a_tag_is_never_collected(registry: RegistryServer, crane: Crane) -> None:
    untagged = _image(registry, None, b"by digest")
    moved = _image(registry, "latest", b"the former latest")
    _image(registry, "latest", b"the latest")
    before = _held(registry)

    _collect(registry)

    assert _held(registry) == before
    assert crane.exists(f"{registry.host}/{_APP}@{untagged}")
    assert crane.exists(f"{registry.host}/{_APP}@{moved}")


def test_where_tags_go_alone_a_collection_frees_nothing_until_the_manifest_goes_too(registry3: RegistryServer) -> None:
    digest = _image(registry3, "gone", b"gone")
    before = _held(registry3)

    assert _delete(registry3, "gone") == 202
    _collect(registry3)
    assert _held(registry3) == before

    assert _delete(registry3, digest) == 202
    _collect(registry3)
    assert _held(registry3) == {}


def test_the_platforms_of_an_index_are_collected_only_when_they_are_deleted_too(registry: RegistryServer) -> None:
    children = [push_image(registry.url, _APP, platform=f"linux/{name}", seed=name) for name in ("amd64", "arm64")]
    index = push_index(registry.url, _APP, ["gone"], children=children)
    before = _held(registry)

    assert _delete(registry, index) == 202
    _collect(registry)
    assert before.keys() - _held(registry).keys() == {index}

    assert [_delete(registry, child) for child in children] == [202, 202]
    _collect(registry)
    assert _held(registry) == {}


def test_a_referrer_stays_when_its_subject_is_collected_and_keeps_nothing_of_it(registry: RegistryServer) -> None:
    subject = push_image(registry.url, _APP, ["gone"], seed="subject")
    of_subject = set(_held(registry))
    signature = push_image(registry.url, _APP, subject=subject, artifact_type="application/x.signature", seed="sig")

    assert _delete(registry, subject) == 202
    _collect(registry)

    left = set(_held(registry))
    assert signature in left
    assert left & of_subject == set()


def test_an_unfinished_upload_and_the_name_of_the_repository_are_never_collected(
    registry: RegistryServer, crane: Crane
) -> None:
    digest = _image(registry, "gone", b"gone")
    begun = httpx.post(f"{registry.url}/v2/{_APP}/blobs/uploads/", trust_env=False)
    place = begun.raise_for_status().headers["Location"]
    httpx.patch(httpx.URL(registry.url).join(place), content=b"x" * 100_000, trust_env=False).raise_for_status()
    uploads = registry.storage / "docker/registry/v2/repositories" / _APP / "_uploads"

    assert _delete(registry, digest) == 202
    _collect(registry)

    assert _held(registry) == {}
    assert sum(file.stat().st_size for file in uploads.rglob("data")) == 100_000
    assert crane.catalog(registry.host) == [_APP]


def test_the_links_of_layers_are_collected_by_version_3_only(registry: RegistryServer) -> None:
    digest = _image(registry, "gone", b"gone")
    assert _delete(registry, digest) == 202
    links = _links(registry, "_layers")
    assert links == 3

    _collect(registry)

    assert _links(registry, "_layers") == (links if registry.version == "2" else 0)


def test_a_dry_run_changes_nothing_and_names_what_would_go(registry: RegistryServer) -> None:
    digest = _image(registry, "gone", b"gone")
    assert _delete(registry, digest) == 202
    before = _held(registry)

    printed = _collect(registry, "--dry-run")

    assert _held(registry) == before
    assert "0 blobs marked, 4 blobs and 0 manifests eligible for deletion" in printed
    assert f"blob eligible for deletion: {digest}" in printed


def test_delete_untagged_takes_the_platforms_of_tagged_indexes_on_version_2(
    registry: RegistryServer, crane: Crane
) -> None:
    children = [push_image(registry.url, _APP, platform=f"linux/{name}", seed=name) for name in ("amd64", "arm64")]
    push_index(registry.url, _APP, ["kept"], children=children)
    before = len(_held(registry))

    _collect(registry, "--delete-untagged")

    assert crane.exists(f"{registry.host}/{_APP}:kept")
    there = [crane.exists(f"{registry.host}/{_APP}@{child}") for child in children]
    assert there == [registry.version == "3"] * 2
    # Configs and layers.
    assert before - len(_held(registry)) == (4 if registry.version == "2" else 0)


@contextmanager
def _with_cache(registry: RegistryServer, folder: Path) -> Iterator[str]:
    """Run a second server on the same storage, with the cache that the official image has; return its address."""
    configuration = json.loads(registry.configuration.read_text())
    configuration["storage"]["cache"] = {"blobdescriptor": "inmemory"}
    address = f"127.0.0.1:{free_port()}"
    configuration["http"]["addr"] = address
    folder.mkdir()
    file = folder / "config.yaml"
    file.write_text(json.dumps(configuration))
    program = binary("registry-2" if registry.version == "2" else "registry-3")
    environment = environment_without("REGISTRY_", "OTEL_", **_QUIET)
    command: list[str | Path] = [program, "serve", file]
    with running("registry with a cache", command, folder / "registry.log", environment=environment) as process:
        wait_until(lambda: _answers(address), 30, "the registry with a cache", process)
        yield address


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/v2/", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_push_during_a_collection_that_nothing_holds_up_leaves_an_image_that_cannot_be_pulled(
    registry: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    with _with_cache(registry, tmp_path / "cached") as address:
        url = f"http://{address}"
        # Its layers are there, its manifest is still to come.
        layer = push_blob(url, _APP, b"pushed during the collection", _LAYER)
        config = push_blob(url, _APP, b"{}", _CONFIG)
        _collect(registry)
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}

        push_raw_manifest(url, _APP, ["broken"], manifest, OCI_MANIFEST)

        with pytest.raises(CraneError):
            crane.run("validate", "--remote", f"{address}/{_APP}:broken")


def test_until_it_is_started_again_a_registry_says_that_it_has_what_was_collected(
    registry: RegistryServer, tmp_path: Path
) -> None:
    with _with_cache(registry, tmp_path / "before") as address:
        url = f"http://{address}"
        layer = push_blob(url, _APP, b"collected", _LAYER)
        blob = f"/v2/{_APP}/blobs/{layer['digest']}"
        _collect(registry)

        assert httpx.head(url + blob, trust_env=False).status_code == 200
        assert layer["digest"] not in _held(registry)
    with _with_cache(registry, tmp_path / "after") as address:
        assert httpx.head(f"http://{address}{blob}", trust_env=False).status_code == 404
