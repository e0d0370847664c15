"""What stops a run: a policy that wants something else by now, and an operator or API server that goes away."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.aio import client

from registry_cleanup.application import Application
from registry_cleanup.clock import SystemClock
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.places import Places
from registry_cleanup.policy_task import PolicyTask
from registry_cleanup.settings import Settings
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, before
from tests.support.midway import BUILDS, GOING, finished, left, pruning, registry_of_builds
from tests.support.operator import Operator, operator
from tests.support.policies import (
    LIMIT,
    NAME,
    Gate,
    Namespace,
    condition,
    is_planned,
    last_run,
    policy_spec,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with ten builds that go."""
    with registry_of_builds(registry3) as running:
        yield running


def _wait_until_heard(namespace: Namespace) -> None:
    """Wait until the operator has heard of all changes so far: it hears of them in their order."""
    namespace.apply(policy_spec("https://registry.example.com", suspend=True), "later")
    namespace.wait(lambda policy: condition(policy, "Ready") != {}, "a word on the later policy", "later")


def _wait_for_end(operator: Operator, namespace: Namespace) -> None:
    wait_until(lambda: finished(operator, namespace) != [], LIMIT, "the end of the run", operator.process)


def _suspend(namespace: Namespace) -> None:
    namespace.change({"suspend": True})


def _make_dry(namespace: Namespace) -> None:
    namespace.change({"dryRun": True})


def _keep_all(namespace: Namespace) -> None:
    namespace.change({"keepTags": ["build-.*"]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_suspend, "the policy was suspended"),
        (_make_dry, "the policy was changed"),
        (_keep_all, "the policy was changed"),
    ],
    ids=["suspended", "dryRun", "changed"],
)
def test_a_policy_that_wants_something_else_stops_its_run_before_the_next_deletion(
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    namespace: Namespace,
    crane: Crane,
    shared_operator: Operator,
    change: Callable[[Namespace], None],
    words: str,
) -> None:
    with pruning(namespace, proxy):
        change(namespace)
        _wait_until_heard(namespace)
    _wait_for_end(shared_operator, namespace)
    # The deletion that was under way is the only one.
    assert left(crane, registry3) == BUILDS - 1
    assert finished(shared_operator, namespace) == ["Interrupted"]
    wait_until(lambda: _interruptions(namespace) != [], LIMIT, "the Event")
    (message,) = _interruptions(namespace)
    assert f"stopped: {words}" in message
    assert f"1 of {GOING} planned tags are pruned" in message
    if change is _suspend:
        suspended = namespace.wait(lambda it: condition(it, "Ready").get("reason") == "Suspended", "the suspension")
        assert last_run(suspended)["phase"] == "Interrupted"
        assert last_run(suspended)["counts"]["tagsPruned"] == 1
        namespace.change({"suspend": False})
    # What is changed is planned first, and its plan answers the request.
    planned = namespace.handled("now")
    assert last_run(planned)["dryRun"] is True
    assert is_planned(namespace.planned())
    assert left(crane, registry3) == BUILDS - 1


def _interruptions(namespace: Namespace) -> list[str]:
    return [event["message"] for event in namespace.events() if event["reason"] == "RunInterrupted"]


def test_a_deleted_policy_stops_its_run_and_nobody_is_told(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane, shared_operator: Operator
) -> None:
    with pruning(namespace, proxy):
        namespace.delete()
        _wait_until_heard(namespace)
    _wait_for_end(shared_operator, namespace)
    assert left(crane, registry3) == BUILDS - 1
    assert finished(shared_operator, namespace) == ["Interrupted"]


def test_a_policy_of_the_same_name_is_another_one(
    proxy: FaultyRegistry, registry3: RegistryServer, namespace: Namespace, crane: Crane, shared_operator: Operator
) -> None:
    with pruning(namespace, proxy):
        namespace.delete()
        namespace.apply(policy_spec(proxy.url, dryRun=False))
        _wait_until_heard(namespace)
    _wait_for_end(shared_operator, namespace)
    new = namespace.planned()
    assert last_run(new)["dryRun"] is True
    # It may have looked while the deletion was under way.
    assert new["status"]["plan"]["deletions"] in (GOING, GOING - 1)
    assert "lastHandledRunRequest" not in new["status"]
    assert finished(shared_operator, namespace) == ["Interrupted"]
    assert left(crane, registry3) == BUILDS - 1


def test_a_policy_that_changes_while_it_is_only_planned_is_planned_anew(
    proxy: FaultyRegistry, namespace: Namespace
) -> None:
    gate = Gate()
    proxy.inject(before(gate), path=".*/tags/list", times=1)
    namespace.apply(policy_spec(proxy.url))
    gate.wait()
    namespace.change({"keepTags": ["build-1"]})
    gate.open()
    planned = namespace.planned()
    assert planned["status"]["plan"]["observedGeneration"] == 2
    assert planned["status"]["plan"]["deletions"] == GOING - 1


# Restarts


