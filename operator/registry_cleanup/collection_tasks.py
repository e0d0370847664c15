"""The garbage collections of all policies, and of those that are gone and left a registry frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.collection_task import CollectionTask
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.concurrency import give_up
from registry_cleanup.frozen import find_frozen, known_policies
from registry_cleanup.standing import Notify, Standing

_AGAIN_AFTER = 1.0


class CollectionTasks:
    """A task for each policy that wants garbage to be collected, or did.

    It begins with a look at what was left frozen, and until that is known all doors are shut.
    """

    def __init__(self, application: Application, collector: Collector, notify: Notify) -> None:
        self._application = application
        self._collector = collector
        self._notify = notify
        self._tasks: dict[str, CollectionTask] = {}
        self._standings: dict[str, Standing] = {}
        self._leaving: set[CollectionTask] = set()
        self._left: dict[str, Collection] = {}
        application.doors.all_shut = True
        self._looks = asyncio.create_task(self._look(), name="looks for frozen registries")

    async def _look(self) -> None:
        self._left = dict(await find_frozen(self._application, self._collector))
        for uid in [uid for uid in self._left if uid in self._standings]:
            self._begin(uid)
        # No event has shown the others' policies yet, and none will where they are gone.
        while self._left:
            policies = await known_policies(self._application)
            for uid in [uid for uid in self._left if uid not in policies]:
                self._follow(self._task(None, self._left.pop(uid)))
            if self._left:
                await asyncio.sleep(_AGAIN_AFTER)
        self._application.doors.all_shut = False

    def observe(self, body: Mapping[str, Any], standing: Standing) -> None:
        """Take note of a policy as an event shows it, which its `standing` knows already."""
        uid = body["metadata"]["uid"]
        self._standings[uid] = standing
        if uid in self._tasks:
            self._tasks[uid].observe()
        elif uid in self._left or _wants(body) or standing.status.collection is not None:
            self._begin(uid)

    def forget(self, uid: str) -> None:
        """Take note that a policy was deleted: what it has frozen is restored."""
        self._standings.pop(uid, None)
        if (task := self._tasks.pop(uid, None)) is not None:
            task.abandon()
            self._follow(task)
        elif (left := self._left.pop(uid, None)) is not None:
            self._follow(self._task(None, left))

    async def stop(self, seconds: float) -> None:
        """Let each end after the step that it is at; the next operator goes on."""
        tasks = [*self._tasks.values(), *self._leaving]
        for task in tasks:
            task.stop()
        if tasks:
            await asyncio.wait([task.task for task in tasks], timeout=seconds)
        await give_up([self._looks, *(task.task for task in tasks)])

    def _begin(self, uid: str) -> None:
        self._tasks[uid] = self._task(self._standings[uid], self._left.pop(uid, None))

    def _task(self, standing: Standing | None, left: Collection | None) -> CollectionTask:
        jitter = timedelta(seconds=self._application.settings.schedule_jitter_seconds)
        return CollectionTask(self._application, self._collector, self._notify, standing, jitter, left)

    def _follow(self, task: CollectionTask) -> None:
        self._leaving.add(task)
        task.task.add_done_callback(lambda _: self._leaving.discard(task))


def _wants(body: Mapping[str, Any]) -> bool:
    collection = (body.get("spec") or {}).get("garbageCollection")
    return isinstance(collection, Mapping) and collection.get("mode", "None") != "None"
