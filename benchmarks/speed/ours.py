"""One round of the operator's own engine: a whole run against a registry, with a world in memory around it.

Run as a process of its own for each round: `python -m benchmarks.speed.ours URL RESULT --work WORK …` prints what came
of it as JSON, and writes what it planned, or pruned, to the file RESULT: a line for each tag.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from typing_extensions import override

from benchmarks.speed.truth import NOW
from registry_cleanup.domain.course import Readings
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import (
    InUseRules,
    Limits,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagPattern,
)
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Aftermath, Failure, RunOrder, RunReport, Trigger
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.lanes import Gates, OwnLimits
from registry_cleanup.ports import Audit, Keep, Observer, Proceed, Registry, RegistryAddress, World
from registry_cleanup.registry.backend import open_registry
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.runner import Runner
from tests.support.clients import FixedSource, HandClock, SystemClock
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, long_published

NAMES_KEPT = 100
"""So many images the policy keeps that reads nothing but names."""

NAMES = "build-(?P<number>[0-9]*[0-7])"
"""The tags that it owns: none that shares its digest with another."""

_UID = "a-uid"
_CACHE_MIB = 256


@dataclass
class Counting(Observer):
    """Counts requests by method."""

    requests: Counter[str] = field(default_factory=Counter)

    @override
    def requested(self, method: str, status: int | None, *, again: bool) -> None:
        self.requests[method] += 1

    @override
    def scanned(self, seconds: float, *, whole: bool) -> None:
        return


@dataclass
class Written(Audit):
    """Writes what is to go, or what went, to a file, as the operator's log has a line for each."""

    file: TextIO
    prunes: bool
    failures: list[str] = field(default_factory=list)

    @override
    def planned(self, plan: RepositoryPlan) -> None:
        if not self.prunes:
            for group in plan.groups:
                self.file.writelines(f"{plan.repository} {tag} {group.digest}\n" for tag in group.tags)

    @override
    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        if outcome.outcome is Outcome.PRUNED:
            self.file.write(f"{repository} {outcome.tag} {outcome.digest}\n")

    @override
    def untagged(self, repository: str, outcome: UntaggedOutcome) -> None:
        return

    @override
    def failure(self, failure: Failure) -> None:
        self.failures.append(failure.message)

    @override
    def finished(self, report: RunReport) -> None:
        return


@dataclass
class Timed(Registry):
    """A registry whose deletions are timed apart from what goes before them.

    Attributes:
        began: when the first repository's deletions began, and what had been sent by then.
        ended: when the last one's ended.
    """

    registry: Registry
    sent: Callable[[], int]
    began: tuple[float, float, int] | None = None
    ended: tuple[float, float, int] | None = None

    @property
    @override
    def host(self) -> str:
        return self.registry.host

    @property
    @override
    def claimed_as(self) -> str:
        return self.registry.claimed_as

    @property
    @override
    def parallel(self) -> int:
        return self.registry.parallel

    @property
    @override
    def requests(self) -> int:
        return self.registry.requests

    @property
    @override
    def readings(self) -> Readings:
        return self.registry.readings

    @override
    async def clock_offset(self) -> timedelta | None:
        return await self.registry.clock_offset()

    @override
    async def repositories(self) -> Sequence[str]:
        return await self.registry.repositories()

    @override
    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        return await self.registry.deletion(repositories)

    @override
    async def aftermath(self) -> Aftermath | None:
        return await self.registry.aftermath()

    @override
    async def inventory(
        self,
        repository: str,
        needs: Callable[[Collection[str]], Needs],
        known: Mapping[Digest, Manifest],
    ) -> Inventory:
        return await self.registry.inventory(repository, needs, known)

    @override
    async def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        if self.began is None:
            self.began = self._now()
        async with aclosing(self.registry.prune(plan, deletion, proceed, keep)) as outcomes:
            async for outcome in outcomes:
                yield outcome
        self.ended = self._now()

    def _now(self) -> tuple[float, float, int]:
        return time.perf_counter(), time.process_time(), self.sent()


