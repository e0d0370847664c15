"""An operator that is killed at every write of a collection leaves the registry up, writable and whole."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.collecting import LIMIT, adopt, collecting_spec, held, is_up_as_before, job_pods, left
from tests.support.collection_kills import Campaign, campaign
from tests.support.generated_registry import seeded
from tests.support.hosted import Kind, collector, hosted
from tests.support.kills import Kill
from tests.support.registries import Version
from tests.support.spaces import PARALLEL, Space

pytestmark = pytest.mark.usefixtures("ready_node")

_SHARES = 4
_QUICK = 4


@pytest.fixture
def killed(place: Space, tmp_path: Path) -> Iterator[Campaign]:
    with hosted(place, tmp_path, filled=False) as registry, campaign(registry, "ReadOnly", tmp_path) as made:
        yield made


def _tell(config: pytest.Config, line: str) -> None:
    """Show the figures, whatever is captured."""
    reporter, capture = (config.pluginmanager.getplugin(name) for name in ("terminalreporter", "capturemanager"))
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write(line)


def test_an_operator_that_is_killed_during_a_collection_restores_the_registry(killed: Campaign) -> None:
    steps = killed.round()
    # Evenly spread over them.
    for part in range(_QUICK):
        killed.round(Kill(1 + (steps - 1) * part // (_QUICK - 1), part % 2 == 1))
    assert killed.kills.total() == _QUICK


@pytest.mark.parametrize("strategy", ["ReadOnly", "Offline"])
def test_a_registry_whose_policy_goes_while_no_operator_runs_is_restored(
    place: Space, tmp_path: Path, strategy: str
) -> None:
    node = place.node
    with hosted(place, tmp_path, filled=False) as registry:
        before = left(registry)
        with ExitStack() as stack:
            killed = stack.enter_context(collector(node))
            adopt(registry, collecting_spec(registry, {"strategy": strategy}))
            stack.enter_context(held(registry))
            killed.process.signal(signal.SIGKILL)
            killed.process.wait(LIMIT)
            assert left(registry).marks
            registry.namespace.delete()
            with collector(node):
                place.wait(lambda: left(registry) == before, "the registry as it was")
                is_up_as_before(registry, before, "new")
        place.wait(lambda: job_pods(registry) == [], "the end of the Job's pods")


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(_SHARES))
@pytest.mark.parametrize(
    ("version", "kind", "strategy"),
    [("2", "StatefulSet", "ReadOnly"), ("3", "Deployment", "Offline"), ("3", "Deployment", "ReadOnly")],
)
def test_an_operator_that_is_killed_at_every_write_of_a_collection_restores_the_registry(
    place: Space, tmp_path: Path, pytestconfig: pytest.Config, version: Version, kind: Kind, strategy: str, seed: int
) -> None:
    """The shares together kill before and after each write; a seed adds more kills."""
    chain = seeded(seed)
    with (
        hosted(place, tmp_path, version, kind, filled=False, **(PARALLEL if kind == "StatefulSet" else {})) as registry,
        campaign(registry, strategy, tmp_path) as killed,
    ):
        steps = killed.round()
        for number in range(1 + seed, 1 + steps, _SHARES):
            for after in (False, True):
                killed.round(Kill(number, after), chain)
        _tell(
            pytestconfig,
            f"\nseed {seed}, Distribution {version}, {kind}, {strategy}: {steps} writes, {killed.kills.total()} kills "
            f"({dict(killed.kills)}), {killed.starts} starts, {dict(killed.ends)}\n",
        )
