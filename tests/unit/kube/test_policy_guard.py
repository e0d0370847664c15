"""The last word before a deletion: what is known at once, and what the policy says now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.api import APIError, KubernetesAPI, NoAnswerError, Read
from registry_cleanup.kube.guard import PolicyGuard
from registry_cleanup.kube.spec import parse_policy
from registry_cleanup.ports import Clock, InterruptedRunError
from tests.support.builders import NOW, minimal_spec, resource

_BODY = resource(minimal_spec())


@dataclass
class _World(Clock):
    """A policy, a clock, and what speaks against going on."""

    body: dict[str, Any] = field(default_factory=lambda: dict(_BODY))
    error: APIError | None = None
    looks: int = 0
    passed: timedelta = timedelta(0)
    lost: str | None = None
    lost_during_look: str | None = None

    @override
    def now(self) -> Any:
        return NOW + self.passed

    async def policy(self, _namespace: str, _name: str) -> Read:
        self.looks += 1
        self.lost = self.lost or self.lost_during_look
        if self.error is not None:
            raise self.error
        return Read(self.body, NOW)

    def guard(self) -> PolicyGuard:
        return PolicyGuard(cast(KubernetesAPI, self), parse_policy(_BODY), self, lambda: self.lost, self.doubt)

    async def doubt(self) -> Failure | None:
        return None


@pytest.fixture
def world() -> _World:
    return _World()


async def test_the_policy_is_read_again_after_five_seconds_and_no_sooner(world: _World) -> None:
    guard = world.guard()
    for seconds, looks in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3)]:
        world.passed = timedelta(seconds=seconds)
        await guard.proceed()
        assert world.looks == looks


async def test_a_clock_that_was_put_back_does_not_put_off_the_next_look(world: _World) -> None:
    guard = world.guard()
    await guard.proceed()
    world.passed = -timedelta(hours=1)
    await guard.proceed()
    assert world.looks == 2
    world.error = NoAnswerError("no answer")
    world.passed = -timedelta(hours=2)
    with pytest.raises(InterruptedRunError, match="could not be read again"):
        await guard.proceed()


async def test_who_has_lost_the_lease_asks_nobody(world: _World) -> None:
    world.lost = "other holds the Lease now"
    with pytest.raises(InterruptedRunError, match="other holds the Lease now"):
        await world.guard().proceed()
    assert world.looks == 0
    with pytest.raises(InterruptedRunError, match="other holds the Lease now"):
        world.guard().unless_halted()


@pytest.mark.parametrize("error", [None, NoAnswerError("no answer")])
async def test_a_lease_that_is_lost_during_the_look_stops_the_run_all_the_same(
    world: _World, error: APIError | None
) -> None:
    guard = world.guard()
    await guard.proceed()
    world.passed = timedelta(seconds=6)
    world.lost_during_look, world.error = "the Lease could not be renewed", error
    with pytest.raises(InterruptedRunError, match="the Lease could not be renewed"):
        await guard.proceed()
