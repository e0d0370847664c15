"""From an applied policy to a pruned registry: what is planned, what goes, and what is told of it."""

from collections.abc import Mapping

import pytest

from tests.support.crane import Crane
from tests.support.faulty import before, faulty_registry
from tests.support.images import push_image, push_index
from tests.support.operator import Operator
from tests.support.policies import (
    LIMIT,
    NAME,
    REQUEST,
    Gate,
    Namespace,
    Resource,
    condition,
    conditions,
    days_ago,
    is_planned,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

Tags = Mapping[str, list[str]]

_PLANNED = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}


def _fill(registry: RegistryServer) -> Tags:
    """Push the interesting cases; return the tags that stay in each repository once the policy is carried out."""
    by_tag = registry.version == "3"
    for build, more in [(1, []), (2, ["release"]), (3, []), (4, []), (5, ["latest"])]:
        tags = [f"build-{build}", *more]
        push_image(registry.url, "team/app", tags, created=days_ago(50 - build), seed=f"app {build}")
    children = [
        push_image(registry.url, "team/multi", created=days_ago(60), platform=platform, seed=platform)
        for platform in ("linux/amd64", "linux/arm64")
    ]
    push_index(registry.url, "team/multi", ["build-1"], children=children)
    for build in (2, 3):
        push_image(registry.url, "team/multi", [f"build-{build}"], created=days_ago(45), seed=f"multi {build}")
    push_image(registry.url, "team/deep/dateless", ["build-1"], created=None, seed="dateless")
    for build in (2, 3, 4):
        created = days_ago(50 - build)
        push_image(registry.url, "team/deep/dateless", [f"build-{build}"], created=created, seed=f"dateless {build}")
    push_builds(registry.url, "other/app")
    return {
        # Where only whole digests can be deleted, `release` keeps what it shares with build-2.
        "team/app": [*([] if by_tag else ["build-2"]), "build-4", "build-5", "latest", "release"],
        "team/multi": ["build-2", "build-3"],
        "team/deep/dateless": ["build-1", "build-3", "build-4"],
        "other/app": [f"build-{build}" for build in range(1, 6)],
    }


def _tags(crane: Crane, registry: RegistryServer) -> Tags:
    """Return all tags of all repositories, as crane sees them."""
    return {name: crane.ls(f"{registry.host}/{name}") for name in crane.catalog(registry.host)}


def _sample(policy: Resource) -> set[tuple[str, str]]:
    return {(item["repository"], item["tag"]) for item in policy["status"]["plan"]["sample"]}


def _difference(before_: Tags, after: Tags) -> set[tuple[str, str]]:
    return {(name, tag) for name, tags in before_.items() for tag in tags if tag not in after[name]}


def test_a_policy_prunes_what_its_plan_said_when_it_is_asked_and_nothing_before(
    registry: RegistryServer, namespace: Namespace, crane: Crane, shared_operator: Operator
) -> None:
    stays = _fill(registry)
    filled = _tags(crane, registry)
    going = _difference(filled, stays)
    by_tag = registry.version == "3"

    namespace.apply(policy_spec(registry.url))
    first = namespace.planned()

    assert _tags(crane, registry) == filled
    status, run = first["status"], last_run(first)
    kept = {"MostRecent": 6, "UnknownDate": 1, "Unmatched": 1, "KeepTags": 1, **({} if by_tag else {"SharedDigest": 1})}
    assert status["observedGeneration"] == 1
    assert conditions(first) == {
        **_PLANNED,
        "RegistryReachable": "True",
        "DeleteSupported": "True",
        "InUseKnown": "True",
        "LimitExceeded": "False",
    }
    assert condition(first, "DeleteSupported")["reason"] == ("ByTag" if by_tag else "ByDigest")
    assert {one["observedGeneration"] for one in status["conditions"]} == {1}
    assert (run["phase"], run["trigger"], run["dryRun"]) == ("Succeeded", "SpecChange", True)
    # Nothing was published before, so all that is planned would have to wait.
    assert run["keptByReason"] == kept | {"GracePeriod": len(going)}
    assert run["counts"] == {
        "repositoriesScanned": 3,
        "repositoriesFailed": 0,
        "tagsScanned": 14,
        "tagsMatched": 12,
        "tagsKept": 14 - len(going),
        "tagsPlanned": len(going),
        "tagsPruned": 0,
        "tagsFailed": 0,
        "tagsSkipped": 0,
    }
    assert _sample(first) == going
    assert status["plan"]["deletions"] == len(going)
    assert "nextScheduleTime" not in status
    assert "lastHandledRunRequest" not in status

    # A dry run on request never prunes, and comes to the same plan.
    dry = namespace.run("dry")
    assert last_run(dry)["trigger"] == "Request"
    assert last_run(dry)["dryRun"] is True
    assert last_run(dry)["keptByReason"] == kept
    assert dry["status"]["plan"]["hash"] == status["plan"]["hash"]
    assert _tags(crane, registry) == filled

    namespace.change({"dryRun": False})
    again = namespace.planned()
    assert again["status"]["observedGeneration"] == 2
    assert last_run(again)["dryRun"] is True
    assert again["status"]["plan"]["hash"] == status["plan"]["hash"]
    assert _tags(crane, registry) == filled

    done = namespace.run("real")
    assert _tags(crane, registry) == stays
    run = last_run(done)
    assert (run["phase"], run["trigger"], run["dryRun"]) == ("Succeeded", "Request", False)
    assert run["counts"]["tagsPruned"] == len(going)
    assert run["keptByReason"] == kept
    assert done["status"]["plan"]["hash"] == status["plan"]["hash"]
    assert done["status"]["lastSuccessfulTime"] == run["completionTime"]
    assert conditions(done) == conditions(first)
    _assert_log_tells_all(shared_operator, f"{namespace.name}/{NAME}", run["id"], going)

    # What is done is done: a second request finds nothing more.
    second = namespace.run("real again")
    assert last_run(second)["counts"]["tagsPlanned"] == 0
    assert second["status"]["plan"]["deletions"] == 0
    assert _tags(crane, registry) == stays
    events = _wait_for_events(namespace, 5)
    assert {event["reportingComponent"] for event in events} == {"registry-cleanup"}
    reasons = [(event["reason"], event["type"]) for event in events]
    # The two plans, the dry run and the two real runs.
    assert sorted(reasons) == [("PlanSucceeded", "Normal")] * 3 + [("RunSucceeded", "Normal")] * 2


