"""One run against a registry, a guard and a clock that do what a test says: what is planned, pruned and told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from typing_extensions import override

from registry_cleanup.claims import ClaimBook, RunClaims
from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.course import Readings, Snapshot
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.in_use import InUse, User
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash
from registry_cleanup.domain.policy import InUseRules, Limits, OnExceeded, Policy
from registry_cleanup.domain.published import nothing_published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import (
    Aftermath,
    Collector,
    Conflict,
    Failure,
    Phase,
    ReportReference,
    RunOrder,
    RunReport,
    ScanSummary,
    Trigger,
)
from registry_cleanup.ports import (
    Claims,
    Clock,
    InterruptedRunError,
    Keep,
    Proceed,
    Registry,
    RunError,
    World,
    no_objection,
)
from registry_cleanup.runner import Runner
from tests.support.builders import NOW, digest, image, in_use, inventory, patterns, planned, policy, rule, selector
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, MemoryStore, RecordingAudit

_POLICY = policy(rule(name="builds", days=30))
_BROKEN = RunError(Failure("MalformedAnswer", "an answer is no JSON", reachable=True))
_UNREACHABLE = RunError(Failure("Unreachable", "the registry does not answer", reachable=False, stops_run=True))


@dataclass
class _Registry(Registry):
    """Holds repositories or the errors that reading them raises, and remembers what was deleted from it.

    Attributes:
        content: by repository.
        outcomes: of the tags that do not simply go; an error is raised in their place.
        listing: raised instead of the list of repositories.
        undecided: raised instead of what can be deleted.
        pace: awaited before each look whether a digest may still be deleted, told its repository and first tag.
        reading: awaited while a repository is read, told its name.
    """

    content: Mapping[str, Inventory | RunError]
    outcomes: Mapping[str, Outcome | RunError] = field(default_factory=dict)
    listing: RunError | None = None
    deletes: Deletion = Deletion.BY_DIGEST
    offset: timedelta | None = timedelta(0)
    read: list[str] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    visited: list[str] = field(default_factory=list)
    address: str = _POLICY.registry
    at_once: int = 1
    detail: str | None = None
    left: Aftermath | None = None
    undecided: RunError | None = None
    pace: Callable[[str], Awaitable[None]] | None = None
    reading: Callable[[str], Awaitable[None]] | None = None

    @property
    @override
    def host(self) -> str:
        return self.address

    @property
    @override
    def parallel(self) -> int:
        return self.at_once

    @override
    async def aftermath(self) -> Aftermath | None:
        return self.left

    @override
    async def clock_offset(self) -> timedelta | None:
        return self.offset

    @override
    async def repositories(self) -> Sequence[str]:
        if self.listing is not None:
            raise self.listing
        return list(self.content)

    @override
    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        self.asked.append(list(repositories))
        if self.undecided is not None:
            raise self.undecided
        return DeletionSupport(self.deletes, self.detail)

    @override
    async def inventory(
        self, repository: str, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]
    ) -> Inventory:
        self.read.append(repository)
        if self.reading is not None:
            await self.reading(repository)
        found = self.content[repository]
        if isinstance(found, RunError):
            raise found
        needs(found.tags)
        return found

    @override
    async def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        assert deletion is self.deletes
        self.visited.append(plan.repository)
        for group in plan.groups:
            if self.pace is not None:
                await self.pace(f"{plan.repository}:{group.tags[0]}")
            may_go = await proceed(group.digest, group.tags)
            for tag in group.tags:
                outcome = self.outcomes.get(tag, Outcome.PRUNED) if may_go else Outcome.NOW_IN_USE
                if isinstance(outcome, RunError):
                    raise outcome
                if outcome is Outcome.PRUNED:
                    self.pruned.append(f"{plan.repository}:{tag}")
                yield ItemOutcome(tag, group.digest, outcome, "DENIED" if outcome is Outcome.FAILED else None)


@dataclass
class _Clock(Clock):
    """Stands still until a test moves it on."""

    passed: timedelta = timedelta(0)

    @override
    def now(self) -> datetime:
        return NOW + self.passed


def _published_before(registry: _Registry, what: Policy, days: float = 2) -> MemoryStore:
    """Return the store of a policy whose plan of all that can be read was published so long ago."""
    content = [each for each in registry.content.values() if isinstance(each, Inventory)]
    chosen = [each for each in content if what.repositories.selects(each.repository)]
    plans = [planned(what, each, registry.deletes.unit) for each in chosen]
    name = plan_hash(replace(what, registry=registry.address), plans)
    return MemoryStore(nothing_published(what.uid).renewed(plans, (), name, NOW - timedelta(days=days)))


async def _run(
    registry: _Registry,
    *,
    plan_only: bool = False,
    guard: FixedGuard | None = None,
    audit: RecordingAudit | None = None,
    what: Policy = _POLICY,
    login: RunError | None = None,
    store: MemoryStore | None = None,
    rivals: Sequence[Rival] = (),
    approval: str | None = None,
    workloads: FixedUse | None = None,
    clock: _Clock | None = None,
    time: timedelta | None = None,
    first: str | None = None,
    claims: Claims | None = None,
    at_a_time: int = 1,
    begun: Callable[[Runner], None] = lambda _: None,
) -> RunReport:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Registry]:
        if login is not None:
            raise login
        yield registry

    world = World(
        guard or FixedGuard(),
        audit or RecordingAudit(),
        clock or _Clock(),
        store or _published_before(registry, what),
        workloads or FixedUse(),
        FixedRivals(rivals),
        claims or FixedClaims(),
    )
    deadline = NOW + time if time is not None else None
    order = RunOrder(
        "run-1", Trigger.REQUEST, plan_only, NOW, approval=approval, deadline=deadline, first_repository=first
    )
    runner = Runner(what, connect, world, at_a_time)
    begun(runner)
    report = await runner.run(order)
    _check_counts(report)
    return report


def _check_counts(report: RunReport) -> None:
    """What must hold of every report, however the run ended."""
    counts = report.counts
    assert counts.tags_scanned == counts.tags_kept + counts.tags_planned
    done = counts.tags_pruned + counts.tags_failed + counts.tags_skipped
    assert done == (0 if report.order.plan_only else counts.tags_planned)
    held = sum(report.kept_by_reason.get(reason, 0) for reason in ("GracePeriod", "LimitTruncated"))
    assert counts.tags_kept == sum(report.kept_by_reason.values()) - held
    if report.plan is not None:
        assert report.plan.deletions == counts.tags_planned
    assert report.completion is not None
    assert report.completion >= NOW
    assert report.message


def _repository(name: str, *old: str, kept: Sequence[str] = ("latest",)) -> Inventory:
    """Return a repository with old tags, an image each, and tags that stay."""
    tags = {tag: image(f"{name}/{tag}") for tag in old} | {tag: image(f"{name}/{tag}", 1) for tag in kept}
    return inventory(tags, repository=name)


def _content(*repositories: Inventory) -> dict[str, Inventory | RunError]:
    return {each.repository: each for each in repositories}


_TWO = _content(_repository("team/a", "a1", "a2"), _repository("team/b", "b1"))


# Planning


async def test_a_run_that_only_plans_never_prunes() -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, plan_only=True)
    assert report.phase is Phase.SUCCEEDED
    assert report.counts.tags_planned == 3
    assert registry.visited == []
    assert report.message == "3 of 5 tags would be pruned"


async def test_a_dry_run_and_a_real_run_compute_the_same_plan() -> None:
    reports = [await _run(_Registry(_TWO), plan_only=plan_only) for plan_only in (True, False)]
    dry, real = (report.plan for report in reports)
    assert dry == real
    assert dry is not None
    whole = [planned(_POLICY, each) for each in _TWO.values() if isinstance(each, Inventory)]
    assert dry.hash == plan_hash(_POLICY, whole)


async def test_a_plan_is_hashed_the_same_whatever_order_the_registry_lists_in() -> None:
    backwards = dict(reversed(list(_TWO.items())))
    one, other = [await _run(_Registry(content), plan_only=True) for content in (_TWO, backwards)]
    assert one.plan is not None
    assert other.plan is not None
    assert one.plan.hash == other.plan.hash


async def test_the_sample_shows_ten_of_what_would_go() -> None:
    registry = _Registry(_content(*(_repository(f"team/{place}", "x1", "x2", "x3") for place in range(5))))
    report = await _run(registry, plan_only=True)
    assert report.plan is not None
    assert (len(report.plan.sample), report.plan.deletions) == (10, 15)
    first = report.plan.sample[0]
    assert (first.repository, first.tag, first.rule, first.reasons) == ("team/0", "x1", "builds", ("OlderThan",))
    assert first.digest == digest("team/0/x1")


async def test_only_the_repositories_that_the_policy_selects_are_read() -> None:
    registry = _Registry(_TWO)
    what = policy(rule(days=30), repositories=selector("team/*", exclude=["team/a"]))
    report = await _run(registry, what=what)
    assert (registry.read, registry.asked, report.counts.repositories_scanned) == (["team/b"], [["team/b"]], 1)
    assert registry.pruned == ["team/b:b1"]


async def test_what_a_registry_deletes_is_asked_once() -> None:
    registry = _Registry(_TWO, deletes=Deletion.BY_TAG, detail="all tags of an image stream in one update")
    report = await _run(registry, plan_only=True)
    assert registry.asked == [["team/a", "team/b"]]
    assert report.deletion == DeletionSupport(Deletion.BY_TAG, "all tags of an image stream in one update")


async def test_where_no_repository_is_selected_nothing_is_asked_or_told_of_deletion() -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, what=policy(rule(days=30), repositories=selector("other/*")))
    assert (registry.asked, report.deletion, report.phase) == ([], None, Phase.SUCCEEDED)


async def test_a_registry_that_cannot_say_what_it_deletes_is_not_read_or_pruned() -> None:
    registry = _Registry(_TWO, undecided=_BROKEN)
    report = await _run(registry)
    assert (report.phase, report.plan, report.deletion) == (Phase.FAILED, None, None)
    assert (registry.read, registry.visited) == ([], [])


async def test_the_plan_of_a_policy_without_address_is_hashed_with_the_one_that_was_found() -> None:
    what = policy(rule(name="builds", days=30), registry="")
    report = await _run(_Registry(_TWO, address="registry.svc:5000"), plan_only=True, what=what)
    whole = [planned(_POLICY, each) for each in _TWO.values() if isinstance(each, Inventory)]
    assert report.plan is not None
    assert report.plan.hash == plan_hash(policy(registry="registry.svc:5000"), whole)
    assert report.plan.hash != plan_hash(_POLICY, whole)


@pytest.mark.parametrize(
    ("deletes", "planned_tags"), [(Deletion.BY_TAG, 1), (Deletion.BY_DIGEST, 0), (Deletion.UNKNOWN, 0)]
)
async def test_a_plan_reckons_with_what_the_registry_deletes(deletes: Deletion, planned_tags: int) -> None:
    same = image("same")
    registry = _Registry(_content(inventory({"old": same, "latest": same})), deletes=deletes)
    report = await _run(registry)
    assert report.counts.tags_planned == report.counts.tags_pruned == planned_tags


async def test_tags_that_a_rule_owns_are_counted_as_matched() -> None:
    what = policy(rule("x.*", exclude=["x9"], days=30))
    registry = _Registry(_content(_repository("team/a", "x1", "x9", "y", kept=["latest", "x2"])))
    report = await _run(registry, what=what, plan_only=True)
    assert (report.counts.tags_matched, report.counts.tags_planned, report.counts.tags_kept) == (3, 1, 4)
    assert report.kept_by_reason == {"Excluded": 1, "Unmatched": 1, "KeepTags": 1, "NotOldEnough": 1}


# Pruning


async def test_what_was_planned_is_pruned_and_written_down() -> None:
    registry, audit = _Registry(_TWO), RecordingAudit()
    report = await _run(registry, audit=audit)
    assert report.phase is Phase.SUCCEEDED
    assert sorted(registry.pruned) == ["team/a:a1", "team/a:a2", "team/b:b1"]
    assert sorted(audit.ends) == [
        ("team/a", "a1", Outcome.PRUNED),
        ("team/a", "a2", Outcome.PRUNED),
        ("team/b", "b1", Outcome.PRUNED),
    ]
    assert [plan.repository for plan in audit.plans] == ["team/a", "team/b"]
    assert audit.reports == [report]
    assert report.message == "3 of 3 planned tags are pruned"


async def test_a_repository_without_anything_to_prune_is_not_visited() -> None:
    registry = _Registry(_content(_repository("team/a"), _repository("team/b", "b1")))
    await _run(registry)
    assert registry.visited == ["team/b"]


@pytest.mark.parametrize("outcome", [Outcome.MOVED, Outcome.NOW_SHARED])
async def test_what_changed_since_the_plan_is_skipped_and_no_failure(outcome: Outcome) -> None:
    report = await _run(_Registry(_TWO, outcomes={"a1": outcome}))
    assert report.phase is Phase.SUCCEEDED
    assert (report.counts.tags_pruned, report.counts.tags_skipped) == (2, 1)


async def test_what_others_took_away_is_not_counted_as_pruned() -> None:
    report = await _run(_Registry(_TWO, outcomes={"a1": Outcome.ALREADY_GONE}))
    assert (report.phase, report.counts.tags_pruned, report.counts.tags_skipped) == (Phase.SUCCEEDED, 2, 1)


# What fails


async def test_a_repository_that_cannot_be_read_is_not_pruned_and_others_go_on() -> None:
    registry, audit = _Registry({"team/x": _BROKEN, **_TWO}), RecordingAudit()
    report = await _run(registry, audit=audit)
    assert report.phase is Phase.PARTIAL
    assert "team/x" not in registry.visited
    assert (report.counts.repositories_failed, report.counts.repositories_scanned) == (1, 2)
    assert report.counts.tags_pruned == 3
    assert report.message == "team/x: an answer is no JSON; 3 of 3 planned tags are pruned"
    assert [failure.repository for failure in audit.failures] == ["team/x"]


async def test_a_repository_that_cannot_be_read_is_not_in_the_plan() -> None:
    report = await _run(_Registry({"team/x": _BROKEN, **_TWO}), plan_only=True)
    whole = await _run(_Registry(_TWO), plan_only=True)
    assert report.phase is Phase.PARTIAL
    assert report.plan == whole.plan


@pytest.mark.parametrize("plan_only", [True, False])
async def test_a_list_that_cannot_be_had_whole_fails_the_run_and_nothing_is_pruned(*, plan_only: bool) -> None:
    registry = _Registry(_TWO, listing=_BROKEN)
    report = await _run(registry, plan_only=plan_only)
    assert (report.phase, report.plan, report.deletion) == (Phase.FAILED, None, None)
    assert (registry.read, registry.visited) == ([], [])
    assert report.message == "an answer is no JSON"


async def test_a_login_that_fails_fails_the_run() -> None:
    registry = _Registry(_TWO)
    failure = Failure("LoginFailed", "the registry refuses the password", mendable=True)
    report = await _run(registry, login=RunError(failure))
    assert (report.phase, report.plan, report.failures) == (Phase.FAILED, None, (failure,))
    assert registry.visited == []


async def test_a_failure_that_stops_the_run_while_it_plans_prunes_nothing_anywhere() -> None:
    first, second = _TWO.items()
    registry = _Registry(dict([first, ("team/ab", _UNREACHABLE), second]))
    report = await _run(registry)
    assert report.phase is Phase.FAILED
    assert (registry.read, registry.visited) == (["team/a", "team/ab"], [])
    assert report.plan is None


async def test_several_repositories_are_read_at_a_time_and_taken_in_their_order() -> None:
    last = asyncio.Event()

    async def reading(repository: str) -> None:
        if repository == "team/d":
            last.set()
        await last.wait()
        for _ in range("dcba".index(repository[-1])):  # the first is through last
            await asyncio.sleep(0)

    audit = RecordingAudit()
    async with asyncio.timeout(10):
        report = await _run(_Registry(_FOUR, reading=reading), audit=audit, plan_only=True, at_a_time=4)
    assert report.phase is Phase.SUCCEEDED
    assert [plan.repository for plan in audit.plans] == ["team/a", "team/b", "team/c", "team/d"]


async def test_no_more_repositories_are_read_than_allowed_however_long_the_first_takes() -> None:
    begun: list[str] = []
    seen: list[list[str]] = []

    async def reading(repository: str) -> None:
        begun.append(repository)
        if repository == "team/a":
            for _ in range(50):
                await asyncio.sleep(0.001)
            seen.append(list(begun))

    await _run(_Registry(_FOUR, reading=reading), plan_only=True, at_a_time=2)
    assert (seen, begun) == ([["team/a", "team/b"]], ["team/a", "team/b", "team/c", "team/d"])


async def test_what_is_being_read_when_the_run_stops_is_given_up() -> None:
    given_up: list[str] = []

    async def reading(repository: str) -> None:
        if repository != "team/a":
            try:
                await asyncio.Event().wait()
            finally:
                given_up.append(repository)
        await asyncio.sleep(0)

    registry = _Registry({**_FOUR, "team/a": _UNREACHABLE}, reading=reading)
    async with asyncio.timeout(10):
        report = await _run(registry, plan_only=True, at_a_time=3)
    assert (report.phase, given_up) == (Phase.FAILED, ["team/b", "team/c"])


async def test_a_plan_that_is_being_counted_when_the_run_is_cancelled_is_counted_whole() -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Slow(RecordingAudit):
        @override
        def planned(self, plan: RepositoryPlan) -> None:
            begun.set()
            assert may_end.wait(10)
            super().planned(plan)

    audit = Slow()
    run = asyncio.create_task(_run(_Registry(_FOUR), audit=audit, plan_only=True))
    assert await asyncio.to_thread(begun.wait, 10)  # and the loop is free meanwhile
    run.cancel()
    await asyncio.sleep(0)
    assert not run.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [plan.repository for plan in audit.plans] == ["team/a"]


async def test_what_was_read_behind_one_that_takes_too_long_is_left_to_the_next_run() -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/a"))
    report = await _run(registry, time=_TIME, at_a_time=4)
    assert (report.phase, registry.pruned, report.next_repository) == (Phase.PARTIAL, [], "team/b")


async def test_a_failure_that_stops_the_run_while_it_prunes_stops_it_everywhere() -> None:
    lost = RunError(Failure("SiblingLost", "a sibling went along", stops_run=True))
    registry = _Registry(_content(_repository("team/a", "a1"), *_two_more()), outcomes={"b1": lost})
    report = await _run(registry)
    assert report.phase is Phase.PARTIAL
    assert registry.visited == ["team/a", "team/b"]
    assert (report.counts.tags_planned, report.counts.tags_pruned, report.counts.tags_skipped) == (4, 1, 3)


def _two_more() -> list[Inventory]:
    return [_repository("team/b", "b1", "b2"), _repository("team/c", "c1")]


async def test_a_failure_of_one_repository_while_it_prunes_leaves_the_others_alone() -> None:
    registry = _Registry(_content(_repository("team/a", "a1"), *_two_more()), outcomes={"b1": _BROKEN, "b2": _BROKEN})
    report = await _run(registry)
    assert report.phase is Phase.PARTIAL
    assert registry.visited == ["team/a", "team/b", "team/c"]
    assert (report.counts.tags_pruned, report.counts.tags_skipped, report.counts.repositories_failed) == (2, 2, 1)


async def test_a_tag_that_the_registry_refuses_to_prune_does_not_stop_the_others() -> None:
    report = await _run(_Registry(_TWO, outcomes={"a1": Outcome.FAILED}))
    assert report.phase is Phase.PARTIAL
    assert (report.counts.tags_pruned, report.counts.tags_failed) == (2, 1)
    assert report.failures == ()


async def test_a_run_that_could_prune_nothing_it_planned_failed() -> None:
    report = await _run(_Registry(_TWO, outcomes=dict.fromkeys(["a1", "a2", "b1"], Outcome.FAILED)))
    assert (report.phase, report.counts.tags_failed) == (Phase.FAILED, 3)


async def test_a_deletion_without_effect_stops_that_repository_and_is_no_success() -> None:
    content = _content(_repository("team/a", "a1", "a2", "a3"), _repository("team/b", "b1"))
    registry = _Registry(content, outcomes=dict.fromkeys(["a1", "a2", "a3"], Outcome.NOT_DELETED))
    report = await _run(registry)
    assert report.phase is Phase.PARTIAL
    assert registry.pruned == ["team/b:b1"]
    assert (report.counts.tags_failed, report.counts.tags_skipped, report.counts.tags_pruned) == (1, 2, 1)
    (failure,) = report.failures
    assert (failure.reason, failure.repository) == ("DeletionWithoutEffect", "team/a")
    assert "still serves it" in failure.message


def _in_the_order_in_which_they_go(*tags: str) -> list[str]:
    return sorted(tags, key=lambda tag: digest(f"team/a/{tag}"))


async def test_one_that_is_there_again_where_others_went_is_passed_over_and_counts_as_failed() -> None:
    first, again, last = _in_the_order_in_which_they_go("a1", "a2", "a3")
    content = _content(_repository("team/a", "a1", "a2", "a3"))
    registry = _Registry(content, outcomes={again: Outcome.NOT_DELETED})
    report = await _run(registry)
    assert (report.phase, report.failures) == (Phase.PARTIAL, ())
    assert registry.pruned == [f"team/a:{first}", f"team/a:{last}"]
    assert (report.counts.tags_pruned, report.counts.tags_failed, report.counts.tags_skipped) == (2, 1, 0)
    assert "1 could not be pruned, are still there though accepted" in report.message


async def test_two_in_a_row_that_are_still_there_stop_the_repository() -> None:
    first, second, third, _ = _in_the_order_in_which_they_go("a1", "a2", "a3", "a4")
    content = _content(_repository("team/a", "a1", "a2", "a3", "a4"))
    registry = _Registry(content, outcomes=dict.fromkeys([second, third], Outcome.NOT_DELETED))
    report = await _run(registry)
    assert [failure.reason for failure in report.failures] == ["DeletionWithoutEffect"]
    assert registry.pruned == [f"team/a:{first}"]
    assert (report.counts.tags_failed, report.counts.tags_skipped) == (2, 1)


async def test_all_tags_of_a_digest_that_is_there_again_are_passed_over_together() -> None:
    first, then = sorted(["one", "another"], key=digest)
    registry = _Registry(
        _content(inventory({"a1": image(then), "a2": image(then), "a3": image(first)})),
        outcomes={"a1": Outcome.NOT_DELETED, "a2": Outcome.NOT_DELETED},
    )
    report = await _run(registry)
    assert (report.failures, report.counts.tags_pruned, report.counts.tags_failed) == ((), 1, 2)


async def test_every_tag_of_a_digest_whose_deletion_had_no_effect_counts_as_failed() -> None:
    same = image("same")
    registry = _Registry(
        _content(inventory({"a1": same, "a2": same})),
        outcomes={"a1": Outcome.NOT_DELETED, "a2": Outcome.NOT_DELETED},
    )
    report = await _run(registry)
    assert (report.counts.tags_failed, report.counts.tags_skipped) == (2, 0)


@pytest.mark.parametrize(
    ("deletes", "reason"),
    [
        (Deletion.DISABLED, "DeletionDisabled"),
        (Deletion.READ_ONLY, "ReadOnly"),
        (Deletion.FORBIDDEN, "DeletionForbidden"),
    ],
)
async def test_where_nothing_can_be_deleted_a_real_run_says_so_and_prunes_nothing(
    deletes: Deletion, reason: str
) -> None:
    registry = _Registry(_TWO, deletes=deletes)
    report = await _run(registry)
    assert (report.phase, [failure.reason for failure in report.failures]) == (Phase.FAILED, [reason])
    assert registry.visited == []
    assert report.plan is not None
    assert (await _run(_Registry(_TWO, deletes=deletes), plan_only=True)).phase is Phase.SUCCEEDED


async def test_a_missing_right_is_told_in_the_words_of_who_found_it_and_has_to_be_mended() -> None:
    detail = "ServiceAccount team:pruner lacks: delete imagestreamtags in namespace team"
    report = await _run(_Registry(_TWO, deletes=Deletion.FORBIDDEN, detail=detail))
    (failure,) = report.failures
    assert (failure.reason, failure.message, failure.mendable) == ("DeletionForbidden", detail, True)


async def test_where_there_is_nothing_to_prune_it_does_not_matter_what_can_be_deleted() -> None:
    report = await _run(_Registry(_content(_repository("team/a")), deletes=Deletion.DISABLED))
    assert report.phase is Phase.SUCCEEDED


async def test_a_run_that_could_read_no_repository_publishes_no_plan() -> None:
    # Published, it would let the next run prune what nobody has seen in a plan (design, 12 and 14).
    report = await _run(_Registry({"team/a": _BROKEN, "team/b": _BROKEN}), plan_only=True)
    assert report.phase is Phase.FAILED
    assert report.plan is None


# Doubts and interruptions

_SKEWED = timedelta(minutes=5, seconds=1)


@pytest.mark.parametrize(
    ("registry_offset", "server_offset"),
    [(_SKEWED, timedelta(0)), (timedelta(0), _SKEWED), (-_SKEWED, None), (None, -_SKEWED)],
)
async def test_clocks_that_differ_block_the_run_and_nothing_is_pruned(
    registry_offset: timedelta | None, server_offset: timedelta | None
) -> None:
    registry = _Registry(_TWO, offset=registry_offset)
    report = await _run(registry, guard=FixedGuard(server_offset))
    assert report.phase is Phase.BLOCKED
    assert [failure.reason for failure in report.failures] == ["ClockSkew"]
    assert registry.visited == []
    assert (report.counts.tags_planned, report.counts.tags_skipped) == (3, 3)
    assert report.plan is not None
    assert "synchronise" in report.message


@pytest.mark.parametrize("offset", [None, timedelta(0), timedelta(minutes=5), timedelta(minutes=-5)])
async def test_clocks_that_differ_little_or_tell_nothing_block_nothing(offset: timedelta | None) -> None:
    report = await _run(_Registry(_TWO, offset=offset), guard=FixedGuard(offset))
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 3)


@pytest.mark.parametrize(("deletions", "pruned"), [(0, 0), (1, 1), (2, 2)])
async def test_a_run_is_interrupted_before_its_next_deletion_and_tells_what_it_did(deletions: int, pruned: int) -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, guard=FixedGuard(steps=2 + deletions))  # two to plan the repositories
    assert report.phase is Phase.INTERRUPTED
    assert len(registry.pruned) == report.counts.tags_pruned == pruned
    assert report.counts.tags_skipped == 3 - pruned
    assert report.message == f"stopped: the policy was suspended; {pruned} of 3 planned tags are pruned"


_OTHER_CRD = Failure("CRDMismatch", "the served CRD is another one", mendable=True, blocks=True)


async def test_a_run_that_may_only_plan_publishes_its_plan_prunes_nothing_and_uses_up_no_approval() -> None:
    registry, store = _Registry(_TWO), MemoryStore(nothing_published("a-uid"))
    report = await _run(registry, guard=FixedGuard(doubted=_OTHER_CRD), store=store)
    assert report.phase is Phase.BLOCKED
    assert report.failures == (_OTHER_CRD,)
    assert registry.visited == []
    assert report.plan is not None
    assert store.published.hash == report.plan.hash
    approved = await _run(registry, guard=FixedGuard(doubted=_OTHER_CRD), store=store, approval=report.plan.hash)
    assert not approved.approval_taken


async def test_a_dry_run_tells_that_runs_only_plan_and_does_not_fail_for_that() -> None:
    report = await _run(_Registry(_TWO), plan_only=True, guard=FixedGuard(doubted=_OTHER_CRD))
    assert (report.phase, report.failures) == (Phase.SUCCEEDED, ())
    assert "a run that prunes would be blocked: the served CRD is another one" in report.message


async def test_what_stops_a_run_while_it_waits_for_the_watch_of_pods_stops_it_before_the_deletion() -> None:
    registry, guard = _Registry(_TWO), FixedGuard()

    class _Slow(FixedUse):
        @override
        async def _since(self) -> InUse:
            guard.halted = True
            return await super()._since()

    report = await _run(registry, guard=guard, workloads=_Slow())
    assert (report.phase, registry.pruned) == (Phase.INTERRUPTED, [])
    assert "the Lease was lost" in report.message


@pytest.mark.parametrize("plan_only", [True, False])
async def test_a_run_that_is_interrupted_while_it_plans_has_no_plan(*, plan_only: bool) -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, plan_only=plan_only, guard=FixedGuard(steps=1))
    assert (report.phase, report.plan) == (Phase.INTERRUPTED, None)
    assert (registry.read, registry.visited) == (["team/a"], [])


# Several repositories at a time


_FOUR = _content(*(_repository(f"team/{name}", f"{name}1", f"{name}2") for name in "abcd"))


@dataclass
class _Rendezvous:
    """Lets the first looks of a number of repositories meet, and the later ones follow when told to."""

    number: int
    first: set[str] = field(default_factory=set)
    met: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, place: str) -> None:
        repository = place.partition(":")[0]
        if repository in self.first:
            await asyncio.wait_for(self.go_on.wait(), 5)
        else:
            self.first.add(repository)
            if len(self.first) >= self.number:
                self.met.set()
            await asyncio.wait_for(self.met.wait(), 5)
        # Whoever else may go on does so, too.
        await asyncio.sleep(0)


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 9])
async def test_as_many_repositories_are_pruned_at_a_time_as_the_registry_says(at_once: int) -> None:
    looks: Counter[str] = Counter()
    most = 0

    async def pace(place: str) -> None:
        nonlocal most
        repository = place.partition(":")[0]
        looks[repository] += 1
        most = max(most, sum(number < 3 for number in looks.values()))
        await asyncio.sleep(0)
        if looks[repository] == 2:
            looks[repository] = 3  # its last deletion

    registry = _Registry(_FOUR, at_once=at_once, pace=pace)
    report = await _run(registry)
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 8)
    assert len(registry.pruned) == len(set(registry.pruned)) == 8
    assert most == min(at_once, 4)


async def test_an_interruption_in_one_repository_stops_the_others_before_their_next_deletion() -> None:
    meeting = _Rendezvous(3)
    meeting.go_on.set()
    registry = _Registry(_FOUR, at_once=3, pace=meeting, left=Aftermath(2, Collector.ACTIVE))
    guard = FixedGuard(steps=4 + 2)  # four to plan; two of the three first looks pass, the third is refused
    report = await _run(registry, guard=guard)
    assert report.phase is Phase.INTERRUPTED
    assert (len(registry.pruned), report.counts.tags_pruned, report.counts.tags_skipped) == (2, 2, 6)
    assert len(registry.visited) == 3
    assert report.message == "stopped: the policy was suspended; 2 of 8 planned tags are pruned"
    assert report.aftermath == Aftermath(2, Collector.ACTIVE)


async def test_a_guard_is_not_asked_again_once_the_run_is_stopped() -> None:
    meeting = _Rendezvous(4)
    meeting.go_on.set()
    registry = _Registry(_FOUR, at_once=4, pace=meeting)
    guard = FixedGuard(steps=4 + 1)
    await _run(registry, guard=guard)
    assert guard.steps == -1
    assert len(registry.pruned) == 1


async def test_a_failure_that_stops_the_run_stops_the_repositories_beside_it() -> None:
    lost = RunError(Failure("SiblingLost", "a sibling went along", stops_run=True))
    meeting = _Rendezvous(3)
    meeting.go_on.set()
    outcomes = {"b1": lost, "b2": lost}
    registry = _Registry(_FOUR, outcomes=outcomes, at_once=3, pace=meeting, left=Aftermath(2, Collector.MISSING))
    report = await _run(registry)
    assert report.phase is Phase.PARTIAL
    assert [failure.reason for failure in report.failures] == ["SiblingLost"]
    assert "team/d" not in registry.visited
    # Who has looked just before may carry out that one deletion, and no other.
    assert all(sum(tag.startswith(f"team/{name}:") for tag in registry.pruned) <= 1 for name in "ac")
    assert report.counts.tags_pruned == len(registry.pruned) <= 2
    assert report.counts.tags_skipped == 8 - len(registry.pruned)
    assert report.aftermath == Aftermath(2, Collector.MISSING)


async def test_a_failure_of_one_repository_leaves_those_beside_it_alone() -> None:
    meeting = _Rendezvous(4)
    meeting.go_on.set()
    registry = _Registry(_FOUR, outcomes={"b1": _BROKEN, "b2": _BROKEN}, at_once=4, pace=meeting)
    report = await _run(registry)
    assert report.phase is Phase.PARTIAL
    assert sorted(registry.pruned) == [f"team/{name}:{name}{number}" for name in "acd" for number in (1, 2)]
    assert (report.counts.repositories_failed, report.counts.tags_skipped) == (1, 2)


async def test_a_deletion_without_effect_stops_its_repository_and_none_beside_it() -> None:
    outcomes = dict.fromkeys(["b1", "b2"], Outcome.NOT_DELETED)
    registry = _Registry(_FOUR, outcomes=outcomes, at_once=4)
    report = await _run(registry)
    assert [(failure.reason, failure.repository) for failure in report.failures] == [
        ("DeletionWithoutEffect", "team/b")
    ]
    assert (report.counts.tags_pruned, report.counts.tags_failed, report.counts.tags_skipped) == (6, 1, 1)


async def test_a_bug_in_one_repository_ends_the_deletions_beside_it_before_it_is_raised() -> None:
    """Nothing may go on to delete for a run that has ended."""
    meeting = _Rendezvous(4)

    async def pace(place: str) -> None:
        await meeting(place)
        if place.startswith("team/b"):
            raise LookupError("a bug")

    registry = _Registry(_FOUR, at_once=4, pace=pace)
    with pytest.raises(LookupError):
        await _run(registry)
    before = list(registry.pruned)
    meeting.go_on.set()
    await asyncio.sleep(0.05)
    assert registry.pruned == before


async def test_what_is_left_to_others_is_told_after_a_run_that_prunes_only() -> None:
    left = Aftermath(3, Collector.SUSPENDED)
    assert (await _run(_Registry(_TWO, left=left))).aftermath == left
    assert (await _run(_Registry(_TWO, left=left), plan_only=True)).aftermath is None


# What a person should be told besides


async def test_a_pattern_of_keep_tags_that_matches_no_tag_is_reported() -> None:
    what = policy(rule(days=30), keep_tags=["relaese-.*", "a1", "latest"])
    report = await _run(_Registry(_TWO), plan_only=True, what=what)
    assert report.message == "2 of 5 tags would be pruned; matching nothing, mistyped? spec.keepTags 'relaese-.*'"


async def test_a_pattern_of_keep_tags_is_not_called_idle_when_a_repository_could_not_be_read() -> None:
    what = policy(rule(days=30), keep_tags=["release-.*"])
    report = await _run(_Registry({**_TWO, "team/c": _BROKEN}), plan_only=True, what=what)
    assert "mistyped" not in report.message


async def test_every_pattern_and_glob_that_matches_nothing_is_reported_with_its_place() -> None:
    what = policy(
        rule(".*", exclude=["V.*"], days=30),
        rule("w[0-9]", name="other", repositories=selector("taem/a"), days=30),
        repositories=selector("**", exclude=["team/z"]),
    )
    report = await _run(_Registry(_TWO), plan_only=True, what=what)
    idle = report.message.partition("mistyped? ")[2]
    assert idle == (
        "spec.repositories.exclude 'team/z', spec.rules[1].repositories.include 'taem/a', "
        "spec.rules[0].tags.exclude 'V.*' and 1 more"
    )


async def test_an_exclude_beside_repositories_named_in_full_is_not_called_mistyped() -> None:
    what = policy(rule(".*", days=30), repositories=selector("team/a", exclude=["team/z"]))
    assert "mistyped" not in (await _run(_Registry(_TWO), plan_only=True, what=what)).message


# Grace period, approval, limits


async def test_a_policy_that_was_never_planned_prunes_nothing_and_publishes_its_plan() -> None:
    registry, store = _Registry(_TWO), MemoryStore(nothing_published(_POLICY.uid))
    report = await _run(registry, store=store)
    assert (report.phase, registry.visited) == (Phase.SUCCEEDED, [])
    assert report.kept_by_reason["GracePeriod"] == 3
    assert (report.counts.tags_planned, report.counts.tags_skipped) == (3, 3)
    assert report.plan is not None
    assert report.plan.prunable_from == NOW + timedelta(hours=24)
    assert store.published.first("team/a", "a1", digest("team/a/a1")) == NOW
    assert store.published.hash == report.plan.hash
    assert report.message == (
        "0 of 3 planned tags are pruned; waiting for the grace period: 3 (the first may go from 2026-06-16T12:00:00Z)"
    )


async def test_what_was_published_a_grace_period_ago_goes_and_is_then_forgotten() -> None:
    registry = _Registry(_TWO)
    store = _published_before(registry, _POLICY, days=1)
    report = await _run(registry, store=store)
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 3)
    assert store.published.first("team/a", "a1", digest("team/a/a1")) is None


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.NOT_DELETED, Outcome.NOW_SHARED])
async def test_what_did_not_go_is_remembered_so_that_the_next_run_tries_again(outcome: Outcome) -> None:
    registry = _Registry(_TWO, outcomes={"a1": outcome})
    store = _published_before(registry, _POLICY)
    await _run(registry, store=store)
    assert store.published.first("team/a", "a1", digest("team/a/a1")) == NOW - timedelta(days=2)


async def test_what_a_repository_had_published_is_remembered_while_it_cannot_be_read() -> None:
    registry = _Registry(_TWO)
    store = _published_before(registry, _POLICY)
    registry.content = {**_TWO, "team/a": _BROKEN}
    await _run(registry, store=store, plan_only=True)
    assert store.published.first("team/a", "a1", digest("team/a/a1")) == NOW - timedelta(days=2)


async def test_clocks_that_differ_start_no_grace_period() -> None:
    store = MemoryStore(nothing_published(_POLICY.uid))
    report = await _run(_Registry(_TWO, offset=_SKEWED), store=store, plan_only=True)
    assert (report.phase, store.saved) == (Phase.BLOCKED, [])


async def test_without_its_published_plan_a_run_prunes_nothing() -> None:
    failure = Failure("PlanStoreForbidden", "the operator may not read ConfigMaps", mendable=True)
    store = replace(_published_before(_Registry(_TWO), _POLICY), unreadable=RunError(failure))
    registry = _Registry(_TWO)
    report = await _run(registry, store=store)
    assert (report.phase, report.failures, registry.visited) == (Phase.FAILED, (failure,), [])


async def test_a_plan_that_cannot_be_published_prunes_nothing() -> None:
    failure = Failure("PlanStoreForbidden", "the operator may not write ConfigMaps", mendable=True)
    store = replace(_published_before(_Registry(_TWO), _POLICY), unwritable=RunError(failure))
    registry = _Registry(_TWO)
    report = await _run(registry, store=store)
    assert (report.phase, report.failures, registry.visited) == (Phase.FAILED, (failure,), [])


async def test_a_plan_that_waits_for_approval_goes_once_it_is_approved() -> None:
    what = replace(_POLICY, approval_required=True)
    registry = _Registry(_TWO)
    store = _published_before(registry, what, days=1)
    waits = await _run(registry, what=what, store=store)
    assert (waits.phase, registry.visited, waits.plan is not None) == (Phase.AWAITING_APPROVAL, [], True)
    assert waits.waiting is not None
    assert (waits.waiting.approval, waits.waiting.unapproved) == (True, 3)
    assert waits.plan is not None
    goes = await _run(registry, what=what, store=store, approval=waits.plan.hash)
    assert (goes.phase, goes.counts.tags_pruned, goes.approval_taken) == (Phase.SUCCEEDED, 3, True)
    again = await _run(_Registry(_TWO), what=what, store=store)
    assert again.phase is Phase.AWAITING_APPROVAL


async def test_an_approval_of_another_plan_approves_nothing_and_the_message_says_so() -> None:
    what = replace(_POLICY, approval_required=True)
    registry = _Registry(_TWO)
    report = await _run(registry, what=what, approval="f" * 64)
    assert (report.phase, registry.visited, report.approval_taken) == (Phase.AWAITING_APPROVAL, [], False)
    assert "names another plan" in report.message


async def test_only_what_the_approved_and_the_fresh_plan_both_hold_goes() -> None:
    what = replace(_POLICY, approval_required=True)
    before = _Registry(_content(_repository("team/a", "a1")))
    store = _published_before(before, what, days=1)
    registry = _Registry(_content(_repository("team/a", "a1", "a2")))
    report = await _run(registry, what=what, store=store, approval=store.published.hash)
    assert registry.pruned == ["team/a:a1"]
    assert (report.phase, report.approval_taken) == (Phase.SUCCEEDED, True)


async def test_an_approval_of_a_plan_that_is_over_a_day_old_approves_nothing() -> None:
    what = replace(_POLICY, approval_required=True)
    before = _Registry(_content(_repository("team/a", "a1")))
    for days, approves in ((1, True), (1.01, False)):
        store = _published_before(before, what, days=days)
        registry = _Registry(_content(_repository("team/a", "a1", "a2")))
        report = await _run(registry, what=what, store=store, approval=store.published.hash)
        assert report.approval_taken is approves
        assert registry.pruned == (["team/a:a1"] if approves else [])


async def test_a_plan_that_is_approved_as_it_is_goes_though_its_publication_was_lost() -> None:
    what = replace(_POLICY, limits=Limits(max_deletions=2), grace_period=timedelta(0))
    store = MemoryStore(nothing_published(what.uid))
    planned_before = await _run(_Registry(_TWO), what=what, store=MemoryStore(nothing_published(what.uid)))
    assert planned_before.plan is not None
    first = await _run(_Registry(_TWO), what=what, store=store, approval=planned_before.plan.hash)
    assert (first.approval_taken, first.counts.tags_pruned) == (True, 0)
    second = await _run(_Registry(_TWO), what=what, store=store)
    assert (second.phase, second.counts.tags_pruned) == (Phase.SUCCEEDED, 3)


async def test_what_is_approved_and_waits_for_its_grace_period_is_not_called_too_much() -> None:
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    store = _published_before(_Registry(_TWO), what, days=0.5)
    waits = await _run(_Registry(_TWO), what=what, store=store)
    assert waits.waiting is not None
    assert waits.waiting.exceeded
    approved = await _run(_Registry(_TWO), what=what, store=store, approval=store.published.hash)
    assert approved.waiting is not None
    assert (approved.waiting.exceeded, approved.kept_by_reason["GracePeriod"]) == ((), 3)


async def test_an_approval_that_nothing_waits_for_holds_nothing_back() -> None:
    store = _published_before(_Registry(_content(_repository("team/a", "a1"))), _POLICY)
    store.published = store.published.approve(NOW)
    more = _published_before(_Registry(_TWO), _POLICY).published
    store.published = replace(more, repositories={**more.repositories, **store.published.repositories})
    registry = _Registry(_TWO)
    await _run(registry, store=store)
    assert len(registry.pruned) == 2  # what was published, approved or not: of team/a only a1 was


@pytest.mark.parametrize(("hours", "pruned"), [(24, 3), (25, 0)])
async def test_an_approval_is_used_up_after_a_day(hours: float, pruned: int) -> None:
    what = replace(_POLICY, approval_required=True)
    store = _published_before(_Registry(_TWO), what)
    store.published = store.published.approve(NOW - timedelta(hours=hours))
    report = await _run(_Registry(_TWO), what=what, store=store)
    assert report.counts.tags_pruned == pruned


async def test_an_approval_that_could_not_be_written_down_is_not_taken() -> None:
    what = replace(_POLICY, approval_required=True)
    failure = RunError(Failure("PlanStoreUnavailable", "the API server does not answer"))
    for store, offset in (
        (_published_before(_Registry(_TWO), what), _SKEWED),
        (replace(_published_before(_Registry(_TWO), what), unwritable=failure), timedelta(0)),
    ):
        report = await _run(_Registry(_TWO, offset=offset), what=what, store=store, approval=store.published.hash)
        assert (report.approval_taken, report.counts.tags_pruned) == (False, 0)


async def test_a_plan_that_is_over_a_limit_is_blocked_and_goes_once_it_is_approved() -> None:
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    registry = _Registry(_TWO)
    store = _published_before(registry, what)
    blocked = await _run(registry, what=what, store=store)
    assert (blocked.phase, registry.visited) == (Phase.BLOCKED, [])
    assert blocked.waiting is not None
    assert blocked.waiting.exceeded == ("3 tags would go, more than limits.maxDeletions (2)",)
    assert blocked.plan is not None
    approved = await _run(registry, what=what, store=store, approval=blocked.plan.hash)
    assert (approved.phase, approved.counts.tags_pruned) == (Phase.SUCCEEDED, 3)


async def test_a_plan_that_is_over_a_limit_is_told_before_any_run_is_blocked() -> None:
    what = replace(_POLICY, limits=Limits(max_deletions=2))
    report = await _run(_Registry(_TWO), what=what, plan_only=True, store=MemoryStore(nothing_published(what.uid)))
    assert report.phase is Phase.SUCCEEDED
    assert report.waiting is not None
    assert report.waiting.exceeded
    assert "would be blocked" in report.message


async def test_a_truncated_plan_prunes_the_oldest_and_leaves_the_rest_for_the_next_run() -> None:
    what = replace(_POLICY, limits=Limits(max_deletions=1, on_exceeded=OnExceeded.TRUNCATE))
    there = inventory({"x1": image("1", 50), "x2": image("2", 90), "x3": image("3", 70), "latest": image("new", 1)})
    registry = _Registry(_content(there))
    store = _published_before(registry, what)
    report = await _run(registry, what=what, store=store)
    assert (report.phase, registry.pruned) == (Phase.SUCCEEDED, ["team/app:x2"])
    assert (report.kept_by_reason["LimitTruncated"], report.counts.tags_skipped) == (2, 2)


# Conflicts


def _rival(*, older: bool, globs: str = "team/a", keep: Sequence[str] = ()) -> Rival:
    return Rival("other", "theirs", "their-uid", older, selector(globs), patterns(*keep))


async def test_the_younger_policy_keeps_all_where_an_older_one_prunes_and_asks_for_no_more_than_the_tags() -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, rivals=[_rival(older=True)])
    assert registry.visited == ["team/b"]
    assert (report.kept_by_reason["PolicyConflict"], report.phase) == (3, Phase.SUCCEEDED)
    assert report.conflicts == (Conflict("other", "theirs", "their-uid", yields=True, repositories=("team/a",)),)
    assert "policy other/theirs prunes there" in report.message


async def test_the_older_policy_prunes_and_holds_what_the_younger_one_never_prunes() -> None:
    registry = _Registry(_TWO)
    report = await _run(registry, rivals=[_rival(older=False, keep=["a1", "b1"])])
    assert sorted(registry.pruned) == ["team/a:a2", "team/b:b1"]
    assert report.conflicts is not None
    assert [conflict.yields for conflict in report.conflicts] == [False]


# Claims


async def test_a_run_claims_what_it_may_prune_and_has_it_until_its_end() -> None:
    claims = FixedClaims()
    under_way: list[int] = []

    async def look(_place: str) -> None:
        under_way.append(claims.visits)

    registry = _Registry(_TWO, pace=look)
    await _run(registry, claims=claims, rivals=[_rival(older=True), _rival(older=False, globs="team/b")])
    assert claims.claimed == [(registry.host, ["team/b"])]
    assert (under_way, claims.visits) == ([1], 0)


@pytest.mark.parametrize("broken", [{"listing": _UNREACHABLE}, {"undecided": _UNREACHABLE}])
async def test_a_run_that_fails_has_no_claims_any_more(broken: dict[str, RunError]) -> None:
    claims = FixedClaims()
    await _run(_Registry(_TWO, **broken), claims=claims)  # type: ignore[arg-type] # fields of one type
    assert claims.visits == 0


async def test_a_run_that_only_plans_claims_nothing() -> None:
    claims = FixedClaims()
    await _run(_Registry(_TWO), plan_only=True, claims=claims)
    assert [list(repositories) for _, repositories in claims.claimed] == [[]]


async def test_after_waiting_for_another_run_everything_is_read_afresh() -> None:
    before = _content(_repository("team/a", "a1", "a2"), _repository("team/b", "b1"), _repository("team/c", "c1"))
    registry = _Registry(before)
    store = _published_before(registry, _POLICY)
    use = FixedUse()

    def meanwhile() -> None:
        assert registry.read == []
        # Another run took away a1 and team/c; somebody pushed team/d, and deployed b1.
        registry.content = _content(
            _repository("team/a", "a2"), _repository("team/b", "b1"), _repository("team/d", "d")
        )
        use.in_use = in_use("team/b/b1")

    report = await _run(registry, store=store, workloads=use, claims=FixedClaims(free=False, meanwhile=meanwhile))
    assert registry.pruned == ["team/a:a2"]
    assert registry.read == ["team/a", "team/b"]  # what is new was not claimed
    assert (report.phase, use.ended) == (Phase.SUCCEEDED, 2)


async def test_what_was_left_to_a_rival_is_left_though_the_rival_went_while_the_run_waited() -> None:
    registry = _Registry(_TWO)
    rivals = [_rival(older=True)]
    report = await _run(registry, rivals=rivals, claims=FixedClaims(free=False, meanwhile=rivals.clear))
    assert registry.visited == ["team/b"]
    assert report.conflicts == ()


async def test_what_a_rival_prunes_that_came_while_the_run_waited_is_left_to_it() -> None:
    registry = _Registry(_TWO)
    rivals: list[Rival] = []
    claims = FixedClaims(free=False, meanwhile=lambda: rivals.append(_rival(older=True)))
    await _run(registry, rivals=rivals, claims=claims)
    assert registry.visited == ["team/b"]


async def test_a_run_that_has_to_stop_while_it_waits_prunes_nothing() -> None:
    def stop() -> None:
        raise InterruptedRunError("the operator was stopped")

    registry, use = _Registry(_TWO), FixedUse()
    claims = FixedClaims(free=False, meanwhile=stop)
    report = await _run(registry, workloads=use, claims=claims)
    assert (report.phase, report.plan) == (Phase.INTERRUPTED, None)
    assert (registry.read, registry.visited, claims.visits) == ([], [], 0)
    assert use.ended == len(use.orders) == 1  # what is in use is not watched while it waits


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "without claims"])
async def test_two_runs_that_count_on_each_others_tags_do_not_empty_a_repository(*, claimed: bool) -> None:
    """Neither knows of the other, as when a policy becomes live after a run has looked for rivals."""

    @dataclass
    class Living(_Registry):
        """What is pruned is gone."""

        @override
        async def prune(
            self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
        ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
            async for outcome in super().prune(plan, deletion, proceed, keep):
                await asyncio.sleep(0.01)
                assert isinstance(outcome, ItemOutcome)
                there = self.content[plan.repository]
                assert isinstance(there, Inventory)
                left = {tag: name for tag, name in there.tags.items() if tag != outcome.tag}
                self.content = {**self.content, plan.repository: replace(there, tags=left)}
                yield outcome

    content = inventory({word: image(word, 90) for word in ("x1", "x2", "y1", "y2")}, repository="team/app")
    registry = Living({"team/app": content})
    book = ClaimBook()

    async def run(letter: str) -> RunReport:
        what = policy(rule(f"{letter}.*", days=30), minimum_tags=1, uid=letter)
        claims = RunClaims(book, letter, nullcontext, no_objection) if claimed else FixedClaims()
        return await _run(registry, what=what, store=_published_before(registry, what), claims=claims)

    reports = await asyncio.gather(run("x"), run("y"))
    left = registry.content["team/app"]
    assert isinstance(left, Inventory)
    assert {report.phase for report in reports} == {Phase.SUCCEEDED}
    # Without claims this is what happens, so the test means something.
    assert len(left.tags) == (1 if claimed else 0)
    assert book.claimed == 0


# In use


_UNKNOWN = RunError(Failure("InUseUnknown", "pods cannot be listed: grant list on pods", blocks=True))


async def test_what_is_in_use_stays_and_the_report_names_who_uses_it() -> None:
    registry = _Registry(_TWO)
    use = FixedUse(
        replace(in_use("team/a/a1"), digest_users={digest("team/a/a1"): (User("Pod", "team", "web"),)}),
        summary=ScanSummary(7, ("one note",)),
    )
    store = _published_before(registry, _POLICY)
    report = await _run(registry, workloads=use, store=store)
    assert registry.pruned == ["team/a:a2", "team/b:b1"]
    assert report.kept_by_reason["InUse"] == 1
    assert report.scan == ScanSummary(7, ("one note",))
    assert report.message.endswith("; one note")
    (line,) = (line for line in read_report(store.content) if line.get("users"))
    assert (line["tag"], line["users"]) == ("a1", ["Pod team/web"])
    assert ([order.id for order in use.orders], use.ended) == (["run-1"], 1)


async def test_what_is_in_use_says_what_has_to_be_read() -> None:
    asked: list[Needs] = []

    class Asking(_Registry):
        @override
        async def inventory(
            self, repository: str, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]
        ) -> Inventory:
            asked.append(needs(["a1"]))
            return await super().inventory(repository, needs, known)

    await _run(Asking(_TWO), workloads=FixedUse(in_use("runs")))
    assert [each.digests for each in asked] == [{digest("runs")}] * 2


async def test_a_plan_is_made_by_the_time_at_which_reading_began() -> None:
    # What is not read, since one platform is too young to go, would be a guess a second later.
    clock = _Clock()
    asked: list[Needs] = []
    barely = _repository("team/a", "a1", kept=())
    young = {each: replace(fact, created=NOW - timedelta(days=30)) for each, fact in barely.manifests.items()}

    class Slow(_Registry):
        @override
        async def inventory(
            self, repository: str, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]
        ) -> Inventory:
            asked.append(needs(["a1"]))
            found = await super().inventory(repository, needs, known)
            clock.passed = timedelta(hours=1)
            return found

    report = await _run(Slow({"team/a": replace(barely, manifests=young)}), plan_only=True, clock=clock)
    assert [each.young_after for each in asked] == [NOW - timedelta(days=30)]
    assert report.kept_by_reason == {"NotOldEnough": 1}


async def test_where_what_is_in_use_is_not_known_nothing_is_planned_published_or_pruned() -> None:
    registry = _Registry(_TWO)
    store = _published_before(registry, _POLICY)
    report = await _run(registry, workloads=FixedUse(_UNKNOWN), store=store)
    assert (report.phase, report.plan, report.scan) == (Phase.BLOCKED, None, None)
    assert report.message == "pods cannot be listed: grant list on pods"
    assert (registry.read, registry.visited, store.saved, store.content) == ([], [], [], b"")


async def test_a_policy_that_does_without_does_not_look_at_what_is_in_use() -> None:
    registry = _Registry(_TWO)
    what = replace(_POLICY, in_use=InUseRules(enabled=False))
    use = FixedUse(_UNKNOWN, _UNKNOWN)
    report = await _run(registry, what=what, workloads=use)
    assert (report.phase, report.scan, use.orders) == (Phase.SUCCEEDED, ScanSummary(0, disabled=True), [])
    assert len(registry.pruned) == 3


async def test_what_pods_use_since_the_scan_stays() -> None:
    registry = _Registry(_TWO)
    audit = RecordingAudit()
    store = _published_before(registry, _POLICY)
    use = FixedUse(later=in_use("team/a/a1", tags=["b1"], repository="team/b"))
    report = await _run(registry, workloads=use, audit=audit, store=store)
    assert registry.pruned == ["team/a:a2"]
    assert [outcome for outcome in audit.ends if outcome[2] is Outcome.NOW_IN_USE] == [
        ("team/a", "a1", Outcome.NOW_IN_USE),
        ("team/b", "b1", Outcome.NOW_IN_USE),
    ]
    assert (report.phase, report.counts.tags_pruned, report.counts.tags_skipped) == (Phase.SUCCEEDED, 1, 2)


async def test_pods_are_looked_at_before_each_deletion() -> None:
    use = FixedUse()

    async def deploy(place: str) -> None:
        if place == "team/a:a2":
            use.later = in_use("team/a/a2")
        if place == "team/b:b1":
            use.later = in_use("team/a/a2", "team/b/b1")

    registry = _Registry(_TWO, pace=deploy)
    await _run(registry, workloads=use)
    assert registry.pruned == ["team/a:a1"]


async def test_where_nobody_knows_any_more_what_pods_use_the_run_stops() -> None:
    use = FixedUse()

    async def lose(place: str) -> None:
        if place == "team/a:a1":
            use.later = _UNKNOWN

    registry = _Registry(_TWO, pace=lose)
    report = await _run(registry, workloads=use)
    assert (registry.pruned, registry.visited) == (["team/a:a2"], ["team/a"])
    assert (report.phase, report.counts.tags_pruned, use.ended) == (Phase.BLOCKED, 1, 1)


async def test_what_is_found_only_as_its_subject_goes_stays_where_it_is_in_use() -> None:
    class Finding(_Registry):
        @override
        async def prune(
            self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
        ) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
            for word in ("signature", "used signature"):
                outcome = Outcome.PRUNED if await proceed(digest(word), ()) else Outcome.NOW_IN_USE
                yield UntaggedOutcome(digest(word), outcome)

    audit = RecordingAudit()
    await _run(Finding(_TWO), what=_POLICY, workloads=FixedUse(in_use("used signature")), audit=audit)
    assert [each.outcome for each in audit.manifests] == [Outcome.PRUNED, Outcome.NOW_IN_USE] * 2


async def test_three_notes_of_a_scan_are_told_and_how_many_more() -> None:
    notes = tuple(f"note {number}" for number in range(5))
    report = await _run(_Registry(_TWO), plan_only=True, workloads=FixedUse(summary=ScanSummary(1, notes)))
    assert report.message.endswith("note 0; note 1; note 2; and 2 more notes on what is in use; see the log")


# The report


async def test_every_verdict_and_outcome_is_in_the_report() -> None:
    registry = _Registry({**_TWO, "team/c": _BROKEN}, outcomes={"a1": Outcome.FAILED})
    store = _published_before(registry, _POLICY)
    report = await _run(registry, store=store)
    lines = list(read_report(store.content))
    assert report.reference == ReportReference("report", "lines", 0)
    assert report.plan is not None
    assert (lines[0]["type"], lines[0]["plan"], lines[0]["run"]) == ("run", report.plan.hash, "run-1")
    tags = {(line["repository"], line["tag"]): line for line in lines if line["type"] == "tag"}
    assert len(tags) == 5
    assert tags["team/a", "a1"] == {
        "type": "tag",
        "repository": "team/a",
        "tag": "a1",
        "verdict": "Prune",
        "reasons": ["OlderThan"],
        "rule": "builds",
        "digest": digest("team/a/a1"),
        "date": "2026-03-07T12:00:00+00:00",
        "dateSource": "Created",
    }
    assert (tags["team/b", "latest"]["verdict"], tags["team/b", "latest"]["reason"]) == ("Keep", "KeepTags")
    outcomes = {line["tag"]: (line["outcome"], line.get("code")) for line in lines if line["type"] == "outcome"}
    assert outcomes == {"a1": ("Failed", "DENIED"), "a2": ("Pruned", None), "b1": ("Pruned", None)}
    assert [line["repository"] for line in lines if line["type"] == "incomplete"] == ["team/c"]


async def test_what_is_held_back_is_in_the_report() -> None:
    store = MemoryStore(nothing_published(_POLICY.uid))
    await _run(_Registry(_TWO), store=store)
    held = [line for line in read_report(store.content) if line["type"] == "held"]
    assert {line["tag"] for line in held} == {"a1", "a2", "b1"}
    assert {line["reason"] for line in held} == {"GracePeriod"}


async def test_an_interrupted_run_reports_what_it_did() -> None:
    registry = _Registry(_TWO)
    store = _published_before(registry, _POLICY)
    report = await _run(registry, guard=FixedGuard(steps=3), store=store)
    assert report.phase is Phase.INTERRUPTED
    ends = [line["tag"] for line in read_report(store.content) if line["type"] == "outcome"]
    assert [f"team/a:{tag}" for tag in ends] == registry.pruned
    assert len(ends) == 1


# The time of a run

_FOUR = _content(*(_repository(f"team/{name}", f"{name}1", f"{name}2") for name in "abcd"))
_TIME = timedelta(hours=4)


async def _hours_pass() -> None:
    """Wait for what never comes, while the loop's clock passes over the time of any run."""
    loop = asyncio.get_running_loop()
    real = loop.time
    loop.time = lambda: real() + 2 * _TIME.total_seconds()  # type: ignore[method-assign]  # of this test's loop only
    await asyncio.Event().wait()


