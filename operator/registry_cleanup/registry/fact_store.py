"""The file in which facts of digests are kept: SQLite, bounded, and never believed without its checksum.

Whatever is wrong with it costs requests, and nothing else: no row is trusted that was not written as it stands there,
and no error of it ends a run. It may be deleted at any time.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar

from registry_cleanup.domain.reference import Digest
from registry_cleanup.ports import Clock
from registry_cleanup.registry.fact_rows import FORMAT, Fact, decode, encode, packed
from registry_cleanup.registry.manifests import Pool

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)
_FILE = "facts.sqlite"
# "rcfa": what SQLite keeps to tell one program's files from another's.
_APPLICATION = 0x72636661
_PAGE = 4096
# Another process may be writing; whoever waits longer asks the registry instead.
_PATIENCE_SECONDS = 0.5
# A file that is broken again and again lies on a broken disk.
_MOST_RENEWALS = 3
# Where there is no room left, this part of it is made free at once, in steps that need little room for the journal.
_FREED = 8
_SPARE_PAGES = 16
_EVICTED_AT_A_TIME = 5000
# Of the 63 bits of a row's number; the others number the repositories, half a million.
_DIGEST_BITS = 44
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TABLES = (
    "CREATE TABLE repositories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # id: of the repository, and so much of the digest as has room; two that have the same drive each other out, which
    # the checksum tells. used: the last day, counted from 1970, on which the row was of use.
    "CREATE TABLE facts (id INTEGER PRIMARY KEY, used INTEGER NOT NULL, content BLOB NOT NULL, checksum BLOB NOT NULL)",
)


class Scope(NamedTuple):
    """Where facts belong: `registry` is `host:port`."""

    registry: str
    repository: str

    @property
    def name(self) -> str:
        """Both in one; no host has a slash."""
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found of the digests that were looked up.

    Attributes:
        facts: of those that are remembered.
        stale: of these, those whose use has to be noted, as it was last noted on another day.
    """

    facts: dict[Digest, Fact]
    stale: frozenset[Digest] = frozenset()


class _ForeignFileError(sqlite3.DatabaseError):
    """The file is of another program or format."""


