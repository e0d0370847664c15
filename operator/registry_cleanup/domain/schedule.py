"""When a policy is due: the spread of its scheduled times, and what its state asks for now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry_cleanup.domain.cron import Schedule
from registry_cleanup.domain.run import Trigger


@dataclass(frozen=True, slots=True)
class Timetable:
    """When the runs of one policy start: at its scheduled times, each a little later, so that not all start at once.

    Of two successive times the earlier always starts first, since none is delayed by more than half of what lies
    between them. So a start belongs to one time, and the order of times is that of starts.

    Attributes:
        schedule: the times.
        uid: of the policy; its delay follows from nothing else, and outlives restarts.
        jitter: no delay is longer.
    """

    schedule: Schedule
    uid: str
    jitter: timedelta = timedelta(0)

    def start(self, time: datetime) -> datetime:
        """Return when the run of a scheduled time starts."""
        if not self.jitter:
            return time
        most = min(self.jitter, (self.schedule.after(time) - time) / 2)
        return time + timedelta(seconds=int(most.total_seconds() * _share(self.uid)))

    def next_start(self, instant: datetime) -> datetime:
        """Return the first start later than `instant`."""
        if (waiting := self._waiting(instant)) is not None:
            return self.start(waiting)
        return self.start(self.schedule.after(instant))

    def latest(self, after: datetime | None, counts_from: datetime, now: datetime) -> datetime | None:
        """Return the last scheduled time whose start has come, if there is one; those before it count with it.

        Args:
            after: only times later than this, which has been answered.
            counts_from: only times that start later than this.
            now: only times that start not later than this.
        """
        # A time before that may still start after it.
        since = counts_from if (first := self._waiting(counts_from)) is None else first - timedelta.resolution
        if after is not None:
            since = max(since, after)
        found = self.schedule.latest(since, now)
        if found is not None and self.start(found) > now:
            found = self.schedule.latest(since, found - timedelta.resolution)
        return found

    def _waiting(self, instant: datetime) -> datetime | None:
        """Return the scheduled time that has come by `instant` and starts later, if there is one."""
        time = self.schedule.latest(instant - self.jitter - timedelta.resolution, instant) if self.jitter else None
        return time if time is not None and self.start(time) > instant else None


def _share(uid: str) -> float:
    """Return a number from 0 to below 1, spread evenly over UIDs."""
    number = int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=4).digest(), "big")
    return float(number / 2**32)


@dataclass(frozen=True, slots=True)
class State:
    """What decides whether a policy is due.

    Attributes:
        generation: of the spec.
        planned_generation: of the last published plan; None before the first.
        counts_from: times that start later than this count: since the generation was planned, or was suspended.
        request: the run request that the policy bears, if any.
        handled_request: the last one that was answered.
        timetable: None if it runs on request only.
        last_scheduled: the scheduled time that the last scheduled run stood for.
        dry_run: whether its runs only plan.
        retry_at: while the generation is not planned: not before this instant, unless a new request asks.
        approval: the plan that the policy bears the approval of, by its hash, if any.
        handled_approval: the last one that a run took note of.
        plan_hash: of the published plan.
        vain_approval: one that a run was given and took no note of; nothing has changed since.
        last_missed: the last scheduled time that passed without a run, and was told.
        starting_deadline: a run that could not start for so long does not start any more; None for no such bound.
        interrupted: the scheduled time whose run began and was interrupted, if that was the last run.
    """

    generation: int
    planned_generation: int | None
    counts_from: datetime | None
    request: str | None
    handled_request: str | None
    timetable: Timetable | None
    last_scheduled: datetime | None
    dry_run: bool
    retry_at: datetime | None = None
    approval: str | None = None
    handled_approval: str | None = None
    plan_hash: str | None = None
    vain_approval: str | None = None
    last_missed: datetime | None = None
    starting_deadline: timedelta | None = None
    interrupted: datetime | None = None

    @property
    def approved(self) -> bool:
        """Whether somebody approved the published plan, and no run has been told in vain."""
        return (
            self.approval is not None
            and self.approval == self.plan_hash
            and self.approval not in (self.handled_approval, self.vain_approval)
        )


@dataclass(frozen=True, slots=True)
class Due:
    """A run is due now: why, whether it only plans, and which scheduled time it stands for."""

    trigger: Trigger
    plan_only: bool
    scheduled_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """A scheduled time has passed for good, and those before it: this is to be told, and then counts as answered."""

    time: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due before `until`; None for nothing at all until something changes."""

    until: datetime | None


def due(state: State, now: datetime) -> Due | Missed | Wait:
    """Say what a policy asks for now.

    A generation that no published plan covers is only planned, whatever the annotations ask; that plan answers a
    request that is already there. An approval is no reason to run where a request or a time is one: every run that
    prunes is told of it. One of another plan than the published one changes nothing.
    """
    requested = state.request is not None and state.request != state.handled_request
    if state.planned_generation != state.generation or state.counts_from is None:
        if state.retry_at is not None and now < state.retry_at and not requested:
            return Wait(state.retry_at)
        return Due(Trigger.SPEC_CHANGE, plan_only=True)
    if requested:
        return Due(Trigger.REQUEST, state.dry_run)
    if (time := _turn(state, state.counts_from, now)) is not None:
        return Missed(time) if _too_late(state, time, now) else Due(Trigger.SCHEDULE, state.dry_run, time)
    if state.approved and not state.dry_run:
        return Due(Trigger.RESUME, plan_only=False)
    return Wait(state.timetable.next_start(now) if state.timetable is not None else None)


def _turn(state: State, counts_from: datetime, now: datetime) -> datetime | None:
    """Return the scheduled time whose turn it is, if it is one's."""
    if state.timetable is None:
        return None
    # Times before the generation was planned are not caught up with: nobody has seen what they would prune.
    answered = [time for time in (state.last_scheduled, state.last_missed) if time is not None]
    return state.timetable.latest(max(answered, default=None), counts_from, now)


def _too_late(state: State, time: datetime, now: datetime) -> bool:
    """Say whether the run of a scheduled time may not start any more. One that began in time may begin again."""
    if state.starting_deadline is None or state.timetable is None:
        return False
    if state.interrupted is not None and (state.last_scheduled is None or state.interrupted > state.last_scheduled):
        return False
    return now > state.timetable.start(time) + state.starting_deadline
