"""Looks at a collection and does what was decided: one thing at a time, each safe to be done again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.collecting import Answer, Known, Seen
from registry_cleanup.domain.collection import CollectionMode, CollectionRules, Mark, Strategy, WorkloadName
from registry_cleanup.doors import registry_key
from registry_cleanup.kube.api import NotThereError
from registry_cleanup.kube.collecting.api import ROLE, CollectionAPI
from registry_cleanup.kube.collecting.job import job_document, job_of
from registry_cleanup.kube.collecting.mark import DamagedMarkError
from registry_cleanup.kube.collecting.storage import (
    Place,
    UnfitWorkloadError,
    configuration_of,
    configuration_source,
    container_of,
    place_of,
)
from registry_cleanup.kube.collecting.workload import (
    freeze,
    obstacle_of,
    restore,
    selector_of,
    variable_of,
    workload_of,
)
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import Clock

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

    async def look(
        self, collection: Collection, known: Known | None, objection: str | None, restored: datetime | None
    ) -> Look:
        """Look at all that decides what comes next, but for the registry itself."""
        body = await self.api.workload(collection.namespace, collection.workload)
        workload = None
        if body is not None:
            pods = await self.api.pods(collection.namespace, selector_of(body))
            own = [pod for pod in pods if not _of_job(pod)]
            workload = workload_of(collection.workload, body, own)
            if workload.mark is not None and workload.mark.id != collection.id:
                workload = None  # somebody else's collection: nothing of ours is left there
        found = await self.api.job(collection.namespace, collection.id)
        job_pods, active = await self.api.job_pods(collection.namespace, collection.id)
        job = None if found is None else job_of(found, job_pods, collection.mode)
        now = self._clock.now()
        return Look(Seen(known, objection, workload, job, active, None, now, collection.deadline, restored), body)

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
                f"the operator may not {', '.join(missing)} in namespace {policy.namespace}; grant it with: "
                f"kubectl create rolebinding {ROLE} --clusterrole={ROLE} --serviceaccount={self._account} "
                f"-n {policy.namespace}",
                "CollectorRoleMissing",
            )
        body = await self._present(policy.namespace, name)
        try:
            workload = workload_of(name, body, [])
        except DamagedMarkError as error:
            raise ObstacleError(
                f"{name}: {error}: restore the workload by hand and remove it", "MarkDamaged"
            ) from error
        if workload.mark is not None:
            other = f"a collection of policy {workload.mark.policy_name} has frozen {name}"
            raise ObstacleError(f"{other}; this one begins when that is through")
        if mode is CollectionMode.RUN:
            if (obstacle := obstacle_of(name, body, rules.strategy)) is not None:
                raise ObstacleError(obstacle, "WorkloadUnfit")
            if not workload.rolled_out:
                raise ObstacleError(f"{name} is being rolled out, or its pods are not ready: that has to end first")
        try:
            place = await self._place(policy, rules, name, body)
            job_document(policy, "trial", mode, name, body, place, image, 1)
        except UnfitWorkloadError as error:
            raise ObstacleError(str(error), "WorkloadUnfit") from error

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
        text = None
        if source is not None:
            try:
                text = (await self._config_map(policy.namespace, source.name)).get(source.key)
            except NotThereError as error:
                raise UnfitWorkloadError(f"{name}: there is no ConfigMap {source.name!r}") from error
        return place_of(name, pod, rules.volume, text)

    # What is done

    async def freeze(self, policy: ParsedPolicy, collection: Collection, body: Mapping[str, Any]) -> None:
        """Put the mark on the workload, and freeze it; raise `UnfitWorkloadError`, or `RefusedError` to look again."""
        rules = policy.collection
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

    async def start_job(self, policy: ParsedPolicy, collection: Collection, body: Mapping[str, Any]) -> None:
        """Create the Job; raise `UnfitWorkloadError`, or `ConflictError` where it is there."""
        place = await self._place(policy, policy.collection, collection.workload, body)
        left = collection.deadline - self._clock.now()
        image = await self._operator_image()
        if image is None:
            raise UnfitWorkloadError("the operator does not know its own image any more")
        seconds = max(int(left.total_seconds()), 1)
        document = job_document(
            policy, collection.id, collection.mode, collection.workload, body, place, image, seconds
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


def _workload(rules: CollectionRules) -> WorkloadName:
    if rules.workload is None:
        raise ObstacleError("spec.garbageCollection.workloadRef is needed for this registry", "WorkloadNotFound")
    return rules.workload


def _of_job(pod: Mapping[str, Any]) -> bool:
    """Say whether a Job has made a pod, whatever labels it has in common with the workload's."""
    return any(each.get("kind") == "Job" for each in pod["metadata"].get("ownerReferences") or ())
