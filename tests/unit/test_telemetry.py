"""What is written down of a plan: who uses what stays."""

import logging
from dataclasses import replace

import pytest

from registry_cleanup.domain.in_use import User
from registry_cleanup.domain.run import Phase, RunOrder, RunReport, ScanSummary, Trigger
from registry_cleanup.telemetry import LogAudit
from registry_cleanup.telemetry.plain import PlainFormatter
from tests.support.builders import NOW, digest, image, in_use, inventory, planned, policy, rule

_ORDER = RunOrder("run-1", Trigger.REQUEST, plan_only=True, start=NOW)


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> LogAudit:
    caplog.set_level("INFO", logger="registry_cleanup.audit")
    return LogAudit("team", "builds", "registry.example.com", _ORDER)


def test_a_line_of_what_stays_names_three_users_of_each_tag_in_use(
    audit: LogAudit, caplog: pytest.LogCaptureFixture
) -> None:
    users = tuple(User("Pod", "team", f"web-{number}") for number in range(4))
    using = replace(in_use("a", "b"), digest_users={digest("a"): users})
    there = inventory({"a": image("a"), "b": image("b"), "new": image("new", 1)})
    audit.planned(planned(policy(rule(days=30)), there, using=using))
    kept = {record.__dict__["reason"]: record.__dict__ for record in caplog.records if record.message == "kept"}
    assert kept["InUse"]["tags"] == ["a", "b"]
    assert kept["InUse"]["users"] == {"a": ["Pod team/web-0", "Pod team/web-1", "Pod team/web-2"]}
    assert "users" not in kept["NotOldEnough"]


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        (None, None),
        (ScanSummary(7, ("a note",)), {"references": 7, "notes": ("a note",), "disabled": False, "began": None}),
    ],
)
def test_the_end_of_a_run_has_all_notes_of_its_scan(
    audit: LogAudit, caplog: pytest.LogCaptureFixture, scan: ScanSummary | None, expected: object
) -> None:
    audit.finished(RunReport(_ORDER, Phase.SUCCEEDED, scan=scan))
    (record,) = caplog.records
    assert record.__dict__["inUse"] == expected


def test_a_line_for_people_ends_with_the_fields_that_json_has() -> None:
    record = logging.makeLogRecord({"msg": "kept", "name": "audit", "levelname": "INFO"})
    record.__dict__ |= {"policy": "team/builds", "tags": ["v1"], "rule": None}
    line = PlainFormatter().format(record)
    assert line.endswith("INFO audit: kept (policy=team/builds tags=['v1'])")
    assert PlainFormatter().format(logging.makeLogRecord({"msg": "plain", "name": "audit"})).endswith("audit: plain")
