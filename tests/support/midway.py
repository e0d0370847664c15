"""A run of a real operator that is held up at its first deletion, while something happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, before, faulty_registry
from tests.support.operator import Operator
from tests.support.policies import NAME, Gate, Namespace, policy_spec, push_builds
from tests.support.registries import RegistryServer

BUILDS = 12
GOING = BUILDS - 2


@contextmanager
def registry_of_builds(server: RegistryServer) -> Iterator[FaultyRegistry]:
    """Run a proxy before a registry with twelve builds, of which ten go."""
    push_builds(server.url, number=BUILDS)
    with faulty_registry(server.url) as running:
        yield running


def left(crane: Crane, server: RegistryServer) -> int:
    """Return how many builds there are."""
    return len(crane.ls(f"{server.host}/team/app"))


@contextmanager
def pruning(namespace: Namespace, proxy: FaultyRegistry, **changes: Any) -> Iterator[Gate]:  # noqa: ANN401 - values of any field
    """Have a policy prune, on request `now`, with its first deletion held up until the gate or the context ends."""
    gate = Gate()
    namespace.apply(policy_spec(proxy.url, dryRun=False, **changes))
    namespace.planned()
    proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
    namespace.request_run("now")
    gate.wait()
    try:
        yield gate
    finally:
        gate.open()


def finished(operator: Operator, namespace: Namespace) -> list[str]:
    """Return the phases of the real runs that ended, as the log tells them."""
    lines = operator.log_lines(policy=f"{namespace.name}/{NAME}", message="run finished", planOnly=False)
    return [line["phase"] for line in lines]
