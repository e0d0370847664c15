"""What is printed, in whatever format, and where to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.plans.difference import Difference
from registry_cleanup.cli.plans.findings import Repository, Show, View, repositories
from registry_cleanup.cli.plans.summary import Summary
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.policy import InvalidPatternError, RepositoryGlob
from registry_cleanup.domain.report import Line
from registry_cleanup.domain.verdict import KeepReason, PruneReason


@dataclass(frozen=True, slots=True)
class Printed:
    """A plan or a report, as much of it as a person wants to see.

    Attributes:
        summary: of all of it.
        head: the first line of the report.
        lines: all others.
        view: what of them is to be seen.
        difference: to the published plan; None where nobody asked.
        whole: what a person appends or types to see all that a terminal does not show.
    """

    summary: Summary
    head: Line
    lines: Sequence[Line]
    view: View
    difference: Difference | None = None
    whole: str = "| less"

    def repositories(self) -> Iterator[Repository]:
        """Yield what is to be seen of each repository in which anything is."""
        for repository in repositories(self.lines):
            if (seen := self.view.of(repository)) is not None:
                yield seen

    def seen(self) -> Iterator[Line]:
        """Yield the lines that are to be seen."""
        for repository in self.repositories():
            yield from repository.lines

    def notes(self) -> Iterator[str]:
        """Yield what a person should know who asked for repositories of which there are none."""
        names = sorted({line["repository"] for line in self.lines})
        for glob in self.view.repositories:
            if any(map(glob.matches, names)):
                continue
            similar = get_close_matches(glob.text.replace("*", "").strip("/"), names, 3)
            hint = f"; similar: {', '.join(similar)}" if similar else ""
            yield f"--repository {glob.text} matches no repository of the {self.summary.kind.lower()}{hint}"


def view_of(
    show: str | None, reasons: Iterable[str] = (), outcome: str | None = None, globs: Iterable[str] = ()
) -> View:
    """Return the view that a person asks for; raise `CommandError` for a word or a glob that is none."""
    _known("--reason", reasons, [*KeepReason, *PruneReason])
    _known("--outcome", [] if outcome is None else [outcome], list(Outcome))
    try:
        chosen = tuple(RepositoryGlob(text) for text in globs)
    except InvalidPatternError as error:
        raise CommandError(f"--repository {error}", Exit.USAGE) from error
    return View(Show.ALL if show is None else Show(show), frozenset(reasons), outcome, chosen)


def _known(option: str, words: Iterable[str], known: Sequence[str]) -> None:
    """Raise `CommandError` for a word that is none: a mistyped one would show nothing, as if there were nothing."""
    for word in words:
        if word not in known:
            raise CommandError(f"{option} {word}: there is no such word; there are {', '.join(known)}", Exit.USAGE)
