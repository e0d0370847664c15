"""Half an hour of faults, of policies that come and go, and of pushes: does the operator grow, is every run told?

Run it from the repository's root: `.venv/bin/python -m benchmarks.soak [minutes] [seed]`. Real parts: an API server
with the shipped RBAC, Distribution 2.8 and 3.1, the operator as a process; proxies before all of them break what the
seed says. It ends with an error where a figure grew, or where log, metrics and status do not tell of the same runs.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web

from tests.support.api_proxy import (
    APIProxy,
    api_proxy,
    conflicts,
    etcd_times_out,
    expired,
    is_watch,
    throttles_by_priority,
    writes_status,
)
from tests.support.controlplane import control_plane
from tests.support.faulty import (
    Fault,
    Forward,
    answers,
    drops_the_answer,
    drops_the_connection,
    faulty_registry,
    stalls,
    throttles,
    truncates_the_body,
)
from tests.support.images import push_image
from tests.support.operator import Operator, install, operator
from tests.support.policies import Namespace, days_ago, fresh_namespace, last_run, policy_spec
from tests.support.processes import WaitTimeoutError, wait_until
from tests.support.registries import distribution

_STAYING = 8
_WARM_UP = 300.0  # seconds until caches and pools are what they will be
_SAMPLE_EVERY = 10.0
_FAULT_EVERY = 20.0
_VISIT = (5.0, 40.0)  # seconds that a policy stays which comes and goes
_RATE = 0.03  # of the requests to the registries that are broken
_GROWTH = {"memory": 0.06, "tasks": 0.25, "files": 0.25}  # that passes for noise
_ENDED = frozenset({"Succeeded", "Partial", "Failed", "Blocked", "AwaitingApproval", "Interrupted"})
_REGISTRY_FAULTS: Sequence[Fault] = (
    answers(401),
    answers(403),
    answers(500),
    answers(502),
    throttles("1"),
    drops_the_connection(),
    drops_the_answer(),
    truncates_the_body(),
    stalls(3),
)


@dataclass
class Seen:
    """What is known of all runs, by three ways.

    Attributes:
        told: phase of each run by its id, as statuses showed it.
        gone: names of policies that were deleted, whose last status nobody may have seen.
    """

    told: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def look(self, namespace: Namespace) -> None:
        """Take note of the runs that have ended, by all statuses there are."""
        for policy in namespace.policies():
            for run in [last_run(policy), *policy.get("status", {}).get("history", [])]:
                if run.get("phase") in _ENDED:
                    self.told[run["id"]] = run["phase"]


@dataclass(frozen=True)
class Scene:
    """Everything that takes part.

    Attributes:
        urls: of the registries, the broken way and the straight one.
        namespace: of the policies.
        proxy: before the API server.
        running: the operator.
        chance: decides.
    """

    urls: Sequence[tuple[str, str]]
    namespace: Namespace
    proxy: APIProxy
    running: Operator
    chance: random.Random

    def spec(self, number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
        """Return a policy that prunes one repository, of its own registry."""
        url = self.urls[number % len(self.urls)][0]
        return policy_spec(
            url, dryRun=False, repositories={"include": [_repository(number)]}, schedule="* * * * *", **changes
        )

    def push(self) -> None:
        """Push a build somewhere, old enough to go."""
        number = self.chance.randrange(_STAYING)
        tag = f"build-{time.time_ns() // 1_000_000}"
        push_image(self.urls[number % len(self.urls)][1], _repository(number), [tag], created=days_ago(40), seed=tag)

    def visit(self) -> None:
        """Let a policy come, be asked to run, and go, sometimes in the middle of its run."""
        name = f"guest-{time.time_ns()}"
        number = self.chance.randrange(_STAYING)
        # A repository that no staying policy has: two that prune the same would be in conflict.
        url, straight = self.urls[number % len(self.urls)]
        for build in range(6):
            push_image(straight, name, [f"build-{build}"], created=days_ago(40 + build), seed=f"{name} {build}")
        self.namespace.apply(policy_spec(url, dryRun=False, repositories={"include": [name]}), name)
        time.sleep(self.chance.uniform(*_VISIT) / 2)
        self.namespace.request_run("now", name)
        time.sleep(self.chance.uniform(*_VISIT) / 2)
        self.namespace.delete(name)

    def harm(self) -> None:
        """Let the API server do something bad, for a while shorter than a Lease lasts."""
        faults: Sequence[Callable[[], object]] = (
            self.proxy.cut,
            lambda: self.proxy.inject(throttles_by_priority(), _no_lease, times=5),
            lambda: self.proxy.inject(conflicts(), writes_status, times=2),
            lambda: self.proxy.inject(etcd_times_out(), writes_status, times=2),
            lambda: self.proxy.inject(expired(), is_watch, times=1),
            self._down,
        )
        self.chance.choice(faults)()

    def _down(self) -> None:
        with self.proxy.down():
            time.sleep(3)

    def sample(self) -> dict[str, float]:
        """Return what the operator uses now."""
        if self.running.process.exit_code is not None:
            raise SystemExit(f"the operator ended; its log ends with\n{self.running.process.tail(60)}")
        page = self.page()
        return {
            "memory": _series(page, "process_resident_memory_bytes") / 2**20,
            "tasks": _series(page, "registry_cleanup_asyncio_tasks"),
            "files": _series(page, "process_open_fds"),
        }

    def page(self) -> str:
        """Return the metrics page."""
        return self.running.get("/metrics").raise_for_status().text

    def logged(self) -> dict[str, str]:
        """Return the phase of each run that the log tells the end of."""
        lines = self.running.log_lines(message="run finished")
        return {line["run"]: line["phase"] for line in lines}


def soak(folder: Path, minutes: float, seed: int) -> list[str]:
    """Soak the operator, and return what is wrong."""
    with ExitStack() as stack:
        scene = _scene(folder, stack, random.Random(seed))  # noqa: S311 - chance that can be repeated
        seen, samples = Seen(), list[dict[str, float]]()
        for number in range(_STAYING):
            scene.namespace.apply(scene.spec(number), f"stays-{number}")
        start = time.monotonic()
        with _again_and_again(
            {
                "push": (scene.push, 0.5),
                "visit": (scene.visit, 1.0),
                "visit too": (scene.visit, 1.0),
                "harm": (scene.harm, _FAULT_EVERY),
                "look": (lambda: seen.look(scene.namespace), 1.0),
            }
        ) as errors:
            while (age := time.monotonic() - start) < minutes * 60:
                time.sleep(_SAMPLE_EVERY)
                if age >= min(_WARM_UP, minutes * 20):
                    samples.append(scene.sample())
                    if len(samples) % 12 == 1:
                        _say(f"{age / 60:.0f} min: {samples[-1]}, {len(seen.told)} runs told")
        scene.proxy.heal()
        return [*_growth(samples), *_accounts(scene, seen), *errors]


def _scene(folder: Path, stack: ExitStack, chance: random.Random) -> Scene:
    urls = []
    for version in ("2", "3"):
        server = stack.enter_context(distribution(version, folder / version))
        for number in range(_STAYING):
            for build in range(20):
                tag = f"build-{build}"
                created = days_ago(40 + build)
                push_image(server.url, _repository(number), [tag], created=created, seed=f"{number} {tag}")
        proxy = stack.enter_context(faulty_registry(server.url))
        proxy.inject(_sometimes(chance))
        urls.append((proxy.url, server.url))
    plane = stack.enter_context(control_plane(folder / "plane"))
    install(plane)
    between = stack.enter_context(api_proxy(plane.url, plane.ca_file, folder / "between"))
    settings = {"SCHEDULE_JITTER_SECONDS": "10"}
    running = stack.enter_context(operator(between.before(plane, folder / "before"), folder / "operator", settings))
    namespace = stack.enter_context(fresh_namespace(plane, "soak", [running]))
    return Scene(urls, namespace, between, running, chance)


def _sometimes(chance: random.Random) -> Fault:
    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        if chance.random() < _RATE:
            return await chance.choice(_REGISTRY_FAULTS)(request, forward)
        return (await forward()).response()

    return fault


@contextmanager
def _again_and_again(work: Mapping[str, tuple[Callable[[], None], float]]) -> Iterator[list[str]]:
    """Do each work in a thread of its own, with a pause after it, as long as the context lasts."""
    ended, errors = threading.Event(), list[str]()

    def go_on(name: str, what: Callable[[], None], pause: float) -> None:
        while not ended.is_set():
            try:
                what()
            except Exception as error:
                errors.append(f"the soak itself: {name}: {type(error).__name__}: {error}"[:300])
            ended.wait(pause)

    threads = [threading.Thread(target=go_on, args=(name, *what)) for name, what in work.items()]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _growth(samples: Sequence[dict[str, float]]) -> list[str]:
    """Compare the last third of the samples with the first."""
    problems, third = [], max(1, len(samples) // 3)
    for figure, noise in _GROWTH.items():
        first, last = (median(one[figure] for one in part) for part in (samples[:third], samples[-third:]))
        _say(f"{figure}: {first:.1f} in the first third, {last:.1f} in the last")
        if last > first * (1 + noise):
            problems.append(f"{figure} grew from {first:.1f} to {last:.1f}")
    return problems


def _accounts(scene: Scene, seen: Seen) -> list[str]:
    """Compare log, metrics and status after the last run."""
    for number in range(_STAYING):
        scene.namespace.change({"suspend": True}, f"stays-{number}")

    def quiet() -> bool:
        phases = [last_run(policy).get("phase") for policy in scene.namespace.policies()]
        return "Running" not in phases and _series(scene.page(), "registry_cleanup_runs_running") == 0

    try:
        wait_until(quiet, 120, "the end of all runs", scene.running.process)
    except WaitTimeoutError as error:
        return [str(error)[:300]]
    seen.look(scene.namespace)
    logged, counted = scene.logged(), _runs_by_phase(scene.page())
    _say(f"runs: {len(logged)} logged {dict(Counter(logged.values()))}, counted {dict(counted)}, {len(seen.told)} told")
    problems = []
    if Counter(logged.values()) != counted:
        problems.append(f"log and metrics differ: {Counter(logged.values())} and {counted}")
    # Whose policy was deleted in the middle has nobody left to tell; all others are told, and truly.
    untold = {run: phase for run, phase in logged.items() if run not in seen.told}
    guests = {line["run"] for line in scene.running.log_lines(message="run finished") if "/guest-" in line["policy"]}
    missing = [run for run in untold if run not in guests]
    different = [run for run, phase in seen.told.items() if logged.get(run) != phase]
    _say(f"{len(untold)} runs of policies that were deleted are told by the log and the metrics alone")
    if missing:
        problems.append(f"no status ever told of {missing}")
    if different:
        problems.append(f"log and status differ on {[(each, logged.get(each), seen.told[each]) for each in different]}")
    return problems


def _runs_by_phase(page: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for phase, number in re.findall(r'^registry_cleanup_runs_total\{phase="(\w+)".*\} (\S+)$', page, re.MULTILINE):
        found[phase] += int(float(number))
    return +found


def _series(page: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def _repository(number: int) -> str:
    return f"team/app-{number}"


def _no_lease(request: web.Request) -> bool:
    """Tell all but Leases, which have a priority of their own."""
    return "/leases" not in request.path


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = [float(each) for each in sys.argv[1:]]
    length, chosen = [*given, *[30.0, 1.0][len(given) :]]
    with tempfile.TemporaryDirectory() as temporary:
        found_wrong = soak(Path(temporary), length, int(chosen))
    for one in found_wrong:
        _say(f"WRONG: {one}")
    sys.exit(1 if found_wrong else 0)
