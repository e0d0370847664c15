"""`storage list-trash`: the runs of which something is in the trash."""

from __future__ import annotations

from pathlib import Path

import click

from registry_cleanup.cli.storage.options import opened, root_option
from registry_cleanup.cli.streams import expect_output


@click.command("list-trash")
@root_option
def list_trash(root: Path) -> None:
    """Show the runs of which something is in the trash, with the time since which it is there."""
    from registry_cleanup.cli.output.words import safe
    from registry_cleanup.cli.storage.words import line_of
    from registry_cleanup.storage.emptying import trashed

    expect_output()
    with opened(root) as tree:
        found = trashed(tree)
    for run in found:
        click.echo(safe(line_of(run)))
    if not found:
        click.echo("The trash is empty.")
