"""`storage restore`: put back what `storage prune` moved."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_cleanup.cli.storage.options import opened, root_option


@click.command()
@root_option
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@click.option("--run", metavar="ID", required=True, help="ID of the run, as storage list-trash shows it.")
@click.option("--force", is_flag=True, help="Put tags back also where they name something else by now.")
@click.option("--dry-run", is_flag=True, help="Tell what would be put back, and do nothing.")
def restore(root: Path, references: tuple[str, ...], run: str, force: bool, dry_run: bool) -> None:
    """Put back what storage prune moved.

    REFERENCE is REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, with or without the registry's host before it; without
    one, all that the run moved comes back. Children come first, then what lists them, then tags; each is read again.

    A tag that names something else by now is left alone; with --force, that goes to the trash in its turn. What needs
    blobs that a garbage collection took stays in the trash, and is told with them. The registry may be up meanwhile,
    but restart it afterwards: it may remember what was gone. Doing it twice does no harm.
    """
    from registry_cleanup.cli.output.words import safe
    from registry_cleanup.cli.storage.references import read_references
    from registry_cleanup.cli.telling import tell
    from registry_cleanup.cli.undoing.course import Telling, exit_of
    from registry_cleanup.clock import SystemClock
    from registry_cleanup.storage.restoring import RestoreOrder
    from registry_cleanup.storage.restoring import restore as do
    from registry_cleanup.storage.trash import Trash

    with opened(root) as tree:
        wanted = read_references(references, Trash(tree, run).journal().registry)
        done = do(tree, RestoreOrder(run, wanted, force, dry_run, SystemClock().now()))
    telling = Telling(dry_run)
    for outcome in done.outcomes:
        telling.tell(outcome)
    tell(safe(done.message[:1].upper() + done.message[1:]))
    sys.exit(exit_of(done))
