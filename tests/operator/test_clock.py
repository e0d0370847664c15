"""A clock that jumps by days: nothing goes before its time, no run is done twice, and the schedule goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.application import Application
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.ports import Clock
from registry_cleanup.settings import Settings
from registry_cleanup.supervisor import Supervisor
from tests.support.crane import Crane
from tests.support.policies import LIMIT, Namespace, Resource, is_planned, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer

_ALL = [f"build-{build}" for build in range(1, 6)]
_DAYS = [timedelta(days=3), timedelta(days=-3)]


@dataclass
class JumpingClock(Clock):
    """The machine's clock, as it is and as it is put forward or back."""

    jump: timedelta = timedelta(0)

    @override
    def now(self) -> datetime:
        return datetime.now(UTC) + self.jump


@dataclass
class _Place:
    """A supervisor in this process, with a clock that a test moves; it hears of the policy when the test tells it."""

    namespace: Namespace
    clock: JumpingClock
    supervisor: Supervisor
    told: list[str] = field(default_factory=list)

    async def wait(self, condition: Callable[[Resource], bool]) -> Resource:
        """Tell what the policy is now, and wait until it is as `condition` wants it."""
        async with asyncio.timeout(LIMIT):
            while True:
                policy = self.namespace.policy()
                self.supervisor.observe(policy, deleted=False)
                if condition(policy):
                    return policy
                await asyncio.sleep(0.05)

    async def run(self, request: str) -> Resource:
        self.namespace.request_run(request)

        def is_so(policy: Resource) -> bool:
            return bool(policy["status"].get("lastHandledRunRequest") == request and _ended(policy))

        return await self.wait(is_so)

    async def hears(self, reason: str) -> None:
        """Wait until the last Event has this reason: it is posted after the status is there to be read."""
        await self.wait(lambda _: self.told[-1:] == [reason])

    async def rests(self) -> None:
        """Let the supervisor do what is due, if anything is: it is told of the policy, and given time to begin."""
        before = len(self.told)
        for _ in range(10):
            self.supervisor.observe(self.namespace.policy(), deleted=False)
            await asyncio.sleep(0.05)
        assert len(self.told) == before
        assert last_run(self.namespace.policy())["phase"] != "Running"


@pytest.fixture
async def place(own_namespace: Namespace) -> AsyncIterator[_Place]:
    plane = own_namespace.plane
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = plane.url, str(plane.ca_file)
    configuration.api_key["authorization"] = f"Bearer {plane.admin_token}"
    clock, told = JumpingClock(), list[str]()
    async with client.ApiClient(configuration) as api_client:
        application = Application(
            Settings(schedule_jitter_seconds=0), KubernetesAPI(api_client), RawAPI(api_client), clock
        )
        supervisor = Supervisor(application, lambda _body, _warning, reason, _message: told.append(reason))
        yield _Place(own_namespace, clock, supervisor, told)
        supervisor.observe(own_namespace.policy(), deleted=True)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("policy ")))


@pytest.mark.parametrize("jump", _DAYS, ids=["forwards", "backwards"])
async def test_while_the_clock_is_days_off_nothing_goes_and_no_grace_period_ends(
    place: _Place, registry3: RegistryServer, crane: Crane, jump: timedelta
) -> None:
    push_builds(registry3.url)
    place.namespace.apply(policy_spec(registry3.url, dryRun=False, gracePeriod="24h"))
    first = await place.wait(is_planned)
    published = place.namespace.config_maps()
    place.clock.jump = jump
    off = await place.run("while it is off")
    assert last_run(off)["phase"] == "Blocked"
    assert "clocks" in last_run(off)["message"]
    assert last_run(off)["counts"]["tagsPruned"] == 0
    assert crane.ls(f"{registry3.host}/team/app") == _ALL
    plans = [name for name in published if "-plan-" in name]
    assert {name: place.namespace.config_maps()[name] for name in plans} == {name: published[name] for name in plans}
    place.clock.jump = timedelta(0)
    back = await place.run("once it is right")
    assert last_run(back)["phase"] == "Succeeded"
    assert last_run(back)["keptByReason"]["GracePeriod"] == 3
    # The grace period counts from the first publication, as if nothing had been.
    assert back["status"]["plan"]["prunableFrom"] == first["status"]["plan"]["prunableFrom"]
    assert crane.ls(f"{registry3.host}/team/app") == _ALL


async def _jumped_and_back(place: _Place, registry: RegistryServer) -> Resource:
    """Let the clock be three days ahead for a while; return the policy as it is then."""
    push_builds(registry.url)
    place.namespace.apply(policy_spec(registry.url, dryRun=False, schedule="0 3 * * *"))
    await place.wait(is_planned)
    await place.hears("PlanSucceeded")
    await place.rests()
    place.clock.jump = timedelta(days=3)
    off = await place.wait(lambda policy: last_run(policy)["trigger"] == "Schedule" and _ended(policy))
    assert last_run(off)["phase"] == "Blocked"
    await place.hears("RunBlocked")
    # However many times went by in the jump, they count once.
    await place.rests()
    place.clock.jump = timedelta(0)
    await place.rests()
    return off


async def test_a_clock_that_jumps_forwards_and_back_runs_nothing_twice(
    place: _Place, registry3: RegistryServer
) -> None:
    off = await _jumped_and_back(place, registry3)
    assert last_run(place.namespace.policy())["id"] == last_run(off)["id"]
    assert place.told == ["PlanSucceeded", "RunBlocked"]


async def test_a_clock_that_was_ahead_once_does_not_silence_the_schedule(
    place: _Place, registry3: RegistryServer
) -> None:
    off = await _jumped_and_back(place, registry3)
    # The next time comes, though that of the last run is still to come.
    place.clock.jump = timedelta(days=1)
    again = await place.wait(lambda policy: last_run(policy)["id"] != last_run(off)["id"] and _ended(policy))
    assert last_run(again)["trigger"] == "Schedule"
    assert again["status"]["lastScheduleTime"] < off["status"]["lastScheduleTime"]


async def test_a_clock_that_is_put_back_runs_no_scheduled_time_again(place: _Place, registry3: RegistryServer) -> None:
    push_builds(registry3.url)
    place.namespace.apply(policy_spec(registry3.url, schedule="0 3 * * *"))
    await place.wait(is_planned)
    for jump in (timedelta(days=-3), timedelta(0), timedelta(hours=-30), timedelta(0)):
        place.clock.jump = jump
        await place.rests()
    assert last_run(place.namespace.policy())["trigger"] == "SpecChange"
    assert place.told == ["PlanSucceeded"]


def _ended(policy: Resource) -> bool:
    return bool(last_run(policy)["phase"] != "Running")
