"""What an API server does on bad days, and the operator through it: nothing wrong is pruned, and no result is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.api_proxy import (
    APIProxy,
    Injection,
    api_proxy,
    conflicts,
    etcd_is_full,
    etcd_times_out,
    expired,
    expires_in_stream,
    is_list,
    is_watch,
    refuses,
    throttles_by_priority,
    writes_status,
)
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import Fault, FaultyRegistry, before
from tests.support.midway import BUILDS, GOING, finished, left, pruning, registry_of_builds
from tests.support.operator import Operator, install, operator
from tests.support.outages import full_etcd, no_rights
from tests.support.policies import LIMIT, NAME, Namespace, condition, last_run, policy_spec
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

_WATCHED = "/registrycleanuppolicies"
_CRD = "crd/registrycleanuppolicies.registrycleanup.dev"
# More than kopf's back-offs together, which are 54 s.
_MINUTES = 75.0
_GUARD_LOOKS = 10.0
_SLOW = 2.5


@pytest.fixture
def api(own_plane: ControlPlane, tmp_path: Path) -> Iterator[APIProxy]:
    with api_proxy(own_plane.url, own_plane.ca_file, tmp_path / "api") as running:
        yield running


@pytest.fixture
def running(api: APIProxy, own_plane: ControlPlane, tmp_path: Path) -> Iterator[Operator]:
    """Run an operator that sees the API server through the proxy."""
    with operator(api.before(own_plane, tmp_path / "plane"), tmp_path / "operator") as made:
        yield made


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    with registry_of_builds(registry3) as made:
        yield made


def _works(running: Operator, namespace: Namespace) -> None:
    """See that the same process still hears of changes, and plans."""
    minimum = namespace.policy()["spec"]["minTagsPerRepository"]
    namespace.change({"minTagsPerRepository": 1 - minimum})
    namespace.planned()
    assert running.process.exit_code is None


def _is_done(running: Operator, namespace: Namespace, crane: Crane, registry: RegistryServer) -> None:
    """Wait until the run that was asked for has done its work, be it in two parts, and see that all works.

    An operator that could not renew its Lease has ended, with 1, and is started anew as its pod would be.
    """
    with ExitStack() as stack:
        if running.process.exit_code is not None:
            assert running.process.exit_code == 1
            running = stack.enter_context(operator(running.plane, running.process.log.parent / "again"))
        _does_the_rest(running, namespace, crane, registry)


def _does_the_rest(running: Operator, namespace: Namespace, crane: Crane, registry: RegistryServer) -> None:

    def is_so(policy: dict[str, object]) -> bool:
        return last_run(policy).get("phase") == "Succeeded" and last_run(policy)["dryRun"] is False

    done = namespace.wait(is_so, "the work", NAME, running.process, limit=120)
    assert done["status"]["lastHandledRunRequest"] == "now"
    assert left(crane, registry) == BUILDS - GOING
    _works(running, namespace)


def _reads_policies(request: web.Request) -> bool:
    return is_watch(request, _WATCHED) or is_list(request, _WATCHED)


# Watches and lists


@pytest.mark.parametrize("fault", [expired(), expires_in_stream()], ids=["HTTP 410", "410 in the stream"])
def test_a_watch_that_ends_with_410_goes_on(
    api: APIProxy, running: Operator, own_namespace: Namespace, registry3: RegistryServer, fault: Fault
) -> None:
    own_namespace.apply(policy_spec(registry3.url))
    own_namespace.planned()
    gone = api.inject(fault, lambda request: is_watch(request, _WATCHED), times=2)
    api.cut()
    wait_until(lambda: gone.hits == 2, LIMIT, "both watches", running.process)
    _works(running, own_namespace)


@pytest.mark.parametrize(
    "fault",
    [throttles_by_priority(), refuses(503, "ServiceUnavailable", "apiserver is shutting down")],
    ids=["429", "503"],
)
def test_lists_and_watches_that_are_refused_are_asked_again(
    api: APIProxy, running: Operator, own_namespace: Namespace, registry3: RegistryServer, fault: Fault
) -> None:
    own_namespace.apply(policy_spec(registry3.url))
    own_namespace.planned()
    refused = api.inject(fault, _reads_policies, times=3)
    api.cut()
    wait_until(lambda: refused.hits == 3, LIMIT, "all refusals", running.process)
    _works(running, own_namespace)


def test_connections_that_are_cut_again_and_again_are_made_anew(
    api: APIProxy, running: Operator, own_namespace: Namespace, registry3: RegistryServer
) -> None:
    own_namespace.apply(policy_spec(registry3.url))
    own_namespace.planned()
    for _ in range(3):
        with api.down() as tried:
            wait_until(lambda: tried() > 2, LIMIT, "what is tried in vain", running.process)
        _works(running, own_namespace)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["stopped", "503", "429"])
def test_an_api_server_that_is_gone_for_minutes_is_waited_for(
    api: APIProxy,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
    kind: str,
) -> None:
    outages = {
        "stopped": own_namespace.plane.api_server_down(),
        "503": _refused(api, refuses(503, "ServiceUnavailable", "the server is unable to handle the request")),
        "429": _refused(api, throttles_by_priority()),
    }
    with pruning(own_namespace, proxy) as gate, outages[kind]:
        proxy.inject(before(lambda: time.sleep(_SLOW)), method="DELETE", path=".*/manifests/build-.*")
        gate.open()
        time.sleep(_MINUTES)
        assert left(crane, registry3) > BUILDS - GOING
    proxy.heal()
    _is_done(running, own_namespace, crane, registry3)


@contextmanager
def _refused(api: APIProxy, fault: Fault) -> Iterator[Injection]:
    """Answer everything so, and end the watches."""
    refused = api.inject(fault, lambda _request: True)
    api.cut()
    try:
        yield refused
    finally:
        api.heal()


# Results


@pytest.mark.parametrize(
    "fault",
    [conflicts(), etcd_times_out(), etcd_is_full(), throttles_by_priority(), refuses(503, "ServiceUnavailable", "")],
    ids=["conflict", "etcd slow", "etcd full", "429", "503"],
)
def test_a_runs_result_is_written_once_the_api_server_takes_it(
    api: APIProxy,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
    fault: Fault,
) -> None:
    with pruning(own_namespace, proxy):
        refused = api.inject(fault, writes_status, times=4)
    done = own_namespace.handled("now")
    assert refused.hits == 4
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", GOING)
    assert left(crane, registry3) == BUILDS - GOING
    assert finished(running, own_namespace) == ["Succeeded"]


def test_a_full_etcd_loses_no_result(
    api: APIProxy,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
) -> None:
    def puts() -> int:
        return sum(number for what, number in api.counts().items() if what.startswith("PUT "))

    with pruning(own_namespace, proxy) as gate, full_etcd(own_namespace.plane):
        first = puts()
        gate.open()
        wait_until(lambda: puts() > first + 1, LIMIT, "what is tried again", running.process)
        # All is done, and nobody can be told yet.
        assert left(crane, registry3) == BUILDS - GOING
        assert last_run(own_namespace.policy())["phase"] == "Running"
    done = own_namespace.handled("now")
    assert (last_run(done)["phase"], last_run(done)["counts"]["tagsPruned"]) == ("Succeeded", GOING)
    _works(running, own_namespace)


def test_priority_and_fairness_that_refuses_everything_for_a_while_loses_no_result(
    api: APIProxy,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
) -> None:
    """The real one lets one request of a level through even where it has no seat, so it cannot be made to do this."""
    with pruning(own_namespace, proxy) as gate, _refused(api, throttles_by_priority()) as refused:
        gate.open()
        wait_until(lambda: refused.hits > 5, LIMIT, "refusals", running.process)
        assert last_run(own_namespace.policy())["phase"] == "Running"
    _is_done(running, own_namespace, crane, registry3)


# What is taken away in mid-run


@pytest.mark.parametrize(
    "then", ["it stops", pytest.param("it goes on once they are back", marks=pytest.mark.thorough)]
)
def test_without_its_rights_a_run_stops_as_soon_as_it_should_look_again(
    api: APIProxy,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
    then: str,
) -> None:
    with pruning(own_namespace, proxy) as gate, no_rights(own_namespace.plane):
        proxy.inject(before(lambda: time.sleep(_SLOW)), method="DELETE", path=".*/manifests/build-.*")
        gate.open()
        wait_until(lambda: "Interrupted" in finished(running, own_namespace), LIMIT, "the stop", running.process)
        stopped = left(crane, registry3)
        # The deletion under way, and those until the guard must look again.
        assert BUILDS - stopped <= 2 + _GUARD_LOOKS / _SLOW
        (said,) = running.log_lines(message="the policy cannot be read, so nothing more is pruned")
        assert "cannot get resource" in said["cause"]
        lost = "the status could not be written"
        wait_until(lambda: running.log_lines(message=lost) != [], LIMIT, "the result in the log", running.process)
        result = running.log_lines(message=lost)[0]["status"]["lastRun"]
        assert (result["phase"], result["counts"]["tagsPruned"]) == ("Interrupted", BUILDS - stopped)
        if then == "it stops":
            return
        api.cut()  # what is watched is refused now, too
        time.sleep(_MINUTES)
        assert left(crane, registry3) == stopped
    proxy.heal()
    _is_done(running, own_namespace, crane, registry3)


def test_a_crd_that_is_removed_in_mid_run_stops_it_and_put_back_all_works_again(
    own_plane: ControlPlane,
    running: Operator,
    own_namespace: Namespace,
    proxy: FaultyRegistry,
    registry3: RegistryServer,
    crane: Crane,
    tmp_path: Path,
) -> None:
    try:
        with pruning(own_namespace, proxy):
            own_plane.kubectl("delete", _CRD, "--timeout=30s")
        wait_until(lambda: finished(running, own_namespace) != [], LIMIT, "the end of the run")
        assert finished(running, own_namespace) == ["Interrupted"]
        assert left(crane, registry3) == BUILDS - 1
    finally:
        install(own_plane)
    own_namespace.apply(policy_spec(proxy.url, dryRun=False))
    # A Deployment starts it again, where it has ended.
    with operator(own_plane, tmp_path / "again") if running.process.exit_code is not None else nullcontext():
        assert condition(own_namespace.planned(), "Ready")["status"] == "True"
        assert left(crane, registry3) == BUILDS - 1
