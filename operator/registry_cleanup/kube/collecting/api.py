"""What the operator asks of the API server to collect garbage: workloads, Jobs and their pods, as raw JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from kubernetes.aio import client

from registry_cleanup.domain.collection import Mark, WorkloadName
from registry_cleanup.kube.api import REQUEST_LIMIT, BarredError, ForbiddenError, NotThereError, call
from registry_cleanup.kube.collecting.job import JOB_LABEL, job_name
from registry_cleanup.kube.collecting.job_state import active_pods
from registry_cleanup.kube.collecting.mark import MARKED, DamagedMarkError, mark_of
from registry_cleanup.kube.collecting.pods import ENDED, essence_of
from registry_cleanup.kube.raw import Kind, RawAPI
from registry_cleanup.ports import Objection, no_objection

_log = logging.getLogger(__name__)

_APPS = ("apps", "v1")
_JOBS = ("batch", "v1")
_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
_PODS = Kind("v1", "Pod", "pods")
_LONGEST_REFUSAL = 1000
# As our manifests call it; of a pod that somebody else describes, it is the first.
_OPERATOR = "operator"

ROLE = "registry-cleanup-collector"
# What the ClusterRole of that name grants, and a collection needs in its namespace.
RIGHTS = (
    ("get", "apps", "{workloads}"),
    ("patch", "apps", "{workloads}"),
    ("list", "", "pods"),
    ("get", "batch", "jobs"),
    ("create", "batch", "jobs"),
    ("delete", "batch", "jobs"),
)


class CollectionAPI:
    """Workloads, Jobs and pods, with the rights of the operator's own ServiceAccount."""

    def __init__(self, api_client: client.ApiClient, raw: RawAPI, objection: Objection = no_objection) -> None:
        """Ask through `api_client`, and change nothing while there is an objection: that raises `BarredError`."""
        self._custom = client.CustomObjectsApi(api_client)
        self._authorization = client.AuthorizationV1Api(api_client)
        self._raw = raw
        self._objection = objection

    async def missing_rights(self, namespace: str, workload: WorkloadName) -> list[str]:
        """Return what the operator may not do in a namespace and would have to."""
        missing = []
        for verb, group, resource in RIGHTS:
            named = resource.format(workloads=_PLURALS[workload.kind])
            attributes = client.V1ResourceAttributes(verb=verb, group=group, resource=named, namespace=namespace)
            review = client.V1SelfSubjectAccessReview(
                spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
            )
            answer = await call(
                self._authorization.create_self_subject_access_review(review, _request_timeout=REQUEST_LIMIT)
            )
            if not answer.status.allowed:
                missing.append(f"{verb} {named}")
        return missing

    async def image_of(self, namespace: str, pod: str) -> str | None:
        """Return the image of the operator's container in a pod; None where there is none, or it may not be seen."""
        try:
            pages = self._raw.pages(_PODS, None, namespace)
            async with aclosing(pages):
                async for page in pages:
                    for body in page.items:
                        if body["metadata"]["name"] == pod:
                            containers = body["spec"]["containers"]
                            named = [each for each in containers if each.get("name") == _OPERATOR]
                            return str((named or containers)[0]["image"])
        except ForbiddenError:
            return None
        return None

    # Workloads

    async def marked(self, namespaces: Sequence[str]) -> list[tuple[str, WorkloadName, Mark]]:
        """Return all workloads of these namespaces, or of the cluster, that bear a mark, with their namespaces.

        One whose mark is damaged is passed over: nobody can restore it. What may not be listed hides nothing else.
        """
        found: dict[tuple[str, WorkloadName], Mark] = {}
        refused = []
        for kind in _PLURALS:
            for namespace in namespaces or (None,):
                try:
                    found |= await self._marked(kind, namespace)
                except ForbiddenError as error:
                    refused.append(str(error))
        # Who may list none at all never froze any: the ClusterRole that lets it do so lets it list them.
        if 0 < len(refused) < len(_PLURALS) * len(namespaces or (None,)):
            _log.warning("some workloads may not be listed: frozen ones among them stay so", extra={"causes": refused})
        return [(namespace, name, mark) for (namespace, name), mark in found.items()]

    async def _marked(self, kind: str, namespace: str | None) -> dict[tuple[str, WorkloadName], Mark]:
        found: dict[tuple[str, WorkloadName], Mark] = {}
        pages = self._raw.pages(Kind("/".join(_APPS), kind, _PLURALS[kind]), MARKED, namespace)
        async with aclosing(pages):
            async for page in pages:
                for body in page.items:
                    try:
                        mark = mark_of(body)
                    except DamagedMarkError:
                        continue
                    if mark is not None:
                        metadata = body["metadata"]
                        found[metadata["namespace"], WorkloadName(kind, metadata["name"])] = mark
        return found

    async def workload(self, namespace: str, name: WorkloadName) -> dict[str, Any] | None:
        """Return a workload; None where there is none of this name."""
        try:
            found: dict[str, Any] = await call(
                self._custom.get_namespaced_custom_object(
                    *_APPS, namespace, _PLURALS[name.kind], name.name, _request_timeout=REQUEST_LIMIT
                )
            )
        except NotThereError:
            return None
        return found

    async def patch_workload(self, namespace: str, name: WorkloadName, patch: list[dict[str, Any]]) -> None:
        """Patch a workload as one that was looked at; raises `RefusedError` where it has changed since."""
        self._may_write()
        await call(
            self._custom.patch_namespaced_custom_object(
                *_APPS,
                namespace,
                _PLURALS[name.kind],
                name.name,
                patch,
                _content_type="application/json-patch+json",
                _request_timeout=REQUEST_LIMIT,
            ),
            _LONGEST_REFUSAL,
        )

    async def pods(self, namespace: str, selector: str | None = None) -> list[dict[str, Any]]:
        """Return the pods of a namespace that have not ended, or all that a selector selects: of each what decides."""
        found: dict[str, dict[str, Any]] = {}
        pages = self._raw.pages(_PODS, selector, namespace)
        async with aclosing(pages):
            async for page in pages:
                for body in page.items:
                    if selector is not None or (body.get("status") or {}).get("phase") not in ENDED:
                        found[body["metadata"]["uid"]] = essence_of(body)
        return list(found.values())

    # Jobs

    async def job(self, namespace: str, collection: str) -> dict[str, Any] | None:
        """Return the Job of a collection; None where there is none."""
        try:
            found: dict[str, Any] = await call(
                self._custom.get_namespaced_custom_object(
                    *_JOBS, namespace, "jobs", job_name(collection), _request_timeout=REQUEST_LIMIT
                )
            )
        except NotThereError:
            return None
        return found

    async def job_pods(self, namespace: str, collection: str) -> tuple[list[dict[str, Any]], int]:
        """Return the pods of the Job of a collection, be that there or not, and how many may still do something."""
        found = [
            pod for pod in await self.pods(namespace, f"{JOB_LABEL}={collection}") if _is_of(pod, job_name(collection))
        ]
        return found, active_pods(found)

    async def create_job(self, namespace: str, body: dict[str, Any]) -> None:
        """Create a Job; raises `ConflictError` where it is there."""
        self._may_write()
        await call(
            self._custom.create_namespaced_custom_object(
                *_JOBS, namespace, "jobs", body, _request_timeout=REQUEST_LIMIT
            ),
            _LONGEST_REFUSAL,
        )

    async def delete_job(self, namespace: str, collection: str) -> None:
        """Delete the Job of a collection with its pods; nothing where there is none."""
        self._may_write()
        try:
            await call(
                self._custom.delete_namespaced_custom_object(
                    *_JOBS,
                    namespace,
                    "jobs",
                    job_name(collection),
                    propagation_policy="Foreground",
                    _request_timeout=REQUEST_LIMIT,
                )
            )
        except NotThereError:
            return

    def _may_write(self) -> None:
        if (objection := self._objection()) is not None:
            raise BarredError(objection)


def _is_of(pod: dict[str, Any], job: str) -> bool:
    """Say whether a Job has made a pod: a label alone anybody can write who may create pods."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(each.get("kind") == "Job" and each.get("name") == job and each.get("controller") for each in owners)