def _never_reads(*repositories: str) -> Callable[[str], Awaitable[None]]:
    """Let the reading of these take for ever."""

    async def reading(repository: str) -> None:
        if repository in repositories:
            await _hours_pass()

    return reading


async def test_a_run_that_is_through_in_its_time_knows_nothing_of_it() -> None:
    report = await _run(_Registry(_FOUR), time=_TIME, first="team/c")
    assert (report.phase, report.failures, report.next_repository) == (Phase.SUCCEEDED, (), None)


async def test_what_cannot_be_planned_in_time_is_not_pruned_and_the_rest_is() -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/c"))
    store = _published_before(registry, _POLICY)
    before = store.published
    audit = RecordingAudit()
    report = await _run(registry, time=_TIME, store=store, audit=audit)
    assert report.phase is Phase.PARTIAL
    assert sorted(registry.pruned) == ["team/a:a1", "team/a:a2", "team/b:b1", "team/b:b2"]
    (failure,) = report.failures
    assert audit.failures == [failure]
    assert (failure.reason, failure.repository) == ("Timeout", None)
    assert "with 2 of 4 repositories done; the next run begins with team/c" in report.message
    assert report.next_repository == "team/c"
    assert (report.counts.repositories_scanned, report.counts.repositories_failed) == (2, 2)
    # What is published of the others stays, so that their grace period goes on.
    for name in "cd":
        tag, image_digest = f"{name}1", digest(f"team/{name}/{name}1")
        assert store.published.first(f"team/{name}", tag, image_digest) == before.first(
            f"team/{name}", tag, image_digest
        )
        assert store.published.first(f"team/{name}", tag, image_digest) is not None


