"""What a test lets go wrong: answers put in the place of the API's own, hooks before requests, contention."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.image_api import refusals


@dataclass(frozen=True)
class ApiRequest:
    """A request as the API server passed it on.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: The parameters; of one that is repeated, the last.
        user: Who asked, by the API server's word.
        groups: Those of the user.
        accept: The header.
        content_type: The header.
        body: Bytes.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    groups: tuple[str, ...] = ()
    accept: str = ""
    content_type: str = ""
    body: bytes = b""

    @property
    def document(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body as JSON; an empty one is an empty object."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise refusals.bad_request(f"the body is no JSON: {error}") from error


Hook = Callable[[ApiRequest], None]


@dataclass(frozen=True)
class Match:
    """Which requests: both are regular expressions that match as a whole; the path is without the query."""

    method: str = ".*"
    path: str = ".*"

    def __call__(self, request: ApiRequest) -> bool:
        return bool(re.fullmatch(self.method, request.method) and re.fullmatch(self.path, request.path))


@dataclass
class Fault:
    """An answer in the place of the API's own.

    Attributes:
        times: How often still; None is without end.
        delay: Seconds until it is given.
        carried_out: The request takes effect, and only its answer is lost.
    """

    match: Match
    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str]
    times: int | None = 1
    delay: float = 0
    carried_out: bool = False


def usual_answer(status: int) -> tuple[Mapping[str, Any] | str, Mapping[str, str]]:
    """Return body and headers that such a status usually comes with."""
    match status:
        case 409:
            refusal = refusals.modified("app")
        case 410:
            refusal = refusals.expired()
        case 429:
            return _status(429, "TooManyRequests", "too many requests", {"retryAfterSeconds": 1}), {"Retry-After": "1"}
        case 500:
            refusal = refusals.server_timeout("imagestreamtags", "delete")
        case 503:
            return "service unavailable\n", {}
        case _:
            return _status(status, "Unknown", "put there by a test", {}), {}
    return refusal.body, refusal.headers


def _status(code: int, reason: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }


@dataclass
class Contention:
    """What deletions in one stream do to each other.

    Attributes:
        seconds: How long a deletion takes.
        at_once: How many may run in one stream; one more is refused in the end, as after ten lost races.
            None is as many as come.
        most: The most that ever ran at once, by stream.
    """

    seconds: float = 0
    at_once: int | None = None
    most: Counter[str] = field(default_factory=Counter)
    _running: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def deletion(self, stream: str) -> AsyncIterator[None]:
        """Let a deletion in a stream take its time, and lose where too many run."""
        self._running[stream] += 1
        running = self._running[stream]
        self.most[stream] = max(self.most[stream], running)
        try:
            await asyncio.sleep(self.seconds)
            if self.at_once is not None and running > self.at_once:
                raise refusals.server_timeout("imagestreamtags", "delete")
            yield
        finally:
            self._running[stream] -= 1


class Faults:
    """All that a test has set."""

    def __init__(self) -> None:
        self.hooks: list[tuple[Match, Hook]] = []
        self.faults: list[Fault] = []
        self.contention = Contention()

    async def run_hooks(self, request: ApiRequest) -> None:
        for match, hook in list(self.hooks):
            if match(request):
                # In a thread of its own: a hook may itself send requests.
                await asyncio.to_thread(hook, request)

    def next(self, request: ApiRequest) -> Fault | None:
        for fault in list(self.faults):
            if fault.match(request):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                return fault
        return None
