"""What the page shows: the lines of a report, gathered by repository in columns, with every string written once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from registry_cleanup.cli.page.words import GONE, Standing, standing, visible

Line = Mapping[str, Any]
# So much of a digest is told: enough to know it again, and half a megabyte less for 10,000 tags.
_DIGEST_SHOWN = len("sha256:") + 12


class _Pool:
    """Values, each with the number that stands for it."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:  # noqa: ANN401 - any value that can be hashed
        return self.numbers.setdefault(value, len(self.numbers))

    def values(self) -> list[Any]:
        return list(self.numbers)


@dataclass(slots=True)
class Repository:
    """One repository; the lists have one entry for each tag, in the report's order.

    Attributes:
        name: its name.
        tags: names.
        verdicts: numbers in `Contents.verdicts`.
        dates: in seconds since 1970; None where no date is known.
        sizes: in bytes; None where unknown.
        digests: their beginnings, or the number of an earlier tag with the same digest; None where unknown.
        users: of a tag, by its number: numbers in `Contents.users`, and how many more there are.
        states: of a tag that is to go, by its number: why it is held, or its outcome, and the registry's code.
        standings: how many tags are kept, protected and going.
        untagged: digests of manifests that are left without a name, with their outcome where there is one.
        incomplete: why it could not be read whole, and how many tags were listed.
        cut: how many lines of it the report left out.
    """

    name: str
    tags: list[str] = field(default_factory=list)
    verdicts: list[int] = field(default_factory=list)
    dates: list[int | None] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)
    digests: list[str | int | None] = field(default_factory=list)
    users: dict[int, tuple[list[int], int]] = field(default_factory=dict)
    states: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    standings: Counter[Standing] = field(default_factory=Counter)
    untagged: dict[str, str | None] = field(default_factory=dict)
    incomplete: tuple[str, int] | None = None
    cut: int = 0
    _places: dict[str, int] = field(default_factory=dict)
    _first: dict[str, int] = field(default_factory=dict)

    def add(self, line: Line, verdict: int) -> int:
        """Take in a tag, and return its number."""
        number = len(self.tags)
        self._places[line["tag"]] = number
        self.tags.append(visible(line["tag"]))
        self.verdicts.append(verdict)
        self.dates.append(_seconds(line.get("date")))
        self.sizes.append(line.get("size"))
        digest = line.get("digest")
        if digest is None:
            self.digests.append(None)
        elif (first := self._first.setdefault(digest, number)) != number:
            self.digests.append(first)
        else:
            self.digests.append(digest[:_DIGEST_SHOWN])
        return number

    def state(self, tag: str, word: str, code: str | None) -> None:
        """Take in what became of a tag that was to go."""
        if (number := self._places.get(tag)) is not None:
            self.states[number] = (word, visible(code) if code is not None else None)

    def columns(self) -> dict[str, Any]:
        """Return all of it as the page's script reads it."""
        return {
            "name": self.name,
            "tags": self.tags,
            "verdicts": self.verdicts,
            "dates": self.dates,
            "sizes": self.sizes,
            "digests": self.digests,
            "users": {number: [*users, more] for number, (users, more) in self.users.items()},
            "states": self.states,
            "untagged": [list(self.untagged), [outcome for outcome in self.untagged.values() if outcome]],
            "incomplete": self.incomplete,
            "cut": self.cut,
        }


@dataclass(slots=True)
class Contents:
    """A report as the page shows it.

    Attributes:
        head: the first line of the report.
        repositories: in the report's order, by name.
        outcomes: of the tags, counted; empty where nothing was tried.
        held: number of tags that are held back, by reason.
    """

    head: Line
    repositories: dict[str, Repository] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    _verdicts: _Pool = field(default_factory=_Pool)
    _users: _Pool = field(default_factory=_Pool)

    @property
    def standings(self) -> Counter[Standing]:
        """How many tags are kept, protected and going."""
        return sum((repository.standings for repository in self.repositories.values()), Counter())

    @property
    def tried(self) -> bool:
        """Whether it is the report of a run that pruned, or tried to."""
        return bool(self.outcomes)

    @property
    def gone(self) -> int:
        """How many tags are no longer there."""
        return sum(number for outcome, number in self.outcomes.items() if outcome in GONE)

    @property
    def incomplete(self) -> Sequence[Repository]:
        """Repositories that could not be read whole."""
        return [repository for repository in self.repositories.values() if repository.incomplete is not None]

    def add(self, line: Line) -> None:
        """Take in one line; kinds that are unknown are for later versions of the page."""
        kind, name = line["type"], line.get("repository")
        if name is None:
            return
        repository = self.repositories.setdefault(name, Repository(visible(name)))
        if kind == "tag":
            self._tag(repository, line)
        elif kind == "held":
            self.held[line["reason"]] += 1
            repository.state(line["tag"], line["reason"], None)
        elif kind == "outcome":
            self.outcomes[line["outcome"]] += 1
            repository.state(line["tag"], line["outcome"], line.get("code"))
        elif kind == "untagged":
            repository.untagged[line["digest"]] = line.get("outcome")
        elif kind == "incomplete":
            repository.incomplete = (visible(line["reason"]), line["tags"])
        elif kind == "cut":
            repository.cut = line["lines"]

    def columns(self) -> dict[str, Any]:
        """Return all of it as the page's script reads it."""
        return {
            "verdicts": self._verdicts.values(),
            "users": self._users.values(),
            "repositories": [repository.columns() for repository in self.repositories.values()],
        }

    def _tag(self, repository: Repository, line: Line) -> None:
        prunes = line["verdict"] == "Prune"
        reasons = tuple(line["reasons"]) if prunes else (line["reason"],)
        where = standing(line["verdict"], line.get("reason"))
        pushed = line.get("dateSource") == "Pushed"
        repository.standings[where] += 1
        # Thousands of tags share a few of these.
        rule, setting = (visible(line[key]) if key in line else None for key in ("rule", "setting"))
        verdict = (where.value, reasons, rule, setting, pushed)
        number = repository.add(line, self._verdicts.number(verdict))
        if users := line.get("users"):
            numbers = [self._users.number(visible(user)) for user in users]
            repository.users[number] = (numbers, line.get("moreUsers", 0))


def gather(lines: Iterable[Line]) -> Contents:
    """Return what the lines of a report say, the first of which is its head.

    Raises:
        ValueError: they do not begin with a line `run`.
    """
    pending = iter(lines)
    head = next(pending, None)
    if head is None or head.get("type") != "run":
        raise ValueError("a report begins with a line of the type `run`")
    contents = Contents(head)
    for line in pending:
        contents.add(line)
    return contents


def _seconds(date: str | None) -> int | None:
    return int(datetime.fromisoformat(date).timestamp()) if date is not None else None
