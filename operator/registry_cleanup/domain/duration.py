"""Durations as people write them: `30d`, `12h`, `1d12h`; a day is 24 h."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"(?:([0-9]{1,19})d)?(?:([0-9]{1,19})h)?(?:([0-9]{1,19})m)?(?:([0-9]{1,19})s)?")
# Longer than any registry has existed; larger numbers overflow dates, which has emptied registries elsewhere.
LONGEST = timedelta(days=36500)


def parse_duration(text: str) -> timedelta:
    """Return the duration of `30d`, `12h`, `1d12h` and the like; a day is 24 h. Raises `ValueError`."""
    seconds = _seconds(text)
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError("must be more than 0 and at most 36500d")
    return timedelta(seconds=seconds)


def parse_period(text: str) -> timedelta:
    """Return a duration that may also be none at all, `0s`. Raises `ValueError`."""
    seconds = _seconds(text)
    if seconds > LONGEST.total_seconds():
        raise ValueError("must be at most 36500d")
    return timedelta(seconds=seconds)


def duration_text(duration: timedelta) -> str:
    """Return `duration` as `parse_period` reads it, in whole seconds."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("is not a duration; write for example '30d', '12h' or '1d12h' (units d, h, m, s)")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
