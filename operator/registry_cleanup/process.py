"""The operator as a process: from its start by way of standing by to the watch of policies, and to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn

from registry_cleanup.application import Application, open_application
from registry_cleanup.domain.tenancy import PLAN_ONLY
from registry_cleanup.handlers import lifecycle, policies
from registry_cleanup.kube.api import APIError, right_to_policies
from registry_cleanup.settings import PREFIX, Settings
from registry_cleanup.supervisor import Supervisor
from registry_cleanup.telemetry import Metrics
from registry_cleanup.web import Readiness, serve

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 5.0
# A watch that ends so soon, so often in a row, for reasons that no look at the API server explains, will not be mended
# by the next: the kubelet's restarts are seen, and become rarer.
_SOON, _VAIN_ROUNDS = 60.0, 5
_CRD = "the CRD registrycleanuppolicies.registrycleanup.dev"
_STOPPED = "the operator was stopped"


async def run(settings: Settings) -> int:
    """Run the operator until it is told to stop or may not go on; return the exit code."""
    process, metrics = _Process(settings), Metrics()
    metrics.observe_process(process.leads, process.crd_differs)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serve(settings.health_port, process.readiness, metrics))
        except OSError as error:
            _log.error("port %s: %s; set %sHEALTH_PORT to another, or 0", settings.health_port, error.strerror, PREFIX)
            return 1
        if settings.plan_only:
            _log.warning("%s is true: policies are planned only, whatever their dryRun says", PLAN_ONLY)
        application = await stack.enter_async_context(open_application(settings, metrics))
        return await process.run(application)


class _Process:
    """What one process goes through."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._application: Application | None = None
        self._told = asyncio.Event()  # to stop, by a signal
        self._ending = asyncio.Event()  # the watch has to end
        self._obstacle: str | None = "not asked yet"
        self._supervisor: Supervisor | None = None

    def readiness(self) -> Readiness:
        """Say whether this process works or stands by, and what keeps it from that."""
        if self._application is None:
            return Readiness(ready=False, checks={"api": "not asked yet"})
        election, schema = self._application.election, self._application.schema
        trouble = election.trouble
        checks = {
            "api": "reached" if trouble is None else trouble,
            "policies": "served" if self._obstacle is None else self._obstacle,
            "lease": election.state,
            **({"prunes": f"no: {PLAN_ONLY} is true"} if self._settings.plan_only else {}),
        }
        if self._supervisor is not None:
            checks["crd"] = "as built in" if schema.problem is None else schema.problem.message
        return Readiness(ready=trouble is None and self._obstacle is None, checks=checks)

    def leads(self) -> bool:
        """Say whether this process works now."""
        return (
            self._application is not None
            and self._supervisor is not None
            and self._application.election.objection() is None
        )

    def crd_differs(self) -> bool:
        """Say whether runs only plan, since the served CRD is not the built-in one."""
        # Who stands by has compared nothing.
        return self.leads() and self._application is not None and self._application.schema.problem is not None

    async def run(self, application: Application) -> int:
        """Stand by, work, and end; return the exit code."""
        self._application = application
        self._hear_signals()
        if not await self._unless_told(self._stand_by(application)):
            return 0
        return await self._work(application)

    async def _stand_by(self, application: Application) -> None:
        # Whoever could not work must not lead: another replica may be able to.
        await self._policies_are_served(application)
        await application.election.acquire()

    async def _unless_told(self, waiting: Coroutine[Any, Any, None]) -> bool:
        """Await something; say whether it came before the signal to stop."""
        waits, stops = asyncio.ensure_future(waiting), asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait((waits, stops), return_when=asyncio.FIRST_COMPLETED)
            if waits.done():
                waits.result()
            return waits.done()
        finally:
            waits.cancel()
            stops.cancel()

    async def _work(self, application: Application) -> int:
        election = application.election
        keeps = asyncio.create_task(election.keep(), name="keeps the Lease")
        stops = asyncio.create_task(self._told.wait(), name="hears signals")
        watches = asyncio.create_task(self._watch(application), name="watches policies")
        await asyncio.wait((keeps, stops, watches), return_when=asyncio.FIRST_COMPLETED)
        if keeps.done():
            await self._give_up(keeps.result())
        await self._stop_runs(_STOPPED, self._settings.stop_seconds)
        keeps.cancel()
        stops.cancel()
        await asyncio.gather(keeps, return_exceptions=True)
        await election.release()
        self._ending.set()
        await watches
        return 0

    async def _give_up(self, reason: str) -> NoReturn:
        """End at once with 1, since another operator works now.

        Nothing is changed by this one any more. What is under way at a registry may still be told in the log, for as
        long as nobody else can have taken over. What hangs on an API server that does not answer, kopf's own requests
        among it, would keep this process for minutes.
        """
        _log.error("this operator ends, since it may not work any more: %s", reason)
        seconds = self._settings.lease_seconds / 3
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_runs(reason, seconds)
        logging.shutdown()
        os._exit(1)

    async def _stop_runs(self, reason: str, seconds: float) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop(reason, seconds)

    # The watch of policies

    async def _watch(self, application: Application) -> None:
        """Watch policies until told to end; begin anew whenever the watch ends by itself, as with a deleted CRD."""
        vain = 0
        while await self._policies_are_served(application):
            await application.schema.look()
            began = asyncio.get_running_loop().time()
            self._supervisor = supervisor = Supervisor(application, policies.notify)
            try:
                await self._round(supervisor)
            except Exception as error:
                if self._ending.is_set():
                    return
                vain = vain + 1 if asyncio.get_running_loop().time() - began < _SOON else 1
                if vain > _VAIN_ROUNDS:
                    raise
                self._obstacle = f"the watch of policies ended ({type(error).__name__})"
                _log.error("%s: %s; it begins anew", self._obstacle, " ".join(str(error).split()))
                await self._pause(vain)
            else:
                return

    async def _round(self, supervisor: Supervisor) -> None:
        ready = asyncio.Event()

        async def end() -> None:
            await supervisor.stop("the watch of policies ended", self._settings.stop_seconds)

        signals = asyncio.ensure_future(self._hear_again(ready))
        try:
            await lifecycle.watch(supervisor, self._settings.namespaces, self._ending, ready, end)
        finally:
            signals.cancel()
            self._hear_signals()

    async def _policies_are_served(self, application: Application) -> bool:
        """Wait for API server, CRD and right: kopf, which looks once, would serve nothing for ever, and be healthy.

        Return whether they are there; else the operator ends.
        """
        attempt = 0
        while not self._ending.is_set():
            obstacle = await _obstacle(application)
            if obstacle is None:
                if self._obstacle is not None:
                    _log.info("policies are served")
                self._obstacle = None
                return True
            if obstacle != self._obstacle:
                _log.warning("%s; waiting for it", obstacle)
            self._obstacle = obstacle
            attempt += 1
            await self._pause(attempt)
        return False

    async def _pause(self, attempt: int) -> None:
        """Wait, the longer the more often; not beyond the end."""
        try:
            async with asyncio.timeout(min(_FIRST_PAUSE * 1.5 ** (attempt - 1), _LONGEST_PAUSE)):
                await self._ending.wait()
        except TimeoutError:
            return

    # Signals

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear, number)

    async def _hear_again(self, ready: asyncio.Event) -> None:
        """Take the signals back from kopf, which would end its watch and the posting of Events before the runs."""
        await ready.wait()
        self._hear_signals()

    def _hear(self, number: signal.Signals) -> None:
        _log.info("Signal %s is received: runs stop at their next safe point", number.name)
        self._told.set()


async def _obstacle(application: Application) -> str | None:
    """Return what keeps policies from being watched; None for nothing."""
    try:
        if not await application.api.lists_policies():
            return f"{_CRD} is not installed"
        await application.api.policies_can_be_listed(application.settings.namespaces)
    except APIError as error:
        return f"{error}{right_to_policies(error)}"
    return None
