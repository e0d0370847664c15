"""What is printed, in whatever format, and where to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.target import opened
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


def format_of(output: str | None, file: Path | None) -> str:
    """Return the format to print in: the one that is asked for, else the one that the file's name ends in."""
    if output is not None:
        return output
    suffix = "" if file is None else file.suffix.lower().removeprefix(".")
    return {"json": "json", "yaml": "yaml", "yml": "yaml", "csv": "csv", "html": "html", "htm": "html"}.get(
        suffix, "table"
    )


def write(printed: Printed, output: str, file: Path | None) -> None:
    """Print in a format, to a file or to standard output; raise `CommandError`."""
    with opened(file) as out:
        if output == "html" and out.isatty():
            raise CommandError("a page is for a browser: write it with --output-file FILE", Exit.USAGE)
        _writer(output)(printed, out)


def _writer(output: str) -> Callable[[Printed, TextIO], None]:
    """Return what prints in this format, and import nothing that others need."""
    match output:
        case "json":
            from registry_cleanup.cli.output.documents import write_json as writer
        case "yaml":
            from registry_cleanup.cli.output.documents import write_yaml as writer
        case "csv":
            from registry_cleanup.cli.output.rows import write_csv as writer
        case "html":
            writer = _write_page
        case _:
            from registry_cleanup.cli.output.table import write_table as writer
    return writer


def _write_page(printed: Printed, out: TextIO) -> None:
    from registry_cleanup.cli.page import render_page

    summary = printed.summary
    from_then = summary.plan.get("prunableFrom")
    page = render_page(
        [printed.head, *printed.seen()],
        policy=f"{summary.policy['namespace']}/{summary.policy['name']}",
        message=summary.run.get("message"),
        held_back=summary.held_back(),
        prunable_from=None if from_then is None else datetime.fromisoformat(from_then),
    )
    out.write(page)
