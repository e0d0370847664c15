"""The task of one policy's garbage collection: it waits until one is due, and leads it from step to step.

Beside the policy's runs, and after its end, if that comes in between: until the registry is restored. Where a
collection is, is looked up and not remembered (`domain.collecting`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta

from registry_cleanup.collection_course import LOOK, CollectionCourse
from registry_cleanup.collection_standing import CollectionStanding
from registry_cleanup.collection_start import CollectionStart, Door, World
from registry_cleanup.collector import (
    RESTORED_WITHIN,
    Collection,
    Collector,
    InUseError,
    LeftFrozenError,
    ObstacleError,
)
from registry_cleanup.domain.collecting import Finish
from registry_cleanup.domain.collection import IMAGE_PRUNER, NO_COLLECTION, CollectionMode, CollectionPhase
from registry_cleanup.domain.collection_time import Due, due
from registry_cleanup.domain.schedule import Timetable
from registry_cleanup.doors import registry_key
from registry_cleanup.kube.api import APIError, ForbiddenError
from registry_cleanup.kube.collecting import told
from registry_cleanup.kube.collecting.mark import DamagedMarkError
from registry_cleanup.kube.spec import COLLECT_ANNOTATION, InvalidSpecError, ParsedPolicy
from registry_cleanup.kube.status import parse_time
from registry_cleanup.runner import new_run_id
from registry_cleanup.standing import Notify, Standing

_log = logging.getLogger(__name__)

# Seconds between two looks at what keeps one from beginning, and at a door that will open soon.
_LOOK_AT_OBSTACLE, _KNOCK = 15.0, 1.0
_AFTER_ERROR, _AFTER_FORBIDDEN = 5.0, 60.0
# A clock that is set forward during a longer wait is noticed late.
_LONGEST_WAIT = 600.0
# Between two looks at whether something is left frozen, though each event wakes a task.
_LOOK_AT_WORKLOAD = timedelta(minutes=5)
_DELETED = "the policy was deleted"
_SUSPENDED = "the policy is suspended: the collection that was requested begins once spec.suspend is false"
_UNWANTED = "the collection that was requested begins once spec.garbageCollection.mode is Report or Run"
_UNTOLD = "its status does not tell of which workload it was, and none bears its mark"


class CollectionTask:
    """The collections of one policy, by UID.

    Attributes:
        task: ends after `stop`, and once nothing is left to restore after `abandon`.
    """

    def __init__(
        self,
        world: World,
        collector: Collector,
        notify: Notify,
        standing: Standing | None,
        jitter: timedelta,
        left: Collection | None = None,
        *,
        look_seconds: float = LOOK,
    ) -> None:
        """Begin to wait.

        Args:
            world: what all share.
            collector: looks at collections, and does what is decided.
            notify: posts Events.
            standing: of the policy; None where it is gone, and only its workload is to be restored.
            jitter: no scheduled collection begins later than its time by more.
            left: what an operator before this one has left frozen for this policy.
            look_seconds: between two looks at what goes on.
        """
        self._world = world
        self._collector = collector
        self._jitter = jitter
        self._stopped = False
        self._woken = asyncio.Event()
        self._collection = left
        self._told = CollectionStanding(standing, notify, world.clock)
        self._door = Door(world.doors)
        self._start = CollectionStart(world, collector, self._told, self._door)
        self._name = standing.name if standing is not None else str(left.workload) if left is not None else ""
        self._course = CollectionCourse(world, collector, self._told, self._name, look_seconds)
        self._born_with = _request_of(standing) if standing is not None and standing.status.plan is None else None
        self._left_by: str | None = None
        self._barred = False
        self._looked: datetime | None = None
        self._shut_until = world.clock.now()
        if left is not None:
            self._shut_until = self._end_of(left)
            self._tend_door()
        self.task = asyncio.create_task(self._live(), name="collects garbage")

    @property
    def collection(self) -> Collection | None:
        """What it has in hand."""
        return self._collection

    def observe(self) -> None:
        """Wake for what is new in the resource."""
        self._woken.set()

    def abandon(self) -> None:
        """Restore what is frozen, and end: the policy was deleted."""
        self._told.abandon()
        self._woken.set()

    def stop(self) -> None:
        """End as soon as the step under way is done; whoever comes next goes on."""
        self._stopped = True
        self._woken.set()

    async def _live(self) -> None:
        try:
            while not self._stopped:
                self._woken.clear()
                try:
                    seconds = await self._step()
                except DamagedMarkError as error:
                    hand = f"{error}: what the workload was before is not known any more; restore it by hand"
                    if self._collection is not None:
                        await self._told.show(self._collection, None, hand)
                    self._told.tell("MarkDamaged", hand, warning=True)
                    seconds = _AFTER_ERROR
                except ForbiddenError as error:
                    seconds = await self._forbidden(error)
                except APIError as error:
                    _log.warning("a look at a collection failed", extra={"policy": self._name, "cause": str(error)})
                    seconds = _AFTER_ERROR
                except Exception:  # a bug here must not leave a registry frozen: the next look may find a way
                    _log.exception("unexpected error", extra={"policy": self._name})
                    seconds = _AFTER_ERROR
                if self._told.policy is None and self._collection is None:
                    return
                self._tend_door()
                await self._sleep(seconds)
        finally:
            self._door.leave()

    async def _forbidden(self, error: ForbiddenError) -> float:
        """Tell that the operator may not go on, and what helps; return when to try again."""
        extra = {"policy": self._name, "cause": str(error)}
        if (collection := self._collection) is None or collection.workload == IMAGE_PRUNER:
            _log.warning("a look at a collection failed", extra=extra)
            return _AFTER_ERROR
        # Whoever marks a workload that the operator may not change shuts nobody's door by it.
        self._barred = True
        message = (
            f"the operator may not go on, and what is frozen stays so; {self._collector.grant(collection.namespace)}"
        )
        _log.warning(message, extra=extra)
        frozen = self._told.status.frozen_since is not None
        await self._told.show(collection, None, f"{message} ({error})", frozen=frozen)
        self._told.tell("CollectorRoleMissing", f"{message} ({error})", warning=True)
        return _AFTER_FORBIDDEN

    def _end_of(self, left: Collection) -> datetime:
        """Return until when the door is shut for what a mark tells, which anybody may have written.

        A policy answers for its own registry; whatever else a mark names need not wait for longer than it takes to
        restore.
        """
        now = self._now()
        policy, _ = self._policy()
        if policy is None or registry_key(policy.registry.url) != left.registry:
            return now + RESTORED_WITHIN
        return min(left.start, now) + left.timeout + RESTORED_WITHIN

    def _tend_door(self) -> None:
        """Keep the door shut while a collection is under way, but not for ever: runs see then what is frozen."""
        if self._collection is None or self._collection.mode is not CollectionMode.RUN:
            return
        if self._now() < self._shut_until and not self._barred:
            self._door.shut(self._collection.registry)
        else:
            self._door.leave()

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds if seconds is not None else _LONGEST_WAIT):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _step(self) -> float | None:
        """Do what is to be done now; return the seconds until the next look, None for until something is new."""
        policy, objection = self._policy()
        if self._world.doors.all_shut and self._collection is None:
            return _KNOCK
        if self._collection is None:
            self._collection = await self._resumed(policy)
            policy, objection = self._policy()  # as it bears on that one
        if self._collection is not None:
            return await self._go_on(self._collection, policy, objection)
        if policy is None or objection is not None:
            self._door.leave()
            if policy is not None:
                await self._tell_suspended(policy)
            return None
        return await self._wait(policy)

    async def _tell_suspended(self, policy: ParsedPolicy) -> None:
        """Say that nothing is due of a suspended policy, or that what was requested waits."""
        mode, status, standing = self._mode(policy), self._told.status, self._told.policy
        handled = standing.status.last_handled_collect_request if standing is not None else None
        if mode is not CollectionMode.NONE and policy.collection.request not in (None, handled, self._born_with):
            await self._told.write(told.waiting(status, mode, _SUSPENDED, None))
        elif status.phase is not None:
            await self._told.write(told.resting(status, mode, None))

    def _policy(self) -> tuple[ParsedPolicy | None, str | None]:
        """Return the policy as it is now, and what speaks against a collection of it."""
        if self._told.policy is None:
            return None, _DELETED
        try:
            policy = self._world.parse(self._told.policy.body)
        except InvalidSpecError as error:
            return None, f"the policy is not valid any more ({error})"
        if self._left_by is not None:
            return policy, self._left_by
        if policy.suspend:
            return policy, "the policy was suspended"
        running = self._collection
        if running is not None and self._mode(policy) is not running.mode:
            return policy, f"the policy wants spec.garbageCollection.mode {self._mode(policy).value} now"
        if running is not None and policy.collection.workload != running.workload:
            return policy, "spec.garbageCollection.workloadRef was changed"
        if running is not None and self._prunes_by_an_older(policy):
            return policy, "the policy was changed, by whose plan it was to prune in the storage"
        return policy, None

    def _prunes_by_an_older(self, policy: ParsedPolicy) -> bool:
        """Say whether what is pruned in the storage was planned before the policy was changed."""
        plan = self._told.policy.status.plan if self._told.policy is not None else None
        return told.prunes(self._told.status) and plan is not None and plan.observed_generation != policy.generation

    def _mode(self, policy: ParsedPolicy) -> CollectionMode:
        mode = policy.collection.mode
        return CollectionMode.REPORT if mode is CollectionMode.RUN and self._world.reports_only(policy) else mode

    async def _resumed(self, policy: ParsedPolicy | None) -> Collection | None:
        """Return the collection that status shows as running, of an operator before this one.

        It has frozen nothing, or restored it: what is frozen was found by its mark. Of its workload status tells, and
        not the policy, which may name another one by now, or be no valid one: then it can only come to its end.
        """
        status, standing = self._told.status, self._told.policy
        if standing is None or status.phase is not CollectionPhase.RUNNING:
            return None
        start, workload = parse_time(status.start_time), told.workload_of(status)
        mode, timeout = status.mode or CollectionMode.RUN, NO_COLLECTION.timeout
        if status.id is None or start is None or workload is None:
            await self._told.write(told.finished(status, mode, Finish(failure=_UNTOLD), self._now(), None))
            return None
        registry, self._shut_until = "", self._now()  # which registry that was nobody knows where there is no policy
        if policy is not None:
            registry, timeout = registry_key(policy.registry.url), policy.collection.timeout
            self._shut_until = start + timeout + RESTORED_WITHIN
            if mode is CollectionMode.RUN:
                self._door.shut(registry)
                self._door.begin(registry, policy.namespace, workload)
        namespace = standing.body["metadata"]["namespace"]
        return Collection(status.id, mode, namespace, workload, registry, start, timeout)

    # Before one begins

    async def _wait(self, policy: ParsedPolicy) -> float | None:
        """Begin what is due, or tell what that waits for."""
        rules, mode, now = policy.collection, self._mode(policy), self._now()
        standing = self._told.policy
        plan = standing.status.plan if standing is not None else None
        if standing is None or plan is None:
            # What a new policy bears from the beginning, such as one from a backup, is no request.
            if rules.request is not None and rules.request == self._born_with:
                await self._told.note_request(rules.request)
            self._door.leave()
            return None
        if mode is CollectionMode.NONE or rules.schedule is None:
            self._door.leave()
            if rules.request not in (None, standing.status.last_handled_collect_request, self._born_with):
                await self._told.write(told.waiting(self._told.status, mode, _UNWANTED, None))
            elif self._told.status.phase is not None:
                await self._told.write(told.resting(self._told.status, mode, None))
            return None
        status = standing.status
        what = due(
            rules.request,
            status.last_handled_collect_request,
            Timetable(rules.schedule, policy.uid, self._jitter),
            parse_time(self._told.status.scheduled_time),
            parse_time(status.schedule_counts_from) or parse_time(plan.generated_at) or now,
            now,
        )
        try:
            if not isinstance(what, Due):
                return await self._rest(policy, mode, what)
            await self._start.check(policy, mode)
        except LeftFrozenError as left:
            # It is restored here, and not gone on with: whether its window has passed nobody knows any more.
            self._left_by = f"{left}, and left it so"
            self._collection = replace(left.collection, registry=registry_key(policy.registry.url))
            self._course.begin()
            self._shut_until = now + RESTORED_WITHIN
            return 0.0
        except ObstacleError as obstacle:
            return await self._hold(mode, obstacle)
        await self._begin(policy, mode, what)
        return 0.0

    async def _rest(self, policy: ParsedPolicy, mode: CollectionMode, until: datetime) -> float:
        """Tell when the next is due; return when to look again. Raise `LeftFrozenError` where one left something."""
        self._door.leave()
        await self._told.write(told.resting(self._told.status, mode, until))
        now = self._now()
        rested = self._looked is None or now - self._looked >= _LOOK_AT_WORKLOAD
        if rested and policy.collection.workload != IMAGE_PRUNER:
            self._looked = now
            try:
                await self._collector.expect_none_left(policy)
            except APIError as error:
                _log.debug("the workload was not seen", extra={"policy": self._name, "cause": str(error)})
        return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT)

    async def _hold(self, mode: CollectionMode, obstacle: ObstacleError) -> float:
        """Tell what keeps a collection from beginning; return when to look again."""
        registry_in_use = isinstance(obstacle, InUseError)
        if not registry_in_use:
            self._door.leave()  # nobody else need wait for what may last
        await self._told.write(told.waiting(self._told.status, mode, str(obstacle), obstacle.until))
        if obstacle.reason is not None:
            self._told.tell(obstacle.reason, f"garbage collection waits: {obstacle}", warning=True)
        if obstacle.until is not None:
            return min(max((obstacle.until - self._now()).total_seconds(), 0.0), _LOOK_AT_OBSTACLE)
        return _KNOCK if registry_in_use else _LOOK_AT_OBSTACLE

    async def _begin(self, policy: ParsedPolicy, mode: CollectionMode, what: Due) -> None:
        now = self._now()
        rules = policy.collection
        if rules.workload is None:
            return
        collection = new_run_id(now)
        self._course.begin()
        # With the second that status tells: whoever goes on by status has the same deadline.
        start = now.replace(microsecond=0)
        registry = registry_key(policy.registry.url)
        self._collection = Collection(
            collection, mode, policy.namespace, rules.workload, registry, start, rules.timeout
        )
        self._shut_until = self._collection.deadline + RESTORED_WITHIN
        freezes = mode is CollectionMode.RUN and rules.workload != IMAGE_PRUNER
        begun = told.begun(self._told.status, collection, mode, rules.workload, now, what.time, freezes=freezes)
        await self._told.begin(begun, rules.request)
        self._told.tell("CollectionBegan", f"{mode.value}: garbage collection {collection} of {rules.workload} begins")

    # While one goes on

    async def _go_on(self, collection: Collection, policy: ParsedPolicy | None, objection: str | None) -> float:
        """Let the collection do its next step."""
        done = await self._course.go_on(collection, policy, objection)
        self._barred = False
        if not isinstance(done, Finish):
            return done
        await self._finish(done, collection, policy)
        return 0.0

    async def _finish(self, end: Finish, collection: Collection, policy: ParsedPolicy | None) -> None:
        now = self._now()
        schedule = policy.collection.schedule if policy is not None else None
        next_time = None
        if policy is not None and schedule is not None and not policy.suspend:
            next_time = Timetable(schedule, policy.uid, self._jitter).next_start(now)
        ended = told.finished(self._told.status, collection.mode, end, now, next_time)
        message = ended.message or ""
        seconds = int((now - collection.start).total_seconds())
        extra = {"policy": self._name, "collection": collection.id, "seconds": seconds}
        _log.log(logging.INFO if end.failure is None else logging.WARNING, "collection: %s", message, extra=extra)
        await self._told.write(ended)
        # Whatever comes of the Event, it is over: what is done twice would freeze the registry again.
        self._collection = self._left_by = None
        self._door.leave()
        succeeded = end.failure is None
        self._told.tell("CollectionSucceeded" if succeeded else "CollectionFailed", message, warning=not succeeded)

    def _now(self) -> datetime:
        return self._world.clock.now()


def _request_of(standing: Standing) -> str | None:
    found = (standing.body["metadata"].get("annotations") or {}).get(COLLECT_ANNOTATION)
    return None if found is None else str(found)
