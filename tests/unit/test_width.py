"""How many requests at a time a registry takes well, on registries that are a formula."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.gate import Gate
from registry_cleanup.width import Width
from tests.support.generated_registry import seeded

Throughput = Callable[[int], float]
"""Answers a second, by the number of requests under way."""


class _Registry:
    """Answers as a formula says, for a client that always has more to ask."""

    def __init__(self, width: Width, throughput: Throughput, most: int = 1000, noise: float = 0.0) -> None:
        self.width = width
        self.throughput = throughput
        self.most = most
        self.widest = 0
        self._noise = seeded(7), noise
        self._now = 0.0

    def answers(self, number: int, *, overloaded: bool = False) -> None:
        for _ in range(number):
            under_way = min(self.width.limit, self.most)
            self.widest = max(self.widest, under_way)
            chance, noise = self._noise
            self._now += (1 + noise * chance.uniform(-1, 1)) / self.throughput(under_way)
            self.width.answered(self._now, under_way, overloaded=overloaded)


def _far_away(under_way: int) -> float:
    return under_way / 0.05


def _knee_at(cores: int) -> Throughput:
    return lambda under_way: 500.0 * min(under_way, cores)


def _thrashing(under_way: int) -> float:
    return 500.0 * min(under_way, 4) / (1 + max(0, under_way - 4) / 4)


def test_a_registry_that_is_far_away_gets_all_that_is_allowed() -> None:
    registry = _Registry(Width(32), _far_away)
    registry.answers(4_000)
    assert registry.width.limit >= 30
    assert registry.widest == 32


@pytest.mark.parametrize("cores", [2, 4, 12])
def test_the_width_stays_near_the_number_from_which_on_answers_only_take_longer(cores: int) -> None:
    registry = _Registry(Width(64), _knee_at(cores), noise=0.5)
    registry.answers(100_000)
    found = []
    for _ in range(50):
        registry.answers(1_000)
        found.append(registry.width.limit)
    assert cores * 0.6 <= sum(found) / len(found) <= cores * 1.7


def test_a_registry_that_gets_slower_by_too_much_gets_less() -> None:
    registry = _Registry(Width(64), _thrashing)
    registry.answers(100_000)
    assert 3 <= registry.width.limit <= 5


def test_a_registry_that_says_too_much_gets_half_at_once_and_later_more_again() -> None:
    registry = _Registry(Width(16), _far_away)
    registry.answers(4_000)
    before = registry.width.limit
    registry.answers(1, overloaded=True)
    assert registry.width.limit == before // 2
    registry.answers(before - 1, overloaded=True)  # all that were under way then say the same
    assert registry.width.limit == before // 2
    registry.answers(1, overloaded=True)
    assert registry.width.limit == before // 4
    registry.answers(20_000)
    assert registry.width.limit >= before - 2


def test_answers_that_take_twice_as_long_narrow_it() -> None:
    width = Width(16)
    registry = _Registry(width, _far_away)
    registry.answers(4_000)
    before = width.limit
    registry.throughput = lambda under_way: _far_away(under_way) / 3
    registry.answers(150)
    assert width.limit == before * 3 // 4


def test_who_does_not_use_all_places_learns_nothing() -> None:
    registry = _Registry(Width(64), _far_away, most=3)
    registry.answers(10_000)
    assert registry.width.limit == 8


def test_work_that_comes_in_batches_is_learned_from_too() -> None:
    width, now = Width(32), 0.0
    for _ in range(400):
        for left in range(100, 0, -1):
            under_way = min(width.limit, left)
            now += 1 / _far_away(under_way)
            width.answered(now, under_way, overloaded=False)
    assert width.limit >= 24


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(1, 60), st.floats(1, 10_000), st.booleans()), max_size=400),
)
def test_whatever_comes_it_is_at_least_one_and_never_more_than_allowed(
    most: int, answers: list[tuple[int, float, bool]]
) -> None:
    width, now = Width(most), 0.0
    for (under_way, throughput, overloaded), _ in itertools.product(answers, range(20)):
        now += 1 / throughput
        width.answered(now, under_way, overloaded=overloaded and under_way % 7 == 0)
        assert 1 <= width.limit <= most


async def test_a_gate_lets_through_as_many_as_its_width_says() -> None:
    width, now = Width(8), 0.0
    gate = Gate(8, clock=lambda: now, width=width)
    inside = 0
    for _ in range(3_000):
        while inside < width.limit:
            async with asyncio.timeout(10):
                await gate.enter("a")
            inside += 1
        now += 0.05 / inside
        gate.leave()
        inside -= 1
    assert width.limit == gate.under_way + 1 == 8
    gate.leave(overloaded=True)
    assert width.limit == 4
