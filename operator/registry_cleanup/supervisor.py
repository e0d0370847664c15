"""One task for each policy: it waits for a time, a request, a change or a stop, and runs the policy.

Events only wake the tasks. What one policy finds out about another, that other is told at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.collection_tasks import CollectionTasks
from registry_cleanup.domain.conflict import mirrored
from registry_cleanup.domain.run import Conflict
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.live_policies import live_policy
from registry_cleanup.places import Places
from registry_cleanup.policy_task import DELETED, PolicyTask
from registry_cleanup.standing import Notify


class Supervisor:
    """All policies of this process.

    Attributes:
        places: where their runs take place.
    """

    def __init__(self, application: Application, notify: Notify) -> None:
        self._application = application
        self._notify = notify
        self.places = Places(application.settings.concurrent_runs)
        application.metrics.observe_queue(
            lambda: self.places.running, lambda: self.places.waiting + application.claims.waiting
        )
        self._tasks: dict[str, PolicyTask] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._live: dict[str, int] = {}  # which prune, as far as events have told, with their generation
        self._stopped = False
        collector = application.collector
        self._collections = CollectionTasks(application, collector, notify) if collector is not None else None

    def observe(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take note of a policy as an event shows it; once stopped, of none."""
        if self._stopped:
            return
        uid = body["metadata"]["uid"]
        task = self._tasks.get(uid)
        if deleted or body["metadata"].get("deletionTimestamp") is not None:
            if task is not None:
                task.halt(DELETED)
                task.standing.leave()
                del self._tasks[uid]
                self._leaving.add(task.task)
                task.task.add_done_callback(self._leaving.discard)
            if self._collections is not None:
                self._collections.forget(uid)
            self._forget(uid)
            return
        if task is None:
            task = PolicyTask(self._application, self._notify, self.places.at, self._spread, body)
            self._tasks[uid] = task
        else:
            task.observe(body)
        if self._collections is not None:
            self._collections.observe(body, task.standing)
        if live_policy(body, self._application.parse) is None:
            self._forget(uid)
        elif self._live.get(uid) != body["metadata"]["generation"]:
            self._live[uid] = body["metadata"]["generation"]
            self._application.rivals_changed()

    def _spread(self, policy: ParsedPolicy, conflicts: Sequence[Conflict]) -> None:
        """Tell all other policies of the conflicts of `policy`, and that it has no others."""
        found = {conflict.uid: conflict for conflict in conflicts}
        for uid, task in self._tasks.items():
            if uid in found:
                task.standing.tell(mirrored(found[uid], policy.namespace, policy.name, policy.uid))
            elif uid != policy.uid:
                task.standing.forget(policy.uid)

    def _forget(self, uid: str) -> None:
        """Tell all other policies, and runs to come, that the policy `uid` prunes nothing any more."""
        if self._live.pop(uid, None) is not None:
            self._application.rivals_changed()
        for other, task in self._tasks.items():
            if other != uid:
                task.standing.forget(uid)

    async def stop(self, reason: str, seconds: float) -> None:
        """Let every run stop at its next safe point, which `reason` is told for, and after so many seconds anyway."""
        self._stopped = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.halt(reason)
        collections = asyncio.create_task(self._stop_collections(seconds), name="ends collections")
        running = [*(task.task for task in tasks), *self._leaving]
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for late_task in late:
                late_task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await collections
        for each in tasks:
            each.standing.leave()

    async def _stop_collections(self, seconds: float) -> None:
        if self._collections is not None:
            await self._collections.stop(seconds)
