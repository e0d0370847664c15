"""Where a run is, how fast it goes, and how long its stage still takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry_cleanup.domain.course import Course, Progress, Readings, Snapshot, Stage

_PLANNING = Snapshot(Stage.PLANNING, repositories=200, repositories_done=37, tags_read=18_400)
_PRUNING = Snapshot(Stage.PRUNING, 200, 200, 100_000, 100_000, tags_to_prune=9_900, tags_pruned=120)


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (
            Progress(_PLANNING, 850, 121),
            "planning: 37 of 200 repositories, 18,400 tags, 850 requests/s, about 2 min left",
        ),
        (Progress(_PLANNING, 0), "planning: 37 of 200 repositories, 18,400 tags, 0 requests/s"),
        (
            Progress(replace(_PLANNING, tags=100_000), 1_850, 7_300),
            "planning: 37 of 200 repositories, 18,400 of 100,000 tags, 1,850 requests/s, about 2 h left",
        ),
        (
            Progress(replace(_PLANNING, repositories=1, repositories_done=0, tags=1, tags_read=0), 3, 4),
            "planning: 0 of 1 repository, 0 of 1 tag, 3 requests/s, about 10 s left",
        ),
        (Progress(_PRUNING, 90, 86_400), "pruning: 120 of 9,900 tags, 90 requests/s, about 1 day left"),
        (
            Progress(Snapshot(Stage.LOOKING), 12),
            "looking: what is in use, and which repositories there are, 12 requests/s",
        ),
        # What it did before is of no interest now.
        (Progress(Snapshot(Stage.WAITING), 12), "waiting: another run prunes in the same repositories"),
    ],
)
def test_a_line_says_where_a_run_is(progress: Progress, line: str) -> None:
    assert progress.message == line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "about 10 s left"),
        (50, "about 50 s left"),
        (51, "about 1 min left"),
        (89, "about 1 min left"),
        (91, "about 2 min left"),
        (3_569, "about 59 min left"),
        (3_571, "about 1 h left"),
        (84_000, "about 23 h left"),
        (200_000, "about 2 days left"),
    ],
)
def test_an_estimate_is_told_no_more_exactly_than_it_is_known(seconds: int, words: str) -> None:
    assert Progress(_PLANNING, 1, seconds).message.endswith(words)


def test_nothing_is_left_is_not_told() -> None:
    assert "left" not in Progress(_PLANNING, 1, 0).message


def test_requests_are_counted_since_the_last_look() -> None:
    course = Course.begin(Snapshot(Stage.LOOKING), 100.0)
    assert course.progress.requests_per_second == 0
    course = course.next(replace(_PLANNING, requests=5_000), 105.0)
    assert course.progress.requests_per_second == 1_000
    course = course.next(replace(_PLANNING, requests=5_100), 115.0)
    assert course.progress.requests_per_second == 10
    # At the same moment, and where a clock or a counter does what it should not.
    assert course.next(replace(_PLANNING, requests=6_000), 115.0).progress.requests_per_second == 0
    assert course.next(replace(_PLANNING, requests=0), 116.0).progress.requests_per_second == 0


def _planned(share: float | None) -> Snapshot:
    return replace(_PLANNING, share=share)


def test_the_time_left_follows_from_the_rate_of_the_present_stage() -> None:
    course = Course.begin(Snapshot(Stage.LOOKING), 0.0).next(Snapshot(Stage.LOOKING), 300.0)
    course = course.next(_planned(0.1), 305.0)
    assert course.progress.remaining is None
    course = course.next(_planned(0.2), 314.9)
    assert course.progress.remaining is None  # too early to say
    course = course.next(_planned(0.3), 325.0)
    assert course.progress.remaining == 70  # 0.2 took 20 seconds, and 0.7 are left
    course = course.next(_planned(0.3), 345.0)
    assert course.progress.remaining == 140  # it stands still
    course = course.next(_planned(1.0), 355.0)
    assert course.progress.remaining == 0
    # Pruning has a rate of its own.
    pruning = replace(_PRUNING, share=0.0)
    assert course.next(pruning, 365.0).progress.remaining is None
    course = course.next(pruning, 365.0).next(replace(pruning, share=0.25), 375.0)
    assert course.progress.remaining == 30


@pytest.mark.parametrize("share", [None, 0.0, 0.1], ids=["unknown", "back", "still"])
def test_no_time_is_told_where_it_cannot_be_known(share: float | None) -> None:
    assert Course.begin(_planned(0.1), 0.0).next(_planned(share), 60.0).progress.remaining is None


def test_repositories_that_are_read_count_in_part() -> None:
    readings = Readings()
    with readings.one() as first, readings.one() as second:
        assert (readings.repositories_read, readings.tags_read, readings.tags_of_all(2)) == (0, 0, None)
        first.tags, first.wanted, first.done = 1_000, 2_000, 500
        assert (readings.repositories_read, readings.tags_read) == (0.25, 250)
        assert readings.tags_of_all(2) is None
        second.tags, second.wanted = 10, 0  # its names are all that is wanted
        assert (readings.repositories_read, readings.tags_read, readings.tags_of_all(2)) == (1.25, 260, 1_010)
        assert readings.tags_of_all(3) is None
        first.done = 3_000  # more than was thought
        assert (readings.repositories_read, readings.tags_read) == (2, 1_010)
    assert (readings.ended, readings.tags_read, readings.tags_of_all(2)) == (2, 1_010, 1_010)
    readings.begin()
    assert (readings.repositories_read, readings.tags_read) == (0, 0)


def test_a_repository_that_cannot_be_read_is_done_too() -> None:
    readings = Readings()
    with pytest.raises(ValueError, match="no list"), readings.one():
        raise ValueError("no list")
    assert (readings.repositories_read, readings.tags_read, readings.tags_of_all(1)) == (1, 0, 0)
