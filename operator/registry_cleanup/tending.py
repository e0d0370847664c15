"""When copies of a policy need somebody though no run is due: a window is over, an undo is to be tried again."""

from __future__ import annotations

from datetime import datetime, timedelta

from registry_cleanup.domain.run import Failure, Phase, RunOrder, RunReport
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.kube.status import PolicyStatus, parse_time

# Copies that could not be removed do no harm; the registry may be away, or be frozen for its garbage collection.
_AGAIN_AFTER = timedelta(hours=1)
# Of an undo: some forty minutes in all.
_MOST_TRIES = 9
_FIRST_TRY, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=10)


class Tending:
    """What is known of when the copies of one policy need somebody."""

    def __init__(self) -> None:
        # What an operator before this one copied, and did not live to tell.
        self._looked = False
        self._not_before: datetime | None = None

    def due(self, policy: ParsedPolicy, status: PolicyStatus, now: datetime) -> datetime | None:
        """Return when somebody has to look; None for never, as far as is known."""
        moment = None if status.undo is None else parse_time(status.undo.oldest_until)
        last = status.last_run
        cut_short = last is not None and last.phase is Phase.INTERRUPTED and not last.dry_run
        if cut_short and policy.policy.undo.enabled and not self._looked:
            moment = now
        return moment if moment is None or self._not_before is None else max(moment, self._not_before)

    def ran(self, order: RunOrder, report: RunReport) -> None:
        """Take note of a run: one that knows of the copies tells of them, and one that ended somehow does not."""
        if report.copies is not None or not order.plan_only:
            self._looked = report.copies is not None
            self._not_before = None

    def looked(self) -> None:
        """Take note that somebody looked."""
        self._looked = True
        self._not_before = None

    def put_off(self, now: datetime) -> None:
        """Take note that somebody tried, and could not."""
        self._not_before = now + _AGAIN_AFTER


class UndoTries:
    """How often an undo was tried that a fault cut short which passes by itself, such as a registry that restarts."""

    def __init__(self) -> None:
        self._run: str | None = None
        self._tries = 0
        self._not_before: datetime | None = None

    def not_before(self, run: str) -> datetime | None:
        """Return when the undo of `run` may be tried again; None for at once."""
        return self._not_before if run == self._run else None

    def again(self, run: str, failure: Failure, now: datetime) -> bool:
        """Say whether the undo of `run`, which just failed, is tried again; then it waits, longer each time."""
        if run != self._run:
            self._run, self._tries = run, 0
        self._tries += 1
        if failure.mendable or self._tries > _MOST_TRIES:
            self._run = None
            return False
        self._not_before = now + min(_FIRST_TRY * 2 ** (self._tries - 1), _LONGEST_PAUSE)
        return True
