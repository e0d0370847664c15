"""The life of a pod on the node, from its first volume to the deletion of its object."""

import asyncio
import contextlib
import itertools
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.support.kubelet.api import Api, Document, path_of
from tests.support.kubelet.containers import Sandbox
from tests.support.kubelet.environment import NotYetError
from tests.support.kubelet.faults import Faults
from tests.support.kubelet.images import Image
from tests.support.kubelet.keeper import Keeper
from tests.support.kubelet.status import HOST_ADDRESS, Record, Verdict, pod_status
from tests.support.kubelet.volumes import volumes_of

_RETRY = 0.5
_LOOK = 0.02
_GRACE = 30
_OVERTIME = "Pod was active on the node longer than the specified deadline"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Node:
    """What the pods of the node share.

    Attributes:
        api: The API server.
        folder: For what pods write, and logs.
        images: What stands for each image.
        faults: What tests do to the starts of containers.
        back_off: Seconds before the second restart of a container, doubled for each further one.
        api_address: Host and port of the API server, as containers reach it.
        joined: Called with each new sandbox, so that it gets its ways out.
        numbers: For the addresses of pods.
    """

    api: Api
    folder: Path
    images: Mapping[str, Image]
    faults: Faults
    back_off: float
    api_address: tuple[str, int]
    joined: Callable[["PodLife"], Awaitable[None]]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def address(self) -> str:
        """Return an address that no pod had: from a range that the API server lets endpoints have."""
        number = next(self.numbers)
        return f"10.244.{number // 250}.{number % 250 + 2}"


class PodLife:
    """One pod on the node.

    Attributes:
        pod: The object as it was seen last.
        node: Where it lives.
        stopping: Set once it is to end.
        sandbox: Its network, None until it has one and after its end.
        address: Its address, None until it has one.
        volumes: The folder of each of its volumes.
        keepers: Of its containers, those that come first in front.
    """

    def __init__(self, pod: Document, node: Node) -> None:
        self.pod = pod
        self.node = node
        self.stopping = asyncio.Event()
        self.sandbox: Sandbox | None = None
        self.address: str | None = None
        self.volumes: dict[str, Path] = {}
        spec = pod["spec"]
        policy = spec.get("restartPolicy", "Always")
        before = "Never" if policy == "Never" else "OnFailure"
        self._initial = [Keeper(one, before, self) for one in spec.get("initContainers", [])]
        self._main = [Keeper(one, policy, self) for one in spec["containers"]]
        if self._initial:
            for keeper in self._main:
                keeper.record.wait("PodInitializing")
        self._verdict: Verdict | None = None
        self._status: Document = dict(pod.get("status", {}))
        self._unwanted = asyncio.Event()
        self._kill_at: float | None = None
        self._reporting = asyncio.Lock()

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def hostname(self) -> str:
        return str(self.pod["spec"].get("hostname") or self.name)

    @property
    def folder(self) -> Path:
        """Return what is removed with the pod."""
        return self.node.folder / "pods" / self.uid

    @property
    def logs(self) -> Path:
        """Return the folder of its logs, which outlive it."""
        return self.node.folder / "logs" / self.namespace / f"{self.name}-{self.uid[:8]}"

    @property
    def keepers(self) -> list[Keeper]:
        return [*self._initial, *self._main]

    # What is told from outside

    def saw(self, pod: Document) -> None:
        """Take notice of the object as it is now."""
        self.pod = {**pod, "status": {**pod.get("status", {}), **self._addresses()}}
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            self._unwanted.set()
            self._stop(metadata.get("deletionGracePeriodSeconds", 0))

    def is_gone(self) -> None:
        """Take notice that there is no such object any more: what still runs is not wanted."""
        self._unwanted.set()
        self._stop(self._grace)

    def end(self, verdict: Verdict, grace: float = 0) -> None:
        """End the pod, whose object stays."""
        if not self.stopping.is_set():
            self._verdict = verdict
            self._stop(grace)

    def _stop(self, grace: float) -> None:
        at = asyncio.get_running_loop().time() + grace
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)
        self.stopping.set()

    @property
    def _grace(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", _GRACE))

    # What its containers need

    async def report(self) -> None:
        """Tell the API server how it stands."""
        async with self._reporting:
            initial, main = ([keeper.record for keeper in keepers] for keepers in (self._initial, self._main))
            self._status = pod_status(initial, main, self._verdict, self.address, self._status)
            change = {"metadata": {"uid": self.uid}, "status": self._status}
            await self.node.api.patch(f"{self._path}/status", change)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the pod is wanted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def had(self, step: Callable[[], Awaitable[_T]], records: Sequence[Record]) -> _T | None:
        """Try a step until what it needs is there, and return what came of it; None where the pod ends before."""
        while not self.stopping.is_set():
            try:
                return await step()
            except NotYetError as error:
                for record in records:
                    record.wait(error.reason, str(error))
                await self.report()
                await self.pause(_RETRY)
        return None

    # Its life

    async def live(self) -> None:
        """Go through the life of the pod until its object is gone."""
        work = asyncio.create_task(self._work())
        try:
            await self._until_done_or_stopped(work)
            if not work.done():
                self.end(Verdict("DeadlineExceeded", _OVERTIME), self._grace)
                await self._terminate(work)
            await work
        finally:
            await self._clear(work)
        await self.report()
        await self._unwanted.wait()
        await self.node.api.delete_now(self._path, self.uid)

    async def _until_done_or_stopped(self, work: "asyncio.Task[None]") -> None:
        stopped = asyncio.create_task(self.stopping.wait())
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        try:
            await asyncio.wait({work, stopped}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    async def _terminate(self, work: "asyncio.Task[None]") -> None:
        """Ask all containers to end, and end what does not in time."""
        self._signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        # Deleted once more, it may have less time.
        while not work.done() and self._kill_at is not None and loop.time() < self._kill_at:
            await asyncio.wait({work}, timeout=_LOOK)
        while not work.done():
            self._signal(signal.SIGKILL)
            await asyncio.wait({work}, timeout=_LOOK)

    def _signal(self, number: signal.Signals) -> None:
        for keeper in self.keepers:
            keeper.ask_to_end(number)

    async def _clear(self, work: "asyncio.Task[None]") -> None:
        """Leave nothing behind but the logs, whatever happened."""
        self._signal(signal.SIGKILL)
        running = [keeper.container for keeper in self.keepers if keeper.container is not None]
        await asyncio.gather(*(container.wait() for container in running))
        work.cancel()
        await asyncio.wait({work})
        if self.sandbox is not None:
            await asyncio.to_thread(self.sandbox.close)
            self.sandbox = None
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _work(self) -> None:
        await self.report()
        await self.had(self._prepare, [keeper.record for keeper in self.keepers[:1]])
        for keeper in self._initial:
            await keeper.keep()
            if keeper.record.exit_code != 0:
                break
        else:
            for keeper in self._main:
                keeper.record.wait("ContainerCreating")
            await asyncio.gather(*(keeper.keep() for keeper in self._main))

    async def _prepare(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.volumes = await volumes_of(self.pod, self.folder / "volumes", self.node.api)
        address = self.node.address()
        log = self.logs / "sandbox.log"
        self.sandbox = await asyncio.to_thread(Sandbox, self.hostname, address, log)
        self.address = address
        self.saw(self.pod)
        await self.node.joined(self)

    def _addresses(self) -> Document:
        return {} if self.address is None else {"podIP": self.address, "hostIP": HOST_ADDRESS}

    @property
    def _path(self) -> str:
        return path_of("pods", self.namespace, self.name)
