"""When a garbage collection is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from registry_cleanup.domain.schedule import Timetable


@dataclass(frozen=True, slots=True)
class Due:
    """A collection is due: by a request where there is no time of the schedule."""

    time: datetime | None


def due(
    request: str | None,
    handled: str | None,
    timetable: Timetable,
    answered: datetime | None,
    counts_from: datetime,
    now: datetime,
) -> Due | datetime:
    """Say what is due now, or when the next collection is.

    Args:
        request: that the policy bears, if it bears one.
        handled: the last one that was answered.
        timetable: when scheduled ones begin.
        answered: the last time of the schedule that was answered.
        counts_from: only times later than this count.
        now: the time.
    """
    if answered is not None and answered > now:
        answered = now  # a clock that was ahead wrote it
    time = timetable.latest(answered, counts_from, now)
    if time is not None or (request is not None and request != handled):
        return Due(time)
    return timetable.next_start(now)
