"""Runs against real registries through a proxy that injects faults by seed, and runs that are killed at each step.

Whatever happens: nothing is wrongly pruned, the status tells the truth, and the next run finishes the work. A seed that
failed is run again alone with `CHAOS_SEEDS=<seed>`.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.run import Phase
from tests.support.chaos import Chaos
from tests.support.faulty import Fault, FaultyRegistry, Forward, answers, faulty_registry, lies_about_the_digest
from tests.support.generated_registry import Changes, Wire, Yard, fill, seeded
from tests.support.naive import Recipe, RuleRecipe, fitting_recipe, read
from tests.support.one_run import FileStore, Runs, runs
from tests.support.registries import RegistryServer, distribution
from tests.support.watched_runs import HASTY, Done, Meddle, Scene, Watch
from tests.support.world import RecordingAudit

_GIVEN = os.environ.get("CHAOS_SEEDS", "")
_KILLED = [3]
_FEW = [int(seed) for seed in _GIVEN.split(",")] if _GIVEN else list(range(12))
_MANY = range(1000, 1250)
# How many requests meet a fault, and whether only once the plan stands: most runs end with a fault in their plan.
_KINDS = [(0.05, 0), (0.15, 2), (0.4, 2), (0.15, 0), (0.1, 2)]


@dataclass
class Site:
    """A real registry behind a proxy that all seeds share, with what was injected so far."""

    server: RegistryServer
    proxy: FaultyRegistry
    wire: Wire
    faults: Counter[str]

    def scene(self, seed: int) -> Scene:
        """Return a repository and a policy that lets something of it go."""
        random = seeded(seed)
        while True:
            yard = Yard(self.wire, f"team/chaos-{self.faults['scenes']}")
            self.faults["scenes"] += 1
            fill(yard, random)
            recipe = fitting_recipe(random, yard, by_digest=self.server.version == "2")
            scene = Scene(yard, self.proxy, recipe, self.server.version == "2", random)
            if scene.going(yard.tags()):
                return scene


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(distribution(request.param, tmp_path_factory.mktemp("chaos")))
        proxy = stack.enter_context(faulty_registry(server.url))
        site = Site(server, proxy, stack.enter_context(closing(Wire(server.host))), Counter())
        yield site
    _tell(request.config, f"\ninjected before distribution {request.param}: {dict(site.faults.most_common())}\n")


def _tell(config: pytest.Config, line: str) -> None:
    """Show the figures, whatever is captured."""
    reporter, capture = (config.pluginmanager.getplugin(name) for name in ("terminalreporter", "capturemanager"))
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.write(line)


@pytest.mark.parametrize("seed", _FEW)
def test_whatever_fails_nothing_is_wrongly_pruned_and_the_next_run_finishes(site: Site, seed: int) -> None:
    _disturbed(site, seed)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", _MANY)
def test_whatever_fails_by_many_more_seeds_the_next_run_finishes(site: Site, seed: int) -> None:
    _disturbed(site, seed)


@pytest.mark.parametrize("denies", [answers(404), lies_about_the_digest()], ids=["404", "another digest"])
def test_what_an_index_lists_stays_with_the_index_though_its_tag_was_not_seen_once(site: Site, denies: Fault) -> None:
    """Found by seed 1054: the children went, and left an index that was there all the time in pieces."""
    yard = Yard(site.wire, f"team/chaos-{site.faults['scenes']}")
    site.faults["scenes"] += 1
    old = datetime(2020, 1, 1, tzinfo=UTC)
    yard.index("pr-index", children=[yard.image("pr-child", created=old), yard.image(created=old)])
    recipe = Recipe((RuleRecipe("pr-.*", None, 30, None, by_version=False),), (), 0, deletes_untagged=True)
    scene = Scene(yard, site.proxy, recipe, site.server.version == "2", denied={"pr-index"})
    scene.plan()

    def meddler(_watch: Watch, _changes: Changes) -> Meddle:
        seen: list[str] = []

        async def meddle(request: web.Request, forward: Forward) -> web.StreamResponse | None:
            if request.method == "HEAD" and request.path.endswith("/pr-index"):
                seen.append(request.path)
                return await denies(request, forward) if len(seen) == 1 else None
            return None

        return meddle

    done = scene.run(meddler)
    assert "pr-index" in done.after
    scene.finish()


@dataclass(frozen=True)
class Kill:
    """The end of a run at one of its requests: before the registry hears of it, or before the run hears its answer."""

    number: int
    after: bool


@pytest.fixture(scope="module")
def forks() -> Iterator[Runs]:
    with runs() as forking:
        yield forking


@pytest.mark.parametrize("seed", _KILLED)
def test_a_run_that_is_killed_at_a_deletion_leaves_nothing_broken_and_the_next_one_finishes(
    site: Site, forks: Runs, seed: int, tmp_path: Path
) -> None:
    steps = _steps(site, seed)
    for number, deletes in steps.items():
        for after in (False, True) if deletes else ():
            _killed(site, forks, seed, Kill(number, after), tmp_path / "plan")


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(_KILLED[-1] + 1, _KILLED[-1] + 3))
def test_a_run_that_is_killed_at_any_step_leaves_nothing_broken_and_the_next_one_finishes(
    site: Site, forks: Runs, seed: int, tmp_path: Path
) -> None:
    for number in _steps(site, seed):
        for after in (False, True):
            _killed(site, forks, seed, Kill(number, after), tmp_path / "plan")


def _steps(site: Site, seed: int) -> dict[int, bool]:
    """Return the number of each request of a whole run, and whether it deletes."""
    scene, steps = site.scene(seed), dict[int, bool]()
    scene.plan()

    def meddler(watch: Watch, _changes: Changes) -> Meddle:
        async def meddle(request: web.Request, _forward: Forward) -> None:
            steps[watch.numbers.total()] = request.method == "DELETE"

        return meddle

    scene.run(meddler)
    return steps


def _killed(site: Site, forks: Runs, seed: int, kill: Kill, file: Path) -> None:
    """Plan, prune in a process that is killed, prune again, and finish."""
    scene = site.scene(seed)
    planned, store = scene.plan(), FileStore(file)
    asyncio.run(store.save(scene.store.published))
    process: Future[int] = Future()

    def meddler(watch: Watch, _changes: Changes) -> Meddle:
        async def meddle(_request: web.Request, forward: Forward) -> web.StreamResponse | None:
            if watch.numbers.total() != kill.number:
                return None
            if kill.after:
                await forward()
            os.kill(await asyncio.to_thread(process.result, 10), signal.SIGKILL)
            return web.Response(status=503)

        return meddle

    def run() -> None:
        process.set_result(forks.start(scene.recipe, scene.yard.repository, scene.proxy.url, file))
        code = forks.wait()
        assert code in (-signal.SIGKILL, 0), code
        site.faults["killed" if code else "not killed"] += 1

    scene.watch(run, RecordingAudit(), meddler)
    scene.store.published = store.published
    done = scene.run()
    assert done.report is not None
    assert done.report.phase is Phase.SUCCEEDED, done.report.message
    referrers = read(scene.recipe, scene.yard, planned, by_digest=scene.by_digest).referrers
    left = {tag for tag in planned if tag in done.after and tag not in referrers}
    assert not left, f"the next run left {left} ({kill})"
    scene.finish_once()


def _disturbed(site: Site, seed: int) -> None:
    """Plan in peace, prune in chaos, sometimes more than once, and finish in peace."""
    scene, chaos = site.scene(seed), Chaos(seed, *_KINDS[seed % len(_KINDS)])
    scene.denied = chaos.lied
    scene.plan()
    for _ in range(1 + seed // len(_KINDS) % 3):
        done = scene.run(chaos.meddler, limits=HASTY)
        _success_is_true(done)
    chaos.lied.clear()
    site.faults.update(chaos.done)
    scene.finish_once()


def _success_is_true(done: Done) -> None:
    """Hold a run that says `Succeeded` to what its plan let through: it is gone, or somebody saved it."""
    report = done.report
    assert report is not None
    if report.phase is not Phase.SUCCEEDED:
        assert report.message
        return
    ends = {(end.tag, end.digest): end.outcome for end in done.audit.outcomes}
    for plan in done.audit.plans:
        for group in plan.groups:
            for tag in group.tags:
                still_there = done.after.get(tag) == group.digest
                if still_there and tag not in done.held and not group.after:
                    end = ends.get((tag, group.digest))
                    denied = end in (Outcome.ALREADY_GONE, Outcome.MOVED) and tag in done.denied
                    assert end is Outcome.NOW_SHARED or denied, f"{tag} was let through and is there: {end}"
