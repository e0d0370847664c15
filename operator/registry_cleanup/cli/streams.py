"""The standard streams, whatever the shell made of them: closed, broken, full, or of another encoding."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys

import click

from registry_cleanup.cli.exits import CommandError, Exit

# The disk, or the quota, is full; or the device failed.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Nowhere(io.TextIOWrapper):
    """Stands in for a standard output that the shell closed."""


def prepare() -> None:
    """See to it that there are three streams, and that no character is too much for them."""
    # Where the shell closed one (`>&-`), the next file or connection that is opened would get its number. From 0 on,
    # since each new one takes the lowest.
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = _Nowhere(os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb"))
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # ASCII comes of LANG=C, and is a mistake more often than meant: click writes UTF-8 there, through a buffer of
        # its own, and what others write would come before or after it. What any other encoding cannot say is spelled
        # out, as Python itself has it on stderr.
        known = codecs.lookup(sys.stdout.encoding).name
        sys.stdout.reconfigure(encoding="utf-8" if known == "ascii" else None, errors="backslashreplace")


def expect_output() -> None:
    """Raise `CommandError` where standard output is closed: a command whose result nobody gets need not begin."""
    if isinstance(sys.stdout, _Nowhere):
        raise CommandError("the output cannot be written: standard output is closed", Exit.FAILED)


def finish() -> Exit | None:
    """Write what is left in the buffers; return how the command ends if that fails."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        return unwritten(error)
    return None


def unwritten(error: OSError) -> Exit | None:
    """Return how a command ends that cannot write its output; None if `error` is about something else."""
    if isinstance(error, BrokenPipeError):
        _abandon()
        return Exit.BROKEN_PIPE
    if error.errno in _UNWRITABLE:
        _abandon()
        click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
        return Exit.FAILED
    return None


def _abandon() -> None:
    """Let what is left in the buffer of stdout go nowhere, or the interpreter would try once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
