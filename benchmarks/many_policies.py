"""What a thousand policies cost the operator, of which fifty are due in one minute: memory, start, idle, API requests.

Run it from the repository's root: `.venv/bin/python -m benchmarks.many_policies [policies] [due]`. Real parts: an API
server with the shipped RBAC, Distribution 3.1, the operator as a process.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.operator import Operator, install, operator
from tests.support.policies import POLICIES, is_planned, last_run, policy_spec, push_builds
from tests.support.processes import wait_until
from tests.support.registries import distribution

_NAMESPACES = 20
_REPOSITORIES = 50
_IDLE = 60.0
_LIMIT = 1800.0
_PLURAL = "registrycleanuppolicies"
# One series of the API server's own metrics.
_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cluster:
    """The control plane, as the administrator sees it."""

    plane: ControlPlane
    api: httpx.Client

    def create(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        """Create a policy."""
        body = {"apiVersion": "registrycleanup.dev/v1alpha1", "kind": "RegistryCleanupPolicy", "spec": spec}
        path = f"{POLICIES}/namespaces/{namespace}/{_PLURAL}"
        self.api.post(path, json={**body, "metadata": {"name": name}}).raise_for_status()

    def schedule(self, namespace: str, name: str, text: str) -> None:
        """Give a policy a schedule; it is planned anew."""
        headers = {"Content-Type": "application/merge-patch+json"}
        path = f"{POLICIES}/namespaces/{namespace}/{_PLURAL}/{name}"
        self.api.patch(path, json={"spec": {"schedule": text}}, headers=headers).raise_for_status()

    def policies(self) -> list[dict[str, Any]]:
        """Return all of them, from the API server's cache."""
        answer = self.api.get(f"{POLICIES}/{_PLURAL}?resourceVersion=0").raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def requests(self) -> Counter[str]:
        """Return how many requests for resources the API server has ended since its start, by verb and resource."""
        found: Counter[str] = Counter()
        for labels, number in _REQUESTS.findall(self.api.get("/metrics").raise_for_status().text):
            fields = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if fields.get("resource"):
                what = "/".join(filter(None, (fields["resource"], fields["subresource"])))
                found[f"{fields['verb']} {what}"] += int(float(number))
        return found


