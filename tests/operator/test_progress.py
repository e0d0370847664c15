"""Where a run is, in status and in the log, while it goes on: on a real API server, with the operator's own rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from kubernetes.aio import client, config

from registry_cleanup.domain.course import Progress, Snapshot, Stage
from registry_cleanup.kube.api import BarredError, KubernetesAPI, NotThereError
from registry_cleanup.kube.told import progress_status
from tests.support.builders import NOW
from tests.support.controlplane import ControlPlane
from tests.support.faulty import before, faulty_registry
from tests.support.images import push_image
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator
from tests.support.policies import (
    NAME,
    Gate,
    Namespace,
    Resource,
    condition,
    days_ago,
    last_run,
    policy_spec,
)
from tests.support.registries import RegistryServer

_RUNNING = {
    "id": "run-1",
    "trigger": "Request",
    "phase": "Running",
    "dryRun": True,
    "startTime": "2026-06-15T12:00:00Z",
}
_MOST = Snapshot(Stage.PRUNING, 10**9, 10**9, 10**9, 10**9, 10**9, 10**9)
_PROGRESS = progress_status(Progress(_MOST, 10**6, 10**6), NOW).as_json()


@pytest.fixture
async def api_client(own_plane: ControlPlane) -> AsyncIterator[client.ApiClient]:
    file = own_plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)
    async with await config.new_client_from_config(config_file=str(file)) as own:  # type: ignore[no-untyped-call]  # untyped there
        yield own


def _policy(place: Namespace) -> str:
    """Create a policy for which nobody does anything, and return its UID."""
    return place.apply(policy_spec("https://registry.example.com", suspend=True))


async def test_the_api_server_takes_where_a_run_is_and_nothing_else_changes(
    own_namespace: Namespace, api_client: client.ApiClient
) -> None:
    uid = _policy(own_namespace)
    own_namespace.write_status({"lastRun": _RUNNING, "nextRepository": "team/app"})
    await KubernetesAPI(api_client).show_progress(own_namespace.name, NAME, uid, "run-1", _PROGRESS)
    told = own_namespace.policy()["status"]
    assert told.pop("lastRun") == {**_RUNNING, "progress": _PROGRESS}
    assert told["nextRepository"] == "team/app"


@pytest.mark.parametrize(
    ("changed", "uid"),
    [
        ({"phase": "Succeeded"}, None),
        ({"phase": "Interrupted"}, None),
        ({"id": "run-2"}, None),
        ({}, "another"),
    ],
    ids=["ended", "interrupted", "another run", "another policy"],
)
async def test_the_api_server_refuses_what_comes_too_late(
    own_namespace: Namespace, api_client: client.ApiClient, changed: dict[str, Any], uid: str | None
) -> None:
    own = _policy(own_namespace)
    own_namespace.write_status({"lastRun": {**_RUNNING, **changed}})
    before_it = own_namespace.policy()
    with pytest.raises(NotThereError):
        await KubernetesAPI(api_client).show_progress(own_namespace.name, NAME, uid or own, "run-1", _PROGRESS)
    assert own_namespace.policy() == before_it


async def test_the_api_server_refuses_where_nothing_was_written_yet(
    own_namespace: Namespace, api_client: client.ApiClient
) -> None:
    uid = _policy(own_namespace)
    with pytest.raises(NotThereError):
        await KubernetesAPI(api_client).show_progress(own_namespace.name, NAME, uid, "run-1", _PROGRESS)


async def test_an_operator_that_may_not_write_any_more_shows_nothing(
    own_namespace: Namespace, api_client: client.ApiClient
) -> None:
    uid = _policy(own_namespace)
    own_namespace.write_status({"lastRun": _RUNNING})
    barred = KubernetesAPI(api_client, lambda: "the Lease is lost")
    with pytest.raises(BarredError):
        await barred.show_progress(own_namespace.name, NAME, uid, "run-1", _PROGRESS)
    assert "progress" not in last_run(own_namespace.policy())


@pytest.mark.thorough
def test_a_run_that_takes_longer_shows_where_it_is_and_stops_showing_it(
    registry3: RegistryServer, namespace: Namespace, shared_operator: Operator
) -> None:
    for number in range(40):
        push_image(registry3.url, "team/app", [f"build-{number}"], created=days_ago(40), seed=str(number))
    with faulty_registry(registry3.url) as proxy:
        # Each of the first manifests takes a second, the last one until it has been looked at.
        last = Gate(60)
        proxy.inject(before(lambda: time.sleep(1)), method="GET", path="/v2/team/app/manifests/.*", times=39)
        proxy.inject(before(last), method="GET", path="/v2/team/app/manifests/.*", times=1)
        namespace.apply(policy_spec(proxy.url, limits={"maxConcurrency": 2}))
        begun = namespace.phase("Running")
        last.wait()
        namespace.wait(_half_read, "half of the work done, told", NAME)
        last.open()
        done = namespace.planned()
    seen = namespace.history(begun)
    shown = [policy for policy in seen if "progress" in last_run(policy)]
    assert 2 <= len(shown) <= 4
    told = [last_run(policy)["progress"] for policy in shown]
    assert [each["stage"] for each in told] == ["Planning"] * len(told)
    assert {(each["repositories"], each["repositoriesDone"], each["tags"]) for each in told} == {(1, 0, 40)}
    read = [each["tagsRead"] for each in told]
    assert read == sorted(read)
    assert told[-1]["message"].startswith(f"planning: 0 of 1 repository, {read[-1]} of 40 tags, ")
    assert "remainingSeconds" in told[1]
    # At most every ten seconds; times in status are whole seconds.
    times = [datetime.fromisoformat(each["time"]) for each in told]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert all(gap >= 9 for gap in gaps)
    assert (times[0] - datetime.fromisoformat(last_run(shown[0])["startTime"])).total_seconds() >= 4
    # One more change is its end; nothing comes after it, and no condition moved before.
    assert [_resting(policy) for policy in shown] == [_resting(begun)] * len(shown)
    assert [last_run(policy)["phase"] for policy in seen] == ["Running"] * len(shown) + ["Succeeded"]
    assert (last_run(done)["phase"], "progress" in last_run(done)) == ("Succeeded", False)
    lines = shared_operator.log_lines(policy=f"{namespace.name}/{NAME}", stage="Planning")
    assert [line["run"] for line in lines] == [last_run(done)["id"]] * len(lines)
    assert lines[0]["message"] == told[0]["message"]
    assert (lines[0]["tagsRead"], lines[0]["tags"]) == (read[0], 40)
    assert all(condition(policy, "Reconciling")["status"] == "True" for policy in shown)


def _half_read(policy: Resource) -> bool:
    """Tell whether status shows most manifests as read; the configs are the other half of the work."""
    return bool(last_run(policy).get("progress", {}).get("tagsRead", 0) > 15)


def _resting(policy: Resource) -> dict[str, Any]:
    """Return what of a status a run that goes on does not change."""
    status = policy["status"]
    run = {key: value for key, value in status["lastRun"].items() if key != "progress"}
    return {**status, "lastRun": run}
