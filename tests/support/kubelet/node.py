"""The kubelet as tests see it: started beside a control plane, asked and disturbed, and ended with all its pods."""

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from tests.support.controlplane import ControlPlane
from tests.support.kubelet.agent import Agent
from tests.support.kubelet.doors import Door
from tests.support.kubelet.faults import Faults
from tests.support.kubelet.images import Image
from tests.support.kubelet.keeper import Keeper
from tests.support.kubelet.log_server import find
from tests.support.kubelet.pods import PodLife
from tests.support.kubelet.status import Verdict
from tests.support.processes import wait_until

_T = TypeVar("_T")
_LIMIT = 30.0
_BACK_OFF = 1.0
_MODES = ("ReadWriteOnce", "ReadWriteMany")
_EVICTED = "The node was low on resource: ephemeral-storage."


class KubeletError(Exception):
    """The kubelet itself failed, or was asked about a pod that it does not run."""


@dataclass(frozen=True)
class Kubelet:
    """A running kubelet.

    Attributes:
        plane: Whose node it is.
        folder: What pods write, and their logs.
        images: What stands for each image, by the name that pods use; tests may add to it.
    """

    plane: ControlPlane
    folder: Path
    images: dict[str, Image]
    _agent: Agent = field(repr=False)
    _thread: "_AgentThread" = field(repr=False)
    _mounted: list[Path] = field(default_factory=list, repr=False)

    def check(self) -> None:
        """Do nothing as long as it runs.

        Raises:
            KubeletError: It has failed.
        """
        self._thread.check()

    # Addresses

    def address(self, namespace: str, service: str, port: int | None = None) -> str:
        """Return host and port by which a Service is reached, from here and from pods, as long as there is the Service.

        It refuses connections while no pod is ready behind it. Without `port` the Service has just one.
        """

        def doors() -> list[str]:
            return [
                door.address
                for (of, name, number), door in list(self._agent.services.doors.items())
                if (of, name) == (namespace, service) and port in {None, number}
            ]

        wait_until(lambda: bool(doors()), _LIMIT, f"the service {namespace}/{service}")
        (found,) = doors()
        return found

    def pod_address(self, namespace: str, pod: str, port: int) -> str:
        """Return host and port by which a port of a pod is reached from here, as long as the kubelet runs."""
        life = self._life(namespace, pod)

        async def door() -> Door:
            made = Door(partial(self._agent.connect, life.uid, port), self._agent.passing)
            made.set_open(to_be=True)
            self._agent.other_doors.append(made)
            return made

        return self._call(door()).address

    # What a pod does

    def logs(self, namespace: str, pod: str, container: str | None = None, *, previous: bool = False) -> str:
        """Return what a container of a pod on the node printed; `kubectl logs` tells the same."""
        keeper = self._keeper(namespace, pod, container)
        return keeper.log(keeper.record.restarts - previous).read_text(errors="replace")

    def execute(self, namespace: str, pod: str, *command: str, container: str | None = None) -> tuple[int, str]:
        """Run a command in a container; return its exit code and what it printed."""
        life, keeper = self._life(namespace, pod), self._keeper(namespace, pod, container)
        if keeper.container is None:
            raise KubeletError(f"{namespace}/{pod} does not run")
        log = life.logs / f"{keeper.record.name}.exec.log"
        log.unlink(missing_ok=True)
        code = self._call(keeper.container.execute(command, log))
        return code, log.read_text(errors="replace")

    # What a test does to it

    @property
    def faults(self) -> Faults:
        """Return what lets starts of containers fail or wait, by the beginning of the pod's name."""
        return self._agent.faults

    def evict(self, namespace: str, pod: str) -> None:
        """End a pod at once for want of disk space, as the kubelet does; its object stays."""
        life = self._life(namespace, pod)
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
        verdict = Verdict("Evicted", _EVICTED, {**condition, "message": _EVICTED})
        self._run(lambda: life.end(verdict))

    def kill(self, namespace: str, pod: str, container: str | None = None) -> None:
        """Kill a container as the kernel does when memory is short."""
        keeper = self._keeper(namespace, pod, container)

        def kill() -> None:
            keeper.out_of_memory = True
            keeper.ask_to_end(signal.SIGKILL)

        self._run(kill)

    def volume(
        self,
        name: str,
        *,
        claim: tuple[str, str] | None = None,
        size: str = "1Gi",
        local: bool = False,
        modes: Sequence[str] = _MODES,
        full_at: str | None = None,
    ) -> Path:
        """Make a PersistentVolume, and return the folder that it is.

        Args:
            name: The volume's.
            claim: Namespace and name of the only claim that may have it.
            size: As it is said to be.
            local: Whether it is of the kind `local` rather than `hostPath`.
            modes: How it may be used.
            full_at: How much goes in before it is full, as `mount` takes it for a tmpfs; only root can make such a one.
        """
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True)
        if full_at is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={full_at}", name, folder], check=True)
            self._mounted.append(folder)
        spec: dict[str, Any] = {
            "capacity": {"storage": size},
            "accessModes": list(modes),
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "local" if local else "hostPath": {"path": str(folder)},
        }
        if local:
            here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
        if claim is not None:
            spec["claimRef"] = dict(zip(("namespace", "name"), claim, strict=True))
        document = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(document))
        return folder

    # Its own loop

    def _life(self, namespace: str, pod: str) -> PodLife:
        life = find(list(self._agent.lives.values()), namespace, pod)
        if life is None:
            raise KubeletError(f"there is no pod {namespace}/{pod} on the node")
        return life

    def _keeper(self, namespace: str, pod: str, container: str | None) -> Keeper:
        """Return a container, without its name the first that is no init container."""
        life = self._life(namespace, pod)
        name = container or life.pod["spec"]["containers"][0]["name"]
        return next(keeper for keeper in life.keepers if keeper.record.name == name)

    def _run(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._call(act())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._agent.loop).result(_LIMIT)


