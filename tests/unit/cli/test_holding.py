"""What holds a plan back, and with which code a run ends: safety first, and the next step in words."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.running.holding import Past, Wish, exit_of, going_now, hold_of
from registry_cleanup.domain.run import (
    Conflict,
    Counts,
    Failure,
    Phase,
    PlanSummary,
    RunOrder,
    RunReport,
    ScanSummary,
    Trigger,
    Waiting,
)
from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from tests.support.policies import policy_spec

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ORDER = RunOrder("a-run", Trigger.REQUEST, True, _NOW)
_PLAN = PlanSummary("ab" * 32, _NOW, 3, (), _NOW)
_REPORT = RunReport(
    _ORDER, Phase.SUCCEEDED, _NOW, Counts(1, tags_scanned=5, tags_planned=3), {}, _PLAN, waiting=Waiting()
)
_SEEN, _NEW = Past(planned=True), Past(planned=False)
_ASKS, _YES = Wish(asks=True), Wish(yes=True)
_APPROVES = Wish(approve=_PLAN.hash)
_TOO_MANY = Waiting(("3 tags would go, more than limits.maxDeletions (2)",), unapproved=3)
_UNAPPROVED = Waiting(approval=True, unapproved=3)


def _policy(**changes: object) -> ParsedPolicy:
    return _parsed(changes)


def _parsed(changes: Mapping[str, object], bounds: Bounds = UNBOUNDED) -> ParsedPolicy:
    spec = {**policy_spec("https://registry.example.com"), "dryRun": False, **changes}
    metadata = {
        "namespace": "team",
        "name": "policy",
        "uid": "a-uid",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return parse_policy({"metadata": metadata, "spec": spec}, bounds)


def _held(
    report: RunReport = _REPORT,
    wish: Wish = _YES,
    past: Past = _SEEN,
    policy: ParsedPolicy | None = None,
    withheld: str | None = None,
) -> tuple[Exit, str] | None:
    hold = hold_of(policy or _policy(), report, wish, past, withheld=withheld)
    return None if hold is None else (hold.code, hold.message)


def test_what_an_older_policy_prunes_instead_is_held_back_and_it_is_named() -> None:
    older = Conflict("team", "older", "uid", yields=True, repositories=("team/app",))
    nothing = replace(_REPORT, counts=Counts(1, tags_scanned=5))
    kept = replace(nothing, kept_by_reason={"PolicyConflict": 5}, conflicts=(older,))
    held = _held(kept)
    assert held is not None
    assert held[0] is Exit.HELD_BACK
    assert "policy team/older is older and prunes the same repositories" in held[1]
    younger = replace(kept, kept_by_reason={}, conflicts=(replace(older, yields=False),))
    assert _held(younger) == (Exit.DONE, "Nothing is to be pruned.")


@pytest.mark.parametrize("wish", [_ASKS, _YES, _APPROVES, Wish(yes=True, approve=_PLAN.hash)])
def test_a_plan_that_was_seen_before_goes(wish: Wish) -> None:
    assert _held(wish=wish) is None


def test_where_nothing_is_planned_nothing_is_to_do() -> None:
    empty = replace(_REPORT, counts=Counts(1, tags_scanned=5))
    assert _held(empty, policy=_policy(dryRun=True)) == (Exit.DONE, "Nothing is to be pruned.")
    partly = replace(empty, phase=Phase.PARTIAL, failures=(Failure("ServerFault", "…", "team/app"),))
    assert _held(partly) == (Exit.PARTIAL, "Nothing is to be pruned.")


@pytest.mark.parametrize("wish", [_ASKS, _YES, _APPROVES])
def test_a_dry_run_prunes_nothing_whoever_approves(wish: Wish) -> None:
    held = _held(wish=wish, policy=_policy(dryRun=True))
    assert held is not None
    assert (held[0], "dryRun: true" in held[1]) == (Exit.HELD_BACK, True)
    held = _held(wish=wish, withheld="the setting X lets no policy prune")
    assert held == (Exit.HELD_BACK, "Nothing was pruned: the setting X lets no policy prune.")


def test_the_hash_of_another_plan_lets_nothing_through() -> None:
    held = _held(wish=Wish(yes=True, approve="cd" * 32))
    assert held is not None
    assert (held[0], _PLAN.hash in held[1]) == (Exit.HELD_BACK, True)


def test_in_the_grace_period_nobody_is_asked_and_the_time_is_told() -> None:
    later = replace(_PLAN, prunable_from=_NOW + timedelta(hours=24))
    waits = replace(_REPORT, plan=later, kept_by_reason={"GracePeriod": 3})
    for wish in (_ASKS, _YES, _APPROVES):
        held = _held(waits, wish, policy=_policy(gracePeriod="24h"))
        assert held is not None
        assert held[0] is Exit.HELD_BACK
        assert "The first may go from 2026-03-02T12:00:00Z" in held[1]
    # Some of it may go; without a grace period, what has just been published may.
    assert _held(replace(waits, kept_by_reason={"GracePeriod": 2}), policy=_policy(gracePeriod="24h")) is None
    assert going_now(_policy(gracePeriod="0s"), waits) == 3


@pytest.mark.parametrize("wish", [_ASKS, _YES])
def test_a_limit_that_is_exceeded_takes_the_hash(wish: Wish) -> None:
    held = _held(replace(_REPORT, waiting=_TOO_MANY), wish)
    assert held is not None
    assert held[0] is Exit.HELD_BACK
    assert "more than limits.maxDeletions (2)" in held[1]
    assert f"--approve {_PLAN.hash}" in held[1]
    assert _held(replace(_REPORT, waiting=_TOO_MANY), _APPROVES) is None
    assert _held(replace(_REPORT, waiting=replace(_TOO_MANY, truncates=True)), wish) is None


@pytest.mark.parametrize("most", [1000, 2])
def test_where_the_administrators_setting_is_exceeded_no_approval_is_said_to_go_past_it(most: int) -> None:
    """Whether the setting caps the policy's own limit, or what an approval would let through."""
    policy = _parsed({"limits": {"maxDeletions": most}}, Bounds(max_deletions=2))
    waits = replace(_REPORT, waiting=Waiting((f"3 tags would go, more than {policy.policy.limits.whose}",)))
    held = _held(waits, policy=policy)
    assert held is not None
    assert held[0] is Exit.HELD_BACK
    assert "An approval does not go past the setting REGISTRY_CLEANUP_MAX_DELETIONS (2)" in held[1]
    assert "let this very plan through" not in held[1]
    # Within the setting an approval lets all of it through.
    percent = Waiting(("3 of 4 tags of team/app would go, more than limits.maxPercentPerRepository (50)",))
    allowed = _parsed({"limits": {"maxDeletions": most}}, Bounds(max_deletions=3))
    held = _held(replace(_REPORT, waiting=percent), policy=allowed)
    assert held is not None
    assert f"let this very plan through: --approve {_PLAN.hash}" in held[1]


