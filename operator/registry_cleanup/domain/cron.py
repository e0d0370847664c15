"""The times of a cron expression in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# Days of the week and of the month meet in every way within 28 years.
_LONGEST_GAP = timedelta(days=28 * 365 + 8)
_BEFORE = datetime(2023, 12, 31, 23, 59)  # noqa: DTZ001 - local times have no zone here


class InvalidScheduleError(ValueError):
    """A schedule or a time zone that cannot be understood; the message says why."""


def parse_time_zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name; raise `InvalidScheduleError` for any other."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidScheduleError(
            "is not an IANA time zone; write for example 'Europe/Berlin' or 'Etc/UTC'"
        ) from error


class Schedule:
    """The times of a five-field cron expression or macro in one time zone.

    As design and CronJob have it: a local time that daylight saving skips is skipped, and one that it repeats
    counts once, at its first occurrence.
    """

    __slots__ = ("_expression", "_zone", "text")

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        """Parse `text`; raise `InvalidScheduleError` where it is no schedule or never comes."""
        self.text = text
        self._zone = zone
        self._expression = _MACROS.get(text.strip(), text)
        if len(self._expression.split()) != 5:
            raise InvalidScheduleError("needs five fields (minute hour day month weekday) or a macro such as '@daily'")
        try:
            next(CronSim(self._expression, datetime(2024, 1, 1)))  # noqa: DTZ001 - local times have no zone here
        except CronSimError as error:
            raise InvalidScheduleError(f"is not a cron expression ({error}); write for example '0 3 * * *'") from error
        except StopIteration as error:
            raise InvalidScheduleError("names a day that never comes") from error

    def after(self, instant: datetime) -> datetime:
        """Return the first scheduled time later than `instant`, in UTC."""
        return next(time for time in self._times(instant) if time > instant)

    @property
    def smallest_gap(self) -> timedelta:
        """The least time between two scheduled times, by the clock of the time zone.

        A change to daylight saving may shorten one gap by an hour, for which nobody would call `@daily` too often.
        """
        return _smallest_gap(self._expression)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last scheduled time later than `after` and not later than `until`, if there is one.

        However many were missed in between, they count once.
        """
        first = self.after(after)
        if first > until:
            return None
        # Looking back from the end first finds the last time of a long gap without walking all of it.
        for back in (timedelta(hours=2), timedelta(days=2), timedelta(days=62)):
            if until - back > first:
                found = self._last(until - back, until)
                if found is not None:
                    return found
        return self._last(first - timedelta(seconds=1), until)

    def _last(self, after: datetime, until: datetime) -> datetime | None:
        last = None
        time = self.after(after)
        while time <= until:
            last, time = time, self.after(time)
        return last

    def _times(self, instant: datetime) -> Iterator[datetime]:
        # What the local clock showed before, it showed first at an instant before; in the second pass of a repeated
        # hour that holds for some times that it shows later, too.
        local = instant.astimezone(self._zone).replace(tzinfo=None)
        for naive in CronSim(self._expression, local):
            time = naive.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
            if time.astimezone(self._zone).replace(tzinfo=None) == naive:  # else daylight saving skips it
                yield time


@lru_cache(maxsize=1024)
def _smallest_gap(expression: str) -> timedelta:
    """Return the least time between two times of five fields: those of one day, and those of days that follow."""
    minutes, hours, *days = expression.split()
    every_day = CronSim(f"{minutes} {hours} * * *", _BEFORE)
    start = next(every_day)
    times = [start]
    while (time := next(every_day)) < start + timedelta(days=1):
        times.append(time)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    over_night = start + timedelta(days=1) - times[-1]
    return min([*gaps, over_night + _smallest_days(" ".join(days)) - timedelta(days=1)])


@lru_cache(maxsize=1024)
def _smallest_days(fields: str) -> timedelta:
    """Return the least time from one day to the next by the last three of five fields: many policies share those."""
    least = _LONGEST_GAP
    days = CronSim(f"0 0 {fields}", _BEFORE)
    for earlier, later in pairwise(takewhile(lambda day: day < _BEFORE + _LONGEST_GAP, days)):
        least = min(least, later - earlier)
        if least == timedelta(days=1):
            break
    return least
