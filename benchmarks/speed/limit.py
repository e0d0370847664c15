"""The limit: requests that are known beforehand, from a client that does nothing but send them and read the answers.

Run as a process of its own for each round: `python -m benchmarks.speed.limit HOST TRUTH WORK [CONNECTIONS] [DAYS]`
prints what came of it as JSON.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from benchmarks.speed.minimal import Request, cold, deletions, names, warm
from benchmarks.speed.truth import Truth, load

_CHUNK = 256 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of requests.

    Attributes:
        requests: how many were answered.
        seconds: from the first to the last.
        cpu: seconds of a processor, user and system.
        statuses: number of answers by status.
    """

    requests: int
    seconds: float
    cpu: float
    statuses: dict[int, int]


class BrokenError(Exception):
    """The server ended a connection, or sent what this client does not understand."""


@dataclass(slots=True)
class _Connection:
    """One connection, with at most one request under way."""

    socket: socket.socket
    bodiless: bool = False
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes) -> None:
        self.bodiless = request.startswith(b"HEAD")
        self.socket.sendall(request)  # some hundred bytes: the kernel takes them at once

    def receive(self) -> int | None:
        """Read what is there; return the status once the answer is whole."""
        data = self.socket.recv(_CHUNK)
        if not data:
            raise BrokenError("the server closed a connection")
        self.buffer += data
        end = whole(self.buffer, bodiless=self.bodiless)
        if end is None:
            return None
        if end != len(self.buffer):
            raise BrokenError("the server sent more than was asked for")
        status = int(self.buffer[9:12])
        self.buffer.clear()
        return status


def whole(answer: bytes | bytearray, *, bodiless: bool = False) -> int | None:
    """Return the length of the HTTP/1.1 answer that `answer` begins with; None while it is not whole.

    `bodiless` says that it is the answer to a HEAD, which has no body whatever it says.
    """
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return None
    start = head + 4
    if bodiless or answer[9:12] in (b"204", b"304"):
        return start
    length = _LENGTH.search(answer, 0, head)
    if length is not None:
        end = start + int(length[1])
        return end if len(answer) >= end else None
    if _CHUNKED.search(answer, 0, head) is None:
        raise BrokenError("the answer does not say how long it is")
    while (line := answer.find(b"\r\n", start)) >= 0:
        size = int(bytes(answer[start:line]).partition(b";")[0], 16)
        start = line + 2 + size + 2
        if start > len(answer):
            return None
        if size == 0:
            return start
    return None


def drive(host: str, requests: Iterable[Request], connections: int) -> Sent:
    """Send all requests to `host` (address and port), so many at a time, and read each answer whole."""
    waiting = deque(request.encoded(host) for request in requests)
    total, statuses = len(waiting), Counter[int]()
    address, _, port = host.rpartition(":")
    with selectors.DefaultSelector() as selector:
        started, worked = time.perf_counter(), time.process_time()
        for _ in range(min(connections, total)):
            connection = _Connection(socket.create_connection((address, int(port)), timeout=_PATIENCE))
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(waiting.popleft())
        answered = 0
        while answered < total:
            ready = selector.select(_PATIENCE)
            if not ready:
                raise BrokenError(f"no answer in {_PATIENCE:g} s")
            for key, _ in ready:
                status = key.data.receive()
                if status is None:
                    continue
                statuses[status] += 1
                answered += 1
                if waiting:
                    key.data.send(waiting.popleft())
        sent = Sent(answered, time.perf_counter() - started, time.process_time() - worked, dict(statuses))
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return sent


def requests_for(work: str, truth: Truth, days: float) -> list[Request]:
    """Return the least requests of one kind of work; what is older than so many days is to go."""
    age = timedelta(days=days)
    match work:
        case "cold":
            return list(cold(truth, age))
        case "warm":
            return list(warm(truth))
        case "names":
            return list(names(truth))
        case "deletion":
            return list(deletions(sorted(truth.older_than(age))))
        case _:
            raise ValueError(f"no such work: {work}")


def main(host: str, truth: str, work: str, connections: str = "16", days: str = "30") -> None:
    """Do one round."""
    sent = drive(host, requests_for(work, load(Path(truth)), float(days)), int(connections))
    strange = {status: number for status, number in sent.statuses.items() if status not in (200, 202)}
    if strange:
        raise BrokenError(f"answers with another status than 200 and 202: {strange}")
    sys.stdout.write(json.dumps(asdict(sent)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