@contextmanager
def kubelet(
    plane: ControlPlane, folder: Path, images: Mapping[str, Image], *, back_off: float = _BACK_OFF
) -> Iterator[Kubelet]:
    """Run a kubelet for a control plane with a controller manager; at the end none of its processes is left.

    Args:
        plane: Whose node it is.
        folder: For what pods write, and their logs.
        images: What stands for each image, by the name that pods use.
        back_off: Seconds before the second restart of a container, doubled for each further one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    agent = Agent(plane, folder, dict(images), back_off)
    thread = _AgentThread(agent)
    mounted: list[Path] = []
    thread.start()
    try:
        wait_until(lambda: thread.ready.is_set() or not thread.is_alive(), _LIMIT, "the kubelet")
        if thread.ready.is_set():
            yield Kubelet(plane, folder, agent.images, agent, thread, mounted)
    finally:
        thread.end()
        for volume in mounted:
            subprocess.run(["umount", volume], check=True)


class _AgentThread(threading.Thread):
    """The thread of the agent's event loop.

    Attributes:
        ready: Set when the node is there.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="kubelet", daemon=True)
        self.ready = threading.Event()
        self._agent = agent
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @override
    def run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error

    async def _main(self) -> None:
        self._task = asyncio.create_task(self._agent.run(self.ready.set))
        try:
            await self._task
        except asyncio.CancelledError:
            return

    def end(self) -> None:
        """End all pods and the thread.

        Raises:
            KubeletError: It failed before.
        """
        if self.is_alive() and self._task is not None:
            self._agent.loop.call_soon_threadsafe(self._task.cancel)
        self.join(_LIMIT)
        self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise KubeletError("the kubelet failed") from self._failure


def unavailable() -> str:
    """Return why this machine runs no pods, empty where it does."""
    try:
        command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]  # noqa: S108 - whatever folder
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no `unshare` on this machine"
    if done.returncode == 0:
        return ""
    return f"this machine lets its users make no namespaces (`{' '.join(command)}`): {done.stderr.strip()}"