async def test_the_next_run_goes_round_from_where_the_last_one_stopped() -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/b"))
    report = await _run(registry, time=_TIME, first="team/c")
    assert registry.read == ["team/c", "team/d", "team/a", "team/b"]
    places = [tag.partition(":")[0] for tag in registry.pruned]
    assert places == ["team/c", "team/c", "team/d", "team/d", "team/a", "team/a"]
    assert report.next_repository == "team/b"


async def test_a_repository_that_takes_a_whole_run_to_read_does_not_stop_the_others_for_ever() -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/b"))
    report = await _run(registry, time=_TIME, first="team/b")
    assert (registry.read, registry.pruned, report.plan) == (["team/b"], [], None)
    assert (report.phase, report.next_repository) == (Phase.PARTIAL, "team/c")
    assert "with 0 of 4 repositories done; the next run begins with team/c" in report.message


@pytest.mark.parametrize("plan_only", [True, False])
async def test_where_nothing_was_read_in_time_nothing_is_published(*, plan_only: bool) -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/a"))
    store = _published_before(registry, _POLICY)
    report = await _run(registry, plan_only=plan_only, time=_TIME, store=store)
    assert (store.saved, report.plan, report.phase) == ([], None, Phase.PARTIAL)


async def test_a_registry_that_does_not_even_list_in_time_forgets_nothing_and_where_to_begin_stays() -> None:
    @dataclass
    class _Silent(_Registry):
        @override
        async def repositories(self) -> Sequence[str]:
            await _hours_pass()
            raise AssertionError

    registry = _Silent(_FOUR)
    store = _published_before(registry, _POLICY)
    report = await _run(registry, time=_TIME, store=store, first="team/c")
    assert (store.saved, report.plan, report.phase, report.next_repository) == ([], None, Phase.PARTIAL, "team/c")
    assert report.message.startswith("spec.timeout ended the run before any repository could be planned")


