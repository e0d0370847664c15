"""How far a listing has come: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from registry_cleanup.ports import Tell


@contextmanager
def telling() -> Iterator[Tell]:
    """Show on stderr how far reading has come, and take it away in the end."""
    if not sys.stderr.isatty():
        yield _nobody
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        all_wanted = 0

        def tell(*, wanted: int = 0, done: int = 0) -> None:
            nonlocal all_wanted
            all_wanted += wanted
            progress.update(bar, total=all_wanted, advance=done)

        yield tell


def _nobody(*, wanted: int = 0, done: int = 0) -> None:
    del wanted, done
