"""What we rely on in the test kubelet: workloads of a real registry, and Jobs on its volume, behave as on a cluster."""

import json
import os
from pathlib import Path

import httpx
import pytest

from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.kubelet import python_image
from tests.support.operator import REPOSITORY_ROOT
from tests.support.registries import Version
from tests.support.spaces import (
    CLAIM,
    REGISTRY,
    Space,
    claim,
    collecting_pod,
    job,
    registry_service,
    registry_workload,
    shell_pod,
)

_READ_ONLY = 'REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}'


@pytest.fixture(params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def version(request: pytest.FixtureRequest) -> Version:
    found: Version = request.param
    return found


@pytest.fixture
def storage(place: Space) -> Path:
    """Make the volume of the registry's claim."""
    return place.node.volume(f"{place.name}-storage", claim=(place.name, CLAIM))


@pytest.fixture
def host(place: Space, version: Version, storage: Path) -> str:
    """Roll out a Deployment of the registry, and return where it answers."""
    assert storage.exists()
    place.apply(claim(), registry_service(), registry_workload(version))
    place.wait_for_rollout(f"deployment/{REGISTRY}")
    return place.registry_host()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_registry_keeps_its_data_while_it_is_scaled_to_zero(place: Space, host: str, crane: Crane) -> None:
    digest = push_image(f"http://{host}", "team/app", ["v1"])
    assert crane.digest(f"{host}/team/app:v1") == digest

    place.scale(f"deployment/{REGISTRY}", 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{host}/v2/", trust_env=False)

    place.scale(f"deployment/{REGISTRY}", 1)
    assert place.registry_host() == host
    assert crane.digest(f"{host}/team/app:v1") == digest


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
def test_a_changed_variable_is_rolled_out(place: Space, host: str, crane: Crane, strategy: str) -> None:
    digest = push_image(f"http://{host}", "team/app", ["v1"])
    before = place.pods()

    clear = {"type": strategy, "rollingUpdate": None}
    place.kubectl("patch", "deployment", REGISTRY, "--patch", f'{{"spec": {{"strategy": {json.dumps(clear)}}}}}')
    place.kubectl("set", "env", f"deployment/{REGISTRY}", _READ_ONLY)
    place.wait_for_rollout(f"deployment/{REGISTRY}")

    place.wait(lambda: len(place.pods()) == 1, "the end of the former pod")
    assert place.pods()[0]["metadata"]["uid"] != before[0]["metadata"]["uid"]
    assert place.registry_host() == host
    assert httpx.post(f"http://{host}/v2/team/app/blobs/uploads/", trust_env=False).status_code == 405
    assert crane.digest(f"{host}/team/app:v1") == digest


def test_a_job_collects_the_garbage_of_a_registry_that_is_offline(
    place: Space, host: str, version: Version, storage: Path, crane: Crane
) -> None:
    kept = push_image(f"http://{host}", "team/app", ["kept"])
    gone = push_image(f"http://{host}", "team/app", ["gone"], seed="gone")
    assert httpx.delete(f"http://{host}/v2/team/app/manifests/{gone}", trust_env=False).status_code == 202
    before = _size(storage)

    place.scale(f"deployment/{REGISTRY}", 0)
    place.apply(job("collect", collecting_pod(version)))
    assert place.job_ends("collect")[0] == "Complete"
    assert "eligible for deletion" in place.kubectl("logs", "job/collect")
    place.scale(f"deployment/{REGISTRY}", 1)
    assert place.registry_host() == host

    assert _size(storage) < before
    assert crane.digest(f"{host}/team/app:kept") == kept
    layers = crane.manifest(f"{host}/team/app:kept")["layers"]
    assert [crane.run("blob", f"{host}/team/app@{layer['digest']}") for layer in layers] == ["layer of "]


def test_a_job_collects_the_garbage_of_a_registry_that_is_read_only(
    place: Space, host: str, version: Version, storage: Path, crane: Crane
) -> None:
    kept = push_image(f"http://{host}", "team/app", ["kept"])
    gone = push_image(f"http://{host}", "team/app", ["gone"], seed="gone")
    assert httpx.delete(f"http://{host}/v2/team/app/manifests/{gone}", trust_env=False).status_code == 202
    place.kubectl("set", "env", f"deployment/{REGISTRY}", _READ_ONLY)
    place.wait_for_rollout(f"deployment/{REGISTRY}")
    before = _size(storage)

    # Beside the registry that runs, on the volume of both.
    place.apply(job("collect", collecting_pod(version)))

    assert place.job_ends("collect")[0] == "Complete"
    assert _size(storage) < before
    assert crane.digest(f"{place.registry_host()}/team/app:kept") == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a volume that gets full")
@pytest.mark.parametrize("version", ["3"], indirect=True)
def test_a_volume_gets_full(place: Space, version: Version) -> None:
    folder = place.node.volume(f"{place.name}-small", claim=(place.name, CLAIM), full_at="64k")
    place.apply(claim(), registry_service(), registry_workload(version))
    place.wait_for_rollout(f"deployment/{REGISTRY}")

    with pytest.raises(httpx.HTTPStatusError, match="500"):
        push_image(f"http://{place.registry_host()}", "team/app", ["v1"], labels={"long": "x" * 100_000})

    assert (folder / "docker").is_dir()


def test_a_job_runs_the_operators_own_program(place: Space) -> None:
    place.node.images["operator:1"] = python_image(
        REPOSITORY_ROOT, entrypoint=["python", "-m", "registry_cleanup"], PYTHONPATH=str(REPOSITORY_ROOT / "operator")
    )
    container = {"name": "main", "image": "operator:1", "args": ["--version"]}
    place.apply(job("version", {"containers": [container]}))

    assert place.job_ends("version")[0] == "Complete", place.kubectl("logs", "job/version")
    assert "registry-cleanup" in place.kubectl("logs", "job/version")


def test_a_stateful_set_has_a_volume_of_its_own(place: Space, version: Version, crane: Crane) -> None:
    folder = place.node.volume(f"{place.name}-own", claim=(place.name, f"{CLAIM}-{REGISTRY}-0"), local=True)
    place.apply(registry_service(), registry_workload(version, "StatefulSet", own_claims=True))
    place.wait_for_rollout(f"statefulset/{REGISTRY}")
    digest = push_image(f"http://{place.registry_host()}", "team/app", ["v1"])
    assert (folder / "docker/registry/v2/repositories/team/app").is_dir()

    place.scale(f"statefulset/{REGISTRY}", 0)
    place.scale(f"statefulset/{REGISTRY}", 1)

    assert crane.digest(f"{place.registry_host()}/team/app:v1") == digest


def test_a_stateful_set_uses_a_given_claim(place: Space, version: Version, storage: Path) -> None:
    place.apply(claim(), registry_service(), registry_workload(version, "StatefulSet"))
    place.wait_for_rollout(f"statefulset/{REGISTRY}")

    push_image(f"http://{place.registry_host()}", "team/app", ["v1"])

    assert (storage / "docker/registry/v2/repositories/team/app").is_dir()


def test_an_evicted_registry_is_replaced(place: Space, host: str, crane: Crane) -> None:
    digest = push_image(f"http://{host}", "team/app", ["v1"])
    (pod,) = place.pods()
    name = pod["metadata"]["name"]

    place.node.evict(place.name, name)

    place.wait(lambda: place.pod(name)["status"]["phase"] == "Failed", "the evicted pod's end")
    assert place.pod(name)["status"]["reason"] == "Evicted"
    place.wait_for_rollout(f"deployment/{REGISTRY}")
    assert crane.digest(f"{place.registry_host()}/team/app:v1") == digest


def test_a_job_whose_program_fails_has_failed(place: Space, version: Version) -> None:
    missing = collecting_pod(version, "/nowhere.yml")
    missing["volumes"] = [{"name": CLAIM, "emptyDir": {}}]
    place.apply(job("collect", missing))

    assert place.job_ends("collect") == ("Failed", "BackoffLimitExceeded")

    (pod,) = place.pods()
    (status,) = pod["status"]["containerStatuses"]
    assert (pod["status"]["phase"], status["state"]["terminated"]["exitCode"]) == ("Failed", 1)
    assert "/nowhere.yml" in place.kubectl("logs", pod["metadata"]["name"])


def test_a_job_over_its_time_has_failed(place: Space) -> None:
    place.apply(job("long", shell_pod("exec sleep 1000"), activeDeadlineSeconds=2))

    assert place.job_ends("long") == ("Failed", "DeadlineExceeded")
    place.wait(lambda: not place.pods(), "the end of its pod")


def test_a_job_whose_pod_is_evicted_tries_again_as_often_as_it_may(place: Space) -> None:
    place.apply(job("long", shell_pod("exec sleep 1000")))
    place.wait(lambda: bool(_running(place)), "its pod")

    place.node.evict(place.name, _running(place)[0])

    assert place.job_ends("long") == ("Failed", "BackoffLimitExceeded")


def test_a_job_by_hand_from_a_cron_job_runs(place: Space) -> None:
    place.apply(_cron_job("0 0 1 1 *"))

    place.kubectl("create", "job", "now", "--from=cronjob/pruner")

    assert place.job_ends("now")[0] == "Complete"


@pytest.mark.thorough
def test_a_cron_job_starts_its_job(place: Space) -> None:
    place.apply(_cron_job("* * * * *"))

    place.wait(lambda: bool(place.get("cronjob", "pruner")["status"].get("lastSuccessfulTime")), "its first job", 120)


def _cron_job(schedule: str) -> dict[str, object]:
    template = job("unused", shell_pod("true"))["spec"]
    spec = {"schedule": schedule, "jobTemplate": {"spec": template}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "pruner"}, "spec": spec}


def _running(place: Space) -> list[str]:
    return [pod["metadata"]["name"] for pod in place.pods() if pod["status"]["phase"] == "Running"]