def test_yes_approves_nothing_but_a_person_may_be_asked() -> None:
    waits = replace(_REPORT, waiting=_UNAPPROVED)
    held = _held(waits)
    assert held is not None
    assert (held[0], f"--approve {_PLAN.hash}" in held[1]) == (Exit.HELD_BACK, True)
    assert _held(waits, _ASKS) is None
    assert _held(waits, _APPROVES) is None


def test_what_is_new_or_changed_is_only_planned_unless_a_person_saw_the_plan() -> None:
    held = _held(past=_NEW)
    assert held is not None
    assert (held[0], "is only planned" in held[1]) == (Exit.HELD_BACK, True)
    assert _held(wish=_ASKS, past=_NEW) is None
    assert _held(wish=_APPROVES, past=_NEW) is None


def test_without_a_terminal_somebody_has_to_say_yes() -> None:
    held = _held(wish=Wish())
    assert held is not None
    assert (held[0], "--yes" in held[1]) == (Exit.USAGE, True)


def test_far_fewer_references_than_at_the_last_look_are_no_matter_of_course() -> None:
    fewer = replace(_REPORT, scan=ScanSummary(4))
    held = _held(fewer, past=Past(planned=True, references=10))
    assert held is not None
    assert (held[0], "only 4 references" in held[1]) == (Exit.CLUSTER, True)
    assert _held(fewer, _ASKS, Past(planned=True, references=10)) is None
    assert _held(fewer, past=Past(planned=True, references=8)) is None


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.BLOCKED, Phase.INTERRUPTED])
def test_a_plan_that_did_not_come_about_as_it_should_is_carried_out_by_nobody(phase: Phase) -> None:
    held = _held(replace(_REPORT, phase=phase), _APPROVES)
    assert held is not None
    assert held[0] is not Exit.DONE


# Exit codes

_REAL = replace(_ORDER, plan_only=False)
_UNREACHABLE = Failure("Unreachable", "…", "team/app", reachable=False)


@pytest.mark.parametrize(
    ("phase", "counts", "failures", "expected"),
    [
        (Phase.SUCCEEDED, Counts(tags_planned=3, tags_pruned=3), (), Exit.DONE),
        (Phase.SUCCEEDED, Counts(tags_planned=3, tags_pruned=2, tags_skipped=1), (), Exit.HELD_BACK),
        (Phase.BLOCKED, Counts(), (Failure("ClockSkew", "…", blocks=True),), Exit.HELD_BACK),
        (Phase.BLOCKED, Counts(), (Failure("InUseUnknown", "…", blocks=True),), Exit.CLUSTER),
        (Phase.BLOCKED, Counts(), (Failure("NoCluster", "…", blocks=True),), Exit.CLUSTER),
        (Phase.AWAITING_APPROVAL, Counts(tags_planned=3, tags_skipped=3), (), Exit.HELD_BACK),
        (Phase.INTERRUPTED, Counts(), (), Exit.HELD_BACK),
        (Phase.PARTIAL, Counts(tags_pruned=1), (Failure("ServerFault", "…", "team/app"),), Exit.PARTIAL),
        (Phase.PARTIAL, Counts(tags_pruned=1), (_UNREACHABLE,), Exit.REGISTRY),
        (Phase.PARTIAL, Counts(tags_pruned=1), (Failure("PlanStoreUnavailable", "…"),), Exit.FAILED),
        (Phase.FAILED, Counts(), (Failure("LoginRefused", "…"),), Exit.REGISTRY),
        (Phase.FAILED, Counts(tags_failed=2), (), Exit.PARTIAL),
    ],
)
def test_the_exit_code_says_how_a_run_ended(
    phase: Phase, counts: Counts, failures: tuple[Failure, ...], expected: Exit
) -> None:
    assert exit_of(RunReport(_REAL, phase, _NOW, counts, failures=failures)) is expected


def test_what_was_gone_already_is_as_it_should_be_and_a_signal_is_told_as_one() -> None:
    report = RunReport(_REAL, Phase.SUCCEEDED, _NOW, Counts(tags_planned=3, tags_pruned=2, tags_skipped=1))
    assert exit_of(report, gone_already=1) is Exit.DONE
    # What was shown may all have come to be kept since: nothing is done then.
    nothing = replace(report, counts=Counts(tags_planned=0))
    assert (exit_of(nothing), exit_of(nothing, asked=3)) == (Exit.DONE, Exit.HELD_BACK)
    assert exit_of(replace(report, phase=Phase.INTERRUPTED), signalled=True) is Exit.INTERRUPTED
