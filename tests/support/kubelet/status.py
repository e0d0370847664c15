"""A pod's status, put together from what is known of its containers as the kubelet does. Nothing here waits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.kubelet.api import Document

HOST_ADDRESS = "127.0.0.1"


@dataclass
class Record:
    """What is known of one container.

    Attributes:
        name: In the pod's spec.
        image: As the spec names it.
        image_id: As the runtime names it, empty until it is known.
        state: Waiting, running or terminated.
        last_state: How it ended the last time.
        restarts: How often it was started again.
        started: Its startup probe said yes, or it has none and runs.
        ready: Likewise, and its readiness probe too.
        final: It ended and will not be started again.
        container_id: As the runtime names it.
    """

    name: str
    image: str
    image_id: str = ""
    state: Document = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Document = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    final: bool = False
    container_id: str = ""

    @property
    def exit_code(self) -> int | None:
        """Return how it ended, None where it has not."""
        code: int | None = self.state.get("terminated", {}).get("exitCode")
        return code

    @property
    def has_run(self) -> bool:
        return self.restarts > 0 or "running" in self.state or "terminated" in self.state

    def wait(self, reason: str, message: str = "") -> None:
        """Let it wait for its start."""
        self.state = {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
        self.started = self.ready = False

    def run(self, container_id: str) -> None:
        """Let it run."""
        self.state = {"running": {"startedAt": now()}}
        self.container_id = container_id

    def end(self, code: int, reason: str, message: str) -> None:
        """Let it have ended."""
        began = self.state.get("running", {}).get("startedAt") or now()
        ended = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}
        self.state = {
            "terminated": {**ended, "containerID": self.container_id, **({"message": message} if message else {})}
        }
        self.started = self.ready = False

    def document(self) -> Document:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "containerID": self.container_id,
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": self.started,
        }


@dataclass
class Verdict:
    """What ended a pod besides its containers, or may."""

    reason: str
    message: str
    condition: Document | None = None


def phase(initial: Sequence[Record], main: Sequence[Record], verdict: Verdict | None) -> str:
    """Return the phase that these containers make."""
    if verdict is not None or any(record.final and record.exit_code != 0 for record in initial):
        return "Failed"
    if all(record.final for record in main):
        return "Succeeded" if all(record.exit_code == 0 for record in main) else "Failed"
    return "Running" if any(record.has_run for record in main) else "Pending"


def pod_status(
    initial: Sequence[Record], main: Sequence[Record], verdict: Verdict | None, address: str | None, before: Document
) -> Document:
    """Return the status to report.

    Args:
        initial: The init containers.
        main: The other containers.
        verdict: What ended the pod besides its containers.
        address: The pod's, None until it has one.
        before: The status that was reported last.
    """
    now_in = phase(initial, main, verdict)
    initialized = all(record.final and record.exit_code == 0 for record in initial)
    ready = now_in == "Running" and all(record.ready for record in main)
    over = now_in in {"Succeeded", "Failed"}
    unready = {"reason": "PodCompleted" if now_in == "Succeeded" else "PodFailed" if over else "ContainersNotReady"}
    found = [
        _condition("PodReadyToStartContainers", holds=address is not None and not over),
        _condition("Initialized", holds=initialized),
        _condition("Ready", holds=ready, **({} if ready else unready)),
        _condition("ContainersReady", holds=ready, **({} if ready else unready)),
        _condition("PodScheduled", holds=True),
    ]
    if verdict is not None and verdict.condition is not None:
        found.append(verdict.condition)
    status: Document = {
        "phase": now_in,
        "conditions": [_since(condition, before) for condition in found],
        "hostIP": HOST_ADDRESS,
        "hostIPs": [{"ip": HOST_ADDRESS}],
        "startTime": before.get("startTime") or now(),
        "containerStatuses": [record.document() for record in main],
        "qosClass": before.get("qosClass", "BestEffort"),
    }
    if initial:
        status["initContainerStatuses"] = [record.document() for record in initial]
    if address is not None:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    if verdict is not None:
        status |= {"reason": verdict.reason, "message": verdict.message}
    return status


def _condition(type_: str, *, holds: bool, **more: Any) -> Document:  # noqa: ANN401 - reason and message
    return {"type": type_, "status": "True" if holds else "False", "reason": None, "message": None, **more}


def _since(condition: Document, before: Document) -> Document:
    """Return the condition with the time since which it has its status."""
    for known in before.get("conditions", []):
        if (known["type"], known["status"]) == (condition["type"], condition["status"]):
            return {**condition, "lastTransitionTime": known["lastTransitionTime"]}
    return {**condition, "lastTransitionTime": now()}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
