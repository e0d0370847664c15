"""`storage measure`: tell how many bytes and blobs a storage holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.streams import expect_output

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--root", type=_FOLDER, required=True, help="Root directory of the storage, which holds docker/registry.")
@click.option("--termination-log", type=_FILE, help="File that gets the result too, as a pod's termination message.")
@click.option(
    "--eligible",
    type=_FILE,
    help="Output of registry garbage-collect --dry-run; tells what of the blobs it would remove, too.",
)
@click.option(
    "--unless-trash",
    "unless_trash",
    is_flag=True,
    help="Fail where the trash of storage prune holds anything, which a garbage collection would take (exit code 3).",
)
def measure(root: Path, termination_log: Path | None, eligible: Path | None, unless_trash: bool) -> None:
    """Tell how many bytes and blobs a storage holds.

    Prints {"bytes": N, "blobs": N}: the content of all blobs, exactly. Garbage collection frees just that; links,
    folders and unfinished uploads are not counted. With --eligible also "eligibleBytes" and "eligibleBlobs". Changes
    nothing.
    """
    from registry_cleanup.cli.storage.options import code_of
    from registry_cleanup.storage.errors import StorageError
    from registry_cleanup.storage.measure import eligible as eligible_of
    from registry_cleanup.storage.measure import measure as measured

    expect_output()
    try:
        found = asdict(measured(root))
        if eligible is not None:
            would = eligible_of(root, eligible)
            found |= {"eligibleBytes": would.bytes, "eligibleBlobs": would.blobs}
    except StorageError as error:
        raise CommandError(str(error), code_of(error)) from error
    except OSError as error:
        raise CommandError(f"the storage cannot be measured: {error}", Exit.FAILED) from error
    if unless_trash:
        # Last: as little time as possible lies between this look and the collection.
        _expect_no_trash(root)
    text = json.dumps(found)
    if termination_log is not None:
        try:
            termination_log.write_text(text)
        except OSError as error:
            raise CommandError(f"the result cannot be written: {error}", Exit.FAILED) from error
    click.echo(text)


def _expect_no_trash(root: Path) -> None:
    """Raise unless a garbage collection takes nothing that can still be restored."""
    from registry_cleanup.cli.storage.options import opened
    from registry_cleanup.storage.emptying import occupied

    with opened(root) as tree:
        found = occupied(tree)
    if found:
        raise CommandError(
            f"the trash holds {', '.join(found)}, and a collection would take what can still be restored of "
            "it: when nobody misses anything, registry-cleanup storage empty-trash",
            Exit.HELD_BACK,
        )
