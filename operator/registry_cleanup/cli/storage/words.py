"""What the commands for a storage say of a run in the trash."""

from __future__ import annotations

from registry_cleanup.cli.output.words import count
from registry_cleanup.storage.emptying import TrashedRun


def line_of(run: TrashedRun) -> str:
    """Return a line about a run."""
    if run.damaged is not None:
        return f"{run.run}  cannot be read: {run.damaged}"
    since = "an unknown time" if run.pruned_at is None else f"{run.pruned_at:%Y-%m-%d %H:%M:%S} UTC"
    restored = "" if run.restored_at is None else f", restored {run.restored_at:%Y-%m-%d %H:%M:%S} UTC"
    what = f"{count(run.tags, 'tag')}, {count(run.manifests, 'manifest')}"
    return f"{run.run}  {what} of {run.registry}, since {since}{restored}"
