"""The gate of a registry: how many requests at a time and in a second, in which order, and who gives up."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.gate import Gate, Pace
from registry_cleanup.lanes import Gates, Lane, OwnLimits
from registry_cleanup.places import Places
from tests.support.generated_registry import seeded

_LIMIT = 10.0


async def _idle() -> None:
    """Let every task go as far as it can without the passing of time."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass
class _Crowd:
    """Tasks at a gate, which stay inside until they are told to leave.

    Attributes:
        order: who was let in, in order.
        most: so many were inside at a time at most.
    """

    gate: Gate
    order: list[str] = field(default_factory=list)
    most: int = 0
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _exits: dict[str, asyncio.Event] = field(default_factory=dict)

    async def comes(self, name: str, *, first: bool = False) -> None:
        """Let somebody come: `a1` is of namespace `a`."""
        self._exits[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name, first=first))
        await asyncio.sleep(0)

    async def _stay(self, name: str, *, first: bool) -> None:
        await self.gate.enter(name[0], first=first)
        self.order.append(name)
        self.most = max(self.most, self.gate.under_way)
        try:
            await self._exits[name].wait()
        finally:
            self.gate.leave()

    async def leaves(self, name: str) -> None:
        self._exits[name].set()
        await _idle()

    async def gives_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await _idle()

    async def all_leave(self) -> None:
        while self.gate.under_way:
            for name in list(self.order):
                self._exits[name].set()
            await _idle()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@asynccontextmanager
async def _crowd(most: int) -> AsyncIterator[_Crowd]:
    crowd = _Crowd(Gate(most))
    yield crowd
    await crowd.all_leave()
    assert (crowd.gate.under_way, crowd.gate.waiting, crowd.gate.idle) == (0, 0, True)
    assert crowd.most <= most


# Order


async def test_whoever_finds_a_place_is_in_at_once() -> None:
    async with _crowd(2) as crowd:
        for name in ("a1", "a2", "a3"):
            await crowd.comes(name)
        assert (crowd.order, crowd.gate.under_way, crowd.gate.waiting) == (["a1", "a2"], 2, 1)


async def test_namespaces_take_turns_and_within_one_the_first_comes_first() -> None:
    async with _crowd(1) as crowd:
        for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
            await crowd.comes(name)
        for leaving in ("a1", "a2", "b1", "c1", "a3", "b2"):
            await crowd.leaves(leaving)
        assert crowd.order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_a_namespace_with_a_hundred_that_wait_starves_nobody() -> None:
    async with _crowd(1) as crowd:
        for number in range(100):
            await crowd.comes(f"a{number}")
        await crowd.comes("b")
        await crowd.leaves("a0")
        await crowd.leaves("a1")
        assert crowd.order == ["a0", "a1", "b"]


async def test_who_may_go_first_goes_before_all_that_wait_and_changes_no_other_turn() -> None:
    async with _crowd(1) as crowd:
        for name in ("a1", "a2", "b1", "c1"):
            await crowd.comes(name)
        await crowd.comes("c2", first=True)
        await crowd.comes("a3", first=True)
        for leaving in ("a1", "c2", "a3", "a2", "b1"):
            await crowd.leaves(leaving)
        assert crowd.order == ["a1", "c2", "a3", "a2", "b1", "c1"]


async def test_one_that_comes_while_others_wait_does_not_overtake_them() -> None:
    async with _crowd(1) as crowd:
        for name in ("a1", "b1"):
            await crowd.comes(name)
        crowd._exits["a1"].set()  # noqa: SLF001 - it leaves in the moment in which another comes
        await crowd.comes("a2")
        await _idle()
        assert crowd.order == ["a1", "b1"]


# Cancellation


async def test_one_that_gives_up_while_it_waits_is_passed_over() -> None:
    async with _crowd(1) as crowd:
        for name in ("a1", "a2", "b1"):
            await crowd.comes(name)
        await crowd.gives_up("a2")
        assert crowd.gate.waiting == 1
        await crowd.leaves("a1")
        assert crowd.order == ["a1", "b1"]


