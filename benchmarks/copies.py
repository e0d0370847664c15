"""What copies for undo cost: requests, seconds and bytes, beside the same run without them.

Run from the repository's root: `python -m benchmarks.copies [IMAGES…]`, by default 1,000 and 10,000. Each is pruned
from a Distribution 3.1 and a 2.8 on this machine, once with `undo.repository` and once without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.layout import Shape, written
from benchmarks.speed.ours import Counting, Written, opened, policy
from benchmarks.speed.truth import NOW
from registry_cleanup.domain.policy import UndoRules
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.ports import Registry, World
from registry_cleanup.runner import Runner, new_run_id
from tests.support.clients import HandClock
from tests.support.registries import Version, distribution
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, long_published

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_COPIES = "ops/undo"
_HEAD = "| Distribution | Tags pruned | Requests | with copies | Seconds | with copies | Artifacts | Bytes |\n"
_UNDO = UndoRules(timedelta(days=14), _COPIES)


async def _pruned(url: str, undo: UndoRules) -> tuple[int, int, float]:
    """Prune nearly all, and return how many tags went, with how many requests, in how many seconds."""
    arguments = argparse.Namespace(url=url, concurrency=16, cache=None)
    observer, audit = Counting(), Written(StringIO(), prunes=True)
    world = World(
        FixedGuard(), audit, HandClock(NOW), long_published("a-uid"), FixedUse(), FixedRivals(), FixedClaims()
    )
    began = time.perf_counter()
    async with opened(arguments, observer) as registry:

        @asynccontextmanager
        async def connect() -> AsyncIterator[Registry]:
            yield registry

        plain = policy("deletion", 1.0, registry.host)
        what = replace(plain, undo=undo, repositories=replace(plain.repositories, never=_COPIES))
        order = RunOrder(new_run_id(datetime.now(UTC)), Trigger.REQUEST, plan_only=False, start=world.clock.now())
        report = await Runner(what, connect, world).run(order)
    if audit.failures or report.counts.tags_failed:
        raise RuntimeError(f"the run went wrong ({report.phase}): {audit.failures[:3]} {report.message}")
    return report.counts.tags_pruned, observer.requests.total(), time.perf_counter() - began


def _kept(url: str) -> tuple[int, int]:
    """Return how many artifacts hold the copies, and their bytes."""

    def get(reference: str) -> tuple[dict[str, object], int]:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        request = urllib.request.Request(f"{url}/v2/{_COPIES}/{reference}", headers=accept)  # noqa: S310 - of ours
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
            body = answer.read()
        found: dict[str, object] = json.loads(body)
        return found, len(body)

    names = get("tags/list")[0]["tags"]
    if not isinstance(names, list):
        raise TypeError("no list of tags")
    size = 0
    for name in names:
        manifest, own = get(f"manifests/{name}")
        layers = manifest["layers"]
        size += own + sum(layer["size"] for layer in layers) if isinstance(layers, list) else own
    return len(names), size


def _measure(version: Version, images: int, folder: Path) -> str:
    """Return a line of the table."""
    registry = written(Shape(1, images + images // 100, purpose="copies"), folder)
    found = []
    for undo in (UndoRules(), _UNDO):
        registry.restore()
        place = folder / f"server-{version}-{undo.enabled}-{images}"
        with distribution(version, place, storage=registry.storage, access_log=False) as server:
            found.append(asyncio.run(_pruned(server.url, undo)))
            kept = _kept(server.url) if undo.enabled else (0, 0)
    (tags, requests, seconds), (_, with_copies, longer) = found
    return (
        f"| {'3.1' if version == '3' else '2.8'} | {tags:,} | {requests:,} | {with_copies:,} | {seconds:.1f} s "
        f"| {longer:.1f} s | {kept[0]} | {kept[1] / 1024:,.0f} KiB |"
    )


def main(sizes: list[int]) -> None:
    """Print a table."""
    sys.stdout.write(_HEAD)
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for version in ("3", "2"):
        for images in sizes:
            with tempfile.TemporaryDirectory() as folder:
                sys.stdout.write(_measure(version, images, Path(folder)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1_000, 10_000])
