"""Claims of repositories: no two runs have one, nobody waits for ever, nothing is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.claims import ClaimBook, RunClaims
from registry_cleanup.places import Places
from registry_cleanup.ports import InterruptedRunError
from tests.support.generated_registry import seeded

_LIMIT = 10.0
_HOST = "registry.test:443"


async def _idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _unless(reason: str | None) -> None:
    if reason is not None:
        raise InterruptedRunError(reason)


class _Runs:
    """Runs that claim at one book, and stay until they are told to end.

    Attributes:
        working: which runs have what they claimed, in the order in which they got it.
        halted: why all runs must stop; None if they need not.
    """

    def __init__(self, places: int = 10) -> None:
        self.book = ClaimBook()
        self.places = Places(places)
        self.working: list[str] = []
        self.halted: str | None = None
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def begins(self, name: str, *repositories: str, registry: str = _HOST) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, repositories, registry))
        await _idle()

    async def _run(self, name: str, repositories: Collection[str], registry: str) -> None:
        async with self.places.at(name) as seat:
            claims = RunClaims(self.book, name, seat.aside, lambda: _unless(self.halted))
            with claims.visit(registry) as visit:
                if not visit.claim(repositories):
                    await visit.wait()
                self.working.append(name)
                await self._ends[name].wait()

    async def ends(self, name: str) -> None:
        self._ends[name].set()
        await asyncio.wait_for(asyncio.gather(self.tasks[name], return_exceptions=True), _LIMIT)
        await _idle()


@asynccontextmanager
async def _runs(places: int = 10) -> AsyncIterator[_Runs]:
    runs = _Runs(places)
    yield runs
    for name in runs.tasks:
        await runs.ends(name)
    assert (runs.book.claimed, runs.book.waiting) == (0, 0)
    assert (runs.places.running, runs.places.waiting) == (0, 0)


async def test_runs_with_other_repositories_work_at_the_same_time() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a", "b")
        await runs.begins("two", "c")
        await runs.begins("elsewhere", "a", registry="other.test:443")
        assert runs.working == ["one", "two", "elsewhere"]


async def test_a_run_that_shares_one_repository_waits_until_the_other_has_ended() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a", "b")
        await runs.begins("two", "b", "c")
        assert (runs.working, runs.book.waiting) == (["one"], 1)
        await runs.ends("one")
        assert (runs.working, runs.book.waiting) == (["one", "two"], 0)


async def test_nobody_is_overtaken_in_a_repository() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a")
        await runs.begins("two", "a", "b")
        await runs.begins("three", "b")
        assert runs.working == ["one"]  # else small runs could hold up a large one for ever
        await runs.ends("one")
        assert runs.working == ["one", "two"]


async def test_runs_that_claim_the_same_in_any_order_do_not_lock_each_other() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a", "b")
        await runs.begins("two", "b", "a")
        await runs.begins("three", "b", "c", "a")
        for name in ("one", "two", "three"):
            await runs.ends(name)
        assert runs.working == ["one", "two", "three"]


async def test_a_run_that_claims_nothing_waits_for_nobody() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a")
        await runs.begins("plans")
        assert runs.working == ["one", "plans"]
        assert runs.book.claimed == 1


async def test_a_run_that_waits_gives_its_place_to_another() -> None:
    async with _runs(places=2) as runs:
        await runs.begins("one", "a")
        await runs.begins("two", "a")
        assert (runs.places.running, runs.places.waiting) == (1, 0)
        await runs.begins("three", "b")
        assert runs.working == ["one", "three"]
        await runs.ends("one")
        assert runs.working == ["one", "three", "two"]
        assert runs.places.running == 2


async def test_a_run_that_has_to_stop_does_not_wait_on() -> None:
    async with _runs() as runs:
        await runs.begins("one", "a")
        await runs.begins("two", "a", "b")
        await runs.begins("three", "b")
        runs.halted = "the operator was stopped"
        with pytest.raises(InterruptedRunError, match="the operator was stopped"):
            await asyncio.wait_for(runs.tasks["two"], 2)
        runs.halted = None


@pytest.mark.parametrize("how", ["waits", "works", "has just been let in"])
async def test_a_run_that_is_cancelled_leaves_no_claim(how: str) -> None:
    async with _runs() as runs:
        await runs.begins("one", "a")
        await runs.begins("two", "a")
        await runs.begins("three", "a")
        if how == "works":
            await runs.ends("one")
        elif how == "has just been let in":
            runs._ends["one"].set()  # noqa: SLF001 - and nobody waits for its end
            await asyncio.sleep(0)
        runs.tasks["two"].cancel()
        await runs.ends("one")
        await asyncio.gather(runs.tasks["two"], return_exceptions=True)
        await _idle()
        assert runs.working[-1] == "three"


async def test_an_error_in_a_run_leaves_no_claim() -> None:
    book = ClaimBook()

    def run() -> None:
        with book.visit(_HOST) as visit:
            visit.claim(["a"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert book.claimed == 0


async def test_what_was_read_before_another_run_ended_there_is_to_be_read_again() -> None:
    book = ClaimBook()
    with book.visit(_HOST) as reader, book.visit(_HOST) as other_reader:
        with book.visit(_HOST) as worker:
            assert worker.claim(["a", "b"])
        assert not reader.claim(["b", "c"])
        assert reader.is_alone  # though it need not wait
        assert other_reader.claim(["d"])


async def test_what_a_run_only_waited_for_is_as_it_was() -> None:
    book = ClaimBook()
    with book.visit(_HOST) as worker:
        worker.claim(["a"])
        with book.visit(_HOST) as reader:
            with book.visit(_HOST) as waits:
                assert not waits.claim(["a", "b"])
            assert reader.claim(["b"])


async def test_a_repository_that_is_named_twice_is_claimed_once() -> None:
    book = ClaimBook()
    with book.visit(_HOST) as visit:
        assert visit.claim(["a", "a"])
    assert book.claimed == 0


@given(seed=st.integers(0, 2**32), places=st.integers(1, 4))
async def test_whatever_comes_and_goes_no_repository_has_two_runs_and_all_come_to_an_end(
    seed: int, places: int
) -> None:
    random = seeded(seed)
    book, seats = ClaimBook(), Places(places)
    at_work: Counter[str] = Counter()
    done = 0

    async def run(number: int, repositories: list[str]) -> None:
        nonlocal done
        async with seats.at(random.choice("abc")) as seat:
            halt_after = random.choice([None, None, 0])
            claims = RunClaims(book, str(number), seat.aside, lambda: _unless(None if halt_after is None else "halt"))
            with claims.visit(_HOST) as visit:
                await asyncio.sleep(0)
                if not visit.claim(repositories):
                    await visit.wait()
                at_work.update(repositories)
                try:
                    assert all(at_work[name] == 1 for name in repositories)
                    for _ in range(random.randint(0, 4)):
                        await asyncio.sleep(0)
                finally:
                    at_work.subtract(repositories)
                done += 1

    tasks: list[asyncio.Task[None]] = []
    for number in range(25):
        tasks.append(asyncio.create_task(run(number, random.sample("pqrst", random.randint(0, 4)))))
        if random.random() < 0.2:
            random.choice(tasks).cancel()
        if random.random() < 0.5:
            await asyncio.sleep(0)
    async with asyncio.timeout(_LIMIT):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError, InterruptedRunError}
    assert done > 0
    assert (book.claimed, book.waiting, seats.running, seats.waiting) == (0, 0, 0, 0)
