"""Fixtures for the real parts, and the logs of those parts kept when a test fails."""

import itertools
import re
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.crane import Crane
from tests.support.kubelet import Kubelet, distribution_image, kubelet, shell_image, unavailable
from tests.support.registries import RegistryServer, Version, distribution
from tests.support.spaces import IMAGES, SHELL, Space, space

# The same examples each time: a failure is a change of the code, not of the day. `make test-thorough` asks for the
# profile `thorough` with hypothesis' own option, --hypothesis-profile.
settings.register_profile(
    "quick",
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
settings.load_profile("quick")

_KEPT_LOGS = Path(__file__).parent.parent / "test-logs"
_spaces = itertools.count(1)
_session_folders = pytest.StashKey[list[Path]]()


def pytest_sessionstart() -> None:
    """End as on Ctrl-C when told to terminate, or the parts would outlive the tests."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # Where a shell starts this in the background, Ctrl-C is ignored, and would be by every program that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """One control plane for all tests, each of which uses a namespace of its own."""
    folder = tmp_path_factory.mktemp("plane")
    pytestconfig.stash.setdefault(_session_folders, []).append(folder)
    with control_plane(folder) as running:
        yield running
    # Some hundred megabytes of etcd's, which pytest would keep for the next runs.
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Kubelet]:
    """One node that runs pods, on a control plane of its own with a controller manager."""
    if reason := unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("node")
    pytestconfig.stash.setdefault(_session_folders, []).append(folder)
    images = {IMAGES["2"]: distribution_image("2"), IMAGES["3"]: distribution_image("3"), SHELL: shell_image()}
    with (
        control_plane(folder / "plane", controller_manager=True, admit_service_accounts=True) as plane,
        kubelet(plane, folder / "kubelet", images) as running,
    ):
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def place(node: Kubelet, request: pytest.FixtureRequest) -> Iterator[Space]:
    """Make a namespace of the test's own on the node."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    with space(node, f"{name}-{next(_spaces)}") as made:
        yield made


@pytest.fixture
def registry2(tmp_path: Path) -> Iterator[RegistryServer]:
    with distribution("2", tmp_path / "registry-2") as server:
        yield server


@pytest.fixture
def registry3(tmp_path: Path) -> Iterator[RegistryServer]:
    with distribution("3", tmp_path / "registry-3") as server:
        yield server


@pytest.fixture(params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryServer]:
    """Each version in turn."""
    version: Version = request.param
    with distribution(version, tmp_path / f"registry-{version}") as server:
        yield server


@pytest.fixture
def crane(tmp_path: Path) -> Crane:
    return Crane(tmp_path / "crane")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the parts logged when a test, its set-up or its end failed."""
    report = yield
    if report.failed:
        folders = [*item.config.stash.get(_session_folders, [])]
        own = item.funcargs.get("tmp_path") if isinstance(item, pytest.Function) else None
        if isinstance(own, Path):
            folders.append(own)
        kept = _KEPT_LOGS / re.sub(r"[^\w.-]+", "_", item.nodeid)
        if _keep_logs(folders, kept):
            report.sections.append(("Logs of the real parts", f"kept in {kept}"))
    return report


def _keep_logs(folders: list[Path], kept: Path) -> bool:
    found = [(log, log.relative_to(folder)) for folder in folders for log in sorted(folder.rglob("*.log"))]
    for log, place in found:
        (kept / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(log, kept / place)
    return bool(found)
