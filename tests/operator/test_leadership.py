"""Two operators, one of which works: who takes over, when, and that the other prunes nothing any more."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, before, faulty_registry
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator, operator
from tests.support.policies import LIMIT, Gate, Namespace, Resource, last_run, policy_spec, push_builds
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer
from tests.support.wire import wire

_BUILDS = 12
_GOING = _BUILDS - 2
# Instead of 15 s, for tests that do not ask how long it takes.
_SHORT = {"LEASE_SECONDS": "6"}


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with ten builds that go."""
    push_builds(registry3.url, number=_BUILDS)
    with faulty_registry(registry3.url) as running:
        yield running


def _inject(proxy: FaultyRegistry, hook: Callable[[], None], times: int | None = None) -> None:
    """Call `hook` before deletions of builds are passed on."""
    proxy.inject(before(hook), method="DELETE", path=".*/manifests/build-.*", times=times)


@contextmanager
def _pruning(namespace: Namespace, proxy: FaultyRegistry, gate: Gate) -> Iterator[Resource]:
    """Have a policy prune, with its first deletion held up until the gate is opened; say how it stood before."""
    namespace.apply(policy_spec(proxy.url, dryRun=False))
    planned = namespace.planned()
    _inject(proxy, gate, times=1)
    namespace.request_run("now")
    gate.wait()
    try:
        yield planned
    finally:
        gate.open()


def _deletions(proxy: FaultyRegistry) -> list[str]:
    """Return the tags whose deletion was asked for, in order."""
    asked = [request.path.rpartition("/")[2] for request in proxy.requests if request.method == "DELETE"]
    return [tag for tag in asked if tag.startswith("build-")]


def _left(crane: Crane, registry: RegistryServer) -> int:
    return len(crane.ls(f"{registry.host}/team/app"))


def _phases(policies: list[Resource]) -> list[tuple[str, str]]:
    """Return phase and message of each run that shows, once each."""
    shown = [(last_run(policy).get("phase", ""), last_run(policy).get("message", "")) for policy in policies]
    return [one for index, one in enumerate(shown) if index == 0 or shown[index - 1] != one]


def _said(running: Operator, words: str) -> str:
    """Return when an operator first said something; empty where it never did."""
    times = [line["asctime"] for line in running.log_lines() if words in line["message"]]
    return times[0] if times else ""


def _runs(running: Operator) -> list[dict[str, object]]:
    return running.log_lines(message="run finished")


def _lease(plane: ControlPlane) -> dict[str, object]:
    spec: dict[str, object] = json.loads(
        plane.kubectl("get", "lease", "registry-cleanup", f"--namespace={NAMESPACE}", "-o=json")
    )["spec"]
    return spec


