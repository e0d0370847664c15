"""Starting and watching a Job of OpenShift's own image pruner, with the operator's account and what its Role allows.

Whoever may create Jobs in that namespace may run anything there as any of its ServiceAccounts. So that right is the
operator's alone, and it makes nothing of it but a copy of the cluster's own CronJob; a policy gets that only where its
own ServiceAccount may delete images in the whole cluster, which is what the pruner does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import stamina
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from registry_cleanup.domain.image_pruner import (
    CRON_JOB,
    NAMESPACE,
    JobState,
    PrunerJob,
    PrunerSetup,
    Start,
    decide,
)
from registry_cleanup.domain.run import Failure
from registry_cleanup.openshift.api import ImageAPI, Right
from registry_cleanup.openshift.pruner_documents import Asker, Document, job_of, parse_job, setup_of
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import Objection, RunError, no_objection

IMAGES_ROLE = "registry-cleanup-images"
GRANT = "kubectl apply -k manifests/openshift-image-pruner, or the chart's value openshift.imagePruner: true"

_BATCH = ("batch", "v1", NAMESPACE)
_REQUEST_LIMIT = 20.0
_ATTEMPTS = 4
_REPORTING = (("get", "cronjobs", CRON_JOB),)
_STARTING = (*_REPORTING, ("create", "jobs", ""), ("get", "jobs", ""), ("list", "jobs", ""))


class _PassingError(Exception):
    """The API server gave no answer that can be relied upon; may pass."""


class _AbsentError(Exception):
    """404."""


class _TakenError(Exception):
    """409: there is one of that name."""


class ImagePruner:
    """The image pruner of the cluster that the operator runs in. All methods raise `RunError`."""

    def __init__(self, api_client: client.ApiClient, objection: Objection = no_objection) -> None:
        """Ask with the operator's account through `api_client`, and make nothing while there is an objection."""
        self._custom = client.CustomObjectsApi(api_client)
        self._authorization = client.AuthorizationV1Api(api_client)
        self._objection = objection

    async def setup(self) -> PrunerSetup:
        """Return how it is set up; nothing is started."""
        await self._demand(_REPORTING)
        return setup_of(await self._cron_job())

    async def check(self, refusal: Callable[[], Awaitable[Failure | None]]) -> None:
        """Raise `RunError` where no Job would be started now, nor one that runs be waited for."""
        await self._demand(_STARTING)
        cron_job = await self._cron_job()
        decision = decide(setup_of(cron_job), None, await self._jobs(str(cron_job["metadata"]["uid"])))
        if isinstance(decision, Failure):
            raise RunError(decision)
        if (refused := await refusal()) is not None:
            raise RunError(refused)

    async def start_or_find(self, asker: Asker, refusal: Callable[[], Awaitable[Failure | None]]) -> PrunerJob:
        """Return the Job that a collection waits for: its own, one that runs already, or else a new one.

        It may be called again after a failure or a crash, and makes no second Job then.

        Args:
            asker: whose collection it is.
            refusal: says why the policy may start none; asked only before one is started.
        """
        await self._demand(_STARTING)
        cron_job = await self._cron_job()
        own = await self._job(asker.job)
        others = [] if own is not None else await self._jobs(str(cron_job["metadata"]["uid"]))
        match decide(setup_of(cron_job), own, others):
            case Failure() as failure:
                raise RunError(failure)
            case PrunerJob() as found:
                return found
            case Start():
                if (refused := await refusal()) is not None:
                    raise RunError(refused)
                return await self._make(job_of(cron_job, asker))

    async def look(self, job: PrunerJob) -> PrunerJob:
        """Return a Job as it is by now."""
        found = await self._job(job.name)
        if found is None:
            return PrunerJob(job.name, JobState.GONE, job.made, ours=job.ours)
        return replace(found, ours=job.ours)

    async def _demand(self, rights: tuple[tuple[str, str, str], ...]) -> None:
        missing = [right for right in rights if not await self._may(*right)]
        if missing:
            told = ", ".join(" ".join(filter(None, right)) for right in missing)
            raise RunError(
                Failure(
                    "ImagePrunerRightMissing",
                    f"the operator lacks in namespace {NAMESPACE}: {told}; nothing was started; an administrator of "
                    f"the cluster grants it with: {GRANT}",
                    mendable=True,
                )
            )

    async def _may(self, verb: str, resource: str, name: str) -> bool:
        attributes = client.V1ResourceAttributes(
            group="batch", namespace=NAMESPACE, resource=resource, verb=verb, name=name or None
        )
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        review = client.V1SelfSubjectAccessReview(spec=spec)
        answer = await _answered(self._authorization.create_self_subject_access_review, review)
        return bool(answer.status and answer.status.allowed)

    async def _cron_job(self) -> Document:
        try:
            found: Document = await _answered(self._custom.get_namespaced_custom_object, *_BATCH, "cronjobs", CRON_JOB)
        except _AbsentError:
            raise RunError(
                Failure(
                    "NoImagePruner",
                    f"there is no CronJob {CRON_JOB} in namespace {NAMESPACE}; OpenShift's image registry operator "
                    "makes it from the ImagePruner `cluster`: see `oc get imagepruners` and the ClusterOperator "
                    "image-registry",
                    mendable=True,
                )
            ) from None
        return found

    async def _job(self, name: str) -> PrunerJob | None:
        try:
            return parse_job(await _answered(self._custom.get_namespaced_custom_object, *_BATCH, "jobs", name))
        except _AbsentError:
            return None

    async def _jobs(self, owner: str) -> list[PrunerJob]:
        """Return the Jobs of the CronJob with this UID, also those that people made of it; not those that are going."""
        found = await _answered(self._custom.list_namespaced_custom_object, *_BATCH, "jobs")
        return [
            parse_job(job, ours=False)
            for job in found["items"]
            if any(each["uid"] == owner for each in job["metadata"].get("ownerReferences", ()))
            and "deletionTimestamp" not in job["metadata"]
        ]

    async def _make(self, job: Document) -> PrunerJob:
        if (objection := self._objection()) is not None:
            raise RunError(Failure("Interrupted", objection))
        try:
            return parse_job(await _answered(self._custom.create_namespaced_custom_object, *_BATCH, "jobs", job))
        except _TakenError:
            # An answer that was lost on its way, or the operator before this one.
            found = await self._job(job["metadata"]["name"])
            return found or PrunerJob(job["metadata"]["name"], JobState.GONE)


