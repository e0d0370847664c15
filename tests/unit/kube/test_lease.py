"""Who may work: one at a time, by each one's own clock, and never a moment too long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.kube.api import APIError, ConflictError, ForbiddenError, NoAnswerError, NotThereError
from registry_cleanup.kube.lease import Alone, LeaseElection, LeaseStore
from registry_cleanup.ports import Clock
from tests.support.generated_registry import seeded
from tests.support.virtual_time import VirtualTime

_LONG_AGO = "2001-01-01T00:00:00.000000Z"


@dataclass
class _Clock(Clock):
    """A time of day that has nothing to do with how much time passes."""

    moment: datetime = datetime(2026, 6, 15, 11, 59, 59, 999_999, tzinfo=UTC)

    @override
    def now(self) -> datetime:
        self.moment += timedelta(microseconds=1)
        return self.moment


@dataclass
class _Server:
    """Keeps one Lease as the API server does.

    Attributes:
        lease: as it is; None where there is none.
        asked: what was asked, with the moment.
        trouble: raised instead of an answer; before the request is carried out.
        lost: raised instead of an answer to a write that was carried out, once.
    """

    time: VirtualTime
    lease: dict[str, Any] | None = None
    asked: list[tuple[float, str]] = field(default_factory=list)
    trouble: APIError | None = None
    lost: APIError | None = None
    version: int = 100

    @property
    def holder(self) -> str | None:
        return None if self.lease is None else self.lease["spec"].get("holderIdentity")

    def put(self, **spec: Any) -> None:  # noqa: ANN401 - values of any field
        """Write as somebody else."""
        known = {} if self.lease is None else self.lease["spec"]
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": {**known, **spec}}

    def held_by(self, holder: str, seconds: int = 15) -> None:
        """Let somebody else take or renew the Lease; the times that it writes are nonsense."""
        self.put(holderIdentity=holder, leaseDurationSeconds=seconds, acquireTime=_LONG_AGO, renewTime=_LONG_AGO)


@dataclass
class _Store(LeaseStore):
    """One operator's way to the Lease.

    Attributes:
        delay: seconds until a request comes in, and until its answer comes back.
    """

    server: _Server
    delay: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)

    @override
    async def read(self) -> dict[str, Any]:
        async with self._request("read"):
            if self.server.lease is None:
                raise NotThereError("no Lease")
            return dict(self.server.lease)

    @override
    async def create(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        async with self._request("create"):
            if self.server.lease is not None:
                raise ConflictError("there is one")
            return self._written(spec)

    @override
    async def replace(self, spec: Mapping[str, Any], version: str) -> dict[str, Any]:
        async with self._request("replace"):
            if self.server.lease is None:
                raise NotThereError("no Lease")
            if self.server.lease["metadata"]["resourceVersion"] != version:
                raise ConflictError("another version")
            return self._written(spec)

    def _written(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        self.server.lease = None if self.server.lease is None else {**self.server.lease, "spec": {}}
        self.server.put(**spec)
        if (error := self.server.lost) is not None:
            self.server.lost = None
            raise error
        assert self.server.lease is not None
        return dict(self.server.lease)

    @asynccontextmanager
    async def _request(self, what: str) -> AsyncIterator[None]:
        there, back = self.delay()
        self.server.asked.append((self.server.time.now(), what))
        if there:
            await self.server.time.sleep(there)
        if self.server.trouble is not None:
            raise self.server.trouble
        try:
            yield
        finally:
            if back:
                await self.server.time.sleep(back)


@dataclass
class _Candidate:
    """One operator, which works as soon as it may."""

    election: LeaseElection
    store: _Store
    task: asyncio.Task[str]

    def works(self) -> bool:
        return self.election.objection() is None


@dataclass
class _World:
    time: VirtualTime
    server: _Server
    clock: _Clock = field(default_factory=_Clock)
    tasks: list[asyncio.Task[str]] = field(default_factory=list)

    def start(self, identity: str = "me", seconds: int = 15) -> _Candidate:
        store = _Store(self.server)
        election = LeaseElection(store, identity, seconds, self.clock, self.time)

        async def live() -> str:
            await election.acquire()
            return await election.keep()

        task = asyncio.create_task(live())
        self.tasks.append(task)
        return _Candidate(election, store, task)

    async def leader(self, identity: str = "me") -> _Candidate:
        started = self.start(identity)
        await self.time.pass_by(0)
        assert started.works()
        return started


@pytest.fixture
async def world() -> AsyncIterator[_World]:
    time = VirtualTime()
    made = _World(time, _Server(time))
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


# Taking


async def test_where_there_is_no_lease_one_is_made_and_held(world: _World) -> None:
    me = world.start()
    assert not me.works()
    await world.time.pass_by(0)
    assert me.works()
    assert world.server.lease is not None
    spec = world.server.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 15, 0)
    assert spec["acquireTime"] == "2026-06-15T12:00:00.000000Z"  # always six digits, as the API server wants them
    assert "leads" in me.election.state


async def test_a_lease_that_somebody_holds_is_taken_when_it_has_not_changed_for_its_time(world: _World) -> None:
    world.server.held_by("other")
    me = world.start()
    await world.time.pass_by(14.9)
    assert not me.works()
    assert me.election.state == "stands by: other holds the Lease"
    await world.time.pass_by(0.2)
    assert me.works()
    assert world.server.holder == "me"
    assert world.server.lease is not None
    assert world.server.lease["spec"]["leaseTransitions"] == 1


async def test_a_lease_that_is_renewed_is_not_taken_whatever_times_it_shows(world: _World) -> None:
    world.server.held_by("other")
    me = world.start()
    for _ in range(10):
        await world.time.pass_by(14)
        world.server.held_by("other")
    assert not me.works()
    # The last renewal is seen at the next look.
    await world.time.pass_by(14.9)
    assert not me.works()
    await world.time.pass_by(2.2)
    assert me.works()


async def test_the_time_that_counts_is_that_which_the_holder_promised(world: _World) -> None:
    world.server.held_by("other", 60)
    me = world.start()
    await world.time.pass_by(59)
    assert not me.works()
    await world.time.pass_by(1.1)
    assert me.works()


async def test_a_lease_in_its_own_name_is_taken_at_once(world: _World) -> None:
    world.server.held_by("me")
    assert (await world.leader()).works()


@pytest.mark.parametrize("holder", ["", None])
async def test_a_lease_that_was_released_is_taken_at_the_next_look(world: _World, holder: str | None) -> None:
    world.server.held_by("other")
    me = world.start()
    await world.time.pass_by(5)
    world.server.put(holderIdentity=holder, leaseDurationSeconds=1)
    await world.time.pass_by(2)
    assert me.works()


async def test_of_two_that_take_it_at_once_one_gets_it(world: _World) -> None:
    two = [world.start("one"), world.start("two")]
    for each in two:
        each.store.delay = lambda: (0.1, 0.1)
    await world.time.pass_by(1)
    assert [each.works() for each in two].count(True) == 1
    world.server.held_by("somebody")
    await world.time.pass_by(20)
    assert [each.works() for each in two].count(True) == 1


async def test_an_answer_that_was_lost_leaves_a_lease_in_its_own_name(world: _World) -> None:
    world.server.lost = NoAnswerError("the connection broke")
    me = world.start()
    await world.time.pass_by(0)
    assert not me.works()
    assert world.server.holder == "me"
    await world.time.pass_by(2)
    assert me.works()


async def test_whoever_stands_by_asks_once_in_two_seconds(world: _World) -> None:
    world.server.held_by("other")
    world.start()
    for _ in range(30):
        await world.time.pass_by(2)
        world.server.held_by("other")
    assert len(world.server.asked) == 31
    assert {what for _, what in world.server.asked} == {"read"}


async def test_a_missing_right_is_told_once_with_what_to_grant(world: _World, caplog: pytest.LogCaptureFixture) -> None:
    world.server.trouble = ForbiddenError("leases is forbidden")
    me = world.start()
    with caplog.at_level(logging.WARNING):
        await world.time.pass_by(20)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "resourceNames: [registry-cleanup], verbs: [get, update]" in line
    assert me.election.trouble is not None
    world.server.trouble = None
    await world.time.pass_by(2)
    assert me.works()
    assert me.election.trouble is None


# Holding


async def test_whoever_leads_renews_once_in_two_seconds_and_asks_nothing_else(world: _World) -> None:
    me = await world.leader()
    world.server.asked.clear()
    await world.time.pass_by(60)
    assert me.works()
    assert [what for _, what in world.server.asked] == ["replace"] * 30


async def test_a_lease_that_cannot_be_renewed_is_lost_after_two_thirds_of_its_time(world: _World) -> None:
    me = await world.leader()
    world.server.trouble = NoAnswerError("no answer from the API server")
    await world.time.pass_by(9.9)
    assert me.works()
    await world.time.pass_by(0.1)
    assert not me.works()
    await world.time.pass_by(0)
    assert me.task.done()
    assert "could not be renewed for 10 s: no answer from the API server" in me.task.result()


async def test_what_counts_is_when_a_renewal_was_sent_not_when_its_answer_came(world: _World) -> None:
    me = await world.leader()
    me.store.delay = lambda: (0.0, 3.0)
    await world.time.pass_by(5)  # sent at 2, answered at 5
    world.server.trouble = NoAnswerError("no answer from the API server")
    await world.time.pass_by(6.9)
    assert me.works()
    await world.time.pass_by(0.1)
    assert not me.works()


async def test_a_loop_that_was_blocked_finds_at_once_that_its_time_has_passed(world: _World) -> None:
    me = await world.leader()
    world.time.jump(10)
    # Nobody was woken in between, so nothing but this question could tell.
    assert me.election.objection() is not None


async def test_what_was_lost_stays_lost_though_the_lease_could_be_renewed_now(world: _World) -> None:
    me = await world.leader()
    world.time.jump(10)
    assert not me.works()
    world.server.asked.clear()
    await world.time.pass_by(60)
    assert not me.works()
    assert me.task.done()
    assert world.server.asked == []


async def test_a_lease_that_somebody_took_is_lost_at_the_next_renewal(world: _World) -> None:
    me = await world.leader()
    world.server.held_by("other")
    await world.time.pass_by(2)
    assert not me.works()
    assert me.task.result() == "other holds the Lease now"


async def test_another_process_of_the_same_name_takes_the_lease_away(world: _World) -> None:
    """As when somebody gives two replicas one name: at least they never work at once."""
    old = await world.leader()
    await world.time.pass_by(1)
    new = await world.leader()
    assert [old.works(), new.works()] == [True, True]  # until the next renewal
    await world.time.pass_by(2)
    assert [old.works(), new.works()] == [False, True]


async def test_a_renewal_whose_answer_was_lost_costs_nothing(world: _World) -> None:
    me = await world.leader()
    world.server.lost = NoAnswerError("the connection broke")
    await world.time.pass_by(60)
    assert me.works()


async def test_a_request_that_somebody_else_cut_short_costs_nothing(world: _World) -> None:
    me = await world.leader()

    def cut_short() -> tuple[float, float]:
        me.store.delay = lambda: (0.0, 0.0)
        raise asyncio.CancelledError

    me.store.delay = cut_short
    await world.time.pass_by(60)
    assert me.works()


async def test_whoever_writes_something_beside_the_lease_takes_nothing_away(world: _World) -> None:
    me = await world.leader()
    await world.time.pass_by(5)
    world.server.put()  # such as a label
    await world.time.pass_by(60)
    assert me.works()


async def test_a_lease_that_was_deleted_is_made_anew_by_whoever_comes_first(world: _World) -> None:
    me = await world.leader()
    world.server.lease = None
    await world.time.pass_by(4)
    assert me.works()
    assert world.server.holder == "me"
    world.server.lease = None
    await world.time.pass_by(2)
    world.server.held_by("other")
    await world.time.pass_by(2)
    assert not me.works()


# Letting go


async def test_a_lease_that_was_released_is_anybodys_and_nothing_may_be_changed_any_more(world: _World) -> None:
    me = await world.leader()
    next_one = world.start("other")
    await world.time.pass_by(5)
    me.task.cancel()
    await me.election.release()
    assert not me.works()
    assert world.server.holder is None
    await world.time.pass_by(2)
    assert next_one.works()


async def test_a_renewal_that_was_cut_short_does_not_keep_the_lease_from_being_released(world: _World) -> None:
    me = await world.leader()
    world.server.lost = NoAnswerError("cut short")
    await world.time.pass_by(2)
    me.task.cancel()
    await me.election.release()
    assert world.server.holder is None


async def test_a_lease_that_was_lost_is_left_to_whoever_has_it(world: _World) -> None:
    me = await world.leader()
    world.server.held_by("other")
    await world.time.pass_by(2)
    await me.election.release()
    assert world.server.holder == "other"


async def test_an_api_server_that_does_not_answer_does_not_hold_up_the_end(world: _World) -> None:
    me = await world.leader()
    world.server.trouble = NoAnswerError("no answer from the API server")
    await me.election.release()
    assert not me.works()


async def test_without_an_election_nothing_is_objected_to() -> None:
    alone = Alone()
    await alone.acquire()
    assert alone.objection() is None
    await alone.release()


# All together


@pytest.mark.parametrize("seed", range(20))
async def test_two_never_work_at_once_however_slow_the_server_and_however_long_they_sleep(
    world: _World, seed: int
) -> None:
    random = seeded(f"leases {seed}")

    def delay() -> tuple[float, float]:
        return (random.choice([0.0, 0.01, 0.5, 4.0]), random.choice([0.0, 0.01, 0.5, 4.0]))

    candidates: list[_Candidate] = []
    worked: set[int] = set()
    for step in range(400):
        alive = [each for each in candidates if not each.task.done()]
        if len(alive) < 3:
            candidates.append(world.start(f"operator {step}"))
            candidates[-1].store.delay = delay
        if random.random() < 0.05:
            world.server.trouble = None if world.server.trouble else NoAnswerError("no answer from the API server")
        if random.random() < 0.05:
            world.time.jump(random.choice([1, 5, 12, 30]))  # everybody sleeps through it
        if random.random() < 0.02 and alive:
            alive[0].task.cancel()  # and never comes back, but goes on to believe what it knows
        await world.time.pass_by(random.random())
        working = [index for index, each in enumerate(candidates) if each.works()]
        assert len(working) <= 1
        worked.update(working)
    assert len(worked) > 2
