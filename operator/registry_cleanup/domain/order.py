"""The order in which `keep.mostRecent` counts: by date, or by a version that the tag itself spells."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

# Semantic Versioning 2.0.0, "Backus-Naur Form Grammar", with the `v` that tags begin with.
_SEMVER = re.compile(
    r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

_Identifier: TypeAlias = tuple[int, int, str]
_SemVer: TypeAlias = tuple[int, int, int, int, tuple[_Identifier, ...]]
Version: TypeAlias = _SemVer | Decimal | str
"""Something to compare; of one `OrderBy` only. The greatest is the most recent."""


class OrderBy(StrEnum):
    """What makes one image more recent than another."""

    DATE = "Date"
    SEM_VER = "SemVer"  # as Semantic Versioning 2.0.0 orders; a leading `v` is passed over
    NUMERICAL = "Numerical"  # exact, however many digits
    ALPHABETICAL = "Alphabetical"  # by code points: 9 comes after 10


def parse_version(order: OrderBy, text: str) -> Version | None:
    """Return what `text` stands for in an order other than `DATE`; None where it spells no version."""
    match order:
        case OrderBy.SEM_VER:
            return _sem_ver(text)
        case OrderBy.NUMERICAL:
            return Decimal(text) if _NUMBER.fullmatch(text) else None
        case OrderBy.ALPHABETICAL:
            return text
        case OrderBy.DATE:
            raise ValueError("a date is not read from a tag")


def _sem_ver(text: str) -> _SemVer | None:
    """Return the precedence of a version; build metadata has none (section 10), so such versions are equal."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    major, minor, patch, before = match.groups()
    # Section 11: a pre-release comes before its release; numbers before words; more identifiers after fewer.
    identifiers = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in (before.split(".") if before else ())
    )
    return int(major), int(minor), int(patch), 0 if before else 1, identifiers
