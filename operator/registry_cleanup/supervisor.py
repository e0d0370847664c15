"""One task for each policy: it waits for a time, a request, a change or a stop, and runs the policy.

Events only wake the tasks. What a policy has come to is what its task last wrote to its status; the status of the
resource is read once, when the task starts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.domain.run import Failure, Phase, RunOrder, RunReport
from registry_cleanup.domain.schedule import Due, State, Wait, due
from registry_cleanup.kube.api import APIError, NotThereError
from registry_cleanup.kube.guard import change
from registry_cleanup.kube.spec import InvalidSpecError, ParsedPolicy, parse_policy
from registry_cleanup.kube.status import PolicyStatus, StatusWriter, parse_status, parse_time

_log = logging.getLogger(__name__)

_FIRST_RETRY = timedelta(seconds=10)
_LAST_RETRY = timedelta(minutes=10)
# A run that stopped for what no event has told yet is not begun again at once.
_REST = timedelta(seconds=5)
# asyncio's clocks take no longer waits; waking once a day costs nothing.
_LONGEST_WAIT = timedelta(days=1)
_DELETED = "the policy was deleted"

Notify = Callable[[Mapping[str, Any], bool, str, str], None]
"""Posts an Event about a resource: whether it is a warning, its reason, and what it says."""


class Supervisor:
    """All policies of this process."""

    def __init__(self, application: Application, notify: Notify) -> None:
        self._application = application
        self._notify = notify
        self._places = Places(application.settings.concurrent_runs)
        self._tasks: dict[str, PolicyTask] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def observe(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take note of a policy as an event shows it."""
        uid = body["metadata"]["uid"]
        task = self._tasks.get(uid)
        if deleted or body["metadata"].get("deletionTimestamp") is not None:
            if task is not None:
                task.halt(_DELETED)
                del self._tasks[uid]
                self._leaving.add(task.task)
                task.task.add_done_callback(self._leaving.discard)
            return
        if task is None:
            self._tasks[uid] = PolicyTask(self._application, self._notify, self._places, body)
        else:
            task.observe(body)

    async def stop(self) -> None:
        """Let every run stop at its next safe point, for as long as the settings allow."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.halt("the operator was stopped")
        running = [*(task.task for task in tasks), *self._leaving]
        if running:
            _, late = await asyncio.wait(running, timeout=self._application.settings.stop_seconds)
            for late_task in late:
                late_task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class Places:
    """Where runs take place: so many at a time in all, and one at a time at each registry.

    Two runs in one repository would each count on tags that the other takes away, such as those that
    `minTagsPerRepository` keeps.
    """

    def __init__(self, runs: int) -> None:
        self._slots = asyncio.Semaphore(runs)
        self._registries: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def at(self, registry: str) -> AsyncIterator[None]:
        """Wait for a place at `registry`."""
        async with self._registries[registry], self._slots:
            yield


class PolicyTask:
    """The task of one policy, by UID.

    Attributes:
        task: ends after `halt`.
    """

    def __init__(self, application: Application, notify: Notify, places: Places, body: Mapping[str, Any]) -> None:
        self._application = application
        self._notify = notify
        self._places = places
        self._body = body
        self._status = parse_status(body.get("status"))
        self._woken = asyncio.Event()
        self._halted: str | None = None
        self._retry_at: datetime | None = None
        self._attempts = 0
        self._rest_until: datetime | None = None
        self.task = asyncio.create_task(self._live(), name=f"policy {body['metadata']['uid']}")

    def observe(self, body: Mapping[str, Any]) -> None:
        """Wake for what is new in the resource."""
        if body["metadata"]["generation"] != self._body["metadata"]["generation"]:
            self._retry_at, self._attempts, self._rest_until = None, 0, None
        self._body = body
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
                _log.exception("unexpected error", extra={"policy": self._name()})
                self._put_off()
                wait = Wait(self._retry_at)
            await self._sleep(wait)

    async def _step(self) -> Wait:
        """Do what is due, if anything is; say how long to wait."""
        try:
            policy = parse_policy(self._body)
        except InvalidSpecError as error:
            if await self._write(self._writer().invalid(str(error))):
                self._notify(self._body, True, "InvalidSpec", str(error))
            return Wait(None)
        if policy.suspend:
            await self._write(self._writer().suspended())
            return Wait(None)
        what = due(self._state(policy), self._now())
        if isinstance(what, Wait):
            return what
        if self._rest_until is not None and self._now() < self._rest_until:
            return Wait(self._rest_until)
        async with self._places.at(policy.policy.registry):
            if self._outdated(policy) is None:
                await self._run(policy, what)
        return Wait(self._now())

    async def _run(self, policy: ParsedPolicy, asked: Due) -> None:
        now = self._now()
        order = RunOrder(
            f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", asked.trigger, asked.plan_only, now, self._asked(policy)
        )
        failed_before = self._status.failed
        await self._write(self._writer(policy.generation).running(order))
        report = await self._report(policy, order)
        if report.phase is Phase.INTERRUPTED:
            if self._halted == _DELETED:
                return  # nobody is left to be told
            if self._outdated(policy) is None:
                self._rest_until = self._now() + _REST
        status = self._writer(policy.generation).finished(
            report,
            failed_before=failed_before,
            handled_request=self._handled(policy, report),
            scheduled_for=asked.scheduled_for if report.phase is not Phase.INTERRUPTED else None,
            next_time=policy.schedule.after(self._now()) if policy.schedule is not None else None,
        )
        planned = status.plan is not None and status.plan.observed_generation == policy.generation
        if planned:
            self._retry_at, self._attempts = None, 0
        else:
            self._put_off()
        await self._write(status)
        if self._halted == _DELETED:
            return
        what = "Plan" if order.plan_only else "Run"
        failed = report.phase is not Phase.SUCCEEDED
        self._notify(self._body, failed, f"{what}{report.phase.value}", f"{order.trigger.value}: {report.message}")

    async def _report(self, policy: ParsedPolicy, order: RunOrder) -> RunReport:
        """Run; a mistake of ours ends this run, and is told like any other failure."""
        try:
            return await self._application.run(policy, order, lambda: self._outdated(policy))
        except Exception as error:
            _log.exception("unexpected error", extra={"policy": self._name(), "run": order.id})
            message = (
                f"an unexpected error ended the run ({type(error).__name__}); the operator's log has it: report it"
            )
            failure = Failure("InternalError", message)
            return RunReport(order, Phase.FAILED, self._now(), failures=(failure,), message=message)

    def _outdated(self, policy: ParsedPolicy) -> str | None:
        """Return what the events so far say against a run of `policy`; None if nothing does."""
        return self._halted or change(policy, self._body)

    def _asked(self, policy: ParsedPolicy) -> str | None:
        """Return the request to prune that has not been answered yet, if there is one."""
        asked = not policy.dry_run and policy.request != self._status.last_handled_run_request
        return policy.request if asked else None

    def _handled(self, policy: ParsedPolicy, report: RunReport) -> str | None:
        """Return the last answered request: one that was interrupted is asked again after the interruption."""
        interrupted = report.phase is Phase.INTERRUPTED
        return self._status.last_handled_run_request if interrupted or policy.request is None else policy.request

    def _state(self, policy: ParsedPolicy) -> State:
        plan = self._status.plan
        return State(
            policy.generation,
            plan.observed_generation if plan is not None else None,
            parse_time(plan.generated_at) if plan is not None else None,
            policy.request,
            self._status.last_handled_run_request,
            policy.schedule,
            parse_time(self._status.last_schedule_time),
            policy.dry_run,
            self._retry_at,
        )

    async def _bury_interrupted(self) -> None:
        """Say of a run that status shows as running, from before this process, that it was interrupted."""
        if self._status.last_run is not None and self._status.last_run.phase is Phase.RUNNING:
            await self._write(self._writer().interrupted("the operator ended during this run; it is done again"))

    def _writer(self, generation: int | None = None) -> StatusWriter:
        observed = self._body["metadata"]["generation"] if generation is None else generation
        return StatusWriter(self._status, observed, self._now())

    async def _write(self, status: PolicyStatus) -> bool:
        """Remember and publish `status`; say whether it is news.

        What cannot be published is in the log, and is published with the next status.
        """
        if status == self._status:
            return False
        self._status = status
        metadata = self._body["metadata"]
        try:
            await self._application.api.replace_status(
                metadata["namespace"], metadata["name"], metadata["uid"], status.as_json()
            )
        except APIError as error:
            if isinstance(error, NotThereError) and await self._is_gone():
                self.halt(_DELETED)  # while nobody watched: no event will ever tell
                return False
            _log.warning(
                "the status could not be written",
                extra={"policy": self._name(), "cause": str(error), "status": status.as_json()},
            )
        return True

    async def _is_gone(self) -> bool:
        metadata = self._body["metadata"]
        try:
            read = await self._application.api.policy(metadata["namespace"], metadata["name"])
        except NotThereError:
            return True
        except APIError:
            return False
        return bool(read.body["metadata"]["uid"] != metadata["uid"])

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

    def _name(self) -> str:
        return f"{self._body['metadata']['namespace']}/{self._body['metadata']['name']}"
