"""What stands for kube-proxy: a lasting address on loopback for each port of a Service."""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from tests.support.kubelet.api import Document
from tests.support.kubelet.doors import Door, Passing

_SERVICE_NAME = "kubernetes.io/service-name"
# Namespace, name, and number of the Service's port.
Port = tuple[str, str, int]
# Returns a connection to a port of the pod with this uid.
ConnectToPod = Callable[[str, int], Awaitable[socket.socket]]


class Services:
    """The Services with a door for each of their ports, and the pods behind them."""

    def __init__(self, connect: ConnectToPod, passing: Passing, opened: Callable[[Door], None]) -> None:
        self._connect = connect
        self._passing = passing
        self._opened = opened
        self._services: dict[str, Document] = {}
        self._slices: dict[str, Document] = {}
        self._turns = itertools.count()
        self.doors: dict[Port, Door] = {}

    def saw_service(self, service: Document, gone: bool) -> None:
        metadata = service["metadata"]
        if gone:
            del self._services[metadata["uid"]]
        else:
            self._services[metadata["uid"]] = service
        wanted = set(self._ports())
        for port in self.doors.keys() - wanted:
            self.doors.pop(port).close()
        for port in wanted - self.doors.keys():
            door = self.doors[port] = Door(partial(self._beyond, port), self._passing)
            self._opened(door)
        self._open_and_shut()

    def saw_slice(self, endpoints: Document, gone: bool) -> None:
        uid = endpoints["metadata"]["uid"]
        if gone:
            self._slices.pop(uid, None)
        else:
            self._slices[uid] = endpoints
        self._open_and_shut()

    def _ports(self) -> Iterator[Port]:
        for service in self._services.values():
            metadata = service["metadata"]
            # The API server's own Service has no endpoints here: pods reach it by the variables for it.
            if (metadata["namespace"], metadata["name"]) != ("default", "kubernetes"):
                for port in service["spec"].get("ports", []):
                    yield metadata["namespace"], metadata["name"], port["port"]

    def _open_and_shut(self) -> None:
        for port, door in self.doors.items():
            door.set_open(to_be=bool(self._ready(port)))

    def _ready(self, port: Port) -> list[tuple[str, int]]:
        """Return pods that are ready behind a Service's port, by uid, with the port of theirs."""
        namespace, name, number = port
        named = {
            one.get("name", "")
            for service in self._services.values()
            if (service["metadata"]["namespace"], service["metadata"]["name"]) == (namespace, name)
            for one in service["spec"]["ports"]
            if one["port"] == number
        }
        return [
            (endpoint["targetRef"]["uid"], one["port"])
            for found in self._slices.values()
            if found["metadata"]["namespace"] == namespace
            and found["metadata"].get("labels", {}).get(_SERVICE_NAME) == name
            for one in found.get("ports") or []
            if (one.get("name") or "") in named
            for endpoint in found.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready") and "targetRef" in endpoint
        ]

    async def _beyond(self, port: Port) -> socket.socket:
        ready = self._ready(port)
        if not ready:
            raise ConnectionRefusedError(f"no pod is ready behind {port}")
        uid, number = ready[next(self._turns) % len(ready)]
        async with asyncio.timeout(5):
            return await self._connect(uid, number)