def policy(work: str, days: float, host: str) -> Policy:
    """Return a policy that does one kind of work: by age, or by names alone."""
    if work == "names":
        rule = Rule(
            "names",
            (TagPattern(NAMES),),
            most_recent=NAMES_KEPT,
            order_by=OrderBy.NUMERICAL,
            extract="number",
        )
    else:
        rule = Rule("age", (TagPattern(".*"),), older_than=timedelta(days=days))
    return Policy(
        uid=_UID,
        registry=host,
        repositories=RepositorySelector((RepositoryGlob("**"),)),
        rules=(rule,),
        keep_tags=(TagPattern("latest"),),
        minimum_tags=1,
        grace_period=timedelta(0),
        limits=Limits(max_deletions=10_000_000, max_percent=100),
        in_use=InUseRules(enabled=False),
    )


@asynccontextmanager
async def opened(arguments: argparse.Namespace, observer: Observer) -> AsyncIterator[Registry]:
    """Open the registry as the composition root does, with the cache of facts that it has in a folder."""
    address = RegistryAddress(arguments.url, insecure=True)
    clock, own = SystemClock(), OwnLimits(arguments.concurrency)
    with ExitStack() as stack:
        facts = None
        if arguments.cache is not None:
            facts = stack.enter_context(closing(FactStore(arguments.cache, _CACHE_MIB, clock)))
        gates = Gates(arguments.concurrency)
        lane = stack.enter_context(gates.lane(Endpoint.of(address.url).server, "bench", own))
        async with open_registry(
            address, FixedSource(None), clock, own.most, lane, observer=observer, facts=facts
        ) as registry:
            yield registry


async def run(arguments: argparse.Namespace, result: TextIO) -> dict[str, object]:
    """Run once, and say what it took; raises `RuntimeError` where the run went wrong."""
    prunes = arguments.work == "deletion"
    observer, audit = Counting(), Written(result, prunes)
    store = long_published(_UID)  # a plan that was published long ago: grace periods are over
    world = World(FixedGuard(), audit, HandClock(NOW), store, FixedUse(), FixedRivals(), FixedClaims())
    started, worked = time.perf_counter(), time.process_time()
    async with opened(arguments, observer) as registry:
        timed = Timed(registry, observer.requests.total)

        @asynccontextmanager
        async def connect() -> AsyncIterator[Registry]:
            yield timed

        idle = memory("VmRSS")
        order = RunOrder("bench", Trigger.REQUEST, plan_only=not prunes, start=world.clock.now())
        report = await Runner(policy(arguments.work, arguments.days, registry.host), connect, world).run(order)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    if audit.failures or report.counts.tags_failed:
        raise RuntimeError(f"the run went wrong ({report.phase}): {audit.failures[:3]} {report.message}")
    found: dict[str, object] = {
        "requests": observer.requests.total(),
        "methods": dict(observer.requests),
        "seconds": seconds,
        "cpu": cpu,
        "idle": idle,
        "peak": memory("VmHWM"),
        "tags": report.counts.tags_scanned,
    }
    if timed.began is not None and timed.ended is not None:
        took = (last - first for first, last in zip(timed.began, timed.ended, strict=True))
        found["pruning"] = dict(zip(("seconds", "cpu", "requests"), took, strict=True))
    return found


def memory(field_: str) -> int:
    """Return a figure of this process's memory in bytes.

    `VmHWM` rather than `ru_maxrss`, which counts what the parent had at the time of the fork.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{field_}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Do one round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("result", type=Path)
    parser.add_argument("--work", choices=("cold", "warm", "names", "deletion"), required=True)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--days", type=float, default=30.0, help="older than this goes")
    parser.add_argument("--cache", type=Path, help="folder of the cache of facts")
    parser.add_argument("--profile", type=Path, help="where to write a cProfile of the run")
    arguments = parser.parse_args()
    with arguments.result.open("w") as result:
        if arguments.profile is None:
            found = asyncio.run(run(arguments, result))
        else:
            import cProfile  # only here: it is a thing of development

            with cProfile.Profile() as profile:
                found = asyncio.run(run(arguments, result))
            profile.dump_stats(arguments.profile)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
