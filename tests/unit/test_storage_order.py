"""What a collection prunes in the storage: the plan of the last run, if that came to nothing but the registry's 405."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
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
from registry_cleanup.kube.collecting.job import IN_USE_KEY, PLAN_KEY, OrderFile, StorageOrder
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.kube.status import PolicyStatus, ReportRef
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
_LAST: Mapping[str, Any] = {
    "id": _RUN,
    "trigger": "Schedule",
    "phase": "Failed",
    "dryRun": False,
    "startTime": "2026-06-15T12:00:00Z",
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
    sha256: str | None = None

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
        (key,) = binary
        assert (key, data) == ({"policy-storage-plan": PLAN_KEY, "policy-storage-in-use": IN_USE_KEY}[name], {})
        self.written[name] = binary[key]

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
        last, content = status.last_run, await self.last_report()
        if last is not None and last.report_ref is None and content is not None:
            told = ReportRef(name="r", key="k", sha256=self.sha256 or hashlib.sha256(content).hexdigest())
            status = status.model_copy(update={"last_run": last.model_copy(update={"report_ref": told})})
        orders = StorageOrders(
            self,  # type: ignore[arg-type]  # as much of the three as orders ask for
            self,  # type: ignore[arg-type]
            self,
            HandClock(NOW),
            self.on_openshift,
        )
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
            "lastRun": _LAST,
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
    content = {name: cluster.written[f"policy-storage-{name}"] for name in ("plan", "in-use")}
    files = [OrderFile(f"policy-storage-{name}", hashlib.sha256(each).hexdigest()) for name, each in content.items()]
    assert order == StorageOrder((files[0], files[1]), _RUN, timedelta(days=5))
    assert list(read_report(content["plan"])) == cluster.lines
    use = read_use(gzip.decompress(content["in-use"]))
    assert use == InUse(frozenset({digest("used")}), frozenset({(APP, "old-1")}))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"stalled": {"status": "False", "reason": "Working"}}, "did not end with DeletionDisabled"),
        ({"stalled": {"reason": "LoginFailed"}}, "did not end with DeletionDisabled"),
        ({"lastRun": None}, "did not end with DeletionDisabled"),
        # The condition is of a run before it: nobody knows what would have kept this one from pruning.
        ({"lastRun": {**_LAST, "phase": "Interrupted"}}, "did not end with DeletionDisabled"),
        ({"lastRun": {**_LAST, "phase": "Running"}}, "did not end with DeletionDisabled"),
        ({"lastRun": {**_LAST, "reportRef": {"name": "r", "key": "k"}}}, "not the one that the run wrote"),
        ({"plan": None}, "was changed since"),
        ({"plan": {**_PLAN, "observedGeneration": 0}}, "was changed since"),
    ],
)
async def test_whatever_else_kept_the_run_from_pruning_keeps_the_collection_too(
    cluster: _Cluster, status: dict[str, Any], why: str
) -> None:
    order = await cluster.order(_status(**status))
    assert order.files is None
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
    assert order.files is None
    assert why in (order.why_not or "")
    assert cluster.written == {}


@pytest.mark.parametrize(
    "forge",
    [
        lambda lines: lines[0].update(unapproved=0),
        lambda lines: lines[0].update(unapproved=0, generatedAt=NOW.isoformat()),
        lambda lines: lines.pop(),
    ],
)
async def test_a_report_that_somebody_changed_who_may_write_config_maps_is_not_pruned_by(
    cluster: _Cluster, forge: Callable[[list[dict[str, Any]]], object]
) -> None:
    tag = next(line["tag"] for line in cluster.lines if line.get("verdict") == "Prune")
    cluster.lines[0].update(unapproved=1, generatedAt=(NOW - timedelta(hours=2)).isoformat())
    cluster.lines.append({"type": "held", "repository": APP, "tag": tag, "reason": "GracePeriod"})
    content = await cluster.last_report()
    assert content is not None
    cluster.sha256 = hashlib.sha256(content).hexdigest()
    forge(cluster.lines)
    order = await cluster.order(_status())
    assert (order.files, cluster.written) == (None, {})
    assert "not the one that the run wrote" in (order.why_not or "")


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
    assert (order.files, order.why_not) == (None, "pods cannot be listed")


@pytest.mark.parametrize("openshift", [True, False])
async def test_no_user_is_named_where_each_namespace_has_its_own(cluster: _Cluster, openshift: bool) -> None:
    cluster.openshift = openshift
    assert (await cluster.order(_status())).as_root is not openshift
