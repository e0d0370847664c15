"""Whole runs against a real registry, each watched at the wire and held to what must be true of every run.

What must be true is worked out from the sentences of the design and from what the test itself did, by the test's own
hands and eyes: nothing of the operator is asked, but for what it reports.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from aiohttp import web

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.published import Published, nothing_published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import Phase, RunOrder, RunReport, Trigger
from registry_cleanup.ports import Audit, PlanStore, Registry, World
from registry_cleanup.registry.transport import Limits
from registry_cleanup.runner import Runner
from tests.support.clients import QUICK, SystemClock, opened
from tests.support.faulty import FaultyRegistry, Forward
from tests.support.generated_registry import Changes, Yard, seeded
from tests.support.http import Answer
from tests.support.naive import Recipe, read
from tests.support.processes import wait_until
from tests.support.world import FixedClaims, FixedGuard, FixedRivals, FixedUse, MemoryStore, RecordingAudit

Meddle = Callable[[web.Request, Forward], Awaitable[web.StreamResponse | None]]
"""Does something before a request is passed on; a response is sent in place of the registry's."""

Meddler = Callable[["Watch", Changes], Meddle]
"""Makes what meddles with one run."""

# Short, so that a registry that stalls costs a test little; a busy machine has to answer within it.
HASTY = Limits(connect=5, read=1.0, total=5, attempts=2, back_off=0.01, longest_wait=0.05, most_bytes=256 * 1024)
STALL = 1.3
"""Seconds of silence that are too many for those limits."""

_MANIFEST = re.compile(r"/v2/.+/manifests/([^/]+)")


@dataclass(frozen=True)
class Deleted:
    """One DELETE as it went to the registry, with the tags that stood on what it named right before."""

    reference: str
    digest: str | None
    tags: frozenset[str]


