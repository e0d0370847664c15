"""What a run comes to, and how that is told in a sentence."""

from dataclasses import replace
from datetime import timedelta

import pytest

from registry_cleanup.domain.run import (
    Counts,
    Failure,
    Phase,
    RunOrder,
    Trigger,
    clock_skewed,
    message_of,
    phase_of,
)
from tests.support.builders import NOW

_REAL = RunOrder("run", Trigger.REQUEST, plan_only=False, start=NOW)
_DRY = RunOrder("run", Trigger.SCHEDULE, plan_only=True, start=NOW)
_WHOLE = Failure("Unreachable", "the registry does not answer")
_ONE = Failure("Malformed", "an answer is no JSON", repository="team/app")
_DOUBT = Failure("ClockSkew", "the clocks differ", blocks=True)
_NOTHING = Counts()


@pytest.mark.parametrize(
    ("order", "counts", "failures", "phase"),
    [
        # All is well, whether or not there was anything to do.
        (_REAL, Counts(repositories_scanned=2, tags_planned=3, tags_pruned=3), [], Phase.SUCCEEDED),
        (_REAL, Counts(repositories_scanned=2), [], Phase.SUCCEEDED),
        (_REAL, _NOTHING, [], Phase.SUCCEEDED),
        (_DRY, Counts(repositories_scanned=2, tags_planned=3), [], Phase.SUCCEEDED),
        # What changed since the plan and was left alone is no failure.
        (_REAL, Counts(repositories_scanned=1, tags_planned=3, tags_pruned=1, tags_skipped=2), [], Phase.SUCCEEDED),
        # The registry as a whole could not be worked on.
        (_REAL, _NOTHING, [_WHOLE], Phase.FAILED),
        (_DRY, _NOTHING, [_WHOLE], Phase.FAILED),
        (_DRY, Counts(repositories_scanned=1, tags_planned=1), [_WHOLE], Phase.FAILED),
        (_REAL, Counts(repositories_scanned=2, tags_planned=3, tags_skipped=3), [_WHOLE], Phase.FAILED),
        # Some of it could not.
        (_DRY, Counts(repositories_scanned=1, repositories_failed=1), [_ONE], Phase.PARTIAL),
        (_REAL, Counts(repositories_scanned=1, repositories_failed=1), [_ONE], Phase.PARTIAL),
        (_REAL, Counts(repositories_scanned=1, tags_planned=3, tags_pruned=1), [_ONE], Phase.PARTIAL),
        (_REAL, Counts(repositories_scanned=1, tags_planned=3, tags_pruned=2, tags_failed=1), [], Phase.PARTIAL),
        # None of it worked.
        (_DRY, Counts(repositories_failed=1), [_ONE], Phase.FAILED),
        (_REAL, Counts(repositories_failed=1), [_ONE], Phase.FAILED),
        (_REAL, Counts(repositories_scanned=1, tags_planned=3, tags_failed=3), [], Phase.FAILED),
        # A doubt about the whole run comes before its other failures.
        (_REAL, Counts(repositories_scanned=1, tags_planned=3, tags_skipped=3), [_ONE, _DOUBT], Phase.BLOCKED),
    ],
)
def test_the_phase_tells_how_a_run_ended(
    order: RunOrder, counts: Counts, failures: list[Failure], phase: Phase
) -> None:
    assert phase_of(order, counts, failures, None) is phase


@pytest.mark.parametrize("failures", [[], [_WHOLE], [_ONE, _DOUBT]])
def test_a_run_that_was_stopped_is_interrupted_whatever_else_went_wrong(failures: list[Failure]) -> None:
    assert phase_of(_REAL, _NOTHING, failures, "the policy was suspended") is Phase.INTERRUPTED


@pytest.mark.parametrize(
    ("order", "counts", "failures", "interrupted", "message"),
    [
        (
            _REAL,
            Counts(repositories_scanned=2, tags_scanned=9, tags_planned=3, tags_pruned=3),
            [],
            None,
            "3 of 3 planned tags are pruned",
        ),
        (
            _DRY,
            Counts(repositories_scanned=2, tags_scanned=9, tags_planned=3),
            [],
            None,
            "3 of 9 tags would be pruned",
        ),
        (
            replace(_DRY, trigger=Trigger.SPEC_CHANGE, request="now"),
            Counts(repositories_scanned=2, tags_scanned=9, tags_planned=3),
            [],
            None,
            (
                "3 of 9 tags would be pruned; a new or changed policy is only planned, and that answered the request: "
                "request again to prune"
            ),
        ),
        (_REAL, _NOTHING, [_WHOLE], None, "the registry does not answer"),
        (
            _REAL,
            Counts(repositories_scanned=1, tags_planned=5, tags_pruned=1),
            [],
            "the policy was deleted",
            "stopped: the policy was deleted; 1 of 5 planned tags are pruned",
        ),
        (
            _DRY,
            Counts(repositories_scanned=1, tags_scanned=4),
            [_ONE],
            None,
            "team/app: an answer is no JSON; 0 of 4 tags would be pruned",
        ),
        (
            _REAL,
            Counts(repositories_scanned=1, tags_planned=2, tags_pruned=1, tags_failed=1),
            [],
            None,
            (
                "1 of 2 planned tags are pruned; 1 could not be pruned, are still there though accepted, or could not "
                "be verified"
            ),
        ),
    ],
)
def test_the_message_says_what_a_person_should_know_first(
    order: RunOrder, counts: Counts, failures: list[Failure], interrupted: str | None, message: str
) -> None:
    assert message_of(order, counts, failures, interrupted) == message


def test_the_message_names_three_failures_and_counts_the_others() -> None:
    failures = [Failure("Malformed", "no JSON", repository=f"team/{number}") for number in range(5)]
    assert message_of(_DRY, _NOTHING, failures, None) == (
        "team/0: no JSON; team/1: no JSON; team/2: no JSON; and 2 more failures; see the log"
    )


@pytest.mark.parametrize(
    ("offset", "skewed"),
    [
        (None, False),
        (timedelta(0), False),
        (timedelta(minutes=5), False),
        (timedelta(minutes=-5), False),
        (timedelta(minutes=5, microseconds=1), True),
        (timedelta(minutes=-5, microseconds=-1), True),
        (timedelta(days=-365), True),
    ],
)
def test_clocks_may_differ_by_five_minutes_either_way(offset: timedelta | None, *, skewed: bool) -> None:
    assert clock_skewed(offset) is skewed
