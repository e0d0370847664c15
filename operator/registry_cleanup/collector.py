"""Looks at a collection and does what was decided: one thing at a time, each safe to be done again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.collecting import Answer, Known, Seen, Workload
from registry_cleanup.domain.collection import CollectionMode, CollectionRules, Mark, Step, Strategy, WorkloadName
from registry_cleanup.doors import registry_key
from registry_cleanup.kube.api import NotThereError
from registry_cleanup.kube.collecting.api import ROLE, CollectionAPI
from registry_cleanup.kube.collecting.job import StorageOrder, job_document
from registry_cleanup.kube.collecting.job_state import job_of
from registry_cleanup.kube.collecting.mark import MARK_ANNOTATION, DamagedMarkError, mark_of
from registry_cleanup.kube.collecting.sharing import intruder_of
from registry_cleanup.kube.collecting.storage import (
    Place,
    UnfitWorkloadError,
    configuration_of,
    configuration_source,
    container_of,
    expect_known,
    place_of,
)
from registry_cleanup.kube.collecting.workload import (
    freeze,
    mark_again,
    obstacle_of,
    read_only_container,
    restore,
    selector_of,
    variable_of,
    workload_of,
)
from registry_cleanup.kube.in_use.labels import bears
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import Clock

_log = logging.getLogger(__name__)

# When its time is over, a collection that somebody has in hand is restored within so long.
RESTORED_WITHIN = timedelta(minutes=10)

Ask = Callable[[ParsedPolicy], Awaitable[Answer]]
"""Asks the registry of a policy whether it takes changes."""
ConfigMapData = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Returns the texts of a ConfigMap, by namespace and name."""


