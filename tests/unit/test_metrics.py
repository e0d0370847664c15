"""What the metrics page counts, when it begins to, and when it stops."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry_cleanup.domain.figures import ConditionFigure, RunFigures, SpecFigures, StatusFigures, freed_bytes
from registry_cleanup.domain.run import Counts, Phase, PlanSummary, RunOrder, RunReport, Trigger
from registry_cleanup.places import Places
from registry_cleanup.telemetry import CountingAudit, Metrics
from tests.support.builders import NOW

_ORDER = RunOrder("run-1", Trigger.SCHEDULE, plan_only=False, start=NOW)
_PLAN = PlanSummary("a-hash", NOW, 8, (), reclaimable=8000)
_REPORT = RunReport(
    _ORDER,
    Phase.PARTIAL,
    NOW + timedelta(seconds=30),
    Counts(tags_planned=8, tags_pruned=4, tags_failed=1, tags_skipped=3),
    plan=_PLAN,
)
_SPEC = SpecFigures(NOW, scheduled=True, interval=timedelta(hours=1), suspended=False, dry_run=True)
_POLICY = "registry_cleanup_policy_"


async def _shown(metrics: Metrics, **labels: str) -> dict[str, float]:
    """Return the series with these labels, by name and the values of the other labels in their order."""
    page = await metrics.page("", "")
    return {
        " ".join(
            [sample.name, *(value for label, value in sorted(sample.labels.items()) if label not in labels)]
        ): sample.value
        for family in text_string_to_metric_families(page.content.decode())
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }


async def test_a_run_counts_for_the_process_and_for_its_policy() -> None:
    metrics = Metrics()
    metrics.policies.open("team", "builds", _SPEC)
    CountingAudit("team", "builds", "registry.example.com", _ORDER, metrics).finished(_REPORT)
    shown = await _shown(metrics)
    assert shown["registry_cleanup_runs_total Partial Schedule"] == 1
    assert shown["registry_cleanup_run_duration_seconds_sum prune"] == 30
    assert {
        name: shown[f"{_POLICY}{name}_total builds team"]
        for name in ("planned_tags", "pruned_tags", "failed_tags", "skipped_tags", "freed_bytes")
    } == {"planned_tags": 8, "pruned_tags": 4, "failed_tags": 1, "skipped_tags": 3, "freed_bytes": 4000}
    assert not [key for key in shown if "registry.example.com" in key]


async def test_what_may_be_counted_is_shown_from_the_beginning() -> None:
    metrics = Metrics()
    metrics.policies.open("team", "builds", _SPEC)
    shown = await _shown(metrics)
    for phase in Phase:
        assert (f"registry_cleanup_runs_total {phase.value} Request" in shown) == (phase is not Phase.RUNNING)
    assert shown["registry_cleanup_registry_requests_total error GET"] == 0
    assert shown[f"{_POLICY}pruned_tags_total builds team"] == 0


async def test_a_policy_that_is_closed_is_shown_no_more_whatever_ends_later() -> None:
    metrics = Metrics()
    series = metrics.policies.open("team", "builds", _SPEC)
    metrics.policies.open("team", "others", _SPEC)
    series.close()
    series.status(StatusFigures(last_success=NOW))
    series.credential_expires(NOW)
    metrics.run_ended("team", "builds", _REPORT)
    assert await _shown(metrics, name="builds") == {}
    assert (await _shown(metrics))["registry_cleanup_runs_total Partial Schedule"] == 1
    assert await _shown(metrics, name="others") != {}


async def test_a_policy_that_took_anothers_name_is_shown_once_and_stays_when_the_other_closes() -> None:
    metrics = Metrics()
    old = metrics.policies.open("team", "builds", _SPEC)
    metrics.run_ended("team", "builds", _REPORT)
    metrics.policies.open("team", "builds", _SPEC)
    old.close()
    lines = [line for line in (await metrics.page("", "")).content.decode().splitlines() if not line.startswith("#")]
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names))
    assert (await _shown(metrics, name="builds"))[f"{_POLICY}pruned_tags_total team"] == 0


async def test_the_last_run_stays_that_which_ended_while_another_one_is_under_way() -> None:
    metrics = Metrics()
    series = metrics.policies.open("team", "builds", _SPEC)
    series.status(StatusFigures(last_run=RunFigures(Phase.FAILED, 3.0, {"InUse": 2})))
    series.status(StatusFigures(last_run=None))
    shown = await _shown(metrics, namespace="team", name="builds")
    assert shown[f"{_POLICY}last_run_phase Failed"] == 1
    assert shown[f"{_POLICY}last_run_duration_seconds"] == 3
    assert shown[f"{_POLICY}last_run_kept_tags InUse"] == 2
    series.status(StatusFigures(last_run=RunFigures(Phase.SUCCEEDED, None)))
    shown = await _shown(metrics, namespace="team", name="builds")
    assert f"{_POLICY}last_run_phase Failed" not in shown
    assert f"{_POLICY}last_run_kept_tags InUse" not in shown
    assert f"{_POLICY}last_run_duration_seconds" not in shown


async def test_a_condition_is_shown_as_it_is_now_and_not_as_it_was() -> None:
    metrics = Metrics()
    series = metrics.policies.open("team", "builds", _SPEC)
    for status, reason in [("False", "Unreachable"), ("True", "Succeeded")]:
        series.status(StatusFigures(conditions=(ConditionFigure("Ready", status, reason),)))
    shown = await _shown(metrics, namespace="team", name="builds")
    assert [key for key in shown if "condition" in key] == [f"{_POLICY}condition Succeeded True Ready"]


@pytest.mark.parametrize(
    ("spec", "info", "interval"),
    [
        (_SPEC, "true true false", 3600),
        (replace(_SPEC, interval=None, suspended=True), "true true true", None),
        (replace(_SPEC, interval=None, scheduled=False, dry_run=False), "false false false", None),
    ],
)
async def test_only_a_policy_that_runs_by_itself_has_an_interval(
    spec: SpecFigures, info: str, interval: int | None
) -> None:
    metrics = Metrics()
    metrics.policies.open("team", "builds", spec)
    shown = await _shown(metrics, namespace="team", name="builds")
    assert shown[f"{_POLICY}info {info}"] == 1
    assert shown.get(f"{_POLICY}interval_seconds") == interval
    assert shown[f"{_POLICY}expected_since_timestamp_seconds"] == NOW.timestamp()


@pytest.mark.parametrize(
    ("status", "code"), [(200, "200"), (429, "429"), (None, "error"), (299, "2xx"), (799, "7xx"), (600, "6xx")]
)
async def test_codes_that_nobody_knows_share_a_series(status: int | None, code: str) -> None:
    metrics = Metrics()
    metrics.requested("GET", status, again=True)
    shown = await _shown(metrics)
    assert shown[f"registry_cleanup_registry_requests_total {code} GET"] == 1
    assert shown["registry_cleanup_registry_retries_total GET"] == 1


async def test_a_look_in_doubt_is_a_look_too() -> None:
    metrics = Metrics()
    metrics.scanned(2.0, whole=True)
    metrics.scanned(2.0, whole=True)
    metrics.scanned(1.0, whole=False)
    shown = await _shown(metrics)
    assert shown["registry_cleanup_in_use_scan_duration_seconds_sum"] == 5
    assert shown["registry_cleanup_in_use_doubtful_scans_total"] == 1


async def test_who_waits_for_a_place_and_who_has_one_is_told_as_it_is_when_the_page_is_asked_for() -> None:
    metrics, places = Metrics(), Places(1)
    metrics.observe_queue(lambda: places.running, lambda: places.waiting)

    async def numbers() -> tuple[float, float]:
        shown = await _shown(metrics)
        return shown["registry_cleanup_runs_running"], shown["registry_cleanup_runs_waiting"]

    async def enter() -> None:
        async with places.at("team"):
            pass

    async with places.at("team"):
        waits = asyncio.create_task(enter())
        gives_up = asyncio.create_task(enter())
        await asyncio.sleep(0)
        assert await numbers() == (1, 2)
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        assert await numbers() == (1, 1)
    await waits
    assert await numbers() == (0, 0)


async def test_two_processes_of_one_machine_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.observe_process(leads=lambda: True, crd_differs=lambda: True)
    assert (await _shown(one))["registry_cleanup_leader"] == 1
    assert (await _shown(other))["registry_cleanup_leader"] == 0
    assert (await _shown(other))["registry_cleanup_crd_differs"] == 0


@pytest.mark.parametrize(("planned", "pruned", "freed"), [(8, 8, 8000), (8, 4, 4000), (8, 0, 0), (0, 0, 0)])
def test_as_much_of_the_estimate_is_freed_as_was_pruned_of_the_plan(planned: int, pruned: int, freed: int) -> None:
    assert freed_bytes(replace(_REPORT, counts=Counts(tags_planned=planned, tags_pruned=pruned))) == freed


def test_a_run_without_a_plan_freed_nothing() -> None:
    assert freed_bytes(replace(_REPORT, plan=None)) == 0
