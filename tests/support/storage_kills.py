"""Kills a process after each of its changes to a storage, one copy of the storage for each: run as a program.

    python -m tests.support.storage_kills COMMAND PREPARED FOLDER

COMMAND is prune, restore or empty; PREPARED is the storage to begin with, FOLDER gets one copy after the other, `0` for
the first change, until one goes through without being killed.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from registry_cleanup.storage.emptying import empty
from registry_cleanup.storage.pruning import prune
from registry_cleanup.storage.restoring import RestoreOrder, restore
from registry_cleanup.storage.tree import Tree
from tests.support.stored import NOW, RUN, HandStorage, fill

KILLED = 9


def command(name: str, tree: Tree, plan_root: Path) -> None:
    """Do all of it."""
    match name:
        case "prune":
            done = prune(tree, fill(HandStorage(plan_root)), RUN, NOW, lambda: None)
            assert done.stopped is None
        case "restore":
            restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
        case _:
            empty(tree, RUN, None, NOW)


def _main(name: str, prepared: Path, folder: Path) -> None:
    step = 0
    while _killed(name, prepared, folder / str(step), folder / "plan", step):
        step += 1


def _killed(name: str, prepared: Path, copy: Path, plan_root: Path, step: int) -> bool:
    """Run the command on a copy in a process of its own; say whether it was killed."""
    shutil.copytree(prepared, copy)
    child = os.fork()
    if child == 0:
        with Tree.open(copy, _bomb(step)) as tree:
            command(name, tree, plan_root)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), code
    return code == KILLED


def _bomb(step: int) -> Callable[[str], None]:
    """Return what ends the process at the change of this number, with nothing cleaned up."""
    left = step

    def after(_: str) -> None:
        nonlocal left
        if left == 0:
            os._exit(KILLED)
        left -= 1

    return after


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
