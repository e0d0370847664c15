"""What a run comes to, and how that is told in a sentence."""

from dataclasses import replace
from datetime import timedelta

import pytest

from registry_cleanup.domain.guards import Go, Guarded
from registry_cleanup.domain.messages import guard_notes, message_of
from registry_cleanup.domain.policy import Limits, OnExceeded, Policy
from registry_cleanup.domain.run import Counts, Failure, Phase, RunOrder, Trigger, clock_skewed, phase_of
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import NOW, policy, rule

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
        (_DRY, Counts(repositories_scanned=1, repositories_failed=1), [_ONE, _WHOLE], Phase.FAILED),
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
    ("number", "words"),
    [
        (0, ""),
        (1, "; matching nothing, mistyped? p0"),
        (3, "; matching nothing, mistyped? p0, p1, p2"),
        (5, "; matching nothing, mistyped? p0, p1, p2 and 2 more"),
    ],
)
def test_the_message_ends_with_notes_and_three_of_the_patterns_that_match_nothing(number: int, words: str) -> None:
    idle = [f"p{each}" for each in range(number)]
    told = message_of(_DRY, Counts(repositories_scanned=1), [], None, idle, ["one note", "another"])
    assert told == "0 of 0 tags would be pruned; one note; another" + words


def test_the_message_of_a_run_without_repositories_says_why_nothing_was_done() -> None:
    nothing = "no repository of the registry matches spec.repositories, so there is nothing to do"
    assert message_of(_REAL, _NOTHING, [], None) == message_of(_DRY, _NOTHING, [], None) == nothing
    assert message_of(_REAL, _NOTHING, [], "the policy was deleted") == "stopped: the policy was deleted"


@pytest.mark.parametrize("number", [3, 4])
def test_the_message_counts_failures_beyond_the_third_only(number: int) -> None:
    told = message_of(_REAL, _NOTHING, [_WHOLE] * number, None)
    more = ["and 1 more failures; see the log"] if number > 3 else []
    assert told == "; ".join([_WHOLE.message] * 3 + more)


@pytest.mark.parametrize(
    ("order", "scanned"),
    [
        (replace(_DRY, request="now"), 1),
        (replace(_DRY, trigger=Trigger.SPEC_CHANGE), 1),
        (replace(_DRY, trigger=Trigger.SPEC_CHANGE, request="now"), 0),
        (replace(_REAL, trigger=Trigger.SPEC_CHANGE, request="now"), 1),
    ],
)
def test_only_a_new_policy_that_is_planned_and_bears_a_request_is_told_to_request_again(
    order: RunOrder, scanned: int
) -> None:
    assert "request again" not in message_of(order, Counts(repositories_scanned=scanned), [], None)
    new = replace(_DRY, trigger=Trigger.SPEC_CHANGE, request="now")
    assert "request again" in message_of(new, Counts(repositories_scanned=1), [], None)


# What the guards said

_HELD_BACK = Guarded(Go.AHEAD, held={KeepReason.GRACE_PERIOD: 2}, prunable_from=NOW)
_BLOCKED = Guarded(Go.LIMIT_EXCEEDED, exceeded=["one", "two", "three"], unapproved=9)
_PORTIONS = " (one run then prunes no more than the operator's setting REGISTRY_CLEANUP_MAX_DELETIONS (2))"
_PLAIN = policy(rule(days=1))
_APPROVING = replace(_PLAIN, approval_required=True)
_TRUNCATING = replace(_PLAIN, limits=Limits(on_exceeded=OnExceeded.TRUNCATE))


@pytest.mark.parametrize(
    ("what", "guarded", "plan_only", "notes"),
    [
        (_PLAIN, Guarded(Go.AHEAD), False, []),
        (
            _PLAIN,
            _HELD_BACK,
            False,
            ["waiting for the grace period: 2 (the first may go from 2026-06-15T12:00:00Z)"],
        ),
        (replace(_PLAIN, grace_period=timedelta(0)), _HELD_BACK, False, ["waiting for the grace period: 2"]),
        (_PLAIN, replace(_HELD_BACK, held={}), False, []),
        (_PLAIN, replace(_HELD_BACK, prunable_from=None), False, []),
        (
            _TRUNCATING,
            Guarded(Go.AHEAD, held={KeepReason.LIMIT_TRUNCATED: 3}, exceeded=["one"]),
            False,
            ["waiting for the next run, since the limits allow no more: 3"],
        ),
        (_PLAIN, _BLOCKED, False, ["nothing was pruned: one; two and 1 more; raise the limit, or approve the plan"]),
        (
            replace(_PLAIN, limits=Limits(ceiling=2)),
            replace(_BLOCKED, exceeded=["one"]),
            False,
            [f"nothing was pruned: one; raise the limit, or approve the plan{_PORTIONS}"],
        ),
        (
            _PLAIN,
            replace(_BLOCKED, exceeded=["one", "two"]),
            True,
            ["a run that prunes would be blocked: one; two; raise the limit, or approve the plan"],
        ),
        (
            _PLAIN,
            replace(_BLOCKED, go=Go.AHEAD, exceeded=["one"]),
            False,
            ["a run that prunes would be blocked: one; raise the limit, or approve the plan"],
        ),
        (_APPROVING, Guarded(Go.AWAITING_APPROVAL, unapproved=4), False, ["waiting for the approval of the plan: 4"]),
        (_APPROVING, Guarded(Go.AHEAD), False, []),
        (
            _PLAIN,
            Guarded(Go.AHEAD, unapproved=1),
            False,
            ["newer than the approved plan, waiting for the next: 1"],
        ),
        (_TRUNCATING, replace(_BLOCKED, go=Go.AHEAD), False, []),
        (_TRUNCATING, replace(_BLOCKED, exceeded=[]), False, []),
    ],
)
def test_what_the_guards_hold_back_is_told_with_the_next_step(
    what: Policy, guarded: Guarded, *, plan_only: bool, notes: list[str]
) -> None:
    assert guard_notes(what, guarded, plan_only=plan_only) == notes


@pytest.mark.parametrize(
    ("go", "phase"),
    [
        (Go.AHEAD, Phase.SUCCEEDED),
        (Go.LIMIT_EXCEEDED, Phase.BLOCKED),
        (Go.AWAITING_APPROVAL, Phase.AWAITING_APPROVAL),
    ],
)
def test_a_plan_that_is_held_back_gives_a_run_its_phase_unless_it_only_plans(go: Go, phase: Phase) -> None:
    assert phase_of(_REAL, _NOTHING, [], None, go) is phase
    assert phase_of(_DRY, _NOTHING, [], None, go) is Phase.SUCCEEDED
    assert phase_of(_REAL, _NOTHING, [_WHOLE], None, go) is Phase.FAILED


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
