"""A tag that was moved while what it named before still runs: the old digest stays, on each kind of registry."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.openshift_cluster import (
    ACCOUNT,
    SERVICE_CA,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.policies import Namespace, Resource, days_ago, last_run, policy_spec
from tests.support.registries import RegistryServer, Version, distribution
from tests.support.workloads import Workloads, pod_spec, running

_MOVED = "stable"
# By repository: what else names the old digest, all of which the policy would prune.
_NAMED_BY: Mapping[str, list[str]] = {
    "one-tag": ["build-1"],
    "two-tags": ["build-1", "release-1"],
    "an-index": ["multi"],
    "nothing": [],
}


@pytest.fixture(scope="module", params=["2", "3"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    version: Version = request.param
    with distribution(version, tmp_path_factory.mktemp("moved-tag-registry")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    with openshift_cluster(installed, tmp_path_factory.mktemp("openshift")) as started:
        yield started


def _everything(place: Namespace) -> dict[str, Any]:
    """Return the part of a policy that prunes all old tags that are not in use in its own namespace."""
    return {
        "rules": [{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}],
        "gracePeriod": "0s",
        "dryRun": False,
        "minTagsPerRepository": 0,
        "limits": {"maxPercentPerRepository": 100},
        "inUse": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.name}}},
    }


def _push_and_move(images: RegistryServer, repository: str, named_by: list[str]) -> str:
    """Push an image, move its tag to another and return the first one's digest."""
    tags = [_MOVED, *(tag for tag in named_by if tag != "multi")]
    old = push_image(images.url, repository, tags, created=days_ago(60), seed=f"{repository} old")
    if "multi" in named_by:
        push_index(images.url, repository, ["multi"], children=[old])
    push_image(images.url, repository, [_MOVED], created=days_ago(50), seed=f"{repository} new")
    push_image(images.url, repository, ["free"], created=days_ago(55), seed=f"{repository} free")
    return old


def _kept(place: Namespace, policy: Resource, repository: str) -> dict[str, tuple[str, bool]]:
    """Return the reason, and whether the pod is named as the user, of each tag that is kept by the report."""
    pod = f"Pod {place.name}/{repository.rpartition('/')[2]}"
    return {
        line["tag"]: (line["reason"], any(user.startswith(pod) for user in line.get("users", ())))
        for line in place.report(policy)
        if line.get("repository") == repository and line.get("verdict") == "Keep"
    }


@pytest.mark.parametrize("untagged", ["Keep", "Delete"])
def test_the_old_digest_of_a_moved_tag_stays_as_long_as_it_runs(
    images: RegistryServer, namespace: Namespace, crane: Crane, untagged: str
) -> None:
    made = Workloads(namespace)
    old: dict[str, str] = {}
    for name, named_by in _NAMED_BY.items():
        repository = f"{images.host}/{namespace.name}/{name}"
        digest = _push_and_move(images, f"{namespace.name}/{name}", named_by)
        old[name] = f"{repository}@{digest}"
        tag = f"{repository}:{_MOVED}"
        made.pod(name, pod_spec(tag), running(tag, old[name]))
    include = {"include": [f"{namespace.name}/*"]}
    namespace.apply(policy_spec(images.url, repositories=include, untagged=untagged, **_everything(namespace)))
    namespace.planned()

    done = namespace.run("while it runs")
    assert last_run(done)["phase"] == "Succeeded"
    for name, named_by in _NAMED_BY.items():
        # What was pushed last is what the pod's tag names now.
        assert crane.ls(f"{images.host}/{namespace.name}/{name}") == sorted([_MOVED, *named_by]), name
        assert crane.exists(old[name]), name
        kept = _kept(namespace, done, f"{namespace.name}/{name}")
        assert kept == dict.fromkeys([_MOVED, *named_by], ("InUse", True)), name

    # Nothing else kept it.
    namespace.change({"inUse": {"enabled": False}})
    namespace.planned()
    assert last_run(namespace.run("unprotected"))["phase"] == "Succeeded"
    assert [tag for name in _NAMED_BY for tag in crane.ls(f"{images.host}/{namespace.name}/{name}")] == []
    assert crane.exists(old["an-index"]) == (untagged == "Keep")


def test_on_openshift_a_tag_stays_as_long_as_what_it_named_before_runs(
    cluster: OpenShiftCluster, namespace: Namespace
) -> None:
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map(cluster.service_ca, name=SERVICE_CA)
    cluster.bind(TAGS_ROLE, f"{namespace.name}:{ACCOUNT}", namespace.name)
    old = cluster.images.push(namespace.name, "app", _MOVED, created=days_ago(60), seed="old")
    new = cluster.images.push(namespace.name, "app", _MOVED, created=days_ago(50), seed="new")
    cluster.images.push(namespace.name, "app", "free", created=days_ago(55))
    assert _history(cluster, namespace) == [new, old]
    # As an image change trigger writes it: by digest, and not by the tag, which would protect it by its name.
    image = f"{cluster.registry.host}/{namespace.name}/app@{old}"
    Workloads(namespace).pod("app", pod_spec(image), running(image, image))
    registry = {"type": "OpenShift", "serviceAccountName": ACCOUNT}
    include = {"include": [f"{namespace.name}/*"]}
    namespace.apply({"registry": registry, "repositories": include, **_everything(namespace)})
    namespace.planned()

    done = namespace.run("while it runs")
    assert last_run(done)["phase"] == "Succeeded"
    assert cluster.images.tags(namespace.name, "app") == {_MOVED: new}
    assert _history(cluster, namespace) == [new, old]
    assert _kept(namespace, done, f"{namespace.name}/app") == {_MOVED: ("InUse", True)}

    # Nothing else kept it.
    namespace.change({"inUse": {"enabled": False}})
    namespace.planned()
    assert last_run(namespace.run("unprotected"))["phase"] == "Succeeded"
    assert _history(cluster, namespace) == []


def _history(cluster: OpenShiftCluster, place: Namespace) -> list[str]:
    """Return all digests that the stream has of the moved tag, the current one first."""
    tags = cluster.images.stream(place.name, "app")["status"].get("tags") or []
    return [item["image"] for tag in tags if tag["tag"] == _MOVED for item in tag["items"]]
