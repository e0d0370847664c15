"""Many tenants at one registry: each gets its share, all of them keep to its limits, and none empties another's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import Fault, FaultyRegistry, Forward, before, faulty_registry
from tests.support.images import push_image
from tests.support.operator import Operator, operator
from tests.support.policies import (
    LIMIT,
    Gate,
    Namespace,
    condition,
    days_ago,
    fresh_namespace,
    is_planned,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

_MANY = 10
# For runs that are slow on purpose, on a busy machine.
_LONG = 90.0


@dataclass
class _Seen:
    """A request at the registry: what it asked, when it came and when it was answered, in seconds."""

    method: str
    path: str
    came: float
    went: float = float("inf")


@dataclass
class _Watch:
    """What is under way at a registry.

    Attributes:
        seen: all requests, in the order of their coming.
        most: so many were under way at a time at most.
    """

    seen: list[_Seen] = field(default_factory=list)
    most: int = 0
    _now: int = 0

    def watching(self, seconds: float) -> Fault:
        """Pass each request on after so many seconds, and take note of it."""

        async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
            seen = _Seen(request.method, request.path, time.monotonic())
            self.seen.append(seen)
            self._now += 1
            self.most = max(self.most, self._now)
            try:
                await asyncio.sleep(seconds)
                return (await forward()).response()
            finally:
                self._now -= 1
                seen.went = time.monotonic()

        return fault

    def of(self, repository: str) -> list[_Seen]:
        return [seen for seen in self.seen if f"/{repository}/" in seen.path]

    def busiest(self, seconds: float, of: Sequence[_Seen] | None = None) -> int:
        """Return how many requests came in the busiest time of so many seconds."""
        came = [seen.came for seen in (self.seen if of is None else of)]
        return max(sum(start <= moment < start + seconds for moment in came) for start in came)


@contextmanager
def _namespaces(plane: ControlPlane, *names: str) -> Iterator[list[Namespace]]:
    with ExitStack() as stack:
        yield [stack.enter_context(fresh_namespace(plane, name, [])) for name in names]


def _alone(repository: str, url: str, **changes: object) -> dict[str, object]:
    """Return the spec of a policy for one repository, which it does not have to look for."""
    return policy_spec(url, dryRun=False, repositories={"include": [repository]}, **changes)


def _planned(namespace: Namespace, name: str) -> None:
    namespace.wait(is_planned, f"the plan of {name}", name, limit=_LONG)


def _handled(namespace: Namespace, name: str) -> str:
    """Wait for the end of the run that was requested, and return its phase."""

    def is_so(policy: dict[str, object]) -> bool:
        status = policy.get("status", {})
        assert isinstance(status, dict)
        return status.get("lastHandledRunRequest") == "now" and last_run(policy)["phase"] != "Running"

    phase: str = last_run(namespace.wait(is_so, f"the run of {name}", name, limit=_LONG))["phase"]
    return phase


@pytest.mark.parametrize(
    ("runs", "requests"),
    [
        pytest.param(3, 4, id="few places for runs", marks=pytest.mark.thorough),
        pytest.param(12, 3, id="few requests at a time"),
    ],
)
def test_a_namespace_with_many_policies_does_not_starve_those_with_one(
    registry3: RegistryServer, own_plane: ControlPlane, namespace_name: str, tmp_path: Path, runs: int, requests: int
) -> None:
    many = [f"team/many-{number}" for number in range(_MANY)]
    single = ["team/one", "team/two"]
    for repository in (*many, *single):
        push_builds(registry3.url, repository, number=3)
    watch = _Watch()
    settings = {"CONCURRENT_RUNS": str(runs), "MAX_CONCURRENCY": str(requests)}
    spaces = _namespaces(own_plane, *(f"{namespace_name}-{word}" for word in ("many", "one", "two")))
    with faulty_registry(registry3.url) as proxy, spaces as (big, *small):
        where = [(big, repository) for repository in many] + list(zip(small, single, strict=True))
        names = {repository: repository.replace("/", "-") for _, repository in where}
        for namespace, repository in where:
            namespace.apply(_alone(repository, proxy.url), names[repository])
        with operator(own_plane, tmp_path / "operator", settings):
            for namespace, repository in where:
                _planned(namespace, names[repository])
            # All are due before the first of them gets an answer, those with one policy last.
            gate = Gate()
            proxy.inject(before(gate), times=1)
            proxy.inject(watch.watching(0.02))
            for namespace, repository in where:
                namespace.request_run("now", names[repository])
            gate.open()
            assert {_handled(namespace, names[repository]) for namespace, repository in where} == {"Succeeded"}
    assert 1 < watch.most <= requests
    of_many = sorted(seen.came for repository in many for seen in watch.of(repository))
    for repository in single:
        end = max(seen.went for seen in watch.of(repository))
        share = sum(came < end for came in of_many) / len(of_many)
        assert share < 0.8, f"{repository} waited for {share:.0%} of all that the other namespace wanted"


def test_all_policies_together_and_each_by_itself_keep_to_their_rate(
    registry3: RegistryServer, own_plane: ControlPlane, namespace_name: str, tmp_path: Path
) -> None:
    in_all, own = 25, 8
    repositories = ["team/slow", "team/one", "team/two"]
    for repository in repositories:
        push_builds(registry3.url, repository, number=4)
    watch = _Watch()
    settings = {"MAX_REQUESTS_PER_SECOND": str(in_all), "CONCURRENT_RUNS": "3"}
    with faulty_registry(registry3.url) as proxy, _namespaces(own_plane, namespace_name) as (namespace,):
        proxy.inject(watch.watching(0))
        for repository in repositories:
            limits = {"limits": {"requestsPerSecond": own, "maxConcurrency": 2}} if repository == "team/slow" else {}
            namespace.apply(_alone(repository, proxy.url, **limits), repository.replace("/", "-"))
        with operator(own_plane, tmp_path / "operator", settings):
            for repository in repositories:
                _planned(namespace, repository.replace("/", "-"))
                namespace.request_run("now", repository.replace("/", "-"))
            for repository in repositories:
                assert _handled(namespace, repository.replace("/", "-")) == "Succeeded"
    slow = watch.of("team/slow")
    assert sum(seen.method == "DELETE" and "build-" in seen.path for seen in slow) == 2
    # Some may have been under way a little longer than others: so many more may arrive together.
    late = 4
    for seconds in (1.0, 3.0):
        assert watch.busiest(seconds) <= in_all * seconds + in_all / 20 + late
        assert watch.busiest(seconds, slow) <= own * seconds + 1 + late


def _pushed(url: str, *tags: str, repository: str = "team/app") -> None:
    for tag in tags:
        push_image(url, repository, [tag], created=days_ago(90), seed=f"{repository} {tag}")


def _prunes(letter: str, url: str, *, repository: str = "team/app", dry_run: bool = False) -> dict[str, object]:
    """Return the spec of a policy that prunes `<letter>-<number>`."""
    rule = {"name": letter, "tags": {"include": [f"{letter}-[0-9]+"]}, "olderThan": "30d"}
    return policy_spec(url, dryRun=dry_run, repositories={"include": [repository]}, rules=[rule])


@contextmanager
def _held(namespace: Namespace, proxy: FaultyRegistry, name: str, tag: str) -> Iterator[Callable[[], None]]:
    """Have a policy prune, with its deletion of `tag` held up until what is yielded is called."""
    gate = Gate()
    proxy.inject(before(gate), method="DELETE", path=f".*/manifests/{tag}", times=1)
    namespace.request_run("now", name)
    gate.wait()
    try:
        yield gate.open
    finally:
        gate.open()


def test_runs_in_other_repositories_of_one_registry_overlap(
    registry3: RegistryServer, shared_operator: Operator, namespace: Namespace, crane: Crane
) -> None:
    _pushed(registry3.url, "a-1", "latest")
    _pushed(registry3.url, "b-1", "latest", repository="team/web")
    with faulty_registry(registry3.url) as proxy:
        namespace.apply(_prunes("a", proxy.url), "first")
        namespace.apply(_prunes("b", proxy.url, repository="team/web"), "second")
        for name in ("first", "second"):
            namespace.planned(name)
        with _held(namespace, proxy, "first", "a-1"):
            assert last_run(namespace.run("now", "second"))["counts"]["tagsPruned"] == 1
            assert last_run(namespace.policy("first"))["phase"] == "Running"
        assert last_run(namespace.handled("now", "first"))["counts"]["tagsPruned"] == 1
    assert shared_operator.process.exit_code is None
    assert crane.ls(f"{registry3.host}/team/web") == ["latest"]


def test_a_policy_that_becomes_live_waits_for_the_run_that_counts_on_its_tags(
    registry3: RegistryServer, shared_operator: Operator, namespace: Namespace, crane: Crane
) -> None:
    """Each counts on the other's tags for minTagsPerRepository: together they would leave nothing."""
    _pushed(registry3.url, "a-1", "a-2", "b-1", "b-2")
    with faulty_registry(registry3.url) as proxy:
        namespace.apply(_prunes("b", proxy.url, dry_run=True), "older")
        namespace.planned("older")
        namespace.apply(_prunes("a", proxy.url), "younger")  # a dry run is no rival
        assert namespace.planned("younger")["status"]["plan"]["deletions"] == 2
        with _held(namespace, proxy, "younger", "a-.*") as go_on:
            # Planning waits for nobody; and the older one prunes there from now on.
            namespace.change({"dryRun": False}, "older")
            assert namespace.planned("older")["status"]["plan"]["deletions"] == 2
            namespace.request_run("now", "older")
            waits = {"policy": f"{namespace.name}/older", "message": _WAITS}
            wait_until(lambda: shared_operator.log_lines(**waits) != [], LIMIT, "the older policy waits")
            go_on()
        assert last_run(namespace.handled("now", "younger"))["counts"]["tagsPruned"] == 2
        done = namespace.handled("now", "older")
    assert last_run(done)["counts"]["tagsPruned"] == 1
    assert last_run(done)["keptByReason"] == {"MinimumTags": 1}
    assert condition(done, "PolicyConflict")["status"] == "True"
    left = crane.ls(f"{registry3.host}/team/app")
    assert len(left) == 1
    assert left[0].startswith("b-")
    deleted = [request.path[-3:] for request in proxy.requests if request.method == "DELETE"]
    assert [name[0] for name in deleted if name[1] == "-"] == ["a", "a", "b"]  # never both at once


_WAITS = "the run waits for others that work in the same repositories"
