"""How long a schedule may be silent: the longest time between two of its times."""

from __future__ import annotations

from datetime import datetime, timedelta

from registry_cleanup.domain.cron import Schedule

# A week and a day see every weekend and every night; a year and a month, every season of a schedule that is rarer.
_DENSE, _RARE = timedelta(days=8), timedelta(days=400)
_FEW = 13
# Of a schedule with many times an hour, one time an hour is looked at.
_STRIDE = timedelta(hours=1)


def expected_interval(schedule: Schedule, now: datetime) -> timedelta:
    """Return the longest time between two runs that `schedule` plans after `now`.

    `0 3 * * 1-5` rests from Friday to Monday: three days, though most of its intervals are one. Where a schedule has
    several times an hour, the result may be up to an hour short of a longer rest.
    """
    start = time = schedule.after(now)
    longest, seen = timedelta(0), 0
    while True:
        following = schedule.after(time)
        longest, seen = max(longest, following - time), seen + 1
        span = following - start
        if span > _RARE or (span > _DENSE and seen >= _FEW):
            return longest
        time = max(following, time + _STRIDE)
