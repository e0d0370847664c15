"""What the commands for a storage have in common: options, and words for what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_cleanup.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from registry_cleanup.storage.errors import StorageError
    from registry_cleanup.storage.tree import Tree

_FOLDER = click.Path(file_okay=False, path_type=Path)


def root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the option `root`."""
    return click.option(
        "--root",
        type=_FOLDER,
        required=True,
        help="Root directory of the storage, which holds docker/registry: the volume as it is mounted here.",
    )(command)


def duration(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Return the duration that an option spells."""
    from registry_cleanup.domain.duration import parse_period

    try:
        return None if text is None else parse_period(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}") from error


@contextmanager
def opened(root: Path) -> Iterator[Tree]:
    """Open a storage; what goes wrong there becomes a `CommandError`."""
    from registry_cleanup.storage.errors import StorageError
    from registry_cleanup.storage.tree import Tree

    try:
        with Tree.open(root) as tree:
            yield tree
    except StorageError as error:
        raise CommandError(str(error), code_of(error)) from error


def code_of(error: StorageError) -> Exit:
    """Return how a command ends that cannot work on the storage."""
    from registry_cleanup.storage.errors import HeldBackError, VolumeError, WritableError

    match error:
        case HeldBackError():
            return Exit.HELD_BACK
        case WritableError():
            return Exit.REGISTRY
        case VolumeError():
            return Exit.FAILED
        case _:
            return Exit.USAGE
