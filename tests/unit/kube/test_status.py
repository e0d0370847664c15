"""From runs to status: what each condition says and when it moves, and that status stays small and readable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry_cleanup.domain.collection import Measures, Step
from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.course import Progress, Snapshot, Stage
from registry_cleanup.domain.deletion import Deletion, DeletionSupport
from registry_cleanup.domain.run import (
    Aftermath,
    Collector,
    Conflict,
    Counts,
    Failure,
    Phase,
    Planned,
    PlannedItem,
    PlanSummary,
    ReportReference,
    RunOrder,
    RunReport,
    ScanSummary,
    Trigger,
    Waiting,
)
from registry_cleanup.domain.verdict import KeepReason, PruneReason
from registry_cleanup.kube.collecting.told import stepped
from registry_cleanup.kube.status import (
    CollectionStatus,
    Condition,
    PolicyStatus,
    UndoableStatus,
    parse_status,
    parse_time,
    rfc3339,
)
from registry_cleanup.kube.writer import StatusWriter
from tests.support.builders import NOW, digest

_ORDER = RunOrder("run-1", Trigger.SCHEDULE, plan_only=False, start=NOW)
_PLAN = PlanSummary(
    "a-hash",
    NOW,
    3,
    (PlannedItem("team/app", "v1", digest("x"), "builds", ("OlderThan",)),),
    top=(Planned("team/app", 9, 3),),
)
_MEND = Failure("LoginFailed", "the registry refuses the password; correct the Secret", mendable=True, reachable=True)
_HICCUP = Failure("ServerError", "the registry answers 500", reachable=True)
_UNREACHABLE = Failure("Unreachable", "the registry does not answer", reachable=False)
_SKEW = Failure("ClockSkew", "the clocks differ; synchronise them", blocks=True)


def _report(
    phase: Phase = Phase.SUCCEEDED,
    *failures: Failure,
    plan: PlanSummary | None = _PLAN,
    order: RunOrder = _ORDER,
    deletion: Deletion | None = Deletion.BY_DIGEST,
    detail: str | None = None,
    aftermath: Aftermath | None = None,
    message: str = "what a person should know",
) -> RunReport:
    counts = Counts(repositories_scanned=1, tags_scanned=9, tags_planned=3, tags_pruned=3)
    support = DeletionSupport(deletion, detail) if deletion is not None else None
    kept = {"MostRecent": 6}
    return RunReport(order, phase, NOW, counts, kept, plan, support, aftermath, failures, message)


def _writer(previous: PolicyStatus, generation: int = 1, now: datetime = NOW) -> StatusWriter:
    return StatusWriter(previous, "team", "builds", generation, now)


def _finished(
    report: RunReport,
    previous: PolicyStatus | None = None,
    *,
    generation: int = 1,
    now: datetime = NOW,
    failed_before: bool = False,
    handled_request: str | None = None,
    handled_approval: str | None = None,
    next_time: datetime | None = None,
    history_limit: int = 5,
) -> PolicyStatus:
    return _writer(previous or PolicyStatus(), generation, now).finished(
        report,
        failed_before=failed_before,
        handled_request=handled_request,
        handled_approval=handled_approval,
        next_time=next_time,
        history_limit=history_limit,
    )


def _told(status: PolicyStatus) -> dict[str, str]:
    """Return status and reason of each condition."""
    return {each.type: f"{each.status} {each.reason}" for each in status.conditions}


def _failing(phase: Phase, *failures: Failure) -> RunReport:
    return _report(phase, *failures, plan=None, deletion=None)


# The course of a policy


def test_a_policy_is_reconciling_from_its_first_run_until_it_is_planned() -> None:
    running = _writer(PolicyStatus(), 1, NOW).running(_ORDER)
    assert _told(running) == {"Ready": "Unknown Planning", "Reconciling": "True Planning"}
    assert running.last_run is not None
    assert (running.last_run.phase, running.last_run.completion_time) == (Phase.RUNNING, None)
    done = _finished(_report(), running)
    assert _told(done) == {
        "DeleteSupported": "True ByDigest",
        "Ready": "True Succeeded",
        "Reconciling": "False Planned",
        "RegistryReachable": "True Answered",
        "Stalled": "False Working",
    }


def test_a_run_of_a_planned_policy_changes_no_condition() -> None:
    done = _finished(_report())
    running = _writer(done, 1, NOW + timedelta(hours=1)).running(_ORDER)
    assert running.conditions == done.conditions


def test_a_failing_policy_is_not_reported_otherwise_while_it_tries_again() -> None:
    failing = _finished(_report(Phase.PARTIAL, _HICCUP), failed_before=True)
    running = _writer(failing, 1, NOW).running(_ORDER)
    assert _told(running)["Ready"] == "False ServerError"


def test_a_changed_policy_is_reconciling_again() -> None:
    changed = _writer(_finished(_report()), 2, NOW).running(_ORDER)
    assert _told(changed)["Reconciling"] == "True Planning"
    assert _told(changed)["Ready"] == "Unknown Planning"
    assert changed.observed_generation == 2


def test_a_generation_that_could_not_be_planned_is_still_reconciling() -> None:
    status = _finished(_failing(Phase.FAILED, _UNREACHABLE))
    assert _told(status)["Reconciling"] == "True Retrying"
    assert _told(status)["Ready"] == "Unknown Failed"


def test_a_policy_that_waits_for_a_person_is_not_reconciling_so_that_kstatus_reads_it_as_failed() -> None:
    status = _finished(_failing(Phase.FAILED, _MEND))
    assert _told(status)["Reconciling"] == "False LoginFailed"
    assert _told(_writer(status, 1, NOW).running(_ORDER))["Reconciling"] == "False LoginFailed"
    assert _told(_writer(status, 2, NOW).running(_ORDER))["Reconciling"] == "True Planning"


def test_a_generation_that_was_planned_in_part_is_planned() -> None:
    status = _finished(_report(Phase.PARTIAL, replace(_HICCUP, repository="team/app")))
    assert _told(status)["Reconciling"] == "False Planned"


# Ready and Stalled


@pytest.mark.parametrize(
    ("phase", "failures", "failed_before", "ready", "stalled"),
    [
        (Phase.SUCCEEDED, [], False, "True Succeeded", "False Working"),
        (Phase.SUCCEEDED, [], True, "True Succeeded", "False Working"),
        # Once is no sign; a person can wait for the next run.
        (Phase.PARTIAL, [_HICCUP], False, "True Partial", "False Working"),
        (Phase.FAILED, [_HICCUP], False, "True Failed", "False Working"),
        (Phase.BLOCKED, [_SKEW], False, "True Blocked", "False Working"),
        (Phase.INTERRUPTED, [], True, "True Interrupted", "False Working"),
        # Twice is.
        (Phase.PARTIAL, [_HICCUP], True, "False ServerError", "False Working"),
        (Phase.FAILED, [_HICCUP], True, "False ServerError", "False Working"),
        (Phase.BLOCKED, [_SKEW], True, "False ClockSkew", "False Working"),
        (Phase.PARTIAL, [], True, "False RunFailed", "False Working"),
        # What a person must mend is told at once.
        (Phase.FAILED, [_MEND], False, "False LoginFailed", "True LoginFailed"),
        (Phase.PARTIAL, [_HICCUP, _MEND], False, "False LoginFailed", "True LoginFailed"),
    ],
)
def test_ready_and_stalled_tell_what_a_person_has_to_know(
    *, phase: Phase, failures: list[Failure], failed_before: bool, ready: str, stalled: str
) -> None:
    told = _told(_finished(_report(phase, *failures), failed_before=failed_before))
    assert (told["Ready"], told["Stalled"]) == (ready, stalled)


def test_a_run_that_failed_is_remembered_as_failed_and_one_that_was_stopped_is_not() -> None:
    failing = {phase for phase in Phase if _finished(_report(phase)).failed}
    assert failing == {Phase.FAILED, Phase.PARTIAL, Phase.BLOCKED}
    assert not PolicyStatus().failed


def test_a_success_ends_what_was_stalled_and_failing() -> None:
    failing = _finished(_failing(Phase.FAILED, _MEND))
    assert _told(_finished(_report(), failing)) == {
        "DeleteSupported": "True ByDigest",
        "Ready": "True Succeeded",
        "Reconciling": "False Planned",
        "RegistryReachable": "True Answered",
        "Stalled": "False Working",
    }


def test_an_invalid_spec_is_stalled_with_what_is_wrong() -> None:
    status = _writer(_finished(_report(), next_time=NOW), 2, NOW).invalid("spec.rules[0].olderThan: write 30d")
    assert {name: told for name, told in _told(status).items() if name in ("Ready", "Reconciling", "Stalled")} == {
        "Ready": "False InvalidSpec",
        "Reconciling": "False InvalidSpec",
        "Stalled": "True InvalidSpec",
    }
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert (stalled.message, stalled.observed_generation) == ("spec.rules[0].olderThan: write 30d", 2)
    assert status.next_schedule_time is None


def test_a_spec_that_was_mended_is_no_longer_stalled_while_it_is_planned() -> None:
    invalid = _writer(PolicyStatus(), 1, NOW).invalid("spec.rules: required")
    running = _writer(invalid, 2, NOW).running(_ORDER)
    assert _told(running) == {
        "Ready": "Unknown Planning",
        "Reconciling": "True Planning",
        "Stalled": "False Planning",
    }


def test_what_must_be_mended_stays_stalled_while_it_is_tried_again() -> None:
    stalled = _finished(_failing(Phase.FAILED, _MEND))
    assert _told(_writer(stalled, 1, NOW).running(_ORDER))["Stalled"] == "True LoginFailed"


def test_a_suspended_policy_keeps_what_is_known_of_it_and_has_no_next_time() -> None:
    done = _finished(_report(), next_time=NOW + timedelta(days=1))
    assert done.next_schedule_time is not None
    status = _writer(done, 1, NOW).suspended()
    assert _told(status)["Ready"] == "True Suspended"
    assert (_told(status)["Reconciling"], _told(status)["Stalled"]) == ("False Suspended", "False Suspended")
    assert (status.next_schedule_time, status.plan) == (None, done.plan)


def test_a_policy_that_is_suspended_before_it_was_planned_is_what_its_spec_asks_for() -> None:
    """Else whoever waits for it to be ready, such as Flux, would wait for ever."""
    assert _told(_writer(_finished(_report()), 2, NOW).suspended())["Ready"] == "True Suspended"


def test_a_policy_that_fails_is_not_mended_by_its_suspension() -> None:
    failing = _finished(_report(Phase.PARTIAL, _HICCUP), _finished(_report()), failed_before=True)
    assert _told(_writer(failing, 1, NOW).suspended())["Ready"] == "False Suspended"


# The schedule


def test_a_scheduled_time_is_answered_once_its_run_has_ended_and_not_by_one_that_was_interrupted() -> None:
    order = replace(_ORDER, scheduled_for=NOW - timedelta(minutes=1))
    running = _writer(PolicyStatus(), 1, NOW).running(order)
    assert (running.last_schedule_time, running.last_run.scheduled_time) == (None, "2026-06-15T11:59:00Z")  # type: ignore[union-attr]  # there is one
    assert _finished(_report(Phase.INTERRUPTED, order=order), running).last_schedule_time is None
    assert _finished(_report(Phase.FAILED, order=order), running).last_schedule_time == "2026-06-15T11:59:00Z"


def test_a_missed_time_is_told_and_not_taken_for_one_that_ran() -> None:
    status = _writer(_finished(_report()), 1, NOW).missed(NOW - timedelta(hours=1))
    assert (status.last_missed_schedule_time, status.last_schedule_time) == ("2026-06-15T11:00:00Z", None)


def test_times_of_the_schedule_count_since_a_generation_was_first_planned() -> None:
    first = _finished(_report())
    assert first.schedule_counts_from == "2026-06-15T12:00:00Z"
    later = replace(_PLAN, generated_at=NOW + timedelta(hours=1))
    # A run by request plans anew; the times that it passes over are no less missed.
    assert _finished(_report(plan=later), first).schedule_counts_from == "2026-06-15T12:00:00Z"
    assert _finished(_report(plan=later), first, generation=2).schedule_counts_from == "2026-06-15T13:00:00Z"


def test_times_under_suspend_count_as_missed() -> None:
    suspended = _writer(_finished(_report()), 2, NOW + timedelta(hours=1)).suspended()
    assert suspended.suspended_time == "2026-06-15T13:00:00Z"
    # However long it takes, and however often it is changed meanwhile.
    again = _writer(suspended, 3, NOW + timedelta(hours=2)).suspended()
    later = replace(_PLAN, generated_at=NOW + timedelta(hours=3))
    resumed = _finished(_report(plan=later), again, generation=4)
    assert (resumed.schedule_counts_from, resumed.suspended_time) == ("2026-06-15T13:00:00Z", None)
    changed = _finished(_report(plan=later), resumed, generation=5)
    assert changed.schedule_counts_from == "2026-06-15T15:00:00Z"


def test_a_policy_that_was_never_planned_has_missed_nothing_under_suspend() -> None:
    suspended = _writer(PolicyStatus(), 1, NOW - timedelta(hours=1)).suspended()
    assert _finished(_report(), suspended, generation=2).schedule_counts_from == "2026-06-15T12:00:00Z"


def test_a_status_of_an_operator_that_did_not_say_since_when_times_count_goes_on_from_its_plan() -> None:
    older = _finished(_report()).model_copy(update={"schedule_counts_from": None})
    later = replace(_PLAN, generated_at=NOW + timedelta(hours=1))
    assert _finished(_report(plan=later), older).schedule_counts_from == "2026-06-15T12:00:00Z"


# History


def test_the_history_holds_the_runs_that_ended_last_the_latest_first() -> None:
    status = PolicyStatus()
    for number in range(7):
        order = replace(_ORDER, id=f"run-{number}", scheduled_for=NOW)
        status = _finished(_report(order=order, message="m" * 1000), _writer(status, 1, NOW).running(order))
    assert [run.id for run in status.history] == ["run-6", "run-5", "run-4", "run-3", "run-2"]
    told = status.as_json()["history"][0]
    assert told == {
        "id": "run-6",
        "trigger": "Schedule",
        "phase": "Succeeded",
        "dryRun": False,
        "scheduledTime": "2026-06-15T12:00:00Z",
        "startTime": "2026-06-15T12:00:00Z",
        "completionTime": "2026-06-15T12:00:00Z",
        "counts": {"tagsPlanned": 3, "tagsPruned": 3, "tagsFailed": 0},
        "message": told["message"],
    }
    assert len(told["message"].encode()) <= 160
    shorter = _finished(_report(), status, history_limit=2)
    assert [run.id for run in shorter.history] == ["run-1", "run-6"]
    assert _finished(_report(), status, history_limit=0).history == []


def test_a_run_that_ended_without_a_word_is_in_the_history_too() -> None:
    running = _writer(_finished(_report()), 1, NOW).running(replace(_ORDER, id="run-2"))
    buried = _writer(running, 1, NOW).interrupted("the operator ended")
    assert [(run.id, run.phase) for run in buried.history] == [
        ("run-2", Phase.INTERRUPTED),
        ("run-1", Phase.SUCCEEDED),
    ]


def test_where_the_next_run_begins_stays_until_a_run_is_through() -> None:
    stopped = _finished(replace(_report(Phase.PARTIAL), next_repository="team/b"))
    assert stopped.next_repository == "team/b"
    assert _writer(stopped, 1, NOW).running(_ORDER).next_repository == "team/b"
    assert _finished(_report(), stopped).next_repository is None


def test_a_run_that_ended_without_a_word_is_interrupted() -> None:
    running = _writer(PolicyStatus(), 1, NOW).running(_ORDER)
    later = NOW + timedelta(minutes=5)
    last = _writer(running, 1, later).interrupted("the operator ended").last_run
    assert last is not None
    assert (last.phase, last.message, last.completion_time) == (
        Phase.INTERRUPTED,
        "the operator ended",
        rfc3339(later),
    )


# Causes


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (_report(), "True Answered"),
        (_failing(Phase.FAILED, _UNREACHABLE), "False Unreachable"),
        (_failing(Phase.FAILED, _MEND), "True Answered"),
        (_report(Phase.PARTIAL, _HICCUP, _UNREACHABLE), "False Unreachable"),
        (_report(Phase.BLOCKED, _SKEW), "True Answered"),
        (_failing(Phase.FAILED, Failure("SecretMissing", "there is no Secret", mendable=True)), None),
    ],
)
def test_registry_reachable_says_whether_it_answered_as_far_as_that_is_known(
    report: RunReport, expected: str | None
) -> None:
    assert _told(_finished(report)).get("RegistryReachable") == expected


_FORBIDDEN = Failure("DeletionDisabled", "the registry does not allow deletion", reachable=True)
_NO_EFFECT = Failure("DeletionWithoutEffect", "accepted and still there", repository="team/app")


@pytest.mark.parametrize(
    ("deletion", "failures", "expected"),
    [
        (Deletion.BY_TAG, [], "True ByTag"),
        (Deletion.BY_DIGEST, [], "True ByDigest"),
        (Deletion.UNKNOWN, [], "Unknown Unknown"),
        (Deletion.DISABLED, [], "False DeletionDisabled"),
        (Deletion.FORBIDDEN, [], "False DeletionForbidden"),
        (Deletion.READ_ONLY, [], "False ReadOnly"),
        # Accepting what does not exist proves nothing; it is tried.
        (Deletion.WITHOUT_EFFECT, [], "Unknown DeletionWithoutEffect"),
        (Deletion.BY_TAG, [replace(_FORBIDDEN, reason="ReadOnly")], "False ReadOnly"),
        (Deletion.BY_DIGEST, [_HICCUP], "True ByDigest"),
        (Deletion.UNKNOWN, [_FORBIDDEN], "False DeletionDisabled"),
        (Deletion.BY_DIGEST, [_NO_EFFECT], "False DeletionWithoutEffect"),
        (None, [_HICCUP], None),
    ],
)
def test_delete_supported_says_what_was_found_out(
    deletion: Deletion | None, failures: list[Failure], expected: str | None
) -> None:
    report = _report(Phase.PARTIAL if failures else Phase.SUCCEEDED, *failures, deletion=deletion)
    assert _told(_finished(report)).get("DeleteSupported") == expected


@pytest.mark.parametrize("deletion", list(Deletion))
def test_delete_supported_gives_the_details_where_there_are_some(deletion: Deletion) -> None:
    told = _finished(_report(deletion=deletion, detail="ServiceAccount team:pruner lacks: all")).condition(
        "DeleteSupported"
    )
    assert told is not None
    assert told.message == "ServiceAccount team:pruner lacks: all"
    plain = _finished(_report(deletion=deletion)).condition("DeleteSupported")
    assert plain is not None
    assert plain.message


@pytest.mark.parametrize(
    ("collector", "expected", "words"),
    [
        (Collector.ACTIVE, "True ImagePrunerActive", "will free"),
        (Collector.SUSPENDED, "False ImagePrunerSuspended", "suspended"),
        (Collector.MISSING, "False NoImagePruner", "no ImagePruner"),
        (Collector.UNKNOWN, "Unknown Unknown", "cannot be seen"),
    ],
)
def test_images_collected_says_how_many_images_are_left_and_who_frees_their_space(
    collector: Collector, expected: str, words: str
) -> None:
    status = _finished(_report(aftermath=Aftermath(7, collector)))
    condition = status.condition("ImagesCollected")
    assert condition is not None
    assert f"{condition.status} {condition.reason}" == expected
    assert condition.message.startswith("7 images ")
    assert words in condition.message


def test_images_collected_stays_as_it_was_where_nobody_can_tell() -> None:
    done = _finished(_report(aftermath=Aftermath(7, Collector.ACTIVE)))
    assert _finished(_report(), done).condition("ImagesCollected") == done.condition("ImagesCollected")
    assert _finished(_report()).condition("ImagesCollected") is None


def test_a_missing_right_stalls_the_policy_until_somebody_grants_it() -> None:
    lacks = Failure("DeletionForbidden", "ServiceAccount team:pruner lacks: all", mendable=True)
    told = _told(_finished(_report(Phase.FAILED, lacks, deletion=Deletion.FORBIDDEN)))
    assert (told["Stalled"], told["Ready"]) == ("True DeletionForbidden", "False DeletionForbidden")


def test_what_a_failed_run_did_not_find_out_is_no_longer_claimed() -> None:
    done = _finished(_report())
    failed = _finished(_failing(Phase.FAILED, Failure("SecretMissing", "there is no Secret", mendable=True)), done)
    told = _told(failed)
    assert (told["RegistryReachable"], told["DeleteSupported"]) == ("Unknown NotAsked", "Unknown NotAsked")


def test_what_a_stopped_run_did_not_find_out_stays_as_it_was() -> None:
    done = _finished(_report())
    stopped = _finished(_failing(Phase.INTERRUPTED), done)
    for name in ("RegistryReachable", "DeleteSupported"):
        assert stopped.condition(name) == done.condition(name)


def test_a_doubt_about_the_clocks_is_told_with_its_message() -> None:
    status = _finished(_report(Phase.BLOCKED, _SKEW, message=_SKEW.message))
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.reason, ready.message) == ("Blocked", _SKEW.message)
    assert status.last_run is not None
    assert status.last_run.phase is Phase.BLOCKED


# What waits

_EXCEEDED = "1200 tags would go, more than limits.maxDeletions (1000)"
_APPROVE = "kubectl annotate rcp builds -n team registrycleanup.dev/approve-plan=a-hash --overwrite"
_LIMITED = Failure("LimitExceeded", _EXCEEDED, blocks=True)


def _waiting(phase: Phase, waiting: Waiting, *failures: Failure, order: RunOrder = _ORDER) -> RunReport:
    return replace(_report(phase, *failures, order=order), waiting=waiting)


def _condition(status: PolicyStatus, type_: str) -> Condition:
    found = status.condition(type_)
    assert found is not None, type_
    return found


def test_a_plan_that_a_limit_blocks_is_told_with_the_limit_and_every_way_on() -> None:
    told = _condition(_finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,), unapproved=1200))), "LimitExceeded")
    assert (told.status, told.reason) == ("True", "PlanBlocked")
    assert told.message.startswith(_EXCEEDED)
    assert "nothing was pruned: raise the limit, narrow the policy, set onExceeded: Truncate, or let" in told.message
    assert told.message.endswith(_APPROVE)


def test_a_plan_that_would_exceed_a_limit_is_told_before_a_run_that_prunes() -> None:
    order = replace(_ORDER, plan_only=True)
    status = _finished(_waiting(Phase.SUCCEEDED, Waiting((_EXCEEDED,)), order=order))
    told = _condition(status, "LimitExceeded")
    assert (told.status, told.reason) == ("True", "PlanTooLarge")
    assert "a run that prunes would prune nothing" in told.message
    assert _told(status)["Ready"] == "True Succeeded"


def test_a_truncated_plan_says_that_the_next_runs_go_on() -> None:
    # Also of a plan, before anything was truncated.
    told = _condition(_finished(_waiting(Phase.SUCCEEDED, Waiting((_EXCEEDED,), truncates=True))), "LimitExceeded")
    assert (told.status, told.reason) == ("True", "PlanTruncated")
    assert "the next runs go on" in told.message
    assert "annotate" not in told.message


def test_what_the_administrators_bound_takes_out_of_an_approved_plan_is_told() -> None:
    capped = "the operator's setting REGISTRY_CLEANUP_MAX_DELETIONS (3)"
    report = replace(
        _waiting(Phase.SUCCEEDED, Waiting(capped=capped)), kept_by_reason={KeepReason.LIMIT_TRUNCATED.value: 10}
    )
    told = _condition(_finished(report), "LimitExceeded")
    assert (told.status, told.reason) == ("True", "PlanTruncated")
    assert told.message == f"10 planned tags wait for the next runs: in one, {capped} holds"
    blocked = _condition(_finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,), capped=capped))), "LimitExceeded")
    assert blocked.message.endswith(f"(one run then prunes no more than {capped})")


def test_of_many_limits_the_first_are_named_and_the_others_counted() -> None:
    many = tuple(f"11 of 20 tags of team/{n} would go" for n in range(9))
    message = _condition(_finished(_waiting(Phase.BLOCKED, Waiting(many))), "LimitExceeded").message
    assert "team/1 would go; and 7 more repositories exceed theirs;" in message
    assert "team/2" not in message


def test_a_plan_within_its_limits_is_told_so_and_a_run_without_plan_changes_nothing() -> None:
    blocked = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,))))
    within = _finished(_waiting(Phase.SUCCEEDED, Waiting()), blocked)
    assert _told(within)["LimitExceeded"] == "False WithinLimits"
    failed = _finished(_failing(Phase.FAILED, _UNREACHABLE), blocked)
    assert failed.condition("LimitExceeded") == blocked.condition("LimitExceeded")


@pytest.mark.parametrize("failures", [[], [_LIMITED]], ids=["no failure", "told as one"])
def test_a_run_that_only_a_limit_blocks_never_makes_a_policy_unready(failures: list[Failure]) -> None:
    status = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,)), *failures))
    assert not status.failed
    assert not _writer(status, 1, NOW).suspended().failed
    again = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,)), *failures), status, failed_before=True)
    for each in (status, again):
        assert (_told(each)["Ready"], _told(each)["Stalled"]) == ("True Blocked", "False Working")


def test_a_doubt_beside_a_limit_is_a_failure_still() -> None:
    status = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,)), _SKEW))
    assert status.failed
    assert _told(status)["LimitExceeded"] == "True PlanTooLarge"
    assert _told(_finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,)), _SKEW), status, failed_before=True))[
        "Ready"
    ] == ("False ClockSkew")


def test_a_run_that_fails_after_one_that_a_limit_blocked_is_a_failure() -> None:
    blocked = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,))))
    failed = _finished(_failing(Phase.FAILED, _UNREACHABLE), blocked)
    assert _told(failed)["LimitExceeded"] == "True PlanBlocked"
    assert failed.failed


def test_tags_that_a_limit_holds_do_not_wait_for_a_required_approval() -> None:
    waited = _finished(_waiting(Phase.AWAITING_APPROVAL, Waiting(approval=True, unapproved=3)))
    limited = _finished(_waiting(Phase.BLOCKED, Waiting((_EXCEEDED,), unapproved=1200)), waited)
    assert _told(limited)["AwaitingApproval"] == "False NothingToApprove"


def test_a_plan_that_awaits_approval_is_told_with_the_command_that_approves_it() -> None:
    status = _finished(_waiting(Phase.AWAITING_APPROVAL, Waiting(approval=True, unapproved=3)), failed_before=True)
    told = _condition(status, "AwaitingApproval")
    assert (told.status, told.reason) == ("True", "PlanNotApproved")
    assert told.message.startswith("3 tags wait for approval (spec.approval.required)")
    assert told.message.endswith(_APPROVE)
    assert not status.failed
    assert (_told(status)["Ready"], _told(status)["Stalled"]) == ("True AwaitingApproval", "False Working")


@pytest.mark.parametrize(
    ("waiting", "type_"),
    [
        (Waiting(approval=True, unapproved=3, other_approval=True), "AwaitingApproval"),
        (Waiting((_EXCEEDED,), unapproved=3, other_approval=True), "LimitExceeded"),
    ],
)
def test_the_approval_of_another_plan_is_told_where_it_would_have_helped(waiting: Waiting, type_: str) -> None:
    told = _condition(_finished(_waiting(Phase.BLOCKED, waiting)), type_)
    assert "registrycleanup.dev/approve-plan names another plan than the published one" in told.message
    assert told.message.endswith(_APPROVE)


def test_approval_is_no_topic_of_a_policy_that_never_needed_one() -> None:
    assert _finished(_waiting(Phase.SUCCEEDED, Waiting())).condition("AwaitingApproval") is None
    asked = _finished(_waiting(Phase.SUCCEEDED, Waiting(approval=True)))
    assert _told(asked)["AwaitingApproval"] == "False NothingToApprove"
    waited = _finished(_waiting(Phase.AWAITING_APPROVAL, Waiting(approval=True, unapproved=3)))
    assert (
        _told(_finished(_waiting(Phase.SUCCEEDED, Waiting()), waited))["AwaitingApproval"] == "False NothingToApprove"
    )


def test_an_approval_that_was_handled_is_repeated() -> None:
    assert _finished(_report(), handled_approval="a-hash").as_json()["lastHandledApproval"] == "a-hash"


# Conflicts

_OLDER = Conflict("ops", "all", "uid-2", yields=True, repositories=tuple(f"team/{n}" for n in range(7)))
_YOUNGER = Conflict("dev", "mine", "uid-3", yields=False, repositories=("team/app",))


def test_a_conflict_names_the_other_policies_who_prunes_and_where() -> None:
    told = _condition(_finished(replace(_report(), conflicts=(_YOUNGER, _OLDER))), "PolicyConflict")
    assert (told.status, told.reason) == ("True", "OlderPolicyPrunes")
    assert (
        "policy dev/mine is younger and keeps everything in 1 repository of this policy, where this one" in told.message
    )
    assert "prunes: team/app;" in told.message
    assert "policy ops/all is older and prunes 7 repositories of this policy" in told.message
    assert "team/0, team/1, team/2, team/3, team/4 and 2 more." in told.message


def test_a_policy_that_others_yield_to_says_so() -> None:
    assert _told(_writer(PolicyStatus()).conflict([_YOUNGER]))["PolicyConflict"] == "True YoungerPolicyYields"


def test_a_conflict_ends_and_is_no_topic_where_there_was_none() -> None:
    assert _writer(PolicyStatus()).conflict([]).condition("PolicyConflict") is None
    told = _writer(PolicyStatus()).conflict([_OLDER])
    assert _told(_writer(told).conflict([]))["PolicyConflict"] == "False NoConflict"
    assert _told(_finished(replace(_report(), conflicts=()), told))["PolicyConflict"] == "False NoConflict"
    # None: nobody looked.
    assert _told(_finished(_report(), told))["PolicyConflict"] == "True OlderPolicyPrunes"


def test_many_conflicts_are_counted_and_stay_short() -> None:
    long = tuple("r" * 255 + str(n) for n in range(9))
    many = [replace(_OLDER, name=f"p{n}", repositories=long if n == 0 else ("team/app",)) for n in range(9)]
    assert (
        "and 6 more policies"
        in _condition(_writer(PolicyStatus()).conflict(many[1:] + many[:1]), "PolicyConflict").message
    )
    message = _condition(_writer(PolicyStatus()).conflict(many), "PolicyConflict").message
    assert len(message.encode()) <= 1024
    assert message.endswith("narrow spec.repositories of one")


def test_saying_a_conflict_again_changes_nothing() -> None:
    told = _writer(PolicyStatus()).conflict([_OLDER])
    assert _writer(told, now=NOW + timedelta(hours=1)).conflict([_OLDER]) == told


# Transition times and generations


def test_the_transition_time_moves_only_when_the_status_changes() -> None:
    times = [NOW + timedelta(hours=hour) for hour in range(4)]
    first = _finished(_report(), now=times[0])
    second = _finished(_report(Phase.FAILED, _HICCUP, message="other"), first, now=times[1])
    third = _finished(_report(Phase.FAILED, _HICCUP), second, now=times[2], failed_before=True)
    fourth = _finished(_report(), third, generation=2, now=times[3])
    moved = [
        (ready.status, ready.reason, ready.last_transition_time, ready.observed_generation)
        for status in (first, second, third, fourth)
        if (ready := status.condition("Ready")) is not None
    ]
    assert moved == [
        ("True", "Succeeded", rfc3339(times[0]), 1),
        ("True", "Failed", rfc3339(times[0]), 1),
        ("False", "ServerError", rfc3339(times[2]), 1),
        ("True", "Succeeded", rfc3339(times[3]), 2),
    ]
    assert {each.last_transition_time for each in fourth.conditions if each.type != "Ready"} == {rfc3339(times[0])}


def test_every_condition_that_a_run_sets_names_the_generation_of_the_run() -> None:
    status = _finished(_report(), _finished(_report()), generation=5)
    assert status.observed_generation == 5
    assert {each.observed_generation for each in status.conditions} == {5}


def test_conditions_are_sorted_and_there_is_one_of_each_type() -> None:
    status = _finished(_failing(Phase.FAILED, _MEND), _finished(_report()))
    names = [each.type for each in status.conditions]
    assert names == sorted(set(names))


# What a run leaves behind


def test_a_run_is_told_with_its_counts_and_times() -> None:
    scheduled, following = NOW - timedelta(seconds=1), NOW + timedelta(days=1)
    status = _finished(
        _report(order=replace(_ORDER, scheduled_for=scheduled)), next_time=following, handled_request="now"
    )
    told = status.as_json()
    assert told["lastRun"] == {
        "id": "run-1",
        "trigger": "Schedule",
        "phase": "Succeeded",
        "dryRun": False,
        "scheduledTime": "2026-06-15T11:59:59Z",
        "startTime": "2026-06-15T12:00:00Z",
        "completionTime": "2026-06-15T12:00:00Z",
        "counts": {
            "repositoriesScanned": 1,
            "repositoriesFailed": 0,
            "tagsScanned": 9,
            "tagsMatched": 0,
            "tagsKept": 0,
            "tagsPlanned": 3,
            "tagsPruned": 3,
            "tagsFailed": 0,
            "tagsSkipped": 0,
        },
        "keptByReason": {"MostRecent": 6},
        "message": "what a person should know",
    }
    assert told["plan"] == {
        "hash": "a-hash",
        "observedGeneration": 1,
        "generatedAt": "2026-06-15T12:00:00Z",
        "deletions": 3,
        "reclaimableBytes": 0,
        "untaggedManifests": 0,
        "topRepositories": [{"repository": "team/app", "tags": 9, "deletions": 3}],
        "sample": [
            {
                "repository": "team/app",
                "tag": "v1",
                "digest": digest("x"),
                "rule": "builds",
                "reasons": ["OlderThan"],
            }
        ],
    }
    assert told["lastScheduleTime"] == "2026-06-15T11:59:59Z"
    assert told["nextScheduleTime"] == "2026-06-16T12:00:00Z"
    assert told["lastSuccessfulTime"] == "2026-06-15T12:00:00Z"
    assert told["lastHandledRunRequest"] == "now"


def test_a_plan_is_told_with_its_time_its_space_and_what_it_leaves_without_a_name() -> None:
    plan = replace(_PLAN, prunable_from=NOW + timedelta(days=1), reclaimable=5 * 10**12, untagged=4)
    told = _finished(_report(plan=plan)).as_json()["plan"]
    assert told["prunableFrom"] == "2026-06-16T12:00:00Z"
    assert (told["reclaimableBytes"], told["untaggedManifests"]) == (5 * 10**12, 4)


def test_a_run_says_where_its_full_report_is() -> None:
    report = replace(_report(), reference=ReportReference("builds-a-uid-report", "report.ndjson.gz", 2, "a" * 64))
    told = _finished(report).as_json()["lastRun"]
    assert told["reportRef"] == {
        "name": "builds-a-uid-report",
        "key": "report.ndjson.gz",
        "cutRepositories": 2,
        "sha256": "a" * 64,
    }
    assert "reportRef" not in _finished(_report()).as_json()["lastRun"]


def test_a_failed_run_leaves_the_last_plan_schedule_and_success_standing() -> None:
    done = _finished(_report(order=replace(_ORDER, scheduled_for=NOW)))
    failed = _finished(_failing(Phase.FAILED, _UNREACHABLE), done, now=NOW + timedelta(days=1))
    assert (failed.plan, failed.last_schedule_time, failed.last_successful_time) == (
        done.plan,
        done.last_schedule_time,
        done.last_successful_time,
    )


@pytest.mark.parametrize("phase", set(Phase) - {Phase.SUCCEEDED, Phase.RUNNING})
def test_only_a_success_is_a_success(phase: Phase) -> None:
    assert _finished(_report(phase)).last_successful_time is None


# Bounds and damage

_LONGEST_MESSAGES = {
    "plain": "x" * 5000,
    "quoted": '"' * 5000,
    "wide": "\N{PILE OF POO}" * 5000,
}


_MOST_UNDO = {"registry": "h" * 300, "run": "i" * 64, "until": "2026-07-15T12:00:00Z", "repository": "r" * 255}


@pytest.mark.parametrize("text", _LONGEST_MESSAGES.values(), ids=_LONGEST_MESSAGES.keys())
@pytest.mark.parametrize("collects", [False, True], ids=["", "collects"])
def test_status_stays_below_16_kib_with_the_longest_names_and_messages(text: str, *, collects: bool) -> None:
    item = PlannedItem("r" * 255, "t" * 128, digest("x"), "n" * 63, tuple(PruneReason))
    top = (Planned("r" * 255, 10**9, 10**9),) * 5
    plan = PlanSummary("f" * 64, NOW, 10**9, (item,) * 10, NOW, 10**18, 10**9, top)
    exceeded = tuple(
        f"11 of 20 tags of {'r' * 255} would go, more than limits.maxPercentPerRepository (50)" for _ in "ab"
    )
    mend = replace(_MEND, message=text)
    unreachable = replace(_UNREACHABLE, message=text)
    forbidden = replace(_FORBIDDEN, message=text)
    report = replace(
        _report(Phase.PARTIAL, mend, unreachable, forbidden, plan=plan, deletion=Deletion.DISABLED, message=text),
        order=replace(_ORDER, id="i" * 64, scheduled_for=NOW),
        next_repository="r" * 255,
        counts=Counts(*[10**9] * 9),
        kept_by_reason={reason.value: 10**9 for reason in KeepReason if reason is not KeepReason.LIMIT_TRUNCATED},
        aftermath=Aftermath(10**9, Collector.UNKNOWN),
        waiting=Waiting(exceeded * 9, approval=True, unapproved=10**9, other_approval=True),
        conflicts=tuple(
            Conflict("n" * 63, "c" * 253, "u" * 36, yields=True, repositories=("r" * 255,) * 9) for _ in range(9)
        ),
        reference=ReportReference("n" * 253, "report.ndjson.gz", 10**9, "a" * 64),
    )
    past = _finished(report)
    collection = stepped(
        CollectionStatus(
            **dict.fromkeys(("id", "scheduled_time", "next_time"), "i" * 64),
            workload=f"StatefulSet/{'w' * 253}",
            bytes_freed_total=10**18,
        ),
        Step.COLLECTING,
        text,
        measures=Measures(10**18, 10**9, 10**17, 0),
        failure=text,
        frozen_since=NOW,
    )
    news: dict[str, Any] = {
        "history": past.history * 10,
        "last_missed_schedule_time": rfc3339(NOW),
        **({"collection": collection, "last_handled_collect_request": "\N{PILE OF POO}" * 256} if collects else {}),
    }
    if collects:
        former = [{**_MOST_UNDO, "registry": letter * 300} for letter in "abc"]
        most = {**_MOST_UNDO, "oldest_run": "i" * 64, "oldest_until": _MOST_UNDO["until"], "runs": 9, "former": former}
        news["undo"] = UndoableStatus.model_validate(most)
    before = past.model_copy(update=news)
    status = StatusWriter(before, "n" * 63, "c" * 253, 10**9, NOW).finished(
        report,
        failed_before=True,
        handled_request="\N{PILE OF POO}" * 256,
        handled_approval="\N{PILE OF POO}" * 128,
        next_time=NOW,
        history_limit=10,
    )
    assert len(status.conditions) == 9
    assert collects == (status.undo is not None and bool(status.undo.former))
    command = f"registrycleanup.dev/approve-plan={'f' * 64} --overwrite"
    assert _condition(status, "LimitExceeded").message.endswith(command)
    assert _condition(status, "AwaitingApproval").message.endswith(command)
    assert status.plan is not None
    assert collects or 0 < len(status.plan.sample) < 10
    assert collects or 0 < len(status.history) < 10
    for last in (status, _writer(status, 2, NOW).invalid(text)):
        stored = json.dumps(last.as_json(), ensure_ascii=False, separators=(",", ":")).encode()
        assert len(stored) <= 16 * 1024
    assert status.last_run is not None
    assert status.last_run.message is not None
    assert status.last_run.message.endswith("…")
    assert len(status.last_run.message) <= 1024


@pytest.mark.parametrize("text", _LONGEST_MESSAGES.values(), ids=_LONGEST_MESSAGES.keys())
def test_a_status_has_room_for_where_its_run_is_which_is_written_without_the_rest(text: str) -> None:
    item = PlannedItem("r" * 255, "t" * 128, digest("x"), "n" * 63, tuple(PruneReason))
    plan = PlanSummary("f" * 64, NOW, 10**9, (item,) * 10, NOW, 10**18, 10**9, (Planned("r" * 255, 10**9, 10**9),) * 5)
    before = _finished(_report(Phase.PARTIAL, replace(_MEND, message=text), plan=plan, message=text))
    before = before.model_copy(update={"history": before.history * 60})
    running = _writer(before).running(_ORDER)
    most = Snapshot(Stage.PRUNING, 10**12, 10**12, 10**12, 10**12, 10**12, 10**12)
    told = _writer(running).progressing("run-1", Progress(most, 10**9, 10**9))
    assert told is not None
    assert told == running.model_copy(update={"last_run": told.last_run})
    assert told.last_run is not None
    assert told.last_run.progress is not None
    assert None not in told.last_run.progress.model_dump().values()
    assert len(told.last_run.progress.message) < 256
    stored = json.dumps(told.as_json(), ensure_ascii=False, separators=(",", ":")).encode()
    assert 15 * 1024 < len(stored) <= 16 * 1024


def test_a_run_that_was_interrupted_is_not_shown_as_if_it_went_on() -> None:
    running = _writer(PolicyStatus()).running(_ORDER)
    shown = _writer(running).progressing("run-1", Progress(Snapshot(Stage.WAITING), 0))
    assert shown is not None
    found = parse_status(shown.as_json())
    assert found == shown
    told = _writer(found).interrupted("the operator ended").as_json()
    assert "progress" not in told["lastRun"]
    assert "progress" not in told["history"][0]


@pytest.mark.parametrize("damage", [3, "far", {}, {"stage": "Dreaming", "message": "m", "time": "t"}])
def test_where_a_run_is_does_not_have_to_be_read(damage: object) -> None:
    damaged = {**_GOOD, "lastRun": {**_GOOD["lastRun"], "progress": damage}}
    assert parse_status(damaged) == _finished(_report())


def test_a_status_that_fits_has_the_whole_sample_and_every_message() -> None:
    item = PlannedItem("team/" + "r" * 40, "t" * 40, digest("x"), "builds", tuple(PruneReason))
    plan = PlanSummary("f" * 64, NOW, 10**9, (item,) * 10, NOW, 10**18, 10**9)
    status = _finished(replace(_report(plan=plan, message="x" * 1024), waiting=Waiting((_EXCEEDED,), approval=True)))
    assert status.plan is not None
    assert len(status.plan.sample) == 10
    assert _condition(status, "Ready").message == "x" * 1024


def test_a_message_that_fits_is_not_touched() -> None:
    status = _finished(_report(message="x" * 1024))
    assert status.last_run is not None
    assert status.last_run.message == "x" * 1024


_GOOD = _finished(_report()).as_json()


def test_what_was_written_is_read_again() -> None:
    assert parse_status(_GOOD) == _finished(_report())
    assert parse_status(None) == parse_status({}) == PolicyStatus()


@pytest.mark.parametrize(
    "damage",
    [
        {"lastRun": "yesterday"},
        {"lastRun": {**_GOOD["lastRun"], "phase": "Exploded"}},
        {"lastRun": {"id": "x"}},
        {"plan": {"hash": "x"}},
        {"plan": {**_GOOD["plan"], "observedGeneration": "many"}},
        {"conditions": {"Ready": "True"}},
        {"conditions": [{"type": "Ready"}]},
        {"observedGeneration": "first"},
    ],
)
def test_damaged_status_is_read_as_empty_so_that_the_policy_is_planned_anew(damage: Mapping[str, Any]) -> None:
    assert parse_status({**_GOOD, **damage}) == PolicyStatus()


def test_what_a_newer_operator_added_is_passed_over() -> None:
    added = {**_GOOD, "future": [1, 2], "lastRun": {**_GOOD["lastRun"], "attempts": 3}}
    assert parse_status(added) == _finished(_report())


@pytest.mark.parametrize(
    "text", [None, "", "yesterday", "2026-13-01T00:00:00Z", "2026-06-15", "2026-06-15T12:00:00", "12:00:00Z", "0"]
)
def test_a_time_that_cannot_be_read_is_none(text: str | None) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["2026-06-15T12:00:00Z", "2026-06-15T14:00:00+02:00"])
def test_a_time_is_an_instant(text: str) -> None:
    assert parse_time(text) == NOW


def test_times_are_written_in_utc_and_whole_seconds() -> None:
    berlin = datetime.fromisoformat("2026-06-15T14:00:00.999999+02:00")
    assert rfc3339(berlin) == "2026-06-15T12:00:00Z"
    assert rfc3339(None) is None


# What is in use

_SCAN = ScanSummary(120, ("a path matches nothing",))
_DOUBT = Failure("InUseUnknown", "the operator cannot list pods; add the rule", mendable=True, blocks=True)


def test_status_says_how_much_is_in_use_and_how_many_tags_stay_for_it() -> None:
    status = _finished(replace(_report(), scan=_SCAN, kept_by_reason={"InUse": 7}), generation=3)
    told = _condition(status, "InUseKnown")
    assert (told.status, told.reason) == ("True", "Scanned")
    assert told.message == "references in use: 120; tags that they protect: 7; a path matches nothing"
    assert status.as_json()["inUse"] == {"references": 120, "observedGeneration": 3, "scanTime": rfc3339(NOW)}


def test_a_doubt_is_told_and_what_the_last_whole_look_found_stays_known() -> None:
    before = _finished(replace(_report(), scan=_SCAN))
    status = _finished(_failing(Phase.BLOCKED, _DOUBT), before)
    told = _condition(status, "InUseKnown")
    assert (told.status, told.reason, told.message) == ("False", "InUseUnknown", _DOUBT.message)
    assert status.in_use == before.in_use


def test_a_doubt_about_one_repository_is_none_about_the_cluster() -> None:
    one = replace(_DOUBT, repository="team/app", blocks=False)
    status = _finished(replace(_report(Phase.PARTIAL, one), scan=_SCAN))
    assert _told(status)["InUseKnown"] == "True Scanned"


def test_where_nothing_counts_nothing_is_known() -> None:
    before = _finished(replace(_report(), scan=_SCAN))
    status = _finished(replace(_report(), scan=ScanSummary(0, disabled=True)), before)
    assert _told(status)["InUseKnown"] == "Unknown Disabled"
    assert status.in_use is None


def test_a_run_that_did_not_get_so_far_says_nothing_of_what_is_in_use() -> None:
    before = _finished(replace(_report(), scan=_SCAN))
    status = _finished(_failing(Phase.FAILED, _UNREACHABLE), before)
    assert _told(status)["InUseKnown"] == "Unknown NotAsked"
    assert _finished(_failing(Phase.FAILED, _UNREACHABLE)).condition("InUseKnown") is None


# What counts for the window of undo


def test_the_time_of_the_last_run_that_may_have_pruned_is_told() -> None:
    assert _finished(_report()).last_pruned_time == rfc3339(NOW)


def test_a_run_that_pruned_nothing_leaves_the_time_of_the_one_before_it() -> None:
    nothing = replace(_report(), counts=Counts(tags_planned=3))
    assert _finished(nothing).last_pruned_time is None
    assert _finished(nothing, PolicyStatus(last_pruned_time="2026-06-01T00:00:00Z")).last_pruned_time == (
        "2026-06-01T00:00:00Z"
    )


def test_what_failed_to_go_may_be_gone() -> None:
    assert _finished(replace(_report(), counts=Counts(tags_failed=1))).last_pruned_time == rfc3339(NOW)


@pytest.mark.parametrize(("plan_only", "told"), [(False, rfc3339(NOW)), (True, None)])
def test_of_a_run_that_ended_without_a_word_nobody_knows_what_it_pruned(*, plan_only: bool, told: str | None) -> None:
    running = _writer(PolicyStatus()).running(replace(_ORDER, plan_only=plan_only))
    assert _writer(running).interrupted("the operator ended").last_pruned_time == told


# Until when which run can be undone

_RUNS = ("20260610-030000-aaaaaa", "20260611-030000-bbbbbb", "20260612-030000-cccccc")


def _kept(status: PolicyStatus) -> tuple[str, str, int, str | None] | None:
    undo = status.undo
    return None if undo is None else (undo.oldest_run[-6:], undo.run[-6:], undo.runs, undo.repository)


_HERE, _THERE = "https://registry.example.com", "https://mirror.example.net"


def _after(
    held: CopiesHeld | None,
    before: PolicyStatus | None = None,
    days: int = 7,
    registry: str = _HERE,
    now: datetime = NOW,
) -> PolicyStatus:
    writer = StatusWriter(before or PolicyStatus(), "team", "builds", 1, now)
    return writer.finished(
        replace(_report(), copies=held),
        failed_before=False,
        handled_request=None,
        handled_approval=None,
        next_time=None,
        history_limit=3,
        undo_kept=timedelta(days=days),
        registry=registry,
    )


def test_status_tells_which_runs_can_be_undone_and_until_when() -> None:
    status = _after(CopiesHeld(_RUNS[:2], "ops/undo"))
    assert status.undo is not None
    assert (status.undo.until, status.undo.oldest_until) == ("2026-06-18T03:00:00Z", "2026-06-17T03:00:00Z")
    assert _kept(status) == ("aaaaaa", "bbbbbb", 2, "ops/undo")
    # A run that planned only knows nothing new but the window.
    planned = _after(None, status, days=3)
    assert _kept(planned) == ("aaaaaa", "bbbbbb", 2, "ops/undo")
    assert planned.undo is not None
    assert planned.undo.until == "2026-06-14T03:00:00Z"
    assert _kept(_after(CopiesHeld((), "ops/undo"), status)) is None


@pytest.mark.parametrize(
    ("held", "told"),
    [
        # One that was interrupted knows of its own copies only.
        (CopiesHeld(_RUNS[2:], "ops/undo", all=False), ("aaaaaa", "cccccc", 3, "ops/undo")),
        (CopiesHeld(_RUNS[1:2], "ops/undo", all=False), ("aaaaaa", "bbbbbb", 2, "ops/undo")),
        (CopiesHeld((), "ops/undo", all=False), ("aaaaaa", "bbbbbb", 2, "ops/undo")),
        # What is in another place is not found by an undo any more.
        (CopiesHeld(_RUNS[2:], None, all=False), ("cccccc", "cccccc", 1, None)),
        (CopiesHeld((), None, all=False), ("aaaaaa", "bbbbbb", 2, "ops/undo")),
    ],
)
def test_a_run_that_was_cut_short_adds_what_it_copied_to_what_was_known(
    held: CopiesHeld, told: tuple[str, str, int, str | None]
) -> None:
    assert _kept(_after(held, _after(CopiesHeld(_RUNS[:2], "ops/undo")))) == told


def _undoable_at(status: PolicyStatus) -> list[tuple[str, str | None]]:
    """Return the end of each run that is told, and its registry, the last one first."""
    undo = status.undo
    if undo is None:
        return []
    return [(undo.run[-6:], undo.registry), *((each.run[-6:], each.registry) for each in reversed(undo.former or ()))]


@pytest.mark.parametrize("held", [None, CopiesHeld((), "ops/undo"), CopiesHeld((), "ops/undo", all=False)])
def test_what_was_pruned_at_another_registry_is_told_until_its_window_has_passed(held: CopiesHeld | None) -> None:
    before = _after(CopiesHeld(_RUNS[:2], "ops/undo"))
    assert _undoable_at(before) == [("bbbbbb", _HERE)]
    after = _after(held, before, registry=_THERE)
    assert _undoable_at(after) == [("bbbbbb", _HERE)]
    assert after.undo is not None
    assert (after.undo.until, _kept(after)) == ("2026-06-18T03:00:00Z", ("aaaaaa", "bbbbbb", 2, "ops/undo"))
    # Nor does a look whether anything is over end it, but the time does, and a window that was made shorter.
    looked = CopiesHeld((), "ops/undo")
    at = datetime(2026, 6, 17, 4, tzinfo=UTC)
    writer = StatusWriter(after, "team", "builds", 1, at)
    assert _kept(writer.undoable(looked, timedelta(days=7), _THERE)) == ("bbbbbb", "bbbbbb", 1, "ops/undo")
    assert writer.undoable(looked, timedelta(days=5), _THERE).undo is None
    later = StatusWriter(after, "team", "builds", 1, at + timedelta(days=1))
    assert later.undoable(looked, timedelta(days=7), _THERE).undo is None


def test_runs_at_two_registries_are_both_told() -> None:
    before = _after(CopiesHeld(_RUNS[:2], "ops/undo"))
    both = _after(CopiesHeld(_RUNS[2:], "ops/undo"), before, registry=_THERE)
    assert _undoable_at(both) == [("cccccc", _THERE), ("bbbbbb", _HERE)]
    assert both.undo is not None
    assert [each.until for each in both.undo.former or ()] == ["2026-06-18T03:00:00Z"]
    assert _undoable_at(_after(None, both, registry=_THERE)) == [("cccccc", _THERE), ("bbbbbb", _HERE)]
    over = datetime(2026, 6, 18, 4, tzinfo=UTC)
    assert _undoable_at(_after(None, both, registry=_THERE, now=over)) == [("cccccc", _THERE)]
    # Where the last one has been removed, the other can be undone still.
    assert _undoable_at(_after(CopiesHeld((), "ops/undo"), both, registry=_THERE)) == [("bbbbbb", _HERE)]
    # Back at the first one.
    again = _after(CopiesHeld([*_RUNS[:2], "20260613-030000-dddddd"], "ops/undo"), both)
    assert _undoable_at(again) == [("dddddd", _HERE), ("cccccc", _THERE)]


def test_copies_in_config_maps_are_of_the_registry_where_their_run_pruned() -> None:
    before = _after(CopiesHeld(_RUNS[:2], None))
    assert _undoable_at(_after(CopiesHeld(_RUNS[:2], None), before, registry=_THERE)) == [("bbbbbb", _HERE)]
    both = _after(CopiesHeld(_RUNS, None), before, registry=_THERE)
    assert _undoable_at(both) == [("cccccc", _THERE), ("bbbbbb", _HERE)]
    assert _kept(both) == ("aaaaaa", "cccccc", 3, None)
    # They are all seen, so what is gone is gone.
    assert _undoable_at(_after(CopiesHeld(_RUNS[2:], None), both, registry=_THERE)) == [("cccccc", _THERE)]
    assert _undoable_at(_after(CopiesHeld((), None), both, registry=_THERE)) == []


def test_of_more_registries_than_are_told_the_last_window_counts_anywhere() -> None:
    status = PolicyStatus()
    for day in range(8, 14):
        held = CopiesHeld([f"202606{day:02}-030000-aaaaaa"], "ops/undo")
        status = _after(held, status, registry=f"https://registry-{day}.example.com")
    assert status.undo is not None
    assert [(each.registry, each.run[:8]) for each in status.undo.former or ()] == [
        (None, "20260610"),
        ("https://registry-11.example.com", "20260611"),
        ("https://registry-12.example.com", "20260612"),
    ]


def test_a_repository_for_copies_that_was_changed_ends_no_window() -> None:
    before = _after(CopiesHeld(_RUNS[:2], "ops/undo"))
    assert _kept(_after(CopiesHeld((), "ops/other"), before)) == ("aaaaaa", "bbbbbb", 2, "ops/undo")


def test_a_run_that_deleted_only_untagged_manifests_tells_when_since_it_can_be_undone() -> None:
    held = CopiesHeld([_ORDER.id], "undo", all=True)
    assert _finished(replace(_report(), counts=Counts(), copies=held)).last_pruned_time == rfc3339(NOW)
    older = CopiesHeld(["20260101-000000-abcdef"], "undo", all=True)
    assert _finished(replace(_report(), counts=Counts(), copies=older)).last_pruned_time is None
