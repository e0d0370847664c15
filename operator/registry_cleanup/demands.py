"""What a policy asks for, and what of it has been answered: requests, approvals and times of its schedule.

An answer stands in status once its run has ended: what was interrupted is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.run import Phase, RunOrder, RunReport, Trigger
from registry_cleanup.domain.schedule import State, Timetable
from registry_cleanup.kube.spec import APPROVE_ANNOTATION, ParsedPolicy
from registry_cleanup.kube.status import PolicyStatus, RunStatus, parse_time

_FIRST_RETRY = timedelta(seconds=10)
_LAST_RETRY = timedelta(minutes=10)


class Demands:
    """The demands of one policy.

    Attributes:
        retry_at: while its generation could not be planned: not before this instant.
    """

    def __init__(
        self,
        status: Callable[[], PolicyStatus],
        withheld: Callable[[], str | None],
        body: Mapping[str, Any],
        jitter: timedelta,
    ) -> None:
        """Begin with what `body` asks for.

        Args:
            status: returns what is answered by now.
            withheld: says why runs only plan, whatever their policies say.
            body: the resource.
            jitter: bounds how much later than its time a scheduled run starts.
        """
        self.retry_at: datetime | None = None
        self._status = status
        self._withheld = withheld
        self._jitter = jitter
        self._attempts = 0
        self._noticed: dict[datetime | None, datetime] = {}
        self._vain_approval: str | None = None
        self._told_approval: str | None = None
        self._withdrawn = not _bears_approval(body)

    def observe(self, body: Mapping[str, Any], *, changed: bool) -> None:
        """Take note of the resource as an event shows it, `changed` where that is another generation."""
        if changed:
            self.planned()
            self._vain_approval = None
        self._withdrawn = self._withdrawn or not _bears_approval(body)

    def state(self, policy: ParsedPolicy, now: datetime) -> State:
        """Return what decides whether the policy is due."""
        status = self._status()

        def told(text: str | None) -> datetime | None:
            return self._until_noticed(parse_time(text), now)

        plan = status.plan
        return State(
            policy.generation,
            plan.observed_generation if plan is not None else None,
            self._until_noticed(_counts_from(status), now),
            policy.request,
            status.last_handled_run_request,
            self.timetable(policy),
            told(status.last_schedule_time),
            self._only_plans(policy),
            self.retry_at,
            policy.approval,
            status.last_handled_approval,
            plan.hash if plan is not None else None,
            self._vain_approval,
            told(status.last_missed_schedule_time),
            policy.starting_deadline,
            _interrupted(status),
        )

    def _until_noticed(self, time: datetime | None, now: datetime) -> datetime | None:
        """Return a time of status, or in place of one to come when that was noticed.

        Only a clock that was ahead can have written it, or the present one is behind. Whatever was due when that was
        noticed counts as answered; but it must not silence the schedule until it comes.
        """
        if time is None or time <= now:
            self._noticed.pop(time, None)
            return time
        self._noticed[time] = min(self._noticed.get(time, now), now)
        return self._noticed[time]

    def timetable(self, policy: ParsedPolicy) -> Timetable | None:
        """Return when the scheduled runs of the policy start; None where it runs on request only."""
        return None if policy.schedule is None else Timetable(policy.schedule, policy.uid, self._jitter)

    def repeated(self, trigger: Trigger) -> str | None:
        """Return the ID of the run that one with this `trigger` does again, since it was interrupted."""
        last = self._status().last_run
        again = last is not None and last.phase is Phase.INTERRUPTED and last.trigger is trigger
        # What is planned after an interruption is another generation, as a rule.
        return last.id if last is not None and again and trigger is not Trigger.SPEC_CHANGE else None

    def ended(self, order: RunOrder, report: RunReport, status: PolicyStatus) -> None:
        """Take note of the end of a run, which came to `status`."""
        if report.phase is not Phase.INTERRUPTED and not order.plan_only:
            vain = not report.approval_taken and status.plan is not None and status.plan.hash == order.approval
            self._vain_approval = order.approval if vain else None

    def _only_plans(self, policy: ParsedPolicy) -> bool:
        return policy.dry_run or self._withheld() is not None

    # Retries

    def planned(self) -> None:
        """Take note that nothing has to be tried again."""
        self.retry_at, self._attempts = None, 0

    def put_off(self, now: datetime) -> None:
        """Try again later, and later each time."""
        delay = min(_FIRST_RETRY * 2**self._attempts, _LAST_RETRY)
        self._attempts = min(self._attempts + 1, 10)
        self.retry_at = now + delay

    # Requests and approvals

    def asked(self, policy: ParsedPolicy) -> str | None:
        """Return the request to prune that has not been answered yet, if there is one."""
        asked = not self._only_plans(policy) and policy.request != self._status().last_handled_run_request
        return policy.request if asked else None

    def handled(self, policy: ParsedPolicy, report: RunReport) -> str | None:
        """Return the last answered request: one that was interrupted is asked again after the interruption."""
        if report.phase is Phase.INTERRUPTED or policy.request is None:
            return self._status().last_handled_run_request
        return policy.request

    def approval(self, policy: ParsedPolicy) -> str | None:
        """Return the approval that no run has taken note of yet, if there is one."""
        asked = not policy.dry_run and policy.approval != self._status().last_handled_approval
        return policy.approval if asked else None

    def handled_approval(self, order: RunOrder, report: RunReport) -> str | None:
        """Return the last approval that a run took note of; one that was interrupted takes note of it again."""
        taken = report.approval_taken and report.phase is not Phase.INTERRUPTED
        return order.approval if taken else self._status().last_handled_approval

    def vain_approval(self, policy: ParsedPolicy) -> str | None:
        """Return, once, what to say of an approval that starts nothing: nothing else would tell before the next run."""
        status = self._status()
        known = (None, self._told_approval, status.last_handled_approval)
        if policy.dry_run or status.plan is None or policy.approval in (*known, status.plan.hash):
            return None
        self._told_approval = policy.approval
        return (
            f"{APPROVE_ANNOTATION} names another plan than the published one, {status.plan.hash}, and approves nothing"
        )

    def withdrawn(self) -> bool:
        """Say, once, that the annotation was gone: the plan that it approved may be approved anew."""
        if not self._withdrawn:
            return False
        self._withdrawn, self._vain_approval = False, None
        return True


def _counts_from(status: PolicyStatus) -> datetime | None:
    """Return since when times of the schedule count; None where nothing is planned, or status is damaged."""
    generated = parse_time(status.plan.generated_at) if status.plan is not None else None
    return None if generated is None else parse_time(status.schedule_counts_from) or generated


def _interrupted(status: PolicyStatus) -> datetime | None:
    """Return the scheduled time of the last run that was interrupted, if it stood for one."""
    runs: list[RunStatus] = [*status.history]
    if status.last_run is not None:
        runs.insert(0, status.last_run)
    last = next((run for run in runs if run.phase is Phase.INTERRUPTED and run.scheduled_time is not None), None)
    return parse_time(last.scheduled_time) if last is not None else None


def _bears_approval(body: Mapping[str, Any]) -> bool:
    return bool((body["metadata"].get("annotations") or {}).get(APPROVE_ANNOTATION))
