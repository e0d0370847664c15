"""Probes of a container: whether it has started, is ready, and lives."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.kubelet.api import Document
from tests.support.kubelet.containers import Container, Sandbox

_NO_QUESTIONS = ssl.create_default_context()
_NO_QUESTIONS.check_hostname = False
_NO_QUESTIONS.verify_mode = ssl.CERT_NONE


class Prober:
    """Asks one container, in its pod."""

    def __init__(self, container: Container, sandbox: Sandbox, ports: dict[str, int], log: Path) -> None:
        self._container = container
        self._sandbox = sandbox
        self._ports = ports
        self._log = log

    async def follow(self, probe: Document, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Probe for ever and tell of each change of the verdict, after as many equal answers as the probe asks for."""
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        needed = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
        told: bool | None = None
        last, in_a_row = None, 0
        while True:
            answer = await self.asks(probe)
            in_a_row = in_a_row + 1 if answer is last else 1
            last = answer
            if answer is not told and in_a_row >= needed[answer]:
                told = answer
                await tell(answer)
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def asks(self, probe: Document) -> bool:
        """Probe once."""
        try:
            async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
                return await self._answers(probe)
        except (OSError, TimeoutError):
            return False

    async def _answers(self, probe: Document) -> bool:
        match probe:
            case {"exec": {"command": command}}:
                return await self._container.execute(command, self._log) == 0
            case {"tcpSocket": {"port": port}}:
                (await self._sandbox.connect(self._number(port))).close()
                return True
            case {"httpGet": request}:
                return await self._get(request)
            case _:
                raise ValueError(f"this test kubelet does not know the probe {probe}")

    async def _get(self, request: Document) -> bool:
        connection = await self._sandbox.connect(self._number(request["port"]))
        path, host = request.get("path", "/"), request.get("host", "localhost")
        # As the kubelet: no certificate is looked at.
        tls = {"ssl": _NO_QUESTIONS, "server_hostname": host} if request.get("scheme") == "HTTPS" else {}
        reader, writer = await asyncio.open_connection(sock=connection, **tls)
        try:
            headers = [f"{one['name']}: {one['value']}\r\n" for one in request.get("httpHeaders", [])]
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n{''.join(headers)}\r\n".encode())
            status = (await reader.readline()).split()
            return len(status) > 1 and 200 <= int(status[1]) < 400
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _number(self, port: int | str) -> int:
        return port if isinstance(port, int) else self._ports[port]
