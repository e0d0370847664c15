"""Policy, namespace and CRD go at once and in any order, with the operator up and down."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.operator import install, operator
from tests.support.policies import LIMIT, NAME, Namespace, fresh_namespace, policy_spec, push_builds
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


def test_the_operator_ends_with_an_error_when_the_crd_goes_and_a_new_start_waits_for_it(
    plane_with_crd: ControlPlane, own_namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> None:
    """In a Deployment that is all it takes to go on once the CRD is back."""
    with operator(plane_with_crd, tmp_path / "first") as first:
        own_namespace.apply(policy_spec(registry3.url))
        own_namespace.planned()
        plane_with_crd.kubectl("delete", _CRD, "--timeout=30s")
        assert first.process.wait(LIMIT) == 1
    log = tmp_path / "second" / "operator.log"

    def restore() -> None:
        wait_until(lambda: log.exists() and "is not installed; waiting for it" in log.read_text(), LIMIT, "a word")
        install(plane_with_crd)

    with ThreadPoolExecutor() as pool:
        restored = pool.submit(restore)
        with operator(plane_with_crd, tmp_path / "second"):
            restored.result()
            own_namespace.apply(policy_spec(registry3.url))
            own_namespace.planned()
