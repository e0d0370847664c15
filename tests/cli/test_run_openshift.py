"""`run` at OpenShift's registry: image streams are pruned with the kubeconfig's token, and nothing else is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.openshift_cluster import TAGS_ROLE, OpenShiftCluster, openshift_cluster
from tests.support.operator import install
from tests.support.policies import GROUP, days_ago, fresh_namespace

_ACCOUNT = "person"
_DONE, _HELD_BACK = 0, 3


@pytest.fixture(scope="module")
def openshift(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    install(plane)
    reads = ["--verb=get,list,watch", "--resource=registrycleanuppolicies.registrycleanup.dev"]
    plane.kubectl("create", "clusterrole", "run-reads-policies", *reads)
    with openshift_cluster(plane, tmp_path_factory.mktemp("run-openshift")) as running:
        yield running


def test_exactly_the_planned_tags_of_a_stream_go(openshift: OpenShiftCluster, tmp_path: Path) -> None:
    name = "run-openshift"
    home = tmp_path / "home"
    home.mkdir()
    openshift.name_registry()
    openshift.images.store.host = openshift.registry.host
    with fresh_namespace(openshift.plane, name, []) as namespace:
        namespace.create_service_account(_ACCOUNT)
        for number in range(1, 4):
            openshift.images.push(name, "app", f"build-{number}", created=days_ago(60 - number))
        openshift.images.push(name, "app", "release", created=days_ago(90))
        openshift.bind(TAGS_ROLE, f"{name}:{_ACCOUNT}", name)
        binding = ["--clusterrole=run-reads-policies", f"--serviceaccount={name}:{_ACCOUNT}"]
        openshift.plane.kubectl("create", "clusterrolebinding", name, *binding)
        kubeconfig = openshift.plane.kubeconfig_for_service_account(name, _ACCOUNT)
        spec = {
            "registry": {"type": "OpenShift", "serviceAccountName": "pruner"},
            "repositories": {"include": [f"{name}/*"]},
            "rules": [
                {
                    "name": "builds",
                    "tags": {"include": ["build-[0-9]+"]},
                    "olderThan": "30d",
                    "keep": {"mostRecent": 1},
                }
            ],
            "gracePeriod": "0s",
            "dryRun": False,
            "inUse": {"enabled": False},
        }
        kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "RegistryCleanupPolicy"}
        file = home / "policy.json"
        file.write_text(json.dumps({**kind, "metadata": {"name": "builds", "namespace": name}, "spec": spec}))
        ours: list[str | Path] = ["--kubeconfig", kubeconfig, "--certificate-authority", openshift.authority.ca_file]
        first = run(home, "run", "-f", file, "--yes", *ours)
        assert first.returncode == _HELD_BACK, first.stderr
        (plan,) = re.findall("--approve ([0-9a-f]{64})", first.stderr)
        done = run(home, "run", "-f", file, "--approve", plan, *ours)
        assert done.returncode == _DONE, done.stderr
        assert re.findall(r"Pruned +(\S+)", done.stdout) == ["build-1", "build-2"]
        stream = openshift.plane.kubectl("get", "imagestreams", "app", "-n", name, "-o", "json")
        assert sorted(tag["tag"] for tag in json.loads(stream)["status"]["tags"]) == ["build-3", "release"]
