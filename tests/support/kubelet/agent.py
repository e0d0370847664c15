"""The node: its object and its Lease, and what it does about pods and Services as they come and go."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.support.controlplane import ControlPlane
from tests.support.kubelet.api import Api, Document, api_of, path_of
from tests.support.kubelet.doors import LOOPBACK, Beyond, Door, Passing, close_listener, connect
from tests.support.kubelet.faults import Faults
from tests.support.kubelet.images import Image
from tests.support.kubelet.log_server import log_server
from tests.support.kubelet.pods import Node, PodLife
from tests.support.kubelet.scheduler import why_not
from tests.support.kubelet.services import Services
from tests.support.kubelet.status import HOST_ADDRESS, now

NODE = "node"
_LABELS = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_BEAT = 10.0
_LEASE_SECONDS = 40
# A container that runs takes a thread that waits for its end.
_THREADS = 512
_COLLECTIONS = {
    "pods": "/api/v1/pods",
    "claims": "/api/v1/persistentvolumeclaims",
    "services": "/api/v1/services",
    "slices": "/apis/discovery.k8s.io/v1/endpointslices",
}


class Agent:
    """The node's agent, all of it in one event loop.

    Attributes:
        images: What stands for each image.
        faults: What tests do to the starts of containers.
        lives: The pods on the node by uid.
        services: The Services with their doors.
        passing: The connections into and out of pods.
        other_doors: Those that tests had made into single pods.
        loop: Its event loop.
    """

    loop: asyncio.AbstractEventLoop
    services: Services

    def __init__(self, plane: ControlPlane, folder: Path, images: dict[str, Image], back_off: float) -> None:
        self.images = images
        self.faults = Faults()
        self.lives: dict[str, PodLife] = {}
        self.passing = Passing()
        self.other_doors: list[Door] = []
        self._plane = plane
        self._folder = folder
        self._back_off = back_off
        self._waiting: dict[str, Document] = {}
        self._claims: dict[str, Document] = {}
        self._look = asyncio.Event()
        self._exits: dict[str, list[socket.socket]] = {}
        host, _, port = plane.url.rpartition("//")[2].partition(":")
        self._api_address = (host, int(port))
        self._node: Node
        self._group: asyncio.TaskGroup

    async def run(self, ready: Callable[[], None]) -> None:
        """Be the node until cancelled; `ready` is called when its object says so."""
        self.loop = asyncio.get_running_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(_THREADS))
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(api_of(self._plane))
            self._node = Node(
                api, self._folder, self.images, self.faults, self._back_off, self._api_address, self._give_exits
            )
            self.services = Services(self.connect, self.passing, self._opened)
            stack.push_async_callback(self._close)
            port = await stack.enter_async_context(log_server(self._folder, lambda: self.lives.values()))
            self._group = await stack.enter_async_context(asyncio.TaskGroup())
            await self._register(api, port)
            for task in (self._beat(api), self._schedule(api)):
                self._group.create_task(task)
            await self._watch(api)
            ready()
            # For ever, until it is cancelled.
            await asyncio.Event().wait()

    async def connect(self, uid: str, port: int) -> socket.socket:
        """Return a connection to a port of a pod."""
        life = self.lives.get(uid)
        if life is None or life.sandbox is None:
            raise ConnectionRefusedError("the pod does not run")
        return await life.sandbox.connect(port)

    async def _watch(self, api: Api) -> None:
        told = {
            "pods": self._saw_pod,
            "claims": self._saw_claim,
            "services": self.services.saw_service,
            "slices": self.services.saw_slice,
        }
        listed = []
        for name, path in _COLLECTIONS.items():
            listed.append(asyncio.Event())
            self._group.create_task(api.watch(path, told[name], listed[-1]))
        for event in listed:
            await event.wait()

    # Pods

    def _saw_pod(self, pod: Document, gone: bool) -> None:
        uid = pod["metadata"]["uid"]
        self._waiting.pop(uid, None)
        life = self.lives.get(uid)
        if life is not None:
            if gone:
                life.is_gone()
            else:
                life.saw(pod)
        elif not gone and "nodeName" not in pod["spec"]:
            self._waiting[uid] = pod
        elif not gone and pod["spec"]["nodeName"] == NODE:
            life = self.lives[uid] = PodLife(pod, self._node)
            life.saw(pod)
            self._group.create_task(self._let_live(life))
        self._look.set()

    async def _let_live(self, life: PodLife) -> None:
        try:
            await life.live()
        finally:
            del self.lives[life.uid]
            for listener in self._exits.pop(life.uid, []):
                close_listener(listener)
            self._look.set()

    def _saw_claim(self, claim: Document, gone: bool) -> None:
        uid = claim["metadata"]["uid"]
        if gone:
            self._claims.pop(uid, None)
        else:
            self._claims[uid] = claim
        self._look.set()

    async def _schedule(self, api: Api) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            for pod in list(self._waiting.values()):
                others = [life.pod for life in self.lives.values()]
                await self._place(pod, why_not(pod, _LABELS, self._claims.values(), others), api)

    async def _place(self, pod: Document, obstacle: str, api: Api) -> None:
        metadata = pod["metadata"]
        path = path_of("pods", metadata["namespace"], metadata["name"])
        told = [one.get("message") for one in pod.get("status", {}).get("conditions", [])]
        if not obstacle:
            # It is seen again with its node.
            self._waiting.pop(metadata["uid"], None)
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"metadata": {"name": metadata["name"], "uid": metadata["uid"]}, "target": target}
            await api.create(f"{path}/binding", {"apiVersion": "v1", "kind": "Binding", **binding})
        elif obstacle not in told:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": obstacle}
            change = {"conditions": [{**condition, "lastTransitionTime": now()}]}
            await api.patch(f"{path}/status", {"metadata": {"uid": metadata["uid"]}, "status": change})

    # Ways out of pods

    async def _give_exits(self, life: PodLife) -> None:
        await self._give_exit(life, self._api_address[1], partial(connect, *self._api_address))
        for door in list(self.services.doors.values()):
            await self._give_exit(life, door.port, partial(connect, LOOPBACK, door.port))

    def _opened(self, door: Door) -> None:
        for life in self.lives.values():
            if life.sandbox is not None:
                beyond = partial(connect, LOOPBACK, door.port)
                self._group.create_task(self._give_exit(life, door.port, beyond))

    async def _give_exit(self, life: PodLife, port: int, beyond: Beyond) -> None:
        try:
            assert life.sandbox is not None
            listener = await life.sandbox.listen(port)
        except OSError:
            # It has got this one already, or has ended meanwhile.
            return
        self._exits.setdefault(life.uid, []).append(listener)
        self.passing.accept(listener, beyond)

    async def _close(self) -> None:
        await self.passing.close()
        for door in (*self.services.doors.values(), *self.other_doors):
            door.close()

    # The node's own objects

    async def _register(self, api: Api, port: int) -> None:
        await api.create("/api/v1/nodes", {"metadata": {"name": NODE, "labels": _LABELS}})
        resources = {"cpu": "8", "memory": "16Gi", "pods": "250", "ephemeral-storage": "100Gi"}
        status = {
            "addresses": [{"type": "InternalIP", "address": HOST_ADDRESS}],
            "capacity": resources,
            "allocatable": resources,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self._tell_status(api, status)
        await self._renew(api)

    async def _tell_status(self, api: Api, more: Mapping[str, object]) -> None:
        fine = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it runs", **fine}]
        conditions += [
            {"type": f"{what}Pressure", "status": "False", "reason": "Enough", "message": "", **fine}
            for what in ("Memory", "Disk", "PID")
        ]
        await api.patch(f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": conditions, **more}})

    async def _renew(self, api: Api) -> None:
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": NODE, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": time}
        if await api.create(_LEASES, {"metadata": {"name": NODE}, "spec": spec}) is None:
            await api.patch(f"{_LEASES}/{NODE}", {"spec": spec})

    async def _beat(self, api: Api) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            await self._renew(api)