class ObstacleError(Exception):
    """What keeps a collection from beginning.

    Attributes:
        reason: CamelCase, of the Event that tells of it; None where it passes by itself.
        until: when it passes, where that is known.
    """

    def __init__(self, message: str, reason: str | None = None, until: datetime | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.until = until


class LeftFrozenError(ObstacleError):
    """Another collection has left the workload frozen, and nobody restores it.

    Attributes:
        collection: that one.
    """

    def __init__(self, message: str, collection: Collection) -> None:
        super().__init__(message)
        self.collection = collection


class InUseError(ObstacleError):
    """Runs are at the registry: no other begins before the collection does, so that it waits for these only."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that is under way.

    Attributes:
        id: which.
        mode: Report or Run.
        namespace: of its workload.
        workload: that serves the registry.
        registry: as doors know it.
        start: when it began.
        timeout: for so long the registry may be kept from changing.
    """

    id: str
    mode: CollectionMode
    namespace: str
    workload: WorkloadName
    registry: str
    start: datetime
    timeout: timedelta

    @classmethod
    def of(cls, namespace: str, workload: WorkloadName, mark: Mark) -> Collection:
        """Return the collection that has put `mark` on a workload."""
        return cls(mark.id, CollectionMode.RUN, namespace, workload, mark.registry, mark.start, mark.timeout)

    @property
    def deadline(self) -> datetime:
        """When it has to be through."""
        return self.start + self.timeout


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a collection, and the workload as it was then."""

    seen: Seen
    body: dict[str, Any] | None

    def answered(self, answer: Answer) -> Look:
        """Return the same with what the registry said."""
        return replace(self, seen=replace(self.seen, answer=answer))


class Collector:
    """The hands of all collections of this process."""

    def __init__(
        self,
        api: CollectionAPI,
        config_map: ConfigMapData,
        ask: Ask,
        clock: Clock,
        operator_image: Callable[[], Awaitable[str | None]],
        service_account: str,
    ) -> None:
        self.api = api
        self.ask = ask
        self._config_map = config_map
        self._clock = clock
        self._operator_image = operator_image
        self._account = service_account
        # Of the collections that this process has frozen something for, or seen frozen; by ID.
        self._marks: dict[str, Mark] = {}

    async def look(
        self,
        collection: Collection,
        policy: ParsedPolicy | None,
        known: Known | None,
        objection: str | None,
        restored: datetime | None,
    ) -> Look:
        """Look at all that decides what comes next, but for the registry itself."""
        body = await self._marked(collection, await self.api.workload(collection.namespace, collection.workload))
        if body is not None and restored is None:
            body = await self._with_mark(collection, policy, known, body)
        workload: Workload | None = None
        taken_by: str | None = None
        if body is not None:
            pods = await self.api.pods(collection.namespace)
            own = [pod for pod in pods if bears(_labels(pod), selector_of(body)) and not _of_job(pod)]
            workload = workload_of(collection.workload, body, own)
            if workload.mark is not None and workload.mark.id != collection.id:
                # Somebody else's collection: nothing of ours is left there.
                taken_by = workload.mark.policy_name
                workload = None
            elif objection is None and _may_collect(collection, known) and self._clock.now() < collection.deadline:
                # After its time it ends anyway, and what cannot be looked at must not keep it from that.
                objection = await self._intrusion(policy, collection, body, pods)
        found = await self.api.job(collection.namespace, collection.id)
        job_pods, active = await self.api.job_pods(collection.namespace, collection.id)
        now = self._clock.now()
        job = None if found is None else job_of(found, job_pods, collection.mode, now)
        seen = Seen(known, objection, workload, job, active, None, now, collection.deadline, restored, taken_by)
        return Look(seen, body)

    async def _marked(self, collection: Collection, body: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return a workload with the mark that it had, and remember that.

        Without it nobody who comes after this process could restore it.
        """
        known = self._marks.get(collection.id)
        if body is None:
            return None
        if known is not None and (patch := mark_again(body, known)):
            _log.warning("somebody took the mark off a frozen workload", extra={"workload": str(collection.workload)})
            await self.api.patch_workload(collection.namespace, collection.workload, patch)
            return await self.api.workload(collection.namespace, collection.workload)
        found = mark_of(body)
        if found is not None and found.id == collection.id:
            self._marks[collection.id] = found
        return body

    async def _with_mark(
        self, collection: Collection, policy: ParsedPolicy | None, known: Known | None, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return a workload with the mark that an operator before this one put on it, and somebody took off.

        Raises:
            DamagedMarkError: nothing says any more how many replicas there were.
        """
        if known is None or not known.frozen or known.step is Step.VERIFYING or mark_of(body) is not None:
            return body
        container = read_only_container(body)
        if container is None:
            _expect_replicas(collection, body)
            return body
        # It took changes before, whatever the variable was: without it, it does again.
        mark = Mark(
            policy=policy.uid if policy is not None else "",
            policy_name=policy.name if policy is not None else "",
            id=collection.id,
            registry=collection.registry,
            strategy=Strategy.READ_ONLY,
            replicas=max(body["spec"].get("replicas", 1), 1),
            container=container,
            variable=None,
            start=collection.start,
            timeout=collection.timeout,
        )
        self._marks[collection.id] = mark
        return await self._marked(collection, body)

    async def _intrusion(
        self, policy: ParsedPolicy | None, collection: Collection, body: Mapping[str, Any], pods: list[dict[str, Any]]
    ) -> str | None:
        """Return what speaks against going on: somebody else writes to the storage."""
        if policy is None:
            return None
        try:
            place = await self._place(policy, policy.collection, collection.workload, body)
            pod = intruder_of(collection.workload, body, place, pods, collection.id)
        except UnfitWorkloadError as error:
            return str(error)
        return None if pod is None else _shared(pod, policy.namespace)

    # Before the beginning

    async def prepare(self, policy: ParsedPolicy, rules: CollectionRules, mode: CollectionMode) -> None:
        """Raise `ObstacleError` where a collection cannot begin; nothing is changed."""
        name = _workload(rules)
        image = await self._operator_image()
        if not image:
            raise ObstacleError(
                "the operator does not know its own image, by which the storage is measured: set "
                "REGISTRY_CLEANUP_OPERATOR_IMAGE in its Deployment",
                "OperatorImageUnknown",
            )
        if missing := await self.api.missing_rights(policy.namespace, name):
            raise ObstacleError(
                f"the operator may not {', '.join(missing)} in namespace {policy.namespace}; "
                f"{self.grant(policy.namespace)}",
                "CollectorRoleMissing",
            )
        body = await self._present(policy.namespace, name)
        workload = self._unmarked(policy, name, body)
        if mode is CollectionMode.RUN:
            if (obstacle := obstacle_of(name, body, rules.strategy)) is not None:
                raise ObstacleError(obstacle, "WorkloadUnfit")
            if not workload.rolled_out:
                raise ObstacleError(f"{name} is being rolled out, or its pods are not ready: that has to end first")
        await self._fits(policy, mode, name, body, image)

    async def _fits(
        self, policy: ParsedPolicy, mode: CollectionMode, name: WorkloadName, body: dict[str, Any], image: str
    ) -> None:
        """Raise `ObstacleError` where the storage cannot be collected, or is not the registry's alone."""
        try:
            place = await self._place(policy, policy.collection, name, body)
            job_document(policy, "trial", mode, name, body, place, image, 1)
            pods = await self.api.pods(policy.namespace) if mode is CollectionMode.RUN else []
            pod = intruder_of(name, body, place, pods, None)
        except UnfitWorkloadError as error:
            raise ObstacleError(str(error), "WorkloadUnfit") from error
        if pod is not None:
            raise ObstacleError(_shared(pod, policy.namespace), "StorageShared")

    def _unmarked(self, policy: ParsedPolicy, name: WorkloadName, body: dict[str, Any]) -> Workload:
        """Return a workload; raise `ObstacleError` where another collection has frozen it."""
        try:
            workload = workload_of(name, body, [])
        except DamagedMarkError as error:
            raise ObstacleError(
                f"{name}: {error}: restore the workload by hand and remove it", "MarkDamaged"
            ) from error
        if workload.mark is None:
            return workload
        other = f"a collection of policy {workload.mark.policy_name} has frozen {name}"
        if self._is_forgotten(workload.mark, policy):
            raise LeftFrozenError(other, Collection.of(policy.namespace, name, workload.mark))
        raise ObstacleError(f"{other}; this one begins when that is through")

    async def expect_none_left(self, policy: ParsedPolicy) -> None:
        """Raise `LeftFrozenError` where the policy's workload bears a mark that nobody has in hand.

        Its label may be missing, by which marks are found: `kubectl rollout undo` brings back the annotation alone.
        """
        name = _workload(policy.collection)
        body = await self.api.workload(policy.namespace, name)
        try:
            if body is not None:
                self._unmarked(policy, name, body)
        except LeftFrozenError:
            raise
        except ObstacleError:
            return  # somebody else's; it is told once it keeps a collection from beginning

    def grant(self, namespace: str) -> str:
        """Return how somebody grants what collections need in a namespace."""
        return (
            f"grant it with: kubectl create rolebinding {ROLE} --clusterrole={ROLE} --serviceaccount={self._account} "
            f"-n {namespace}"
        )

    def _is_forgotten(self, mark: Mark, policy: ParsedPolicy) -> bool:
        """Say whether nobody has the collection in hand that a mark is of: the policy that asks has none now."""
        now = self._clock.now()
        return mark.policy == policy.uid or mark.start > now or now >= mark.deadline + RESTORED_WITHIN

    async def _present(self, namespace: str, name: WorkloadName) -> dict[str, Any]:
        body = await self.api.workload(namespace, name)
        if body is None:
            raise ObstacleError(
                f"there is no {name} in namespace {namespace}: correct spec.garbageCollection.workloadRef",
                "WorkloadNotFound",
            )
        return body

    async def _place(
        self, policy: ParsedPolicy, rules: CollectionRules, name: WorkloadName, body: Mapping[str, Any]
    ) -> Place:
        """Return where the registry is in its workload; raise `UnfitWorkloadError`."""
        pod = body["spec"]["template"]["spec"]
        container = container_of(name, pod, rules.volume)
        source = configuration_source(pod, container, configuration_of(container))
        expect_known(name, container, source)
        text = None
        if source is not None:
            try:
                text = (await self._config_map(policy.namespace, source.name)).get(source.key)
            except NotThereError as error:
                raise UnfitWorkloadError(f"{name}: there is no ConfigMap {source.name!r}") from error
            if text is None:
                raise UnfitWorkloadError(f"{name}: ConfigMap {source.name!r} has no {source.key!r} as text")
        return place_of(name, pod, rules.volume, text)

    # What is done

    async def freeze(self, policy: ParsedPolicy, collection: Collection, body: Mapping[str, Any]) -> None:
        """Put the mark on the workload, and freeze it; raise `UnfitWorkloadError`, or `RefusedError` to look again."""
        rules = policy.collection
        # Again: since the collection was said to begin, an operator may have been killed, and the workload changed.
        if (obstacle := obstacle_of(collection.workload, body, rules.strategy)) is not None:
            raise UnfitWorkloadError(obstacle)
        container = None
        if rules.strategy is Strategy.READ_ONLY:
            container = (await self._place(policy, rules, collection.workload, body)).container
        mark = Mark(
            policy=policy.uid,
            policy_name=policy.name,
            id=collection.id,
            registry=registry_key(policy.registry.url),
            strategy=rules.strategy,
            replicas=body["spec"].get("replicas", 1),
            container=container,
            variable=variable_of(body, container) if container is not None else None,
            start=collection.start,
            timeout=collection.timeout,
        )
        await self.api.patch_workload(collection.namespace, collection.workload, freeze(body, mark))
        self._marks[collection.id] = mark

    async def start_job(
        self, policy: ParsedPolicy, collection: Collection, body: Mapping[str, Any], order: StorageOrder | None
    ) -> None:
        """Create the Job; raise `UnfitWorkloadError`, or `ConflictError` where it is there."""
        place = await self._place(policy, policy.collection, collection.workload, body)
        left = collection.deadline - self._clock.now()
        image = await self._operator_image()
        if image is None:
            raise UnfitWorkloadError("the operator does not know its own image any more")
        seconds = max(int(left.total_seconds()), 1)
        document = job_document(
            policy, collection.id, collection.mode, collection.workload, body, place, image, seconds, order
        )
        await self.api.create_job(collection.namespace, document)

    async def end_job(self, collection: Collection) -> None:
        """Delete the Job, with its pods."""
        await self.api.delete_job(collection.namespace, collection.id)

    async def restore(self, collection: Collection, look: Look, *, restart: bool) -> None:
        """Give the workload back what it had; raise `RefusedError` to look again."""
        if look.body is None or look.seen.workload is None:
            return
        restarted = look.seen.now.isoformat() if restart else None
        patch = restore(look.body, look.seen.workload.mark, restarted)
        await self.api.patch_workload(collection.namespace, collection.workload, patch)
        self._marks.pop(collection.id, None)


def _workload(rules: CollectionRules) -> WorkloadName:
    if rules.workload is None:
        raise ObstacleError("spec.garbageCollection.workloadRef is needed for this registry", "WorkloadNotFound")
    return rules.workload


def _shared(pod: str, namespace: str) -> str:
    return (
        f"pod {pod} in namespace {namespace} is none of the registry's own and may write to its storage, where what it "
        "writes would be taken: end it, or let it mount the volume with readOnly"
    )


def _may_collect(collection: Collection, known: Known | None) -> bool:
    """Say whether something may still be taken from the storage, or is taken."""
    run = collection.mode is CollectionMode.RUN
    return run and known is not None and known.measures is None and known.failure is None


def _labels(pod: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = pod["metadata"].get("labels") or {}
    return found


def _of_job(pod: Mapping[str, Any]) -> bool:
    """Say whether a Job has made a pod, whatever labels it has in common with the workload's."""
    return any(each.get("kind") == "Job" for each in pod["metadata"].get("ownerReferences") or ())


def _expect_replicas(collection: Collection, body: Mapping[str, Any]) -> None:
    """Raise `DamagedMarkError` where a workload is still scaled to zero."""
    if body["spec"].get("replicas", 1) == 0:
        kind, name = collection.workload.kind.lower(), collection.workload.name
        raise DamagedMarkError(
            f"somebody took the annotation {MARK_ANNOTATION} off {collection.workload}, which is still scaled to zero "
            f"(kubectl scale -n {collection.namespace} {kind}/{name} --replicas=N)"
        )
