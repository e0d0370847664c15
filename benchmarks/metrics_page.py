"""What the metrics of many policies cost: memory, the size of the page, and the time to spell it out.

Run from the repository's root: `python benchmarks/metrics_page.py [policies]`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry_cleanup.domain.figures import ConditionFigure, RunFigures, SpecFigures, StatusFigures
from registry_cleanup.domain.run import Phase
from registry_cleanup.telemetry import Metrics

_NOW = datetime(2026, 6, 15, tzinfo=UTC)
_CONDITIONS = {
    "DeleteSupported": "DeletesByTag",
    "InUseKnown": "Scanned",
    "LimitExceeded": "WithinLimits",
    "PolicyConflict": "NoConflict",
    "Ready": "Succeeded",
    "Reconciling": "Planned",
    "RegistryReachable": "Reached",
    "Stalled": "Working",
}
_KEPT = ("Unmatched", "KeepTags", "MostRecent", "NotOldEnough", "InUse", "GracePeriod")


def _fill(metrics: Metrics, policies: int) -> None:
    for number in range(policies):
        spec = SpecFigures(_NOW, scheduled=True, interval=timedelta(days=1), suspended=False, dry_run=False)
        series = metrics.policies.open(f"team-{number % 100}", f"policy-of-builds-{number}", spec)
        run = RunFigures(Phase.SUCCEEDED, 12.0, {reason: number + at for at, reason in enumerate(_KEPT)})
        conditions = tuple(ConditionFigure(type_, "True", reason) for type_, reason in _CONDITIONS.items())
        series.status(StatusFigures(_NOW, run, number, number * 1_000_000, 5000 + number, conditions))
        series.credential_expires(_NOW)


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1_000_000


async def main(policies: int) -> None:
    """Print what `policies` cost."""
    metrics = Metrics()
    await metrics.page("", "")
    empty = _resident()
    _fill(metrics, policies)
    filled = _resident()
    start = time.perf_counter()
    page = await metrics.page("", "")
    plain = time.perf_counter() - start
    start = time.perf_counter()
    packed = await metrics.page("", "gzip")
    both = time.perf_counter() - start
    for _ in range(5):
        await metrics.page("", "gzip")
    series = sum(not line.startswith(b"#") for line in page.content.splitlines())
    print(  # noqa: T201 - its output is its purpose
        f"{policies} policies: {series} series, {len(page.content) / 1e6:.2f} MB in {plain:.2f} s, "
        f"{len(packed.content) / 1e6:.2f} MB compressed in {both:.2f} s; memory {empty:.0f} MB empty, "
        f"+{filled - empty:.1f} MB with figures, +{_resident() - empty:.1f} MB after seven pages"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
