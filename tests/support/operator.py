"""The operator under test: installed with the manifests we ship, run as a process with its own rights."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane
from tests.support.processes import Process, environment_without, free_port, running, wait_until

REPOSITORY_ROOT = Path(__file__).parent.parent.parent
NAMESPACE = "registry-cleanup-system"
SERVICE_ACCOUNT = "registry-cleanup"
OWN_USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
_START_LIMIT = 60.0


@dataclass(frozen=True)
class Operator:
    """A running operator.

    Attributes:
        process: Its process; `process.log` is what it logs, one JSON object a line.
        plane: The control plane that it watches.
    """

    process: Process
    plane: ControlPlane

    def log_lines(self, **fields: object) -> list[dict[str, Any]]:
        """Return the log lines so far that have these fields, in their order."""
        lines = []
        for text in self.process.log.read_text(errors="replace").splitlines():
            if text.startswith("{"):
                line: dict[str, Any] = json.loads(text)
                if all(line.get(key) == value for key, value in fields.items()):
                    lines.append(line)
        return lines


def install(plane: ControlPlane) -> None:
    """Install CRD, RBAC and all else that `manifests/base` ships, as an administrator would."""
    plane.kubectl("apply", "-k", str(REPOSITORY_ROOT / "manifests" / "base"))
    plane.wait_for_crds("registrycleanuppolicies.registrycleanup.dev")


@contextmanager
def operator(plane: ControlPlane, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Operator]:
    """Run the operator as its ServiceAccount; `settings` are names without their prefix and values."""
    health_port = free_port()
    environment = environment_without(
        "REGISTRY_CLEANUP_",
        "KUBE",
        KUBECONFIG=str(plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT)),
        REGISTRY_CLEANUP_HEALTH_PORT=str(health_port),
        NO_PROXY="127.0.0.1,localhost",
        **{f"REGISTRY_CLEANUP_{name}": value for name, value in (settings or {}).items()},
    )
    command = [sys.executable, "-m", "registry_cleanup", "operator"]
    folder.mkdir(parents=True, exist_ok=True)
    with running("operator", command, folder / "operator.log", environment=environment, folder=folder) as process:
        wait_until(lambda: _healthy(health_port), _START_LIMIT, "the operator", process)
        yield Operator(process, plane)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False
