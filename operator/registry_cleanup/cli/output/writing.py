"""Writing what is printed: in which format, and where to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TextIO

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.cli.output.target import opened


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