async def test_a_plan_that_was_not_through_in_time_is_published_as_far_as_it_came() -> None:
    registry = _Registry(_FOUR, reading=_never_reads("team/d"))
    report = await _run(registry, plan_only=True, time=_TIME)
    assert (report.phase, report.counts.tags_planned, report.next_repository) == (Phase.PARTIAL, 6, "team/d")
    assert report.plan is not None


def _after(clock: _Clock, place: str, passed: timedelta) -> Callable[[str], Awaitable[None]]:
    """Let time pass before the deletion of a tag."""

    async def pace(now_at: str) -> None:
        if now_at == place:
            clock.passed = passed

    return pace


async def test_a_run_ends_before_its_next_deletion_once_its_time_is_over() -> None:
    clock = _Clock()
    registry = _Registry(_FOUR, pace=_after(clock, "team/b:b2", timedelta(hours=4)))
    store = _published_before(registry, _POLICY)
    report = await _run(registry, time=_TIME, clock=clock, store=store)
    assert sorted(registry.pruned) == ["team/a:a1", "team/a:a2", "team/b:b1"]
    assert (report.phase, report.next_repository) == (Phase.PARTIAL, "team/b")
    assert [failure.reason for failure in report.failures] == ["Timeout"]
    assert "with 1 of 4 repositories done; the next run begins with team/b" in report.message
    assert "3 of 8 planned tags are pruned" in report.message
    # What went is taken out of the published plan, and what did not go waits no longer for that.
    assert store.published.first("team/b", "b1", digest("team/b/b1")) is None
    assert store.published.first("team/b", "b2", digest("team/b/b2")) == NOW - timedelta(days=2)


