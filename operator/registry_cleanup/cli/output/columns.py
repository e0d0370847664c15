"""Columns of text that fit a terminal, and are never cut or wrapped elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_GAP = 2
# The first column is folded down to this before other columns go, and to the second before the last of them does.
_COMFORTABLE = 32
_READABLE = 24
# Narrower than this it says nothing any more.
_NARROWEST = 16


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: above it.
        cells: one for each row.
        right: whether numbers stand below each other.
        short: the same cells in fewer words, for narrow terminals.
        rank: what is left out first where it gets too narrow, the highest first; 0 stays.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    short: Sequence[str] | None = None
    rank: int = 0

    @property
    def width(self) -> int:
        """Characters that it takes."""
        return max(map(len, (self.title, *self.cells)))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Columns that fit.

    Attributes:
        lines: of text, the titles first.
        left_out: titles of the columns for which there was no room.
    """

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def fit(columns: Sequence[Column], width: int | None) -> Fitted:
    """Return `columns` as lines of at most `width` characters; None for lines of any length.

    Where they do not fit, cells get shorter, then the least important columns go, then the first one is folded.
    """
    shown = list(columns)
    if width is not None and _width(shown) > width:
        shown = [replace(column, cells=column.short) if column.short is not None else column for column in shown]
        while (last := max(shown, key=lambda column: column.rank)).rank > 0:
            least = min(shown[0].width, _COMFORTABLE if last.rank > 1 else _READABLE)
            if _width(shown) - shown[0].width + least <= width:
                break
            shown.remove(last)
    kept = {column.title for column in shown}
    left_out = tuple(column.title for column in columns if column.title not in kept)
    room = None if width is None else max(width - _width(shown) + shown[0].width, _NARROWEST)
    return Fitted(tuple(_lines(shown, room)), left_out)


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _lines(columns: Sequence[Column], room: int | None) -> Iterator[str]:
    first, *others = columns
    widths = [first.width if room is None else min(first.width, room), *(column.width for column in others)]
    rows = [[column.title for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    for head, *rest in rows:
        beginning, *more = _folded(head, widths[0])
        cells = [beginning.ljust(widths[0])]
        for column, width, cell in zip(others, widths[1:], rest, strict=True):
            cells.append(cell.rjust(width) if column.right else cell.ljust(width))
        yield (" " * _GAP).join(cells).rstrip()
        yield from more


def _folded(text: str, width: int) -> list[str]:
    """Cut a long name into lines, of which all but the first are indented."""
    if len(text) <= width:
        return [text]
    lines, rest = [text[:width]], text[width:]
    while rest:
        lines.append("  " + rest[: width - 2])
        rest = rest[width - 2 :]
    return lines