def _assert_log_tells_all(operator: Operator, policy: str, run: str, going: set[tuple[str, str]]) -> None:
    verdicts = operator.log_lines(policy=policy, run=run, verdict="Prune")
    outcomes = operator.log_lines(policy=policy, run=run, outcome="Pruned")
    for lines in (verdicts, outcomes):
        assert sorted((line["repository"], line["tag"]) for line in lines) == sorted(going)
    assert {line["rule"] for line in verdicts} == {"builds"}
    assert all(line["reasons"] == ["OlderThan", "BeyondMostRecent"] for line in verdicts)
    assert len(operator.log_lines(policy=policy, run=run, message="run finished")) == 1


def _wait_for_events(namespace: Namespace, number: int) -> list[Resource]:
    wait_until(lambda: len(namespace.events()) >= number, LIMIT, f"{number} events")
    return namespace.events()


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_new_policy_is_only_planned_whatever_it_asks(
    registry3: RegistryServer, namespace: Namespace, crane: Crane, *, dry_run: bool
) -> None:
    push_builds(registry3.url)
    filled = _tags(crane, registry3)
    namespace.apply(policy_spec(registry3.url, dryRun=dry_run), annotations={REQUEST: "at birth"})
    policy = namespace.handled("at birth")
    assert (last_run(policy)["dryRun"], last_run(policy)["trigger"]) == (True, "SpecChange")
    assert policy["status"]["plan"]["deletions"] == 3
    assert _tags(crane, registry3) == filled
    # The next request is one that somebody made who could see the plan.
    asked = namespace.run("later")
    assert last_run(asked)["dryRun"] is dry_run
    assert _tags(crane, registry3) == (filled if dry_run else {"team/app": ["build-4", "build-5"]})


def test_a_changed_policy_is_only_planned_though_its_request_came_along(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False))
    namespace.planned()
    body = namespace.policy()
    body["spec"]["rules"][0]["keep"]["mostRecent"] = 1
    body["metadata"]["annotations"] = {REQUEST: "with the change"}
    namespace.replace(body)
    policy = namespace.handled("with the change")
    assert last_run(policy)["dryRun"] is True
    assert policy["status"]["plan"]["deletions"] == 4
    assert len(_tags(crane, registry3)["team/app"]) == 5


def test_the_same_request_is_answered_once(
    registry3: RegistryServer, namespace: Namespace, crane: Crane, shared_operator: Operator
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False))
    namespace.planned()
    run = last_run(namespace.run("once"))["id"]
    push_image(registry3.url, "team/app", ["build-0"], created=days_ago(99), seed="one more")
    # An event that shows the same request again, and then a plan: had there been a run, it came before.
    namespace.request_run("once")
    namespace.change({"minTagsPerRepository": 0})
    namespace.planned()
    assert "build-0" in _tags(crane, registry3)["team/app"]
    finished = shared_operator.log_lines(policy=f"{namespace.name}/{NAME}", message="run finished", planOnly=False)
    assert [line["run"] for line in finished] == [run]


