"""Facts that outlive a run: whatever happens to their file, a fact is what was written, or it is asked for again."""

import asyncio
import hashlib
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.inventory import Blob, Format, Manifest
from registry_cleanup.domain.reference import Digest
from registry_cleanup.registry.fact_rows import Fact, decode, encode
from registry_cleanup.registry.fact_store import FactStore, Scope
from registry_cleanup.registry.facts import RepositoryFacts
from registry_cleanup.registry.manifests import Config, Document, Pool, read_config, read_manifest
from tests.support.clients import HandClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE = Scope("registry.test:443", "team/app")
OTHER = Scope("registry.test:443", "team/other")


def address(text: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def fact(word: str, *, created: datetime | None = NOW, keep: str | None = None, layers: int = 3) -> Fact:
    digest, config = address(word), address(f"config of {word}")
    blobs = [Blob(digest, 500), Blob(config, 2700), *(Blob(address(f"{word} {each}"), each) for each in range(layers))]
    manifest = Manifest(digest, Format.IMAGE, config=config, blobs=tuple(blobs))
    return Fact(Document(manifest), Config(created, keep))


def digest_of(one: Fact) -> Digest:
    return one.document.manifest.digest


@dataclass
class Shelf:
    """A folder for a store that is opened again and again."""

    folder: Path
    clock: HandClock
    mebibytes: int = 8

    @property
    def path(self) -> Path:
        return self.folder / "facts.sqlite"

    def open(self) -> FactStore:
        return FactStore(self.folder, self.mebibytes, self.clock)

    def put(self, *facts: Fact, scope: Scope = SCOPE) -> None:
        with closing(self.open()) as store:
            store.save(scope, facts)

    def get(self, *facts: Fact, scope: Scope = SCOPE) -> list[Fact]:
        """Return what is found of the same digests by a process that is started anew."""
        with closing(self.open()) as store:
            return list(store.load(scope, [digest_of(each) for each in facts], Pool()).facts.values())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "cache", HandClock(NOW))


# Rows

_WORDS = st.sampled_from("abcdefgh")
_DIGESTS = st.builds(
    lambda word, long: Digest("sha512:" + hashlib.sha512(word.encode()).hexdigest()) if long else address(word),
    _WORDS,
    st.booleans(),
)
_DATES = st.none() | st.datetimes(timezones=st.just(UTC))
_MARKS = st.none() | st.text(max_size=100)
_LISTS = st.lists(_DIGESTS, max_size=4).map(tuple)
_MANIFESTS = st.builds(
    Manifest,
    _DIGESTS,
    st.sampled_from([Format.IMAGE, Format.INDEX]),
    children=_LISTS,
    subject=st.none() | _DIGESTS,
    created=_DATES,
    config=st.none() | _DIGESTS,
    blobs=st.lists(st.builds(Blob, _DIGESTS, st.integers(0, 2**70)), max_size=4).map(tuple),
    keep=_MARKS,
)
_FACTS = st.builds(Fact, st.builds(Document, _MANIFESTS, _LISTS, _LISTS), st.none() | st.builds(Config, _DATES, _MARKS))


@given(_FACTS)
def test_a_row_says_what_was_written(one: Fact) -> None:
    assert decode(digest_of(one), encode(one), Pool()) == one


def test_rows_are_what_they_were_in_this_format() -> None:
    # Whoever has to change this raises FORMAT in fact_rows.py, or rows of the version before would be believed.
    descriptor = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7}
    image = {
        "config": {"digest": address("config"), "size": 5},
        "layers": [{"digest": address("layer"), "size": 9}, {"digest": "none"}],
        "subject": {"digest": address("subject")},
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z", "registrycleanup.dev/keep": "true"},
    }
    index = {
        "manifests": [
            descriptor | {"digest": address("a"), "platform": {"os": "linux"}},
            descriptor | {"digest": address("b"), "platform": {"os": "unknown"}},
            {"digest": address("c")},
        ]
    }
    config = {"created": "2026-01-02T00:00:00.123456789Z", "config": {"Labels": {"registrycleanup.dev/keep": "x"}}}
    rows = [
        encode(Fact(read_manifest(address("image"), Format.IMAGE, image, 100), read_config(config))),
        encode(Fact(read_manifest(address("index"), Format.INDEX, index, 200))),
        encode(Fact(read_manifest(address("image"), Format.IMAGE, image, 100), read_config({}))),
    ]
    assert [row.partition(b"\n")[0].decode() for row in rows] == [
        '[0,1767225600000000,"true",1,2,[],[],[],[0,100,2,5,3,9],[1767312000123456,"x"]]',
        "[1,null,null,null,null,[1,2,3],[1,3],[3],[0,200],null]",
        '[0,1767225600000000,"true",1,2,[],[],[],[0,100,2,5,3,9],[null,null]]',
    ]
    assert hashlib.sha256(b"".join(rows)).hexdigest()[:16] == "390018e72a6caef0"


