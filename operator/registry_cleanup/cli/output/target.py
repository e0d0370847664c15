"""Where output goes: standard output, or a file that is whole or as it was before."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from registry_cleanup.cli.exits import CommandError, Exit


def check_writable(file: Path | None, policy: Path | None = None) -> None:
    """See, before anything is asked of anybody, that a file can be written; raise `CommandError`.

    Args:
        file: that is to be written; None or - for standard output.
        policy: the file that the policy is read from, which is no place for what comes of it.
    """
    if file is None or str(file) == "-" or _is_device(file):
        return
    try:
        if policy is not None and file.exists() and policy.exists() and file.samefile(policy):
            raise CommandError(f"--output-file {file} is the policy's own file, which would be overwritten", Exit.USAGE)
        folder = file.resolve().parent
        if not folder.is_dir():
            raise CommandError(f"cannot write {file}: there is no folder {folder}", Exit.USAGE)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}", Exit.USAGE) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write {file}: you may not write into the folder {folder}", Exit.USAGE)


@contextmanager
def opened(file: Path | None) -> Iterator[TextIO]:
    """Open where to print; a file is whole or as it was before."""
    if file is None or str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        # What is no file, such as /dev/stdout or a pipe, cannot be replaced.
        with file.open("w", encoding="utf-8") if _is_device(file) else _replaced(file.resolve()) as out:
            yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}", Exit.FAILED) from error


def _is_device(file: Path) -> bool:
    return file.exists() and not file.is_file()


@contextmanager
def _replaced(file: Path) -> Iterator[TextIO]:
    """Write beside a file, and put that in its place once it is whole."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as out:
            if file.exists():
                beside.chmod(stat.S_IMODE(file.stat().st_mode))
            yield out
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