def test_several_requests_during_a_run_are_one_more_run(
    registry3: RegistryServer, namespace: Namespace, crane: Crane, shared_operator: Operator
) -> None:
    push_builds(registry3.url)
    with faulty_registry(registry3.url) as proxy:
        gate = Gate()
        proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
        namespace.apply(policy_spec(proxy.url, dryRun=False))
        namespace.planned()
        namespace.request_run("first")
        gate.wait()
        assert last_run(namespace.policy())["phase"] == "Running"
        for value in ("second", "third", "fourth"):
            namespace.request_run(value)
        gate.open()
        namespace.handled("fourth")
        namespace.change({"suspend": True})
        namespace.wait(lambda policy: condition(policy, "Ready")["reason"] == "Suspended", "the suspension")
    finished = shared_operator.log_lines(policy=f"{namespace.name}/{NAME}", message="run finished", planOnly=False)
    assert [line["counts"]["tags_pruned"] for line in finished] == [3, 0]
    assert _tags(crane, registry3) == {"team/app": ["build-4", "build-5"]}


def test_a_suspended_policy_does_nothing_until_it_is_resumed(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    filled = _tags(crane, registry3)
    namespace.apply(
        policy_spec(registry3.url, dryRun=False, suspend=True, schedule="* * * * *"), annotations={REQUEST: "now"}
    )
    suspended = namespace.wait(lambda policy: condition(policy, "Ready") != {}, "a word of the operator")
    assert condition(suspended, "Ready")["reason"] == "Suspended"
    assert "spec.suspend" in condition(suspended, "Ready")["message"]
    assert suspended["status"].keys() == {"observedGeneration", "conditions", "suspendedTime", "history"}
    assert suspended["status"]["history"] == []
    namespace.change({"suspend": False, "schedule": None})
    resumed = namespace.planned()
    assert conditions(resumed)["Ready"] == "True"
    assert resumed["status"]["plan"]["deletions"] == 3
    namespace.change({"suspend": True})
    namespace.wait(lambda policy: condition(policy, "Ready")["reason"] == "Suspended", "the suspension")
    namespace.change({"suspend": False})
    namespace.planned()
    assert _tags(crane, registry3) == filled


def test_two_policies_do_not_disturb_each_other(
    registry2: RegistryServer, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry2.url, "slow/app")
    push_builds(registry3.url)
    with faulty_registry(registry2.url) as slow:
        gate = Gate()
        slow.inject(before(gate), method="GET", path=".*/tags/list")
        # Of other repositories, or the second would have to see first whether this is its registry, too.
        repositories = {"include": ["slow/**"]}
        namespace.apply(policy_spec(slow.url, dryRun=False, repositories=repositories), "slow")
        gate.wait()
        namespace.apply(policy_spec(registry3.url, dryRun=False), "quick")
        namespace.planned("quick")
        namespace.run("go", "quick")
        assert last_run(namespace.policy("slow"))["phase"] == "Running"
        assert _tags(crane, registry3) == {"team/app": ["build-4", "build-5"]}
        gate.open()
        namespace.planned("slow")
        assert len(_tags(crane, registry2)["slow/app"]) == 5
        namespace.run("go", "slow")
    assert _tags(crane, registry2) == {"slow/app": ["build-4", "build-5"]}


def test_twenty_policies_at_once_are_all_planned(registry3: RegistryServer, namespace: Namespace) -> None:
    for number in range(20):
        push_builds(registry3.url, f"team/app-{number}", 3)
    for number in range(20):
        include = {"include": [f"team/app-{number}"]}
        namespace.apply(policy_spec(registry3.url, repositories=include), f"policy-{number}")
    wait_until(lambda: all(map(is_planned, namespace.policies())), LIMIT, "twenty plans")
    policies = namespace.policies()
    assert [policy["status"]["plan"]["deletions"] for policy in policies] == [1] * 20
    assert len({policy["status"]["plan"]["hash"] for policy in policies}) == 20


def test_two_policies_that_select_one_repository_do_not_empty_it(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    for number in range(20):
        for kind in ("feature", "nightly"):
            tag = f"{kind}-{number}"
            push_image(registry3.url, "team/app", [tag], created=days_ago(40 + number), seed=tag)
    limits = {"maxPercentPerRepository": 100}
    for kind in ("feature", "nightly"):
        rules = [{"name": kind, "tags": {"include": [f"{kind}-.*"]}, "olderThan": "7d"}]
        namespace.apply(policy_spec(registry3.url, rules=rules, limits=limits, dryRun=False), name=kind)
    for kind in ("feature", "nightly"):
        namespace.planned(kind)
    for kind in ("feature", "nightly"):
        namespace.request_run("now", kind)
    for kind in ("feature", "nightly"):
        namespace.handled("now", kind)
    # Each plan would count on the other's tags to fill the floor of one tag: only the older policy prunes.
    assert crane.ls(f"{registry3.host}/team/app") == sorted(f"nightly-{number}" for number in range(20))
    assert last_run(namespace.policy("nightly"))["keptByReason"].keys() == {"PolicyConflict"}
    # Once the younger may prune, it sees what the older has left.
    namespace.delete("feature")
    namespace.run("publish", "nightly")
    assert last_run(namespace.run("prune", "nightly"))["counts"]["tagsPruned"] == 19
    assert crane.ls(f"{registry3.host}/team/app") == ["nightly-0"]
