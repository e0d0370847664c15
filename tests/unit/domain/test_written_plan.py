"""A written plan is believed only whole, and prunes only where nothing forbids it."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.plan import plan_hash
from registry_cleanup.domain.report import FullReport, read_report
from registry_cleanup.domain.verdict import KeepReason
from registry_cleanup.domain.written_plan import (
    PlannedTag,
    UnreadablePlanError,
    WrittenPlan,
    objection,
    read_document,
    read_lines,
)
from tests.support.builders import NOW, digest, image, index, inventory, planned, policy, rule

POLICY = policy(rule("old-.*", days=30))
DAY = timedelta(days=1)


def lines(**head: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - values of any field
    """Return the lines of a report on one repository, where an index and an image go."""
    plan = planned(POLICY, inventory({"old-1": index("i", ["x"]), "old-2": image("a"), "new": image("b")}, image("x")))
    report = FullReport()
    report.planned(plan)
    first = {
        "policy": POLICY.uid,
        "registry": POLICY.registry,
        "run": "run-1",
        "planOnly": False,
        "plan": plan_hash(POLICY, [plan]),
        "generatedAt": NOW.isoformat(),
        "reclaimableBytesEstimate": 1,
        "untaggedManifestsLeft": 1,
        "deletionUnit": "Digest",
        "unapproved": 0,
        **head,
    }
    return list(read_report(report.compressed(first)[0]))


def document(kind: str = "Plan", **waiting: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    """Return the same as `plan -o json` or `report -o json` prints it."""
    head, *rest = lines()
    held = {"exceeded": [], "approvalRequired": False, "unapproved": 0, "dryRun": False, "suspended": False, **waiting}
    totals = {
        "hash": head["plan"],
        "generatedAt": head["generatedAt"],
        "untaggedManifestsLeft": 1,
        "deletionUnit": "Digest",
        "spared": head["spared"],
        **({"waiting": held} if kind == "Plan" else {"unapproved": held["unapproved"]}),
    }
    return {
        "kind": kind,
        "policy": {"uid": head["policy"]},
        "run": {"id": head["run"], "registry": head["registry"], "planOnly": kind == "Plan"},
        "plan": totals,
        "failures": [],
        "lines": rest,
    }


def why(plan: WrittenPlan, **changes: Any) -> str | None:  # noqa: ANN401 - values of any argument
    return objection(plan, **{"now": NOW, "most_age": DAY, "approved": None, "registry": None, **changes})


def test_the_lines_of_a_report_are_read_with_all_that_they_say() -> None:
    found = read_lines(lines())
    (repository,) = found.repositories
    assert dict(repository.tags) == {"old-1": PlannedTag(digest("i")), "old-2": PlannedTag(digest("a"))}
    assert (set(repository.untagged), found.planned) == ({digest("x")}, 2)
    assert (found.unit, found.deletes_untagged, found.unapproved) == (DeletionUnit.DIGEST, False, 0)
    assert (found.policy, found.registry, found.run, found.generated_at) == ("a-uid", POLICY.registry, "run-1", NOW)
    assert why(found) is None


@pytest.mark.parametrize("kind", ["Plan", "Report"])
def test_what_plan_and_report_print_is_the_same_plan(kind: str) -> None:
    assert read_document(document(kind)) == read_lines(lines())


def test_manifests_without_a_name_go_only_where_none_of_them_is_left() -> None:
    assert read_lines(lines(untaggedManifestsLeft=0)).deletes_untagged


def test_where_an_older_operator_says_less_less_goes() -> None:
    head, *rest = lines()
    for field in ("untaggedManifestsLeft", "deletionUnit", "unapproved", "spared"):
        del head[field]
    found = read_lines([head, *rest])
    assert (found.unit, found.deletes_untagged) == (None, False)
    assert "--approve " + found.hash in str(why(found))
    assert why(found, approved=found.hash) is None


def test_what_is_held_or_was_found_needed_is_spared() -> None:
    of = {"repository": "team/app"}
    head, *rest = lines()
    more: list[dict[str, Any]] = [
        {"type": "held", **of, "tag": "old-1", "reason": "GracePeriod"},
        {"type": "outcome", **of, "tag": "old-2", "digest": digest("a"), "outcome": "NowInUse"},
        {"type": "untagged", **of, "digest": digest("x"), "outcome": "NowShared"},
    ]
    (repository,) = read_lines([{**head, "spared": len(more)}, *rest, *more]).repositories
    assert {tag: each.spared for tag, each in repository.tags.items()} == {"old-1": "GracePeriod", "old-2": "NowInUse"}
    assert repository.untagged == set()


def _sparing() -> list[dict[str, Any]]:
    """Return the lines of a report on a run that held a tag back, and found another and a manifest needed."""
    plan = planned(POLICY, inventory({"old-1": index("i", ["x"]), "old-2": image("a"), "new": image("b")}, image("x")))
    report = FullReport()
    report.planned(plan)
    report.held(plan.repository, {"old-1": KeepReason.GRACE_PERIOD})
    needed: list[ItemOutcome | UntaggedOutcome] = [
        ItemOutcome("old-2", digest("a"), Outcome.NOW_IN_USE),
        UntaggedOutcome(digest("x"), Outcome.NOW_SHARED),
        ItemOutcome("old-3", digest("c"), Outcome.PRUNED),
    ]
    report.outcomes(plan.repository, needed)
    first = {key: value for key, value in lines()[0].items() if key not in ("type", "repositoriesCut", "spared")}
    return list(read_report(report.compressed(first)[0]))


def test_a_plan_that_lacks_what_held_something_back_is_not_read() -> None:
    """The hash covers what is planned alone: without these lines more would go than the run let go."""
    whole = _sparing()
    (repository,) = read_lines(whole).repositories
    assert {tag: each.spared for tag, each in repository.tags.items()} == {"old-1": "GracePeriod", "old-2": "NowInUse"}
    kinds = [line for line in whole if line["type"] == "held" or line.get("outcome") in ("NowInUse", "NowShared")]
    assert len(kinds) == 3
    for lost in kinds:
        with pytest.raises(UnreadablePlanError, match="lacks what holds some of it back"):
            read_lines([line for line in whole if line != lost])
        told = document("Report")
        told["plan"]["spared"] = whole[0]["spared"]
        with pytest.raises(UnreadablePlanError, match="lacks what holds some of it back"):
            read_document({**told, "lines": [line for line in whole[1:] if line != lost]})


def test_what_a_run_failed_to_prune_is_not_spared() -> None:
    failed = {"type": "outcome", "repository": "team/app", "tag": "old-1", "digest": digest("i"), "outcome": "Failed"}
    (repository,) = read_lines([*lines(), failed]).repositories
    assert repository.tags["old-1"].spared is None


# What is not believed


def _changed(place: str, value: object) -> list[dict[str, Any]]:
    found = copy.deepcopy(lines())
    (line,) = [line for line in found if line.get("tag") == "old-2"]
    line[place] = value
    return found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([line for line in lines() if line.get("tag") != "old-1"], "cut, narrowed"),
        (_changed("digest", digest("b")), "cut, narrowed"),
        (_changed("tag", "latest"), "cut, narrowed"),
        (_changed("tag", "../../x"), "cannot be one"),
        (_changed("repository", "../team"), "cannot be one"),
        (_changed("digest", "sha256:beef"), "damaged"),
        (lines(plan="b" * 64), "cut, narrowed"),
        (lines(registry="other.example.com:443"), "cut, narrowed"),
        (lines(policy="other"), "cut, narrowed"),
        ([*lines(), {"type": "cut", "repository": "team/web", "lines": 3}], "cut off"),
        ([*lines(), lines()[2]], "twice"),
        (lines()[1:], "begin with its run"),
        ([], "damaged"),
        (lines(generatedAt="2026-06-15T12:00:00"), "time zone"),
        (lines(generatedAt="yesterday"), "damaged"),
        (lines(deletionUnit="Everything"), "damaged"),
    ],
)
def test_what_is_not_whole_or_was_changed_is_not_read(given: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UnreadablePlanError, match=says):
        read_lines(given)


def test_a_report_of_which_repositories_are_cut_is_not_read() -> None:
    head, *rest = lines()
    with pytest.raises(UnreadablePlanError, match="cut off"):
        read_lines([{**head, "repositoriesCut": 1}, *rest])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kind": "List"},
        {**document(), "kind": "Listing"},
        {**document(), "failures": [{"reason": "InUseUnknown", "message": "?"}]},
        {**document(), "lines": document()["lines"][2:]},
    ],
)
def test_a_document_that_is_no_whole_plan_is_not_read(given: dict[str, Any]) -> None:
    with pytest.raises(UnreadablePlanError):
        read_document(given)


def test_a_plan_of_which_single_repositories_failed_is_read() -> None:
    failure = {"reason": "Unreachable", "message": "?", "repository": "team/web"}
    assert read_document({**document(), "failures": [failure]}).planned == 2


# What forbids


@pytest.mark.parametrize(
    ("plan", "changes", "says"),
    [
        (read_lines(lines()), {"registry": "other.example.com:443"}, "not of other.example.com:443"),
        (read_lines(lines()), {"now": NOW + DAY + timedelta(seconds=1)}, "older than 1d"),
        (read_lines(lines()), {"now": NOW - timedelta(minutes=6)}, "in the future"),
        (read_lines(lines()), {"approved": "b" * 64}, "this plan is"),
        (read_lines(lines(planOnly=True)), {}, "only planned"),
        (read_lines(lines(planOnly=True)), {"approved": lines()[0]["plan"]}, "only planned"),
        (read_lines(lines(unapproved=2)), {}, "2 planned tags wait for approval"),
        (read_document(document(dryRun=True)), {}, "dryRun"),
        (read_document(document(suspended=True)), {}, "suspend"),
        (read_document(document(unapproved=1)), {}, "approval"),
        (read_document(document("Report", unapproved=1)), {}, "approval"),
    ],
)
def test_what_forbids_to_prune_by_a_plan_is_said(plan: WrittenPlan, changes: dict[str, Any], says: str) -> None:
    assert says in str(why(plan, **changes))


def test_nothing_forbids_a_fresh_plan_of_the_same_registry_that_was_approved() -> None:
    plan = read_document(document(approvalRequired=True, unapproved=2))
    assert why(plan, approved=plan.hash, registry=plan.registry, now=NOW + DAY) is None
