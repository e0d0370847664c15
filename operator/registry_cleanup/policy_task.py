"""The task of one policy: it waits for a time, a request, an approval, a change or a stop, and runs the policy.

Events only wake it. What the policy has come to is what the task last wrote to its status.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.domain.run import Conflict, Failure, Phase, RunOrder, RunReport, Trigger
from registry_cleanup.domain.schedule import Due, State, Wait, due
from registry_cleanup.kube.guard import change
from registry_cleanup.kube.spec import APPROVE_ANNOTATION, InvalidSpecError, ParsedPolicy, parse_policy
from registry_cleanup.kube.status import parse_time
from registry_cleanup.ports import InterruptedRunError, RunError
from registry_cleanup.standing import Standing

_log = logging.getLogger(__name__)

_FIRST_RETRY = timedelta(seconds=10)
_LAST_RETRY = timedelta(minutes=10)
# A run that stopped for what no event has told yet is not begun again at once.
_REST = timedelta(seconds=5)
_MUTE_REST = timedelta(minutes=1)
# asyncio's clocks take no longer waits; waking once a day costs nothing.
_LONGEST_WAIT = timedelta(days=1)
DELETED = "the policy was deleted"

Notify = Callable[[Mapping[str, Any], bool, str, str], None]
"""Posts an Event about a resource: whether it is a warning, its reason, and what it says."""
Place = Callable[[str], AbstractAsyncContextManager[None]]
"""Waits for a place to run at a registry."""
Spread = Callable[[ParsedPolicy, Sequence[Conflict]], None]
"""Tells the other policies of all conflicts of one."""


class PolicyTask:
    """The task of one policy, by UID.

    Attributes:
        task: ends after `halt`.
        standing: what the policy has come to.
    """

    def __init__(
        self, application: Application, notify: Notify, place: Place, spread: Spread, body: Mapping[str, Any]
    ) -> None:
        self.standing = Standing(application.api, application.clock, body, lambda: self.halt(DELETED))
        self._application = application
        self._notify = notify
        self._place = place
        self._spread = spread
        self._woken = asyncio.Event()
        self._halted: str | None = None
        self._retry_at: datetime | None = None
        self._attempts = 0
        self._rest_until: datetime | None = None
        self._vain_approval: str | None = None
        self._told_approval: str | None = None
        self._withdrawn = not _bears_approval(body)
        self.task = asyncio.create_task(self._live(), name=f"policy {body['metadata']['uid']}")

    def observe(self, body: Mapping[str, Any]) -> None:
        """Wake for what is new in the resource."""
        if body["metadata"]["generation"] != self.standing.body["metadata"]["generation"]:
            self._retry_at, self._attempts, self._rest_until, self._vain_approval = None, 0, None, None
        self._withdrawn = self._withdrawn or not _bears_approval(body)
        self.standing.body = body
        self._woken.set()

    def halt(self, reason: str) -> None:
        """End, after the run under way has stopped at its next safe point."""
        self._halted = reason
        self._woken.set()

    async def _live(self) -> None:
        await self._bury_interrupted()
        while self._halted is None:
            self._woken.clear()
            try:
                wait = await self._step()
            except Exception:  # a bug in one policy's run must not silence the policy, nor any other
                _log.exception("unexpected error", extra={"policy": self.standing.name})
                self._put_off()
                wait = Wait(self._retry_at)
            await self._sleep(wait)
        await self.standing.settle()

    async def _step(self) -> Wait:
        """Do what is due, if anything is; say how long to wait."""
        try:
            policy = parse_policy(self.standing.body)
        except InvalidSpecError as error:
            if await self.standing.write(self.standing.writer().invalid(str(error))):
                self._notify(self.standing.body, True, "InvalidSpec", str(error))
            return Wait(None)
        await self._note_withdrawal()
        if policy.suspend:
            await self.standing.write(self.standing.writer().suspended())
            await self._review_conflicts(policy)
            return Wait(None)
        what = due(self._state(policy), self._now())
        if isinstance(what, Wait):
            self._tell_vain_approval(policy)
            await self._review_conflicts(policy)
            return what
        if self._rest_until is not None and self._now() < self._rest_until:
            return Wait(self._rest_until)
        async with self._place(policy.policy.registry):
            if self._outdated(policy) is None:
                # While the run waited for its place, a request may have come, or an approval gone.
                policy = parse_policy(self.standing.body)
                what = due(self._state(policy), self._now())
                if isinstance(what, Due):
                    await self._run(policy, what)
        return Wait(self._now())

    async def _run(self, policy: ParsedPolicy, asked: Due) -> None:
        standing, now = self.standing, self._now()
        order = RunOrder(
            f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            asked.trigger,
            asked.plan_only,
            now,
            self._asked(policy),
            self._approval(policy),
            self._references_before(policy),
            asked.trigger is Trigger.REQUEST,
        )
        failed_before = standing.status.failed
        standing.run_begins()
        await standing.write(standing.writer(policy.generation).running(order))
        report = await self._report(policy, order)
        interrupted = report.phase is Phase.INTERRUPTED
        if interrupted:
            if self._halted == DELETED:
                return  # nobody is left to be told
            if self._outdated(policy) is None:
                self._rest_until = self._now() + (_MUTE_REST if standing.mute else _REST)
        status = standing.writer(policy.generation).finished(
            report,
            failed_before=failed_before,
            handled_request=self._handled(policy, report),
            handled_approval=self._handled_approval(order, report),
            scheduled_for=asked.scheduled_for if not interrupted else None,
            next_time=policy.schedule.after(self._now()) if policy.schedule is not None else None,
        )
        if report.conflicts is not None:
            # A dry run blocks nobody, so it has no say over a younger policy.
            found = [conflict for conflict in report.conflicts if conflict.yields or not policy.dry_run]
            status = standing.conflicts_found(status, policy.generation, found)
        planned = status.plan is not None and status.plan.observed_generation == policy.generation
        if planned:
            self._retry_at, self._attempts = None, 0
        elif self._outdated(policy) is None:  # else something else is to be planned, at once
            self._put_off()
        if not interrupted and not order.plan_only:
            vain = not report.approval_taken and status.plan is not None and status.plan.hash == order.approval
            self._vain_approval = order.approval if vain else None
        await standing.write(status)
        if report.conflicts is not None and not policy.dry_run and self._outdated(policy) is None:
            self._spread(policy, standing.conflicts)
        if self._halted == DELETED:
            return
        what = "Plan" if order.plan_only else "Run"
        failed = report.phase not in (Phase.SUCCEEDED, Phase.AWAITING_APPROVAL)
        self._notify(standing.body, failed, f"{what}{report.phase.value}", f"{order.trigger.value}: {report.message}")

    async def _report(self, policy: ParsedPolicy, order: RunOrder) -> RunReport:
        """Run; a mistake of ours ends this run, and is told like any other failure.

        Where the operator may not write the status it does nothing: nobody would learn what it did.
        """
        if self.standing.mute:
            message = "the operator may not patch registrycleanuppolicies/status, so it does nothing: grant it that"
            _log.error(message, extra={"policy": self.standing.name})
            return RunReport(order, Phase.INTERRUPTED, self._now(), message=message)
        try:
            return await self._application.run(policy, order, lambda: self._outdated(policy))
        except Exception as error:
            _log.exception("unexpected error", extra={"policy": self.standing.name, "run": order.id})
            message = (
                f"an unexpected error ended the run ({type(error).__name__}); the operator's log has it: report it"
            )
            failure = Failure("InternalError", message)
            return RunReport(order, Phase.FAILED, self._now(), failures=(failure,), message=message)

    async def _review_conflicts(self, policy: ParsedPolicy) -> None:
        """Look again at conflicts that an operator before this one found: a rival may have gone in between."""
        if not self.standing.conflicts_inherited:
            return
        self.standing.run_begins()
        try:
            async with self._place(policy.policy.registry):
                found = await self._application.conflicts(policy)
        except (RunError, InterruptedRunError):
            return  # the next step looks again
        if self._halted is None and self.standing.body["metadata"]["generation"] == policy.generation:
            status = self.standing.conflicts_found(self.standing.status, policy.generation, found)
            await self.standing.write(status)

    def _outdated(self, policy: ParsedPolicy) -> str | None:
        """Return what the events so far say against a run of `policy`; None if nothing does."""
        return self._halted or change(policy, self.standing.body)

    # Requests and approvals

    def _asked(self, policy: ParsedPolicy) -> str | None:
        """Return the request to prune that has not been answered yet, if there is one."""
        asked = not policy.dry_run and policy.request != self.standing.status.last_handled_run_request
        return policy.request if asked else None

    def _handled(self, policy: ParsedPolicy, report: RunReport) -> str | None:
        """Return the last answered request: one that was interrupted is asked again after the interruption."""
        if report.phase is Phase.INTERRUPTED or policy.request is None:
            return self.standing.status.last_handled_run_request
        return policy.request

    def _approval(self, policy: ParsedPolicy) -> str | None:
        """Return the approval that no run has taken note of yet, if there is one."""
        asked = not policy.dry_run and policy.approval != self.standing.status.last_handled_approval
        return policy.approval if asked else None

    def _handled_approval(self, order: RunOrder, report: RunReport) -> str | None:
        """Return the last approval that a run took note of; one that was interrupted takes note of it again."""
        taken = report.approval_taken and report.phase is not Phase.INTERRUPTED
        return order.approval if taken else self.standing.status.last_handled_approval

    def _references_before(self, policy: ParsedPolicy) -> int | None:
        """Return how much was in use at the last look by the same spec; None where there was none."""
        last = self.standing.status.in_use
        return last.references if last is not None and last.observed_generation == policy.generation else None

    def _tell_vain_approval(self, policy: ParsedPolicy) -> None:
        """Post an Event, once, about an approval that starts nothing: nothing else would tell before the next run."""
        status = self.standing.status
        known = (None, self._told_approval, status.last_handled_approval)
        if policy.dry_run or status.plan is None or policy.approval in (*known, status.plan.hash):
            return
        self._told_approval = policy.approval
        message = (
            f"{APPROVE_ANNOTATION} names another plan than the published one, {status.plan.hash}, and approves nothing"
        )
        self._notify(self.standing.body, True, "OtherPlanApproved", message)

    async def _note_withdrawal(self) -> None:
        """Forget the approval that was taken note of once its annotation was gone: the plan may be approved anew."""
        if self._withdrawn:
            self._withdrawn, self._vain_approval = False, None
            status = self.standing.status
            await self.standing.write(status.model_copy(update={"last_handled_approval": None}))

    def _state(self, policy: ParsedPolicy) -> State:
        status = self.standing.status
        plan = status.plan
        return State(
            policy.generation,
            plan.observed_generation if plan is not None else None,
            parse_time(plan.generated_at) if plan is not None else None,
            policy.request,
            status.last_handled_run_request,
            policy.schedule,
            parse_time(status.last_schedule_time),
            policy.dry_run,
            self._retry_at,
            policy.approval,
            status.last_handled_approval,
            plan.hash if plan is not None else None,
            self._vain_approval,
        )

    async def _bury_interrupted(self) -> None:
        """Say of a run that status shows as running, from before this process, that it was interrupted."""
        last = self.standing.status.last_run
        if last is not None and last.phase is Phase.RUNNING:
            message = "the operator ended during this run; it is done again"
            await self.standing.write(self.standing.writer().interrupted(message))

    def _put_off(self) -> None:
        delay = min(_FIRST_RETRY * 2**self._attempts, _LAST_RETRY)
        self._attempts = min(self._attempts + 1, 10)
        self._retry_at = self._now() + delay

    async def _sleep(self, wait: Wait) -> None:
        seconds = None
        if wait.until is not None:
            seconds = max(min(wait.until - self._now(), _LONGEST_WAIT).total_seconds(), 0.0)
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _now(self) -> datetime:
        return self._application.clock.now()


def _bears_approval(body: Mapping[str, Any]) -> bool:
    return bool((body["metadata"].get("annotations") or {}).get(APPROVE_ANNOTATION))
