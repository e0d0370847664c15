"""Explanations of generated repositories on real registries: the plan's verdicts, and what-ifs that come true there."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from registry_cleanup.domain.changes import Kind
from registry_cleanup.domain.closer_look import closer_look
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.explanation import Explanation, explain
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.domain.situation import as_read
from registry_cleanup.examination import Examined, examine, situate
from registry_cleanup.ports import Clock
from tests.support.clients import opened
from tests.support.generated_registry import Wire, Yard, fill, seeded
from tests.support.naive import fitting_recipe, read
from tests.support.registries import RegistryServer, distribution
from tests.support.world import FixedRivals, FixedUse

_numbers = count(1)
_QUICK = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@dataclass(frozen=True)
class _Stopped(Clock):
    """A clock that stands still, so that what was planned a moment ago is planned the same again."""

    instant: datetime = field(default_factory=lambda: datetime.now(UTC))

    @override
    def now(self) -> datetime:
        return self.instant


@dataclass(frozen=True)
class Site:
    """A real registry that all examples share."""

    server: RegistryServer
    wire: Wire

    async def look(self, policy: Policy, yard: Yard, tags: list[str], using: InUse, clock: Clock) -> Examined:
        order = RunOrder("a-run", Trigger.REQUEST, plan_only=True, start=clock.now())
        closer = partial(closer_look, tags=tags)
        async with opened(self.server.url, clock=clock) as registry:
            return await examine(
                registry, clock, policy, FixedUse(using), FixedRivals(), order, yard.repository, closer
            )

    async def goes(self, policy: Policy, yard: Yard, using: InUse, clock: Clock) -> set[str]:
        """Return what goes by a policy at some time, as a run reads it at the registry."""
        unit = DeletionUnit.DIGEST if self.server.version == "2" else DeletionUnit.TAG
        async with opened(self.server.url, clock=clock) as registry:
            now = await situate(registry, clock, policy, (), yard.repository, unit, using)
        return now.plan().going_tags()


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        distribution(request.param, tmp_path_factory.mktemp("explanations")) as server,
        closing(Wire(server.host)) as wire,
    ):
        yield Site(server, wire)


def _explained(found: Examined, tags: list[str]) -> tuple[Explanation, ...]:
    assert found.planned is not None
    assert found.known is not None
    return explain(found.planned, found.known, found.read, tags)


@_QUICK
@given(random=st.randoms(use_true_random=False))
def test_each_verdict_is_the_plans_and_what_ifs_come_true_when_the_registry_is_read_again(
    site: Site, random: Random
) -> None:
    yard = Yard(site.wire, f"team/explained-{next(_numbers)}")
    fill(yard, random)
    by_digest = site.server.version == "2"
    recipe = fitting_recipe(random, yard, by_digest=by_digest)
    there, policy, clock = yard.tags(), recipe.policy(yard.repository), _Stopped()
    using = NOTHING_IN_USE
    if random.random() < 0.4:
        using = InUse(frozenset({parse_digest(random.choice(sorted(there.values(), key=yard.word)))}))
    plan_alone = asyncio.run(site.goes(policy, yard, using, clock))
    if using == NOTHING_IN_USE:
        assert plan_alone == read(recipe, yard, there, by_digest=by_digest).going
    for tag in random.sample(sorted(there), min(4, len(there))):
        found = asyncio.run(site.look(policy, yard, [tag], using, clock))
        assert found.planned is not None
        assert found.known is not None
        # What the operator would have read is told from what was read besides.
        assert as_read(found.known).plan().verdicts == found.planned.plan().verdicts
        [told] = _explained(found, [tag])
        assert told.verdict is not None
        assert told.verdict.goes == (tag in plan_alone)
        assert told.digest == there[tag]
        assert {other.tag for other in told.siblings} == {t for t, d in there.items() if d == there[tag]} - {tag}
        assert [child.digest for child in told.children] == list(dict.fromkeys(yard.facts[there[tag]].children))
        _check_what_ifs(site, yard, found, told)


def _check_what_ifs(site: Site, yard: Yard, found: Examined, told: Explanation) -> None:
    """Let what can be had without touching the registry come true, and plan anew."""
    assert found.known is not None
    event(f"{told.line.get('reason', 'Prune')}: {len(told.what_ifs)} ways")
    for what_if in told.what_ifs:
        kinds = {change.kind for change in what_if.changes}
        if not kinds <= {Kind.TIME, Kind.POLICY, Kind.USED, Kind.NOT_USED}:
            continue
        now = found.known
        for change in what_if.changes:
            now = change.apply(now)
        going = asyncio.run(site.goes(now.policy, yard, now.in_use, _Stopped(now.now)))
        assert (told.tag in going) is what_if.goes, str(what_if)
        event(f"came true: {sorted(kinds)}")


def test_a_digest_in_question_is_read_and_so_is_every_tag(registry: RegistryServer) -> None:
    with closing(Wire(registry.host)) as wire:
        yard = Yard(wire, "team/app")
        image = yard.image("one", "two", created="2026-01-01T00:00:00Z")
        alone = yard.image(created="2026-01-01T00:00:00Z")
        policy = fitting_recipe(seeded(1), yard, by_digest=True).policy(yard.repository)

    async def look(digest: str) -> Examined:
        clock = _Stopped()
        order = RunOrder("a-run", Trigger.REQUEST, plan_only=True, start=clock.now())
        closer = partial(closer_look, tags=(), digest=parse_digest(digest))
        async with opened(registry.url) as client:
            return await examine(client, clock, policy, FixedUse(), FixedRivals(), order, yard.repository, closer)

    known = asyncio.run(look(image)).known
    assert known is not None
    assert dict(known.inventory.tags) == {"one": image, "two": image}
    known = asyncio.run(look(alone)).known
    assert known is not None
    assert alone in known.inventory.manifests
