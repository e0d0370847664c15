"""Waiting for the end of a run of the operator, and telling what it comes to while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from registry_cleanup.cli.annotating.standing import exit_of
from registry_cleanup.cli.annotating.target import Target
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.telling import tell
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.api import APIError, NoAnswerError
from registry_cleanup.kube.status import PolicyStatus

_LOOK_SECONDS = 1.0
# For so long nobody is told that the operator has not begun.
_PATIENCE_SECONDS = 15.0
_SILENCE_SECONDS = 60.0
_LOOK_FOR_IT = "kubectl get deployments -A -l app.kubernetes.io/name=registry-cleanup-operator"


@dataclass(frozen=True, slots=True)
class Wait:
    """Whether, and for how long, a person waits for the end of the run.

    Attributes:
        wanted: whether at all.
        limit: None for as long as it takes.
    """

    wanted: bool = False
    limit: timedelta | None = None


@dataclass(slots=True)
class _Watcher:
    """Tells what a run of the operator comes to, while it goes on.

    Attributes:
        say: tells a person.
    """

    say: Callable[[str], None] = tell
    _told: str = ""

    def see(self, status: PolicyStatus) -> None:
        """Tell what is new."""
        run = status.last_run
        if run is None or run.phase is not Phase.RUNNING:
            return
        words = run.progress.message if run.progress is not None else "running"
        if words != self._told:
            self._told = words
            self.say(f"  {words}")


async def follow(target: Target, answered: Callable[[PolicyStatus], bool], wait: Wait) -> Exit:
    """Follow a run until its end, and return how it ended; raise `CommandError` where that takes too long."""
    try:
        async with asyncio.timeout(None if wait.limit is None else wait.limit.total_seconds()):
            return await _to_the_end(target, answered)
    except TimeoutError as error:
        limit = "" if wait.limit is None else f" after {duration_text(wait.limit)}"
        message = (
            f"the run has not ended{limit}, and the operator goes on with it: kubectl get rcp {target.name} -n "
            f"{target.namespace} --watch shows it, and {target.command('report')} what it came to"
        )
        raise CommandError(message, Exit.HELD_BACK) from error
    except asyncio.CancelledError as error:
        message = "no longer waiting; the operator goes on with the run"
        raise CommandError(message, Exit.INTERRUPTED) from error


async def _to_the_end(target: Target, answered: Callable[[PolicyStatus], bool]) -> Exit:
    watcher, waited, silent = _Watcher(), 0.0, 0.0
    while True:
        try:
            target = await target.again()
            silent = 0.0
        except NoAnswerError as error:
            silent += _LOOK_SECONDS
            if silent >= _SILENCE_SECONDS:
                raise CommandError(f"the cluster does not answer any more: {error}", Exit.CLUSTER) from error
        except APIError as error:
            raise CommandError(f"the run cannot be followed: {error}", Exit.CLUSTER) from error
        status = target.status
        watcher.see(status)
        run = status.last_run
        if run is not None and run.phase is not Phase.RUNNING and answered(status):
            tell(f"{run.phase.value}: {run.message or ''}")
            return exit_of(status, run)
        if waited < _PATIENCE_SECONDS <= waited + _LOOK_SECONDS and (run is None or run.phase is not Phase.RUNNING):
            tell(f"The operator has not begun. Does it run? {_LOOK_FOR_IT}")
        waited += _LOOK_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
