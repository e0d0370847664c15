"""Runs in progress: their timeout, their interruption by a kill, their history, and how few Events tell of them."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, answers, before, faulty_registry
from tests.support.images import push_image
from tests.support.operator import operator
from tests.support.policies import Gate, Namespace, condition, days_ago, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer

_REPOSITORIES = ("team/a", "team/b", "team/c")


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with three repositories, in each of which three builds go."""
    for repository in _REPOSITORIES:
        push_builds(registry3.url, repository)
    with faulty_registry(registry3.url) as running:
        yield running


def _left(crane: Crane, registry: RegistryServer) -> list[int]:
    return [len(crane.ls(f"{registry.host}/{repository}")) for repository in _REPOSITORIES]


def _deletions(proxy: FaultyRegistry) -> list[str]:
    """Return the repositories that builds were deleted from, each once, in their order."""
    paths = [request.path for request in proxy.requests if request.method == "DELETE" and "build-" in request.path]
    return list(dict.fromkeys(path.removeprefix("/v2/").partition("/manifests")[0] for path in paths))


def test_a_run_that_reaches_its_timeout_ends_before_its_next_deletion_and_the_next_one_goes_on_there(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False, timeout="10s"))
    namespace.planned()
    # The second deletion in team/b takes longer than the run may.
    proxy.inject(before(lambda: None), method="DELETE", path="/v2/team/b/manifests/build-.*", times=1)
    proxy.inject(before(lambda: time.sleep(12)), method="DELETE", path="/v2/team/b/manifests/build-.*", times=1)
    stopped = namespace.run("first")
    run = last_run(stopped)
    assert run["phase"] == "Partial"
    assert run["message"].startswith("spec.timeout ended the run with 1 of 3 repositories done")
    assert "the next run begins with team/b" in run["message"]
    assert stopped["status"]["nextRepository"] == "team/b"
    # Several repositories are pruned at a time: what was under way there has ended too.
    left = _left(crane, registry3)
    assert run["counts"]["tagsPruned"] == 15 - sum(left)
    assert left[1] == 3
    # It is no success, and no failure of its own.
    assert condition(stopped, "Ready")["status"] == "True"
    assert "lastSuccessfulTime" in stopped["status"]  # of the plan
    proxy.heal()
    done = namespace.run("second")
    assert (last_run(done)["phase"], _left(crane, registry3)) == ("Succeeded", [2, 2, 2])
    assert "nextRepository" not in done["status"]


def test_what_cannot_be_read_in_time_is_left_for_the_next_run_which_begins_there(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False, timeout="8s"))
    planned = namespace.planned()["status"]["plan"]
    assert planned["deletions"] == 9
    assert [top["deletions"] for top in planned["topRepositories"]] == [3, 3, 3]
    proxy.inject(before(lambda: time.sleep(12)), path="/v2/team/b/tags/list")
    stopped = namespace.run("first")
    assert last_run(stopped)["phase"] == "Partial"
    assert (last_run(stopped)["counts"]["repositoriesFailed"], _left(crane, registry3)) == (2, [2, 5, 5])
    assert stopped["status"]["nextRepository"] == "team/b"
    assert [line["repository"] for line in namespace.report(stopped) if line["type"] == "incomplete"] == [
        "team/b",
        "team/c",
    ]
    # It takes a run for itself, and the others have their turn all the same.
    again = namespace.run("second")
    assert again["status"]["nextRepository"] == "team/c"
    assert _left(crane, registry3) == [2, 5, 5]
    third = namespace.run("third")
    assert third["status"]["nextRepository"] == "team/b"
    assert _left(crane, registry3) == [2, 5, 2]
    assert condition(third, "Ready")["reason"] == "Timeout"
    proxy.heal()
    # What was published of it before is published still, so it need not wait anew.
    done = namespace.run("fourth")
    assert (last_run(done)["phase"], _left(crane, registry3)) == ("Succeeded", [2, 2, 2])
    assert _deletions(proxy) == ["team/a", "team/c", "team/b"]
    assert condition(done, "Ready")["status"] == "True"


def test_the_runs_that_ended_are_told_the_latest_first_and_no_more_than_the_limit(
    proxy: FaultyRegistry, namespace: Namespace
) -> None:
    namespace.apply(policy_spec(proxy.url, dryRun=False, historyLimit=3))
    namespace.planned()
    for request in ("first", "second"):
        namespace.run(request)
    history = namespace.policy()["status"]["history"]
    assert [(run["trigger"], run["dryRun"], run["counts"]["tagsPruned"]) for run in history] == [
        ("Request", False, 0),
        ("Request", False, 9),
        ("SpecChange", True, 0),
    ]
    assert history[0]["id"] == last_run(namespace.policy())["id"]
    assert all(len(run["message"]) <= 160 for run in history)
    namespace.run("third")
    assert len(namespace.policy()["status"]["history"]) == 3
    namespace.change({"historyLimit": 0})
    assert namespace.planned()["status"]["history"] == []


