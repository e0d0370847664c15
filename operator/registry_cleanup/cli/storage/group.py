"""`storage`: what a Job with the registry's volume does there."""

from __future__ import annotations

import click

from registry_cleanup.cli.group import LazyGroup

_COMMANDS = {
    "measure": ("storage.measure:measure", "Tell how many bytes and blobs a storage holds."),
    "prune": ("storage.prune:prune", "Move what a plan lets go to a trash folder on the volume."),
    "restore": ("storage.restore:restore", "Put back what prune moved."),
    "list-trash": ("storage.list_trash:list_trash", "Show the runs of which something is in the trash."),
    "empty-trash": ("storage.empty_trash:empty_trash", "Delete what is in the trash, for good."),
}


@click.group(cls=LazyGroup, commands_in=_COMMANDS)
def storage() -> None:
    """Work on the files of a registry's storage, where its volume is mounted: for Jobs in the cluster."""
