"""One task for each policy: it waits for a time, a request, a change or a stop, and runs the policy.

Events only wake the tasks. What one policy finds out about another, that other is told at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.domain.conflict import mirrored
from registry_cleanup.domain.run import Conflict
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.policy_task import DELETED, Notify, PolicyTask
from registry_cleanup.rivals import live_policy


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
                task.halt(DELETED)
                del self._tasks[uid]
                self._leaving.add(task.task)
                task.task.add_done_callback(self._leaving.discard)
            self._forget(uid)
            return
        if task is None:
            self._tasks[uid] = PolicyTask(self._application, self._notify, self._places.at, self._spread, body)
        else:
            task.observe(body)
        if live_policy(body) is None:
            self._forget(uid)

    def _spread(self, policy: ParsedPolicy, conflicts: Sequence[Conflict]) -> None:
        """Tell all other policies of the conflicts of `policy`, and that it has no others."""
        found = {conflict.uid: conflict for conflict in conflicts}
        for uid, task in self._tasks.items():
            if uid in found:
                task.standing.tell(mirrored(found[uid], policy.namespace, policy.name, policy.uid))
            elif uid != policy.uid:
                task.standing.forget(policy.uid)

    def _forget(self, uid: str) -> None:
        """Tell all other policies that the policy `uid` prunes nothing any more."""
        for other, task in self._tasks.items():
            if other != uid:
                task.standing.forget(uid)

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
