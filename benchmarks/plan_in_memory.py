"""How long, and in how much memory, a large repository is planned, guarded and named; nothing is read from anywhere.

Run it from the repository's root: `.venv/bin/python -m benchmarks.plan_in_memory [number of tags]`.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.guards import guard
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
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
from registry_cleanup.domain.space import SpaceEstimate

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
DAYS = 30  # older goes
_T = TypeVar("_T")


def large_repository(size: int) -> Inventory:
    """Return a repository of `size` tags, each a quarter of an hour older than the one before.

    Every 10th tag stands on the digest of the next one, every 20th is one of these and called `release-…`. Every 50th
    is an index of two platforms. Every 25th has a signature, a tag more.
    """
    tags: dict[str, Digest] = {}
    manifests: dict[Digest, Manifest] = {}
    for number in range(size):
        created = NOW - timedelta(minutes=15 * number)
        name = f"release-{number}" if number % 20 == 10 else f"build-{number}"
        if number % 10 == 0 and number + 1 < size:
            tags[name] = address(f"manifest {number + 1}")
            continue
        listed = [f"platform {number} {part}" for part in ("amd64", "arm64")] if number % 50 == 3 else []
        for word in [*listed, f"manifest {number}"]:
            children = tuple(address(each) for each in listed) if word.startswith("manifest") else ()
            kind = Format.INDEX if children else Format.IMAGE
            config = address(f"config of {word}") if kind is Format.IMAGE else None
            manifests[address(word)] = Manifest(address(word), kind, children, None, created, config)
        tags[name] = address(f"manifest {number}")
        if number % 25 == 7:
            tags[tags[name].replace(":", "-") + ".sig"] = address(f"signature of {number}")
            manifests[address(f"signature of {number}")] = Manifest(address(f"signature of {number}"), Format.IMAGE)
    return Inventory("team/app", tags, manifests=manifests)


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"The process took {peak} MiB at most, the repository and the tracing among it.\n")


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
