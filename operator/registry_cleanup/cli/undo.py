"""`undo`: put back what a run pruned."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from registry_cleanup.cli.known import policy_names
from registry_cleanup.cli.options import cluster_options, login_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.logins.options import ClusterOptions, LoginOptions

Output = Literal["text", "json", "yaml"]


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@click.option(
    "-f",
    "--filename",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="File with the policy, - for standard input, of which `run` pruned; without one, it is that of the cluster.",
)
@click.option("--run", metavar="ID", help="ID of the run; default the last one of which there are copies.")
@click.option("--force", is_flag=True, help="Put tags back also where they name something else by now.")
@click.option("--dry-run", is_flag=True, help="Tell what would be put back, and do nothing.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="A line for each tag as it comes back, or one document in the end (docs/schemas/undo.schema.json).",
)
@login_options
@cluster_options
def undo(
    name: str,
    references: tuple[str, ...],
    filename: Path | None,
    run: str | None,
    force: bool,
    dry_run: bool,
    output: Output,
    login: LoginOptions,
    cluster: ClusterOptions,
) -> None:
    """Put back what a run of the policy NAME pruned, from the copies that spec.undo keeps.

    REFERENCE is REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, with or without the registry's host before it; without
    one, all that the run pruned comes back. Children come first, then what lists them, then tags; each is read again.

    A tag that names something else by now is left alone. What needs blobs that a garbage collection took is told with
    them. What came back is left alone by the next runs until the policy is changed. Doing it twice does no harm.
    """
    expect_output()
    from registry_cleanup.cli.undoing.course import Call
    from registry_cleanup.cli.undoing.course import undo as do
    from registry_cleanup.cli.working import work

    sys.exit(work(do(Call(name, references, filename, run, force, dry_run, output, login, cluster))))
