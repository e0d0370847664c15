"""The task of one policy: it waits for a time, a request, an approval, a change or a stop, and runs the policy.

Events only wake it. What the policy has come to is what the task last wrote to its status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.concurrency import unless
from registry_cleanup.demands import Demands
from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.domain.news import News
from registry_cleanup.domain.run import Conflict, Failure, Phase, RunOrder, RunReport, Trigger
from registry_cleanup.domain.schedule import Due, Missed, Wait, due
from registry_cleanup.domain.undoing import Undone
from registry_cleanup.doors import registry_key
from registry_cleanup.kube.guard import change
from registry_cleanup.kube.spec import InvalidSpecError, ParsedPolicy
from registry_cleanup.kube.status import FAILING, registry_name
from registry_cleanup.narrator import Narrator
from registry_cleanup.places import Seat
from registry_cleanup.ports import InterruptedRunError, RunError
from registry_cleanup.runner import new_run_id
from registry_cleanup.standing import Notify, Standing
from registry_cleanup.tending import Tending, UndoTries

_log = logging.getLogger(__name__)

# A run that stopped for what no event has told yet is not begun again at once.
_REST = timedelta(seconds=5)
_LONG_REST = timedelta(minutes=1)
# A clock that is set forward during a longer wait is noticed late. Waking asks nobody, and costs next to nothing.
_LONGEST_WAIT = timedelta(minutes=10)
# Of what an undo left, so much is in the log.
_TOLD = 100
# For the end of a collection, and for what is found out at the start of the operator.
_KNOCK_AGAIN, _KNOCK_SOON = timedelta(seconds=1), timedelta(seconds=0.1)
DELETED = "the policy was deleted"
# Seconds; who waits for less needs its status soon.
_REST_AFTER = 5.0

Place = Callable[[str], AbstractAsyncContextManager[Seat]]
"""Waits for a place to run, as one of a namespace."""
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
        self.standing = Standing(
            application.api, application.clock, body, lambda: self.halt(DELETED), application.metrics.policies
        )
        self._application = application
        self._notify = notify
        self._place = place
        self._spread = spread
        self._woken = asyncio.Event()
        self._halted: str | None = None
        jitter = timedelta(seconds=application.settings.schedule_jitter_seconds)
        self._demands = Demands(lambda: self.standing.status, lambda: application.withheld, body, jitter)
        self._news = News()
        self._tending = Tending()
        self._wake_at: datetime | None = None
        self._undo_tries = UndoTries()
        self._patience: asyncio.Timeout | None = None
        self._rest_until: datetime | None = None
        self._knocked = False
        self.task = asyncio.create_task(self._live(), name=f"policy {body['metadata']['uid']}")

    def observe(self, body: Mapping[str, Any]) -> None:
        """Wake for what is new in the resource."""
        changed = body["metadata"]["generation"] != self.standing.body["metadata"]["generation"]
        if changed:
            self._rest_until = None
        self._demands.observe(body, changed=changed)
        self.standing.body = body
        self._woken.set()

    def halt(self, reason: str) -> None:
        """End, after the run under way has stopped at its next safe point."""
        self._halted = reason
        self._woken.set()
        if self._patience is not None:  # it waits for a place that it needs no more
            self._patience.reschedule(0)
            self._patience = None

    async def _live(self) -> None:
        await self._bury_interrupted()
        while self._halted is None:
            self._woken.clear()
            try:
                wait = await self._step()
            except Exception:  # a bug in one policy's run must not silence the policy, nor any other
                _log.exception("unexpected error", extra={"policy": self.standing.name})
                self._demands.put_off(self._now())
                wait = Wait(self._demands.retry_at)
            await self._sleep(wait)
        await self.standing.settle()

    async def _step(self) -> Wait:
        """Do what is due, if anything is; say how long to wait."""
        self._wake_at = None
        try:
            policy = self._application.parse(self.standing.body)
        except InvalidSpecError as error:
            if await self.standing.write(self.standing.writer().invalid(str(error), error.reason)):
                self._tell(error.reason, str(error), warning=True)
            return Wait(None)
        await self._note_withdrawal()
        if self._wants_undo(policy) and self._is_shut(policy):
            return self._outside()
        if await self._undo(policy) or await self._tend_copies(policy):
            return Wait(self._now())
        if policy.suspend:
            await self.standing.write(self.standing.writer().suspended())
            await self._review_conflicts(policy)
            return Wait(None)
        return await self._pursue(policy)

    async def _pursue(self, policy: ParsedPolicy) -> Wait:
        """Run the policy, if it is due; say how long to wait."""
        what = due(self._demands.state(policy, now := self._now()), now)
        if isinstance(what, Missed):
            await self._miss(what.time)
            return Wait(self._now())
        if isinstance(what, Wait):
            await self._idle(policy, what)
            return what
        if self._rest_until is not None and self._now() < self._rest_until:
            return Wait(self._rest_until)
        if self._is_shut(policy):
            return self._outside()
        async with self._at_registry(policy) as seat:
            if seat is not None and self._outdated(policy) is None:
                await self._run_if_due(seat)
        return Wait(self._now())

    async def _run_if_due(self, seat: Seat) -> None:
        """Run, if that is still wanted: while it waited for its place, a request may have come, or an approval gone."""
        policy = self._application.parse(self.standing.body)
        what = due(self._demands.state(policy, now := self._now()), now)
        if isinstance(what, Due):
            self._knocked = False
            await self._run(policy, what, seat)

    def _is_shut(self, policy: ParsedPolicy) -> bool:
        return self._application.doors.is_shut(registry_key(policy.registry.url))

    def _outside(self) -> Wait:
        """Wait while garbage is collected at the registry: it takes no changes, or is not there at all."""
        if self._application.doors.all_shut:
            return Wait(self._now() + _KNOCK_SOON)
        if not self._knocked:
            _log.info("the run waits for the garbage collection of its registry", extra={"policy": self.standing.name})
        self._knocked = True
        return Wait(self._now() + _KNOCK_AGAIN)

    async def _idle(self, policy: ParsedPolicy, wait: Wait) -> None:
        """Tell what a policy waits for, and what it would wait for in vain."""
        if policy.schedule is not None and self._demands.retry_at is None:
            # Where it was missed, or an administrator has changed the jitter since, no run has told.
            await self.standing.write(self.standing.writer().waiting(wait.until))
        if (vain := self._demands.vain_approval(policy)) is not None:
            self._tell("OtherPlanApproved", vain, warning=True)
        await self._review_conflicts(policy)

    @asynccontextmanager
    async def _placed(self, namespace: str) -> AsyncIterator[Seat | None]:
        """Wait for a place; None if the task is to end before there is one."""
        async with AsyncExitStack() as stack:
            seat = None
            try:
                async with asyncio.timeout(None) as self._patience:
                    seat = await stack.enter_async_context(self._place(namespace))
            except TimeoutError:
                pass  # halted
            finally:
                self._patience = None
            yield seat

    @asynccontextmanager
    async def _at_registry(self, policy: ParsedPolicy) -> AsyncIterator[Seat | None]:
        """Wait for a place to work at the registry; None if there is none, or if garbage is collected there by now."""
        async with self._placed(policy.namespace) as seat:
            with self._application.doors.inside(registry_key(policy.registry.url)) as inside:
                yield seat if inside else None

    async def _run(self, policy: ParsedPolicy, asked: Due, seat: Seat) -> None:
        standing, now = self.standing, self._now()
        order = RunOrder(
            new_run_id(now),
            asked.trigger,
            asked.plan_only,
            now,
            self._demands.asked(policy),
            self._demands.approval(policy),
            self._references_before(policy),
            asked.trigger is Trigger.REQUEST,
            asked.scheduled_for,
            now + policy.timeout,
            standing.status.next_repository,
            self._demands.repeated(asked.trigger),
            None if policy.dry_run else self._application.withheld,
        )
        failed_before = standing.status.failed
        standing.run_begins()
        await standing.write(standing.writer(policy.generation).running(order))
        report = await self._report(policy, order, seat)
        shut_out = self._shut_out(report)
        if shut_out is not None:
            report = shut_out
        interrupted = report.phase is Phase.INTERRUPTED
        if interrupted:
            if self._halted == DELETED:
                return  # nobody is left to be told
            if self._outdated(policy) is None:
                rests_long = standing.mute or shut_out is not None
                self._rest_until = self._now() + (_LONG_REST if rests_long else _REST)
        timetable = self._demands.timetable(policy)
        status = standing.writer(policy.generation).finished(
            report,
            failed_before=failed_before,
            handled_request=self._demands.handled(policy, report),
            handled_approval=self._demands.handled_approval(order, report),
            next_time=timetable.next_start(self._now()) if timetable is not None else None,
            history_limit=policy.history_limit,
            undo_kept=policy.policy.undo.kept_for,
            registry=registry_name(policy.registry.url),
        )
        if report.conflicts is not None:
            # A dry run blocks nobody, so it has no say over a younger policy.
            found = [conflict for conflict in report.conflicts if conflict.yields or not policy.dry_run]
            status = standing.conflicts_found(status, policy.generation, found)
        planned = status.plan is not None and status.plan.observed_generation == policy.generation
        if planned:
            self._demands.planned()
        elif self._outdated(policy) is None:  # else something else is to be planned, at once
            self._demands.put_off(self._now())
        self._demands.ended(order, report, status)
        self._tending.ran(order, report)
        await standing.write(status)
        if report.conflicts is not None and not policy.dry_run and self._outdated(policy) is None:
            self._spread(policy, standing.conflicts)
        if self._halted == DELETED:
            return
        what = "Plan" if order.plan_only else "Run"
        failed = report.phase not in (Phase.SUCCEEDED, Phase.AWAITING_APPROVAL)
        reason, message = f"{what}{report.phase.value}", f"{order.trigger.value}: {report.message}"
        # Who asks for a run is told of its end.
        self._tell(reason, message, warning=failed, always=asked.trigger is Trigger.REQUEST)

    async def _undo(self, policy: ParsedPolicy) -> bool:
        """Undo the run that the annotation names, once, also of a policy that is suspended; say whether it was due.

        What the operator's end cuts short is done again: nothing of it can be done twice.
        """
        handled = self.standing.status.last_handled_undo
        if policy.undo is None and handled is not None:
            # Set again, the annotation means that it is to be done again.
            await self.standing.write(self.standing.status.model_copy(update={"last_handled_undo": None}))
        if policy.undo is None or not self._wants_undo(policy):
            return False
        if (again := self._undo_tries.not_before(policy.undo)) is not None and again > self._now():
            self._wake_at = _earliest(self._wake_at, again)
            return False
        async with self._at_registry(policy) as seat:
            if seat is None:
                return True
            try:
                undone = await unless(
                    self._unless_halted, self._application.undo(policy, policy.undo, self.standing.status.undo)
                )
            except InterruptedRunError:
                return True
            except RunError as error:
                await self._tell_undone(policy, policy.undo, error.failure)
            except Exception as error:
                _log.exception("unexpected error", extra={"policy": self.standing.name, "run": policy.undo})
                message = f"an unexpected error ended the undo ({type(error).__name__}); the operator's log has it"
                await self._tell_undone(policy, policy.undo, Failure("InternalError", message))
            else:
                await self._tell_undone(policy, policy.undo, undone)
        return True

    def _wants_undo(self, policy: ParsedPolicy) -> bool:
        """Say whether the policy bears the name of a run that has not been undone yet."""
        return policy.undo not in (None, self.standing.status.last_handled_undo) and not self.standing.mute

    async def _tell_undone(self, policy: ParsedPolicy, run: str, undone: Undone | Failure) -> None:
        """Say in status, log and an Event what an undo came to; what passes by itself is tried again."""
        whole = isinstance(undone, Undone) and undone.whole
        failure = undone if isinstance(undone, Failure) else undone.failure
        handled = not (failure is not None and self._undo_tries.again(run, failure, self._now()))
        message = undone.message if isinstance(undone, Undone) else f"undo of run {run}: {undone.message}"
        _log.log(
            logging.INFO if whole else logging.WARNING,
            message,
            extra={
                "policy": self.standing.name,
                "run": run,
                "not_restored": []
                if isinstance(undone, Failure)
                else [f"{each.reference}: {each.result.value} {each.detail}" for each in undone.left[:_TOLD]],
            },
        )
        # A status of another generation than the one that is planned must not seem to be of this one.
        generation = self.standing.status.observed_generation or policy.generation
        await self.standing.write(self.standing.writer(generation).undone(undone, run, handled=handled))
        self._tell("RunUndone" if whole else "UndoIncomplete", message, warning=not whole, always=handled)

    async def _tend_copies(self, policy: ParsedPolicy) -> bool:
        """Remove copies whose window is over, also where nothing is pruned any more; say whether any were due."""
        due_at = self._tending.due(policy, self.standing.status, now := self._now())
        if due_at is None or self.standing.mute or self._application.withheld is not None:
            return False
        if due_at <= now and self._is_shut(policy):
            due_at = now + _KNOCK_AGAIN
        if due_at > now:
            self._wake_at = _earliest(self._wake_at, due_at)
            return False
        async with self._at_registry(policy) as seat:
            if seat is None:
                return True
            try:
                held = await unless(
                    self._unless_halted, self._application.tend_copies(policy, self.standing.status.undo)
                )
            except InterruptedRunError:
                return True
            except RunError as error:
                self._tending.put_off(self._now())
                message = error.failure.message
                _log.warning(message, extra={"policy": self.standing.name, "code": error.code})
                self._tell("CopiesKept", message, warning=True)
                return True
            self._tending.looked()
            generation = self.standing.status.observed_generation or policy.generation
            window, registry = policy.policy.undo.kept_for, registry_name(policy.registry.url)
            await self.standing.write(self.standing.writer(generation).undoable(held, window, registry))
            again = self._tending.due(policy, self.standing.status, now := self._now())
            if again is not None and again <= now:  # whatever that is, asking at once will not help
                self._tending.put_off(now)
        return True

    def _unless_halted(self) -> None:
        if (objection := self._halted or self._application.election.objection()) is not None:
            raise InterruptedRunError(objection)

    async def _miss(self, time: datetime) -> None:
        """Tell that a scheduled time passed without a run, once; it counts as answered then."""
        message = (
            f"the run of {time:%Y-%m-%dT%H:%M:%SZ} could not start within spec.startingDeadlineSeconds, and is left "
            "out, with any before it; the next one follows the schedule"
        )
        _log.warning(message, extra={"policy": self.standing.name})
        await self.standing.write(self.standing.writer().missed(time))
        self._tell("MissedSchedule", message, warning=True)

    def _tell(self, reason: str, message: str, *, warning: bool, always: bool = False) -> None:
        """Post an Event; what happens again and again is told once in a while, unless it is to be told `always`."""
        if self._news.is_news(reason, message, self._now()) or always:
            self._notify(self.standing.body, warning, reason, message)

    async def _report(self, policy: ParsedPolicy, order: RunOrder, seat: Seat) -> RunReport:
        """Run; a mistake of ours ends this run, and is told like any other failure.

        Where the operator may not write the status it does nothing: nobody would learn what it did.
        """
        if self.standing.mute:
            message = "the operator may not patch registrycleanuppolicies/status, so it does nothing: grant it that"
            _log.error(message, extra={"policy": self.standing.name})
            return self._unrun(policy, order, Phase.INTERRUPTED, message)
        narrator = Narrator(self.standing.name, order.id, lambda progress: self.standing.show(order.id, progress))
        try:
            return await self._application.run(
                policy, order, lambda: self._outdated(policy), seat.aside, narrator.follow
            )
        except Exception as error:
            _log.exception("unexpected error", extra={"policy": self.standing.name, "run": order.id})
            message = (
                f"an unexpected error ended the run ({type(error).__name__}); the operator's log has it: report it"
            )
            return self._unrun(policy, order, Phase.FAILED, message, Failure("InternalError", message))

    def _shut_out(self, report: RunReport) -> RunReport | None:
        """Return what is told of a run that met a read-only registry while garbage is collected at some registry.

        That may be the same one under another name, which its door does not know; then it is no failure.
        """
        read_only = any(failure.reason == Deletion.READ_ONLY.value for failure in report.failures)
        if not read_only or report.phase not in FAILING or not self._application.doors.any_is_collected:
            return None
        message = "the registry is read-only while garbage is collected; the run is done again after that"
        _log.info(message, extra={"policy": self.standing.name, "run": report.order.id})
        return replace(report, phase=Phase.INTERRUPTED, failures=(), deletion=None, message=message)

    def _unrun(
        self, policy: ParsedPolicy, order: RunOrder, phase: Phase, message: str, *failures: Failure
    ) -> RunReport:
        """Return the report of a run of which the application knows no end; it is counted as any other."""
        report = RunReport(
            order,
            phase,
            self._now(),
            failures=failures,
            message=message,
            next_repository=order.first_repository,
        )
        self._application.ended(policy, report)
        return report

    async def _review_conflicts(self, policy: ParsedPolicy) -> None:
        """Look again at conflicts that an operator before this one found: a rival may have gone in between."""
        if not self.standing.conflicts_inherited:
            return
        self.standing.run_begins()
        try:
            async with self._placed(policy.namespace) as seat:
                if seat is None:
                    return
                found = await self._application.conflicts(policy)
        except (RunError, InterruptedRunError):
            return  # the next step looks again
        if self._halted is None and self.standing.body["metadata"]["generation"] == policy.generation:
            status = self.standing.conflicts_found(self.standing.status, policy.generation, found)
            await self.standing.write(status)

    def _outdated(self, policy: ParsedPolicy) -> str | None:
        """Return what the events so far say against a run of `policy`; None if nothing does."""
        return self._halted or change(policy, self.standing.body)

    def _references_before(self, policy: ParsedPolicy) -> int | None:
        """Return how much was in use at the last look by the same spec; None where there was none."""
        last = self.standing.status.in_use
        return last.references if last is not None and last.observed_generation == policy.generation else None

    async def _note_withdrawal(self) -> None:
        """Forget the approval that was taken note of once its annotation was gone: the plan may be approved anew."""
        if self._demands.withdrawn():
            status = self.standing.status
            await self.standing.write(status.model_copy(update={"last_handled_approval": None}))

    async def _bury_interrupted(self) -> None:
        """Say of a run that status shows as running, from before this process, that it was interrupted."""
        last = self.standing.status.last_run
        if last is not None and last.phase is Phase.RUNNING:
            message = "the operator ended during this run; it is done again"
            # Of the generation since then nothing is known yet.
            known = self.standing.status.observed_generation
            changed = None
            with suppress(InvalidSpecError):
                policy = self._application.parse(self.standing.body)
                changed = policy.policy.undo if known not in (None, policy.generation) else None
            writer = self.standing.writer(known)
            if await self.standing.write(writer.interrupted(message, changed)):
                self._tell("RunInterrupted", f"{last.trigger.value}: {message}", warning=True)

    async def _sleep(self, wait: Wait) -> None:
        seconds = None
        if (until := _earliest(wait.until, self._wake_at)) is not None:
            seconds = max(min(until - self._now(), _LONGEST_WAIT).total_seconds(), 0.0)
        if seconds is None or seconds > _REST_AFTER:
            self.standing.rest()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _now(self) -> datetime:
        return self._application.clock.now()


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
