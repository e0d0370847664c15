"""When a policy is due: cron times through daylight saving, missed times, and the states of a policy."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from registry_cleanup.domain.cron import InvalidScheduleError, Schedule, parse_time_zone
from registry_cleanup.domain.run import Trigger
from registry_cleanup.domain.schedule import Due, Missed, State, Timetable, Wait, due

_UTC, _BERLIN, _NEW_YORK = "Etc/UTC", "Europe/Berlin", "America/New_York"


def _schedule(text: str, zone: str = _UTC) -> Schedule:
    return Schedule(text, parse_time_zone(zone))


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


def _times(schedule: Schedule, after: str, until: str) -> list[str]:
    """Return the scheduled times in UTC, without seconds."""
    found = []
    time = schedule.after(_at(after))
    while time <= _at(until):
        found.append(f"{time:%Y-%m-%d %H:%M}")
        time = schedule.after(time)
    return found


# Expressions


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 3 * * *", "2026-06-15 03:00"),
        ("*/15 * * * *", "2026-06-15 00:15"),
        ("30 22 * * 1-5", "2026-06-15 22:30"),
        ("0 0 1 * *", "2026-07-01 00:00"),
        ("0 0 * * SUN", "2026-06-21 00:00"),
        ("0 0 * * 7", "2026-06-21 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 1 JAN *", "2027-01-01 00:00"),
        ("@hourly", "2026-06-15 01:00"),
        ("@daily", "2026-06-16 00:00"),
        ("@midnight", "2026-06-16 00:00"),
        ("@weekly", "2026-06-21 00:00"),
        ("@monthly", "2026-07-01 00:00"),
        ("@yearly", "2027-01-01 00:00"),
        ("@annually", "2027-01-01 00:00"),
    ],
)
def test_five_fields_and_macros_are_read_as_cron_reads_them(text: str, first: str) -> None:
    schedule = _schedule(text)
    assert (f"{schedule.after(_at('2026-06-15T00:00')):%Y-%m-%d %H:%M}", schedule.text) == (first, text)


@pytest.mark.parametrize(
    "text", ["", "   ", "0 3 * *", "0 3 * * * *", "@reboot", "@every 5m", "daily", "TZ=UTC 0 3 * * *"]
)
def test_other_numbers_of_fields_are_refused_with_what_is_needed(text: str) -> None:
    with pytest.raises(InvalidScheduleError, match=r"needs five fields .* or a macro such as '@daily'"):
        _schedule(text)


@pytest.mark.parametrize(
    "text", ["60 3 * * *", "0 24 * * *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "a b c d e", "5-1 * * * *"]
)
def test_fields_that_cannot_be_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidScheduleError, match=r"is not a cron expression \(.+\); write for example '0 3"):
        _schedule(text)


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4 *"])
def test_a_day_that_never_comes_is_refused(text: str) -> None:
    with pytest.raises(InvalidScheduleError, match=r"Bad day-of-month|names a day that never comes"):
        _schedule(text)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe", "CEST+2", "Europe/Berlin "]
)
def test_a_time_zone_that_is_not_known_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(InvalidScheduleError, match="is not an IANA time zone; write for example 'Europe/Berlin'"):
        parse_time_zone(name)


# Daylight saving. Berlin: 2026-03-29, 2026-10-25, 2027-03-28, 2027-10-31 at 01:00 UTC.
# New York: 2026-03-08, 2027-03-14 at 07:00 UTC; 2026-11-01, 2027-11-07 at 06:00 UTC.


@pytest.mark.parametrize(
    ("zone", "after", "until", "times"),
    [
        (
            _BERLIN,
            "2026-03-27T12:00",
            "2026-03-31T00:00",
            ["2026-03-28 01:30", "2026-03-30 00:30"],
        ),
        (_BERLIN, "2027-03-26T12:00", "2027-03-30T00:00", ["2027-03-27 01:30", "2027-03-29 00:30"]),
        (_NEW_YORK, "2026-03-06T12:00", "2026-03-10T00:00", ["2026-03-07 07:30", "2026-03-09 06:30"]),
        (_NEW_YORK, "2027-03-12T12:00", "2027-03-16T00:00", ["2027-03-13 07:30", "2027-03-15 06:30"]),
    ],
)
def test_a_local_time_that_daylight_saving_skips_is_skipped(
    zone: str, after: str, until: str, times: list[str]
) -> None:
    assert _times(_schedule("30 2 * * *", zone), after, until) == times


@pytest.mark.parametrize(
    ("text", "zone", "after", "until", "times"),
    [
        (
            "30 2 * * *",
            _BERLIN,
            "2026-10-24T12:00",
            "2026-10-26T12:00",
            ["2026-10-25 00:30", "2026-10-26 01:30"],
        ),
        (
            "30 2 * * *",
            _BERLIN,
            "2027-10-30T12:00",
            "2027-11-01T12:00",
            ["2027-10-31 00:30", "2027-11-01 01:30"],
        ),
        (
            "30 1 * * *",
            _NEW_YORK,
            "2026-10-31T12:00",
            "2026-11-02T12:00",
            ["2026-11-01 05:30", "2026-11-02 06:30"],
        ),
        (
            "30 1 * * *",
            _NEW_YORK,
            "2027-11-06T12:00",
            "2027-11-08T12:00",
            ["2027-11-07 05:30", "2027-11-08 06:30"],
        ),
        # From between the two passes, and from within the second.
        ("30 2 * * *", _BERLIN, "2026-10-25T00:45", "2026-10-26T12:00", ["2026-10-26 01:30"]),
        ("30 2 * * *", _BERLIN, "2026-10-25T01:15", "2026-10-26T12:00", ["2026-10-26 01:30"]),
        ("30 2 * * *", _BERLIN, "2026-10-25T01:45", "2026-10-26T12:00", ["2026-10-26 01:30"]),
        # Every local time once: nothing in the second pass, and on it goes after it.
        (
            "*/30 * * * *",
            _BERLIN,
            "2026-10-24T23:45",
            "2026-10-25T02:30",
            ["2026-10-25 00:00", "2026-10-25 00:30", "2026-10-25 02:00", "2026-10-25 02:30"],
        ),
    ],
)
def test_a_local_time_that_daylight_saving_repeats_runs_once(
    text: str, zone: str, after: str, until: str, times: list[str]
) -> None:
    assert _times(_schedule(text, zone), after, until) == times


@pytest.mark.parametrize("zone", [_BERLIN, _NEW_YORK])
def test_a_daily_time_comes_once_on_every_day_that_has_it(zone: str) -> None:
    for hour in range(24):
        times = [
            datetime.fromisoformat(f"{time}+00:00").astimezone(parse_time_zone(zone))
            for time in _times(_schedule(f"15 {hour} * * *", zone), "2026-01-01T12:00", "2027-12-30T12:00")
        ]
        assert all((time.hour, time.minute) == (hour, 15) for time in times)
        gaps = {(later.date() - earlier.date()).days for earlier, later in pairwise(times)}
        assert gaps == ({1, 2} if hour == 2 else {1})


@pytest.mark.parametrize("zone", [_UTC, _BERLIN, _NEW_YORK, "Asia/Tokyo", "America/Los_Angeles"])
def test_the_next_of_frequent_times_is_near_in_every_time_zone(zone: str) -> None:
    times = _times(_schedule("0 * * * *", zone), "2026-06-15T12:30", "2026-06-15T15:30")
    assert times == ["2026-06-15 13:00", "2026-06-15 14:00", "2026-06-15 15:00"]


def test_a_time_is_told_in_utc_whatever_the_zone() -> None:
    for zone in (_UTC, _BERLIN, _NEW_YORK):
        assert _schedule("0 3 * * *", zone).after(_at("2026-06-15T03:00")).tzinfo is UTC


def test_a_time_that_is_now_is_not_after_now() -> None:
    assert _schedule("0 3 * * *").after(_at("2026-06-15T03:00")) == _at("2026-06-16T03:00")
    assert _schedule("0 3 * * *").after(_at("2026-06-15T02:59:59.999999")) == _at("2026-06-15T03:00")


# Missed times


@pytest.mark.parametrize(
    ("text", "after", "until", "latest"),
    [
        ("0 3 * * *", "2026-06-15T04:00", "2026-06-15T23:00", None),
        ("0 3 * * *", "2026-06-14T04:00", "2026-06-15T03:00", "2026-06-15T03:00"),
        ("0 3 * * *", "2026-06-15T03:00", "2026-06-15T23:00", None),
        ("0 3 * * *", "2026-06-01T04:00", "2026-06-15T02:00", "2026-06-14T03:00"),
        ("0 3 * * *", "2020-01-01T00:00", "2026-06-15T02:00", "2026-06-14T03:00"),
        ("* * * * *", "2016-01-01T00:00", "2026-06-15T02:00:30", "2026-06-15T02:00"),
        ("* * * * *", "2026-06-15T01:58", "2026-06-15T02:00:30", "2026-06-15T02:00"),
        ("0 * * * *", "2026-06-15T01:30", "2026-06-15T02:30", "2026-06-15T02:00"),
        ("0 0 1 * *", "2026-01-15T00:00", "2026-06-15T00:00", "2026-06-01T00:00"),
        ("@yearly", "2016-06-01T00:00", "2026-06-15T00:00", "2026-01-01T00:00"),
        ("0 0 29 2 *", "2016-06-01T00:00", "2026-06-15T00:00", "2024-02-29T00:00"),
        ("@yearly", "2025-12-31T00:00", "2026-06-15T00:00", "2026-01-01T00:00"),
    ],
)
def test_missed_times_count_once_as_the_last_of_them(text: str, after: str, until: str, latest: str | None) -> None:
    expected = _at(latest) if latest is not None else None
    assert _schedule(text).latest(_at(after), _at(until)) == expected


def test_in_the_second_pass_of_a_repeated_hour_the_last_time_lies_in_the_first() -> None:
    every_minute = _schedule("* * * * *", _BERLIN)
    assert every_minute.latest(_at("2026-10-20T00:00"), _at("2026-10-25T01:30")) == _at("2026-10-25T00:59")


# States

_NIGHTLY = _schedule("0 3 * * *")
_PLANNED = _at("2026-06-14T12:00")
_NOON = _at("2026-06-15T12:00")


def _state(
    *,
    generation: int = 1,
    planned: int | None = 1,
    request: str | None = None,
    handled: str | None = None,
    schedule: Schedule | None = None,
    last_scheduled: datetime | None = None,
    planned_at: datetime | None = _PLANNED,
    dry_run: bool = False,
    retry_at: datetime | None = None,
    approval: str | None = None,
    handled_approval: str | None = None,
    plan_hash: str | None = "a-hash",
    vain_approval: str | None = None,
    last_missed: datetime | None = None,
    deadline: timedelta | None = None,
    interrupted: datetime | None = None,
    jitter: timedelta = timedelta(0),
) -> State:
    return State(
        generation,
        planned,
        planned_at if planned is not None else None,
        request,
        handled,
        Timetable(schedule, "a-uid", jitter) if schedule is not None else None,
        last_scheduled,
        dry_run,
        retry_at,
        approval,
        handled_approval,
        plan_hash if planned is not None else None,
        vain_approval,
        last_missed,
        deadline,
        interrupted,
    )


_PLAN = Due(Trigger.SPEC_CHANGE, plan_only=True)
_LAST_NIGHT = _at("2026-06-15T03:00")
_TONIGHT = Wait(_at("2026-06-16T03:00"))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # A generation that was never planned is planned, and that is all.
        (_state(planned=None), _PLAN),
        (_state(generation=2), _PLAN),
        (_state(planned=None, request="now"), _PLAN),
        (_state(generation=2, request="now", handled="before"), _PLAN),
        (_state(generation=2, schedule=_NIGHTLY), _PLAN),
        (_state(planned=None, dry_run=True), _PLAN),
        # Until it could be planned it is tried again, not before its time, or when a person asks.
        (_state(planned=None, retry_at=_NOON + timedelta(seconds=10)), Wait(_NOON + timedelta(seconds=10))),
        (_state(planned=None, retry_at=_NOON), _PLAN),
        (_state(planned=None, retry_at=_NOON + timedelta(seconds=10), request="now"), _PLAN),
        (
            _state(planned=None, retry_at=_NOON + timedelta(seconds=10), request="now", handled="now"),
            Wait(_NOON + timedelta(seconds=10)),
        ),
        # A planned one runs when it is asked to.
        (_state(), Wait(None)),
        (_state(request="now"), Due(Trigger.REQUEST, plan_only=False)),
        (_state(request="now", dry_run=True), Due(Trigger.REQUEST, plan_only=True)),
        (_state(request="now", handled="now"), Wait(None)),
        (_state(request="again", handled="now"), Due(Trigger.REQUEST, plan_only=False)),
        (_state(handled="now"), Wait(None)),
        (_state(request="", handled=None), Due(Trigger.REQUEST, plan_only=False)),
        # Or when its time has come.
        (_state(schedule=_NIGHTLY), Due(Trigger.SCHEDULE, plan_only=False, scheduled_for=_LAST_NIGHT)),
        (_state(schedule=_NIGHTLY, dry_run=True), Due(Trigger.SCHEDULE, plan_only=True, scheduled_for=_LAST_NIGHT)),
        (_state(schedule=_NIGHTLY, last_scheduled=_LAST_NIGHT), _TONIGHT),
        (
            _state(schedule=_NIGHTLY, last_scheduled=_at("2026-06-01T03:00")),
            Due(Trigger.SCHEDULE, plan_only=False, scheduled_for=_LAST_NIGHT),
        ),
        # What was missed before the plan was published is not caught up with.
        (_state(schedule=_NIGHTLY, planned_at=_at("2026-06-15T11:00")), _TONIGHT),
        (
            _state(schedule=_NIGHTLY, planned_at=_at("2026-06-15T11:00"), last_scheduled=_at("2026-06-01T03:00")),
            _TONIGHT,
        ),
        (_state(schedule=_NIGHTLY, planned_at=_LAST_NIGHT), _TONIGHT),
        # A damaged status is planned anew.
        (_state(schedule=_NIGHTLY, planned_at=None), _PLAN),
        # A request comes before a time that was missed; that follows.
        (_state(schedule=_NIGHTLY, request="now"), Due(Trigger.REQUEST, plan_only=False)),
    ],
)
def test_the_state_of_a_policy_says_what_is_due(state: State, expected: Due | Missed | Wait) -> None:
    assert due(state, _NOON) == expected


_RESUME = Due(Trigger.RESUME, plan_only=False)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (_state(approval="a-hash"), _RESUME),
        (_state(approval="a-hash", handled_approval="another"), _RESUME),
        (_state(approval="a-hash", schedule=_NIGHTLY, last_scheduled=_LAST_NIGHT), _RESUME),
        # Once, and not of another plan.
        (_state(approval="a-hash", handled_approval="a-hash"), Wait(None)),
        (_state(approval="another"), Wait(None)),
        (_state(approval="another", schedule=_NIGHTLY, last_scheduled=_LAST_NIGHT), _TONIGHT),
        (_state(approval="a-hash", plan_hash=None), Wait(None)),
        (_state(approval=""), Wait(None)),
        (_state(handled_approval="a-hash"), Wait(None)),
        # Told in vain, it is not told again; another one is.
        (_state(approval="a-hash", vain_approval="a-hash"), Wait(None)),
        (_state(approval="a-hash", vain_approval="another"), _RESUME),
        # A dry run prunes nothing, whoever approves.
        (_state(approval="a-hash", dry_run=True), Wait(None)),
        # What was never planned, or has changed, is only planned.
        (_state(planned=None, approval="a-hash"), _PLAN),
        (_state(generation=2, approval="a-hash"), _PLAN),
        (
            _state(generation=2, approval="a-hash", retry_at=_NOON + timedelta(seconds=10)),
            Wait(_NOON + timedelta(seconds=10)),
        ),
        # A request, or a time that has come, is the reason then; its run is told of the approval.
        (_state(approval="a-hash", request="now"), Due(Trigger.REQUEST, plan_only=False)),
        (
            _state(approval="a-hash", schedule=_NIGHTLY),
            Due(Trigger.SCHEDULE, plan_only=False, scheduled_for=_LAST_NIGHT),
        ),
    ],
)
def test_the_approval_of_the_published_plan_is_a_reason_to_run_once(state: State, expected: Due | Wait) -> None:
    assert due(state, _NOON) == expected


def test_without_an_annotation_nothing_is_approved_not_even_where_nothing_is_published() -> None:
    assert not _state(planned=None, handled_approval="a-hash", vain_approval="another").approved


def test_a_policy_that_waits_is_due_when_its_time_comes() -> None:
    state = _state(schedule=_NIGHTLY, last_scheduled=_LAST_NIGHT)
    wait = due(state, _NOON)
    assert isinstance(wait, Wait)
    assert wait.until is not None
    assert due(state, wait.until) == Due(Trigger.SCHEDULE, plan_only=False, scheduled_for=wait.until)


def test_a_time_zone_moves_the_time_at_which_a_policy_is_due() -> None:
    state = _state(schedule=_schedule("0 3 * * *", _BERLIN), last_scheduled=_LAST_NIGHT)
    assert due(state, _NOON) == Wait(_at("2026-06-16T01:00"))
    assert due(state, datetime(2026, 6, 16, 0, 59, tzinfo=UTC)) == Wait(_at("2026-06-16T01:00"))


# The starting deadline

_HOUR = timedelta(hours=1)
_RUN_LAST_NIGHT = Due(Trigger.SCHEDULE, plan_only=False, scheduled_for=_LAST_NIGHT)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # Nine hours late.
        (_state(schedule=_NIGHTLY, deadline=10 * _HOUR), _RUN_LAST_NIGHT),
        (_state(schedule=_NIGHTLY, deadline=9 * _HOUR), _RUN_LAST_NIGHT),
        (_state(schedule=_NIGHTLY, deadline=8 * _HOUR), Missed(_LAST_NIGHT)),
        # Of many the last one counts, for all.
        (_state(schedule=_NIGHTLY, planned_at=_at("2026-05-01T00:00"), deadline=8 * _HOUR), Missed(_LAST_NIGHT)),
        (_state(schedule=_NIGHTLY, planned_at=_at("2026-05-01T00:00"), deadline=10 * _HOUR), _RUN_LAST_NIGHT),
        # Once.
        (_state(schedule=_NIGHTLY, deadline=8 * _HOUR, last_missed=_LAST_NIGHT), _TONIGHT),
        (_state(schedule=_NIGHTLY, last_missed=_LAST_NIGHT), _TONIGHT),
        (_state(schedule=_NIGHTLY, last_missed=_at("2026-06-14T03:00"), deadline=10 * _HOUR), _RUN_LAST_NIGHT),
        (_state(schedule=_NIGHTLY, last_missed=_at("2031-01-01T03:00")), _TONIGHT),
        # A run that began in time may begin again, and stands for what was missed since.
        (_state(schedule=_NIGHTLY, deadline=8 * _HOUR, interrupted=_LAST_NIGHT), _RUN_LAST_NIGHT),
        (
            _state(
                schedule=_NIGHTLY,
                planned_at=_at("2026-05-01T00:00"),
                deadline=8 * _HOUR,
                interrupted=_at("2026-06-14T03:00"),
                last_scheduled=_at("2026-06-13T03:00"),
            ),
            _RUN_LAST_NIGHT,
        ),
        # One that has been made up for since does not.
        (
            _state(
                schedule=_NIGHTLY,
                deadline=8 * _HOUR,
                interrupted=_at("2026-06-14T03:00"),
                last_scheduled=_at("2026-06-14T03:00"),
            ),
            Missed(_LAST_NIGHT),
        ),
        # A person's request is no matter of the schedule.
        (_state(schedule=_NIGHTLY, deadline=8 * _HOUR, request="now"), Due(Trigger.REQUEST, plan_only=False)),
        (_state(planned=None, schedule=_NIGHTLY, deadline=8 * _HOUR), _PLAN),
    ],
)
def test_a_time_that_was_missed_by_more_than_the_deadline_is_told_once_and_not_run(
    state: State, expected: Due | Missed | Wait
) -> None:
    assert due(state, _NOON) == expected


def test_the_deadline_counts_from_the_start_that_was_announced() -> None:
    state = _state(schedule=_NIGHTLY, deadline=timedelta(seconds=10), jitter=_HOUR)
    assert state.timetable is not None
    start = state.timetable.start(_LAST_NIGHT)
    assert start > _LAST_NIGHT + timedelta(seconds=10)
    assert due(state, start + timedelta(seconds=10)) == _RUN_LAST_NIGHT
    assert due(state, start + timedelta(seconds=11)) == Missed(_LAST_NIGHT)


# Jitter

_UIDS = [f"6f9619ff-8b86-d011-b42d-00c04fc9{number:04x}" for number in range(1000)]


def test_policies_of_one_minute_are_spread_evenly_and_each_always_the_same() -> None:
    spread = [Timetable(_NIGHTLY, uid, timedelta(seconds=60)).start(_LAST_NIGHT) - _LAST_NIGHT for uid in _UIDS]
    again = [Timetable(_NIGHTLY, uid, timedelta(seconds=60)).start(_LAST_NIGHT) - _LAST_NIGHT for uid in _UIDS]
    assert spread == again
    assert min(spread) >= timedelta(0)
    assert max(spread) < timedelta(seconds=60)
    quarters = [sum(15 * part <= each.total_seconds() < 15 * part + 15 for each in spread) for part in range(4)]
    assert all(200 < quarter < 300 for quarter in quarters)


def test_without_jitter_a_run_starts_at_its_time() -> None:
    assert Timetable(_NIGHTLY, "a-uid").start(_LAST_NIGHT) == _LAST_NIGHT


_TEXTS = ["* * * * *", "*/7 * * * *", "0 * * * *", "59 23 * * *", "0,1 3 * * *", "30 2 * * *", "0 0 29 2 *"]
_ZONES = [
    _UTC,
    _BERLIN,
    _NEW_YORK,
    "Asia/Kolkata",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Santiago",
    "Pacific/Apia",
]


@given(
    st.sampled_from(_TEXTS),
    st.sampled_from(_ZONES),
    st.uuids(),
    st.integers(min_value=0, max_value=3600),
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001 - hypothesis adds the zone
)
def test_no_run_is_delayed_by_more_than_half_the_way_to_the_next_time(
    text: str, zone: str, uid: UUID, seconds: int, instant: datetime
) -> None:
    schedule = _schedule(text, zone)
    timetable = Timetable(schedule, str(uid), timedelta(seconds=seconds))
    time = schedule.after(instant.replace(tzinfo=UTC))
    delay = timetable.start(time) - time
    assert timedelta(0) <= delay <= min(timedelta(seconds=seconds), (schedule.after(time) - time) / 2)


@given(
    text=st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "0,1 3 * * *"]),
    zone=st.sampled_from(_ZONES),
    uid=st.uuids(),
    jitter=st.integers(min_value=0, max_value=3600),
    waits=st.lists(st.integers(min_value=1, max_value=5400), min_size=1, max_size=20),
    patient=st.booleans(),
)
def test_each_time_runs_once_in_its_order_whenever_the_policy_is_looked_at(
    text: str, zone: str, uid: UUID, jitter: int, waits: list[int], *, patient: bool
) -> None:
    """Looked at often enough every time runs; looked at seldom, the last one runs for those before it."""
    schedule = _schedule(text, zone)
    begin = now = _at("2026-10-24T22:00")
    ran: list[datetime] = []
    last = None
    for wait in waits:
        now += timedelta(seconds=min(wait, 20) if patient else wait)
        state = State(
            1, 1, begin, None, None, Timetable(schedule, str(uid), timedelta(seconds=jitter)), last, dry_run=False
        )
        match due(state, now):
            case Due(scheduled_for=time):
                assert time is not None
                assert last is None or time > last
                ran.append(time)
                last = time
            case Wait(until):
                assert until is not None
                assert until > now
                asked = due(state, until)
                assert isinstance(asked, Due)
                assert asked.scheduled_for is not None
                timetable = state.timetable
                assert timetable is not None
                assert timetable.start(asked.scheduled_for) == until
                # Not a moment before.
                assert due(state, until - timedelta.resolution) == Wait(until)
            case Missed():
                raise AssertionError
    if patient:
        timetable = Timetable(schedule, str(uid), timedelta(seconds=jitter))
        assert ran == _started(timetable, begin, now)


def _started(timetable: Timetable, after: datetime, until: datetime) -> list[datetime]:
    """Return the times whose starts lie between, one after the other."""
    found = []
    time = timetable.schedule.after(after - timedelta(hours=2))
    while time <= until:
        if after < timetable.start(time) <= until:
            found.append(time)
        time = timetable.schedule.after(time)
    return found


def test_a_plan_that_is_made_between_a_time_and_its_start_does_not_hide_what_was_announced() -> None:
    timetable = Timetable(_NIGHTLY, "a-uid", _HOUR)
    between = _LAST_NIGHT + timedelta(seconds=1)
    assert timetable.next_start(between) == timetable.start(_LAST_NIGHT)
    state = _state(schedule=_NIGHTLY, planned_at=between, jitter=_HOUR)
    assert due(state, timetable.start(_LAST_NIGHT)) == _RUN_LAST_NIGHT
    after = _state(schedule=_NIGHTLY, planned_at=timetable.start(_LAST_NIGHT), jitter=_HOUR)
    assert isinstance(due(after, _NOON), Wait)


# An oracle that knows nothing of cron but its fields, and looks at every minute


def _field(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (str(low) + "-" + str(high) if span == "*" else span).partition("-")
        end = int(last) if last else high if step else int(first)
        found |= set(range(int(first), end + 1, int(step or 1)))
    return found


def _naive(text: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Return the minutes whose local time the expression names, each local time once."""
    minute, hour, day, month, weekday = text.split()
    minutes, hours, months = _field(minute, 0, 59), _field(hour, 0, 23), _field(month, 1, 12)
    days, weekdays = _field(day, 1, 31), {number % 7 for number in _field(weekday, 0, 7)}
    found = []
    instant = after.replace(second=0, microsecond=0)
    while instant < until:
        instant += timedelta(minutes=1)
        local = instant.astimezone(parse_time_zone(zone))
        on_day, on_weekday = local.day in days, local.isoweekday() % 7 in weekdays
        # Of day and weekday one is enough where both are named.
        right_day = on_day and on_weekday if "*" in (day[0], weekday[0]) else on_day or on_weekday
        if (
            local.fold == 0
            and local.minute in minutes
            and local.hour in hours
            and local.month in months
            and right_day
            and after < instant <= until
        ):
            found.append(instant)
    return found


