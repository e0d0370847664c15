"""The shipped operator on the shared control plane, and a namespace for each test."""

import itertools
import re
from collections.abc import Iterator

import pytest

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.hosted import OPERATOR_IMAGE, ready_to_collect
from tests.support.kubelet import Kubelet
from tests.support.operator import Operator, install, operator
from tests.support.policies import Namespace, fresh_namespace

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def installed(plane: ControlPlane) -> ControlPlane:
    """Return the shared control plane with everything that `manifests/base` ships."""
    install(plane)
    return plane


@pytest.fixture(scope="package")
def shared_operator(installed: ControlPlane) -> Iterator[Operator]:
    """Run one operator for all tests that neither stop it nor need settings of their own.

    Its log is kept with those of the control plane. Policies that other tests wait for must not hold it up.
    """
    settings = {"CONCURRENT_RUNS": "20", "OPERATOR_IMAGE": OPERATOR_IMAGE}
    with operator(installed, installed.folder / "logs" / "operator", settings) as running:
        yield running


@pytest.fixture(scope="session")
def ready_node(node: Kubelet) -> Kubelet:
    """Return the node, ready for collections; who uses it runs an operator, one at a time."""
    ready_to_collect(node)
    return node


@pytest.fixture
def namespace_name(request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"{name}-{next(_numbers)}"


@pytest.fixture
def namespace(shared_operator: Operator, namespace_name: str) -> Iterator[Namespace]:
    """Make a namespace that the shared operator watches."""
    with fresh_namespace(shared_operator.plane, namespace_name, [shared_operator]) as fresh:
        yield fresh


@pytest.fixture(scope="package")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane for tests that start and stop operators of their own: two on one would both prune.

    It ends the deletion of namespaces, and has what `manifests/base` ships.
    """
    with control_plane(tmp_path_factory.mktemp("own-plane"), controller_manager=True) as running:
        install(running)
        yield running


@pytest.fixture
def own_namespace(own_plane: ControlPlane, namespace_name: str) -> Iterator[Namespace]:
    """Make a namespace that nobody watches yet."""
    with fresh_namespace(own_plane, namespace_name, []) as fresh:
        yield fresh
