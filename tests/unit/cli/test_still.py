"""A run goes on only while the policy's file is as it was, and no operator prunes by the policy."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.cli.running.still import STDIN, PolicyFile, StillWanted
from registry_cleanup.kube.api import APIError, KubernetesAPI, NoAnswerError, NotThereError, Read
from registry_cleanup.ports import Clock, InterruptedRunError


@dataclass
class _World(Clock, KubernetesAPI):
    """A clock, and an API server with one policy.

    Attributes:
        spec: of the policy; None where there is none.
        error: that the API server answers with.
        looks: at the policy, so far.
    """

    spec: dict[str, Any] | None = None
    error: APIError | None = None
    time: datetime = field(default_factory=lambda: datetime(2026, 3, 1, tzinfo=UTC))
    looks: int = 0

    @override
    def now(self) -> datetime:
        return self.time

    @override
    async def policy(self, namespace: str, name: str) -> Read:
        self.looks += 1
        if self.error is not None:
            raise self.error
        if self.spec is None:
            raise NotThereError("not found")
        return Read({"spec": self.spec}, None)

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text("as it is")
    return file


def _still(file: Path, world: _World, *, cluster: bool = True) -> StillWanted:
    return StillWanted(PolicyFile(file), world if cluster else None, "team", "policy", world)


def test_a_file_that_only_was_touched_is_as_it_was(file: Path) -> None:
    policy = PolicyFile(file)
    file.write_text("as it is")
    assert policy.change() is None
    file.write_text("as it was not")
    assert policy.change() == f"{file} was changed"
    file.unlink()
    assert policy.change() == f"{file} cannot be read any more"


async def test_a_file_that_is_not_as_it_was_stops_the_run(file: Path) -> None:
    still = _still(file, _World(), cluster=False)
    await still()
    await asyncio.to_thread(file.write_text, "as it was not")
    with pytest.raises(InterruptedRunError, match=r"policy\.yaml was changed"):
        await still()


async def test_standard_input_does_not_change() -> None:
    await _still(STDIN, _World(), cluster=False)()


async def test_the_cluster_is_asked_at_least_every_ten_seconds_and_not_before_each_deletion(file: Path) -> None:
    world = _World()
    still = _still(file, world)
    for _ in range(100):
        await still()
        world.pass_by(0.1)
    assert world.looks == 2


@pytest.mark.parametrize("spec", [{"dryRun": True}, {}, {"dryRun": False, "suspend": True}])
async def test_a_policy_that_does_not_prune_in_the_cluster_holds_nothing_up(file: Path, spec: dict[str, Any]) -> None:
    await _still(file, _World(spec))()


async def test_a_policy_that_becomes_live_stops_the_run(file: Path) -> None:
    world = _World({"dryRun": True})
    still = _still(file, world)
    await still()
    world.spec = {"dryRun": False}
    world.pass_by(5)
    with pytest.raises(InterruptedRunError, match="became live"):
        await still()


async def test_a_cluster_that_does_not_answer_stops_the_run_after_ten_seconds(file: Path) -> None:
    world = _World()
    still = _still(file, world)
    await still()
    world.error = NoAnswerError("no answer")
    world.pass_by(9)
    await still()
    world.pass_by(1)
    with pytest.raises(InterruptedRunError, match="could not be asked"):
        await still()


async def test_a_clock_that_was_put_back_makes_no_look_younger(file: Path) -> None:
    world = _World({"dryRun": True})
    still = _still(file, world)
    await still()
    world.spec = {"dryRun": False}
    world.pass_by(-3600)
    with pytest.raises(InterruptedRunError, match="became live"):
        await still()
