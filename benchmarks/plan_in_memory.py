"""How long, and in how much memory, tags are planned, guarded, told and named; nothing is read from anywhere.

Run it from the repository's root: `.venv/bin/python -m benchmarks.plan_in_memory [number of tags]`. First each step by
itself, on one repository; then all that a run does with what it read, for the same tags in one repository and in 200.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import resource
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from pythonjsonlogger.json import JsonFormatter

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.guards import guard
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Blob, Format, Inventory, Manifest
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import plan_hash, plan_repository
from registry_cleanup.domain.policy import (
    Limits,
    OnExceeded,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagPattern,
    Untagged,
)
from registry_cleanup.domain.published import decode, encode, nothing_published
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.domain.space import SpaceEstimate
from registry_cleanup.domain.tally import Tally
from registry_cleanup.telemetry.audit import LogAudit

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
DAYS = 30  # older goes
MANY = 200  # repositories of a whole run
_T = TypeVar("_T")


def large_repository(size: int, name: str = "team/app", minutes: int = 15) -> Inventory:
    """Return a repository of `size` tags, each so many minutes older than the one before.

    Every 10th tag stands on the digest of the next one, every 20th is one of these and called `release-…`. Every 50th
    is an index of two platforms. Every 25th has a signature, a tag more. All images share two
    layers, and have one and a config of their own.
    """
    prefix = "" if name == "team/app" else f"{name} "
    base = [Blob(address(f"layer {number}"), 30_000_000) for number in range(2)]
    tags: dict[str, Digest] = {}
    manifests: dict[Digest, Manifest] = {}
    for number in range(size):
        created = NOW - timedelta(minutes=minutes * number)
        tag = f"release-{number}" if number % 20 == 10 else f"build-{number}"
        if number % 10 == 0 and number + 1 < size:
            tags[tag] = address(f"{prefix}manifest {number + 1}")
            continue
        listed = [f"{prefix}platform {number} {part}" for part in ("amd64", "arm64")] if number % 50 == 3 else []
        for word in [*listed, f"{prefix}manifest {number}"]:
            children = tuple(address(each) for each in listed) if "manifest" in word else ()
            kind = Format.INDEX if children else Format.IMAGE
            config = address(f"config of {word}") if kind is Format.IMAGE else None
            own = [Blob(address(word), 800)]
            if config is not None:
                own += [Blob(config, 2_700), *base, Blob(address(f"layer of {word}"), 5_000_000)]
            manifests[address(word)] = Manifest(address(word), kind, children, None, created, config, tuple(own))
        tags[tag] = address(f"{prefix}manifest {number}")
        if number % 25 == 7:
            signature = address(f"{prefix}signature of {number}")
            tags[tags[tag].replace(":", "-") + ".sig"] = signature
            manifests[signature] = Manifest(signature, Format.IMAGE)
    return Inventory(name, tags, manifests=manifests)


def large_use(size: int) -> InUse:
    """Return what is in use of such a repository: every 200th image, by its config."""
    return InUse(frozenset(address(f"config of manifest {number}") for number in range(5, size, 200)))


def usual_policy() -> Policy:
    """Return a policy that prunes what is older than `DAYS`, and counts images."""
    return Policy(
        uid="a-uid",
        registry="registry.example.com:443",
        repositories=RepositorySelector((RepositoryGlob("**"),)),
        rules=[Rule("builds", (TagPattern(".*"),), older_than=timedelta(days=DAYS), most_recent=100)],
        keep_tags=[TagPattern("latest"), TagPattern("release-.*")],
        minimum_tags=1,
        untagged=Untagged.DELETE,
        limits=Limits(1000, 50, OnExceeded.TRUNCATE),
    )


def address(word: str) -> Digest:
    """Return a digest that stands for `word`."""
    return parse_digest("sha256:" + hashlib.sha256(word.encode()).hexdigest())


def main(size: int) -> None:
    """Measure each step for both units of deletion; the memory in a second go, as to trace it takes time."""
    policy, there, using = usual_policy(), large_repository(size), large_use(size)
    sys.stdout.write(f"{there.size} tags, {len(there.manifests)} manifests, {len(using.digests)} digests in use\n")
    for unit in DeletionUnit:
        sys.stdout.write(f"{unit.value}:\n")
        plan = _measured("plan", partial(plan_repository, policy, there, unit, NOW, using))
        _measured("the part that goes", plan.only_going)
        _measured("hash", partial(plan_hash, policy, [plan]))
        _measured("space", partial(SpaceEstimate().add, plan))
        before = nothing_published(policy.uid).renewed([plan], (), "0" * 64, NOW - timedelta(days=2))
        content = _measured("published plan as bytes", partial(encode, before))
        _measured("and back", partial(decode, policy.uid, content))
        _measured("guards, truncating to 1000", partial(guard, policy, [plan], before, NOW, plan_only=False))
        sys.stdout.write(f"  {plan.planned} tags go, {len(plan.untagged)} manifests are left without a name\n")
    for number in (1, MANY):
        whole_run(policy, number, size // number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"The process took {peak} MiB at most, the repository and the tracing among it.\n")


@dataclass(slots=True)
class _Clock:
    """Adds up the processor's time of each step."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[step] += time.process_time() - start


