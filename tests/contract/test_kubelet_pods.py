"""What we rely on in the test kubelet about a single pod: what it is given, how it is told of, and how it ends."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.controlplane import control_plane
from tests.support.kubelet import kubelet, shell_image
from tests.support.kubelet.api import api_of, path_of
from tests.support.processes import wait_until
from tests.support.spaces import SHELL, Space, claim, pod, shell_pod, waiting_reasons

_SLEEP = "exec sleep 1000"
_POLITE = "trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done"
# In the container, whose /tmp is its own.
_READY, _END = "/tmp/ready", "/tmp/end"  # noqa: S108 - nobody shares it


def _status(place: Space, name: str = "one") -> dict[str, Any]:
    found: dict[str, Any] = place.pod(name).get("status", {})
    return found


def _container(place: Space, name: str = "one") -> dict[str, Any]:
    statuses = _status(place, name).get("containerStatuses") or [{}]
    found: dict[str, Any] = statuses[0]
    return found


def _wait_for_phase(place: Space, phase: str, name: str = "one") -> None:
    place.wait(lambda: _status(place, name).get("phase") == phase, f"{name} to be {phase}")


def _ready(place: Space, name: str = "one") -> bool:
    conditions = {one["type"]: one["status"] for one in _status(place, name).get("conditions", [])}
    return conditions.get("Ready") == conditions.get("ContainersReady") == "True"


def test_a_container_sees_its_volumes_and_variables_and_nothing_else_of_the_machine(
    place: Space, tmp_path: Path
) -> None:
    (tmp_path / "host").mkdir()
    folder = place.node.volume(f"{place.name}-data", claim=(place.name, "data"))
    place.kubectl("create", "configmap", "settings", "--from-literal=color=red", "--from-literal=size=xl")
    place.kubectl("create", "secret", "generic", "login", "--from-literal=password=hidden")
    script = """
        set -e
        echo "$COLOR $PASSWORD $NAME $NODE $IP $SIZES_size $COMBINED" > /data/seen
        cat /etc/settings/colour /etc/login/password >> /data/seen
        echo there > /host/file
        echo scratch > /scratch/file
        if echo no > /etc/settings/colour; then exit 3; fi
        test ! -e "$HIDDEN"
        hostname >> /data/seen
    """
    container: dict[str, Any] = {
        "name": "main",
        "image": SHELL,
        "command": ["sh", "-c", script],
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "SIZES_"}],
        "env": [
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "COMBINED", "value": "$(NAME)/$$(NAME)/$(MISSING)"},
            {"name": "HIDDEN", "value": str(tmp_path)},
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "subPath": "part"},
            {"name": "settings", "mountPath": "/etc/settings", "readOnly": True},
            {"name": "login", "mountPath": "/etc/login"},
            {"name": "host", "mountPath": "/host"},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "color", "path": "colour"}]}},
        {"name": "login", "secret": {"secretName": "login"}},
        {"name": "host", "hostPath": {"path": str(tmp_path / "host")}},
        {"name": "scratch", "emptyDir": {}},
    ]
    spec = {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    place.apply(claim("data"), pod("one", spec))

    place.wait(lambda: _status(place).get("phase") in {"Succeeded", "Failed"}, "the pod's end")

    assert _status(place)["phase"] == "Succeeded", place.kubectl("logs", "one")
    address = _status(place)["podIP"]
    seen = (folder / "part" / "seen").read_text()
    assert seen == f"red hidden one node {address} xl one/$(NAME)/$(MISSING)\nredhiddenone\n"
    assert (tmp_path / "host" / "file").read_text() == "there\n"


def test_a_pods_token_is_its_service_accounts(place: Space) -> None:
    place.kubectl("create", "serviceaccount", "reader")
    script = """
        cd /var/run/secrets/kubernetes.io/serviceaccount
        python3 - <<END