def test_a_scheduled_run_that_sigkill_cut_short_is_said_to_be_interrupted_and_done_again_once(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    long_ago = (due - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    nominal = due.strftime("%Y-%m-%dT%H:%M:%SZ")
    own_namespace.apply(
        policy_spec(proxy.url, dryRun=False, schedule=f"{due.minute} * * * *", startingDeadlineSeconds=3600)
    )
    with operator(own_namespace.plane, tmp_path / "first"):
        own_namespace.planned()
    own_namespace.write_status({"scheduleCountsFrom": long_ago})
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    with operator(own_namespace.plane, tmp_path / "second") as second:
        gate.wait()
        assert last_run(own_namespace.policy())["scheduledTime"] == nominal
        second.process.signal(signal.SIGKILL)
        assert second.process.wait(30) == -signal.SIGKILL
        gate.open()
    killed = last_run(own_namespace.policy())
    assert "lastScheduleTime" not in own_namespace.policy()["status"]
    # By now it would be too late, had it not begun in time. (A change of the deadline would plan anew.)
    with operator(own_namespace.plane, tmp_path / "third") as third:
        done = own_namespace.wait(lambda policy: "lastScheduleTime" in policy["status"], "the run that is done again")
        own_namespace.change({"minTagsPerRepository": 0})
        own_namespace.planned()
        triggers = [line["trigger"] for line in third.log_lines(message="run finished")]
    assert triggers == ["Schedule", "SpecChange"]
    assert (done["status"]["lastScheduleTime"], last_run(done)["phase"]) == (nominal, "Succeeded")
    assert f"this run repeats {killed['id']}, which was interrupted" in last_run(done)["message"]
    assert [(run["phase"], run["id"] == killed["id"]) for run in done["status"]["history"]][:2] == [
        ("Succeeded", False),
        ("Interrupted", True),
    ]
    (told,) = [event for event in own_namespace.events() if event["reason"] == "RunInterrupted"]
    assert told["message"] == "Schedule: the operator ended during this run; it is done again"
    assert _left(crane, registry3) == [2, 2, 2]


# Events


def test_a_run_with_hundreds_of_tags_and_failures_is_told_in_one_event(
    registry3: RegistryServer, namespace: Namespace
) -> None:
    tags = [f"build-{number}" for number in range(300)]
    push_image(registry3.url, "team/app", tags, created=days_ago(40))
    push_image(registry3.url, "team/app", ["newest"], created=days_ago(1), seed="newest")
    rule = {"name": "builds", "tags": {"include": ["build-[0-9]+"]}, "olderThan": "30d"}
    limits = {"maxPercentPerRepository": 100}
    with faulty_registry(registry3.url) as proxy:
        namespace.apply(policy_spec(proxy.url, dryRun=False, rules=[rule], limits=limits))
        namespace.planned()
        refused = '{"errors":[{"code":"DENIED","message":"no"}]}'
        proxy.inject(
            answers(405, refused, {"Content-Type": "application/json"}),
            method="DELETE",
            path=".*/manifests/build-.*[02468]",
        )
        done = namespace.run("now")
        assert last_run(done)["counts"]["tagsPlanned"] == 300
        assert last_run(done)["phase"] in ("Partial", "Failed")
        namespace.wait(lambda _: len(namespace.events()) >= 2, "the Events")
    reasons = [event["reason"] for event in namespace.events()]
    assert sorted(reasons) == ["PlanSucceeded", f"Run{last_run(done)['phase']}"]


def test_the_same_failure_again_and_again_makes_one_event(registry3: RegistryServer, namespace: Namespace) -> None:
    with faulty_registry(registry3.url) as proxy:
        proxy.inject(answers(500), path="/v2/")
        namespace.apply(policy_spec(proxy.url))
        for minimum in range(2, 6):
            ended = namespace.wait(
                lambda policy: (
                    len(policy.get("status", {}).get("history", [])) >= minimum - 1  # noqa: B023 - called at once
                ),
                "the failure",
            )
            assert last_run(ended)["phase"] == "Failed"
            namespace.change({"minTagsPerRepository": minimum})
        namespace.wait(lambda policy: len(policy["status"]["history"]) >= 5, "the last failure")
    events = namespace.events()
    assert [event["reason"] for event in events] == ["PlanFailed"]
