"""The garbage collections of all policies, and of those that are gone and left a registry frozen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.collection_task import CollectionTask
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.concurrency import give_up
from registry_cleanup.frozen import find_frozen, known_policies, owned
from registry_cleanup.kube.spec import COLLECT_ANNOTATION
from registry_cleanup.standing import Notify, Standing

_log = logging.getLogger(__name__)

_AGAIN_AFTER = 1.0
# Seconds between two looks for what nobody restores: a patch that was sent may take effect after all.
_LOOK_EVERY = 600.0


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
        # Of the last event: only there Events can be posted, and also a task that begins by itself has some to post.
        self._posting: Context | None = None
        application.doors.all_shut = True
        self._looks = asyncio.create_task(self._watch(), name="looks for frozen registries")

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
                seconds = _LOOK_EVERY
            except Exception:  # a bug here must not keep all doors shut: the next look may find a way
                _log.exception("unexpected error")
                seconds = _AGAIN_AFTER
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        """Find somebody for every mark."""
        found = await find_frozen(self._application, self._collector)
        left = [each for each in found if not self._holds(each.collection)]
        policies = await known_policies(self._application) if left else {}
        # Later, the task of a policy that is there would have it in hand: nobody knows of it any more.
        self._left = owned(left, policies) if self._application.doors.all_shut else {}
        for each in left:
            extra = {"workload": str(each.collection.workload), "namespace": each.collection.namespace}
            _log.warning("a registry was left frozen", extra={**extra, "collection": each.collection.id})
            if self._left.get(each.policy) is not each.collection:
                self._follow(self._task(None, each.collection))
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

    def _holds(self, collection: Collection) -> bool:
        """Say whether a task has a collection in hand already, of just this workload."""
        held = [task.collection for task in (*self._tasks.values(), *self._leaving)]
        key = (collection.id, collection.namespace, collection.workload)
        return any(each is not None and (each.id, each.namespace, each.workload) == key for each in held)

    def observe(self, body: Mapping[str, Any], standing: Standing) -> None:
        """Take note of a policy as an event shows it, which its `standing` knows already."""
        uid = body["metadata"]["uid"]
        self._posting = copy_context()
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
        if (early := self._tasks.pop(uid, None)) is not None:
            # An event came before it was known that something was left; nothing has begun yet.
            early.stop()
            self._follow(early)
        self._tasks[uid] = self._task(self._standings[uid], self._left.pop(uid, None))

    def _task(self, standing: Standing | None, left: Collection | None) -> CollectionTask:
        jitter = timedelta(seconds=self._application.settings.schedule_jitter_seconds)
        context = self._posting or copy_context()  # before the first event no policy is known that any could be about
        return context.run(CollectionTask, self._application, self._collector, self._notify, standing, jitter, left)

    def _follow(self, task: CollectionTask) -> None:
        self._leaving.add(task)
        task.task.add_done_callback(lambda _: self._leaving.discard(task))


def _wants(body: Mapping[str, Any]) -> bool:
    if COLLECT_ANNOTATION in (body["metadata"].get("annotations") or {}):
        return True  # at least an answer
    collection = (body.get("spec") or {}).get("garbageCollection")
    return isinstance(collection, Mapping) and collection.get("mode", "None") != "None"
