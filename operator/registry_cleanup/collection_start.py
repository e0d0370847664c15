"""Whether a garbage collection may begin: all that keeps it from that is told before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Protocol

from registry_cleanup.collection_standing import CollectionStanding
from registry_cleanup.collector import Collector, InUseError, ObstacleError
from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.collection import IMAGE_PRUNER, CollectionMode, WorkloadName
from registry_cleanup.doors import Doors, registry_key
from registry_cleanup.kube.collecting.job import StorageOrder
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.kube.status import PolicyStatus, parse_time
from registry_cleanup.ports import Clock
from registry_cleanup.pruner_course import PrunerCourse
from registry_cleanup.undo_windows import UndoWindow


class World(Protocol):
    """What the tasks of all collections share.

    Attributes:
        doors: of all registries.
    """

    doors: Doors

    @property
    def clock(self) -> Clock:
        """The time of day."""

    @property
    def pruner_course(self) -> PrunerCourse | None:
        """Who leads the collections of OpenShift's registry; None where no cluster is at hand."""

    async def storage_order(self, policy: ParsedPolicy, status: PolicyStatus) -> StorageOrder:
        """Return what a collection does in the storage of a registry that deletes nothing; raise `APIError`."""

    def parse(self, body: Mapping[str, Any]) -> ParsedPolicy:
        """Return the policy of a resource; raise `InvalidSpecError`."""

    def reports_only(self, policy: ParsedPolicy) -> bool:
        """Say whether a collection of this policy may change nothing."""

    async def doubt(self) -> str | None:
        """Return why nothing may be collected now, for all policies."""

    async def undo_window(self, policy: ParsedPolicy, pruned: datetime | None) -> UndoWindow | None:
        """Return the last window at the registry of a policy that has not passed; raise `APIError`."""

    async def undo_window_since(self, policy: ParsedPolicy, frozen: datetime) -> UndoWindow | None:
        """Return a window at the registry that runs under another name of it have begun; raise `APIError`."""


def pruner_of(world: World, workload: WorkloadName | None) -> PrunerCourse | None:
    """Return who leads the collections of OpenShift's registry, where `workload` stands for it."""
    return world.pruner_course if workload == IMAGE_PRUNER else None


class Door:
    """The door of one registry, as one collection keeps it shut.

    Attributes:
        waits: whether it is shut for a collection that is about to begin.
    """

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._shut = ExitStack()
        self._is_shut = False
        self.waits = False

    def shut(self, registry: str) -> None:
        """Keep the door of `registry` shut until it is left; nothing where one is kept shut already."""
        if not self._is_shut:
            self._shut.enter_context(self._doors.shut(registry))
            self._is_shut = True

    def begin(self, registry: str, namespace: str, workload: WorkloadName) -> bool:
        """Keep other collections from the registry and its workload until it is left; say whether none is there."""
        keys = (registry, f"{namespace}/{workload}")
        if self._doors.is_collected(*keys):
            return False
        self._shut.enter_context(self._doors.collecting(*keys))
        return True

    def leave(self) -> None:
        """Let others in, as far as this collection goes."""
        self._shut.close()
        self._is_shut = self.waits = False


class CollectionStart:
    """Looks whether collections of one policy may begin."""

    def __init__(self, world: World, collector: Collector, standing: CollectionStanding, door: Door) -> None:
        self._world = world
        self._collector = collector
        self._told = standing
        self._door = door

    async def check(self, policy: ParsedPolicy, mode: CollectionMode) -> None:
        """Raise `ObstacleError` where none may begin now; in the end the door is shut, and nobody is inside."""
        if self._told.policy is not None and self._told.policy.mute:
            raise ObstacleError("the operator may not patch registrycleanuppolicies/status, so nobody would be told")
        if (doubt := await self._world.doubt()) is not None:
            raise ObstacleError(doubt)
        pruner = pruner_of(self._world, policy.collection.workload)
        if pruner is not None:
            await pruner.prepare(policy, mode)
        else:
            await self._collector.prepare(policy, policy.collection, mode)
        if mode is not CollectionMode.RUN:
            return
        self._trash_may_go()
        registry = registry_key(policy.registry.url)
        if not self._door.waits:
            await self._windows_have_passed(policy, runs_count=False)
            self._door.shut(registry)
            self._door.waits = True
        if not self._world.doors.is_empty(registry):
            raise InUseError("it begins once the runs at this registry have ended; no other begins before it")
        # The last of them may have pruned.
        await self._windows_have_passed(policy, runs_count=True)
        if pruner is not None:
            return  # nothing is frozen
        await self._takes_changes(policy)
        workload = policy.collection.workload
        if workload is not None and not self._door.begin(registry, policy.namespace, workload):
            raise ObstacleError("it begins once another policy's collection of this registry is through")

    def _trash_may_go(self) -> None:
        """Raise `ObstacleError` while what was pruned in the storage can be restored."""
        pruned = self._told.status.storage
        until = parse_time(pruned.until) if pruned is not None else None
        if pruned is not None and until is not None and until > self._world.clock.now():
            raise ObstacleError(
                f"what was pruned in the storage by the plan of run {pruned.run} can be restored until {pruned.until} "
                "(undo.window); garbage is collected after that",
                until=until,
            )

    async def _takes_changes(self, policy: ParsedPolicy) -> None:
        """Raise `ObstacleError` unless the registry says that it takes changes."""
        answer = await self._collector.ask(policy)
        if answer is Answer.READ_ONLY:
            raise ObstacleError(
                "the registry is in read-only mode already, which is not this operator's doing: end that first",
                "RegistryReadOnly",
            )
        if answer is not Answer.WRITABLE:
            raise ObstacleError(
                f"whether the registry takes changes cannot be seen ({answer.value}), so nobody could tell whether it "
                "is frozen, or restored: let the policy's credential delete there, and see that the registry answers",
                "RegistryUnclear",
            )

    async def _windows_have_passed(self, policy: ParsedPolicy, *, runs_count: bool) -> None:
        """Raise `ObstacleError` while what was pruned at this registry can be undone.

        Runs under way count once the door is shut: those that are still there are under another name of the registry,
        or another operator's, or ended without a word.
        """
        pruned = self._told.policy.status.last_pruned_time if self._told.policy is not None else None
        window = await self._world.undo_window(policy, parse_time(pruned))
        if window is not None and window.runs and runs_count:
            raise ObstacleError(
                f"a run of policy {window.policy} is under way at this registry, by its status: it ends first, and "
                "what it prunes can be undone for a while"
            )
        if window is not None and not window.runs:
            raise ObstacleError(_window_message(window), until=window.until)


def _window_message(window: UndoWindow) -> str:
    message = (
        f"what policy {window.policy} pruned can be undone until {window.until:%Y-%m-%dT%H:%M:%SZ} (its undo.window, "
        "and the timeout of its runs); garbage is collected after that"
    )
    if window.interval is not None:
        message += (
            ". Its runs come more often than that window can pass: while each of them prunes something, none is "
            "collected; shorten undo.window or timeout, or let it run less often"
        )
    if not window.valid:
        message += ". The spec of that policy is not valid just now, so that more may count than has to: mend it"
    return message