def test_one_works_and_the_other_stands_by_until_the_first_says_goodbye(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    plane, gate = own_namespace.plane, Gate()
    with (
        operator(plane, tmp_path / "first", identity="first") as first,
        operator(plane, tmp_path / "second", identity="second", leads=False) as second,
    ):
        wait_until(lambda: second.readiness()[0] == 200, LIMIT, "a second that is ready", second.process)
        assert "stands by: first holds the Lease" in second.readiness()[1]
        assert "leads" in first.readiness()[1]
        with _pruning(own_namespace, proxy, gate) as planned:
            first.process.signal(signal.SIGTERM)
            wait_until(lambda: _said(first, "Signal") != "", LIMIT, "the signal's arrival", first.process)
            assert _runs(second) == []
            told = time.monotonic()
        second.wait_until_it_leads(LIMIT)
        assert time.monotonic() - told < 8  # the run's end included; nobody waits for the Lease to grow old
        assert first.process.wait(LIMIT) == 0
        done = own_namespace.handled("now")
        assert (last_run(done)["phase"], last_run(done)["trigger"]) == ("Succeeded", "Request")
        assert last_run(done)["counts"]["tagsPruned"] == _GOING - 1
        assert _left(crane, registry3) == 2
        shown = [phase for phase, _ in _phases(own_namespace.history(planned))]
        assert shown[-4:] == ["Running", "Interrupted", "Running", "Succeeded"]
        assert [line["phase"] for line in _runs(second)] == ["Succeeded"]
        # Each was pruned once, though two worked at it.
        assert sorted(_deletions(proxy)) == sorted({f"build-{number}" for number in range(1, _GOING + 1)})
    lease = _lease(plane)
    assert lease.get("holderIdentity") in (None, "")


def test_after_a_kill_in_the_middle_of_a_run_the_other_takes_over_within_20_seconds_and_finishes_the_work(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    plane, gate = own_namespace.plane, Gate()
    with (
        operator(plane, tmp_path / "first", identity="first") as first,
        operator(plane, tmp_path / "second", identity="second", leads=False) as second,
    ):
        wait_until(lambda: "stands by" in second.readiness()[1], LIMIT, "a second that stands by", second.process)
        with _pruning(own_namespace, proxy, gate) as planned:
            killed = time.monotonic()
            first.process.signal(signal.SIGKILL)
            assert first.process.wait(LIMIT) == -signal.SIGKILL
        second.wait_until_it_leads(LIMIT)
        took = time.monotonic() - killed
        assert took < 20, f"it took {took:.1f} s"
        done = own_namespace.handled("now")
        assert (last_run(done)["phase"], last_run(done)["dryRun"]) == ("Succeeded", False)
        assert _left(crane, registry3) == 2
        cut_short = ("Interrupted", "the operator ended during this run; it is done again")
        assert cut_short in _phases(own_namespace.history(planned))


def test_one_that_slept_through_its_lease_prunes_nothing_more_and_ends_while_the_other_prunes(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    plane, first_gate, second_gate = own_namespace.plane, Gate(120), Gate(120)
    with (
        operator(plane, tmp_path / "first", _SHORT, identity="first") as first,
        operator(plane, tmp_path / "second", _SHORT, identity="second", leads=False) as second,
        _pruning(own_namespace, proxy, first_gate),
    ):
        _inject(proxy, second_gate, times=1)
        first.process.signal(signal.SIGSTOP)
        try:
            second_gate.wait()  # the second is about to delete, too
            # Its first deletion ends now, and it wakes believing that it leads.
            first_gate.open()
        finally:
            first.process.signal(signal.SIGCONT)
        assert first.process.wait(LIMIT) == 1
        assert len(_deletions(proxy)) == 2  # one of each
        assert _said(first, "has lost the Lease") != ""
        second_gate.open()
        done = own_namespace.handled("now")
        assert last_run(done)["phase"] == "Succeeded"
        assert _left(crane, registry3) == 2
        # What it wrote last, before it slept, is long overwritten: status is the second's.
        assert [line["phase"] for line in _runs(second)] == ["Succeeded"]
        assert last_run(own_namespace.policy())["id"] == _runs(second)[-1]["run"]


def test_one_that_alone_cannot_reach_the_api_server_stops_before_the_other_takes_over(
    proxy: FaultyRegistry, registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    plane, gate = own_namespace.plane, Gate()
    with wire(plane.url) as to_api_server:
        config = json.loads(plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT).read_text())
        config["clusters"][0]["cluster"]["server"] = to_api_server.url
        kubeconfig = tmp_path / "first.kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        with (
            operator(plane, tmp_path / "first", _SHORT, identity="first", kubeconfig=kubeconfig) as first,
            operator(plane, tmp_path / "second", _SHORT, identity="second", leads=False) as second,
        ):
            with _pruning(own_namespace, proxy, gate) as planned:
                # So slow that it could never end before the Lease is lost.
                _inject(proxy, lambda: time.sleep(1.5))
                to_api_server.cut()
            assert first.process.wait(LIMIT) == 1
            asked = len(_deletions(proxy))
            assert asked < _GOING
            second.wait_until_it_leads(LIMIT)
            proxy.heal()
            done = own_namespace.handled("now")
            assert last_run(done)["phase"] == "Succeeded"
            assert _left(crane, registry3) == 2
            # It knew, by its own clock, before anybody else could.
            assert "" < _said(first, "has lost the Lease") < _said(second, "leads")
            assert "Interrupted" in [phase for phase, _ in _phases(own_namespace.history(planned))]
            assert len(set(_deletions(proxy))) == _GOING


def test_an_operator_that_is_started_anew_under_its_name_does_not_wait_for_its_own_lease(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    with operator(own_plane, tmp_path / "first", identity="pod-1") as first:
        first.process.signal(signal.SIGKILL)
        first.process.wait(LIMIT)
    started = time.monotonic()
    with operator(own_plane, tmp_path / "second", identity="pod-1"):
        assert time.monotonic() - started < 12


def test_without_the_right_to_its_lease_an_operator_says_what_to_grant_and_waits_for_it(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    binding = ("rolebinding", "registry-cleanup-leader", f"--namespace={NAMESPACE}")
    kept = own_plane.kubectl("get", *binding, "-o=json")
    own_plane.kubectl("delete", *binding)
    try:
        with operator(own_plane, tmp_path / "operator", leads=False) as running:
            wait_until(lambda: "manifests/base" in running.readiness()[1], LIMIT, "what to grant", running.process)
            assert running.readiness()[0] == 503
            assert "resources: [leases]" in running.readiness()[1]
            _restore(own_plane, kept)
            running.wait_until_it_leads(LIMIT)
    finally:
        _restore(own_plane, kept)


def _restore(plane: ControlPlane, kept: str) -> None:
    body = json.loads(kept)
    body["metadata"] = {key: body["metadata"][key] for key in ("name", "namespace")}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def test_what_an_idle_leader_asks_of_the_api_server_is_the_renewal_of_its_lease(
    own_plane: ControlPlane, own_namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    with operator(own_plane, tmp_path / "operator") as running:
        own_namespace.apply(policy_spec(registry3.url))
        own_namespace.planned()
        first = str(_lease(own_plane)["renewTime"])
        before_, since = _requests(own_namespace), time.monotonic()
        wait_until(lambda: time.monotonic() - since > 10, LIMIT, "ten idle seconds", running.process)
        renewals = {key: count - before_.get(key, 0) for key, count in _requests(own_namespace).items()}
        assert str(_lease(own_plane)["renewTime"]) > first
    assert 3 <= renewals.pop("PUT leases") <= 7
    assert {key: count for key, count in renewals.items() if count} == {}


def _requests(namespace: Namespace) -> dict[str, int]:
    """Return how many requests for what the operator alone asks for the API server has answered so far."""
    counts: dict[str, int] = {}
    for line in namespace.api.get("/metrics").text.splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(
                part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(",") if "=" in part
            )
            verb, resource = labels["verb"].strip('"'), labels["resource"].strip('"')
            if resource in ("leases", "registrycleanuppolicies", "configmaps", "pods") and verb in (
                "PUT",
                "GET",
                "LIST",
                "PATCH",
            ):
                key = f"{verb} {resource}"
                counts[key] = counts.get(key, 0) + int(float(line.rpartition(" ")[2]))
    return counts
