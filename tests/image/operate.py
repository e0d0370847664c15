"""The operator as the image has it, against a real control plane and a real registry."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.image.container import Container
from tests.support.controlplane import control_plane
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator, install
from tests.support.policies import NAME, fresh_namespace, is_planned, policy_spec, push_builds
from tests.support.processes import Process, free_port, running, wait_until
from tests.support.registries import distribution

_START_LIMIT = 60.0
_STOP_LIMIT = 30.0


@dataclass(frozen=True)
class Operated:
    """What was seen.

    Attributes:
        start_seconds: Until it said that it is healthy.
        planned: Tags that its plan would prune.
        memory: Its resident memory after the plan, in MiB.
        exit_code: After SIGTERM.
    """

    start_seconds: float
    planned: int
    memory: int
    exit_code: int


def operate(container: Container, user: str, folder: Path) -> Operated:
    """Run the operator as a pod does, with the rights of its ServiceAccount.

    Raises:
        ProcessDiedError, WaitTimeoutError: It ended, or did not do what it should in time.
    """
    with control_plane(folder / "plane") as plane, distribution("3", folder / "registry") as registry:
        install(plane)
        # Not by the files of a pod's ServiceAccount: with those, kopf asks for kubernetes.default.svc on port 443.
        account = plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)
        port = free_port()
        environment = container.environment(
            KUBECONFIG=container.mount_kubeconfig(_self_contained(account)),
            REGISTRY_CLEANUP_HEALTH_PORT=str(port),
        )
        began = time.monotonic()
        command = container.command([], user)
        with running("the image", command, folder / "operator.log", environment=environment) as process:
            wait_until(lambda: _healthy(port), _START_LIMIT, "/healthz", process)
            started = time.monotonic() - began
            operator = Operator(process, plane, f"http://127.0.0.1:{port}")
            planned = push_builds(registry.url)
            with fresh_namespace(plane, "team", [operator]) as namespace:
                namespace.apply(policy_spec(registry.url, dryRun=True))
                policy = namespace.wait(is_planned, "the plan", NAME, process, limit=_START_LIMIT)
                deletions = policy["status"]["plan"]["deletions"]
                if deletions != len(planned):
                    raise AssertionError(f"{deletions} tags were planned, not {len(planned)}: {policy['status']}")
            memory = _memory(process)
            return Operated(started, deletions, memory, process.stop(_STOP_LIMIT))


def _self_contained(kubeconfig: Path) -> str:
    """Return the kubeconfig with the authority in it: inside, the file that it names is not there."""
    config = json.loads(kubeconfig.read_text())
    for each in config["clusters"]:
        authority = Path(each["cluster"].pop("certificate-authority"))
        each["cluster"]["certificate-authority-data"] = base64.b64encode(authority.read_bytes()).decode()
    return json.dumps(config)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _memory(process: Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    fields: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
    return int(fields["VmRSS"].split()[0]) // 1024
