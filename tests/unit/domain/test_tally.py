"""What a run comes to: counted repository after repository, and told at its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.course import Readings, Snapshot, Stage
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.guards import Go, Guarded
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash
from registry_cleanup.domain.policy import Policy, Untagged
from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import (
    Aftermath,
    Collector,
    Conflict,
    Counts,
    Planned,
    PlannedItem,
    PlanSummary,
    ReportReference,
    RunOrder,
    Trigger,
    Waiting,
)
from registry_cleanup.domain.tally import Tally
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import NOW, ago, digest, image, index, inventory, planned, policy, rule

_POLICY = policy(rule(name="builds", days=30), keep_tags=["keep.*"])
_DELETING = replace(_POLICY, untagged=Untagged.DELETE)
_ORDER = RunOrder("run", Trigger.REQUEST, plan_only=False, start=ago(hours=1))
_DRY = replace(_ORDER, plan_only=True)


def _tally(*plans: RepositoryPlan, what: Policy = _POLICY, order: RunOrder = _ORDER) -> Tally:
    tally = Tally(what, order)
    for plan in plans:
        tally.take(plan)
    return tally


def _plan(there: Inventory, unit: DeletionUnit = DeletionUnit.DIGEST) -> RepositoryPlan:
    return planned(_POLICY, there, unit)


def _app(name: str = "team/app") -> RepositoryPlan:
    """Return a plan in which two images go with a referrer and two platforms, and two tags stay."""
    tags = {
        "a": image("a", blobs={"x": 100, "y": 20}),
        "b": index("i", ["c", "d"]),
        "keep": image("k", blobs={"y": 20}),
        "sbom": image("s", subject="a"),
        "young": image("young", 1),
    }
    return _plan(inventory(tags, repository=name))


def _told(tally: Tally) -> list[str]:
    """Return the sentences of the message, without the first."""
    return tally.finished(NOW).message.split("; ")[1:]


# Counting


def test_repositories_are_counted_together() -> None:
    tally = _tally(_app("team/a"), _app("team/b"))
    for repository, listed in (("team/c", 3), ("team/d", 4), ("team/e", 0)):
        tally.miss(repository, "MalformedAnswer", listed)
    tally.fail_in("team/a")
    report = tally.finished(NOW)
    # The referrer goes with its subject, and is no rule's business.
    assert report.counts == Counts(
        repositories_scanned=2,
        repositories_failed=4,
        tags_scanned=17,
        tags_matched=6,
        tags_kept=11,
        tags_planned=6,
        tags_skipped=6,
    )
    assert report.kept_by_reason == {"KeepTags": 2, "NotOldEnough": 2, "RepositoryIncomplete": 7}
    assert tally.unread == ["team/c", "team/d", "team/e"]
    assert (report.order, report.completion) == (_ORDER, NOW)
    lines = [line for line in read_report(tally.report.compressed({})[0]) if line["type"] == "incomplete"]
    assert [(line["reason"], line["tags"]) for line in lines] == [("MalformedAnswer", n) for n in (3, 4, 0)]


def test_outcomes_are_counted_apart_from_those_of_manifests_without_a_name() -> None:
    tally = _tally(_app(), _app("team/web"))
    for number, outcome in enumerate(
        [Outcome.PRUNED, Outcome.PRUNED, Outcome.FAILED, Outcome.NOT_DELETED, Outcome.MOVED]
    ):
        tally.outcome(ItemOutcome(f"t{number}", digest("x"), outcome))
    for outcome in (Outcome.PRUNED, Outcome.FAILED):
        tally.outcome(UntaggedOutcome(digest("y"), outcome))
    counts = tally.finished(NOW).counts
    assert (counts.tags_planned, counts.tags_pruned, counts.tags_failed, counts.tags_skipped) == (6, 2, 2, 2)


def test_a_dry_run_skips_nothing() -> None:
    assert _tally(_app(), order=_DRY).finished(NOW).counts.tags_skipped == 0


@pytest.mark.parametrize(("taken", "missed", "expected"), [(0, 0, False), (1, 0, False), (1, 1, False), (0, 1, True)])
def test_nothing_is_read_where_repositories_were_to_be_read_and_none_could_be(
    taken: int, missed: int, *, expected: bool
) -> None:
    tally = _tally(*[_app()] * taken)
    for _ in range(missed):
        tally.miss("team/broken", "MalformedAnswer", 0)
    assert tally.nothing_read is expected


# The plan


def test_a_summary_is_of_all_repositories_together() -> None:
    tally = _tally(_app("team/a"), _app("team/b"), _plan(inventory({"keep": image("k")}, repository="team/c")))
    assert [plan.repository for plan in tally.plans] == ["team/a", "team/b"]
    assert all({verdict.tag for verdict in plan.verdicts} == {"a", "b", "sbom"} for plan in tally.plans)
    reasons = ("OlderThan",)
    sample = [
        PlannedItem(repository, tag, digest(word), "builds", reasons)
        for repository in ("team/a", "team/b")
        for tag, word in (("a", "a"), ("b", "i"), ("sbom", "s"))
    ]
    summary = tally.summarize(NOW)
    assert summary == PlanSummary(
        plan_hash(_POLICY, [_app("team/a"), _app("team/b")]),
        NOW,
        deletions=6,
        sample=tuple(sample),
        reclaimable=100,
        untagged=4,
        top=(Planned("team/a", 5, 3), Planned("team/b", 5, 3)),
    )
    assert tally.finished(NOW).plan == summary


def test_a_sample_is_of_ten_over_all_repositories() -> None:
    plans = [
        _plan(inventory({f"t{number}": image(f"{number}") for number in range(7)}, repository=name)) for name in "abc"
    ]
    sample = _tally(*plans).summarize(NOW).sample
    assert [item.repository for item in sample] == ["a"] * 7 + ["b"] * 3


def test_what_the_guards_hold_back_is_told_with_the_rest() -> None:
    tally = _tally(_app())
    tally.summarize(NOW)
    held = {KeepReason.GRACE_PERIOD: 1, KeepReason.LIMIT_TRUNCATED: 2}
    items = {"team/app": {"a": KeepReason.GRACE_PERIOD}}
    tally.take_guarded(Guarded(Go.AHEAD, (), held, items, unapproved=5, exceeded=["one"], prunable_from=ago(1)))
    tally.other_approval = True
    report = tally.finished(NOW)
    assert report.kept_by_reason == {"KeepTags": 1, "NotOldEnough": 1, "GracePeriod": 1, "LimitTruncated": 2}
    assert report.counts.tags_kept == 2
    assert report.plan is not None
    assert report.plan.prunable_from == ago(1)
    assert report.waiting == Waiting(("one",), approval=False, unapproved=5, other_approval=True)
    (line,) = (line for line in read_report(tally.report.compressed({})[0]) if line["type"] == "held")
    assert (line["repository"], line["tag"], line["reason"]) == ("team/app", "a", "GracePeriod")


def test_without_a_plan_nothing_is_told_of_what_holds_it_back_or_could_delete() -> None:
    tally = _tally(_app())
    tally.support = DeletionSupport(Deletion.BY_TAG)
    tally.take_guarded(Guarded(Go.AHEAD, prunable_from=NOW))
    report = tally.finished(NOW)
    assert (report.plan, report.waiting, report.deletion) == (None, None, None)


def test_before_the_guards_were_asked_a_plan_waits_for_approval_only_where_the_policy_says_so() -> None:
    tally = _tally(_app(), what=replace(_POLICY, approval_required=True))
    tally.summarize(NOW)
    assert tally.finished(NOW).waiting == Waiting(approval=True)


def test_what_else_a_run_found_out_is_told() -> None:
    tally = _tally(_app())
    tally.summarize(NOW)
    tally.support = DeletionSupport(Deletion.BY_TAG)
    tally.aftermath = Aftermath(3, Collector.MISSING)
    tally.conflicts = ()
    tally.reference = ReportReference("report", "report.json.gz")
    tally.approval_taken = True
    report = tally.finished(NOW)
    assert (report.deletion, report.aftermath, report.conflicts) == (tally.support, tally.aftermath, ())
    assert (report.reference, report.approval_taken) == (tally.reference, True)


# Notes


def test_an_approval_of_another_plan_and_an_older_policy_are_told() -> None:
    tally = _tally(_plan(inventory({"keep": image("k")})))
    tally.other_approval = True
    shared = ("team/a", "team/b")
    tally.conflicts = (
        Conflict("team", "older", "a-uid", yields=True, repositories=shared),
        Conflict("team", "younger", "b-uid", yields=False, repositories=shared),
    )
    assert _told(tally) == [
        "the annotation approve-plan names another plan than the published one, so it approves nothing",
        "2 repositories are kept whole: policy team/older prunes there",
    ]


@pytest.mark.parametrize(
    ("what", "order", "outcomes", "notes"),
    [
        (_POLICY, _DRY, [], ["2 manifests would be left untagged"]),
        (_DELETING, _DRY, [], ["2 untagged manifests would be deleted"]),
        (_POLICY, _ORDER, [ItemOutcome("b", digest("i"), Outcome.PRUNED)], ["up to 2 manifests are left untagged"]),
        (_POLICY, _ORDER, [ItemOutcome("b", digest("i"), Outcome.MOVED)], []),
        (_POLICY, _ORDER, [UntaggedOutcome(digest("c"), Outcome.PRUNED)], []),
        (_DELETING, _ORDER, [UntaggedOutcome(digest("c"), Outcome.PRUNED)], ["1 untagged manifests were deleted"]),
        (
            _DELETING,
            _ORDER,
            [UntaggedOutcome(digest(word), Outcome.PRUNED) for word in "cd"],
            ["2 untagged manifests were deleted"],
        ),
        (_DELETING, _ORDER, [UntaggedOutcome(digest("c"), Outcome.FAILED)], []),
        (_DELETING, _ORDER, [ItemOutcome("b", digest("i"), Outcome.PRUNED)], []),
    ],
)
def test_what_is_left_without_a_name_is_told(
    what: Policy, order: RunOrder, outcomes: list[ItemOutcome | UntaggedOutcome], notes: list[str]
) -> None:
    tally = _tally(_app(), what=what, order=order)
    for outcome in outcomes:
        tally.outcome(outcome)
    assert [note for note in _told(tally) if "untagged" in note] == notes
    # What is deleted, or collected by an image pruner, is not left to a garbage collection that may spare it.
    assert tally.untagged_left == (0 if what is _DELETING else 2)


@pytest.mark.parametrize("order", [_ORDER, _DRY])
def test_where_nothing_is_left_without_a_name_nothing_is_told_of_it(order: RunOrder) -> None:
    tally = _tally(_plan(inventory({"a": image("a")})), order=order)
    tally.outcome(ItemOutcome("a", digest("a"), Outcome.PRUNED))
    assert _told(tally) == []


# What matches nothing


def _idle(tally: Tally) -> list[str]:
    tally.idle_globs = ["spec.repositories.include 'x'"]
    return [note for note in _told(tally) if note.startswith("matching nothing")]


def test_patterns_that_match_no_tag_of_any_repository_are_told_with_the_globs() -> None:
    what = policy(rule("a", "b", exclude=["c"], days=30), keep_tags=["latest", "d"])
    plans = [_plan(inventory({tag: image(tag)}, repository=tag)) for tag in ("a", "c")]
    tally = _tally(*plans, what=what)
    tally.summarize(NOW)
    assert _idle(tally) == [
        "matching nothing, mistyped? spec.repositories.include 'x', spec.keepTags 'd', spec.rules[0].tags.include 'b'"
    ]


def test_nobody_is_said_to_have_mistyped_where_not_all_was_seen() -> None:
    assert _idle(_tally(_app())) == []
    missing = _tally(_app())
    missing.summarize(NOW)
    missing.miss("team/broken", "MalformedAnswer", 1)
    assert _idle(missing) == []
    nothing = _tally()
    nothing.summarize(NOW)
    assert _idle(nothing) == []


# Where the run is


def test_while_it_looks_and_waits_nothing_is_known_of_repositories() -> None:
    tally = _tally()
    tally.selected = ["team/a", "team/b"]
    assert tally.snapshot(Readings(), 7) == Snapshot(Stage.LOOKING, requests=7)
    tally.stage = Stage.WAITING
    assert tally.snapshot(Readings(), 7) == Snapshot(Stage.WAITING, requests=7)


def test_planning_is_measured_by_repositories_until_all_of_their_tags_are_listed() -> None:
    tally, readings = _tally(), Readings()
    tally.selected = ["team/a", "team/b", "team/c", "team/d"]
    tally.stage = Stage.PLANNING
    assert tally.snapshot(readings, 0) == Snapshot(Stage.PLANNING, 4, share=0.0)
    with readings.one() as reading:
        reading.tags = 5
    tally.take(_app("team/a"))
    with readings.one() as reading:
        reading.tags, reading.wanted, reading.done = 100, 200, 100
        assert tally.snapshot(readings, 9) == Snapshot(Stage.PLANNING, 4, 1, None, 55, share=0.375, requests=9)
        with readings.one() as other, readings.one() as last:
            other.tags, last.tags = 15, 0
            assert tally.snapshot(readings, 9) == Snapshot(Stage.PLANNING, 4, 1, 120, 70, share=70 / 120, requests=9)


def test_a_registry_that_does_not_count_is_measured_by_the_repositories_that_were_planned() -> None:
    tally = _tally(_app("team/a"))
    tally.selected = ["team/a", "team/b"]
    tally.stage = Stage.PLANNING
    assert tally.snapshot(Readings(), 0) == Snapshot(Stage.PLANNING, 2, 1, None, 5, share=0.5)
    tally.miss("team/b", "MalformedAnswer", 3)
    assert tally.snapshot(Readings(), 0) == Snapshot(Stage.PLANNING, 2, 2, None, 8, share=1.0)


def test_a_policy_that_selects_nothing_has_nothing_to_measure() -> None:
    tally = _tally()
    tally.stage = Stage.PLANNING
    assert tally.snapshot(Readings(), 0) == Snapshot(Stage.PLANNING, 0, tags=0)


def test_pruning_is_measured_by_what_the_guards_let_through() -> None:
    tally = _tally(_app("team/a"), _app("team/b"))
    tally.selected = ["team/a", "team/b"]
    tally.take_guarded(Guarded(Go.AHEAD, [_app("team/b")]))
    tally.stage = Stage.PRUNING
    begins = tally.snapshot(Readings(), 0)
    assert (begins.tags_to_prune, begins.tags_pruned, begins.share) == (3, 0, 0.0)
    tally.outcome(ItemOutcome("a", digest("a"), Outcome.PRUNED))
    tally.outcome(ItemOutcome("b", digest("b"), Outcome.MOVED))
    tally.outcome(UntaggedOutcome(digest("c"), Outcome.PRUNED))
    goes_on = tally.snapshot(Readings(), 0)
    # One that stays is done with, too.
    assert (goes_on.tags_to_prune, goes_on.tags_pruned, goes_on.share) == (3, 1, 2 / 3)


def test_pruning_nothing_has_no_measure() -> None:
    tally = _tally(_app("team/a"))
    tally.take_guarded(Guarded(Go.AHEAD))
    tally.stage = Stage.PRUNING
    assert (tally.snapshot(Readings(), 0).tags_to_prune, tally.snapshot(Readings(), 0).share) == (0, None)


# What deletions ask of a registry


@pytest.mark.parametrize(
    ("deletion", "sizes", "expected"),
    [
        (Deletion.BY_DIGEST, [50_000, 2_000_000], "about 2 min of its processor (team/1 alone 2 min)"),
        (Deletion.BY_DIGEST, [2_000_000], "about 2 min of its processor (team/0)"),
        (Deletion.BY_DIGEST, [50_000], None),
        (Deletion.BY_TAG, [2_000_000], None),
    ],
)
def test_what_a_registry_that_deletes_by_digest_needs_is_told_where_that_is_long(
    deletion: Deletion, sizes: list[int], expected: str | None
) -> None:
    plans = [replace(_app(f"team/{number}"), size=size) for number, size in enumerate(sizes)]
    tally = _tally(*plans)
    tally.support = DeletionSupport(deletion)
    told = [note for note in _told(tally) if "looks up every tag" in note]
    assert [expected in note for note in told if expected is not None] == [True] * (expected is not None)
    assert bool(told) is (expected is not None)


def test_what_the_guards_hold_back_asks_nothing_of_a_registry() -> None:
    tally = _tally(replace(_app(), size=2_000_000))
    tally.support = DeletionSupport(Deletion.BY_DIGEST)
    tally.take_guarded(Guarded(Go.AHEAD))
    assert not [note for note in _told(tally) if "looks up every tag" in note]


def test_planned_tags_that_changed_before_their_deletion_are_told_in_the_words_of_the_report() -> None:
    tally = _tally(_app("team/a"))
    for number, outcome in enumerate([Outcome.MOVED, Outcome.PRUNED, Outcome.NOW_SHARED, Outcome.MOVED]):
        tally.outcome(ItemOutcome(f"t{number}", digest("a"), outcome))
    told = [note for note in _told(tally) if "changed" in note]
    assert told == ["changed before their deletion, and so left alone: 2 Moved, 1 NowShared"]
