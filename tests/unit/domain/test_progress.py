"""How far a run comes within its time, and where the next one goes on."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.progress import next_repository, planning_deadline, rotated
from registry_cleanup.domain.run import RunOrder, Trigger
from tests.support.builders import NOW


@pytest.mark.parametrize(
    ("first", "order"),
    [
        (None, ["a", "b", "d"]),
        ("a", ["a", "b", "d"]),
        ("b", ["b", "d", "a"]),
        # It is gone by now.
        ("c", ["d", "a", "b"]),
        ("e", ["a", "b", "d"]),
    ],
)
def test_a_run_begins_where_the_one_before_it_stopped_and_takes_the_rest_after_that(
    first: str | None, order: Sequence[str]
) -> None:
    assert rotated(["d", "a", "b"], first) == order


def test_a_run_that_prunes_leaves_time_for_that() -> None:
    deadline = NOW + timedelta(hours=4)
    assert planning_deadline(RunOrder("a", Trigger.REQUEST, plan_only=False, start=NOW)) is None
    dry = RunOrder("a", Trigger.REQUEST, plan_only=True, start=NOW, deadline=deadline)
    assert planning_deadline(dry) == deadline
    real = RunOrder("a", Trigger.REQUEST, plan_only=False, start=NOW, deadline=deadline)
    assert planning_deadline(real) == NOW + timedelta(hours=3)


@pytest.mark.parametrize(
    ("left", "advanced", "following"),
    [
        ([], [], None),
        (["c", "a"], [], "c"),
        (["a"], ["a"], "a"),
        # What took the whole run for nothing does not stop the others.
        (["b", "c", "a"], [], "c"),
        (["b", "c", "a"], ["b"], "b"),
        (["b", "c", "a"], ["c"], "c"),
    ],
)
def test_the_next_run_goes_on_with_the_first_that_was_not_done(
    left: Sequence[str], advanced: Sequence[str], following: str | None
) -> None:
    assert next_repository(["b", "c", "a"], left, advanced) == following


def test_a_repository_that_is_alone_is_tried_again() -> None:
    assert next_repository(["a"], ["a"], []) == "a"


@given(st.integers(1, 12), st.integers(1, 4), st.sets(st.integers(0, 11)))
def test_every_repository_has_its_turn_however_short_the_time_and_whichever_are_too_large(
    number: int, at_once: int, too_large: set[int]
) -> None:
    """Runs that come through so many repositories each, and get stuck in one that is too large for a run."""
    names = [f"r{each:02}" for each in range(number)]
    stuck = {names[each] for each in too_large if each < number}
    first: str | None = None
    done: set[str] = set()
    for _ in range(2 * number + 1):
        order = rotated(names, first)
        through = []
        for name in order[:at_once]:
            if name in stuck:
                break
            through.append(name)
        done |= set(through)
        first = next_repository(order, [name for name in order if name not in through], [])
        if first is None:
            break
    assert done == set(names) - stuck