def _any_of(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.lists(one.map(str), min_size=1, max_size=3).map(",".join),
        st.integers(2, 30).map(lambda step: f"*/{step}"),
        st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    )


# Around the changes of all zones above, and a day that Samoa left out.
_CHANGES = [
    "2026-03-07T12:00",
    "2026-03-28T12:00",
    "2026-04-04T00:00",
    "2026-09-05T12:00",
    "2026-09-26T00:00",
    "2026-10-03T00:00",
    "2026-10-24T12:00",
    "2026-10-31T12:00",
    "2011-12-29T12:00",
]


@given(
    st.tuples(_any_of(0, 59), _any_of(0, 23), _any_of(1, 31), st.just("*"), _any_of(0, 7)).map(" ".join),
    st.sampled_from(_ZONES),
    st.sampled_from(_CHANGES),
    st.integers(0, 2160),
)
def test_the_times_are_those_that_a_look_at_every_minute_finds(text: str, zone: str, change: str, minutes: int) -> None:
    try:
        schedule = _schedule(text, zone)
    except InvalidScheduleError:
        assume(False)
    after = _at(change) + timedelta(minutes=minutes)
    until = after + timedelta(hours=12)
    found = []
    time = schedule.after(after)
    while time <= until:
        found.append(time)
        time = schedule.after(time)
    expected = _naive(text, zone, after, until)
    assert found == expected
    assert schedule.latest(after, until) == (expected[-1] if expected else None)


