"""`storage empty-trash`: delete what is in the trash, for good."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from registry_cleanup.cli.storage.options import duration, opened, root_option


@click.command("empty-trash")
@root_option
@click.option(
    "--older-than",
    metavar="DURATION",
    callback=duration,
    help="Only runs that pruned longer ago than this, such as 7d; 0s for all.",
)
@click.option("--run", metavar="ID", help="Only this run.")
@click.option("--policy", metavar="UID", help="Only runs of this policy: its metadata.uid.")
def empty_trash(root: Path, older_than: timedelta | None, run: str | None, policy: str | None) -> None:
    """Delete what is in the trash, for good: from then on it cannot be restored.

    It frees next to nothing by itself: the garbage collection that comes after it frees the blobs. Say which runs, with
    --older-than, --run, or both. It may be repeated when it was killed.
    """
    from registry_cleanup.cli.output.words import safe
    from registry_cleanup.cli.storage.words import line_of
    from registry_cleanup.cli.telling import tell
    from registry_cleanup.clock import SystemClock
    from registry_cleanup.storage.emptying import empty

    if older_than is None and run is None:
        raise click.UsageError("say which runs: --older-than DURATION (0s for all), --run ID, or both")
    with opened(root) as tree:
        emptied = empty(tree, run, older_than, SystemClock().now(), policy)
    for each in emptied:
        click.echo(safe(line_of(each)))
    tell(f"{len(emptied)} run{'' if len(emptied) == 1 else 's'} deleted from the trash")
