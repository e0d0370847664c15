"""Where `run` keeps what outlives it: the published plan, the last report, and who runs a policy just now.

One folder for each policy, by UID, below `$XDG_STATE_HOME/registry-cleanup`. Everything in it is written anew and put
in place in one step. Nobody else may write there: whoever could date a plan back would end its grace period.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.published import DamagedError, Protected, Published, decode, encode, nothing_published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure, ReportReference
from registry_cleanup.ports import PlanStore, RunError

PLAN_FILE, REPORT_FILE, MEMORY_FILE, LOCK_FILE = "plan", "report.ndjson.gz", "memory.json", "lock"
UNDONE_FILE = "undone"
_FOLDER = "registry-cleanup"
_REGISTRIES = "registries"
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_CHECKSUM_BYTES = 32
_PLAIN = re.compile("[A-Za-z0-9][A-Za-z0-9-]{0,99}")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a policy from one `run` to the next, beside its published plan.

    Attributes:
        spec: fingerprint of the spec that was planned last; None where none was.
        references: found in use by the last look that nobody doubted.
        next_repository: where the next run begins, since the last one had no time left for it.
    """

    spec: str | None = None
    references: int | None = None
    next_repository: str | None = None


class LocalPlans(PlanStore):
    """The published plan and the last report of one policy, in files.

    Attributes:
        folder: of the policy.
        content: the last report that was written, as `domain.report.read_report` reads it; empty before.
        intent: of the policy that is run: what was put back is left alone as long as it is the same.
    """

    def __init__(self, uid: str, tell: Callable[[str], None], state_home: Path | None = None) -> None:
        """Keep the plans of the policy `uid`; raise `CommandError` where that cannot be done safely.

        Args:
            uid: of the policy.
            tell: tells a person of what was damaged.
            state_home: instead of the user's.
        """
        self._uid = uid
        self._tell = tell
        home = (state_home or _state_home()) / _FOLDER
        self.folder = _folder_of(uid, home)
        self.content = b""
        self.intent = ""
        for folder in (home, home / _REGISTRIES, self.folder):
            _make_private(folder)

    @property
    @override
    def most_report_bytes(self) -> int | None:
        return None

    @override
    async def load(self) -> Published:
        return await asyncio.to_thread(self._load)

    @override
    async def save(self, published: Published) -> None:
        # What a person approved they approved for this run, which holds it in memory: the next one asks anew.
        content = encode(published.unapproved())
        await asyncio.to_thread(self.write, PLAN_FILE, hashlib.sha256(content).digest() + content)

    @override
    async def report(self, content: bytes, cut: int) -> ReportReference:
        self.content = content
        await asyncio.to_thread(self.write, REPORT_FILE, content)
        return ReportReference(str(self.folder / REPORT_FILE), "", cut)

    @override
    async def undone(self) -> Protected | None:
        content = await asyncio.to_thread(self.read, UNDONE_FILE)
        return None if content is None else _put_back(self._uid, self.intent, content)

    @override
    async def protect(self, items: Sequence[tuple[str, str, Digest]]) -> None:
        before = await self.undone() or Protected(self._uid)
        content = self.intent.encode() + b"\n" + before.with_more(items).encode()
        await asyncio.to_thread(self.write, UNDONE_FILE, content)

    def memory(self) -> Memory:
        """Return what is remembered; nothing where that is damaged or was never written."""
        try:
            found = json.loads(self.read(MEMORY_FILE) or b"{}")
            known = {field.name: found.get(field.name) for field in fields(Memory)}
            memory = Memory(**known)
        except (ValueError, AttributeError):
            return Memory()
        texts = (memory.spec, memory.next_repository)
        whole = all(value is None or isinstance(value, str) for value in texts)
        return memory if whole and (memory.references is None or isinstance(memory.references, int)) else Memory()

    def remember(self, memory: Memory) -> None:
        """Remember this, and nothing else."""
        self.write(MEMORY_FILE, json.dumps(asdict(memory)).encode())

    @contextmanager
    def held(self, now: datetime) -> Iterator[None]:
        """Have the policy to oneself; raise `CommandError` with who has it, where somebody does."""
        with _locked(self.folder / LOCK_FILE, "this policy", now):
            yield

    @contextmanager
    def registry_held(self, registry: str, now: datetime) -> Iterator[None]:
        """Have a registry to oneself: of two that prune there, each would count on what the other takes away."""
        name = hashlib.sha256(registry.encode()).hexdigest()[:32]
        with _locked(self.folder.parent / _REGISTRIES / name, f"a policy at {registry}", now):
            yield

    def _load(self) -> Published:
        content = self.read(PLAN_FILE)
        if content is None:
            return nothing_published(self._uid)
        return _checked(self._uid, content, self.folder / PLAN_FILE, self._tell)

    def read(self, name: str) -> bytes | None:
        """Return what stands in a file of the policy; None if there is none. Raises `RunError`."""
        with self._explained():
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step: after a crash, the old one is there or the new one. Raises `RunError`."""
        with self._explained():
            number, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)  # readable by nobody else
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.folder / name)
            except BaseException:
                with suppress(OSError):
                    Path(temporary).unlink()
                raise
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = (
                f"the published plan or the report could not be read or written in {self.folder}: {error.strerror}"
            )
            raise RunError(Failure("PlanStoreUnavailable", message, mendable=True)) from error


def published_here(uid: str, tell: Callable[[str], None], state_home: Path | None = None) -> Published | None:
    """Return the plan of the policy `uid` that `run` published on this machine; None where none can be read.

    What `run` itself would not believe counts as none, too, and that is told. Nothing is written or locked: a plan is
    put in place in one step.

    Args:
        uid: of the policy.
        tell: tells a person what is wrong with a plan that is there.
        state_home: instead of the user's.
    """
    found = _content_here(uid, PLAN_FILE, tell, state_home)
    return None if found is None else _checked(uid, found[1], found[0], tell)


def put_back_here(
    uid: str, intent: str, tell: Callable[[str], None], state_home: Path | None = None
) -> Protected | None:
    """Return what of a policy was put back on this machine under the same `intent`; None where that is nothing.

    Args:
        uid: of the policy.
        intent: of the policy.
        tell: tells a person what is wrong with a file that is there.
        state_home: instead of the user's.
    """
    found = _content_here(uid, UNDONE_FILE, tell, state_home)
    return None if found is None else _put_back(uid, intent, found[1])


def _content_here(
    uid: str, name: str, tell: Callable[[str], None], state_home: Path | None
) -> tuple[Path, bytes] | None:
    """Return a file of a policy and what stands in it, None where it cannot be read; nothing is written or locked."""
    try:
        folder = _folder_of(uid, (state_home or _state_home()) / _FOLDER)
        for each in (folder.parent, folder):
            _refuse_shared(each, each.stat())
        return folder / name, (folder / name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        tell(f"the plan that was published on this machine cannot be read ({error.strerror}), so every tag is new here")
    except CommandError as error:
        tell(f"{error}; every tag is new here")
    return None


def _put_back(uid: str, intent: str, content: bytes) -> Protected | None:
    written_for, end, items = content.partition(b"\n")
    if not end:
        return Protected(uid, None)  # damaged: nobody knows what it protects, so that it is everything
    return Protected.decode(uid, items) if written_for == intent.encode() else None


def _checked(uid: str, content: bytes, file: Path, tell: Callable[[str], None]) -> Published:
    """Return the plan that is in a file; nothing, which is told, where it is damaged."""
    checksum, plan = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    try:
        return _decoded(uid, checksum, plan)
    except DamagedError as error:
        tell(
            f"the published plan in {file} is damaged ({error}), so every tag of it is new: its grace period starts "
            "again"
        )
        return nothing_published(uid)


def _decoded(uid: str, checksum: bytes, plan: bytes) -> Published:
    if hashlib.sha256(plan).digest() != checksum:
        raise DamagedError("its checksum is another one")
    return decode(uid, plan)


def fingerprint(spec: Mapping[str, object]) -> str:
    """Return what tells one spec from another, in whatever order its fields stand."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()


