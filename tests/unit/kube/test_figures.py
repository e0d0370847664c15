"""From a resource to the figures of its metrics."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry_cleanup.domain.figures import ConditionFigure, RunFigures, StatusFigures
from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.figures import spec_figures, status_figures
from registry_cleanup.kube.status import parse_status
from tests.support.builders import NOW

_CREATED = datetime(2026, 6, 1, tzinfo=UTC)


def _body(*writes: Mapping[str, Any], **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return {"metadata": {"creationTimestamp": "2026-06-01T00:00:00Z", "managedFields": list(writes)}, "spec": spec}


def _write(time: str, *fields: str, **more: str) -> dict[str, Any]:
    return {"time": time, "fieldsV1": {field: {} for field in fields}, **more}


def test_a_policy_is_expected_to_succeed_from_its_creation_on() -> None:
    assert spec_figures(_body(), NOW).since == _CREATED
    assert spec_figures({"metadata": {"creationTimestamp": "2026-06-01T00:00:00Z"}}, NOW).since == _CREATED


def test_a_change_of_the_spec_begins_anew_and_no_other_change_does() -> None:
    body = _body(
        _write("2026-06-03T00:00:00Z", "f:spec"),
        _write("2026-06-02T00:00:00Z", "f:spec", "f:metadata"),
        _write("2026-06-04T00:00:00Z", "f:metadata"),
        _write("2026-06-05T00:00:00Z", "f:spec", subresource="status"),
        {"fieldsV1": {"f:spec": {}}},
    )
    assert spec_figures(body, NOW).since == datetime(2026, 6, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "scheduled", "interval"),
    [
        ({}, False, None),
        ({"schedule": "@daily"}, True, timedelta(days=1)),
        ({"schedule": "@daily", "suspend": True}, True, None),
        ({"schedule": "@daily", "timeZone": "Europe/Berlin"}, True, timedelta(days=1)),
        # Invalid elsewhere: nobody is told by silence.
        ({"schedule": "@hourly", "rules": "none"}, True, timedelta(hours=1)),
        ({"schedule": "every day"}, True, None),
        ({"schedule": 7}, True, None),
        ({"schedule": "@daily", "timeZone": "Mars/Olympus"}, True, None),
    ],
)
def test_a_spec_promises_its_schedule(spec: Mapping[str, Any], scheduled: bool, interval: timedelta | None) -> None:
    figures = spec_figures(_body(**spec), NOW)
    assert (figures.scheduled, figures.interval) == (scheduled, interval)


@pytest.mark.parametrize(("spec", "dry_run"), [({}, True), ({"dryRun": True}, True), ({"dryRun": False}, False)])
def test_a_policy_that_says_nothing_only_plans(spec: Mapping[str, Any], *, dry_run: bool) -> None:
    assert spec_figures(_body(**spec), NOW).dry_run is dry_run


_LAST = {
    "id": "run-1",
    "trigger": "Schedule",
    "phase": "Partial",
    "dryRun": False,
    "startTime": "2026-06-15T11:00:00Z",
    "completionTime": "2026-06-15T11:00:07Z",
    "keptByReason": {"InUse": 3, "SaidBySomebodyElse": 5},
}


def test_a_status_tells_of_its_last_run_by_the_reasons_that_there_are() -> None:
    assert status_figures(parse_status({"lastRun": _LAST})).last_run == RunFigures(Phase.PARTIAL, 7.0, {"InUse": 3})


def test_a_run_under_way_is_not_the_last_one_that_ended() -> None:
    assert status_figures(parse_status({"lastRun": {**_LAST, "phase": "Running"}})).last_run is None


def test_a_status_tells_what_it_knows() -> None:
    about = {"message": "", "observedGeneration": 1, "lastTransitionTime": "2026-06-15T11:00:00Z"}
    status = {
        "lastSuccessfulTime": "2026-06-15T11:00:07Z",
        "plan": {
            "hash": "h",
            "observedGeneration": 1,
            "generatedAt": "t",
            "deletions": 4,
            "reclaimableBytes": 9,
            "sample": [],
        },
        "inUse": {"references": 12, "observedGeneration": 1, "scanTime": "t"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", **about}],
    }
    assert status_figures(parse_status(status)) == StatusFigures(
        last_success=datetime(2026, 6, 15, 11, 0, 7, tzinfo=UTC),
        planned=4,
        reclaimable=9,
        references=12,
        conditions=(ConditionFigure("Ready", "True", "Succeeded"),),
    )
    assert status_figures(parse_status(None)) == StatusFigures()
