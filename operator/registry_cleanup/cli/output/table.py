"""The table for people: what goes and what stays, by repository and reason, then the totals and what holds it back.

On a terminal it has colours, fits its width, and shows the first tags of each group. Elsewhere it is plain and whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from textwrap import wrap
from typing import Any, NamedTuple, TextIO, TypeVar

from rich.console import Console
from rich.text import Text

from registry_cleanup.cli.output.columns import Column, fit
from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.cli.output.words import count, day, freed_when, safe, short_digest, size
from registry_cleanup.cli.plans.difference import Difference, Item
from registry_cleanup.cli.plans.findings import Repository, Tag, groups
from registry_cleanup.domain.report import Line

# Of one group, so many tags are shown on a terminal.
_MOST_ON_A_TERMINAL = 30
# What a narrow terminal has no room for has the highest rank; 0 stays.
_COLUMNS = {"TAG": 0, "DATE": 1, "SIZE": 2, "DIGEST": 3, "NOTE": 0}
_INDENT = "    "
# Width of what stands before a fact.
_TITLE = 15
# These are planned, though they stay for now.
_WAITS = ("GracePeriod", "LimitTruncated", "Undone")
_Shown = TypeVar("_Shown")
_STYLES = {"title": "bold", "going": "red", "stays": "green", "dim": "dim", "warning": "yellow"}


@dataclass(frozen=True, slots=True)
class _Paper:
    """What is written on.

    Attributes:
        width: of the terminal; None for what is none.
        whole: what shows all that a terminal does not.
        left_out: titles of the columns for which there was no room.
    """

    width: int | None
    whole: str
    left_out: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """A line of text, and in what style it is shown."""

    text: str
    style: str | None = None


def write_table(printed: Printed, out: TextIO) -> None:
    """Print the table."""
    if not out.isatty():
        out.writelines(f"{safe(row.text)}\n" for row in rows(printed, None))
        return
    console = Console(file=out, highlight=False, soft_wrap=True, emoji=False, markup=False)
    for row in rows(printed, console.width):
        console.print(Text(safe(row.text), style=_STYLES.get(row.style or "", "")))


def rows(printed: Printed, width: int | None) -> Iterator[Row]:
    """Yield all lines, for a terminal of this width, or None for what is none."""
    paper = _Paper(width, printed.whole)
    if printed.difference is not None:
        yield from _difference(printed.difference, paper)
    else:
        yield from chain.from_iterable(_repository(repository, paper) for repository in printed.repositories())
    yield from _totals(printed, width)
    if paper.left_out:
        titles = ", ".join(title for title in _COLUMNS if title in paper.left_out)
        yield from _told("Note", [f"too narrow for {titles}; -o json has everything"], "dim", width)


def _repository(repository: Repository, paper: _Paper) -> Iterator[Row]:
    yield Row(repository.name, "title")
    if repository.incomplete is not None:
        listed = f", all {count(repository.listed, 'listed tag')} stay" if repository.listed else ""
        yield Row(f"  could not be read whole ({repository.incomplete}){listed}", "warning")
    if repository.cut is not None:
        yield Row(
            f"  left out of the report, which would have grown too large: {count(repository.cut, 'line')}", "warning"
        )
    for heading, tags in groups(repository.tags):
        yield Row(f"  {heading} ({count(len(tags), 'tag')})", "going" if tags[0].goes else "stays")
        yield from _tags(tags, paper)
    if repository.untagged:
        outcomes = Counter(str(line["outcome"]) for line in repository.untagged if "outcome" in line)
        told = "".join(f", {number:,} {outcome}" for outcome, number in sorted(outcomes.items()))
        yield Row(f"  left without a name ({count(len(repository.untagged), 'manifest')}{told})", "dim")
    yield Row("")


def _tags(tags: Sequence[Tag], paper: _Paper) -> Iterator[Row]:
    # Where all have the same note, it stands once.
    notes = {_note(tag) for tag in tags}
    common = notes.pop() if len(notes) == 1 else None
    if common:
        yield Row(f"    {common}", "warning")
    shown = [_cells(tag, "" if common is not None else _note(tag)) for tag in _first(tags, paper.width)]
    header, *lines = _lines(_COLUMNS, shown, paper)
    yield Row(header, "dim")
    yield from map(Row, lines)
    yield from _more(len(tags), paper)


def _lines(ranks: Mapping[str, int], rows: Sequence[Sequence[str]], paper: _Paper) -> Iterator[str]:
    """Yield titles, of which each has its rank, and rows below them; columns that are empty everywhere are left out."""
    shown = [
        Column(title, cells, right=title == "SIZE", rank=rank)
        for (title, rank), *cells in zip(ranks.items(), *rows, strict=True)
        if any(cells)
    ]
    fitted = fit(shown, None if paper.width is None else paper.width - len(_INDENT))
    paper.left_out.extend(fitted.left_out)
    yield from (f"{_INDENT}{line}" for line in fitted.lines)


def _first(items: Sequence[_Shown], width: int | None) -> Sequence[_Shown]:
    return items if width is None else items[:_MOST_ON_A_TERMINAL]


def _more(number: int, paper: _Paper) -> Iterator[Row]:
    if paper.width is not None and number > _MOST_ON_A_TERMINAL:
        more = f"{_INDENT}… and {number - _MOST_ON_A_TERMINAL:,} more; all of them:"
        # A command is whole even where it has no room.
        lines = [f"{more} {paper.whole}"]
        if len(lines[0]) > paper.width:
            lines = [more, f"{_INDENT}  {paper.whole}"]
        yield from (Row(line, "dim") for line in lines)


def _cells(tag: Tag, note: str) -> tuple[str, ...]:
    line = tag.line
    return (
        tag.name,
        day(line["date"]) if "date" in line else "",
        size(line["size"]) if "size" in line else "",
        short_digest(line["digest"]) if "digest" in line else "",
        note,
    )


def _note(tag: Tag) -> str:
    """Return what else there is to say of a tag."""
    line = tag.line
    parts = []
    if tag.held is not None:
        parts.append(f"waits: {tag.held}")
    if tag.outcome is not None:
        parts.append(tag.outcome if tag.code is None else f"{tag.outcome} ({tag.code})")
    if line.get("users"):
        more = f" and {line['moreUsers']} more" if "moreUsers" in line else ""
        parts.append(f"used by {', '.join(line['users'])}{more}")
    if "setting" in line:
        parts.append(f"by the operator's setting {line['setting']}")
    return "; ".join(parts)


def _totals(printed: Printed, width: int | None) -> Iterator[Row]:
    summary = printed.summary
    run, plan = summary.run, summary.plan
    kept = {reason: number for reason, number in (run.get("keptByReason") or {}).items() if reason not in _WAITS}
    if kept:
        yield Row("Kept by reason", "title")
        widest = max(map(len, kept))
        ordered = sorted(kept.items(), key=lambda item: (-item[1], item[0]))
        yield from (Row(f"  {reason.ljust(widest)}  {number:,}") for reason, number in ordered)
        yield Row("")
    facts = {
        "Policy": f"{summary.policy['namespace']}/{summary.policy['name']}, from {summary.policy['from']}",
        "Registry": run["registry"],
        "Run": " ".join(filter(None, (run["id"], run.get("phase")))),
        "Scanned": _scanned(run.get("counts")),
        "Plan": plan["hash"],
        "Made": _time(plan["generatedAt"]),
        "Prunable from": _prunable_from(plan),
        "Frees": _freed(plan, printed.head),
    }
    for title, told in facts.items():
        # A hash is whole even where it has no room.
        yield from _told(title, [told], None, width)
    yield from _told("Result", (run.get("message") or "").split("; "), None, width)
    yield from _told("Held back by", summary.held_back(), "warning", width)


def _freed(plan: Mapping[str, Any], head: Line) -> str:
    much = plan.get("reclaimableBytes")
    return f"about {size(much)}, {freed_when(head)}" if much else ""


def _told(title: str, parts: Sequence[str], style: str | None, width: int | None) -> Iterator[Row]:
    """Yield several things that have one title, each on as many lines as a terminal of this width needs."""
    for part in filter(None, parts):
        for line in [part] if width is None else wrap(part, max(width - _TITLE, _TITLE), break_long_words=False):
            yield Row(f"{title.ljust(_TITLE)}{line}", style)
            title = ""


def _scanned(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return ""
    failed = f", {counts['repositoriesFailed']} more could not be read" if counts.get("repositoriesFailed") else ""
    where = count(counts["repositoriesScanned"], "repository", "repositories")
    return f"{count(counts['tagsScanned'], 'tag')} in {where}{failed}"


def _prunable_from(plan: Mapping[str, Any]) -> str:
    if not plan.get("prunableFrom"):
        return ""
    return f"{_time(plan['prunableFrom'])}{'' if plan.get('published', True) else ', if it were published now'}"


def _difference(difference: Difference, paper: _Paper) -> Iterator[Row]:
    yield from _items("New in this plan", difference.new, "going", paper)
    yield from _items("Not planned any more", difference.dropped, "stays", paper)
    if difference.nameless:
        yield Row(f"  and {count(difference.nameless, 'tag')} that the last report does not name", "stays")
        yield Row("")
    yield from _items("Pruned since", difference.pruned, "dim", paper)
    told = "the same hash as" if difference.same else "another hash than"
    yield Row(
        f"{told} the published plan {difference.published} of {_time(difference.published_at)}: "
        f"{len(difference.new):,} new, {len(difference.dropped) + difference.nameless:,} dropped, "
        f"{len(difference.pruned):,} pruned, {difference.unchanged:,} in both",
        "title",
    )
    yield Row("")


def _items(title: str, items: Sequence[Item], style: str, paper: _Paper) -> Iterator[Row]:
    if not items:
        return
    yield Row(f"{title} ({count(len(items), 'tag')})", style)
    shown = [(f"{item.repository}:{item.tag}", short_digest(item.digest)) for item in _first(items, paper.width)]
    yield from map(Row, _lines({"TAG": 0, "DIGEST": 1}, shown, paper))
    yield from _more(len(items), paper)
    yield Row("")


def _time(text: str) -> str:
    """Return an instant as people write it, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
