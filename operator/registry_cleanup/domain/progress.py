"""How far a run comes within its time, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from registry_cleanup.domain.run import RunOrder

# Of the time of a run that prunes, so much may go into planning: else what takes too long to plan is never pruned.
PLANNING_SHARE = 0.75


def rotated(names: Iterable[str], first: str | None) -> list[str]:
    """Return `names` in their order, from `first` on, or what follows where it is gone, and then those before it."""
    ordered = sorted(names)
    begin = next((place for place, name in enumerate(ordered) if first is not None and name >= first), 0)
    return ordered[begin:] + ordered[:begin]


def planning_deadline(order: RunOrder) -> datetime | None:
    """Return when the plan of a run has to be there; None for no bound."""
    if order.deadline is None or order.plan_only:
        return order.deadline
    return order.start + (order.deadline - order.start) * PLANNING_SHARE


def next_repository(order: Sequence[str], left: Collection[str], advanced: Collection[str]) -> str | None:
    """Return with which repository the next run begins; None where nothing is left.

    One that had a whole run for itself, and got nowhere, does not stop those after it for ever.

    Args:
        order: all repositories of the run, as it took them.
        left: those that it did not come to the end of.
        advanced: those among them in which it pruned something.
    """
    first = next((name for name in order if name in left), None)
    if first is not None and first == order[0] and first not in advanced and len(order) > 1:
        return order[1]
    return first
