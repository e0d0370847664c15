"""The image pruner's CronJob and Jobs as documents: read into values, and made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from registry_cleanup.domain.image_pruner import NAMESPACE, JobState, PrunerJob, PrunerSetup, job_name

POLICY_ANNOTATION = "registrycleanup.dev/policy"
COLLECTION_ANNOTATION = "registrycleanup.dev/collection-id"

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose collection it is.

    Attributes:
        policy: namespace and name, with a slash.
        uid: of the policy.
        collection: the collection's id.
    """

    policy: str
    uid: str
    collection: str

    @property
    def job(self) -> str:
        """The name of its Job."""
        return job_name(self.uid, self.collection)


def job_of(cron_job: Document, asker: Asker) -> Document:
    """Return what `oc create job --from=cronjob/image-pruner` makes of the CronJob, under the name of a collection."""
    metadata, template = cron_job["metadata"], cron_job["spec"]["jobTemplate"]
    given = template.get("metadata") or {}
    # As a controller, so that the CronJob's history limits take it away; blockOwnerDeletion would take a further right.
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": asker.job,
            "namespace": NAMESPACE,
            "labels": given.get("labels") or {},
            "annotations": {
                **(given.get("annotations") or {}),
                "cronjob.kubernetes.io/instantiate": "manual",
                POLICY_ANNOTATION: asker.policy,
                COLLECTION_ANNOTATION: asker.collection,
            },
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": template["spec"],
    }


def setup_of(cron_job: Document) -> PrunerSetup:
    """Return how a CronJob sets the pruner up."""
    spec, status = cron_job["spec"], cron_job.get("status") or {}
    return PrunerSetup(
        spec["schedule"],
        bool(spec.get("suspend")),
        _words(spec["jobTemplate"]["spec"]),
        _moment(status.get("lastScheduleTime")),
        _moment(status.get("lastSuccessfulTime")),
    )


def _words(job_spec: Document) -> tuple[str, ...]:
    containers = job_spec["template"]["spec"]["containers"]
    return tuple(
        word for container in containers for word in (*(container.get("command") or ()), *(container.get("args") or ()))
    )


def parse_job(job: Document, *, ours: bool = True) -> PrunerJob:
    """Return a Job of the pruner as its object tells of it."""
    metadata, status = job["metadata"], job.get("status") or {}
    name, made, words = metadata["name"], _moment(metadata.get("creationTimestamp")), _words(job["spec"])
    for condition in status.get("conditions") or ():
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            failed = condition["type"] == "Failed"
            state = JobState.FAILED if failed else JobState.SUCCEEDED
            ended = _moment(status.get("completionTime") or condition.get("lastTransitionTime"))
            return PrunerJob(name, state, made, ended, condition.get("reason", "") if failed else "", ours, words)
    return PrunerJob(name, JobState.RUNNING, made, ours=ours, words=words)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
