"""What is printed, in whatever format, and where to."""

from __future__ import annotations

import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

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
    """

    summary: Summary
    head: Line
    lines: Sequence[Line]
    view: View
    difference: Difference | None = None

    def repositories(self) -> Iterator[Repository]:
        """Yield what is to be seen of each repository in which anything is."""
        for repository in repositories(self.lines):
            if (seen := self.view.of(repository)) is not None:
                yield seen

    def seen(self) -> Iterator[Line]:
        """Yield the lines that are to be seen."""
        for repository in self.repositories():
            yield from repository.lines


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
    with _opened(file) as out:
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
        prunable_from=None if from_then is None else datetime.fromisoformat(from_then),
    )
    out.write(page)


@contextmanager
def _opened(file: Path | None) -> Iterator[TextIO]:
    """Open where to print; a file is whole or as it was before."""
    if file is None or str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        # What is no file, such as /dev/stdout or a pipe, cannot be replaced.
        with file.open("w", encoding="utf-8") if _is_device(file) else _replaced(file.resolve()) as out:
            yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}", Exit.FAILED) from error


def _is_device(file: Path) -> bool:
    return file.exists() and not file.is_file()


@contextmanager
def _replaced(file: Path) -> Iterator[TextIO]:
    """Write beside a file, and put that in its place once it is whole."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as out:
            if file.exists():
                beside.chmod(stat.S_IMODE(file.stat().st_mode))
            yield out
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
