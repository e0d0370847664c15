"""Policy, namespace and CRD go at once and in any order, with the operator up and down."""

import copy
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.operator import install, operator
from tests.support.policies import (
    LIMIT,
    NAME,
    Namespace,
    condition,
    fresh_namespace,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

_CRD = "crd/registrycleanuppolicies.registrycleanup.dev"


@pytest.fixture
def plane_with_crd(own_plane: ControlPlane) -> Iterator[ControlPlane]:
    """Give the CRD back to the tests that come after."""
    yield own_plane
    install(own_plane)


@pytest.mark.parametrize("up", [True, False], ids=["operator up", "operator down"])
def test_deletion_never_hangs_in_any_order(
    plane_with_crd: ControlPlane, registry3: RegistryServer, namespace_name: str, tmp_path: Path, *, up: bool
) -> None:
    push_builds(registry3.url)
    delete = ["delete", "--timeout=30s"]
    with ExitStack() as stack:
        names = [f"{namespace_name}-{letter}" for letter in "abc"]
        by_policy, by_namespace, by_crd = (
            stack.enter_context(fresh_namespace(plane_with_crd, name, [])) for name in names
        )
        running = stack.enter_context(operator(plane_with_crd, tmp_path / "operator"))
        for namespace in (by_policy, by_namespace, by_crd):
            namespace.apply(policy_spec(registry3.url, dryRun=False))
        for namespace in (by_policy, by_namespace, by_crd):
            namespace.planned()
            namespace.run("now")
            assert "finalizers" not in namespace.policy()["metadata"]
        if not up:
            running.process.stop()
        plane_with_crd.kubectl(*delete, "rcp", NAME, f"--namespace={by_policy.name}")
        plane_with_crd.kubectl(*delete, "namespace", by_policy.name, by_namespace.name)
        plane_with_crd.kubectl(*delete, _CRD)
        plane_with_crd.kubectl(*delete, "namespace", by_crd.name)


def test_an_operator_waits_for_the_crd_says_so_and_goes_on_once_it_is_back(
    plane_with_crd: ControlPlane, own_namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    plane_with_crd.kubectl("delete", _CRD, "--timeout=30s")
    with operator(plane_with_crd, tmp_path / "operator", leads=False) as running:
        for _ in range(2):  # missing at the start, and taken away from an operator that works
            wait_until(lambda: "is not installed" in running.readiness()[1], LIMIT, "a word", running.process)
            assert running.readiness()[0] == 503
            assert running.lives()
            install(plane_with_crd)
            running.wait_until_it_leads(LIMIT)
            own_namespace.apply(policy_spec(registry3.url))
            own_namespace.planned()
            plane_with_crd.kubectl("delete", _CRD, "--timeout=30s")
        told = [line for line in running.log_lines(level="WARNING") if "is not installed; waiting" in line["message"]]
        wait_until(lambda: running.readiness()[0] == 503, LIMIT, "a word", running.process)
        assert 2 <= len(told) <= 3  # once each time
        running.process.signal(signal.SIGTERM)
        assert running.process.wait(LIMIT) == 0


@pytest.fixture
def other_crd(own_plane: ControlPlane) -> Iterator[Callable[[], None]]:
    """Serve the CRD of a later version, until what this returns is called or the test ends."""
    crd = json.loads(own_plane.kubectl("get", _CRD, "-o=json"))
    for of_the_server in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
        crd["metadata"].pop(of_the_server, None)
    other = copy.deepcopy(crd)
    spec = other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["colour"] = {"type": "string", "description": "Of a later version."}
    own_plane.kubectl("replace", "-f", "-", stdin=json.dumps(other))

    def restore() -> None:
        own_plane.kubectl("replace", "-f", "-", stdin=json.dumps(crd))

    yield restore
    restore()


def test_while_the_served_crd_is_another_one_runs_only_plan_and_prune_again_once_it_is_replaced(
    other_crd: Callable[[], None],
    own_namespace: Namespace,
    registry3: RegistryServer,
    crane: Crane,
    tmp_path: Path,
) -> None:
    push_builds(registry3.url)
    wait_until(lambda: _serves_colour(own_namespace), LIMIT, "the CRD's publication")
    with operator(own_namespace.plane, tmp_path / "operator") as running:
        own_namespace.apply(policy_spec(registry3.url, dryRun=False))
        words = "it differs at spec.colour, which is new to this operator"
        planned = own_namespace.planned()
        assert condition(planned, "Ready")["status"] == "True"
        assert "a run that prunes would be blocked: the served CRD is not the one" in last_run(planned)["message"]
        blocked = own_namespace.run("while it differs")
        assert last_run(blocked)["phase"] == "Blocked"
        assert words in condition(blocked, "Stalled")["message"]
        assert condition(blocked, "Stalled")["reason"] == "CRDMismatch"
        assert condition(blocked, "Ready")["status"] == "False"
        assert blocked["status"]["plan"]["deletions"] == 3
        assert len(crane.ls(f"{registry3.host}/team/app")) == 5
        status, text = running.readiness()
        assert (status, words in text) == (200, True)
        assert [line for line in running.log_lines(level="ERROR") if words in line["message"]] != []
        other_crd()
        wait_until(lambda: not _serves_colour(own_namespace), LIMIT, "the CRD's publication")
        done = own_namespace.run("once it is replaced")
        assert last_run(done)["phase"] == "Succeeded"
        assert condition(done, "Stalled")["status"] == "False"
        assert len(crane.ls(f"{registry3.host}/team/app")) == 2
        assert "as built in" in running.readiness()[1]


def _serves_colour(namespace: Namespace) -> bool:
    """Tell whether the API server publishes the field of a later version."""
    return '"colour"' in namespace.api.get("/openapi/v3/apis/registrycleanup.dev/v1alpha1").text
