"""Metrics, health and readiness of the operator itself, and whether alerts and dashboard ask for what is there."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.kube.status import parse_time
from tests.support.collecting import REQUEST as COLLECT
from tests.support.collecting import collection
from tests.support.hosted import grant_collection
from tests.support.operator import Operator, operator
from tests.support.policies import (
    LIMIT,
    NAME,
    Namespace,
    Resource,
    fresh_namespace,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import free_port, wait_until
from tests.support.promtool import check_metrics, dashboard_queries, evaluated, page_labels, rules, selectors
from tests.support.registries import RegistryServer, distribution
from tests.support.spaces import registry_workload

_NIGHTLY = {"schedule": "0 3 * * *", "dryRun": False}
_ENDS = 1_900_000_000
# A registry's password is at most 72 bytes long, and so is this token.
_TOKEN = f"e30.{base64.urlsafe_b64encode(json.dumps({'exp': _ENDS}).encode()).decode().rstrip('=')}.c2ln"
_LOGIN = {"secretRef": {"name": "login"}}


@dataclass(frozen=True)
class _Scene:
    """Policies that succeeded, failed, were blocked, wait, and rest, each named for what came of it.

    So did the garbage collections of two: of one it failed, of the other it keeps the registry frozen.
    """

    namespace: Namespace
    operator: Operator
    page: str


@pytest.fixture(scope="module")
def scene(shared_operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Scene]:
    folder = tmp_path_factory.mktemp("metrics")
    with (
        distribution("3", folder / "open") as open_registry,
        distribution("3", folder / "locked", htpasswd={"pruner": _TOKEN}) as locked,
        distribution("3", folder / "frozen") as frozen,
        fresh_namespace(shared_operator.plane, "metrics", [shared_operator]) as namespace,
        _collections(namespace, frozen),
    ):
        push_builds(locked.url, auth=("pruner", _TOKEN))
        _play(namespace, open_registry, locked)
        yield _Scene(namespace, shared_operator, shared_operator.get("/metrics").text)


def _play(namespace: Namespace, registry: RegistryServer, locked: RegistryServer) -> None:
    namespace.grant_credentials()
    namespace.create_basic_auth(locked.host, "pruner", _TOKEN)
    namespace.create_basic_auth(locked.host, "pruner", "wrong-horse-battery", name="wrong")
    for name in ("good", "blocked", "waits", "unseen", "suspended"):
        push_builds(registry.url, f"{name}/app")
        changes: dict[str, Any] = {"repositories": {"include": [f"{name}/**"]}, **_NIGHTLY}
        namespace.apply(policy_spec(registry.url, **changes, **_SPECS.get(name, {})), name)
    namespace.apply(policy_spec(locked.url, registry=_LOGIN, **_NIGHTLY), "secured")
    namespace.apply(policy_spec(locked.url, registry={"secretRef": {"name": "wrong"}}, **_NIGHTLY), "refused")
    no_ca = {"caConfigMapRef": {"name": "nowhere", "key": "ca.crt"}}
    namespace.apply(policy_spec(registry.url, registry=no_ca, **_NIGHTLY), "failing")
    for name in ("good", "blocked", "waits", "secured"):
        namespace.planned(name)
        namespace.run("now", name)
    namespace.stalled("LoginFailed", "refused")
    namespace.stalled("CAConfigMapNotFound", "failing")
    namespace.phase("Blocked", "unseen")
    namespace.planned("suspended")
    namespace.change({"suspend": True}, "suspended")


@contextmanager
def _collections(namespace: Namespace, registry: RegistryServer) -> Iterator[None]:
    """Have one garbage collection fail, and another keep the registry frozen as long as the context lasts.

    Their Deployments have no pods, and no controller but for what `_collect` writes: one is rolled out whatever it is
    changed to, and the registry, which is another process, still takes changes; the other is never rolled out again.
    """
    grant_collection(namespace.plane, namespace.name)
    push_builds(registry.url)
    try:
        _collect(namespace, registry, "uncollected", followed=True)
        namespace.wait(lambda policy: collection(policy).get("phase") == "Failed", "a failure", "uncollected")
        _collect(namespace, registry, "frozen", followed=False)
        namespace.wait(lambda policy: "frozenSince" in collection(policy), "a frozen registry", "frozen")
        yield
    finally:
        # Or the operator would wait for their restoration, and keep runs from whoever has the registry's port next.
        namespace.plane.kubectl("delete", "deployments", "--all", f"--namespace={namespace.name}")


def _collect(namespace: Namespace, registry: RegistryServer, name: str, *, followed: bool) -> None:
    """Apply a policy and request that it collects garbage, freezing a Deployment of its name.

    Args:
        namespace: Of both.
        registry: Whose garbage.
        name: Of both.
        followed: Whether the Deployment is rolled out again once it is frozen, and once it is restored.
    """
    where = f"--namespace={namespace.name}"
    deployment = registry_workload("3")
    deployment["metadata"]["name"] = name
    namespace.plane.kubectl("create", where, "-f", "-", stdin=json.dumps(deployment))
    # The generations: as created, as frozen, as restored.
    rolled_out = {"observedGeneration": 3 if followed else 1}
    rolled_out |= dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    change = json.dumps({"status": rolled_out})
    namespace.plane.kubectl("patch", "deployment", name, where, "--subresource=status", f"--patch={change}")
    # On the 29th of February: not by itself.
    wanted = {"mode": "Run", "schedule": "0 0 29 2 *", "workloadRef": {"kind": "Deployment", "name": name}}
    namespace.apply(policy_spec(registry.url, garbageCollection=wanted, **_NIGHTLY), name)
    namespace.planned(name)
    namespace.plane.kubectl("annotate", "rcp", name, where, f"{COLLECT}=now")


_SPECS: dict[str, dict[str, Any]] = {
    "blocked": {"limits": {"maxDeletions": 1}},
    "waits": {"approval": {"required": True}},
    "unseen": {"inUse": {"namespaceSelector": {"matchLabels": {"team": "nobody"}}}},
}


def _status_of(scene: _Scene, name: str) -> Resource:
    status: Resource = scene.namespace.policy(name)["status"]
    return status


def _own(scene: _Scene, name: str) -> dict[str, float]:
    prefix = "registry_cleanup_policy_"
    found = scene.operator.series(namespace=scene.namespace.name, name=name)
    return {key.removeprefix(prefix): value for key, value in found.items()}


def test_promtool_finds_nothing_wrong_with_the_page(scene: _Scene) -> None:
    assert check_metrics(scene.page) == ""


def test_every_query_finds_the_metrics_and_labels_that_it_names(scene: _Scene) -> None:
    there = page_labels(scene.page)
    queries = {**{rule["alert"]: rule["expr"] for rule in rules()}, **dashboard_queries()}
    missing = [
        (where, metric, labels - there.get(metric, set()))
        for where, query in queries.items()
        for metric, labels in selectors(query)
        if metric not in there or not labels <= there[metric]
    ]
    assert missing == []


def test_every_panel_shows_something_of_a_real_run(scene: _Scene, tmp_path: Path) -> None:
    assert "SUCCESS" in evaluated(scene.page, list(dashboard_queries().values()), tmp_path)


def test_what_alerts_look_for_is_what_a_real_run_shows(scene: _Scene, tmp_path: Path) -> None:
    wanted = [
        found[0] for rule in rules() for found in re.finditer(r"registry_cleanup_policy_\w+\{[^}]*\}", rule["expr"])
    ]
    assert len(wanted) > 8
    assert "SUCCESS" in evaluated(scene.page, wanted, tmp_path)


def test_counts_of_a_policy_are_those_of_its_status_and_of_the_log(scene: _Scene) -> None:
    figures, run = _own(scene, "good"), last_run(scene.namespace.policy("good"))
    lines = scene.operator.log_lines(policy=f"{scene.namespace.name}/good", message="run finished")
    assert [line["planOnly"] for line in lines] == [True, False]
    counts = run["counts"]
    assert counts["tagsPruned"] == 3
    for name, field, logged in [
        # The plan counts in both runs, since both planned it.
        ("planned_tags_total", 2 * counts["tagsPlanned"], "tags_planned"),
        ("pruned_tags_total", counts["tagsPruned"], "tags_pruned"),
        ("failed_tags_total", counts["tagsFailed"], "tags_failed"),
        ("skipped_tags_total", counts["tagsSkipped"], "tags_skipped"),
    ]:
        assert figures[name] == field == sum(line["counts"][logged] for line in lines)
    kept = {key.partition("reason=")[2].rstrip("}"): value for key, value in figures.items() if "kept_tags" in key}
    assert kept == run["keptByReason"]
    assert figures["last_run_phase{phase=Succeeded}"] == 1


def test_figures_of_a_policy_are_those_of_its_status(scene: _Scene) -> None:
    figures, status = _own(scene, "good"), _status_of(scene, "good")
    success = parse_time(status["lastSuccessfulTime"])
    assert success is not None
    assert figures["last_success_timestamp_seconds"] == success.timestamp()
    assert figures["interval_seconds"] == 86400
    assert figures["plan_tags"] == status["plan"]["deletions"]
    assert figures["plan_reclaimable_bytes"] == status["plan"]["reclaimableBytes"]
    assert figures["in_use_references"] == status["inUse"]["references"]
    shown = {key for key in figures if key.startswith("condition{")}
    assert shown == {
        f"condition{{reason={each['reason']},status={each['status']},type={each['type']}}}"
        for each in status["conditions"]
    }
    assert figures["info{dry_run=false,scheduled=true,suspended=false}"] == 1


def test_a_run_that_was_blocked_or_waits_shows_that_it_skipped_its_plan(scene: _Scene) -> None:
    for name, phase in [("blocked", "Blocked"), ("waits", "AwaitingApproval")]:
        figures = _own(scene, name)
        assert figures[f"last_run_phase{{phase={phase}}}"] == 1
        assert (figures["pruned_tags_total"], figures["skipped_tags_total"], figures["freed_bytes_total"]) == (0, 3, 0)


def test_a_policy_that_never_succeeded_shows_since_when_it_should_have(scene: _Scene) -> None:
    figures, policy = _own(scene, "refused"), scene.namespace.policy("refused")
    created = parse_time(policy["metadata"]["creationTimestamp"])
    assert created is not None
    assert "last_success_timestamp_seconds" not in figures
    assert figures["expected_since_timestamp_seconds"] == created.timestamp()
    assert figures["interval_seconds"] == 86400


def test_a_collection_that_failed_is_shown_and_its_registry_as_restored(scene: _Scene) -> None:
    figures, told = _own(scene, "uncollected"), _status_of(scene, "uncollected")["collection"]
    assert "still takes changes" in told["message"]
    assert (figures["collection_phase{phase=Failed}"], figures["collection_frozen"]) == (1, 0)
    assert figures["collection_last_duration_seconds"] == told["durationSeconds"]
    absent = {"collection_frozen_since_timestamp_seconds", "collection_last_success_timestamp_seconds"}
    assert absent.isdisjoint(figures)


def test_a_registry_that_is_frozen_shows_since_when_and_for_how_long_it_may_be(scene: _Scene) -> None:
    figures, told = _own(scene, "frozen"), _status_of(scene, "frozen")["collection"]
    since = parse_time(told["frozenSince"])
    assert since is not None
    assert (figures["collection_phase{phase=Running}"], figures["collection_frozen"]) == (1, 1)
    assert figures["collection_frozen_since_timestamp_seconds"] == since.timestamp()
    assert figures["collection_timeout_seconds"] == 3600


def test_the_end_of_a_token_is_shown_and_nothing_else_of_it(scene: _Scene) -> None:
    assert _own(scene, "secured")["credential_expiry_timestamp_seconds"] == _ENDS
    assert "credential_expiry_timestamp_seconds" not in _own(scene, "refused")
    assert _TOKEN not in scene.page  # the log and the API: fresh_namespace looks there


def test_a_suspended_policy_has_no_interval_until_it_is_resumed(scene: _Scene) -> None:
    def interval() -> float | None:
        return _own(scene, "suspended").get("interval_seconds")

    wait_until(lambda: interval() is None, LIMIT, "the end of the interval")
    assert "info{dry_run=false,scheduled=true,suspended=true}" in _own(scene, "suspended")
    before = _own(scene, "suspended")["expected_since_timestamp_seconds"]
    scene.namespace.change({"suspend": False}, "suspended")
    wait_until(lambda: interval() == 86400, LIMIT, "the interval")
    assert _own(scene, "suspended")["expected_since_timestamp_seconds"] >= before


def test_every_run_of_the_log_is_counted(scene: _Scene) -> None:
    def tallies() -> tuple[dict[str, float], dict[str, float], float]:
        series = scene.operator.series()
        counted = {key: value for key, value in series.items() if "runs_total" in key and value}
        logged: dict[str, float] = {}
        for line in scene.operator.log_lines(message="run finished"):
            key = f"registry_cleanup_runs_total{{phase={line['phase']},trigger={line['trigger']}}}"
            logged[key] = logged.get(key, 0) + 1
        durations = (f"registry_cleanup_run_duration_seconds_count{{kind={kind}}}" for kind in ("plan", "prune"))
        return counted, logged, sum(series[each] for each in durations)

    # Policies that fail are tried again meanwhile: a run may end between the page and the log.
    def agree() -> bool:
        counted, logged, measured = tallies()
        return counted == logged and measured == sum(logged.values()) > 0

    wait_until(agree, LIMIT, "metrics and log that tell the same")


def test_requests_are_counted_by_method_and_code_and_name_no_host(scene: _Scene) -> None:
    series = scene.operator.series()
    requests = {
        key: value for key, value in series.items() if key.startswith("registry_cleanup_registry_requests_total")
    }
    for method, code in [("GET", "200"), ("GET", "401"), ("DELETE", "202")]:
        assert requests[f"registry_cleanup_registry_requests_total{{code={code},method={method}}}"] > 0
    assert "127.0.0.1" not in scene.page
    assert "good/app" not in scene.page
    assert "build-1" not in scene.page


def test_the_operator_lives_is_ready_and_leads(scene: _Scene) -> None:
    assert scene.operator.get("/healthz").text == "ok\n"
    ready = scene.operator.get("/readyz")
    assert (ready.status_code, ready.text.count("\n") > 0) == (200, True)
    assert scene.operator.series()["registry_cleanup_leader"] == 1
    assert scene.operator.series()["process_resident_memory_bytes"] > 1 << 20


def test_requests_that_nobody_answers_are_errors_and_repetitions(
    namespace: Namespace, shared_operator: Operator
) -> None:
    requests = "registry_cleanup_registry_requests_total{code=error,method=GET}"
    retries = "registry_cleanup_registry_retries_total{method=GET}"
    before = shared_operator.series()
    namespace.apply(policy_spec(f"http://127.0.0.1:{free_port()}"))
    namespace.phase("Failed")
    after = shared_operator.series()
    assert after[requests] - before[requests] == 4
    assert after[retries] - before[retries] == 3


def test_the_series_of_a_deleted_policy_go_away(
    registry3: RegistryServer, namespace: Namespace, shared_operator: Operator
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url))
    namespace.planned()
    labels = {"namespace": namespace.name, "name": NAME}
    wait_until(lambda: bool(shared_operator.series(**labels)), LIMIT, "the series")
    namespace.delete()
    wait_until(lambda: not shared_operator.series(**labels), LIMIT, "the end of the series")


def test_a_restarted_operator_shows_what_status_tells_before_any_run(
    registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    labels = {"namespace": own_namespace.name, "name": NAME}
    own_namespace.apply(policy_spec(registry3.url, schedule="0 3 * * *"))
    with operator(own_namespace.plane, tmp_path / "first") as first:
        own_namespace.planned()
        before = first.series(**labels)
    with operator(own_namespace.plane, tmp_path / "second") as second:
        wait_until(lambda: bool(second.series(**labels)), LIMIT, "the series", second.process)
        after = second.series(**labels)
        assert second.log_lines(message="run finished") == []
    counters = {key for key in before if key.endswith("_total")}
    assert {key: value for key, value in after.items() if key not in counters} == {
        key: value for key, value in before.items() if key not in counters
    }
    assert {after[key] for key in counters} == {0}
