"""CSV: a header and one row for each tag, as RFC 4180 has it, and nothing that a spreadsheet calculates with."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.cli.plans.difference import Difference
from registry_cleanup.cli.plans.findings import Tag

COLUMNS = (
    "repository",
    "tag",
    "verdict",
    "reasons",
    "rule",
    "digest",
    "date",
    "dateSource",
    "size",
    "held",
    "outcome",
    "code",
    "users",
    "moreUsers",
    "subject",
    "setting",
)
DIFFERENCE_COLUMNS = ("change", "repository", "tag", "digest")
# A spreadsheet takes what begins with one of these for a formula; an apostrophe before it makes it text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(printed: Printed, out: TextIO) -> None:
    """Write a row for each tag, or with a difference for each tag that is planned otherwise."""
    writer = csv.writer(out, lineterminator="\r\n")
    if printed.difference is not None:
        writer.writerow(DIFFERENCE_COLUMNS)
        writer.writerows(map(_cell, row) for row in _changes(printed.difference))
        return
    writer.writerow(COLUMNS)
    for repository in printed.repositories():
        writer.writerows(map(_cell, _row(repository.name, tag)) for tag in repository.tags)


def _row(repository: str, tag: Tag) -> list[str]:
    line = tag.line
    known = {
        "repository": repository,
        "reasons": " ".join(tag.reasons),
        "held": tag.held,
        "outcome": tag.outcome,
        "code": tag.code,
        "users": "; ".join(line.get("users", ())),
    }
    return [_text(known.get(column, line.get(column))) for column in COLUMNS]


def _changes(difference: Difference) -> Iterator[tuple[str, str, str, str]]:
    for change, items in (("new", difference.new), ("dropped", difference.dropped), ("pruned", difference.pruned)):
        for item in items:
            yield change, *item


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
