"""How long a schedule may be silent before somebody should ask."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from registry_cleanup.domain.cron import Schedule
from registry_cleanup.domain.interval import expected_interval

_UTC = ZoneInfo("Etc/UTC")
_STARTS = [
    datetime(2026, month, day, hour, 7, tzinfo=UTC) for month, day, hour in [(1, 1, 0), (3, 28, 13), (10, 23, 23)]
]


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("@hourly", timedelta(hours=1)),
        ("0 3 * * *", timedelta(days=1)),
        ("0 3 * * 1-5", timedelta(days=3)),
        ("0 0,6,8 * * *", timedelta(hours=16)),
        ("@weekly", timedelta(days=7)),
        ("0 0 1 * *", timedelta(days=31)),
        ("0 0 1 3,12 *", timedelta(days=275)),
        ("*/20 * * * *", timedelta(minutes=20)),
    ],
)
def test_the_longest_rest_of_a_schedule_is_its_interval(schedule: str, expected: timedelta, start: datetime) -> None:
    assert expected_interval(Schedule(schedule, _UTC), start) == expected


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize(
    ("schedule", "rest"),
    [
        ("*/5 9-17 * * 1-5", timedelta(days=2, hours=15, minutes=5)),
        ("* 0-3,20-23 * * *", timedelta(hours=16, minutes=1)),
    ],
)
def test_the_rest_of_a_schedule_with_many_times_an_hour_is_seen_to_an_hour(
    schedule: str, rest: timedelta, start: datetime
) -> None:
    assert rest - timedelta(hours=1) <= expected_interval(Schedule(schedule, _UTC), start) <= rest


def test_a_schedule_of_leap_days_has_an_interval() -> None:
    leap = Schedule("0 0 29 2 *", _UTC)
    assert expected_interval(leap, _STARTS[0]) == timedelta(days=4 * 365 + 1)


def test_daylight_saving_makes_a_day_an_hour_longer() -> None:
    berlin = Schedule("0 3 * * *", ZoneInfo("Europe/Berlin"))
    assert expected_interval(berlin, datetime(2026, 10, 20, tzinfo=UTC)) == timedelta(hours=25)
