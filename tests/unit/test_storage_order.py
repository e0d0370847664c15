"""What a collection prunes in the storage: the plan of the last run, if that came to nothing but the registry's 405."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import Failure, RunOrder, ScanSummary
from registry_cleanup.domain.written_use import read_use
from registry_cleanup.kube.collecting.job import IN_USE_KEY, PLAN_KEY, StorageOrder
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.kube.status import PolicyStatus
from registry_cleanup.ports import RunError, Scan
from registry_cleanup.storage_order import StorageOrders
from tests.support.builders import NOW, digest, minimal_spec, resource
from tests.support.clients import HandClock
from tests.support.stored import APP, HandStorage, fill, report_of

_RUN = "run-1"
_PLAN: Mapping[str, Any] = {
    "hash": "h",
    "observedGeneration": 1,
    "generatedAt": "2026-06-15T12:00:00Z",
    "deletions": 1,
    "sample": [],
}


@dataclass
class _Cluster:
    """What is read and written."""

    lines: list[dict[str, Any]]
    policy: ParsedPolicy
    in_use: InUse = field(default_factory=InUse)
    unknown: Failure | None = None
    openshift: bool = False
    written: dict[str, bytes] = field(default_factory=dict)
    report: bytes | None = None

    async def last_report(self) -> bytes | None:
        if self.report is not None:
            return self.report or None
        return gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in self.lines))

    def name(self, part: str) -> str:
        return f"policy-{part}"

    @asynccontextmanager
    async def explained(self) -> AsyncIterator[None]:
        yield

    async def write(self, name: str, binary: dict[str, bytes], data: dict[str, str]) -> None:
        assert (name, data) == ("policy-storage-plan", {})
        self.written = binary

    @asynccontextmanager
    async def scan(self, order: RunOrder) -> AsyncIterator[Scan]:
        if self.unknown is not None:
            raise RunError(self.unknown)
        assert order.references_before == 7

        async def nothing() -> InUse:
            return InUse()

        yield Scan(self.in_use, ScanSummary(1), nothing)

    async def on_openshift(self) -> bool:
        return self.openshift

    async def order(self, status: PolicyStatus) -> StorageOrder:
        orders = StorageOrders(self, self, self, HandClock(NOW), self.on_openshift)  # type: ignore[arg-type]
        return await orders.order(self.policy, status)


def _status(**changes: Any) -> PolicyStatus:  # noqa: ANN401 - values of any field
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "DeletionDisabled",
        "message": "405",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-06-15T12:00:00Z",
    }
    return PolicyStatus.model_validate(
        {
            "conditions": [stalled | changes.pop("stalled", {})],
            "lastRun": {
                "id": _RUN,
                "trigger": "Schedule",
                "phase": "Failed",
                "dryRun": False,
                "startTime": "2026-06-15T12:00:00Z",
            },
            "plan": _PLAN,
            "inUse": {"references": 7, "observedGeneration": 1, "scanTime": "2026-06-15T12:00:00Z"},
            **changes,
        }
    )


@pytest.fixture
def cluster(tmp_path: Path) -> _Cluster:
    spec = minimal_spec()
    spec["registry"] = {"url": "https://registry.example.com"}
    policy = parse_policy(resource(spec | {"undo": {"window": "5d"}}))
    made = NOW - timedelta(minutes=30)
    plan = replace(fill(HandStorage(tmp_path / "plan")), policy=policy.uid, run=_RUN, generated_at=made)
    return _Cluster(report_of(plan, {}), policy)


async def test_the_job_gets_the_plan_of_the_run_and_what_is_in_use_by_now(cluster: _Cluster) -> None:
    cluster.in_use = InUse(frozenset({digest("used")}), frozenset({(APP, "old-1"), ("other", "v1")}))
    order = await cluster.order(_status())
    assert order == StorageOrder("policy-storage-plan", _RUN, timedelta(days=5))
    assert list(read_report(cluster.written[PLAN_KEY])) == cluster.lines
    use = read_use(gzip.decompress(cluster.written[IN_USE_KEY]))
    assert use == InUse(frozenset({digest("used")}), frozenset({(APP, "old-1")}))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"stalled": {"status": "False", "reason": "Working"}}, "did not end with DeletionDisabled"),
        ({"stalled": {"reason": "LoginFailed"}}, "did not end with DeletionDisabled"),
        ({"lastRun": None}, "did not end with DeletionDisabled"),
        ({"plan": None}, "was changed since"),
        ({"plan": {**_PLAN, "observedGeneration": 0}}, "was changed since"),
    ],
)
async def test_whatever_else_kept_the_run_from_pruning_keeps_the_collection_too(
    cluster: _Cluster, status: dict[str, Any], why: str
) -> None:
    order = await cluster.order(_status(**status))
    assert order.config_map is None
    assert why in (order.why_not or "")
    assert cluster.written == {}


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({"run": "another"}, "not that of the last run"),
        ({"generatedAt": (NOW - timedelta(minutes=61)).isoformat()}, "older than 1h"),
        ({"unapproved": 2}, "wait for approval"),
        ({"planOnly": True}, "only planned"),
        ({"repositoriesCut": 1}, "cut off"),
        ({"plan": "b" * 64}, "cut, narrowed to a part, or changed"),
    ],
)
async def test_a_report_that_may_not_be_pruned_by_is_not(cluster: _Cluster, head: dict[str, Any], why: str) -> None:
    cluster.lines[0] |= head
    order = await cluster.order(_status())
    assert order.config_map is None
    assert why in (order.why_not or "")
    assert cluster.written == {}


@pytest.mark.parametrize(("content", "why"), [(b"", "is gone"), (b"\x1f\x8b\x08broken", "cannot be pruned by")])
async def test_a_report_that_is_gone_or_damaged_is_told(cluster: _Cluster, content: bytes, why: str) -> None:
    cluster.report = content
    assert why in ((await cluster.order(_status())).why_not or "")


async def test_what_the_plan_holds_back_is_no_reason_to_write_anything(cluster: _Cluster) -> None:
    tags = [line["tag"] for line in cluster.lines if line.get("verdict") == "Prune"]
    assert tags
    cluster.lines += [{"type": "held", "repository": APP, "tag": tag, "reason": "GracePeriod"} for tag in tags]
    cluster.lines[0]["spared"] = len(tags)
    assert (await cluster.order(_status())).why_not == "nothing of the last run's plan may go yet"


async def test_where_nobody_knows_what_is_in_use_nothing_is_pruned(cluster: _Cluster) -> None:
    cluster.unknown = Failure("InUseUnknown", "pods cannot be listed")
    order = await cluster.order(_status())
    assert (order.config_map, order.why_not) == (None, "pods cannot be listed")


@pytest.mark.parametrize("openshift", [True, False])
async def test_no_user_is_named_where_each_namespace_has_its_own(cluster: _Cluster, openshift: bool) -> None:
    cluster.openshift = openshift
    assert (await cluster.order(_status())).as_root is not openshift
