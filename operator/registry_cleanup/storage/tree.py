"""Files below one folder, reached step by step without following a symlink, whoever changes them meanwhile.

Names come as tuples of parts. Every change is one system call, after which `after` is told: a process that is killed
is killed between two of them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from registry_cleanup.storage.errors import UnknownLayoutError, VolumeError

Parts = Sequence[str]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC
# What a volume says that is full, read-only or somebody else's, in words that tell what to do.
_REFUSALS = {
    errno.ENOSPC: "the volume is full; free some space, since also moving needs a little for its journal",
    errno.EDQUOT: "the quota of the volume is used up; raise it, since also moving needs a little for its journal",
    errno.EROFS: "the volume is mounted read-only; mount it writable",
    errno.EACCES: "this user may not write there; run as root, or as the user that the registry runs as",
    errno.EPERM: "this user may not write there; run as root, or as the user that the registry runs as",
    errno.EXDEV: "trash and storage are on two volumes; --root has to be the folder in which one volume holds both",
}


def shown(parts: Parts) -> str:
    """Return parts as a path that can be printed, whatever is in the names."""
    return "/".join(part.encode(errors="surrogateescape").decode(errors="backslashreplace") for part in parts)


class Tree:
    """Everything below a folder.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path, descriptor: int, after: Callable[[str], None]) -> None:
        self.path = path
        self._root = descriptor
        self._after = after

    @classmethod
    @contextmanager
    def open(cls, path: Path, after: Callable[[str], None] = lambda _: None) -> Iterator[Self]:
        """Open the folder at `path`, which itself may be behind symlinks: it is what a person named."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UnknownLayoutError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            yield cls(path, descriptor, after)
        finally:
            os.close(descriptor)

    # Reading

    def entries(self, parts: Parts) -> list[tuple[str, bool]] | None:
        """Return the names in a folder, sorted, and whether each is a folder; None where there is no such folder.

        Raises:
            UnknownLayoutError: a symlink, or something else that is neither file nor folder, is or leads there.
        """
        with self._reading(parts) as folder:
            if folder is None:
                return None
            with os.scandir(folder) as found:
                return sorted((entry.name, self._is_folder(entry, parts)) for entry in found)

    def read(self, parts: Parts, most: int) -> bytes | None:
        """Return the content of a file, `most` bytes and one more of a longer one; None where there is none."""
        *where, name = parts
        with self._reading(where) as folder:
            if folder is None:
                return None
            try:
                file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FILE, dir_fd=folder)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._unreadable(parts, error) from error
            with os.fdopen(file, "rb", buffering=0) as opened:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise UnknownLayoutError(f"{shown(parts)} is no file")
                content = b""
                while len(content) <= most and (more := opened.read(most + 1 - len(content))):
                    content += more
                return content

    def has(self, parts: Parts) -> bool:
        """Say whether there is anything of this name."""
        *where, name = parts
        with self._reading(where) as folder:
            if folder is None:
                return False
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
                return True
            return False

    def device(self, parts: Parts) -> int | None:
        """Return what tells one volume from another; None where there is no such folder."""
        with self._reading(parts) as folder:
            return None if folder is None else os.fstat(folder).st_dev

    # Changing

    def make(self, parts: Parts, like: Parts) -> None:
        """Make a folder and those above it, each with owner and mode of the folder `like`."""
        with self._writing(parts, "make"), self._folder(like) as model:
            wanted = os.fstat(model)
            for depth in range(1, len(parts) + 1):
                with self._folder(parts[: depth - 1]) as above:
                    try:
                        os.mkdir(parts[depth - 1], dir_fd=above)
                    except FileExistsError:
                        continue
                    self._after("mkdir")
                    with self._folder(parts[:depth]) as made:
                        _own(made, wanted, stat.S_IMODE(wanted.st_mode))
                    os.fsync(above)
                    self._after("fsync")

    def append(self, parts: Parts, content: bytes, like: Parts) -> None:
        """Add to a file so that it outlives a loss of power, and make it if need be, with the owner of `like`."""
        *where, name = parts
        with self._writing(parts, "write"), self._folder(like) as model, self._folder(where) as folder:
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FILE, 0o600, dir_fd=folder)
            try:
                wanted = os.fstat(model)
                _own(file, wanted, stat.S_IMODE(wanted.st_mode) & 0o666)
                size = os.fstat(file).st_size
                # What a process wrote that was killed meanwhile may lack its end.
                torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
                content = b"\n" * torn + content
                while content:
                    content = content[os.write(file, content) :]
                    self._after("write")
                os.fsync(file)
            finally:
                os.close(file)
            os.fsync(folder)
            self._after("fsync")

    def move(self, source: Parts, target: Parts) -> bool:
        """Move something to a name that is free, in one step; return False where it is gone, or the name is taken."""
        *source_in, source_name = source
        *target_in, target_name = target
        with (
            self._writing(source, "move"),
            self._folder(source_in) as source_folder,
            self._folder(target_in) as target_folder,
        ):
            try:
                # What is there and is no empty folder is never replaced by one: the system itself sees to it.
                os.rename(source_name, target_name, src_dir_fd=source_folder, dst_dir_fd=target_folder)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return False
                raise
            self._after("rename")
        return True

    def sync(self, parts: Parts) -> None:
        """Let a folder outlive a loss of power as it is."""
        with self._writing(parts, "write"), self._folder(parts) as folder:
            os.fsync(folder)
            self._after("fsync")

    def remove(self, parts: Parts) -> None:
        """Delete a file, or a folder with all that is in it; what is not there is no matter. Follows no symlink."""
        *where, name = parts
        with (
            self._writing(parts, "delete"),
            self._folder(where) as folder,
            contextlib.suppress(FileNotFoundError),
        ):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                with self._folder(parts) as inside, os.scandir(inside) as found:
                    below = [entry.name for entry in found]
                for each in below:
                    self.remove((*parts, each))
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
            self._after("unlink")

    @contextmanager
    def locked(self, parts: Parts, like: Parts) -> Iterator[bool]:
        """Hold the lock that a file stands for, as long as this process lives; yields False where another has it."""
        *where, name = parts
        with contextlib.ExitStack() as stack:
            with self._writing(parts, "lock"), self._folder(like) as model, self._folder(where) as folder:
                # A file, and writable: NFS locks nothing else.
                file = os.open(name, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=folder)
                stack.callback(os.close, file)
                wanted = os.fstat(model)
                _own(file, wanted, stat.S_IMODE(wanted.st_mode) & 0o666)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    free = True
                except BlockingIOError:
                    free = False
            yield free

    # Steps

    @contextmanager
    def _folder(self, parts: Parts) -> Iterator[int]:
        """Open a folder step by step, none of which may be a symlink."""
        folder = os.dup(self._root)
        try:
            for part in parts:
                below = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def _reading(self, parts: Parts) -> Iterator[int | None]:
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(self._folder(parts))
            except FileNotFoundError:
                folder = None
            except OSError as error:
                raise self._unreadable(parts, error) from error
            try:
                yield folder
            except OSError as error:
                raise self._unreadable(parts, error) from error

    @contextmanager
    def _writing(self, parts: Parts, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = _REFUSALS.get(error.errno or 0, error.strerror or str(error))
            raise VolumeError(f"cannot {what} {self.path}/{shown(parts)}: {why}") from error

    def _unreadable(self, parts: Parts, error: OSError) -> UnknownLayoutError | VolumeError:
        where = f"{self.path}/{shown(parts)}"
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            return UnknownLayoutError(f"{where} is or leads through a symlink, or something else that is no folder")
        return VolumeError(f"cannot read {where}: {error.strerror}")

    def _is_folder(self, entry: os.DirEntry[str], parts: Parts) -> bool:
        if entry.is_dir(follow_symlinks=False):
            return True
        if entry.is_file(follow_symlinks=False):
            return False
        kind = "a symlink" if entry.is_symlink() else "neither a file nor a folder"
        raise UnknownLayoutError(f"{self.path}/{shown((*parts, entry.name))} is {kind}")


def _own(descriptor: int, wanted: os.stat_result, mode: int) -> None:
    """Let what root made belong to the registry's user, so that both can go on with it."""
    now = os.fstat(descriptor)
    if os.geteuid() == 0 and (now.st_uid, now.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
    if stat.S_IMODE(now.st_mode) != mode and os.geteuid() in (0, now.st_uid):
        os.fchmod(descriptor, mode)
