"""Prune, undo, and every tag of image streams pulls again, through the shipped operator and by a person."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operator.test_undo_whole import person, undo_by_annotation
from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.openshift_cluster import (
    ACCOUNT,
    SERVICE_CA,
    STATUS_ROLE,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.openshift_rights import PULL, grant
from tests.support.policies import NAME, Namespace, days_ago, last_run
from tests.support.schemas import validate
from tests.support.undo import WHOLE_RULES, Pulled, pulled

# As docs/openshift.md says: the first in the namespace, the second in the cluster.
_UNDO_ROLE, _LOOK_ROLE = "registry-cleanup-image-undo", "registry-cleanup-image-look"


@pytest.fixture(scope="module")
def openshift(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    with openshift_cluster(installed, tmp_path_factory.mktemp("openshift")) as running:
        yield running


@pytest.fixture
def cluster(openshift: OpenShiftCluster) -> Iterator[OpenShiftCluster]:
    openshift.name_registry()
    openshift.images.calm()
    yield openshift
    openshift.images.calm()


def _push(cluster: OpenShiftCluster, namespace: str) -> set[str]:
    """Push what goes, `old-*`: an index whose children are tagged, too, one image under several tags, some history."""
    images, old = cluster.images, days_ago(40)
    images.push(namespace, "app", "kept", created=old)
    first = images.push(namespace, "app", "old-1", created=old)
    for tag in ("old-1-again", "old-1-more"):
        images.push_again(namespace, "app", tag, first, created=old)
    images.push(namespace, "app", "old-history", created=days_ago(50), seed="before")
    images.push(namespace, "app", "old-history", created=old)
    images.push(namespace, "app", "old-docker", created=old, docker=True)
    children = [
        images.push(namespace, "app", tag, created=old, platform=platform)
        for tag, platform in (("old-amd64", "linux/amd64"), (None, "linux/arm64"))
    ]
    images.push(namespace, "app", "old-index", created=old, children=children)
    images.push(namespace, "other", "old-1", created=old)
    images.push(namespace, "other", "kept", created=old)
    return {"old-1", "old-1-again", "old-1-more", "old-history", "old-docker", "old-amd64", "old-index"}


def _grant(cluster: OpenShiftCluster, namespace: Namespace, account: str) -> None:
    """Grant what the documentation says an undo needs, besides what pruning needs."""
    kubectl, to = cluster.plane.kubectl, f"--serviceaccount={namespace.name}:{account}"
    name = f"undo-{account}"
    kubectl("create", "rolebinding", name, f"--clusterrole={_UNDO_ROLE}", to, "-n", namespace.name)
    kubectl("create", "clusterrolebinding", f"{name}-{namespace.name}", f"--clusterrole={_LOOK_ROLE}", to)
    full = f"{namespace.name}:{account}"
    cluster.await_right(full, "create", "imagestreammappings", "", namespace.name)
    cluster.await_right(full, "get", "images", "", "")


def _spec(namespace: Namespace) -> dict[str, Any]:
    return {
        "registry": {"type": "OpenShift", "serviceAccountName": ACCOUNT},
        "repositories": {"include": [f"{namespace.name}/*"]},
        "inUse": {"enabled": False},
        **WHOLE_RULES,
        "undo": {"window": "1d"},
    }


def _pulled(cluster: OpenShiftCluster, namespace: Namespace, folder: Path) -> dict[str, Pulled]:
    """Pull every tag of both streams with crane."""
    grant(cluster.plane, PULL, (namespace.name, "puller"), namespace.name)
    token = cluster.plane.token_for_service_account(namespace.name, "puller", 3600)
    crane = Crane(folder / "crane", cluster.authority.ca_file, {cluster.registry.host: ("any", token)})
    names = (f"{namespace.name}/app", f"{namespace.name}/other")
    return {name: pulled(crane, cluster.registry.host, name, layers=False) for name in names}


def _prune(cluster: OpenShiftCluster, namespace: Namespace) -> str:
    """Let the operator prune all that goes, and return the run's ID."""
    namespace.grant_credentials()
    namespace.create_config_map(cluster.service_ca, name=SERVICE_CA)
    namespace.apply(_spec(namespace))
    namespace.planned()
    ended = last_run(namespace.run("prune"))
    assert (ended["phase"], ended["counts"]["tagsPruned"]) == ("Succeeded", 8), ended
    assert set(cluster.images.tags(namespace.name, "app")) == {"kept"}
    return str(ended["id"])


@pytest.mark.parametrize("roles", [(TAGS_ROLE,), (TAGS_ROLE, STATUS_ROLE)], ids=["one-by-one", "at-once"])
def test_the_operator_brings_back_every_tag_of_its_streams(
    cluster: OpenShiftCluster, namespace: Namespace, tmp_path: Path, roles: tuple[str, ...]
) -> None:
    namespace.create_service_account(ACCOUNT)
    for role in roles:
        cluster.bind(role, f"{namespace.name}:{ACCOUNT}", namespace.name)
    _grant(cluster, namespace, ACCOUNT)
    gone = _push(cluster, namespace.name)
    before = _pulled(cluster, namespace, tmp_path)
    told = undo_by_annotation(namespace, _prune(cluster, namespace))
    assert _pulled(cluster, namespace, tmp_path) == before, told
    assert (told["restored"], told["failed"]) == (len(gone) + 1, 0)
    assert "named before is lost" in told["message"]
    later = last_run(namespace.run("prune again"))
    # What came back is as new as the undo.
    assert (later["counts"]["tagsPruned"], later["keptByReason"]["NotOldEnough"]) == (0, len(gone) + 1)


def test_a_person_brings_back_every_tag_of_the_streams_that_the_operator_pruned(
    cluster: OpenShiftCluster, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.create_service_account(ACCOUNT)
    cluster.bind(TAGS_ROLE, f"{namespace.name}:{ACCOUNT}", namespace.name)
    _push(cluster, namespace.name)
    before = _pulled(cluster, namespace, tmp_path)
    ended = _prune(cluster, namespace)
    variables = person(namespace)
    cluster.bind(TAGS_ROLE, f"{namespace.name}:person", namespace.name)
    _grant(cluster, namespace, "person")
    ours = ("--certificate-authority", cluster.authority.ca_file)
    call = ("undo", NAME, "-n", namespace.name, "--run", ended, "-o", "json", *ours)
    done = run(tmp_path / "home", *call, limit=120, **variables)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    validate(document, "undo")
    assert (document["historyLost"], document["whole"], document["counts"]["restored"]) == (True, True, 8)
    assert _pulled(cluster, namespace, tmp_path) == before


def test_a_policy_without_the_rights_to_undo_is_told_which_tags_stay_gone(
    cluster: OpenShiftCluster, namespace: Namespace
) -> None:
    namespace.create_service_account(ACCOUNT)
    cluster.bind(TAGS_ROLE, f"{namespace.name}:{ACCOUNT}", namespace.name)
    _push(cluster, namespace.name)
    told = undo_by_annotation(namespace, _prune(cluster, namespace))
    assert (told["restored"], told["failed"]) == (0, 8)
    assert set(cluster.images.tags(namespace.name, "app")) == {"kept"}
