"""The table: each client's figures, and each target with the median of its ratios and their spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.speed.rounds import Figures

BARE = "bare client"
OURS = "operator"


@dataclass(frozen=True, slots=True)
class Target:
    """What issue 8 wants.

    Attributes:
        what: is measured.
        bound: that the median has to keep.
        values: one for each round.
        at_least: whether the bound is the least, and not the most.
        unit: of values and bound.
    """

    what: str
    bound: float
    values: Sequence[float]
    at_least: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the median keeps the bound."""
        middle = median(self.values)
        return middle >= self.bound if self.at_least else middle <= self.bound


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one kind of work.

    Attributes:
        title: of it.
        rounds: the figures of each client, round by round.
        targets: of this work.
        notes: below the table.
    """

    title: str
    rounds: Mapping[str, Sequence[Figures]]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def ratios(one: Sequence[Figures], other: Sequence[Figures]) -> list[float]:
    """Return how many times as long as `other` the work of `one` took, round by round."""
    return [a.seconds / b.seconds for a, b in zip(one, other, strict=True)]


def start_up_ratios(one: Sequence[Figures], other: Sequence[Figures]) -> list[float]:
    """Return the same, each with its start-up."""
    return [a.whole / b.whole for a, b in zip(one, other, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Return the median with the least and the greatest."""
    return f"{_short(median(values))} ({_short(min(values))} to {_short(max(values))})"


def lines(section: Section) -> Iterator[str]:
    """Yield the lines of a section."""
    yield f"## {section.title}, {len(next(iter(section.rounds.values())))} rounds"
    yield ""
    yield "| client | tags/s | requests per tag | client CPU ms per tag | peak MB above idle | x bare | x operator |"
    yield "|---|---|---|---|---|---|---|"
    bare, ours = section.rounds.get(BARE), section.rounds.get(OURS)
    for client, rounds in section.rounds.items():
        counted = [one.requests / one.tags for one in rounds if one.requests is not None]
        memory = [one.memory / 1e6 for one in rounds if one.memory is not None]
        cells = (
            client,
            _short(median(one.tags / one.seconds for one in rounds)),
            f"{median(counted):.4g}" if counted else "",
            f"{median(one.cpu * 1000 / one.tags for one in rounds):.3f}",
            _short(max(memory)) if memory else "",
            spread(ratios(rounds, bare)) if bare and client != BARE else "",
            spread(start_up_ratios(rounds, ours)) if ours and client not in (BARE, OURS) else "",
        )
        yield f"| {' | '.join(cells)} |"
    if section.targets:
        yield ""
        yield "| target | median (least to greatest) | bound | reached |"
        yield "|---|---|---|---|"
    for target in section.targets:
        bound = f"at {'least' if target.at_least else 'most'} {_short(target.bound)}{target.unit}"
        answer = "yes" if target.reached else "NO"
        yield f"| {target.what} | {spread(target.values)}{target.unit} | {bound} | {answer} |"
    yield ""
    yield from (f"{note}" for note in section.notes)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
