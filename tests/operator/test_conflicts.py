"""Two policies that select one repository: the older prunes there, both say so, and it ends when one of them goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crane import Crane
from tests.support.faulty import faulty_registry
from tests.support.operator import operator
from tests.support.policies import Namespace, Resource, condition, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer

OLDER, YOUNGER = "older", "younger"  # of one second, the first by name is the older one
_ALL = [f"build-{build}" for build in range(1, 6)]


@pytest.fixture(params=["same", "localhost", "proxy"])
def other_url(request: pytest.FixtureRequest, registry3: RegistryServer) -> Iterator[str]:
    """Name the registry by its own URL, by a host name of the same address, and by what only its content tells."""
    if request.param == "proxy":
        with faulty_registry(registry3.url) as proxy:
            yield proxy.url
    elif request.param == "localhost":
        yield registry3.url.replace("127.0.0.1", "localhost")
    else:
        yield registry3.url


def _conflict(namespace: Namespace, name: str, status: str = "True") -> str:
    """Wait until the policy says whether it is in conflict, and return what it says."""

    def is_so(policy: Resource) -> bool:
        return condition(policy, "PolicyConflict").get("status") == status

    message: str = condition(namespace.wait(is_so, f"PolicyConflict {status} of {name}", name), "PolicyConflict")[
        "message"
    ]
    return message


def _tags(crane: Crane, registry: RegistryServer) -> list[str]:
    return crane.ls(f"{registry.host}/team/app")


def test_the_older_policy_prunes_by_whatever_name_the_younger_calls_the_registry(
    registry3: RegistryServer, other_url: str, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    push_builds(registry3.url, "team/web")
    namespace.apply(policy_spec(registry3.url, dryRun=False, keepTags=["build-1"]), OLDER)
    assert namespace.planned(OLDER)["status"]["plan"]["deletions"] == 4
    repositories = {"include": ["team/app"]}
    spec = policy_spec(other_url, dryRun=False, keepTags=["build-2"], repositories=repositories)
    namespace.apply(spec, YOUNGER)

    planned = namespace.planned(YOUNGER)
    assert planned["status"]["plan"]["deletions"] == 0
    assert last_run(planned)["keptByReason"] == {"PolicyConflict": 5}
    # Each names the other and the repository, the older one without a run of its own.
    told = _conflict(namespace, YOUNGER)
    assert f"{namespace.name}/{OLDER} is older" in told
    assert told.count("team/") == 1
    assert "team/app" in told
    told = _conflict(namespace, OLDER)
    assert f"{namespace.name}/{YOUNGER} is younger" in told
    assert "team/app" in told
    assert "team/web" not in told
    assert last_run(namespace.policy(OLDER))["trigger"] == "SpecChange"

    assert last_run(namespace.run("now", YOUNGER))["counts"]["tagsPruned"] == 0
    assert _tags(crane, registry3) == _ALL
    # What either keeps stays, where both of them select.
    namespace.run("now", OLDER)
    assert _tags(crane, registry3) == ["build-1", "build-2", "build-4", "build-5"]
    assert crane.ls(f"{registry3.host}/team/web") == ["build-1", "build-4", "build-5"]
    assert f"{namespace.name}/{YOUNGER} is younger" in _conflict(namespace, OLDER)

    namespace.delete(OLDER)
    _conflict(namespace, YOUNGER, "False")
    # What it may prune now is published first.
    assert last_run(namespace.run("again", YOUNGER))["counts"]["tagsPruned"] == 0
    namespace.run("once more", YOUNGER)
    assert _tags(crane, registry3) == ["build-2", "build-4", "build-5"]
    assert condition(namespace.policy(YOUNGER), "PolicyConflict")["status"] == "False"


def test_registries_that_hold_something_else_are_no_conflict(
    registry2: RegistryServer, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    for registry in (registry2, registry3):
        push_builds(registry.url, number=5 if registry is registry3 else 7)
    namespace.apply(policy_spec(registry2.url, dryRun=False), OLDER)
    namespace.planned(OLDER)
    namespace.apply(policy_spec(registry3.url, dryRun=False), YOUNGER)
    namespace.planned(YOUNGER)
    namespace.run("now", YOUNGER)
    assert _tags(crane, registry3) == ["build-4", "build-5"]
    assert "True" not in {condition(policy, "PolicyConflict").get("status") for policy in namespace.policies()}


@pytest.mark.parametrize("change", [{"suspend": True}, {"dryRun": True}], ids=["suspended", "dry run"])
def test_a_policy_that_does_not_prune_blocks_nobody(
    registry3: RegistryServer, namespace: Namespace, crane: Crane, change: dict[str, bool]
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, **{"dryRun": False, **change}), OLDER)
    namespace.wait(lambda policy: condition(policy, "Ready") != {}, "a word on the older policy", OLDER)
    namespace.apply(policy_spec(registry3.url, dryRun=False), YOUNGER)
    namespace.planned(YOUNGER)
    namespace.run("now", YOUNGER)
    assert _tags(crane, registry3) == ["build-4", "build-5"]
    assert condition(namespace.policy(YOUNGER), "PolicyConflict").get("status") != "True"


def test_a_dry_run_keeps_what_an_older_policy_prunes_and_does_not_trouble_it(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False), OLDER)
    namespace.planned(OLDER)
    namespace.apply(policy_spec(registry3.url, keepTags=["build-1"]), YOUNGER)
    dry = namespace.planned(YOUNGER)
    assert last_run(dry)["keptByReason"] == {"PolicyConflict": 5}
    assert f"{namespace.name}/{OLDER} is older" in condition(dry, "PolicyConflict")["message"]
    done = namespace.run("now", OLDER)
    assert condition(done, "PolicyConflict").get("status") != "True"
    assert _tags(crane, registry3) == ["build-4", "build-5"]


@pytest.mark.parametrize("change", [{"suspend": True}, {"dryRun": True}], ids=["suspended", "made a dry run"])
def test_a_conflict_ends_at_once_when_the_older_policy_stops_to_prune_and_returns_with_it(
    registry3: RegistryServer, namespace: Namespace, change: dict[str, bool]
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False), OLDER)
    namespace.planned(OLDER)
    namespace.apply(policy_spec(registry3.url, dryRun=False), YOUNGER)
    planned = namespace.planned(YOUNGER)
    _conflict(namespace, YOUNGER)
    _conflict(namespace, OLDER)
    namespace.change(change, OLDER)
    assert "no other live policy" in _conflict(namespace, YOUNGER, "False")
    assert last_run(namespace.policy(YOUNGER)) == last_run(planned)
    namespace.change({"suspend": False, "dryRun": False}, OLDER)
    _conflict(namespace, YOUNGER)
    # Narrowed, it leaves the repository to the other, and says so by its plan.
    namespace.change({"repositories": {"include": ["other/**"]}}, OLDER)
    _conflict(namespace, YOUNGER, "False")
    _conflict(namespace, OLDER, "False")


def test_a_conflict_that_ended_while_no_operator_ran_is_told_no_longer(
    registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    with operator(own_namespace.plane, tmp_path / "first"):
        own_namespace.apply(policy_spec(registry3.url, dryRun=False), OLDER)
        own_namespace.planned(OLDER)
        own_namespace.apply(policy_spec(registry3.url, dryRun=False), YOUNGER)
        planned = own_namespace.planned(YOUNGER)
        _conflict(own_namespace, YOUNGER)
    own_namespace.delete(OLDER)
    with operator(own_namespace.plane, tmp_path / "second"):
        _conflict(own_namespace, YOUNGER, "False")
    assert last_run(own_namespace.policy(YOUNGER)) == last_run(planned)