async def test_a_repository_in_which_nothing_could_be_pruned_in_time_does_not_stop_the_others_for_ever() -> None:
    clock = _Clock()
    registry = _Registry(_FOUR, pace=_after(clock, "team/a:a2", timedelta(hours=5)))
    report = await _run(registry, time=_TIME, clock=clock)
    assert (registry.pruned, report.next_repository) == ([], "team/b")


async def test_the_time_of_a_run_ends_in_all_repositories_at_once() -> None:
    clock = _Clock()
    registry = _Registry(_FOUR, at_once=4, pace=_after(clock, "team/b:b2", timedelta(hours=4)))
    report = await _run(registry, time=_TIME, clock=clock)
    assert report.phase is Phase.PARTIAL
    assert len(registry.pruned) < 8
    assert report.next_repository is not None
    assert [failure.reason for failure in report.failures] == ["Timeout"]


async def test_a_timeout_is_told_before_whatever_else_went_wrong() -> None:
    broken = {f"team/a{number}": _BROKEN for number in range(5)}
    registry = _Registry({**broken, **_FOUR}, reading=_never_reads("team/c"))
    report = await _run(registry, time=_TIME)
    assert [failure.reason for failure in report.failures] == ["Timeout", *["MalformedAnswer"] * 5]
    assert report.message.startswith("spec.timeout ended the run with 7 of 9 repositories done")