import json, os, ssl, urllib.request
api = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
headers = {"Authorization": "Bearer " + open("token").read(), "Content-Type": "application/json"}
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
url = f"{api}/apis/authentication.k8s.io/v1/selfsubjectreviews"
request = urllib.request.Request(url, json.dumps(review).encode(), headers)
trust = ssl.create_default_context(cafile="ca.crt")
answer = urllib.request.urlopen(request, context=trust)
print(json.load(answer)["status"]["userInfo"]["username"], open("namespace").read())
END
    """
    spec = {**shell_pod(script), "serviceAccountName": "reader", "restartPolicy": "Never"}
    place.apply(pod("one", spec))

    place.wait(lambda: _status(place).get("phase") in {"Succeeded", "Failed"}, "the pod's end")

    assert place.kubectl("logs", "one") == f"system:serviceaccount:{place.name}:reader {place.name}\n"


def test_init_containers_run_first_and_one_after_the_other(place: Space) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    first, second, main = (
        shell_pod(f"echo {word} >> /shared/words; cat /shared/words", volumeMounts=mounts)["containers"][0]
        for word in ("one", "two", "three")
    )
    initial = [{**first, "name": "first"}, {**second, "name": "second"}]
    volumes = [{"name": "shared", "emptyDir": {}}]
    spec = {"initContainers": initial, "containers": [main], "volumes": volumes, "restartPolicy": "Never"}
    place.apply(pod("one", spec))

    _wait_for_phase(place, "Succeeded")

    assert place.kubectl("logs", "one").split() == ["one", "two", "three"]
    assert [one["state"]["terminated"]["exitCode"] for one in _status(place)["initContainerStatuses"]] == [0, 0]


def test_a_failing_init_container_fails_the_pod(place: Space) -> None:
    initial = {**shell_pod("exit 4")["containers"][0], "name": "first"}
    place.apply(pod("one", {**shell_pod("true"), "initContainers": [initial], "restartPolicy": "Never"}))

    _wait_for_phase(place, "Failed")

    assert _container(place)["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_container_that_fails_is_started_again_with_a_back_off(place: Space) -> None:
    place.apply(pod("one", shell_pod("echo a word; echo last words > /dev/termination-log; exit 5")))

    place.wait(lambda: _container(place).get("restartCount", 0) >= 2, "two restarts")

    place.wait(lambda: waiting_reasons(place.pod("one")) == ["CrashLoopBackOff"], "the back-off")
    ended = _container(place)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (5, "Error", "last words\n")
    assert place.node.logs(place.name, "one") == "a word\n"


def test_a_pod_waits_for_a_configuration_that_is_missing(place: Space) -> None:
    reference = {"configMapKeyRef": {"name": "later", "key": "word"}}
    spec = shell_pod("echo $WORD", env=[{"name": "WORD", "valueFrom": reference}])
    place.apply(pod("one", {**spec, "restartPolicy": "Never"}))
    place.wait(lambda: waiting_reasons(place.pod("one")) == ["CreateContainerConfigError"], "the missing ConfigMap")

    place.kubectl("create", "configmap", "later", "--from-literal=word=now")

    _wait_for_phase(place, "Succeeded")
    assert place.kubectl("logs", "one") == "now\n"


def test_a_pod_with_an_unknown_image_never_starts(place: Space) -> None:
    spec = shell_pod("true")
    spec["containers"][0]["image"] = "registry:none"
    place.apply(pod("one", spec))

    place.wait(lambda: waiting_reasons(place.pod("one")) == ["ImagePullBackOff"], "the back-off")

    assert (_status(place)["phase"], _ready(place)) == ("Pending", False)


def test_a_pod_whose_claim_is_not_bound_is_not_placed(place: Space) -> None:
    spec = {**shell_pod(_SLEEP), "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    place.apply(pod("one", spec))
    place.wait(lambda: bool(_status(place).get("conditions")), "a condition")
    (condition,) = _status(place)["conditions"]
    assert (condition["reason"], "not found" in condition["message"]) == ("Unschedulable", True)

    place.node.volume(f"{place.name}-data", claim=(place.name, "data"))
    place.apply(claim("data"))

    place.wait(lambda: _ready(place), "the pod")


def test_a_volume_for_one_pod_is_used_by_one_pod_at_a_time(place: Space) -> None:
    place.node.volume(f"{place.name}-data", claim=(place.name, "data"), modes=["ReadWriteOncePod"])
    spec = {**shell_pod(_SLEEP), "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    place.apply(claim("data", "ReadWriteOncePod"), pod("one", spec))
    place.wait(lambda: _ready(place), "the first pod")

    place.apply(pod("two", spec))
    place.wait(lambda: bool(_status(place, "two").get("conditions")), "a condition")
    assert "ReadWriteOncePod" in _status(place, "two")["conditions"][0]["message"]
    place.kubectl("delete", "pod", "one")

    place.wait(lambda: _ready(place, "two"), "the second pod")


def test_a_pod_is_ready_while_its_probe_says_so(place: Space) -> None:
    probe = {"exec": {"command": ["test", "-e", _READY]}, "periodSeconds": 1, "failureThreshold": 1}
    place.apply(pod("one", shell_pod(_SLEEP, readinessProbe=probe)))
    _wait_for_phase(place, "Running")
    assert not _ready(place)

    assert place.node.execute(place.name, "one", "touch", _READY) == (0, "")
    place.wait(lambda: _ready(place), "the pod to be ready")

    place.node.execute(place.name, "one", "rm", _READY)
    place.wait(lambda: not _ready(place), "the pod to be ready no more")


def test_a_container_that_does_not_live_is_started_again(place: Space) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    place.apply(pod("one", shell_pod(_SLEEP, livenessProbe=probe)))

    place.wait(lambda: _container(place).get("restartCount", 0) >= 1, "a restart")


def test_a_killed_container_is_started_again(place: Space) -> None:
    place.apply(pod("one", shell_pod(_SLEEP)))
    place.wait(lambda: _ready(place), "the pod")

    place.node.kill(place.name, "one")

    place.wait(lambda: _ready(place) and _container(place)["restartCount"] == 1, "the restart")
    ended = _container(place)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_deleted_pod_has_its_grace_and_no_more(place: Space) -> None:
    deaf = shell_pod("trap '' TERM; while true; do sleep 0.1; done")
    place.apply(pod("polite", {**shell_pod(_POLITE), "terminationGracePeriodSeconds": 600}), pod("deaf", deaf))
    place.wait(lambda: _ready(place, "polite") and _ready(place, "deaf"), "the pods")

    place.kubectl("delete", "pod", "polite", "deaf", "--timeout=60s")

    logs = place.node.folder / "logs" / place.name
    assert [file.read_text() for file in logs.glob("polite-*/main-0.log")] == ["bye\n"]


def test_a_pod_over_its_own_time_has_failed(place: Space) -> None:
    # Failed even where its container ends as if all were well.
    place.apply(pod("one", {**shell_pod(_POLITE), "activeDeadlineSeconds": 1, "restartPolicy": "Never"}))

    _wait_for_phase(place, "Failed")

    assert _status(place)["reason"] == "DeadlineExceeded"


def test_starts_fail_and_wait_as_a_test_wants(place: Space) -> None:
    place.node.faults.fail_next_start("fails")
    with place.node.faults.held("held"):
        place.apply(
            pod("fails", {**shell_pod("true"), "restartPolicy": "Never"}),
            pod("held", {**shell_pod("true"), "restartPolicy": "Never"}),
            pod("other", {**shell_pod("true"), "restartPolicy": "Never"}),
        )
        _wait_for_phase(place, "Failed", "fails")
        _wait_for_phase(place, "Succeeded", "other")
        assert _container(place, "fails")["state"]["terminated"]["reason"] == "StartError"
        assert waiting_reasons(place.pod("held")) == ["ContainerCreating"]

    _wait_for_phase(place, "Succeeded", "held")


def test_a_service_leads_to_its_ready_pods_from_here_and_from_pods(place: Space) -> None:
    server = shell_pod("cd /tmp && echo hello > word && exec python3 -m http.server 5000")
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 5000}]}
    place.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}, "spec": spec})
    address = place.node.address(place.name, "server", 80)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/word", trust_env=False)

    server["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/word", "port": 5000}, "periodSeconds": 1}
    # Two pods may listen on one port.
    place.apply(pod("one", server, {"app": "server"}), pod("two", server, {"app": "server"}))

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/word", trust_env=False).text == "hello\n"
        except httpx.ConnectError:
            return False

    place.wait(answers, "the Service")
    client = f"python3 -c 'import urllib.request as r; print(r.urlopen(\"http://{address}/word\").read())'"
    place.apply(pod("client", {**shell_pod(client), "restartPolicy": "Never"}))
    _wait_for_phase(place, "Succeeded", "client")
    assert place.kubectl("logs", "client") == "b'hello\\n'\n"
    single = place.node.pod_address(place.name, "one", 5000)
    assert httpx.get(f"http://{single}/word", trust_env=False).text == "hello\n"


async def test_what_is_told_of_an_object_whose_name_is_anothers_by_now_changes_nothing(place: Space) -> None:
    place.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "again"}, "data": {"as": "it is"}})
    path = path_of("configmaps", place.name, "again")
    async with api_of(place.node.plane) as api:
        await api.patch(path, {"metadata": {"uid": "of-one-that-is-gone"}, "data": {"as": "it was"}})
        found = await api.get(path)
    assert found is not None
    assert found["data"] == {"as": "it is"}


def test_pods_outlive_the_api_server_and_what_happened_meanwhile_is_told(place: Space) -> None:
    place.apply(pod("one", {**shell_pod("while test ! -e /tmp/end; do sleep 0.1; done"), "restartPolicy": "Never"}))
    place.wait(lambda: _ready(place), "the pod")

    with place.node.plane.api_server_down():
        assert place.node.execute(place.name, "one", "touch", _END)[0] == 0

    _wait_for_phase(place, "Succeeded")


def test_nothing_is_left_of_a_kubelet(tmp_path: Path) -> None:
    with control_plane(tmp_path / "plane") as plane:
        with kubelet(plane, tmp_path / "kubelet", {SHELL: shell_image()}) as own:
            # Without a controller manager there is no service account, and none is asked for.
            document = pod("one", shell_pod("trap '' TERM; sleep 123456"))
            plane.kubectl("create", "-f", "-", stdin=json.dumps(document))
            log = tmp_path / "kubelet/logs"
            wait_until(lambda: bool(_sleeping()) and log.exists(), 30, "the pod's process")
            assert own.execute("default", "one", "true") == (0, "")
        assert not _sleeping()


def _sleeping() -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"sleep\x00123456"):
                found.append(int(process.name))
    return found