async def test_one_that_is_cancelled_in_the_moment_in_which_it_is_let_in_gives_its_place_to_the_next() -> None:
    gate = Gate(1)
    await gate.enter("a")
    let_in, behind = (asyncio.create_task(gate.enter("a")) for _ in range(2))
    await asyncio.sleep(0)
    gate.leave()  # its future is done, but its task has not run
    let_in.cancel()
    await asyncio.wait_for(behind, _LIMIT)
    assert let_in.cancelled()
    assert (gate.under_way, gate.waiting) == (1, 0)


async def test_one_that_was_cancelled_and_has_not_heard_of_it_takes_no_turn_from_its_namespace() -> None:
    gate = Gate(1)
    await gate.enter("a")
    order: list[str] = []

    async def comes(name: str) -> None:
        await gate.enter(name[0])
        order.append(name)
        gate.leave()

    tasks = [asyncio.create_task(comes(name)) for name in ("a1", "a2", "b1")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.leave()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a2", "b1"]
    assert (gate.under_way, gate.waiting) == (0, 0)


@given(
    seed=st.integers(0, 2**32),
    most=st.integers(1, 4),
    per_second=st.sampled_from([0.0, 2000.0]),
    lane=st.booleans(),
)
async def test_whatever_is_cancelled_no_place_is_lost_and_no_more_than_allowed_are_inside(
    seed: int, most: int, per_second: float, lane: bool
) -> None:
    random = seeded(seed)
    gate = Gate(most, per_second)
    own = OwnLimits(random.randint(1, 5), random.choice([0.0, 5000.0]))
    inside = peak = 0

    async def come(namespace: str, stay: int, *, first: bool) -> None:
        nonlocal inside, peak
        way = Lane(gate, namespace, own)
        await (way.enter(first=first) if lane else gate.enter(namespace, first=first))
        inside += 1
        peak = max(peak, inside)
        try:
            for _ in range(stay):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            (way if lane else gate).leave()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(40):
        if random.random() < 0.6 or not tasks:
            tasks.append(
                asyncio.create_task(come(random.choice("abc"), random.randint(0, 3), first=random.random() < 0.2))
            )
        else:
            random.choice(tasks).cancel()
        if random.random() < 0.5:
            await asyncio.sleep(0)
    async with asyncio.timeout(_LIMIT):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert peak <= (min(most, own.most) if lane else most)
    assert (gate.under_way, gate.waiting, own.gate.under_way, own.gate.waiting) == (0, 0, 0, 0)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    # It is as good as new.
    for _ in range(most):
        await asyncio.wait_for(gate.enter("a"), _LIMIT)
    assert gate.under_way == most


# Pace


@given(
    per_second=st.floats(0.1, 2000),
    gaps=st.lists(st.floats(0, 2) | st.floats(0, 0.02), min_size=1, max_size=200),
    window=st.floats(0.1, 5),
)
def test_no_window_of_time_sees_more_than_the_pace_allows(per_second: float, gaps: list[float], window: float) -> None:
    pace, now, begun = Pace(per_second), 1000.0, list[float]()
    for gap in gaps:
        now += gap
        now += pace.wait(now)
        pace.begin(now)
        begun.append(now)
    allowed = per_second * window + max(1.0, per_second / 20) + 1e-6 * len(begun)
    for start in begun:
        assert sum(start <= moment < start + window for moment in begun) <= allowed


@given(per_second=st.floats(0.1, 2000))
def test_who_waits_no_longer_than_told_keeps_the_whole_pace(per_second: float) -> None:
    pace, now = Pace(per_second), 0.0
    for _ in range(100):
        now += pace.wait(now)
        pace.begin(now)
    assert now <= 100 / per_second


def test_a_timer_that_wakes_late_slows_nobody_down() -> None:
    pace, now = Pace(1000), 0.0
    for _ in range(200):
        if (wait := pace.wait(now)) > 0:
            now += wait + 0.01
        pace.begin(now)
    assert now <= 200 / 1000 + 0.02


async def test_a_gate_keeps_its_pace_by_the_clock_and_needs_one_timer_for_all_that_wait() -> None:
    moment = 0.0
    gate = Gate(100, 20, lambda: moment)
    tasks = [asyncio.create_task(gate.enter("a")) for _ in range(50)]
    await _idle()
    assert (gate.under_way, gate.waiting) == (1, 49)
    assert _timers() == 1
    for expected in (2, 3):
        moment += 0.05
        async with asyncio.timeout(_LIMIT):
            await tasks[expected - 1]
        await _idle()
        assert gate.under_way == expected
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.waiting, _timers()) == (0, 0)


