"""A wire between a client and a server on loopback that a test can cut: connections stand, and nothing passes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 64 * 1024


class Wire:
    """Passes on whatever comes, bytes as they are, so that TLS goes through it.

    Attributes:
        url: To be used instead of the server's.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{server_url} names no host and port")
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._whole = threading.Event()
        self._whole.set()
        self._closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing pass any more, and tell nobody."""
        self._whole.clear()

    def mend(self) -> None:
        """Let everything pass again, what was held up included."""
        self._whole.set()

    def close(self) -> None:
        self._closed = True
        self.mend()
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
            except OSError:
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._whole.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(server_url: str) -> Iterator[Wire]:
    """Run a wire as long as the context lasts."""
    running = Wire(server_url)
    try:
        yield running
    finally:
        running.close()
