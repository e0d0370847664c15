"""Ways in and out of pods: each a port on loopback whose connections are passed on, bytes as they are."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.support.processes import free_port

_CHUNK = 65536
LOOPBACK = "127.0.0.1"

# Returns a connection to where a door leads now.
Beyond = Callable[[], Awaitable[socket.socket]]


class Door:
    """A port of this machine that refuses connections while it is shut.

    Attributes:
        port: On loopback; stays the same.
    """

    def __init__(self, beyond: Beyond, tasks: "Passing") -> None:
        self.port = free_port()
        self._beyond = beyond
        self._passing = tasks
        # A port that is bound and does not listen refuses, and is nobody else's.
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, self.port))
        self._accepting: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def set_open(self, *, to_be: bool) -> None:
        """Let it take connections, or refuse them. Those that there are stay."""
        if to_be and self._accepting is None:
            self._socket.listen(128)
            self._accepting = self._passing.accept(self._socket, self._beyond)
        elif not to_be and self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
            asyncio.get_running_loop().remove_reader(self._socket)
            # Ends the listening for every process that was just forked from this one, too.
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.set_open(to_be=False)
        self._socket.close()


class Passing:
    """The connections that are passed on, and who accepts them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, listener: socket.socket, beyond: Beyond) -> "asyncio.Task[None]":
        """Pass on whatever connects to a listening socket."""
        return self._spawn(self._accept(listener, beyond))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket, beyond: Beyond) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            near.setblocking(False)
            self._spawn(_pass_on(near, beyond))


async def _pass_on(near: socket.socket, beyond: Beyond) -> None:
    try:
        with near, await beyond() as far:
            # One that fails ends the other too, before the sockets are closed: their numbers may be others' at once.
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(near, far))
                both.create_task(_copy(far, near))
    except* OSError:
        pass  # The client sees its connection end, as it would without the door.


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(sink, data)
    finally:
        # Each side ends on its own: who has asked may still get an answer.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


async def connect(host: str, port: int) -> socket.socket:
    """Return a connection to a port of this machine."""
    made = socket.socket()
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    return made


def close_listener(listener: socket.socket) -> None:
    """Close a socket that may be waited on: its number can be another's at once."""
    asyncio.get_running_loop().remove_reader(listener)
    listener.close()