async def test_one_that_comes_while_others_wait_for_the_pace_does_not_overtake_them() -> None:
    moment = 0.0
    gate = Gate(100, 1, lambda: moment)
    order: list[str] = []

    async def comes(name: str) -> None:
        await gate.enter(name)
        order.append(name)

    tasks = [asyncio.create_task(comes(name)) for name in ("a", "b")]
    await _idle()
    moment = 1.0  # the next may begin, but no timer has told so yet
    tasks.append(asyncio.create_task(comes("c")))
    await _idle()
    assert order == ["a", "b"]
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _timers() -> int:
    """Return how many timers of this loop are armed: in other threads there may be others, such as a test node's."""
    loop = asyncio.get_running_loop()
    armed = [each for each in gc.get_objects() if type(each) is asyncio.TimerHandle and not each.cancelled()]
    return sum(any(each is loop for each in gc.get_referents(timer)) for timer in armed)


async def test_where_nobody_has_to_wait_passing_takes_no_timer_and_no_turn_of_the_loop() -> None:
    lane = Lane(Gate(2, 1e6), "a", OwnLimits(2, 1e6))
    for _ in range(2):
        time.sleep(0.001)  # noqa: ASYNC251 - the loop must not turn
        with pytest.raises(StopIteration):
            lane.enter().send(None)
    assert _timers() == 0
    lane.leave()
    lane.leave()


# The lane of a run


async def test_a_run_sends_no_more_at_a_time_and_in_a_second_than_its_policy_allows() -> None:
    lane = Lane(Gate(100), "a", OwnLimits(3, 50))
    began: list[float] = []
    inside = peak = 0

    async def request() -> None:
        nonlocal inside, peak
        await lane.enter()
        began.append(time.monotonic())
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(0.1)
        inside -= 1
        lane.leave()

    await asyncio.gather(*(request() for _ in range(12)))
    assert peak <= 3
    for start in began:
        assert sum(start <= moment < start + 0.2 for moment in began) <= 50 * 0.2 + 3


async def test_requests_that_waited_for_the_gate_begin_no_faster_than_the_policy_allows() -> None:
    gate = Gate(8)
    for _ in range(8):
        await gate.enter("others")
    lane = Lane(gate, "a", OwnLimits(8, 20))
    began: list[float] = []

    async def request() -> None:
        await lane.enter()
        began.append(time.monotonic())
        lane.leave()

    tasks = [asyncio.create_task(request()) for _ in range(4)]
    await asyncio.sleep(0.3)  # long enough for each to have waited its time, had they waited for that together
    assert gate.waiting == 1
    for _ in range(8):
        gate.leave()
    await asyncio.gather(*tasks)
    assert all(later - sooner >= 0.049 for sooner, later in itertools.pairwise(began))


async def test_a_request_that_follows_at_once_holds_up_the_next() -> None:
    moment = 0.0
    own = OwnLimits(8, 10, lambda: moment)
    lane = Lane(None, "a", own)
    await lane.enter()
    lane.follow()
    assert own.pace is not None
    assert own.pace.wait(moment) == pytest.approx(0.2)


@pytest.mark.parametrize("whose", ["the policy's", "the registry's"])
async def test_what_goes_first_follows_its_look_at_once_however_slow_the_pace_and_counts(whose: str) -> None:
    own, registry = (10.0, 0.0) if whose == "the policy's" else (0.0, 10.0)
    lane = Lane(Gate(8, registry), "a", OwnLimits(8, own))
    order: list[str] = []

    async def look_and_change(number: int) -> None:
        await lane.enter()
        order.append(f"look {number}")
        lane.leave()
        await asyncio.sleep(0)
        await lane.enter(first=True)
        order.append(f"change {number}")
        lane.leave()

    began = time.monotonic()
    await asyncio.gather(*(look_and_change(number) for number in range(5)))
    assert order == [f"{what} {number}" for number in range(5) for what in ("look", "change")]
    # Ten requests, of which the last waited for nothing.
    assert time.monotonic() - began >= 0.1 * 8 - 0.001