@dataclass
class Watch:
    """Sees every request of a run, and knows what each DELETE found.

    Attributes:
        yard: What is deleted in.
        meddle: Asked before each request.
        deleted: Every DELETE that reached the registry, but for those of the probe.
        numbers: How many requests came so far, by method and kind.
        under_way: How many are being handled: a run that gave up, or was killed, may leave some behind.
    """

    yard: Yard
    meddle: Meddle | None = None
    deleted: list[Deleted] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)
    under_way: int = 0

    async def fault(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        """See a request, let it be meddled with, and pass it on."""
        self.under_way += 1
        try:
            return await self._see(request, forward)
        finally:
            self.under_way -= 1

    async def _see(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        self.numbers[f"{request.method} {'tags' if request.path.endswith('/tags/list') else 'other'}"] += 1

        async def watched() -> Answer:
            if request.method == "DELETE":
                await asyncio.to_thread(self._record, request.path)
            return await forward()

        if self.meddle is not None and (response := await self.meddle(request, watched)) is not None:
            return response
        return (await watched()).response()

    @property
    def looks(self) -> int:
        """How often the tags were listed so far."""
        return self.numbers["GET tags"]

    def _record(self, path: str) -> None:
        match = _MANIFEST.fullmatch(path)
        assert match is not None, path
        reference = match[1]
        if self.yard.resolve(reference) is None:
            return
        there = self.yard.tags()
        digest = reference if ":" in reference else there[reference]
        tags = {tag for tag, each in there.items() if each == digest} if ":" in reference else {reference}
        self.deleted.append(Deleted(reference, digest, frozenset(tags)))


@dataclass
class Done:
    """A run, with all that was seen of it.

    Attributes:
        before: The tags at its start.
        present: The manifests that were there at its start.
        published: The plan that stood before it.
        report: What it told; None where it was killed.
        audit: What it wrote down.
        watch: What it did.
        changes: What the test did meanwhile.
        after: The tags at its end.
        held: Planned tags that the guards held back.
        denied: Tags of which the registry said once that they are gone or moved, and was believed.
    """

    before: dict[str, str]
    present: set[str]
    published: Published
    report: RunReport | None
    audit: RecordingAudit
    watch: Watch
    changes: Changes
    after: dict[str, str]
    held: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)

    @property
    def gone(self) -> dict[str, str]:
        """Tags that somebody else than the test removed, with what they named then."""
        return {tag: digest for tag, digest in self.changes.expected.items() if tag not in self.after}


@dataclass
class Scene:
    """A policy over one repository of a real registry behind a proxy.

    Attributes:
        yard: The repository.
        proxy: What the operator talks to.
        recipe: The policy.
        by_digest: Whether the registry deletes by digest only.
        random: Chooses what the test changes while a run goes on.
        denied: References that the registry lies about.
        store: Where the published plan is.
    """

    yard: Yard
    proxy: FaultyRegistry
    recipe: Recipe
    by_digest: bool
    random: Random = field(default_factory=lambda: seeded(0))
    denied: set[str] = field(default_factory=set)
    store: MemoryStore = field(default_factory=lambda: MemoryStore(nothing_published("a-uid")))

    def plan(self) -> dict[str, str]:
        """Plan and publish; return what is to go, which is what the sentences say."""
        there = self.yard.tags()
        done = self.run(plan_only=True)
        assert done.after == there, "planning prunes nothing"
        expected = {tag: there[tag] for tag in self.going(there)}
        report = done.report
        assert report is not None
        assert (report.phase, report.failures) == (Phase.SUCCEEDED, ()), report.message
        (plan,) = done.audit.plans
        assert {tag: group.digest for group in plan.groups for tag in group.tags} == expected
        assert report.counts.tags_planned == len(expected)
        assert all(_was_published(self.store.published, self.yard, tag, digest) for tag, digest in expected.items())
        return expected

    def going(self, there: Mapping[str, str]) -> frozenset[str]:
        """Return what the sentences let go of the tags that are there."""
        return read(self.recipe, self.yard, there, by_digest=self.by_digest).going

    def run(self, meddler: Meddler | None = None, *, plan_only: bool = False, limits: Limits = QUICK) -> Done:
        """Run the policy while `meddler` meddles; the result is checked for what is true of every run."""
        audit = RecordingAudit()

        def run() -> RunReport:
            where, url = self.yard.repository, self.proxy.url
            return asyncio.run(run_once(self.recipe, where, url, self.store, audit, plan_only=plan_only, limits=limits))

        return self.watch(run, audit, meddler)

    def watch(self, run: Callable[[], RunReport | None], audit: RecordingAudit, meddler: Meddler | None = None) -> Done:
        """Let `run` happen, which says nothing where it was killed, and check it."""
        before, present, published = self.yard.tags(), self.yard.present(), self.store.published
        changes, watch = Changes(self.yard, self.random, self.by_digest, dict(before)), Watch(self.yard)
        self.store.content = b""
        changes.aims = {tag: before[tag] for tag in self.going(before)}
        if meddler is not None:
            watch.meddle = meddler(watch, changes)
        self.proxy.heal()
        self.proxy.inject(watch.fault)
        try:
            report = run()
        finally:
            self.proxy.heal()
            wait_until(lambda: not watch.under_way, 60, "the end of the last requests of a run")
        done = Done(before, present, published, report, audit, watch, changes, self.yard.tags())
        done.held = {line["tag"] for line in read_report(self.store.content) if line["type"] == "held"}
        done.denied = set(before) & self.denied
        self.check(done)
        return done

    # What is true of every run, whatever happens

    def check(self, done: Done) -> None:
        """Hold a run to the sentences."""
        self._only_what_was_published_went(done)
        self._everything_else_is_as_the_test_left_it(done)
        self._what_stays_is_whole(done)
        if done.report is not None:
            check_outcomes(done, done.report)

    def _only_what_was_published_went(self, done: Done) -> None:
        taken = {(tag, each.digest) for each in done.watch.deleted for tag in each.tags}
        for tag, digest in done.gone.items():
            assert (tag, digest) in taken, f"{tag} went, and no DELETE took it while it named {self.yard.word(digest)}"
            assert _was_published(done.published, self.yard, tag, digest), f"{tag} was not in the published plan"
            assert not self.recipe.never(tag), f"{tag} is protected by keepTags"

    def _everything_else_is_as_the_test_left_it(self, done: Done) -> None:
        left = {tag: digest for tag, digest in done.changes.expected.items() if tag not in done.gone}
        assert done.after == left

    def _what_stays_is_whole(self, done: Done) -> None:
        there = self.yard.present()
        needed = self.yard.below(done.after.values())
        missing = {self.yard.word(digest) for digest in needed - there}
        assert not missing, f"tags that stay miss {missing}"
        lost = done.present - there - done.changes.removed
        by_digest = {each.digest for each in done.watch.deleted if ":" in each.reference}
        pruned = {
            digest for tag, digest in done.before.items() if _was_published(done.published, self.yard, tag, digest)
        }
        allowed = self.yard.below(pruned) if self.recipe.deletes_untagged else pruned
        assert lost <= by_digest, "a deletion by tag took a manifest"
        assert lost <= allowed, f"gone, and no pruned tag led there: {set(map(self.yard.word, lost - allowed))}"

    def finish(self) -> None:
        """Plan and prune without any trouble: exactly what goes by the sentences is gone, and nothing is left to do."""
        self.finish_once()
        assert self.plan() == {}, "planning what was pruned plans nothing"
        assert self.run().watch.deleted == [], "a second run prunes nothing more"

    def finish_once(self) -> None:
        """Plan and prune without any trouble: exactly what goes by the sentences is gone."""
        there = self.yard.tags()
        planned = self.plan()
        done = self.run()
        report = done.report
        assert report is not None
        assert (report.phase, report.failures) == (Phase.SUCCEEDED, ()), report.message
        assert done.gone == planned
        assert done.after == {tag: digest for tag, digest in there.items() if tag not in planned}
        if self.recipe.deletes_untagged:
            unneeded = self.yard.below(planned.values()) - self.yard.below(done.after.values())
            left = unneeded & self.yard.present()
            assert not left, f"untagged and still there: {set(map(self.yard.word, left))}"


async def run_once(
    recipe: Recipe,
    repository: str,
    url: str,
    store: PlanStore,
    audit: Audit,
    *,
    plan_only: bool = False,
    limits: Limits = QUICK,
) -> RunReport:
    """Run a policy once, as the operator does."""
    policy = recipe.policy(repository)

    def connect() -> AbstractAsyncContextManager[Registry]:
        return opened(url, limits=limits, repositories=policy.repositories.literals)

    world = World(FixedGuard(), audit, SystemClock(), store, FixedUse(), FixedRivals(), FixedClaims())
    order = RunOrder("run", Trigger.REQUEST, plan_only, datetime.now(UTC))
    return await Runner(policy, connect, world).run(order)


def check_outcomes(done: Done, report: RunReport) -> None:
    """Hold what a run reported to what is there."""
    ends = {(end.tag, end.digest): end.outcome for end in done.audit.outcomes}
    assert len(ends) == len(done.audit.outcomes), "a planned tag has one outcome"
    counts, told = report.counts, Counter(ends.values())
    assert counts.tags_pruned == told[Outcome.PRUNED]
    assert counts.tags_failed == told[Outcome.FAILED] + told[Outcome.NOT_DELETED]
    if not report.order.plan_only:
        assert counts.tags_planned == counts.tags_pruned + counts.tags_failed + counts.tags_skipped
    assert counts.tags_scanned == counts.tags_kept + counts.tags_planned
    for (tag, digest), outcome in ends.items():
        if outcome is Outcome.PRUNED:
            assert done.after.get(tag) != digest, f"{tag} is told to be pruned, and is there"
        elif outcome in (Outcome.NOW_SHARED, Outcome.NOT_DELETED):
            assert tag in done.after or tag in done.changes.touched, f"{tag} is told to have stayed, and is gone"
    if report.phase is Phase.SUCCEEDED:
        assert not report.failures
        assert not counts.tags_failed
        untold = {tag for tag, digest in done.gone.items() if ends.get((tag, Digest(digest))) is not Outcome.PRUNED}
        assert untold <= done.denied, f"{untold} went, and the run does not say so"


def _was_published(published: Published, yard: Yard, tag: str, digest: str) -> bool:
    return published.first(yard.repository, tag, Digest(digest)) is not None
