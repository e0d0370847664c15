"""Which runs of a policy can be undone, where and until when, as `status.undo` tells it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from registry_cleanup.domain.copies import CopiesHeld, kept_until
from registry_cleanup.kube.status import FormerStatus, UndoableStatus, parse_time, rfc3339

# Status has only so much room.
_MOST_FORMER = 3
# What status calls the registry of the last run where nobody knows it.
ANYWHERE = ""


def undoable(
    before: UndoableStatus | None, held: CopiesHeld | None, window: timedelta, here: str, now: datetime
) -> UndoableStatus | None:
    """Return until when which runs can be undone; None for none.

    What was pruned at another registry than the policy names by now can be undone there, though its copies are not seen
    from here: it is told until its window has passed, since no garbage may be collected there before.

    Args:
        before: what status said.
        held: what is known since; None for nothing.
        window: so long from its start a run can be undone.
        here: the registry of `held`.
        now: the time.
    """
    told = _latest(before, held, window, here, now)
    former = [] if before is None else [*(before.former or ()), *_moved(before, here)]
    if held is not None and held.all and held.repository is None:
        # Those that are in no registry were all seen.
        former = [each for each in former if each.repository is not None or each.run in held.runs]
    left = _open(former, window, now, other_than=None if told is None else told.registry)
    if told is None and left:
        last = left.pop()
        told = _of([last.run], 1, last.repository, last.registry or ANYWHERE, window)
    return told if told is None else told.model_copy(update={"former": few(left) or None})


def unsaid(before: UndoableStatus | None, run: str, repository: str | None, window: timedelta) -> UndoableStatus:
    """Return what is told once `run` ended without a word, and the registry is changed since: it pruned at any."""
    former = [] if before is None else [*(before.former or ()), *_moved(before, ANYWHERE)]
    return _of([run], 1, repository, ANYWHERE, window).model_copy(update={"former": few(former) or None})


def _latest(
    before: UndoableStatus | None, held: CopiesHeld | None, window: timedelta, here: str, now: datetime
) -> UndoableStatus | None:
    """Return what is told of the registry where the last run pruned that can be undone."""
    if before is None:
        return None if held is None or not held.runs else _of(held.runs, len(held.runs), held.repository, here, window)
    moved = before.registry not in (None, here)
    seen = held is not None and before.repository == held.repository and not (moved and held.repository is not None)
    if held is None or (seen and not held.all and not held.runs):
        return _of(_ends(before), before.runs, *_where(before), window)
    if not held.runs:
        return None if seen else _again(before, window, now)
    known, number = list(held.runs), len(held.runs)
    if seen and not held.all:
        known = [*_ends(before), *held.runs]
        number = before.runs + len(set(held.runs).difference(_ends(before)))
    registry = before.registry or here if max(known) == before.run else here
    return _of(known, number, held.repository, registry, window)


def _ends(before: UndoableStatus) -> tuple[str, str]:
    return before.oldest_run, before.run


def _where(before: UndoableStatus) -> tuple[str | None, str | None]:
    return before.repository, before.registry


def _again(before: UndoableStatus, window: timedelta, now: datetime) -> UndoableStatus | None:
    """Return what is left of what was told of another place, where nobody has looked."""
    until, oldest_until = (kept_until(run, window) for run in (before.run, before.oldest_run))
    if until is not None and until <= now:
        return None
    if oldest_until is not None and oldest_until <= now:
        return _of([before.run], max(before.runs - 1, 1), *_where(before), window)
    return _of(_ends(before), before.runs, *_where(before), window)


def _of(
    runs: Collection[str], number: int, repository: str | None, registry: str | None, window: timedelta
) -> UndoableStatus:
    oldest, last = min(runs), max(runs)
    return UndoableStatus(
        run=last,
        until=rfc3339(kept_until(last, window)),
        oldest_run=oldest,
        oldest_until=rfc3339(kept_until(oldest, window)),
        runs=number,
        repository=repository,
        registry=registry,
    )


def _moved(before: UndoableStatus, here: str) -> list[FormerStatus]:
    """Return what was told of the last registry, if that is another one than `here`."""
    if before.until is None or before.registry in (None, here):
        return []
    return [FormerStatus(registry=before.registry, run=before.run, until=before.until, repository=before.repository)]


def _open(
    former: Iterable[FormerStatus], window: timedelta, now: datetime, other_than: str | None
) -> list[FormerStatus]:
    """Return what has not passed at any other registry, what ends last at the end."""
    found = []
    for each in former:
        # As with the last ones, a window that is made shorter is shorter.
        until = kept_until(each.run, window) or parse_time(each.until)
        if until is not None and until > now and (each.registry is None or each.registry != other_than):
            found.append(each.model_copy(update={"until": rfc3339(until)}))
    return sorted(found, key=lambda each: each.until)


def few(former: Sequence[FormerStatus], most: int = _MOST_FORMER) -> list[FormerStatus]:
    """Return `former`, where these are too many with those that end first as one that may be at any registry."""
    more = len(former) - most
    if more <= 0:
        return [*former]
    folded = former[more].model_copy(update={"registry": None, "repository": None})
    return [folded, *former[more + 1 :]]
