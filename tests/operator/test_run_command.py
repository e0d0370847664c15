"""`registry-cleanup run` beside a real API server and operator: it never prunes what another prunes, or uses."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.api_proxy import api_proxy
from tests.support.command import run
from tests.support.crane import Crane
from tests.support.faulty import before, changes_headers, faulty_registry
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT
from tests.support.policies import GROUP, Namespace, policy_spec, push_builds
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer
from tests.support.workloads import Workloads, pod_spec

_ALL = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]
# Seconds after which a run looks again whether the policy prunes in the cluster.
_LOOKS_AGAIN = 5.5
_DONE, _HELD_BACK, _CLUSTER = 0, 3, 5


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _write(home: Path, namespace: Namespace, spec: dict[str, Any], name: str = "policy") -> Path:
    home.mkdir(exist_ok=True)
    file = home / f"{name}.yaml"
    metadata = {"name": name, "namespace": namespace.name}
    kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "RegistryCleanupPolicy"}
    file.write_text(yaml.safe_dump({**kind, "metadata": metadata, "spec": spec}))
    return file


def _run(home: Path, namespace: Namespace, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    kubeconfig = namespace.plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)
    return run(
        home,
        "run",
        "-f",
        file,
        *options,
        limit=120,
        KUBECONFIG=str(kubeconfig),
        NO_PROXY="127.0.0.1",
        XDG_STATE_HOME=str(home),
    )


def _spec(namespace: Namespace, url: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
    return policy_spec(url, **{"dryRun": False, "inUse": here, **changes})


def test_a_policy_that_prunes_in_the_cluster_is_refused(
    namespace: Namespace, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    spec = _spec(namespace, registry3.url)
    namespace.apply(spec)
    namespace.planned()
    done = _run(home, namespace, _write(home, namespace, spec), "--yes")
    assert done.returncode == _HELD_BACK
    assert f"registry-cleanup request policy -n {namespace.name}" in done.stderr
    # Nor does it help to call the file's policy otherwise, when it still is that one.
    exported = _write(home, namespace, spec)
    body = yaml.safe_load(exported.read_text())
    body["metadata"]["uid"] = namespace.policy()["metadata"]["uid"]
    exported.write_text(yaml.safe_dump(body))
    assert _run(home, namespace, exported, "--yes").returncode == _HELD_BACK
    assert crane.ls(f"{registry3.host}/team/app") == _ALL


def test_what_the_cluster_uses_stays_and_the_hash_is_the_operators(
    namespace: Namespace, registry: RegistryServer, crane: Crane, home: Path
) -> None:
    # A path of its own: the pod stays, and protects it in other tests, too.
    repository = f"team/{namespace.name}"
    push_builds(registry.url, repository)
    Workloads(namespace).pod("uses-it", pod_spec(f"{registry.host}/{repository}:build-2"))
    spec = _spec(namespace, registry.url)
    namespace.apply({**spec, "dryRun": True})
    plan = namespace.planned()["status"]["plan"]["hash"]
    done = _run(home, namespace, _write(home, namespace, spec), "--approve", plan)
    assert done.returncode == _DONE, done.stderr
    assert crane.ls(f"{registry.host}/{repository}") == ["build-2", *_KEPT]


def test_where_a_policy_of_the_cluster_prunes_everything_stays(
    namespace: Namespace, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    push_builds(registry3.url, "team/free")
    repositories = {"include": ["team/app"]}
    # It is younger than the file says that its policy is: nobody in the cluster knows of that.
    namespace.apply(_spec(namespace, registry3.url, repositories=repositories, keepTags=[".*"]), "other")
    namespace.planned("other")
    file = _write(home, namespace, _spec(namespace, registry3.url))
    body = yaml.safe_load(file.read_text())
    body["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    file.write_text(yaml.safe_dump(body))
    _run(home, namespace, file, "--yes")
    done = _run(home, namespace, file, "--yes")
    assert done.returncode == _DONE, done.stderr
    assert f"policy {namespace.name}/other prunes there" in done.stderr
    assert crane.ls(f"{registry3.host}/team/app") == _ALL
    assert crane.ls(f"{registry3.host}/team/free") == _KEPT


def test_a_policy_that_becomes_live_meanwhile_stops_the_run(
    namespace: Namespace, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        spec = _spec(namespace, proxy.url)
        file = _write(home, namespace, spec)
        assert _run(home, namespace, file, "--yes").returncode == _HELD_BACK
        listed = 0

        def becomes_live() -> None:
            nonlocal listed
            listed += 1
            if listed == 2:  # the first list is of the plan that is shown, the second of the one that is carried out
                namespace.apply(spec)
                applied = time.monotonic()
                wait_until(lambda: time.monotonic() - applied > _LOOKS_AGAIN, 2 * _LOOKS_AGAIN, "the next look")

        proxy.inject(before(becomes_live), path=".*/tags/list")
        done = _run(home, namespace, file, "--yes")
    assert done.returncode == _HELD_BACK, done.stderr
    assert "became live in the cluster" in done.stderr
    assert crane.ls(f"{registry3.host}/team/app") == _ALL


def test_a_clock_that_is_not_the_clusters_prunes_nothing(
    namespace: Namespace, registry3: RegistryServer, crane: Crane, home: Path, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    plane = namespace.plane
    with api_proxy(plane.url, plane.ca_file, tmp_path / "proxy") as proxy:
        early = datetime.now(UTC) - timedelta(minutes=6)
        proxy.inject(changes_headers({"Date": format_datetime(early, usegmt=True)}), lambda it: it.path == "/version/")
        kubeconfig = proxy.before(plane, tmp_path / "early").kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)
        file = _write(home, namespace, _spec(namespace, registry3.url))
        for _ in range(2):
            done = run(home, "run", "-f", file, "--yes", limit=120, KUBECONFIG=str(kubeconfig), NO_PROXY="127.0.0.1")
            assert done.returncode == _HELD_BACK, done.stderr
            assert "differ by more than 5 minutes" in done.stderr
    assert crane.ls(f"{registry3.host}/team/app") == _ALL


def test_without_the_right_to_see_who_else_prunes_nothing_goes(
    namespace: Namespace, registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    namespace.create_service_account("nobody")
    kubeconfig = namespace.plane.kubeconfig_for_service_account(namespace.name, "nobody")
    file = _write(home, namespace, _spec(namespace, registry3.url, inUse={"enabled": False}))
    done = run(home, "run", "-f", file, "--yes", limit=120, KUBECONFIG=str(kubeconfig), NO_PROXY="127.0.0.1")
    assert done.returncode == _CLUSTER
    assert "resources: [registrycleanuppolicies], verbs: [get, list, watch]" in done.stderr
    assert crane.ls(f"{registry3.host}/team/app") == _ALL
