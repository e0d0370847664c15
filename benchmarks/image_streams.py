"""What planning and removing tags of large image streams costs: requests, memory, time.

Run it from the repository's root: `.venv/bin/python -m benchmarks.image_streams [streams] [tags] [json]`. The image
streams are those of the stand-in, behind a real API server; the client is a process of its own, so that its memory and
its processor time are its own. Access reviews are asked of the API server alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.domain.policy import Limits, OnExceeded, Policy, TagDate
from registry_cleanup.domain.run import RunOrder, RunReport, Trigger
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.registry import OpenShiftRegistry
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import World
from registry_cleanup.runner import Runner
from registry_cleanup.telemetry.audit import LogAudit
from tests.support import builders, clients
from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.image_api import ImageApi, image_api
from tests.support.image_api.documents import tag_event
from tests.support.image_api.streams import Events
from tests.support.openshift import openshift_registry
from tests.support.openshift_rights import LEAST, STATUS, grant
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, long_published

NAMESPACE = "bench"
KEEPS = 100  # of each stream
_SHARED = 10  # so many tags in a hundred stand on the image of the one before
_CONCURRENCY = 8
_LIMIT = 900.0
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Task:
    """What a client does, and where.

    Attributes:
        include: which repositories.
        prunes: whether it removes what it planned.
        url, ca_file, token: of the API server, and for whom to ask.
        registry, registry_ca: the registry before the image streams.
    """

    include: str
    prunes: bool
    url: str
    ca_file: str
    token: str
    registry: str
    registry_ca: str


@dataclass(frozen=True)
class Figures:
    """What a client measured of itself.

    Attributes:
        requests: to the API server, by method and resource.
        idle: MiB of memory before the run.
        peak: MiB at most in the run.
        seconds: of the run.
        processor: seconds of it that the client worked.
        phase: of the run, with what went wrong.
        planned: tags.
        pruned: tags.
        pushes: while it removed tags.
        lost: pushes that were not there in the end; any is a bug.
    """

    requests: dict[str, int]
    idle: float
    peak: float
    seconds: float
    processor: float
    phase: str
    planned: int
    pruned: int
    pushes: int = 0
    lost: int = 0


# The server's side


def main(streams: int, tags: int, *, as_json: bool) -> None:
    """Measure a plan over all streams, and the removal of all but `KEEPS` tags of one, alone and beside pushes."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name, control_plane(Path(name) / "plane") as plane:
        plane.kubectl("create", "namespace", NAMESPACE)
        authority = certificate_authority(Path(name) / "ca")
        with (
            image_api(plane, Path(name) / "api") as images,
            openshift_registry(images, plane, authority.issue("127.0.0.1")) as registry,
        ):
            for level in (LEAST, STATUS):
                grant(plane, level, (NAMESPACE, "account"), NAMESPACE)
            task = _task(plane, f"{NAMESPACE}/*", registry.url, str(authority.ca_file))
            for number in range(streams):
                _fill(images, f"app-{number:04}", tags)
            found["plan"] = _measured(task)
            for stream, seconds in (("quiet", None), ("pushed-to", 1.0)):
                _fill(images, stream, tags)
                one = replace(task, include=f"{NAMESPACE}/{stream}", prunes=True)
                with _pushes(images, stream, seconds) as pushed:
                    figures = _measured(one)
                there = images.tags(NAMESPACE, stream)
                lost = sum(there.get(tag) != digest for tag, digest in pushed.items())
                title = f"removal, {'nobody pushes' if seconds is None else f'a push every {seconds:g} s'}"
                found[title] = replace(figures, pushes=len(pushed), lost=lost)
    if as_json:
        sys.stdout.write(json.dumps({title: asdict(figures) for title, figures in found.items()}) + "\n")
        return
    for title, figures in found.items():
        sys.stdout.write(_told(title, figures))


def _task(plane: ControlPlane, include: str, registry: str, registry_ca: str) -> Task:
    token = plane.token_for_service_account(NAMESPACE, "account", 3600)
    return Task(include, False, plane.url, str(plane.ca_file), token, registry, registry_ca)


def _fill(images: ImageApi, name: str, tags: int) -> None:
    """Make a stream whose tags were pushed an hour apart, the last an hour ago, without anything behind them."""
    with images.store.locked():
        now = datetime.now(UTC)
        into = images.store.stream_or_new(NAMESPACE, name, now)
        status = {}
        for number in range(tags):
            tag = f"build-{number:05}"
            shown = number - 1 if number % 100 < _SHARED else number
            image = "sha256:" + hashlib.sha256(f"{name} {shown}".encode()).hexdigest()
            moment = now - timedelta(hours=tags - number)
            item = tag_event(image, f"{into.repository}@{image}", moment, into.generation)
            status[tag] = Events(tag=tag, items=[item])
        images.store.put(replace(into, status_tags=status))


