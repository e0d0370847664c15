"""Why there is nothing of a run to put back here, and what helps."""

from __future__ import annotations

from collections.abc import Sequence

from registry_cleanup.domain.copies import KnownCopies
from registry_cleanup.domain.run import Failure


def at_another(run: str, there: str | None, here: str, last: str | None = None) -> Failure:
    """Return that a run pruned at another registry than `here`.

    What was pruned there may have been deleted here on purpose. `last` is the last run of which there are copies here,
    where no run was named.
    """
    message = (
        f"run {run} pruned from {there}, and the policy is about {here} now: only there it can be undone. Set "
        "spec.registry to what it was then, which touches no data"
    )
    if last is not None:
        message += f"; or undo the last run of which there are copies here with --run {last}"
    return Failure("NothingToUndo", message, mendable=True)


def no_copies(run: str | None, runs: Sequence[str], elsewhere: Sequence[KnownCopies]) -> Failure:
    """Return that there are no copies of a run; of `runs` there are some here, and of others `elsewhere`."""
    if run is None:
        message = (
            "there are no copies of any run of this policy: none has pruned anything since spec.undo.window was set, "
            "or that is over"
        )
    else:
        known = f"there are copies of {', '.join(runs[-5:])}" if runs else "there are no copies of any run"
        message = (
            f"there are no copies of run {run}: it pruned nothing, undo.window is over, or it was of a policy that was "
            f"deleted, though one of its name is there; {known}"
        )
    if elsewhere:
        registries = ", ".join(sorted({each.elsewhere for each in elsewhere if each.elsewhere is not None}))
        message += f"; what was pruned from {registries} can be undone while spec.registry names that"
    return Failure("NothingToUndo", message, mendable=True)