@pytest.mark.parametrize(
    ("zone", "text", "after", "until", "times"),
    [
        # Half an hour is skipped, and repeated: in October and in April.
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-02T00:00",
            "2026-10-05T00:00",
            ["2026-10-02 15:45", "2026-10-04 15:15"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-03T00:00",
            "2026-04-06T00:00",
            ["2026-04-03 14:45", "2026-04-04 14:45", "2026-04-05 15:15"],
        ),
        # The southern half, where clocks go back in April.
        (
            "America/Santiago",
            "30 23 * * *",
            "2026-04-03T00:00",
            "2026-04-06T00:00",
            ["2026-04-03 02:30", "2026-04-04 02:30", "2026-04-05 02:30"],
        ),
        # Zones that are no whole hours away, of which one has daylight saving.
        ("Asia/Kolkata", "0 3 * * *", "2026-06-15T00:00", "2026-06-16T00:00", ["2026-06-15 21:30"]),
        ("Pacific/Chatham", "0 3 * * *", "2026-06-15T00:00", "2026-06-16T00:00", ["2026-06-15 14:15"]),
        (
            "America/St_Johns",
            "30 2 * * *",
            "2026-03-06T12:00",
            "2026-03-09T12:00",
            ["2026-03-07 06:00", "2026-03-09 05:00"],
        ),
        # The Friday that Samoa never had.
        (
            "Pacific/Apia",
            "@daily",
            "2011-12-28T12:00",
            "2011-12-31T12:00",
            ["2011-12-29 10:00", "2011-12-30 10:00", "2011-12-31 10:00"],
        ),
    ],
)
def test_changes_of_half_an_hour_of_the_southern_half_and_of_a_whole_day_are_followed(
    zone: str, text: str, after: str, until: str, times: list[str]
) -> None:
    assert _times(_schedule(text, zone), after, until) == times