@contextmanager
def _pushes(images: ImageApi, stream: str, seconds: float | None) -> Iterator[dict[str, str]]:
    """Push a new tag every so often; the result has the digest of each."""
    pushed: dict[str, str] = {}
    stop = threading.Event()

    def push() -> None:
        while not stop.wait(seconds):
            tag = f"pushed-{len(pushed)}"
            pushed[tag] = images.push(NAMESPACE, stream, tag)

    thread = threading.Thread(target=push)
    if seconds is not None:
        thread.start()
    try:
        yield pushed
    finally:
        stop.set()
        if seconds is not None:
            thread.join()


def _measured(task: Task) -> Figures:
    """Let a process of its own do a task."""
    command = [sys.executable, "-m", "benchmarks.image_streams", "client"]
    told = json.dumps(asdict(task))
    done = subprocess.run(command, input=told, stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT)  # noqa: S603 - our own module
    return Figures(**json.loads(done.stdout))


def _told(title: str, figures: Figures) -> str:
    requests = ", ".join(f"{number} {what}" for what, number in sorted(figures.requests.items()))
    pushes = f", {figures.pushes} pushes of which {figures.lost} were lost" if figures.pushes else ""
    return (
        f"{title}: {figures.phase}, {figures.planned} tags planned, {figures.pruned} pruned{pushes}\n"
        f"  {requests}\n"
        f"  {figures.peak - figures.idle:.0f} MiB above {figures.idle:.0f}, {figures.seconds:.1f} s, "
        f"{figures.processor:.2f} s of a processor\n"
    )


# The client's


@dataclass(frozen=True)
class _Counting:
    """Counts the requests of a client of the API server."""

    requests: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def opened(self, configuration: client.Configuration) -> AsyncIterator[client.ApiClient]:
        counts = self.requests

        class Client(client.ApiClient):
            @override
            async def call_api(self, method: str, url: str, *rest: object, **options: object) -> object:
                counts[f"{method} {_resource(url)}"] += 1
                return await super().call_api(method, url, *rest, **options)

        async with Client(configuration) as api_client:
            yield api_client


def _resource(url: str) -> str:
    """Return the resource of a URL: one is `name` where it is one object's."""
    parts = url.partition("?")[0].split("/")[6:]
    if parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join([parts[0], *(["name"] if len(parts) > 1 else []), *parts[2:]])


async def _client(task: Task, ca_bundle: str) -> Figures:
    configuration = client.Configuration(host=task.url)
    configuration.ssl_ca_cert = task.ca_file
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    configuration.api_key = {"BearerToken": task.token}
    counting = _Counting()
    login = clients.service_account(task.token, task.registry.partition("//")[2])
    what = _policy(task.include)

    @asynccontextmanager
    async def connect() -> AsyncIterator[OpenShiftRegistry]:
        async with (
            clients.opened(task.registry, login, ca_bundle=ca_bundle) as front,
            counting.opened(configuration) as api_client,
        ):
            api = ImageAPI(api_client, clients.free(_CONCURRENCY))
            account = f"{NAMESPACE}:account"
            yield OpenShiftRegistry(
                api, front, what.repositories, TagDate.AUTO, Subject.service_account(account), _CONCURRENCY
            )

    async with connect():
        pass  # certificates and the like are loaded in an idle operator, too
    counting.requests.clear()
    order = RunOrder("run", Trigger.REQUEST, not task.prunes, datetime.now(UTC))
    world = World(
        FixedGuard(None),
        LogAudit(NAMESPACE, "policy", what.registry, order),
        clients.SystemClock(),
        long_published(),
        FixedUse(),
        FixedRivals(),
        FixedClaims(),
    )
    idle = _memory("VmRSS")
    _forget_peak()
    start, worked = time.perf_counter(), time.process_time()
    report = await Runner(what, connect, world).run(order)
    seconds, processor = time.perf_counter() - start, time.process_time() - worked
    peak = _memory("VmHWM")
    return Figures(dict(counting.requests), idle, peak, seconds, processor, _phase(report), *_numbers(report))


def _policy(include: str) -> Policy:
    return builders.policy(
        builders.rule("build-.*", days=1, most_recent=KEEPS),
        repositories=builders.selector(include),
        limits=Limits(10_000_000, 100, OnExceeded.TRUNCATE),
    )


def _phase(report: RunReport) -> str:
    return ": ".join([report.phase.value, *(failure.message for failure in report.failures)])


def _numbers(report: RunReport) -> tuple[int, int]:
    return report.counts.tags_planned, report.counts.tags_pruned


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(what: str) -> float:
    """Return MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024 / _MEBIBYTE
    raise LookupError(what)


if __name__ == "__main__":
    logging.disable()  # 100,000 lines of verdicts are the log's business
    if sys.argv[1:] == ["client"]:
        given = Task(**json.load(sys.stdin))
        sys.stdout.write(json.dumps(asdict(asyncio.run(_client(given, Path(given.registry_ca).read_text())))))
    else:
        numbers = [int(argument) for argument in sys.argv[1:] if argument != "json"]
        main(*[*numbers, *(20, 5000)[len(numbers) :]], as_json="json" in sys.argv)
