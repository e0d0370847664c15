"""An operator that is killed at every step of a run, again and again, over one policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane
from tests.support.generated_registry import seeded
from tests.support.kills import Campaign, Kill, campaign
from tests.support.policies import Namespace
from tests.support.registries import RegistryServer, Version, distribution

_SHARES = 4
_QUICK = 8


@pytest.fixture
def killed(
    own_plane: ControlPlane, own_namespace: Namespace, registry3: RegistryServer, tmp_path: Path
) -> Iterator[Campaign]:
    with campaign(own_plane, own_namespace, registry3, tmp_path) as made:
        yield made


def _tell(config: pytest.Config, line: str) -> None:
    """Show the figures, whatever is captured."""
    reporter, capture = (config.pluginmanager.getplugin(name) for name in ("terminalreporter", "capturemanager"))
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write(line)


def test_an_operator_that_is_killed_at_any_step_loses_nothing_but_time(killed: Campaign) -> None:
    planning, pruning = killed.lengths()
    # Evenly spread over the steps of both, and in the last round again and again.
    for part in range(_QUICK // 2):
        after = part % 2 == 1
        killed.round(
            Kill(1 + (planning - 1) * part // (_QUICK // 2 - 1), after),
            Kill(1 + (pruning - 1) * part // (_QUICK // 2 - 1), not after),
        )
    assert killed.kills.total() == _QUICK


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(_SHARES))
@pytest.mark.parametrize("version", ["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def test_an_operator_that_is_killed_at_every_step_again_and_again_loses_nothing_but_time(
    own_plane: ControlPlane,
    own_namespace: Namespace,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    version: Version,
    seed: int,
) -> None:
    """The shares together kill before and after each step of a planning and of a pruning; a seed adds more kills."""
    chain = seeded(seed)
    with (
        distribution(version, tmp_path / "registry") as server,
        campaign(own_plane, own_namespace, server, tmp_path) as killed,
    ):
        planning, pruning = killed.lengths()
        for number in range(1 + seed, 1 + max(planning, pruning), _SHARES):
            for after in (False, True):
                killed.round(
                    Kill(number, after) if number <= planning else None,
                    Kill(number, after) if number <= pruning else None,
                    chain,
                )
        _tell(
            pytestconfig,
            f"\nseed {seed}, Distribution {version}: {planning} + {pruning} steps, {killed.kills.total()} kills "
            f"({dict(killed.kills)}), {killed.starts} starts\n",
        )
