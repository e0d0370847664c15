"""The operator remembers what digests say, across its own restarts, and does without a cache that is broken."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import kinds
from tests.support.faulty import FaultyRegistry, faulty_registry
from tests.support.operator import operator
from tests.support.policies import Namespace, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    with faulty_registry(registry3.url) as running:
        yield running


def test_an_operator_that_is_started_again_reads_no_manifest_again(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    settings = {"CACHE_DIR": str(tmp_path / "cache")}
    with operator(own_namespace.plane, tmp_path / "first", settings):
        own_namespace.apply(policy_spec(proxy.url))
        first = last_run(own_namespace.planned())["counts"]
    assert kinds(proxy.requests)["GET blobs"] > 0
    proxy.requests.clear()
    with operator(own_namespace.plane, tmp_path / "second", settings):
        again = last_run(own_namespace.run("again"))["counts"]
        asked = kinds(proxy.requests)
        assert (asked["GET manifests"], asked["GET blobs"], asked["HEAD manifests"] > 0) == (0, 0, True)
        assert again == first
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"broken" * 1000)
    with operator(own_namespace.plane, tmp_path / "third", settings):
        assert last_run(own_namespace.run("once more"))["counts"] == first
