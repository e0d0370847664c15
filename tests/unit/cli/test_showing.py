"""What `plan` and `run` tell of a report: what holds it back, and never that it waits for what is no wait."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from registry_cleanup.cli.plans.findings import Show
from registry_cleanup.cli.plans.summary import of_plan
from registry_cleanup.cli.plans.waiting import as_published
from registry_cleanup.cli.running.showing import Shown, ending
from registry_cleanup.domain.deletion import Deletion, DeletionSupport
from registry_cleanup.domain.report import Line
from registry_cleanup.domain.run import Counts, Phase, PlanSummary, RunOrder, RunReport, Trigger, Waiting
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from tests.support.policies import policy_spec

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_REPORT = RunReport(
    RunOrder("a-run", Trigger.REQUEST, True, _NOW),
    Phase.SUCCEEDED,
    _NOW,
    Counts(1, tags_scanned=5, tags_planned=3),
    {"GracePeriod": 3, "InUse": 1},
    PlanSummary("ab" * 32, _NOW, 3, (), _NOW),
    message="3 of 5 tags would be pruned; waiting for the grace period: 3; and more",
    waiting=Waiting(),
)
_HEAD = {"registry": "registry.example.com", "plan": "ab" * 32, "generatedAt": "2026-03-01T12:00:00+00:00"}
_HELD = {"type": "held", "repository": "a", "tag": "old", "reason": "GracePeriod"}
_LINES: list[Line] = [
    {"type": "tag", "repository": "a", "tag": "old", "verdict": "Prune", "reasons": ["OlderThan"]},
    _HELD,
    {**_HELD, "tag": "many", "reason": "LimitTruncated"},
]


def _policy(grace: str) -> ParsedPolicy:
    metadata = {"namespace": "a", "name": "b", "uid": "c", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = policy_spec("https://registry.example.com", gracePeriod=grace)
    return parse_policy({"metadata": metadata, "spec": spec})


def test_without_a_grace_period_a_plan_that_was_never_published_waits_for_none() -> None:
    report, head, lines = as_published(_policy("0s").policy, _REPORT, {"spared": 2}, _LINES)
    assert report.message == "3 of 5 tags would be pruned; and more"
    assert report.kept_by_reason == {"InUse": 1}
    assert list(lines) == [_LINES[0], _LINES[2]]
    assert head == {"spared": 1}
    # Of a report that an older operator wrote nobody knows.
    assert as_published(_policy("0s").policy, _REPORT, {}, _LINES)[1] == {}


def test_a_grace_period_that_there_is_and_that_of_a_run_that_prunes_are_told() -> None:
    for policy, plan_only in ((_policy("1h"), True), (_policy("0s"), False)):
        report = replace(_REPORT, order=replace(_REPORT.order, plan_only=plan_only))
        assert as_published(policy.policy, report, {"spared": 2}, _LINES) == (report, {"spared": 2}, _LINES)


@pytest.mark.parametrize(
    ("deletion", "told"),
    [
        (Deletion.READ_ONLY, "ReadOnly"),
        (Deletion.DISABLED, "DeletionDisabled"),
        (Deletion.FORBIDDEN, "DeletionForbidden"),
        (Deletion.BY_TAG, None),
        (Deletion.UNKNOWN, None),
    ],
)
def test_a_registry_that_does_not_delete_is_among_what_a_plan_waits_for(deletion: Deletion, told: str | None) -> None:
    report = replace(_REPORT, deletion=DeletionSupport(deletion))
    assert of_plan(_policy("1h"), "a", _HEAD, report, published=False).plan["waiting"].get("deletion") == told


def test_what_was_stopped_is_told_so_once() -> None:
    stopped = replace(_REPORT, phase=Phase.INTERRUPTED, message="stopped: by Ctrl-C; 1 of 3 planned tags are pruned")
    assert ending(stopped) == "Stopped: by Ctrl-C; 1 of 3 planned tags are pruned"
    assert ending(replace(_REPORT, message="3 of 3 planned tags are pruned")) == "Done: 3 of 3 planned tags are pruned"


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("policies/nightly.yaml", "registry-cleanup plan -f policies/nightly.yaml"),
        ("my policies.yaml", "registry-cleanup plan -f 'my policies.yaml'"),
        ("-", "registry-cleanup plan -f FILE"),
    ],
)
def test_all_that_a_terminal_does_not_show_is_to_be_had_from_plan(where: str, command: str) -> None:
    shown = Shown(_policy("1h"), where, _REPORT, _HEAD, _LINES)
    assert shown.printed("Plan", Show.GOING).whole == command
