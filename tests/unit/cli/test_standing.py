"""What the status of a policy tells a person of its plan: pruned already or not, and who is waited for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from registry_cleanup.cli.annotating.standing import Pruned, exit_of, held_back, pruned, waits
from registry_cleanup.cli.exits import Exit
from registry_cleanup.kube.conditions import approval_command
from registry_cleanup.kube.status import PolicyStatus, parse_status

_HASH = "ab" * 32
_AT = "2026-03-01T12:05:00Z"


def _status(
    *conditions: tuple[str, str, str],
    made: str = "2026-03-01T12:00:30Z",
    counts: tuple[int, int] = (3, 3),
    **run: Any,  # noqa: ANN401 - values of any field
) -> PolicyStatus:
    planned, gone = counts
    return parse_status(
        {
            "plan": {"hash": _HASH, "observedGeneration": 1, "generatedAt": made, "deletions": 3, "sample": []},
            "lastRun": {
                "id": "a-run",
                "trigger": "Request",
                "phase": "Succeeded",
                "dryRun": False,
                "startTime": "2026-03-01T12:00:00Z",
                "completionTime": _AT,
                "counts": {"tagsPlanned": planned, "tagsPruned": gone},
                **run,
            },
            "conditions": [
                {
                    "type": type_,
                    "status": status,
                    "reason": reason,
                    "message": f"do: {approval_command('team', 'app', _HASH, again=True)}",
                    "observedGeneration": 1,
                    "lastTransitionTime": _AT,
                }
                for type_, status, reason in conditions
            ],
        }
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (_status(), Pruned(_AT, 3, whole=True)),
        (_status(counts=(3, 1)), Pruned(_AT, 1, whole=False)),
        (_status(phase="Partial"), Pruned(_AT, 3, whole=False)),
        (_status(counts=(3, 0)), None),
        (_status(dryRun=True), None),
        (_status(made="2026-03-01T11:59:59Z"), None),
        (_status(completionTime=None, phase="Running"), None),
        (PolicyStatus(), None),
    ],
    ids=["all", "a part", "failures", "nothing", "plan only", "an earlier plan", "under way", "no status"],
)
def test_a_plan_counts_as_pruned_where_the_run_that_made_it_pruned_by_it(
    status: PolicyStatus, expected: Pruned | None
) -> None:
    assert pruned(status) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], False),
        ([("AwaitingApproval", "False", "NothingToApprove"), ("LimitExceeded", "False", "WithinLimits")], False),
        ([("AwaitingApproval", "True", "PlanNotApproved")], True),
        ([("LimitExceeded", "True", "PlanTooLarge")], True),
    ],
)
def test_an_approval_is_waited_for_where_a_condition_says_so(
    conditions: list[tuple[str, str, str]], expected: bool
) -> None:
    assert waits(_status(*conditions)) == expected


def test_the_way_on_is_told_as_a_command_of_ours() -> None:
    status = _status(("AwaitingApproval", "True", "PlanNotApproved")).as_json()
    metadata = {"namespace": "team", "name": "app", "generation": 1}
    body = {"metadata": metadata, "spec": {"dryRun": False}, "status": status}
    assert held_back(body, datetime(2026, 3, 1, tzinfo=UTC)) == [
        "AwaitingApproval: do: registry-cleanup approve app -n team"
    ]


@pytest.mark.parametrize(
    ("phase", "conditions", "code"),
    [
        ("Succeeded", [], Exit.DONE),
        ("Failed", [], Exit.FAILED),
        ("Failed", [("RegistryReachable", "False", "Unreachable")], Exit.REGISTRY),
        ("Failed", [("RegistryReachable", "Unknown", "NotAsked")], Exit.FAILED),
        ("Failed", [("Stalled", "True", "LoginFailed")], Exit.REGISTRY),
        ("Failed", [("Stalled", "True", "SecretNotFound")], Exit.FAILED),
        ("Blocked", [("InUseKnown", "False", "InUseUnknown")], Exit.CLUSTER),
        ("Blocked", [], Exit.HELD_BACK),
    ],
)
def test_a_run_that_was_waited_for_ends_with_the_code_of_its_cause(
    phase: str, conditions: list[tuple[str, str, str]], code: Exit
) -> None:
    status = _status(*conditions, phase=phase)
    assert status.last_run is not None
    assert exit_of(status, status.last_run) is code