def whole_run(policy: Policy, number: int, size: int) -> None:
    """Do what a run that is the second one of its policy does, for `number` repositories of `size` tags.

    The repositories are made one by one, so that none is in memory but the one in work; the log goes nowhere.
    """
    using, large = large_use(size), lambda name: large_repository(size, name, 15 * number)
    names = ["team/app", *(f"team/app-{each}" for each in range(1, number))]
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        log = logging.getLogger("registry_cleanup.audit")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        clock = _Clock()
        _run(policy, map(large, names), using, clock)
        tracemalloc.start()
        _run(policy, map(large, names), using, _Clock(), told=sys.stdout.write)
        tracemalloc.stop()
        log.removeHandler(handler)
    steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in clock.seconds.items())
    sys.stdout.write(f"  seconds of a processor: {steps}\n")


def _run(
    policy: Policy,
    repositories: Iterable[Inventory],
    using: InUse,
    clock: _Clock,
    told: Callable[[str], object] = lambda _: None,
) -> None:
    """Plan and tell one repository after the other, then the whole, as `runner` does."""
    order = RunOrder("run", Trigger.SCHEDULE, plan_only=False, start=NOW)
    tally, audit = Tally(policy, order), LogAudit("team", "builds", policy.registry, order)
    count, largest, in_work = 0, 0, 0
    start, _ = tracemalloc.get_traced_memory()
    for there in repositories:
        count, largest = count + 1, max(largest, there.size)
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        with clock.of("needs"):
            needs(policy, there.repository, there.tags, DeletionUnit.DIGEST, using)
        with clock.of("plan"):
            plan = plan_repository(policy, there, DeletionUnit.DIGEST, NOW, using)
        with clock.of("log"):
            audit.planned(plan)
        with clock.of("take"):
            tally.take(plan)
        in_work = tracemalloc.get_traced_memory()[1] - held
        del there, plan
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.reset_peak()
    with clock.of("summarize"):
        tally.summarize(NOW)
    before = nothing_published(policy.uid).renewed(tally.plans, (), "0" * 64, NOW - timedelta(days=2))
    old = decode(policy.uid, encode(before))
    del before
    with clock.of("guard"):
        tally.take_guarded(guard(policy, tally.plans, old, NOW, plan_only=False))
    with clock.of("publish"):
        encode(old.renewed(tally.plans, (), "0" * 64, NOW))
    with clock.of("report"):
        tally.report.compressed({})
    end, peak = tracemalloc.get_traced_memory()
    told(
        f"a run over {count} repositories of {largest} tags:\n"
        f"  MiB: the last repository in work {in_work / 2**20:.0f} beside its inventory, "
        f"held of all {held / 2**20:.1f}, "
        f"guarded and published {(peak - start) / 2**20:.0f} at most, {(end - start) / 2**20:.0f} at the end\n"
    )


def _measured(what: str, step: Callable[[], _T]) -> _T:
    start, worked = time.perf_counter(), time.process_time()
    result = step()
    seconds, work = time.perf_counter() - start, time.process_time() - worked
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sys.stdout.write(f"  {what}: {seconds:.2f} s ({work:.2f} s of a processor), {peak / 2**20:.0f} MiB at most\n")
    return result


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