async def test_an_interrupted_run_does_not_move_where_the_next_one_begins() -> None:
    report = await _run(_Registry(_FOUR), guard=FixedGuard(steps=5), first="team/c")
    assert (report.phase, report.next_repository) == (Phase.INTERRUPTED, "team/c")


async def test_runs_that_are_too_short_for_all_get_round() -> None:
    """Each has time to read two of four, and prunes those."""
    pruned: list[str] = []
    first = None
    for _ in range(2):
        registry = _Registry(_FOUR)

        async def reading(repository: str, registry: _Registry = registry) -> None:
            del repository
            if len(registry.read) > 2:
                await _hours_pass()

        registry.reading = reading
        report = await _run(registry, time=_TIME, first=first)
        pruned += registry.pruned
        first = report.next_repository
    assert sorted(pruned) == [f"team/{name}:{name}{number}" for name in "abcd" for number in (1, 2)]


async def test_waiting_for_what_another_run_has_does_not_count_as_time_of_the_run() -> None:
    clock = _Clock()

    def meanwhile() -> None:
        clock.passed = 2 * _TIME

    registry = _Registry(_FOUR)
    report = await _run(registry, clock=clock, time=_TIME, claims=FixedClaims(free=False, meanwhile=meanwhile))
    assert (report.phase, report.counts.tags_pruned) == (Phase.SUCCEEDED, 8)


