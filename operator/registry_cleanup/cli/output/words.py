"""Numbers, sizes, dates and digests as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
# What a digest is called by people: as many digits as Docker shows.
DIGITS = 12


def count(number: int, one: str, many: str = "") -> str:
    """Return a number of something, such as `1 tag` and `1,200 tags`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int) -> str:
    """Return so many bytes in the unit that keeps it short."""
    value, unit = float(number), "B"
    for larger in _UNITS:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def short_digest(digest: str) -> str:
    """Return the beginning of a digest's hexadecimal digits."""
    return digest.partition(":")[2][:DIGITS]


def day(date: str) -> str:
    """Return the day of an ISO date."""
    return date[:10]


def safe(text: str) -> str:
    """Return `text` without characters that would do something to a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def freed_when(head: Mapping[str, Any]) -> str:
    """Return when the space of a plan comes back, of which `head` is the first line.

    Docker Distribution's garbage collection spares untagged manifests, with all their blobs, unless it is told not to.
    """
    collected = "once the registry's garbage collection has run"
    if not (left := head.get("untaggedManifestsLeft")):
        return collected
    return f"{collected} with --delete-untagged: {count(left, 'manifest')} would be left untagged (untagged: Keep)"
