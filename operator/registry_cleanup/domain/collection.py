"""Garbage collection of a registry that runs in the cluster: its words, and what a policy wants of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from typing_extensions import override

from registry_cleanup.domain.cron import Schedule


class CollectionMode(StrEnum):
    """What a collection does; the values are those of `spec.garbageCollection.mode`."""

    NONE = "None"
    REPORT = "Report"
    RUN = "Run"


class CollectionPhase(StrEnum):
    """How a collection stands; the values are those of `status.collection.phase`."""

    WAITING = "Waiting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Step(StrEnum):
    """Where a collection that runs is; the values are those of `status.collection.step`."""

    FREEZING = "Freezing"
    COLLECTING = "Collecting"
    RESTORING = "Restoring"
    VERIFYING = "Verifying"


class Strategy(StrEnum):
    """How a registry is kept from changing; the values are those of `spec.garbageCollection.strategy`."""

    READ_ONLY = "ReadOnly"
    OFFLINE = "Offline"


@dataclass(frozen=True, slots=True)
class WorkloadName:
    """A workload of a namespace.

    Attributes:
        kind: `Deployment` or `StatefulSet`.
        name: its name.
    """

    kind: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


# What stands for the workload on OpenShift, where the cluster's own image pruner collects.
IMAGE_PRUNER = WorkloadName("CronJob", "image-pruner")


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """What a policy wants of garbage collection.

    Attributes:
        mode: what is done.
        schedule: when; None with mode None.
        workload: that serves the registry; `IMAGE_PRUNER` on OpenShift.
        strategy: how it is kept from changing meanwhile.
        volume: of its pods, that holds the storage; None where there is just one that can be it.
        timeout: how long the registry may be kept from changing.
        request: the value of the annotation that asks for one at once, if the policy bears it.
        prunes_storage: whether what the registry itself does not delete is pruned in its storage.
    """

    mode: CollectionMode
    schedule: Schedule | None
    workload: WorkloadName | None
    strategy: Strategy
    volume: str | None
    timeout: timedelta
    request: str | None = None
    prunes_storage: bool = False


NO_COLLECTION = CollectionRules(CollectionMode.NONE, None, None, Strategy.READ_ONLY, None, timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a container had before, and where in its list.

    Attributes:
        index: in the container's list.
        entry: as JSON, whatever it is: a value, or where it comes from.
    """

    index: int
    entry: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands on a workload while it is frozen: enough to restore it when nothing else is left.

    It is written with the change itself, in one patch, so that neither is ever there without the other.

    Attributes:
        policy: UID of the policy whose collection it is.
        policy_name: of the same, for people.
        id: of the collection.
        registry: host and port; runs of all policies at it wait.
        strategy: how it was frozen.
        replicas: how many there were.
        container: whose variable was set; None for Offline.
        variable: that it had before; None where it had none.
        start: when the collection began, aware.
        timeout: for so long it may be frozen.
    """

    policy: str
    policy_name: str
    id: str
    registry: str
    strategy: Strategy
    replicas: int
    container: str | None
    variable: Variable | None
    start: datetime
    timeout: timedelta

    @property
    def deadline(self) -> datetime:
        """When it has to be restored."""
        return self.start + self.timeout


@dataclass(frozen=True, slots=True)
class StoragePruned:
    """What the Job of a collection took out of the storage, where the registry deletes nothing.

    Attributes:
        run: by which it can be restored; None where nothing was moved.
        tags: that are in the trash.
        manifests: that went with them.
        stayed: planned tags that stay, whatever keeps them; None where it did not come so far.
        failure: what ended it early.
        told: whether that is known; where it is not, anything that was planned may have been moved.
    """

    run: str | None = None
    tags: int = 0
    manifests: int = 0
    stayed: int | None = 0
    failure: str | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Measures:
    """What the Job of a collection measured.

    Attributes:
        bytes_before: of all blobs.
        blobs_before: how many there were.
        bytes_after: the same afterwards; with a report what would be left.
        blobs_after: the same.
        pruned: what was pruned in the storage; None where nothing was to be.
    """

    bytes_before: int
    blobs_before: int
    bytes_after: int
    blobs_after: int
    pruned: StoragePruned | None = None

    @property
    def freed(self) -> int:
        """Bytes that the collection freed, or would."""
        return max(self.bytes_before - self.bytes_after, 0)

    @property
    def removed(self) -> int:
        """Blobs that the collection removed, or would."""
        return max(self.blobs_before - self.blobs_after, 0)
