"""`registry-cleanup in-use` prints what a policy of another cluster protects, or says in one line why it cannot."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from registry_cleanup.kube.in_use.look import listed_images
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator
from tests.support.policies import LIMIT, Namespace, days_ago, fresh_namespace, last_run, policy_spec
from tests.support.processes import environment_without, free_port, wait_until
from tests.support.registries import RegistryServer
from tests.support.workloads import Workloads, pod_spec, running, workload

_GONE_BY_NOW = "gone-by-now"


@pytest.fixture
def elsewhere(shared_operator: Operator, namespace_name: str) -> Iterator[Namespace]:
    """Make the namespace that stands for another cluster: the policies here do not look at it."""
    with fresh_namespace(shared_operator.plane, f"{namespace_name}-elsewhere", []) as fresh:
        yield fresh


def _in_use(kubeconfig: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = environment_without("REGISTRY_CLEANUP_", "KUBE", KUBECONFIG=str(kubeconfig), NO_PROXY="127.0.0.1")
    command = [sys.executable, "-m", "registry_cleanup", "in-use", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _as_operator(plane: ControlPlane, *options: str) -> str:
    """Run the command with the rights of the operator, and return what it printed."""
    done = _in_use(plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_it_prints_is_what_a_policy_of_another_cluster_protects(
    namespace: Namespace, elsewhere: Namespace, registry3: RegistryServer, crane: Crane
) -> None:
    repository = f"team/{namespace.name}"
    digests = {
        tag: push_image(registry3.url, repository, [tag], created=days_ago(60), seed=tag)
        for tag in ("by-tag", "by-digest", "by-template", "free")
    }
    image = f"{registry3.host}/{repository}"
    made = Workloads(elsewhere)
    made.pod("by-tag", pod_spec(f"{image}:by-tag"))
    # The tag that it was started by stands on something else now.
    moved = f"{image}:{_GONE_BY_NOW}"
    made.pod("by-digest", pod_spec(moved), running(moved, f"{image}@{digests['by-digest']}"))
    made.create("apis/apps/v1/deployments", "app", spec=workload(f"{image}:by-template", replicas=0))
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
    spec = policy_spec(
        registry3.url,
        repositories={"include": [repository]},
        rules=[{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}],
        minTagsPerRepository=0,
        limits={"maxPercentPerRepository": 100},
        dryRun=False,
        inUse=here,
    )
    namespace.apply(spec)
    assert last_run(namespace.planned())["counts"]["tagsPlanned"] == len(digests)

    printed = _as_operator(namespace.plane, "--name", "other-cluster", "--namespace", namespace.name)
    namespace.plane.kubectl("apply", "--server-side", "-f", "-", stdin=printed)
    namespace.change({"inUse": {**here, "referencesConfigMapRef": {"name": "other-cluster"}}})
    namespace.planned()
    namespace.run("now")

    assert crane.ls(image) == ["by-digest", "by-tag", "by-template"]


def test_each_line_names_who_uses_the_image(installed: ControlPlane, elsewhere: Namespace) -> None:
    image = f"registry.example.com/{elsewhere.name}:1"
    Workloads(elsewhere).pod("app", pod_spec(image))
    config_map = yaml.safe_load(_as_operator(installed))
    assert (config_map["kind"], config_map["metadata"]) == ("ConfigMap", {"name": "in-use"})
    assert f"{image}  # Pod {elsewhere.name}/app" in config_map["data"]["images"].splitlines()


def test_plain_lines_are_the_same_images(installed: ControlPlane, elsewhere: Namespace) -> None:
    Workloads(elsewhere).pod("app", pod_spec("registry.example.com/plain/app:1"))
    lines = listed_images([_as_operator(installed, "-o", "lines")])
    assert "registry.example.com/plain/app:1" in lines
    assert lines == listed_images(yaml.safe_load(_as_operator(installed))["data"].values())


def test_a_kind_that_cannot_be_listed_is_told_with_the_rule_and_nothing_is_printed(
    installed: ControlPlane, elsewhere: Namespace
) -> None:
    """Whoever runs it may do all that the operator may but list ReplicaSets."""
    role = json.loads(installed.kubectl("get", "clusterrole", "registry-cleanup-workloads", "-o", "json"))
    for rule in role["rules"]:
        rule["resources"] = [each for each in rule["resources"] if each != "replicasets"]
    name = elsewhere.name
    elsewhere.create_service_account("reader")
    installed.kubectl("create", "-f", "-", stdin=json.dumps({**role, "metadata": {"name": name}}))
    account = f"{name}:reader"
    installed.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={account}")
    user = f"--as=system:serviceaccount:{account}"
    may = ("auth", "can-i", "list", "pods", "--all-namespaces", user)
    wait_until(lambda: "yes" in installed.kubectl(*may, check=False).split(), LIMIT, "the right to list pods")

    done = _in_use(installed.kubeconfig_for_service_account(name, "reader"))

    assert (done.returncode, done.stdout) == (5, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: you may not list replicasets of apps (kind ReplicaSet)")
    assert line.endswith("--clusterrole=registry-cleanup-workloads --user=YOU")


def test_without_a_kubeconfig_it_says_that_there_is_no_cluster(tmp_path: Path) -> None:
    done = _in_use(tmp_path / "missing")
    assert (done.returncode, done.stdout) == (5, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: no cluster: neither a cluster's own account nor a kubeconfig")


def test_where_no_api_server_answers_it_says_which(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    for done in (_in_use(file), _in_use(tmp_path / "missing", "--kubeconfig", str(file), "--context", "test")):
        assert (done.returncode, done.stdout) == (5, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"Error: no cluster: {server}: no answer from the API server")


def test_a_kubeconfig_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("{ no: [yaml")
    done = _in_use(file)
    assert (done.returncode, done.stdout) == (5, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: no cluster")