def test_sigterm_stops_a_run_at_the_next_safe_point_and_the_next_start_ends_it(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "first") as first:
        with pruning(own_namespace, proxy):
            first.process.signal(signal.SIGTERM)
            wait_until(lambda: "Signal" in first.process.log.read_text(), LIMIT, "the signal's arrival", first.process)
        started = time.monotonic()
        assert first.process.wait(LIMIT) == 0
        # The Deployment grants 60 s.
        assert time.monotonic() - started < 20
    stopped = own_namespace.policy()
    assert last_run(stopped)["phase"] == "Interrupted"
    assert "stopped: the operator was stopped" in last_run(stopped)["message"]
    assert last_run(stopped)["counts"]["tagsPruned"] == 1
    assert "lastHandledRunRequest" not in stopped["status"]
    assert left(crane, registry3) == BUILDS - 1
    with operator(own_namespace.plane, tmp_path / "second") as second:
        done = own_namespace.handled("now")
        assert (last_run(done)["phase"], last_run(done)["dryRun"]) == ("Succeeded", False)
        assert last_run(done)["counts"]["tagsPruned"] == GOING - 1
        assert left(crane, registry3) == 2
        assert finished(second, own_namespace) == ["Succeeded"]


def test_the_next_start_says_of_a_run_that_sigkill_cut_short_that_it_was_interrupted(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "first") as first, pruning(own_namespace, proxy):
        first.process.signal(signal.SIGKILL)
        assert first.process.wait(LIMIT) == -signal.SIGKILL
    assert last_run(own_namespace.policy())["phase"] == "Running"
    wait_until(lambda: left(crane, registry3) == BUILDS - 1, LIMIT, "the deletion that was under way")
    # Or the same run, done again, would soon stand in its place.
    _suspend(own_namespace)
    with operator(own_namespace.plane, tmp_path / "second"):
        said = own_namespace.phase("Interrupted")
    assert last_run(said)["message"] == "the operator ended during this run; it is done again"
    assert "completionTime" in last_run(said)
    assert left(crane, registry3) == BUILDS - 1


def test_a_request_that_sigkill_cut_short_is_done_again(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "first") as first, pruning(own_namespace, proxy):
        first.process.signal(signal.SIGKILL)
        assert first.process.wait(LIMIT) == -signal.SIGKILL
    with operator(own_namespace.plane, tmp_path / "second"):
        done = own_namespace.handled("now")
    assert (last_run(done)["phase"], last_run(done)["dryRun"]) == ("Succeeded", False)
    assert left(crane, registry3) == 2


def test_nothing_is_pruned_while_the_policy_cannot_be_read_and_the_operator_recovers(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    slow = 1.5  # seconds for each deletion: nine of them outlast what the guard believes without a look
    proxy.inject(before(lambda: time.sleep(slow)), method="DELETE", path=".*/manifests/build-.*")
    own_namespace.apply(policy_spec(proxy.url, dryRun=False))
    # One that holds a Lease ends when it cannot renew that, and begins anew (test_leadership.py).
    with operator(own_namespace.plane, tmp_path / "operator", {"LEADER_ELECTION": "false"}) as running:
        own_namespace.planned()
        own_namespace.request_run("now")
        gate.wait()
        with own_namespace.plane.api_server_down():
            gate.open()
            # The run's end waits for the API server, which keeps the published plan.
            wait_until(lambda: _stopped(running, own_namespace), LIMIT, "the end of pruning", running.process)
            there = left(crane, registry3)
            assert there > 2
            assert finished(running, own_namespace) == []
        proxy.heal()
        done = own_namespace.handled("now")
        assert (last_run(done)["phase"], last_run(done)["dryRun"]) == ("Succeeded", False)
        assert left(crane, registry3) == 2
        assert finished(running, own_namespace) == ["Interrupted", "Succeeded"]
        assert last_run(done)["counts"]["tagsPruned"] == there - 2
        # It hears of changes again, too.
        own_namespace.change({"minTagsPerRepository": 0})
        own_namespace.planned()
        assert running.process.exit_code is None


def _stopped(operator: Operator, namespace: Namespace) -> bool:
    """Tell whether the operator has logged that it prunes nothing more, since it cannot read the policy."""
    words = "the policy cannot be read, so nothing more is pruned"
    return operator.log_lines(policy=f"{namespace.name}/{NAME}", message=words) != []


async def test_a_policy_that_went_while_nobody_watched_ends_its_task(own_namespace: Namespace) -> None:
    """After an outage the list just lacks it, so no event ever tells."""
    plane = own_namespace.plane
    own_namespace.apply(policy_spec("https://registry.example.com", suspend=True))
    body = own_namespace.policy()
    own_namespace.delete()
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = plane.url, str(plane.ca_file)
    configuration.api_key["authorization"] = f"Bearer {plane.admin_token}"
    async with client.ApiClient(configuration) as api_client:
        application = Application(Settings(), KubernetesAPI(api_client), RawAPI(api_client), SystemClock())
        told: list[object] = []
        task = PolicyTask(application, lambda *what: told.append(what), Places(1).at, lambda *_: None, body)
        await asyncio.wait_for(task.task, LIMIT)
    assert told == []