async def test_what_goes_first_still_waits_for_a_place() -> None:
    pace = 0.01
    lane = Lane(Gate(1, pace), "a", OwnLimits(1, pace))
    await lane.enter()
    task = asyncio.create_task(lane.enter(first=True))
    await _idle()
    assert not task.done()
    lane.leave()
    await asyncio.wait_for(task, _LIMIT)  # and for nothing else


async def test_a_run_that_waits_for_its_own_limits_holds_no_place_of_others() -> None:
    gate = Gate(2)
    lane = Lane(gate, "a", OwnLimits(1))
    await lane.enter()
    task = asyncio.create_task(lane.enter())
    await _idle()
    assert (gate.under_way, gate.waiting) == (1, 0)
    lane.leave()
    await asyncio.wait_for(task, _LIMIT)
    lane.leave()
    assert gate.under_way == 0


# The gates of all registries


async def test_all_runs_at_one_registry_share_its_gate_and_those_of_others_do_not() -> None:
    gates = Gates(1)
    own = OwnLimits(8)
    with (
        gates.lane("r:443", "a", own) as one,
        gates.lane("r:443", "b", own) as two,
        gates.lane("s:443", "b", own) as elsewhere,
    ):
        await one.enter()
        await asyncio.wait_for(elsewhere.enter(), _LIMIT)
        task = asyncio.create_task(two.enter())
        await _idle()
        assert (gates.under_way, gates.waiting, len(gates)) == (2, 1, 2)
        one.leave()
        await asyncio.wait_for(task, _LIMIT)
        two.leave()
        elsewhere.leave()
    assert len(gates) == 0


async def test_a_gate_outlives_its_runs_as_long_as_its_pace_would_be_forgotten() -> None:
    moment = 0.0
    gates = Gates(8, 0.1, lambda: moment)
    with gates.lane("r:443", "a", OwnLimits(8)) as lane:
        await lane.enter()
        lane.leave()
    assert len(gates) == 1
    with gates.lane("r:443", "a", OwnLimits(8)) as lane:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.enter(), 0.05)
        moment = 10.0
        await asyncio.wait_for(lane.enter(), _LIMIT)
        lane.leave()
    moment = 20.0
    with gates.lane("s:443", "a", OwnLimits(8)):
        assert len(gates) == 1
    assert len(gates) == 0


# Places


async def test_runs_of_a_namespace_with_many_due_do_not_hold_up_those_of_another() -> None:
    places = Places(2)
    started: Counter[str] = Counter()
    order: list[str] = []
    go_on = asyncio.Event()

    async def run(namespace: str) -> None:
        async with places.at(namespace):
            started[namespace] += 1
            order.append(namespace)
            await go_on.wait()
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(run(namespace)) for namespace in "aaaaaaaaaabc"]
    await _idle()
    assert (places.running, places.waiting) == (2, 10)
    go_on.set()
    await asyncio.gather(*tasks)
    assert (places.running, places.waiting) == (0, 0)
    assert {"b", "c"} <= set(order[:5])
    assert started == {"a": 10, "b": 1, "c": 1}


async def test_a_run_that_steps_aside_lets_another_have_its_place_and_comes_back() -> None:
    places = Places(1)
    order: list[str] = []
    first_may_return = asyncio.Event()

    async def first() -> None:
        async with places.at("a") as seat:
            async with seat.aside():
                order.append("aside")
                await first_may_return.wait()
            order.append("back")
            assert places.running == 1

    async def second() -> None:
        async with places.at("b"):
            order.append("second")
            first_may_return.set()
            await _idle()
            assert order == ["aside", "second"]

    await asyncio.wait_for(asyncio.gather(first(), second()), _LIMIT)
    assert order == ["aside", "second", "back"]
    assert places.running == 0


async def test_a_run_that_is_cancelled_aside_gives_nothing_back_twice() -> None:
    places = Places(1)

    async def run() -> None:
        async with places.at("a") as seat, seat.aside():
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await _idle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (places.running, places.waiting) == (0, 0)
