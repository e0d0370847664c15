"""What the lines of a report say, repository by repository, and which of it a person wants to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby
from typing import Any

from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.report import Line
from registry_cleanup.domain.verdict import PROTECTED


class Show(Enum):
    """Which tags a person wants to see."""

    ALL = "all"
    GOING = "going"
    KEPT = "kept"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class Tag:
    """All that a report says of one tag.

    Attributes:
        name: of the tag.
        goes: whether it is planned.
        reasons: why it goes, one or several, or why it stays, one.
        line: of the report, with all else.
        held: why it does not go now, though it is planned.
        outcome: what became of it, where it was to go.
        code: the registry's, of an outcome.
    """

    name: str
    goes: bool
    reasons: tuple[str, ...]
    line: Line
    held: str | None = None
    outcome: str | None = None
    code: str | None = None

    @property
    def protected(self) -> bool:
        """Whether something else than a rule's retention keeps it."""
        return not self.goes and bool(PROTECTED.intersection(self.reasons))


@dataclass(frozen=True, slots=True)
class Repository:
    """All that a report says of one repository.

    Attributes:
        name: of the repository.
        tags: in the order of the report.
        untagged: lines of manifests that are left without a name.
        incomplete: why it could not be read whole; None where it could.
        listed: tags of it that were listed, where it could not be read whole.
        cut: number of lines that the report had no room for; None where it has them all.
        lines: all of the report's.
    """

    name: str
    tags: tuple[Tag, ...] = ()
    untagged: tuple[Line, ...] = ()
    incomplete: str | None = None
    listed: int = 0
    cut: int | None = None
    lines: tuple[Line, ...] = ()

    @property
    def going(self) -> int:
        """Number of tags that are planned."""
        return sum(tag.goes for tag in self.tags)


@dataclass(frozen=True, slots=True)
class View:
    """What a person wants to see of a report.

    Attributes:
        show: which tags, by what becomes of them.
        reasons: any of these; empty for whatever reason.
        outcome: only what came to this; None for whatever.
        repositories: only these; empty for all.
    """

    show: Show = Show.ALL
    reasons: frozenset[str] = frozenset()
    outcome: str | None = None
    repositories: tuple[RepositoryGlob, ...] = ()

    def of(self, repository: Repository) -> Repository | None:
        """Return what is to be seen of a repository; None where that is nothing."""
        if self.repositories and not any(glob.matches(repository.name) for glob in self.repositories):
            return None
        tags = tuple(tag for tag in repository.tags if self._shows(tag))
        untagged = tuple(line for line in repository.untagged if self._shows_untagged(line))
        if not tags and not untagged and repository.incomplete is None and repository.cut is None:
            return None
        shown = {tag.name for tag in tags}
        nameless = {line["digest"] for line in untagged}
        lines = tuple(line for line in repository.lines if _is_of(line, shown, nameless))
        return replace(repository, tags=tags, untagged=untagged, lines=lines)

    def _shows(self, tag: Tag) -> bool:
        chosen = {
            Show.ALL: True,
            Show.GOING: tag.goes,
            Show.KEPT: not tag.goes,
            Show.PROTECTED: tag.protected,
        }[self.show]
        by_reason = not self.reasons or bool(self.reasons.intersection((*tag.reasons, tag.held)))
        return chosen and by_reason and self.outcome in (None, tag.outcome)

    def _shows_untagged(self, line: Line) -> bool:
        going = self.show in (Show.ALL, Show.GOING) and not self.reasons
        return going and self.outcome in (None, line.get("outcome"))


def repositories(lines: Iterable[Line]) -> Iterator[Repository]:
    """Yield what a report says of each repository; its lines stand together, and the first, of the run, is not one."""
    for name, of_it in groupby(lines, key=lambda line: line["repository"]):
        yield _repository(str(name), tuple(of_it))


def groups(tags: Iterable[Tag]) -> Iterator[tuple[str, list[Tag]]]:
    """Yield the tags that one rule owns and that go, or stay, for the same reasons, with a heading; what goes first."""
    by_heading: dict[tuple[bool, str], list[Tag]] = {}
    for tag in tags:
        by_heading.setdefault((not tag.goes, _heading(tag)), []).append(tag)
    for (_, heading), together in sorted(by_heading.items(), key=lambda item: item[0]):
        yield heading, together


@dataclass(slots=True)
class _Fates:
    """What the lines of one repository say of its tags besides their verdicts."""

    held: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def _repository(name: str, lines: tuple[Line, ...]) -> Repository:
    by_type: dict[str, list[Line]] = {}
    for line in lines:
        by_type.setdefault(line["type"], []).append(line)
    fates = _Fates(
        {line["tag"]: line["reason"] for line in by_type.get("held", ())},
        {line["tag"]: (line["outcome"], line.get("code")) for line in by_type.get("outcome", ())},
    )
    incomplete = next(iter(by_type.get("incomplete", ())), None)
    cut = next(iter(by_type.get("cut", ())), None)
    return Repository(
        name,
        tuple(_tag(line, fates) for line in by_type.get("tag", ())),
        tuple(by_type.get("untagged", ())),
        None if incomplete is None else str(incomplete["reason"]),
        0 if incomplete is None else int(incomplete["tags"]),
        None if cut is None else int(cut["lines"]),
        lines,
    )


def _tag(line: Mapping[str, Any], fates: _Fates) -> Tag:
    name, goes = str(line["tag"]), line["verdict"] == "Prune"
    outcome, code = fates.outcomes.get(name, (None, None))
    reasons = tuple(line["reasons"]) if goes else (str(line["reason"]),)
    return Tag(name, goes, reasons, line, fates.held.get(name), outcome, code)


def _heading(tag: Tag) -> str:
    reasons = ", ".join(tag.reasons)
    by = f" by rule {tag.line['rule']}" if "rule" in tag.line else ""
    if tag.goes and "subject" in tag.line:
        # Signatures and the like: rule and reasons are those of what they refer to.
        return f"go with what they refer to ({by.removeprefix(' by ')}: {reasons})"
    return f"{'go' if tag.goes else 'stay'}{by}: {reasons}"


def _is_of(line: Line, tags: set[str], digests: set[str]) -> bool:
    """Say whether a line is of one of these tags or untagged manifests, or of the repository as a whole."""
    match line["type"]:
        case "tag" | "held" | "outcome":
            return line["tag"] in tags
        case "untagged":
            return line["digest"] in digests
        case _:
            return True
