"""What a test does to the starts of containers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.kubelet.containers import StartError

_LOOK = 0.02


@dataclass
class _Fault:
    prefix: str
    seconds: float = 0.0
    times: float = 1


@dataclass
class Faults:
    """Faults that the next starts meet, by the beginning of the pod's name."""

    _failing: list[_Fault] = field(default_factory=list)
    _slow: list[_Fault] = field(default_factory=list)
    _held: list[str] = field(default_factory=list)

    def fail_next_start(self, prefix: str, times: int = 1) -> None:
        """Let the next starts of containers in pods whose name begins with `prefix` fail."""
        self._failing.append(_Fault(prefix, times=times))

    def slow_start(self, prefix: str, seconds: float) -> None:
        """Let every start in such pods take this much longer; with 0, none any more."""
        self._slow = [fault for fault in self._slow if fault.prefix != prefix]
        if seconds:
            self._slow.append(_Fault(prefix, seconds))

    @contextmanager
    def held(self, prefix: str) -> Iterator[None]:
        """Let no container of such pods start as long as the context lasts."""
        self._held.append(prefix)
        try:
            yield
        finally:
            self._held.remove(prefix)

    async def meet(self, pod: str, stopping: asyncio.Event) -> None:
        """Wait as long as a start of this pod is to wait, or fail as it is to fail.

        Raises:
            StartError: It is to fail.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + sum(fault.seconds for fault in self._slow if pod.startswith(fault.prefix))
        while not stopping.is_set() and (loop.time() < until or any(map(pod.startswith, self._held))):
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _LOOK)
        for fault in self._failing:
            if pod.startswith(fault.prefix) and fault.times > 0:
                fault.times -= 1
                raise StartError("the test lets this start fail")
