"""The operator under test: installed with the manifests we ship, run as a process with its own rights."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.controlplane import ControlPlane
from tests.support.processes import Process, environment_without, free_port, running, wait_until

REPOSITORY_ROOT = Path(__file__).parent.parent.parent
NAMESPACE = "registry-cleanup-system"
SERVICE_ACCOUNT = "registry-cleanup"
OWN_USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
_START_LIMIT = 60.0
# Runs start at their time, unless a test is about the spread of runs.
_SETTINGS = {"SCHEDULE_JITTER_SECONDS": "0"}


@dataclass(frozen=True)
class Operator:
    """A running operator.

    Attributes:
        process: Its process; `process.log` is what it logs, one JSON object a line.
        plane: The control plane that it watches.
        url: Of what it tells of itself.
    """

    process: Process
    plane: ControlPlane
    url: str

    def get(self, path: str) -> httpx.Response:
        """Return its answer: about its health, its readiness, or its metrics."""
        return httpx.get(f"{self.url}{path}", trust_env=False)

    def series(self, **labels: str) -> dict[str, float]:
        """Return the series of its metrics page that have these labels, by name and other labels, sorted."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if labels.items() <= sample.labels.items():
                    others = ",".join(
                        f"{key}={value}" for key, value in sorted(sample.labels.items()) if key not in labels
                    )
                    found[f"{sample.name}{{{others}}}" if others else sample.name] = sample.value
        return found

    def lives(self) -> bool:
        """Tell whether its loop runs."""
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def readiness(self) -> tuple[int, str]:
        """Return status and text of /readyz; 0 where nothing answers."""
        try:
            answer = httpx.get(f"{self.url}/readyz", trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def wait_until_it_leads(self, limit: float) -> None:
        """Wait until it holds the Lease, and may work."""

        def leads() -> bool:
            status, text = self.readiness()
            return status == httpx.codes.OK and ("leads" in text or "works alone" in text)

        wait_until(leads, limit, "an operator that leads", self.process)

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
def operator(
    plane: ControlPlane,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    namespace: str = NAMESPACE,
    identity: str = "the-operator",
    kubeconfig: Path | None = None,
    leads: bool = True,
) -> Iterator[Operator]:
    """Run the operator as its ServiceAccount.

    Args:
        plane: The control plane that it watches.
        folder: For its log.
        settings: Names without their prefix, and values.
        namespace: Where its ServiceAccount and its Lease are.
        identity: In the Lease. One that is started after another was killed is the same, like a container that is
            started anew in its pod, and does not wait; operators that run side by side have different ones.
        kubeconfig: To be used instead of one that leads straight to the API server.
        leads: Whether to wait until it leads, rather than until its loop runs.
    """
    health_port = free_port()
    environment = environment_without(
        "REGISTRY_CLEANUP_",
        "KUBE",
        KUBECONFIG=str(kubeconfig or plane.kubeconfig_for_service_account(namespace, SERVICE_ACCOUNT)),
        REGISTRY_CLEANUP_IDENTITY=identity,
        REGISTRY_CLEANUP_SERVICE_ACCOUNT=f"{namespace}:{SERVICE_ACCOUNT}",
        REGISTRY_CLEANUP_HEALTH_PORT=str(health_port),
        NO_PROXY="127.0.0.1,localhost",
        **{f"REGISTRY_CLEANUP_{name}": value for name, value in (_SETTINGS | dict(settings or {})).items()},
    )
    command = [sys.executable, "-m", "registry_cleanup", "operator"]
    folder.mkdir(parents=True, exist_ok=True)
    with running("operator", command, folder / "operator.log", environment=environment, folder=folder) as process:
        running_operator = Operator(process, plane, f"http://127.0.0.1:{health_port}")
        if leads:
            running_operator.wait_until_it_leads(_START_LIMIT)
        else:
            wait_until(running_operator.lives, _START_LIMIT, "the operator", process)
        yield running_operator