async def refusal(api: ImageAPI, account: Subject) -> Failure | None:
    """Say why the policy of `account` may start no image pruner, asked with its own token; None where it may.

    Args:
        api: the API server, as that account sees it.
        account: whose rights hold.
    """
    if await api.may(Right("delete", "images")):
        return None
    grant = f"kubectl create clusterrolebinding {IMAGES_ROLE}-{account.slug} --clusterrole={IMAGES_ROLE} {account.flag}"
    return Failure(
        "ImagePrunerNotAllowed",
        f"{account.told} may not delete images in the cluster, and so its policy starts no image pruner, which would; "
        f"an administrator of the cluster grants it with: {grant}",
        mendable=True,
    )


async def _answered(ask: Callable[..., Awaitable[Any]], *where: Any) -> Any:  # noqa: ANN401 - the client's own types
    """Ask, again where that may help: what is made has a name, so that nothing is made twice."""
    try:
        async for attempt in stamina.retry_context(
            on=_PassingError, attempts=_ATTEMPTS, wait_initial=0.1, wait_jitter=0.2, timeout=None
        ):
            with attempt:
                return await _once(ask(*where, _request_timeout=_REQUEST_LIMIT))
    except _PassingError as error:
        raise RunError(Failure("ImagePrunerUnavailable", f"{error}; tried again later")) from error
    raise AssertionError("unreachable: retry_context either returns or raises")


async def _once(answer: Awaitable[Any]) -> Any:  # noqa: ANN401 - the client's own types
    try:
        return await answer
    except ApiException as error:
        match error.status:
            case 404:
                raise _AbsentError from error
            case 409:
                raise _TakenError from error
            case 401 | 429 | 500 | 502 | 503 | 504:
                raise _PassingError(f"the API server answers {error.status} about the image pruner") from error
            case _:
                # The rights were there a moment ago: a quota, an admission policy, or a right that was taken away.
                message = f"the API server answers {error.status} about the image pruner's Job in {NAMESPACE}"
                raise RunError(Failure("ImagePrunerRefused", message, mendable=True)) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _PassingError(f"no answer from the API server ({type(error).__name__})") from error
