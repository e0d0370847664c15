"""Runs by the clock: what was missed counts once, what comes next is said, and not all start at once."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.crane import Crane
from tests.support.operator import operator
from tests.support.policies import NAME, Namespace, condition, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_next_time_of_the_schedule_is_said_in_its_time_zone(
    registry3: RegistryServer, namespace: Namespace
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime.now(berlin)
    # Six hours away from now and from daylight saving's hours alike.
    hour = (now.hour + 6) % 24
    namespace.apply(policy_spec(registry3.url, schedule=f"30 {hour} * * *", timeZone="Europe/Berlin"))
    planned = namespace.planned()
    expected = now.replace(hour=hour, minute=30, second=0, microsecond=0)
    if expected < now:
        expected = (expected + timedelta(days=1)).replace(hour=hour)
    assert planned["status"]["nextScheduleTime"] == _rfc3339(expected)
    # The plan of a new policy stands for no scheduled time.
    assert "lastScheduleTime" not in planned["status"]
    namespace.change({"schedule": None, "timeZone": None})
    assert "nextScheduleTime" not in namespace.planned()["status"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_times_that_were_missed_count_once(
    registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path, *, dry_run: bool
) -> None:
    push_builds(registry3.url)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    due = now - timedelta(minutes=5)
    long_ago = _rfc3339(due - timedelta(hours=3))
    own_namespace.apply(policy_spec(registry3.url, dryRun=dry_run, schedule=f"{due.minute} * * * *"))
    with operator(own_namespace.plane, tmp_path / "first"):
        own_namespace.planned()
    # As if that had been hours ago.
    own_namespace.write_status({"lastScheduleTime": long_ago, "scheduleCountsFrom": long_ago})
    with operator(own_namespace.plane, tmp_path / "operator") as running:
        done = own_namespace.wait(
            lambda policy: (last_run(policy)["trigger"], last_run(policy)["phase"]) == ("Schedule", "Succeeded"),
            "the scheduled run",
            NAME,
            running.process,
        )
        # What follows a run comes at once after it, so a second catching up would be seen before this plan.
        own_namespace.change({"minTagsPerRepository": 0})
        own_namespace.planned()
        finished = running.log_lines(message="run finished")
    assert (last_run(done)["trigger"], last_run(done)["dryRun"]) == ("Schedule", dry_run)
    assert done["status"]["lastScheduleTime"] == _rfc3339(due)
    assert done["status"]["nextScheduleTime"] == _rfc3339(due + timedelta(hours=1))
    assert [line["trigger"] for line in finished] == ["Schedule", "SpecChange"]
    builds = range(1, 6) if dry_run else (4, 5)
    assert crane.ls(f"{registry3.host}/team/app") == [f"build-{build}" for build in builds]


def _due_five_minutes_ago() -> tuple[datetime, str]:
    """Return a time and the schedule that has it, every hour."""
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    return due, f"{due.minute} * * * *"


def test_a_time_that_was_missed_for_too_long_is_told_once_and_not_run(
    registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path
) -> None:
    push_builds(registry3.url)
    due, schedule = _due_five_minutes_ago()
    long_ago = _rfc3339(due - timedelta(hours=3))
    own_namespace.apply(policy_spec(registry3.url, dryRun=False, schedule=schedule, startingDeadlineSeconds=120))
    with operator(own_namespace.plane, tmp_path / "first"):
        own_namespace.planned()
    own_namespace.write_status({"lastScheduleTime": long_ago, "scheduleCountsFrom": long_ago})
    with operator(own_namespace.plane, tmp_path / "second") as second:
        missed = own_namespace.wait(
            lambda policy: "lastMissedScheduleTime" in policy["status"], "the missed time", NAME, second.process
        )["status"]
        assert (missed["lastMissedScheduleTime"], missed["lastScheduleTime"]) == (_rfc3339(due), long_ago)
        # A run would come before this plan.
        own_namespace.change({"minTagsPerRepository": 0})
        planned = own_namespace.planned()
        assert planned["status"]["nextScheduleTime"] == _rfc3339(due + timedelta(hours=1))
        told = [event for event in own_namespace.events() if event["reason"] == "MissedSchedule"]
        assert [event["type"] for event in told] == ["Warning"]
        assert f"the run of {_rfc3339(due)} could not start within spec.startingDeadlineSeconds" in told[0]["message"]
    with operator(own_namespace.plane, tmp_path / "third") as third:
        own_namespace.change({"minTagsPerRepository": 1})
        own_namespace.planned()
        finished = [line["trigger"] for line in third.log_lines(message="run finished")]
    assert finished == ["SpecChange"]
    assert len([event for event in own_namespace.events() if event["reason"] == "MissedSchedule"]) == 1
    assert len(crane.ls(f"{registry3.host}/team/app")) == 5


@pytest.mark.parametrize("deadline", [None, pytest.param(120, marks=pytest.mark.thorough)])
def test_times_under_suspend_are_made_up_for_as_a_cron_job_does(
    registry3: RegistryServer, own_namespace: Namespace, crane: Crane, tmp_path: Path, deadline: int | None
) -> None:
    push_builds(registry3.url)
    due, schedule = _due_five_minutes_ago()
    own_namespace.apply(policy_spec(registry3.url, dryRun=False, schedule=schedule, startingDeadlineSeconds=deadline))
    with operator(own_namespace.plane, tmp_path / "first"):
        own_namespace.planned()
        own_namespace.change({"suspend": True})
        own_namespace.wait(lambda policy: "suspendedTime" in policy["status"], "the suspension")
    # As if that had been hours ago.
    own_namespace.write_status({"suspendedTime": _rfc3339(due - timedelta(hours=3))})
    own_namespace.change({"suspend": False})
    with operator(own_namespace.plane, tmp_path / "second") as second:
        answer = "lastScheduleTime" if deadline is None else "lastMissedScheduleTime"
        own_namespace.wait(lambda policy: answer in policy["status"], "the missed time", NAME, second.process)
        own_namespace.change({"minTagsPerRepository": 0})
        done = own_namespace.planned()
        triggers = [line["trigger"] for line in second.log_lines(message="run finished")]
    assert done["status"][answer] == _rfc3339(due)
    assert "suspendedTime" not in done["status"]
    # What was resumed is planned first, and pruned by what that plan and the run's own both hold.
    assert triggers == ["SpecChange", *(["Schedule"] if deadline is None else []), "SpecChange"]
    assert len(crane.ls(f"{registry3.host}/team/app")) == (2 if deadline is None else 5)


def test_policies_of_one_minute_start_at_times_of_their_own_and_say_so(
    registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    due = (now + timedelta(hours=2)).replace(minute=30, second=0, microsecond=0)
    names = [f"policy-{number}" for number in range(8)]

    def announced() -> list[datetime]:
        planned = [own_namespace.planned(name) for name in names]
        return [datetime.fromisoformat(policy["status"]["nextScheduleTime"]) for policy in planned]

    for name in names:
        own_namespace.apply(policy_spec(registry3.url, schedule=f"{due.minute} {due.hour} * * *"), name)
    with operator(own_namespace.plane, tmp_path / "first", {"SCHEDULE_JITTER_SECONDS": "3600"}):
        starts = announced()
    assert all(due <= start < due + timedelta(hours=1) for start in starts)
    assert all(earlier != later for earlier, later in pairwise(sorted(starts)))
    # What the administrator has changed is told at once.
    with operator(own_namespace.plane, tmp_path / "second", {"SCHEDULE_JITTER_SECONDS": "0"}):
        for name in names:
            own_namespace.wait(
                lambda policy: policy["status"]["nextScheduleTime"] == _rfc3339(due), f"the time of {name}", name
            )


@pytest.mark.thorough  # it waits for the next minute
def test_a_run_at_its_time_stands_for_that_time_and_starts_when_it_was_announced(
    registry3: RegistryServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    """A minute that comes, with a spread of half of it: one run, in its order, for each of the times."""
    own_namespace.apply(policy_spec(registry3.url, schedule="* * * * *", historyLimit=10))
    with operator(own_namespace.plane, tmp_path / "operator", {"SCHEDULE_JITTER_SECONDS": "60"}) as running:
        planned = own_namespace.planned()
        announced = datetime.fromisoformat(planned["status"]["nextScheduleTime"])
        done = own_namespace.wait(
            lambda policy: last_run(policy)["trigger"] == "Schedule" and last_run(policy)["phase"] == "Succeeded",
            "the scheduled run",
            NAME,
            running.process,
            limit=120,
        )
    run, status = last_run(done), done["status"]
    assert run["scheduledTime"] == status["lastScheduleTime"] == _rfc3339(announced.replace(second=0))
    late = datetime.fromisoformat(run["startTime"]) - announced
    assert timedelta(0) <= late < timedelta(seconds=10)
    assert status["nextScheduleTime"] == _rfc3339(announced + timedelta(minutes=1))
    assert condition(done, "Ready")["status"] == "True"