# The store


def test_facts_outlive_the_process(shelf: Shelf) -> None:
    facts = [fact("a"), fact("b", created=None), replace(fact("c"), config=None)]
    shelf.put(*facts)
    assert shelf.get(*facts, fact("unknown")) == facts


def test_what_is_learnt_later_replaces_what_was_known(shelf: Shelf) -> None:
    shelf.put(replace(fact("a"), config=None))
    shelf.put(fact("a"))
    assert shelf.get(fact("a")) == [fact("a")]


def test_a_repository_knows_nothing_of_what_another_holds(shelf: Shelf) -> None:
    elsewhere = Scope("other.test:443", SCOPE.repository)
    shelf.put(fact("a"))
    shelf.put(fact("b"), scope=OTHER)
    assert shelf.get(fact("a"), scope=OTHER) == []
    assert shelf.get(fact("a"), scope=elsewhere) == []
    with closing(shelf.open()) as store:
        assert [store.knows(scope) for scope in (SCOPE, OTHER, elsewhere)] == [True, True, False]


def test_nothing_is_written_before_there_is_something_to_write(shelf: Shelf) -> None:
    shelf.open().close()
    assert not shelf.folder.exists()


# What may happen to the file


def test_a_flipped_bit_anywhere_never_changes_a_fact(shelf: Shelf) -> None:
    facts = [fact(str(number), keep="2030-01-01") for number in range(8)]
    shelf.put(*facts)
    whole = shelf.path.read_bytes()
    lost = 0
    for place in range(0, len(whole), 37):
        shelf.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        found = shelf.get(*facts)
        assert all(each in facts for each in found)
        lost += len(facts) - len(found)
    assert lost > 0


