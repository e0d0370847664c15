"""Runs by the clock: what was missed counts once, and what comes next is said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.crane import Crane
from tests.support.operator import operator
from tests.support.policies import NAME, Namespace, last_run, policy_spec, push_builds
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
    own_namespace.write_status({"lastScheduleTime": long_ago, "plan": {"generatedAt": long_ago}})
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
