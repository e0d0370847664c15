"""Generated repositories on real registries, planned and pruned while people push, move and delete.

Each example is a random repository and a random policy. Between plan and run, and in the middle of runs, tags are
pushed, moved and deleted; after every run the registry is read by the test's own hands and held to the sentences of the
design (`tests.support.watched_runs`), and to a naive reading of them (`tests.support.naive`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty import FaultyRegistry, Forward, faulty_registry
from tests.support.generated_registry import Changes, Wire, Yard, fill, refer, seeded
from tests.support.naive import fitting_recipe
from tests.support.registries import RegistryServer, distribution
from tests.support.watched_runs import Meddle, Meddler, Scene, Watch

_QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_THOROUGH = settings(_QUICK, max_examples=40)
_numbers = count(1)


@dataclass(frozen=True)
class Site:
    """A real registry, behind a proxy, that all examples of a test share."""

    server: RegistryServer
    proxy: FaultyRegistry
    wire: Wire

    def scene(self, random: Random) -> Scene:
        yard = Yard(self.wire, f"team/sequence-{next(_numbers)}")
        fill(yard, random)
        by_digest = self.server.version == "2"
        recipe = fitting_recipe(random, yard, by_digest=by_digest)
        return Scene(yard, self.proxy, recipe, by_digest, seeded(random.getrandbits(32)))


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(distribution(request.param, tmp_path_factory.mktemp("sequences")))
        proxy = stack.enter_context(faulty_registry(server.url))
        yield Site(server, proxy, stack.enter_context(closing(Wire(server.host))))


_RANDOM = st.randoms(use_true_random=False)


@_QUICK
@given(random=_RANDOM)
def test_a_run_prunes_exactly_what_the_sentences_let_go(site: Site, random: Random) -> None:
    site.scene(random).finish()


@_QUICK
@given(random=_RANDOM)
def test_what_changes_between_plan_and_run_or_in_the_middle_of_one_is_never_lost(site: Site, random: Random) -> None:
    _sequence(site, random)


@pytest.mark.thorough
@_THOROUGH
@given(random=_RANDOM)
def test_a_run_prunes_exactly_what_the_sentences_let_go_in_hundreds_of_repositories(site: Site, random: Random) -> None:
    site.scene(random).finish()


@pytest.mark.thorough
@_THOROUGH
@given(random=_RANDOM)
def test_what_changes_around_runs_is_never_lost_in_hundreds_of_sequences(site: Site, random: Random) -> None:
    _sequence(site, random)


def _sequence(site: Site, random: Random) -> None:
    scene = site.scene(random)
    for number in range(random.randint(1, 3)):
        scene.plan()
        _change(scene, random, number)
        scene.run(_meddling(seeded(random.getrandbits(32))) if random.random() < 0.7 else None)
    scene.finish()


def _change(scene: Scene, random: Random, number: int) -> None:
    """Do something between a plan and the run that follows it."""
    there = scene.yard.tags()
    aims = {tag: there[tag] for tag in scene.going(there)}
    changes = Changes(scene.yard, random, scene.by_digest, dict(there), aims=aims)
    for _ in range(random.choice([0, 1, 2, 4])):
        changes.anything()
    if there and random.random() < 0.3:
        refer(scene.yard, random, there[random.choice(sorted(there, key=scene.yard.word))], 10 + number)


def _meddling(random: Random) -> Meddler:
    """Change something before some of the requests of a run."""
    rate = random.choice([0.02, 0.1, 0.2])

    def meddler(watch: Watch, changes: Changes) -> Meddle:
        def change(request: web.Request, *, at_the_look: bool) -> None:
            # The last look at a repository begins with the second list of its tags. What comes onto a digest that goes
            # after it goes along (`the window that remains`): nobody does that here.
            if watch.looks < 2 or at_the_look:
                changes.anything()
            else:
                changes.harmless(but=[request.path.rpartition("/")[2]] if request.method == "DELETE" else [])

        async def meddle(request: web.Request, _forward: Forward) -> None:
            at_the_look = watch.looks == 2 and request.path.endswith("/tags/list")
            if random.random() < (0.8 if at_the_look else rate if watch.looks >= 2 else rate / 5):
                await asyncio.to_thread(change, request, at_the_look=at_the_look)

        return meddle

    return meddler
