"""OpenShift's own image pruner as a collection sees it: how it is set up, its Jobs, and whether one is started.

Its CronJob is made by the cluster's image registry operator from the ImagePruner `cluster`. A collection starts a Job
of it as `oc create job --from=cronjob/image-pruner` does, waits, and tells what the Job's object tells; it reads no
logs, and ends and deletes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from registry_cleanup.domain.run import Collector, Failure

NAMESPACE = "openshift-image-registry"
CRON_JOB = "image-pruner"

# Of `oc adm prune images`: those that decide what it takes away. Addresses, certificates and verbosity are not told.
_OPTIONS = (
    "all",
    "confirm",
    "ignore-invalid-refs",
    "keep-tag-revisions",
    "keep-younger-than",
    "prune-over-size-limit",
    "prune-registry",
)
_OPTION = re.compile(rf"(?<![\w-])--({'|'.join(_OPTIONS)})(?:[= ]([\w.]+))?(?![\w-])")
_COMMAND = re.compile(r"\badm\s+prune\s+images\b")
_NO_FIGURES = "what it freed stands in its log only, which is not read"


def options_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return what decides what a pruner of this command takes away, in the order in which it is written."""
    found = _OPTION.finditer(" ".join(words))
    return tuple(f"--{match[1]}={match[2]}" if match[2] else f"--{match[1]}" for match in found)


def options_told(words: Iterable[str]) -> str:
    """Say with which options a pruner of this command runs."""
    options = options_of(words)
    told = " ".join(option for option in options if not option.startswith("--confirm"))
    blobs = ", so that no blob is freed" if "--prune-registry=false" in options else ""
    return f"{told or 'no options of its own'}{blobs}"


class JobState(Enum):
    """Where a Job of the image pruner is."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    GONE = "Gone"  # taken away before anybody saw its end


@dataclass(frozen=True, slots=True)
class PrunerJob:
    """A Job of the image pruner.

    Attributes:
        name: of the Job, in `NAMESPACE`.
        state: where it is.
        made: when it was made, aware.
        ended: when it ended; None while it runs, or where nobody knows.
        reason: why it failed, in the word of Kubernetes.
        ours: whether it was made for the collection that asks.
        words: command and arguments of all its containers; none where it was not seen.
    """

    name: str
    state: JobState
    made: datetime | None = None
    ended: datetime | None = None
    reason: str = ""
    ours: bool = True
    words: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """Say what has become of it, for status."""
        job = f"Job {NAMESPACE}/{self.name} of the cluster's image pruner"
        other = "" if self.ours else ", which was running already and may not know what was pruned after it began,"
        match self.state:
            case JobState.RUNNING:
                return f"{job}{other} is running with {options_told(self.words)}"
            case JobState.SUCCEEDED:
                return f"{job}{other} succeeded with {options_told(self.words)}; {_NO_FIGURES}"
            case JobState.FAILED:
                return (
                    f"{job}{other} failed ({self.reason or 'for a reason that it does not tell'}); see "
                    f"`oc logs -n {NAMESPACE} job/{self.name}` and the ClusterOperator image-registry"
                )
            case JobState.GONE:
                return f"{job}{other} was taken away before its end was seen: how it ended is not known"

    @property
    def overdue(self) -> str:
        """Say that the time for it is over, which ends the waiting and not the Job."""
        return (
            f"{self.told}, and has been for longer than spec.garbageCollection.timeout; it is left to go on, and a "
            "collection that begins meanwhile waits for it"
        )


@dataclass(frozen=True, slots=True)
class PrunerSetup:
    """How the cluster has set its image pruner up.

    Attributes:
        schedule: of the CronJob.
        suspended: whether the CronJob starts nothing.
        words: command and arguments of all its containers.
        last_start: when the CronJob started one last.
        last_success: when one that the CronJob started ended well last.
    """

    schedule: str
    suspended: bool
    words: tuple[str, ...] = ()
    last_start: datetime | None = None
    last_success: datetime | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Return what decides what it takes away, in the order in which it is written."""
        return options_of(self.words)

    @property
    def prunes(self) -> bool:
        """Whether it is `oc adm prune images`, and not a dry run of it."""
        confirmed = {"--confirm", "--confirm=true"} & set(self.options)
        return bool(confirmed) and _COMMAND.search(" ".join(self.words)) is not None

    @property
    def told(self) -> str:
        """Say how it is set up, for status."""
        return f"it runs with {options_told(self.words)}"

    @property
    def report(self) -> str:
        """Say what a collection that only reports can say without starting anything."""
        when = f"by its schedule {self.schedule!r}" if not self.suspended else "not at all: it is suspended"
        last = f"last started {_told(self.last_start)}, last succeeded {_told(self.last_success)}"
        return (
            f"the cluster's image pruner runs {when}; {last}; {self.told}; what it would free is not known: "
            "`oc adm prune images` without --confirm prints it"
        )


@dataclass(frozen=True, slots=True)
class Start:
    """A Job is to be made."""


def job_name(policy_uid: str, collection: str) -> str:
    """Return how the Job of a collection is called, so that whoever comes after a crash finds it."""
    return f"registry-cleanup-{hashlib.sha256(f'{policy_uid}/{collection}'.encode()).hexdigest()[:16]}"


def decide(setup: PrunerSetup, own: PrunerJob | None, others: Iterable[PrunerJob]) -> PrunerJob | Start | Failure:
    """Say which Job a collection waits for, that one is to be made for it, or why none is.

    Two at a time would only take each other's work away. So the one that runs, whoever made it, is waited for, the
    newest where there are several, since it knows most of what was pruned.

    Args:
        setup: of the image pruner.
        own: the Job that was made for this collection before.
        others: further Jobs of the image pruner, whoever made them.
    """
    if own is not None:
        return own
    if running := [job for job in others if job.state is JobState.RUNNING]:
        return max(running, key=lambda job: (job.made.timestamp() if job.made is not None else 0.0, job.name))
    if setup.suspended:
        return Failure(
            Collector.SUSPENDED.value,
            "the cluster's image pruner is suspended, and so not started; an administrator of the cluster resumes it "
            "with: oc patch imagepruners.imageregistry.operator.openshift.io/cluster --type=merge "
            """-p '{"spec":{"suspend":false}}'""",
            mendable=True,
        )
    if not setup.prunes:
        return Failure(
            "ImagePrunerUnknown",
            f"CronJob {NAMESPACE}/{CRON_JOB} does not run `oc adm prune images --confirm`, and so it is not started; "
            "OpenShift's image registry operator makes it: see the ClusterOperator image-registry",
            mendable=True,
        )
    return Start()


def _told(moment: datetime | None) -> str:
    return "never" if moment is None else f"at {moment:%Y-%m-%dT%H:%M:%SZ}"
