"""The metrics of the process, in a registry of its own, and the page that shows them with those of each policy."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from typing_extensions import override

from registry_cleanup.domain.run import Phase, RunOrder, RunReport, Trigger
from registry_cleanup.ports import Observer
from registry_cleanup.telemetry.audit import LogAudit
from registry_cleanup.telemetry.policies import PolicyCollector

_PREFIX = "registry_cleanup"
_RUN_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_SCAN_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100)
_METHODS = ("GET", "HEAD", "DELETE")
_NO_ANSWER = "error"
_KNOWN_CODES = frozenset(status.value for status in HTTPStatus)


@dataclass(frozen=True, slots=True)
class Page:
    """A metrics page.

    Attributes:
        content: as it is sent.
        content_type: what it is.
        compressed: whether by gzip.
    """

    content: bytes
    content_type: str
    compressed: bool


class Metrics(Observer):
    """All metrics of one process.

    Attributes:
        registry: holds them all; there is no global one.
        policies: those of single policies.
    """

    def __init__(self) -> None:
        # A series more for each counter, which Prometheus does not read from text.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self.registry = registry = CollectorRegistry()
        self.policies = PolicyCollector()
        registry.register(self.policies)
        ProcessCollector(registry=registry)
        Info(f"{_PREFIX}_build", "The operator's version.", registry=registry).info(
            {"version": version("registry-cleanup-operator")}
        )
        self._tasks = _gauge("asyncio_tasks", "Tasks of the event loop.", registry)
        self._leader = _gauge("leader", "Whether this process works, rather than to stand by.", registry)
        self._crd_differs = _gauge(
            "crd_differs", "Whether the served CRD differs from the operator's schema, so that it only plans.", registry
        )
        self._running = _gauge("runs_running", "Runs, and looks for conflicts, that have a place.", registry)
        self._waiting = _gauge(
            "runs_waiting",
            "Runs, and looks for conflicts, that wait for a place, or for a repository that another has.",
            registry,
        )
        self._runs = _counter("runs", "Runs that ended, by phase and trigger.", registry, "phase", "trigger")
        self._run_seconds = Histogram(
            f"{_PREFIX}_run_duration_seconds",
            "How long runs take, by whether they may prune or only plan.",
            ["kind"],
            registry=registry,
            buckets=_RUN_SECONDS,
        )
        self._requests = _counter(
            "registry_requests",
            "Requests to registries and their token services; `error` where no answer came.",
            registry,
            "method",
            "code",
        )
        self._retries = _counter("registry_retries", "Requests that repeat another.", registry, "method")
        self._scan_seconds = Histogram(
            f"{_PREFIX}_in_use_scan_duration_seconds",
            "How long looks at what the cluster uses take; those that end in doubt count as well.",
            registry=registry,
            buckets=_SCAN_SECONDS,
        )
        self._doubtful_scans = _counter(
            "in_use_doubtful_scans", "Looks that could not see all that is in use.", registry
        )
        self._begin_at_zero()

    # What happens

    def observe_process(self, leads: Callable[[], bool], crd_differs: Callable[[], bool]) -> None:
        """Show how the process stands, by what is asked when the page is.

        Args:
            leads: whether it works.
            crd_differs: whether the served CRD is another than the operator knows.
        """
        self._leader.set_function(leads)
        self._crd_differs.set_function(crd_differs)

    def run_ended(self, namespace: str, name: str, report: RunReport) -> None:
        """Count a run."""
        order = report.order
        self._runs.labels(report.phase.value, order.trigger.value).inc()
        if report.completion is not None:
            seconds = (report.completion - order.start).total_seconds()
            self._run_seconds.labels("plan" if order.plan_only else "prune").observe(max(seconds, 0.0))
        series = self.policies.find(namespace, name)
        if series is not None:
            series.run_ended(report)

    def observe_queue(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Show how many runs there are, by what is asked when the page is."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)

    @override
    def requested(self, method: str, status: int | None, *, again: bool) -> None:
        self._requests.labels(method, _code(status)).inc()
        if again:
            self._retries.labels(method).inc()

    @override
    def scanned(self, seconds: float, *, whole: bool) -> None:
        self._scan_seconds.observe(seconds)
        if not whole:
            self._doubtful_scans.inc()

    # What is shown

    async def page(self, accept: str, accept_encoding: str) -> Page:
        """Return the page in the format that these headers of a request ask for.

        A thousand policies take some tenths of a second to spell out: the event loop stays free meanwhile.
        """
        self._tasks.set(len(asyncio.all_tasks()))
        encode, content_type = choose_encoder(accept)
        compressed = "gzip" in accept_encoding.lower()

        def spell() -> bytes:
            content: bytes = encode(self.registry)
            return gzip.compress(content, compresslevel=1) if compressed else content

        return Page(await asyncio.to_thread(spell), content_type, compressed)

    def _begin_at_zero(self) -> None:
        """Show what may be counted before it first is: an increase from nothing is none to Prometheus."""
        for phase in Phase:
            if phase is not Phase.RUNNING:
                for trigger in Trigger:
                    self._runs.labels(phase.value, trigger.value)
        for kind in ("plan", "prune"):
            self._run_seconds.labels(kind)
        for method in _METHODS:
            self._requests.labels(method, _NO_ANSWER)
            self._retries.labels(method)


class CountingAudit(LogAudit):
    """Writes to the log, and counts each run that it writes down as finished: both tell the same."""

    def __init__(self, namespace: str, policy: str, registry: str, order: RunOrder, metrics: Metrics) -> None:
        super().__init__(namespace, policy, registry, order)
        self._metrics = metrics
        self._labels = (namespace, policy)

    @override
    def finished(self, report: RunReport) -> None:
        super().finished(report)
        self._metrics.run_ended(*self._labels, report)


def _code(status: int | None) -> str:
    """Return a label for a status: a registry may answer with any number, and each would be a series for ever."""
    if status is None:
        return _NO_ANSWER
    return str(status) if status in _KNOWN_CODES else f"{status // 100}xx"


def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(f"{_PREFIX}_{name}", text, registry=registry)


def _counter(name: str, text: str, registry: CollectorRegistry, *labels: str) -> Counter:
    return Counter(f"{_PREFIX}_{name}", text, labels, registry=registry)
