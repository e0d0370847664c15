"""`plan` on OpenShift with a person's token: the plan that the operator published with its ServiceAccount's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.openshift_cluster import (
    ACCOUNT,
    SERVICE_CA,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.policies import BUILDS, NAME, Namespace, days_ago
from tests.support.schemas import validate


@pytest.fixture(scope="module")
def openshift(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    with openshift_cluster(installed, tmp_path_factory.mktemp("openshift")) as running:
        yield running


def test_a_plan_with_the_kubeconfigs_token_has_the_hash_that_the_operator_published(
    openshift: OpenShiftCluster, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map(openshift.service_ca, name=SERVICE_CA)
    for build in range(1, 6):
        openshift.images.push(namespace.name, "app", f"build-{build}", created=days_ago(45 - build))
    openshift.bind(TAGS_ROLE, f"{namespace.name}:{ACCOUNT}", namespace.name)
    spec = {
        "registry": {"type": "OpenShift", "serviceAccountName": ACCOUNT},
        "repositories": {"include": [f"{namespace.name}/*"]},
        "rules": [dict(BUILDS)],
    }
    namespace.apply(spec)
    policy = namespace.planned()
    published = policy["status"]["plan"]
    metadata = {key: policy["metadata"][key] for key in ("name", "namespace")}
    file = tmp_path / "policy.yaml"
    file.write_text(
        yaml.safe_dump({**{key: policy[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
    )
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(openshift.authority.ca_file.read_text())

    def plan(*which: str | Path) -> dict[str, Any]:
        done = run(
            tmp_path / "home",
            *("plan", *which, "-o", "json", "--certificate-authority", ca_file),
            limit=120,
            KUBECONFIG=str(namespace.plane.admin_kubeconfig),
            NO_PROXY="127.0.0.1",
        )
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        validate(document, "plan")
        return document

    for document in (plan(NAME, "-n", namespace.name), plan("-f", file)):
        assert document["plan"]["hash"] == published["hash"]
        lines = {line["tag"]: line for line in document["lines"] if line["type"] == "tag"}
        assert lines.keys() == set(openshift.images.tags(namespace.name, "app"))
        assert [tag for tag, line in lines.items() if line["verdict"] == "Prune"] == ["build-1", "build-2", "build-3"]