@dataclass(frozen=True)
class Usage:
    """What a process has used so far."""

    pid: int

    def memory(self, field: str) -> float:
        """Return MiB by a field of the process's status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    def cpu(self) -> float:
        """Return the seconds that it has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run a control plane with everything that `manifests/base` ships."""
    with control_plane(folder / "plane") as plane:
        install(plane)
        trust = ssl.create_default_context(cafile=str(plane.ca_file))
        headers = {"Authorization": f"Bearer {plane.admin_token}"}
        with httpx.Client(base_url=plane.url, headers=headers, verify=trust, trust_env=False, timeout=60) as api:
            for number in range(_NAMESPACES):
                body = {"metadata": {"name": _namespace(number)}}
                api.post("/api/v1/namespaces", json=body).raise_for_status()
            yield Cluster(plane, api)


def measure(folder: Path, policies: int, due: int) -> None:
    """Measure it, and print each figure as soon as it is known."""
    with distribution("3", folder / "registry") as registry, cluster(folder) as there:
        for number in range(_REPOSITORIES):
            push_builds(registry.url, f"team/app-{number}", 10)
        specs = [(_namespace(each), f"policy-{each:04}", _spec(registry.url, each)) for each in range(policies)]
        with operator(there.plane, folder / "first") as first:
            start = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda one: there.create(*one), specs))
            _say(f"{policies} policies created in {time.monotonic() - start:.0f} s")
            _wait_planned(there, policies, first)
            _say(f"all planned after {time.monotonic() - start:.0f} s; {_told(Usage(first.process.pid))}")
            first_requests(there)
        before = there.requests()
        time.sleep(_IDLE)
        without = there.requests() - before
        with operator(there.plane, folder / "second") as second:
            usage = Usage(second.process.pid)
            _settle(usage)
            _say(f"started again: {usage.cpu():.1f} s computed until it was idle; {_told(usage)}")
            _idle(there, usage, without)
            _due(there, second, usage, [(namespace, name) for namespace, name, _ in specs[:due]])


def first_requests(there: Cluster) -> None:
    """Print the requests of the first plans."""
    _say("requests since the API server's start: " + _most(there.requests()))


def _idle(there: Cluster, usage: Usage, without: Counter[str]) -> None:
    before, cpu = there.requests(), usage.cpu()
    time.sleep(_IDLE)  # idleness is what is measured
    found = there.requests() - before
    used = (usage.cpu() - cpu) / _IDLE * 100
    _say(f"idle: {used:.2f} % of a processor; API requests in {_IDLE:.0f} s: {_most(found - without)}")
    _say(f"(without an operator in as much time: {_most(without)})")


def _due(there: Cluster, running: Operator, usage: Usage, chosen: list[tuple[str, str]]) -> None:
    """Let the chosen policies be due in the same minute."""
    # Time to plan them anew before.
    time_due = (datetime.now(UTC) + timedelta(minutes=3)).replace(second=0, microsecond=0)
    for namespace, name in chosen:
        there.schedule(namespace, name, f"{time_due.minute} {time_due.hour} * * *")
    _wait_planned(there, len(there.policies()), running)
    if datetime.now(UTC) >= time_due:
        raise SystemExit("the machine is too slow: the schedules were due before the policies were planned")
    wait_until(lambda: datetime.now(UTC) >= time_due, 200, "the minute", running.process)
    before, cpu, start = there.requests(), usage.cpu(), time.monotonic()
    names = set(chosen)

    def all_ran() -> bool:
        time.sleep(1)
        ran = [each for each in there.policies() if _key(each) in names and last_run(each).get("trigger") == "Schedule"]
        return len(ran) == len(chosen) and all(last_run(each)["phase"] != "Running" for each in ran)

    wait_until(all_ran, _LIMIT, "the scheduled runs", running.process)
    seconds = time.monotonic() - start
    phases = Counter(last_run(each)["phase"] for each in there.policies() if _key(each) in names)
    _say(
        f"{len(chosen)} due in one minute: done after {seconds:.0f} s, {dict(phases)}; {usage.cpu() - cpu:.1f} s "
        f"computed; {_told(usage)}; API requests: {_most(there.requests() - before)}"
    )


def _wait_planned(there: Cluster, number: int, running: Operator) -> None:
    def planned() -> bool:
        time.sleep(1)
        return sum(map(is_planned, there.policies())) == number

    wait_until(planned, _LIMIT, "all plans", running.process)


def _settle(usage: Usage) -> None:
    """Wait until the process computes next to nothing."""
    while True:
        cpu = usage.cpu()
        time.sleep(5)
        if usage.cpu() - cpu < 0.1:
            return


def _spec(url: str, number: int) -> dict[str, Any]:
    name = f"team/app-{number % _REPOSITORIES}"
    hour, minute = 1 + number % 3, number % 60
    # Not in the hours of the measurement.
    away = (datetime.now(UTC).hour + 8 + hour) % 24
    return policy_spec(url, repositories={"include": [name]}, schedule=f"{minute} {away} * * *")


def _namespace(number: int) -> str:
    return f"tenant-{number % _NAMESPACES:02}"


def _key(policy: dict[str, Any]) -> tuple[str, str]:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]


def _told(usage: Usage) -> str:
    return f"{usage.memory('VmRSS'):.0f} MiB, {usage.memory('VmHWM'):.0f} MiB at most"


def _most(requests: Counter[str]) -> str:
    rest = sum(number for _, number in requests.most_common()[8:])
    told = [f"{what} {number}" for what, number in requests.most_common(8)] + ([f"others {rest}"] if rest else [])
    return f"{sum(requests.values())} ({', '.join(told)})" if told else "none"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        given = [int(each) for each in sys.argv[1:]]
        measure(Path(temporary), *[*given, *[1000, 50][len(given) :]])