async def test_a_run_begins_where_the_last_one_stopped_after_waiting_too() -> None:
    registry = _Registry(_FOUR)
    await _run(registry, time=_TIME, first="team/c", claims=FixedClaims(free=False))
    assert registry.read == ["team/c", "team/d", "team/a", "team/b"]


async def test_what_speaks_against_a_run_ends_the_reading_of_a_large_repository() -> None:
    guard = FixedGuard()

    async def reading(_repository: str) -> None:
        guard.halted = True
        await asyncio.Event().wait()

    registry = replace(_Registry(_FOUR), reading=reading)
    async with asyncio.timeout(10):
        report = await _run(registry, guard=guard, plan_only=True)
    assert (report.phase, report.plan) == (Phase.INTERRUPTED, None)
    assert "the Lease was lost" in report.message


# Where it is


async def test_a_run_can_be_looked_at_while_it_goes_on() -> None:
    runners: list[Runner] = []
    seen: list[Snapshot] = []

    async def see(_: str) -> None:
        seen.append(runners[0].snapshot())

    class Counting(_Registry):
        """Has read another repository before, to find out who else prunes here."""

        counts = Readings(ended=1, tags=9)

        @property
        @override
        def readings(self) -> Readings:
            return self.counts

        @override
        async def repositories(self) -> Sequence[str]:
            seen.append(runners[0].snapshot())
            return await super().repositories()

    registry = Counting(_TWO, reading=see, pace=see)
    waits = FixedClaims(free=False, meanwhile=lambda: seen.append(runners[0].snapshot()))
    store = _published_before(registry, _POLICY)

    def begun(runner: Runner) -> None:
        runners.append(runner)
        seen.append(runner.snapshot())

    await _run(registry, claims=waits, store=store, begun=begun)
    told = [(each.stage.value, each.repositories, each.repositories_done, each.tags_read) for each in seen]
    assert told == [
        ("Looking", None, 0, 0),
        ("Looking", None, 0, 9),
        ("Waiting", None, 0, 9),
        ("Looking", None, 0, 9),
        ("Planning", 2, 0, 0),
        ("Planning", 2, 1, 3),
        ("Pruning", 2, 2, 5),
        ("Pruning", 2, 2, 5),
        ("Pruning", 2, 2, 5),
    ]
    assert [(each.tags_to_prune, each.tags_pruned) for each in seen[6:]] == [(3, 0), (3, 1), (3, 2)]
    # A look changes nothing, also when all is over.
    assert runners[0].snapshot().tags_pruned == 3