def _state_home() -> Path:
    named = os.environ.get("XDG_STATE_HOME", "")
    # As its specification has it: a relative path counts for nothing.
    if named and Path(named).is_absolute():
        return Path(named)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise CommandError("there is no home folder to keep plans in: set XDG_STATE_HOME", Exit.FAILED) from error


def _folder_of(uid: str, home: Path) -> Path:
    # A UID of a file may be anything, also a way out of the folder.
    return home / (uid if _PLAIN.fullmatch(uid) else hashlib.sha256(uid.encode()).hexdigest())


def _make_private(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        message = f"plans cannot be kept in {folder}: {error.strerror}; name another place with XDG_STATE_HOME"
        raise CommandError(message, Exit.FAILED) from error
    _refuse_shared(folder, found)


def _refuse_shared(folder: Path, found: os.stat_result) -> None:
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = (
            f"others may write in {folder}, so nothing that stands there about the grace period can be trusted; "
            f"take that away (chmod go-w), or name another place with XDG_STATE_HOME"
        )
        raise CommandError(message, Exit.FAILED)


@contextmanager
def _locked(file: Path, what: str, now: datetime) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends."""
    try:
        number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}", Exit.FAILED) from error
    with os.fdopen(number, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = lock.read(200).strip() or "another process"
            message = f"{what} is being run already, by {holder}; nothing was done. Wait for its end, or stop it there"
            raise CommandError(message, Exit.HELD_BACK) from error
        except OSError as error:
            message = f"{file} cannot be locked ({error.strerror}); name a local folder with XDG_STATE_HOME"
            raise CommandError(message, Exit.FAILED) from error
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%dT%H:%M:%SZ}\n")
        lock.flush()
        yield
