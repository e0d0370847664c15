"""A policy's collection on OpenShift: the whole operator starts the cluster's image pruner and waits, whatever happens.

The image streams and their registry are stand-ins, the image pruner is a CronJob whose pods really run.
"""

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.domain.image_pruner import CRON_JOB
from tests.support.image_pruner import MANIFESTS, cron_job, pruner_space
from tests.support.kubelet import Kubelet
from tests.support.openshift_cluster import ACCOUNT, SERVICE_CA, TAGS_ROLE, OpenShiftCluster, openshift_cluster
from tests.support.operator import NAMESPACE, operator
from tests.support.policies import BUILDS, NAME, Namespace, Resource, days_ago, fresh_namespace, last_run
from tests.support.spaces import LIMIT, Document, Space

_COLLECT = "registrycleanup.dev/collect-requested-at"
_ROLE = "registry-cleanup-image-pruner"
_FOR_EVER = "exec sleep 1000"


@pytest.fixture(scope="module")
def openshift(node: Kubelet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    """Make the node's cluster one of OpenShift, whose operator is the process of each test and no pod."""
    with openshift_cluster(node.plane, tmp_path_factory.mktemp("openshift")) as running:
        node.plane.kubectl("scale", "deployment", "registry-cleanup", "--replicas=0", "-n", NAMESPACE)
        node.plane.wait_for_crds("registrycleanuppolicies.registrycleanup.dev")
        yield running


@pytest.fixture(scope="module")
def shared(node: Kubelet, openshift: OpenShiftCluster) -> Iterator[Space]:
    assert openshift.plane is node.plane
    with pruner_space(node) as made:
        yield made


@pytest.fixture
def pruner(shared: Space) -> Iterator[Space]:
    """Give the image pruner's namespace to one test, with the operator's Role."""
    shared.node.plane.kubectl("apply", "-k", str(MANIFESTS))
    yield shared
    shared.kubectl("delete", "cronjobs,jobs", "--all", "--cascade=foreground", f"--timeout={LIMIT:g}s")


@pytest.fixture
def project(openshift: OpenShiftCluster, pruner: Space, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Make a project with builds, and a ServiceAccount that may prune them and delete images."""
    assert pruner.name
    name = f"project-{abs(hash(request.node.name)) % 10**8}"
    with fresh_namespace(openshift.plane, name, []) as namespace:
        namespace.grant_credentials()
        namespace.create_service_account(ACCOUNT)
        namespace.create_config_map(openshift.service_ca, name=SERVICE_CA)
        for build in range(1, 6):
            openshift.images.push(name, "app", f"build-{build}", created=days_ago(45 - build))
        account = f"{name}:{ACCOUNT}"
        openshift.bind(TAGS_ROLE, account, name)
        openshift.plane.kubectl(
            "create", "clusterrolebinding", name, "--clusterrole=registry-cleanup-images", f"--serviceaccount={account}"
        )
        openshift.await_right(account, "delete", "images", "", "")
        yield namespace
        openshift.plane.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")


def _spec(namespace: Namespace, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return {
        "registry": {"type": "OpenShift", "serviceAccountName": ACCOUNT},
        "repositories": {"include": [f"{namespace.name}/*"]},
        "rules": [dict(BUILDS)],
        "gracePeriod": "0s",
        "dryRun": False,
        "garbageCollection": {"mode": "Run", "schedule": "0 0 1 1 *"},
        **changes,
    }


def _request(namespace: Namespace, value: str = "now") -> None:
    namespace.plane.kubectl("annotate", "rcp", NAME, "-n", namespace.name, f"{_COLLECT}={value}", "--overwrite")


def _collection(policy: Resource) -> Mapping[str, Any]:
    found: Mapping[str, Any] = policy.get("status", {}).get("collection", {})
    return found


def _phase(namespace: Namespace, phase: str, message: str = "") -> Mapping[str, Any]:
    """Wait until a collection is in a phase, with a message that says so."""

    def is_so(policy: Resource) -> bool:
        found = _collection(policy)
        return found.get("phase") == phase and message in found.get("message", "")

    return _collection(namespace.wait(is_so, f"a collection that is {phase} {message}", limit=LIMIT))


def _jobs(space: Space) -> list[Document]:
    found: list[Document] = json.loads(space.kubectl("get", "jobs", "--output=json"))["items"]
    return found


def _let_end(space: Space) -> None:
    """Let the image pruner that waits for a file come to its end."""
    space.wait(lambda: any(pod["status"]["phase"] == "Running" for pod in space.pods()), "its pod")
    (pod,) = space.pods()
    space.node.execute(space.name, pod["metadata"]["name"], "touch", "/end")


_UNTIL_TOLD = "while [ ! -e /end ]; do sleep 0.1; done"


def test_a_prune_is_followed_by_the_clusters_own_image_pruner(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job())
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        project.planned()
        assert last_run(project.run("now"))["counts"]["tagsPruned"] == 3

        _request(project)
        done = _phase(project, "Succeeded")

    (job,) = _jobs(pruner)
    assert job["metadata"]["annotations"]["registrycleanup.dev/policy"] == f"{project.name}/{NAME}"
    assert job["metadata"]["annotations"]["registrycleanup.dev/collection-id"] == done["id"]
    assert done["message"] == (
        f"Job openshift-image-registry/{job['metadata']['name']} of the cluster's image pruner succeeded with "
        "--keep-tag-revisions=3 --keep-younger-than=60m --ignore-invalid-refs=true --prune-registry=true; what it "
        "freed stands in its log only, which is not read"
    )
    assert done["mode"] == "Run"
    # Nobody measured them.
    assert done.keys() & {"bytesBefore", "bytesAfter", "blobsRemoved", "frozenSince", "step"} == set()
    assert {"CollectionBegan", "CollectionSucceeded"} <= {event["reason"] for event in project.events()}
    assert project.policy()["status"]["lastHandledCollectRequest"] == "now"


def test_an_operator_that_is_killed_while_the_pruner_runs_finds_it_again(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job(_UNTIL_TOLD))
    with operator(project.plane, tmp_path / "first") as first:
        project.apply(_spec(project))
        project.planned()
        _request(project)
        begun = _phase(project, "Running", "is running")
        first.process.signal(signal.SIGKILL)
        first.process.wait(LIMIT)

    with operator(project.plane, tmp_path / "second"):
        _let_end(pruner)
        done = _phase(project, "Succeeded")

    assert done["id"] == begun["id"]
    assert len(_jobs(pruner)) == 1


def test_runs_wait_while_the_pruner_is_at_work(project: Namespace, pruner: Space, tmp_path: Path) -> None:
    pruner.apply(cron_job(_UNTIL_TOLD))
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        before = project.planned()
        _request(project)
        _phase(project, "Running", "is running")

        project.request_run("meanwhile")
        _let_end(pruner)
        ended = _phase(project, "Succeeded")
        run = last_run(project.handled("meanwhile"))

    assert run["id"] != last_run(before)["id"]
    assert run["startTime"] >= ended["completionTime"]
    assert run["counts"]["tagsPruned"] == 3


def test_a_pruner_that_fails_is_told_and_the_next_collection_starts_another(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job("exit 1"))
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        project.planned()
        _request(project)
        assert "failed (BackoffLimitExceeded); see `oc logs" in _phase(project, "Failed")["message"]

        pruner.apply(cron_job())
        _request(project, "again")
        _phase(project, "Succeeded")

    assert len(_jobs(pruner)) == 2


def test_a_pruner_that_takes_too_long_is_left_to_go_on_and_is_what_the_next_collection_waits_for(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job(_UNTIL_TOLD))
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project, garbageCollection={"mode": "Run", "schedule": "0 0 1 1 *", "timeout": "3s"}))
        project.planned()
        _request(project)
        assert "it is left to go on" in _phase(project, "Failed")["message"]

        project.change({"garbageCollection": {"timeout": "1h"}})
        project.planned()
        _request(project, "again")
        _phase(project, "Running", "which was running already")
        _let_end(pruner)
        assert "which was running already" in _phase(project, "Succeeded")["message"]

    assert len(_jobs(pruner)) == 1


def test_nothing_is_started_without_the_role_and_once_it_is_there_the_collection_begins(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job())
    pruner.kubectl("delete", "rolebinding", _ROLE)
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        project.planned()
        _request(project)
        waits = _phase(project, "Waiting", "lacks in namespace openshift-image-registry")
        assert "kubectl apply -k manifests/openshift-image-pruner" in waits["message"]
        assert _jobs(pruner) == []

        project.plane.kubectl("apply", "-k", str(MANIFESTS))
        _phase(project, "Succeeded")


def test_a_policy_whose_account_may_not_delete_images_starts_nothing(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job())
    project.plane.kubectl("delete", "clusterrolebinding", project.name)
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        project.planned()
        _request(project)
        waits = _phase(project, "Waiting", "may not delete images in the cluster")
        assert f"--clusterrole=registry-cleanup-images --serviceaccount={project.name}:{ACCOUNT}" in waits["message"]
        # A person is told of it.
        project.wait(
            lambda _: "ImagePrunerNotAllowed" in {event["reason"] for event in project.events()},
            "an Event",
            limit=LIMIT,
        )

    assert _jobs(pruner) == []


def test_a_suspended_pruner_is_not_started_until_it_is_resumed(
    project: Namespace, pruner: Space, tmp_path: Path
) -> None:
    pruner.apply(cron_job(suspend=True))
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project))
        project.planned()
        _request(project)
        assert "oc patch imagepruners" in _phase(project, "Waiting", "is suspended")["message"]
        assert _jobs(pruner) == []

        pruner.kubectl("patch", "cronjob", CRON_JOB, "--patch", '{"spec": {"suspend": false}}')
        _phase(project, "Succeeded")


@pytest.mark.parametrize(
    "changes", [{"garbageCollection": {"mode": "Report", "schedule": "0 0 1 1 *"}}, {"dryRun": True}]
)
def test_a_report_says_how_the_pruner_is_set_up_and_starts_nothing(
    project: Namespace, pruner: Space, tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    pruner.apply(cron_job())
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project, **changes))
        project.planned()
        _request(project)
        done = _phase(project, "Succeeded")

    assert done["mode"] == "Report"
    assert "runs by its schedule '0 0 1 1 *'" in done["message"]
    assert "--keep-younger-than=60m" in done["message"]
    assert _jobs(pruner) == []


def test_the_pruner_is_not_started_while_a_run_can_be_undone(project: Namespace, pruner: Space, tmp_path: Path) -> None:
    pruner.apply(cron_job())
    with operator(project.plane, tmp_path / "operator"):
        project.apply(_spec(project, undo={"window": "1h"}))
        project.planned()
        assert last_run(project.run("now"))["counts"]["tagsPruned"] == 3
        _request(project)
        assert "nextTime" in _phase(project, "Waiting", "can be undone until")
        assert _jobs(pruner) == []

        # As if an hour had passed.
        project.change({"undo": {"window": "1s"}, "timeout": "20s"})
        project.planned()
        _phase(project, "Succeeded")


def test_a_policy_that_is_deleted_leaves_the_pruner_alone(project: Namespace, pruner: Space, tmp_path: Path) -> None:
    pruner.apply(cron_job(_FOR_EVER))
    with operator(project.plane, tmp_path / "operator") as running:
        project.apply(_spec(project))
        project.planned()
        _request(project)
        _phase(project, "Running", "is running")
        project.delete()
        ended = {"name": "registry_cleanup.collection_task", "level": "WARNING"}
        pruner.wait(lambda: bool(running.log_lines(**ended)), "the end of its task")

    (job,) = _jobs(pruner)
    assert job["status"].get("active") == 1