def test_a_row_that_is_not_as_it_was_written_is_dropped_and_the_others_stay(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put(fact("a"), fact("b"))
    (content,) = _rows(shelf, "SELECT content FROM facts ORDER BY content = ? DESC", encode(fact("a")))[0]
    older = content.replace(b"1772366400000000", b"1172366400000000")
    assert older != content
    _execute(shelf, "UPDATE facts SET content = ? WHERE content = ?", older, content)
    assert shelf.get(fact("a"), fact("b")) == [fact("b")]
    assert "not as they were written" in caplog.text
    assert len(_rows(shelf, "SELECT * FROM facts")) == 1


@pytest.mark.parametrize("value", ["NULL", "7", "'text'", "x''"])
@pytest.mark.parametrize("column", ["content", "checksum", "used"])
def test_a_row_of_other_types_is_dropped(shelf: Shelf, column: str, value: str) -> None:
    shelf.put(fact("a"))
    _execute(shelf, "CREATE TABLE copy (id INTEGER PRIMARY KEY, used, content, checksum)")
    _execute(shelf, "INSERT INTO copy SELECT * FROM facts")
    _execute(shelf, "DROP TABLE facts")
    _execute(shelf, "ALTER TABLE copy RENAME TO facts")
    _execute(shelf, f"UPDATE facts SET {column} = {value}")  # noqa: S608 - of this test
    assert shelf.get(fact("a")) == ([fact("a")] if column == "used" else [])


def test_a_row_that_was_moved_to_another_repository_is_dropped(shelf: Shelf) -> None:
    shelf.put(fact("a"))
    shelf.put(fact("b"), scope=OTHER)
    _execute(shelf, "UPDATE repositories SET name = name || '-moved' WHERE name = 'registry.test:443/team/other'")
    _execute(shelf, "UPDATE repositories SET name = 'registry.test:443/team/other' WHERE name LIKE '%team/app'")
    assert shelf.get(fact("a"), scope=OTHER) == []


@pytest.mark.parametrize("content", [b"no database at all" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_begun_anew(
    shelf: Shelf, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.folder.mkdir()
    shelf.path.write_bytes(content)
    assert shelf.get(fact("a")) == []
    assert "begun anew" in caplog.text
    shelf.put(fact("a"))
    assert shelf.get(fact("a")) == [fact("a")]


@pytest.mark.parametrize("pragma", ["user_version", "application_id"])
def test_a_file_of_another_version_or_program_is_begun_anew(
    shelf: Shelf, pragma: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put(fact("a"))
    _execute(shelf, f"PRAGMA {pragma} = 99")
    assert shelf.get(fact("a")) == []
    assert "begun anew" in caplog.text
    shelf.put(fact("b"))
    assert shelf.get(fact("a"), fact("b")) == [fact("b")]


def test_a_file_that_lost_its_tables_or_its_end_is_begun_anew_or_left(shelf: Shelf) -> None:
    shelf.put(*(fact(str(number)) for number in range(200)))
    whole = shelf.path.read_bytes()
    for length in (100, 4096, 5000, len(whole) // 2, len(whole) - 1):
        shelf.path.write_bytes(whole[:length])
        facts = [fact(str(number)) for number in range(200)]
        assert all(each in facts for each in shelf.get(*facts))
    shelf.path.write_bytes(whole)
    _execute(shelf, "DROP TABLE facts")
    assert shelf.get(fact("1")) == []


def test_a_folder_that_cannot_be_written_leaves_no_cache_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    store = FactStore(tmp_path / "file" / "cache", 8, HandClock(NOW))
    for _ in range(3):
        store.save(SCOPE, [fact("a")])
        assert store.load(SCOPE, [address("a")], Pool()).facts == {}
        assert not store.knows(SCOPE)
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1


def test_a_file_that_cannot_be_written_any_more_leaves_no_cache(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    shelf.put(fact("a"))
    with closing(shelf.open()) as store:
        assert store.knows(SCOPE)
        store._connection.execute("PRAGMA query_only = ON")  # type: ignore[union-attr]  # noqa: SLF001 - as on a disk that went read-only
        store.save(SCOPE, [fact("b")])
        assert not store.knows(SCOPE)
    assert "no cache of facts" in caplog.text


def test_a_file_that_another_process_holds_is_done_without(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    shelf.put(fact("a"))
    with closing(shelf.open()) as store:
        assert store.knows(SCOPE)
        with closing(sqlite3.connect(shelf.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert not store.knows(SCOPE)
            store.save(SCOPE, [fact("b")])
        assert "locked by another process" in caplog.text
        store.save(SCOPE, [fact("c")])
        assert store.load(SCOPE, [address("a"), address("b"), address("c")], Pool()).facts.keys() == {
            address("a"),
            address("c"),
        }


# Its bound


def _fill(shelf: Shelf, name: str) -> list[Fact]:
    """Return facts that take more than half of the smallest store, each in it already."""
    facts = [fact(f"{name}-{number}", layers=20) for number in range(480)]
    shelf.put(*facts)
    return facts


def test_where_there_is_no_room_what_was_not_used_for_longest_goes(shelf: Shelf) -> None:
    shelf.mebibytes = 1
    oldest = _fill(shelf, "oldest")
    assert shelf.get(*oldest) == oldest
    for day in range(1, 6):
        shelf.clock.move(timedelta(days=1))
        newest = _fill(shelf, f"day {day}")
        assert shelf.path.stat().st_size <= 1024 * 1024
        assert shelf.get(*newest) == newest
    assert len(shelf.get(*oldest)) < len(oldest)


def test_what_was_of_use_today_stays_where_there_is_no_room_for_more(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.mebibytes = 1
    first = _fill(shelf, "first")
    _fill(shelf, "second")
    _fill(shelf, "third")
    assert shelf.path.stat().st_size <= 1024 * 1024
    assert shelf.get(*first) == first
    assert "REGISTRY_CLEANUP_CACHE_MIB" in caplog.text


async def test_use_is_noted_once_a_day_and_saves_from_eviction(shelf: Shelf) -> None:
    shelf.mebibytes = 1
    used, unused = _fill(shelf, "used")[:100], _fill(shelf, "unused")[:100]
    shelf.clock.move(timedelta(days=1))
    with closing(shelf.open()) as store:
        await _load(store, used)
        before = _changes(store)
        await _load(store, used)
        assert _changes(store) == before
    _fill(shelf, "new")
    _fill(shelf, "newer")
    assert shelf.get(*used) == used
    assert len(shelf.get(*unused)) < len(unused)


def test_a_file_that_is_larger_than_it_may_be_by_now_is_begun_anew(shelf: Shelf) -> None:
    shelf.mebibytes = 4
    for number in range(5):
        _fill(shelf, str(number))
    shelf.mebibytes = 1
    shelf.put(fact("a"))
    assert shelf.path.stat().st_size <= 1024 * 1024
    assert shelf.get(fact("a")) == [fact("a")]


# Many at a time


def test_runs_share_a_store_and_lose_nothing(shelf: Shelf) -> None:
    with closing(shelf.open()) as store, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.save(Scope("r:1", str(number % 4)), [fact(str(number))]), range(64)))
        found = threads.map(
            lambda number: store.load(Scope("r:1", str(number % 4)), [address(str(number))], Pool()).facts, range(64)
        )
        assert [len(each) for each in found] == [1] * 64


def test_two_processes_share_a_file(shelf: Shelf) -> None:
    with closing(shelf.open()) as one, closing(shelf.open()) as other:
        one.save(SCOPE, [fact("a")])
        other.save(SCOPE, [fact("b")])
        assert one.load(SCOPE, [address("a"), address("b")], Pool()).facts.keys() == {address("a"), address("b")}


async def test_the_event_loop_goes_on_while_the_file_is_waited_for(shelf: Shelf) -> None:
    shelf.put(fact("a"))
    with closing(shelf.open()) as store:
        facts = RepositoryFacts(store, *SCOPE, Pool())
        held, going = threading.Event(), asyncio.get_running_loop()
        with store._lock:  # noqa: SLF001 - as if another run were writing
            waiting = asyncio.ensure_future(facts.warm())
            going.call_soon(held.set)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert held.is_set()
            assert not waiting.done()
        assert await waiting


# A repository's facts


async def test_without_a_store_nothing_is_remembered() -> None:
    facts = RepositoryFacts(None, *SCOPE, Pool())
    assert not await facts.warm()
    await facts.learn(fact("a").document)
    await facts.learn_config(address("a"), Config(NOW))
    await facts.load([address("a")])
    await facts.save()
    assert facts.document(address("a")) is None
    assert facts.config(address("a")) is None


async def test_what_nobody_understands_is_not_remembered(shelf: Shelf) -> None:
    # Its digest is what the registry says, and nobody checks it.
    with closing(shelf.open()) as store:
        facts = RepositoryFacts(store, *SCOPE, Pool())
        await facts.learn(Document(Manifest(address("schema 1"), Format.UNKNOWN)))
        await facts.save()
        assert not store.knows(SCOPE)


async def test_what_an_index_lists_without_saying_what_it_is_comes_with_it(shelf: Shelf) -> None:
    inner = Document(Manifest(address("inner"), Format.INDEX, (address("a"),)), (address("a"),))
    outer = Document(Manifest(address("outer"), Format.INDEX, (address("inner"),)), (), (address("inner"),))
    shelf.put(Fact(inner), Fact(outer))
    with closing(shelf.open()) as store:
        facts = RepositoryFacts(store, *SCOPE, Pool())
        await facts.warm()
        await facts.load([address("outer")])
        assert facts.document(address("inner")) == inner


async def test_many_facts_are_written_before_the_run_ends(shelf: Shelf) -> None:
    with closing(shelf.open()) as store:
        facts = RepositoryFacts(store, *SCOPE, Pool())
        for number in range(2000):
            await facts.learn(fact(str(number), layers=0).document)
        assert store.knows(SCOPE)
        # A config that is read after that is not lost.
        await facts.learn_config(address("7"), Config(NOW, "true"))
        await facts.save()
    assert shelf.get(fact("7"))[0].config == Config(NOW, "true")


async def _load(store: FactStore, wanted: list[Fact]) -> None:
    facts = RepositoryFacts(store, *SCOPE, Pool())
    await facts.warm()
    await facts.load([digest_of(each) for each in wanted])
    await facts.save()


def _changes(store: FactStore) -> int:
    assert store._connection is not None  # noqa: SLF001 - to see that nothing is written
    return store._connection.total_changes  # noqa: SLF001 - the same


def _rows(shelf: Shelf, query: str, *values: object) -> list[tuple[bytes, ...]]:
    with closing(sqlite3.connect(shelf.path)) as database:
        return database.execute(query, values).fetchall()


def _execute(shelf: Shelf, query: str, *values: object) -> None:
    with closing(sqlite3.connect(shelf.path, isolation_level=None)) as database:
        database.execute(query, values)
