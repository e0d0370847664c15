"""Numbers, sizes, dates and digests as people read them, and columns of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
# What a digest is called by people: as many digits as Docker shows.
_DIGITS = 12
_GAP = "  "


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
    return digest.partition(":")[2][:_DIGITS]


def day(date: str) -> str:
    """Return the day of an ISO date."""
    return date[:10]


def safe(text: str) -> str:
    """Return `text` without characters that would do something to a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None, least: Sequence[int], indent: str
) -> Iterator[str]:
    """Yield a header and rows in columns, nothing of them cut.

    Args:
        header: titles of the columns.
        rows: as many cells in each.
        width: of the terminal; None for any. Where it is too narrow, columns are left out.
        least: which columns, by their places, the least important first.
        indent: before each.
    """
    widths = [max(map(len, (title, *cells))) for title, *cells in zip(header, *rows, strict=True)]
    kept = [place for place, title in enumerate(header) if any(row[place] for row in rows) or place == 0]
    for place in least:
        if width is None or _width(indent, widths, kept) <= width:
            break
        kept = [other for other in kept if other != place]
    for row in (header, *rows):
        yield f"{indent}{_GAP.join(row[place].ljust(widths[place]) for place in kept)}".rstrip()


def _width(indent: str, widths: Sequence[int], kept: Sequence[int]) -> int:
    return len(indent) + sum(widths[place] for place in kept) + len(_GAP) * (len(kept) - 1)