class FactStore:
    """Facts on disk, shared by all runs of a process; its methods block, and are called in threads.

    No method raises for what is wrong with the disk or the file: where nothing can be read, nothing is known.
    """

    def __init__(self, folder: Path, mebibytes: int, clock: Clock) -> None:
        """Keep facts in `folder`, in a file of at most so many MiB; it is opened when it is needed."""
        self._path = folder / _FILE
        self._most_pages = mebibytes * 1024 * 1024 // _PAGE
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._off = False
        self._renewals = 0
        self._told: set[str] = set()

    def knows(self, scope: Scope) -> bool:
        """Say whether anything is known of a repository."""

        def look(database: sqlite3.Connection) -> bool:
            number = _number(database, scope)
            if number is None:
                return False
            ends = (number << _DIGEST_BITS, (number + 1) << _DIGEST_BITS)
            return database.execute("SELECT 1 FROM facts WHERE id >= ? AND id < ? LIMIT 1", ends).fetchone() is not None

        return self._do(look, otherwise=False)

    def load(self, scope: Scope, digests: Collection[Digest], pool: Pool) -> Loaded:
        """Return what is known of `digests`, made of the pool's objects; rows that are not as written are deleted."""
        return self._do(lambda database: self._load(database, scope, digests, pool), otherwise=Loaded({}))

    def save(self, scope: Scope, facts: Collection[Fact]) -> None:
        """Write down facts of a repository, at once; where there is no room, what was not used for longest goes."""
        rows = [_row(scope, fact) for fact in facts]
        self._do(lambda database: self._save(database, scope, rows), otherwise=None)

    def used(self, scope: Scope, digests: Collection[Digest]) -> None:
        """Note that facts were of use today."""
        today = self._today()

        def note(database: sqlite3.Connection) -> None:
            with _transaction(database):
                number = _number(database, scope)
                if number is not None:
                    rows = [(today, _id(number, packed(digest))) for digest in digests]
                    database.executemany("UPDATE facts SET used = ? WHERE id = ?", rows)

        self._do(note, otherwise=None)

    def close(self) -> None:
        """Close the file; nothing is known from then on."""
        with self._lock:
            self._off = True
            self._shut()

    def _load(self, database: sqlite3.Connection, scope: Scope, digests: Collection[Digest], pool: Pool) -> Loaded:
        number = _number(database, scope)
        query = "SELECT used, content, checksum FROM facts WHERE id = ?"
        facts: dict[Digest, Fact] = {}
        stale: set[Digest] = set()
        broken: list[tuple[int]] = []
        today = self._today()
        if number is None:
            return Loaded({})
        for digest in digests:
            key = packed(digest)
            place = (_id(number, key),)
            row = database.execute(query, place).fetchone()
            if row is None:
                continue
            used, content, checksum = row
            try:
                if checksum != _checksum(scope, key, content):
                    raise ValueError("another checksum")  # noqa: TRY301 - one of several ways in which a row is broken
                facts[digest] = decode(digest, content, pool)
            except (ValueError, LookupError, TypeError, OverflowError):
                broken.append(place)
                continue
            if used != today:
                stale.add(digest)
        if broken:
            self._tell("facts in the cache are not as they were written; they are dropped, and the registry is asked")
            with _transaction(database):
                database.executemany("DELETE FROM facts WHERE id = ?", broken)
        return Loaded(facts, frozenset(stale))

    def _save(self, database: sqlite3.Connection, scope: Scope, rows: list[tuple[bytes, bytes, bytes]]) -> None:
        try:
            self._insert(database, scope, rows)
        except sqlite3.OperationalError as error:
            needed = 2 * sum(len(content) for _, content, _ in rows) // _PAGE + _SPARE_PAGES
            if _code(error) != sqlite3.SQLITE_FULL or self._room(database) > needed:
                raise  # the disk is full, not the file
            self._evict(database, max(needed, self._most_pages // _FREED))
            try:
                self._insert(database, scope, rows)
            except sqlite3.OperationalError as again:
                if _code(again) != sqlite3.SQLITE_FULL:
                    raise
                self._tell(
                    "the cache of facts is full of what was of use today, and remembers nothing new: give it more room "
                    "with REGISTRY_CLEANUP_CACHE_MIB, and its volume"
                )

    def _insert(self, database: sqlite3.Connection, scope: Scope, rows: list[tuple[bytes, bytes, bytes]]) -> None:
        today = self._today()
        with _transaction(database):
            database.execute("INSERT OR IGNORE INTO repositories (name) VALUES (?)", (scope.name,))
            number = _number(database, scope)
            if number is not None:
                database.executemany(
                    "INSERT OR REPLACE INTO facts (id, used, content, checksum) VALUES (?, ?, ?, ?)",
                    [(_id(number, key), today, content, checksum) for key, content, checksum in rows],
                )

    def _evict(self, database: sqlite3.Connection, wanted: int) -> None:
        """Make room for so many pages: what was not used for longest goes first, and nothing that was of use today."""
        days = database.execute(
            "SELECT DISTINCT used FROM facts WHERE used < ? ORDER BY used", (self._today(),)
        ).fetchall()
        query = "DELETE FROM facts WHERE id IN (SELECT id FROM facts WHERE used = ? LIMIT ?)"
        for (day,) in days:
            deleted = _EVICTED_AT_A_TIME
            while deleted == _EVICTED_AT_A_TIME and self._room(database) < wanted:
                with _transaction(database):
                    deleted = database.execute(query, (day, _EVICTED_AT_A_TIME)).rowcount
        with _transaction(database):
            database.execute("DELETE FROM repositories WHERE id NOT IN (SELECT id >> ? FROM facts)", (_DIGEST_BITS,))

    def _room(self, database: sqlite3.Connection) -> int:
        """Return how many pages may still be filled."""
        (taken,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        return self._most_pages - int(taken) + int(free)

    # What may go wrong

    def _do(self, work: Callable[[sqlite3.Connection], _Result], *, otherwise: _Result) -> _Result:
        """Return what comes of `work` on the open file, or `otherwise` where nothing can come of it."""
        with self._lock:
            again = True
            while again and not self._off:
                try:
                    if self._connection is None:
                        self._connection = self._open()
                    return work(self._connection)
                except (
                    Exception
                ) as error:  # a broken file also breaks the text of its errors, and what is thought of next
                    again = self._cope(error)
            return otherwise

    def _cope(self, error: Exception) -> bool:
        """Begin the file anew where it is broken, and say so; go on without it where it cannot be used."""
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._tell("the cache of facts is locked by another process; the registry is asked instead")
            return False
        # A schema that is broken makes statements wrong that are right.
        broken = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
        broken = broken or isinstance(error, _ForeignFileError | ValueError)
        self._shut()
        if broken and self._renewals < _MOST_RENEWALS:
            self._renewals += 1
            try:
                self._remove()
            except OSError as refusal:
                error = refusal
            else:
                _log.warning("the cache of facts at %s is begun anew: %s", self._path, error)
                return True
        self._off = True
        _log.warning(
            "there is no cache of facts at %s until the operator is started again: %s; registries are asked instead",
            self._path,
            error,
        )
        return False

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the file ours if it is new; raise what begins it anew where it is not, or is larger than it may be."""
        database.execute(f"PRAGMA max_page_count = {self._most_pages}")
        # A machine that goes down may leave a broken file, which the checksums tell: nothing is worth waiting for.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA temp_store = MEMORY")
        with _transaction(database):
            if database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,):
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {FORMAT}")
                for table in _TABLES:
                    database.execute(table)
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if (application, version) != (_APPLICATION, FORMAT):
            raise _ForeignFileError(f"it is of format {version} of program {application:#x}")
        if self._room(database) < 0:
            raise _ForeignFileError("it is larger than it may be by now")

    def _shut(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error), closing(self._connection):
                self._connection = None

    def _remove(self) -> None:
        for path in (self._path, self._path.with_name(f"{_FILE}-journal"), self._path.with_name(f"{_FILE}-wal")):
            path.unlink(missing_ok=True)

    def _tell(self, text: str) -> None:
        """Log `text`, once."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)

    def _today(self) -> int:
        return (self._clock.now() - _EPOCH).days


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Make what is done one transaction, for which this process is the only one to write."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # some errors end it themselves
            database.execute("ROLLBACK")
        raise


def _row(scope: Scope, fact: Fact) -> tuple[bytes, bytes, bytes]:
    key, content = packed(fact.document.manifest.digest), encode(fact)
    return key, content, _checksum(scope, key, content)


def _checksum(scope: Scope, key: bytes, content: bytes) -> bytes:
    """Return what proves that `content` was written for this digest of this repository: SQLite has no such proof."""
    name = scope.name.encode()
    return blake2b(b"%d %b%b%b" % (len(name), name, key, content), digest_size=16).digest()


def _number(database: sqlite3.Connection, scope: Scope) -> int | None:
    row = database.execute("SELECT id FROM repositories WHERE name = ?", (scope.name,)).fetchone()
    return None if row is None else int(row[0])


def _id(number: int, key: bytes) -> int:
    """Return the number of the row of a packed digest in the repository of this number."""
    part = int.from_bytes(key[1:9]) & ((1 << _DIGEST_BITS) - 1)
    return ((number << _DIGEST_BITS) | part) & 0x7FFF_FFFF_FFFF_FFFF


def _code(error: BaseException) -> int | None:
    """Return the primary result code of an error of SQLite."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
