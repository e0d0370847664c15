"""How commands end: exit codes that scripts can rely on, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """The exit codes of all commands, with the words that --help and docs/cli.md have for each.

    Attributes:
        words: when a command ends so.
    """

    words: str

    def __new__(cls, code: int, words: str) -> Self:
        """Make a member that is its code."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.words = words
        return made

    DONE = 0, "done as asked; of a plan, that it was made, whatever it says"
    FAILED = 1, "the run failed, the output or this machine's state cannot be written, or nobody foresaw it"
    USAGE = 2, "wrong options or settings, or a policy or file that cannot be obeyed"
    HELD_BACK = 3, "not all was pruned: grace period, limits, approval, dry run, a no; or no plan or report yet"
    REGISTRY = 4, "the registry cannot be reached, lets nobody in, does not delete, goes silent, or has no such thing"
    CLUSTER = 5, "a cluster is needed, and there is none, or it refuses"
    PARTIAL = 6, "some repositories or tags failed, and the rest was done"
    DIFFERENT = 7, "plan --diff found a difference"
    INTERRUPTED = 130, "by Ctrl-C, at a safe point; what was done is told"
    BROKEN_PIPE = 141, "nobody reads the output any more"


class CommandError(Exception):
    """A command cannot go on; the message says what happened and what to do next, on stderr."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code
