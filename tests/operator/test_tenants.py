"""The administrator's settings bound every policy: what they do not allow does not run, and what they protect stays."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import Operator, operator
from tests.support.policies import (
    LIMIT,
    Namespace,
    condition,
    days_ago,
    fresh_namespace,
    is_planned,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, distribution

_WHOLE = {"minTagsPerRepository": 0, "inUse": {"enabled": False}, "keepTags": ["kept"]}
_ALL = [{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with distribution("3", tmp_path_factory.mktemp("tenants-registry")) as server:
        yield server


@pytest.fixture(scope="module")
def bounded(
    own_plane: ControlPlane, images: RegistryServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    settings = {
        "ALLOWED_REGISTRIES": f"{images.host}, *.example.com",
        "PROTECTED_REPOSITORIES": "*/golden",
        "PROTECTED_TAGS": "release-[0-9]{1,3}",
        "SMALLEST_INTERVAL": "1h",
        "MAX_DELETIONS": "2",
    }
    with operator(own_plane, tmp_path_factory.mktemp("bounded-operator"), settings) as started:
        yield started


@pytest.fixture
def place(own_plane: ControlPlane, bounded: Operator, namespace_name: str) -> Iterator[Namespace]:
    with fresh_namespace(own_plane, namespace_name, [bounded]) as fresh:
        yield fresh


@pytest.fixture
def push(place: Namespace, images: RegistryServer) -> Callable[..., None]:
    """Push old tags, the oldest first, each an image of its own, into a repository of the test."""

    def do(repository: str, *tags: str) -> None:
        for number, tag in enumerate(tags):
            name = f"{place.name}/{repository}"
            push_image(images.url, name, [tag], created=days_ago(90 - number), seed=f"{name} {tag}")

    return do


def test_a_policy_at_a_registry_that_is_not_allowed_is_stalled_until_it_names_another(
    place: Namespace, images: RegistryServer
) -> None:
    push_builds(images.url, f"{place.name}/app")
    elsewhere = images.url.replace("127.0.0.1", "localhost")
    place.apply(policy_spec(elsewhere, repositories={"include": [f"{place.name}/*"]}, schedule="*/5 * * * *"))
    message = place.stalled("NotAllowed")
    host = images.host.replace("127.0.0.1", "localhost")
    assert f"spec.registry.url: names {host}, which is not allowed by the operator's setting" in message
    assert f"REGISTRY_CLEANUP_ALLOWED_REGISTRIES ({images.host}, *.example.com)" in message
    assert "spec.schedule: has two times only 5m apart" in message  # all at once
    policy = place.policy()
    assert (condition(policy, "Ready")["status"], condition(policy, "Ready")["reason"]) == ("False", "NotAllowed")
    assert condition(policy, "Reconciling")["status"] == "False"
    assert last_run(policy) == {}
    assert "nextScheduleTime" not in policy["status"]
    wait_until(lambda: bool(place.events()), LIMIT, "the Event")
    assert [event["reason"] for event in place.events()] == ["NotAllowed"]
    place.change({"registry": {"url": images.url}, "schedule": "@hourly"})
    assert condition(place.planned(), "Stalled")["status"] == "False"


def test_what_the_administrator_protects_stays_and_the_report_says_by_which_setting(
    place: Namespace, images: RegistryServer, push: Callable[..., None], crane: Crane
) -> None:
    push("golden", "old")
    push("app", "old", "release-1", "kept")
    place.apply(
        policy_spec(images.url, dryRun=False, repositories={"include": [f"{place.name}/*"]}, rules=_ALL, **_WHOLE)
    )
    place.planned()
    policy = place.run("now")
    assert last_run(policy)["phase"] == "Succeeded"
    assert sorted(crane.ls(f"{images.host}/{place.name}/app")) == ["kept", "release-1"]
    assert crane.ls(f"{images.host}/{place.name}/golden") == ["old"]
    assert last_run(policy)["keptByReason"] == {"KeepTags": 3}
    settings = {
        (line["repository"].rpartition("/")[2], line["tag"]): line.get("setting")
        for line in place.report(policy)
        if line["type"] == "tag" and line["verdict"] == "Keep"
    }
    assert settings == {
        ("golden", "old"): "REGISTRY_CLEANUP_PROTECTED_REPOSITORIES",
        ("app", "release-1"): "REGISTRY_CLEANUP_PROTECTED_TAGS",
        ("app", "kept"): None,
    }
    assert "mistyped" not in last_run(policy)["message"]


def test_no_policy_and_no_approval_lets_one_run_prune_more_than_the_administrator_does(
    place: Namespace, images: RegistryServer, push: Callable[..., None], crane: Crane
) -> None:
    push("app", "a", "b", "c", "d", "e")
    spec = policy_spec(images.url, dryRun=False, repositories={"include": [f"{place.name}/*"]}, rules=_ALL, **_WHOLE)
    place.apply({**spec, "limits": {"maxPercentPerRepository": 100}})
    place.planned()
    policy = place.run("blocked")
    assert last_run(policy)["phase"] == "Blocked"
    told = condition(policy, "LimitExceeded")
    assert (told["status"], told["reason"]) == ("True", "PlanBlocked")
    assert "5 tags would go, more than the operator's setting REGISTRY_CLEANUP_MAX_DELETIONS (2)" in told["message"]
    place.approve(policy["status"]["plan"]["hash"])
    policy = place.wait(lambda it: last_run(it)["trigger"] == "Resume" and is_planned(it), "the approved run")
    assert sorted(crane.ls(f"{images.host}/{place.name}/app")) == ["c", "d", "e"]  # the oldest went
    assert last_run(policy)["keptByReason"] == {"LimitTruncated": 3}
    policy = place.run("the rest of what was approved, in turn")
    assert crane.ls(f"{images.host}/{place.name}/app") == ["e"]
    policy = place.run("all")
    assert condition(policy, "LimitExceeded")["message"] == (
        "no limit of spec.limits holds the plan back; instead of limits.maxDeletions, the operator's setting "
        "REGISTRY_CLEANUP_MAX_DELETIONS (2) holds"
    )
