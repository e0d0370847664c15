"""OpenShift's image pruner is started, waited for and never doubled, with exactly the Role that we ship.

The API server, the controllers and the node are real as far as `tests.support.kubelet` says; the CronJob is the one of
`tests.support.image_pruner`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from kubernetes.aio import client

from registry_cleanup.domain.image_pruner import CRON_JOB, NAMESPACE, JobState, PrunerJob
from registry_cleanup.domain.run import Failure
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.image_pruner import ImagePruner, refusal
from registry_cleanup.openshift.pruner_documents import COLLECTION_ANNOTATION, POLICY_ANNOTATION, Asker
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import RunError
from tests.support import clients
from tests.support.image_pruner import ARGUMENTS, cron_job, grant, pruner_space
from tests.support.kubelet import Kubelet
from tests.support.operator import REPOSITORY_ROOT, SERVICE_ACCOUNT
from tests.support.spaces import LIMIT, Document, Space

_ASKER = Asker("team/nightly", "4d7f", "20260615-030000-abcdef")
_FOR_EVER = "exec sleep 1000"
# Where nothing else that we ship gives the operator's account a right, whatever other tests install.
_OPERATORS = "image-pruner-rights"
_USER = f"system:serviceaccount:{_OPERATORS}:{SERVICE_ACCOUNT}"
_ROLES = REPOSITORY_ROOT / "manifests" / "openshift" / "roles.yaml"


@pytest.fixture(scope="module")
def shared(node: Kubelet) -> Iterator[Space]:
    """Make the namespace of OpenShift's registry, and the operator's account, which has no right but this Role."""
    account = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _OPERATORS}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": SERVICE_ACCOUNT, "namespace": _OPERATORS},
            },
        ],
    }
    node.plane.kubectl("apply", "-f", "-", stdin=json.dumps(account))
    with pruner_space(node) as made:
        grant(node, _OPERATORS)
        yield made


@pytest.fixture
def registry(shared: Space) -> Iterator[Space]:
    """Give the namespace to one test."""
    yield shared
    shared.kubectl("delete", "cronjobs,jobs", "--all", "--cascade=foreground", f"--timeout={LIMIT:g}s")


@asynccontextmanager
async def _as_account(space: Space, namespace: str, name: str) -> AsyncIterator[client.ApiClient]:
    plane = space.node.plane
    configuration = client.Configuration(host=plane.url)
    configuration.ssl_ca_cert = str(plane.ca_file)
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    configuration.api_key = {"BearerToken": plane.token_for_service_account(namespace, name)}
    async with client.ApiClient(configuration) as api_client:
        yield api_client


@asynccontextmanager
async def _opened(space: Space) -> AsyncIterator[ImagePruner]:
    async with _as_account(space, _OPERATORS, SERVICE_ACCOUNT) as api_client:
        yield ImagePruner(api_client)


async def _allowed() -> Failure | None:
    return None


async def _start(space: Space, asker: Asker = _ASKER) -> PrunerJob:
    """Ask as an operator does that was just started."""
    async with _opened(space) as pruner:
        return await pruner.start_or_find(asker, _allowed)


async def _refused(space: Space) -> Failure:
    with pytest.raises(RunError) as raised:
        await _start(space)
    return raised.value.failure


async def _ended(space: Space, job: PrunerJob) -> PrunerJob:
    """Return the Job once it has ended."""
    async with _opened(space) as pruner, asyncio.timeout(LIMIT):
        while (found := await pruner.look(job)).state is JobState.RUNNING:
            space.node.check()
            await asyncio.sleep(0.1)
    return found


def _jobs(space: Space) -> list[Document]:
    found: list[Document] = json.loads(space.kubectl("get", "jobs", "--output=json"))["items"]
    return found


@contextmanager
def _without(space: Space, kind: str, name: str) -> Iterator[None]:
    """Take an object that we ship away for a while."""
    space.kubectl("delete", kind, name)
    try:
        yield
    finally:
        grant(space.node, _OPERATORS)
        space.wait(lambda: "yes" in _may(space, "create", "jobs.batch"), "the right to be back")


def _may(space: Space, *what: str) -> str:
    return space.kubectl("auth", "can-i", f"--as={_USER}", *what, check=False).strip()


async def test_the_pruner_runs_as_the_cluster_has_set_it_up_and_its_end_is_seen(registry: Space) -> None:
    registry.apply(cron_job('printf "%s\\n" "$@"'))

    job = await _start(registry)

    assert (job.name, job.state, job.ours) == (_ASKER.job, JobState.RUNNING, True)
    ended = await _ended(registry, job)
    assert ended.state is JobState.SUCCEEDED
    assert ended.made is not None
    assert ended.ended is not None
    assert ended.made <= ended.ended
    assert registry.kubectl("logs", f"job/{job.name}").splitlines() == [*ARGUMENTS]


async def test_its_job_is_the_one_that_is_made_of_the_cron_job_by_hand(registry: Space) -> None:
    registry.apply(cron_job())

    job = await _start(registry)

    (ours,) = _jobs(registry)
    registry.kubectl("create", "job", "by-hand", f"--from=cronjob/{CRON_JOB}")
    by_hand = registry.get("job", "by-hand")
    assert _compared(ours) == _compared(by_hand)
    assert ours["metadata"]["name"] == job.name
    assert ours["metadata"]["annotations"].items() >= {
        (POLICY_ANNOTATION, "team/nightly"),
        (COLLECTION_ANNOTATION, _ASKER.collection),
    }


def _compared(job: dict[str, Any]) -> dict[str, Any]:
    """Return what of a Job does not depend on its own name and UID."""
    metadata, spec = job["metadata"], job["spec"]
    return {
        "owners": metadata["ownerReferences"],
        "labels": _common(metadata["labels"]),
        "instantiate": metadata["annotations"]["cronjob.kubernetes.io/instantiate"],
        "spec": {name: value for name, value in spec.items() if name not in {"selector", "template"}},
        "pod": {**spec["template"], "metadata": _common(spec["template"]["metadata"].get("labels", {}))},
    }


def _common(labels: dict[str, str]) -> dict[str, str]:
    own = {"controller-uid", "job-name"}
    return {name: value for name, value in labels.items() if name.rpartition("/")[2] not in own}


async def test_a_pruner_that_fails_is_told_with_the_reason(registry: Space) -> None:
    registry.apply(cron_job("echo 'error: failed to build graph - no changes made' >&2; exit 1"))

    ended = await _ended(registry, await _start(registry))

    assert (ended.state, ended.reason) == (JobState.FAILED, "BackoffLimitExceeded")
    assert ended.ended is not None


async def test_an_operator_that_is_started_again_finds_its_job_and_makes_no_second(registry: Space) -> None:
    registry.apply(cron_job(_FOR_EVER))

    first = await _start(registry)
    again = await _start(registry)

    assert (again.name, again.state, again.ours) == (first.name, JobState.RUNNING, True)
    assert len(_jobs(registry)) == 1


async def test_an_operator_that_is_started_again_after_the_end_finds_how_it_ended(registry: Space) -> None:
    registry.apply(cron_job("exit 3"))
    await _ended(registry, await _start(registry))
    # Suspended or gone meanwhile: what was started before counts.
    registry.apply(cron_job("exit 3", suspend=True))

    assert (await _start(registry)).state is JobState.FAILED
    assert len(_jobs(registry)) == 1


async def test_two_that_begin_at_the_same_moment_make_one_job(registry: Space) -> None:
    registry.apply(cron_job(_FOR_EVER))

    found = await asyncio.gather(*(_start(registry) for _ in range(4)))

    assert {job.name for job in found} == {_ASKER.job}
    assert len(_jobs(registry)) == 1


async def test_one_that_runs_already_is_waited_for_and_no_second_is_started(registry: Space) -> None:
    registry.apply(cron_job("while [ ! -e /end ]; do sleep 0.1; done"))
    registry.kubectl("create", "job", "by-hand", f"--from=cronjob/{CRON_JOB}")

    job = await _start(registry)

    assert (job.name, job.state, job.ours) == ("by-hand", JobState.RUNNING, False)
    registry.wait(lambda: any(pod["status"]["phase"] == "Running" for pod in registry.pods()), "its pod")
    (pod,) = registry.pods()
    registry.node.execute(NAMESPACE, pod["metadata"]["name"], "touch", "/end")
    ended = await _ended(registry, job)
    assert (ended.state, ended.ours) == (JobState.SUCCEEDED, False)
    assert len(_jobs(registry)) == 1


async def test_other_jobs_of_the_namespace_are_no_image_pruners(registry: Space) -> None:
    registry.apply(cron_job(_FOR_EVER))
    registry.kubectl("create", "job", "azure-path-fix", "--image=shell:1", "--", "sh", "-c", _FOR_EVER)

    assert (await _start(registry)).name == _ASKER.job


async def test_the_jobs_of_two_collections_differ(registry: Space) -> None:
    registry.apply(cron_job())
    first = await _ended(registry, await _start(registry))

    second = await _start(registry, Asker("team/nightly", "4d7f", "20260616-030000-abcdef"))

    assert first.name != second.name
    assert len(_jobs(registry)) == 2


async def test_a_suspended_pruner_is_not_started(registry: Space) -> None:
    registry.apply(cron_job(suspend=True))

    failure = await _refused(registry)

    assert (failure.reason, failure.mendable) == ("ImagePrunerSuspended", True)
    assert _jobs(registry) == []


async def test_a_cron_job_that_is_no_image_pruner_is_not_started(registry: Space) -> None:
    registry.apply(cron_job(arguments=["adm", "prune", "images"]))

    assert (await _refused(registry)).reason == "ImagePrunerUnknown"
    assert _jobs(registry) == []


async def test_a_cluster_without_the_cron_job_has_no_image_pruner(registry: Space) -> None:
    assert (await _refused(registry)).reason == "NoImagePruner"
    async with _opened(registry) as pruner:
        with pytest.raises(RunError, match="oc get imagepruners"):
            await pruner.setup()


async def test_a_job_that_the_history_limit_takes_away_is_gone_and_not_a_success(registry: Space) -> None:
    registry.apply(cron_job(_FOR_EVER))
    job = await _start(registry)
    registry.kubectl("delete", "job", job.name)

    async with _opened(registry) as pruner:
        found = await pruner.look(job)

    assert (found.state, found.name, found.ours) == (JobState.GONE, job.name, True)
    assert "how it ended is not known" in found.told


async def test_a_report_reads_how_the_pruner_is_set_up_and_starts_nothing(registry: Space) -> None:
    registry.apply(cron_job(suspend=True))
    async with _opened(registry) as pruner:
        setup = await pruner.setup()

    assert (setup.schedule, setup.suspended, setup.last_start) == ("0 0 1 1 *", True, None)
    assert setup.options == (
        "--confirm=true",
        "--keep-tag-revisions=3",
        "--keep-younger-than=60m",
        "--ignore-invalid-refs=true",
        "--prune-registry=true",
    )
    assert _jobs(registry) == []


# Rights


async def test_without_the_binding_nothing_is_started_and_the_command_is_told(registry: Space) -> None:
    registry.apply(cron_job())
    with _without(registry, "rolebinding", "registry-cleanup-image-pruner"):
        failure = await _refused(registry)

    assert (failure.reason, failure.mendable) == ("ImagePrunerRightMissing", True)
    assert (
        "lacks in namespace openshift-image-registry: get cronjobs image-pruner, create jobs, get jobs, list jobs"
        in failure.message
    )
    assert "kubectl apply -k manifests/openshift-image-pruner" in failure.message
    assert _jobs(registry) == []


@pytest.mark.parametrize("verb", ["create", "get", "list"])
async def test_each_right_is_needed_and_missed_by_its_name(registry: Space, verb: str) -> None:
    registry.apply(cron_job())
    verbs = [each for each in ("create", "get", "list") if each != verb]
    with _without(registry, "role", "registry-cleanup-image-pruner"):
        rules = [
            {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": verbs},
        ]
        metadata = {"name": "registry-cleanup-image-pruner"}
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
        registry.apply({**kind, "metadata": metadata, "rules": rules})
        registry.wait(lambda: _may(registry, verbs[0], "jobs.batch") == "yes", "the rest of the rights")
        failure = await _refused(registry)

    assert f"lacks in namespace openshift-image-registry: {verb} jobs;" in failure.message


def test_the_role_allows_what_is_needed_and_nothing_else(registry: Space) -> None:
    everything = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
    assert _may(registry, "get", f"cronjobs.batch/{CRON_JOB}") == "yes"
    assert [verb for verb in everything if _may(registry, verb, "jobs.batch") == "yes"] == ["get", "list", "create"]
    assert [verb for verb in everything if _may(registry, verb, "cronjobs.batch") == "yes"] == []
    for resource in ("pods", "pods/log", "pods/exec", "secrets", "configmaps", "serviceaccounts/token"):
        assert [verb for verb in ("get", "list", "create") if _may(registry, verb, resource) == "yes"] == []
    assert _may(registry, "create", "jobs.batch", "--namespace=default") == "no"


async def test_a_policy_whose_account_may_not_delete_images_starts_no_pruner(registry: Space) -> None:
    registry.apply(cron_job())
    registry.node.plane.kubectl("apply", "-f", str(_ROLES))
    account = Subject.service_account(f"{NAMESPACE}:default")

    async with (
        _as_account(registry, NAMESPACE, "default") as as_policy,
        _opened(registry) as pruner,
    ):
        api = ImageAPI(as_policy, clients.free(4))
        with pytest.raises(RunError) as raised:
            await pruner.start_or_find(_ASKER, lambda: refusal(api, account))
        assert _jobs(registry) == []
        failure = raised.value.failure
        assert (failure.reason, failure.mendable) == ("ImagePrunerNotAllowed", True)

        # What the message says is enough.
        _, _, command = failure.message.partition("with: kubectl ")
        registry.node.plane.kubectl(*command.split())
        try:
            async with asyncio.timeout(LIMIT):
                while await refusal(api, account) is not None:  # noqa: ASYNC110 - nobody tells of rights
                    await asyncio.sleep(0.1)
            assert (await pruner.start_or_find(_ASKER, lambda: refusal(api, account))).state is JobState.RUNNING
        finally:
            registry.node.plane.kubectl("delete", "clusterrolebinding", command.split()[2])
