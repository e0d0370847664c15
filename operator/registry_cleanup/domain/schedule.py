"""When a policy is due: cron times in a time zone, and what a policy's state asks for now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from registry_cleanup.domain.run import Trigger

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class InvalidScheduleError(ValueError):
    """A schedule or a time zone that cannot be understood; the message says why."""


def parse_time_zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name; raise `InvalidScheduleError` for any other."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidScheduleError(
            "is not an IANA time zone; write for example 'Europe/Berlin' or 'Etc/UTC'"
        ) from error


class Schedule:
    """The times of a five-field cron expression or macro in one time zone.

    As design and CronJob have it: a local time that daylight saving skips is skipped, and one that it repeats
    counts once, at its first occurrence.
    """

    __slots__ = ("_expression", "_zone", "text")

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        """Parse `text`; raise `InvalidScheduleError` where it is no schedule or never comes."""
        self.text = text
        self._zone = zone
        self._expression = _MACROS.get(text.strip(), text)
        if len(self._expression.split()) != 5:
            raise InvalidScheduleError("needs five fields (minute hour day month weekday) or a macro such as '@daily'")
        try:
            next(CronSim(self._expression, datetime(2024, 1, 1)))  # noqa: DTZ001 - local times have no zone here
        except CronSimError as error:
            raise InvalidScheduleError(f"is not a cron expression ({error}); write for example '0 3 * * *'") from error
        except StopIteration as error:
            raise InvalidScheduleError("names a day that never comes") from error

    def after(self, instant: datetime) -> datetime:
        """Return the first scheduled time later than `instant`, in UTC."""
        return next(time for time in self._times(instant) if time > instant)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last scheduled time later than `after` and not later than `until`, if there is one.

        However many were missed in between, they count once.
        """
        first = self.after(after)
        if first > until:
            return None
        # Looking back from the end first finds the last time of a long gap without walking all of it.
        for back in (timedelta(hours=2), timedelta(days=2), timedelta(days=62)):
            if until - back > first:
                found = self._last(until - back, until)
                if found is not None:
                    return found
        return self._last(first - timedelta(seconds=1), until)

    def _last(self, after: datetime, until: datetime) -> datetime | None:
        last = None
        time = self.after(after)
        while time <= until:
            last, time = time, self.after(time)
        return last

    def _times(self, instant: datetime) -> Iterator[datetime]:
        # What the local clock showed before, it showed first at an instant before; in the second pass of a repeated
        # hour that holds for some times that it shows later, too.
        local = instant.astimezone(self._zone).replace(tzinfo=None)
        for naive in CronSim(self._expression, local):
            time = naive.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
            if time.astimezone(self._zone).replace(tzinfo=None) == naive:  # else daylight saving skips it
                yield time


@dataclass(frozen=True, slots=True)
class State:
    """What decides whether a policy is due.

    Attributes:
        generation: of the spec.
        planned_generation: of the last published plan; None before the first.
        planned_at: when that plan was made.
        request: the run request that the policy bears, if any.
        handled_request: the last one that was answered.
        schedule: None if it runs on request only.
        last_scheduled: the scheduled time that the last scheduled run stood for.
        dry_run: whether its runs only plan.
        retry_at: while the generation is not planned: not before this instant, unless a new request asks.
        approval: the plan that the policy bears the approval of, by its hash, if any.
        handled_approval: the last one that a run took note of.
        plan_hash: of the published plan.
        vain_approval: one that a run was given and took no note of; nothing has changed since.
    """

    generation: int
    planned_generation: int | None
    planned_at: datetime | None
    request: str | None
    handled_request: str | None
    schedule: Schedule | None
    last_scheduled: datetime | None
    dry_run: bool
    retry_at: datetime | None = None
    approval: str | None = None
    handled_approval: str | None = None
    plan_hash: str | None = None
    vain_approval: str | None = None

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
class Wait:
    """Nothing is due before `until`; None for nothing at all until something changes."""

    until: datetime | None


def due(state: State, now: datetime) -> Due | Wait:
    """Say what a policy asks for now.

    A generation that no published plan covers is only planned, whatever the annotations ask; that plan answers a
    request that is already there. An approval is no reason to run where a request or a time is one: every run that
    prunes is told of it. One of another plan than the published one changes nothing.
    """
    requested = state.request is not None and state.request != state.handled_request
    if state.planned_generation != state.generation or state.planned_at is None:
        if state.retry_at is not None and now < state.retry_at and not requested:
            return Wait(state.retry_at)
        return Due(Trigger.SPEC_CHANGE, plan_only=True)
    if requested:
        return Due(Trigger.REQUEST, state.dry_run)
    if (missed := _missed(state.schedule, state.planned_at, state.last_scheduled, now)) is not None:
        return Due(Trigger.SCHEDULE, state.dry_run, missed)
    if state.approved and not state.dry_run:
        return Due(Trigger.RESUME, plan_only=False)
    return Wait(state.schedule.after(now) if state.schedule is not None else None)


def _missed(
    schedule: Schedule | None, planned_at: datetime, last_scheduled: datetime | None, now: datetime
) -> datetime | None:
    """Return the scheduled time whose turn it is, if it is one's."""
    if schedule is None:
        return None
    # Times before the generation was planned are not caught up with: nobody has seen what they would prune.
    # A time to come, from a clock that was wrong once, must not silence the schedule.
    since = min(max(last_scheduled or planned_at, planned_at), now)
    return schedule.latest(since, now)
