"""The trash: a folder beside the storage, on the same volume, where the registry never looks.

    registry-cleanup-trash/lock                       held by the command that is at work
                           runs/RUN/journal           what was to be moved, written down before it was
                                    repositories/...  what was moved, laid out as in the storage
                                    replaced/...      tags that `restore --force` found in the place of others
                           emptying/RUN               what is being deleted

Distribution reads nothing but `docker/registry/v2`, garbage collection included. What is in the trash is what its tree
holds; the journal says of which plan it is, and what was about to happen when a process was killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.stored import Link
from registry_cleanup.domain.written_plan import WrittenPlan
from registry_cleanup.storage import layout
from registry_cleanup.storage.errors import HeldBackError, TrashError, VolumeError
from registry_cleanup.storage.tree import Parts, Tree, shown

TRASH = ("registry-cleanup-trash",)
_RUNS = (*TRASH, "runs")
_EMPTYING = (*TRASH, "emptying")
_LOCK = (*TRASH, "lock")
_JOURNAL = "journal"
_VERSION = 1
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A line for each link, of 300 bytes: enough for a million of them.
_MOST_JOURNAL = 512 * 1024 * 1024
# Whose owner and mode all that is made here has.
_LIKE = layout.REPOSITORIES


@dataclass(frozen=True, slots=True)
class Journal:
    """What the journal of a run says.

    Attributes:
        plan: hash of the plan that was pruned by; None where nothing whole was written.
        registry: host and port, as the plan has it.
        policy: UID of the policy whose plan it was.
        pruned_at: when the last attempt began.
        restored_at: when anything of it was last put back; None where nothing was.
    """

    plan: str | None = None
    registry: str | None = None
    policy: str | None = None
    pruned_at: datetime | None = None
    restored_at: datetime | None = None


@contextmanager
def locked(tree: Tree) -> Iterator[None]:
    """Have the trash to oneself, and make it if need be; raise `HeldBackError` where another command has it."""
    trash, storage = tree.device(TRASH), tree.device(layout.REPOSITORIES)
    if (tree.device(()) if trash is None else trash) != storage:
        raise VolumeError(
            f"{tree.path} and {shown(layout.REPOSITORIES)} below it are on two volumes, between which nothing moves in "
            "one step: mount the volume so that --root is a folder of it"
        )
    tree.make(TRASH, _LIKE)
    with tree.locked(_LOCK, _LIKE) as free:
        if not free:
            raise HeldBackError(f"another command works on {tree.path}/{shown(TRASH)}: wait for its end")
        yield


def runs(tree: Tree) -> list[str]:
    """Return the runs that have something in the trash, sorted."""
    return [name for name, is_folder in tree.entries(_RUNS) or () if is_folder and _RUN.fullmatch(name)]


class Trash:
    """What one run has moved."""

    def __init__(self, tree: Tree, run: str) -> None:
        """Look at the trash of `run`; raise `TrashError` where that cannot be the ID of one."""
        if not _RUN.fullmatch(run):
            raise TrashError(f"{shown([run])} is no ID of a run: letters, digits, dots and dashes, 64 at most")
        self.run = run
        self._tree = tree
        self._folder = (*_RUNS, run)
        self._repositories = (*self._folder, "repositories")

    # The journal

    def journal(self) -> Journal:
        """Return what the journal says; raise `TrashError` where there is something, and no journal of it."""
        found = Journal()
        for line in self._lines():
            match line.get("type"):
                case "run":
                    _check_version(line)
                    found = Journal(line["plan"], line["registry"], line["policy"], _time(line), found.restored_at)
                case "restored":
                    found = replace(found, restored_at=_time(line))
                case _:
                    pass  # what was to be moved is here by now, or was not
        if found.plan is None and any(self.tags(each) or self.revisions(each) for each in self.repositories()):
            raise TrashError(
                f"the trash of run {self.run} has lost its journal: {self._tree.path}/{shown(self._folder)}"
            )
        return found

    def begin(self, plan: WrittenPlan, links: Sequence[Link], now: datetime) -> None:
        """Make place for links, and write down what is about to happen, before any of it does."""
        for folder in dict.fromkeys(self._place(link)[:-1] for link in links):
            self._tree.make(folder, _LIKE)
        head = {
            "type": "run",
            "version": _VERSION,
            "run": self.run,
            "plan": plan.hash,
            "registry": plan.registry,
            "policy": plan.policy,
            "at": now.isoformat(),
        }
        self._tree.make(self._folder, _LIKE)
        self._append([head, *({"type": "move", **link._asdict()} for link in links)])

    def note(self, what: str, now: datetime) -> None:
        """Write down that something was done, or is about to be."""
        self._append([{"type": what, "at": now.isoformat()}])

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        self._tree.append((*self._folder, _JOURNAL), text.encode(), _LIKE)

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        for text in (self._tree.read((*self._folder, _JOURNAL), _MOST_JOURNAL) or b"").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the process was killed that wrote it, before anything of it was done
            if isinstance(line, dict):
                yield line

    # What was moved

    def repositories(self) -> list[str]:
        """Return the repositories of which anything was moved."""
        return sorted(_repositories(self._tree, self._repositories, ()))

    def tags(self, repository: str) -> dict[str, Digest]:
        """Return the tags of a repository that were moved, with what they name."""
        where = (*self._repositories, *repository.split("/"), "_manifests", "tags")
        return {tag: digest for tag, digest in layout.tags(self._tree, where) if digest is not None}

    def revisions(self, repository: str) -> set[Digest]:
        """Return the manifests of a repository that were moved."""
        return set(
            layout.revisions(self._tree, (*self._repositories, *repository.split("/"), "_manifests", "revisions"))
        )

    def named(self, link: Link) -> Digest | None:
        """Return what a tag names that was moved."""
        return layout.link(self._tree, (*self._place(link), "current"))

    def take(self, link: Link) -> bool:
        """Move a link here; return False where it is gone, or a namesake is here already."""
        return self._tree.move(_stored(link), self._place(link))

    def put_back(self, link: Link) -> bool:
        """Move a link to where it was; return False where it is not here, or its place is taken."""
        target = _stored(link)
        self._tree.make(target[:-1], _LIKE)
        return self._tree.move(self._place(link), target)

    def replace(self, link: Link) -> bool:
        """Move away the tag that is in the place of `link`; it stays in the trash."""
        number = 0
        relative = _stored(link)[len(layout.REPOSITORIES) : -1]
        while self._tree.has(target := (*self._folder, "replaced", str(number), *relative, str(link.tag))):
            number += 1
        self._tree.make(target[:-1], _LIKE)
        return self._tree.move(_stored(link), target)

    def sync(self, links: Sequence[Link]) -> None:
        """Let what was moved outlive a loss of power."""
        for folder in dict.fromkeys(each[:-1] for link in links for each in (self._place(link), _stored(link))):
            self._tree.sync(folder)

    def empty(self) -> None:
        """Delete all of it; from the first step on nothing of it can be put back."""
        gone = (*_EMPTYING, self.run)
        self._tree.make(_EMPTYING, _LIKE)
        self._tree.remove(gone)
        self._tree.move(self._folder, gone)
        self._tree.sync(_RUNS)
        self._tree.remove(gone)

    def _place(self, link: Link) -> Parts:
        return (*self._repositories, *_stored(link)[len(layout.REPOSITORIES) :])


def finish_emptying(tree: Tree) -> list[str]:
    """Delete what a process was killed over, and return of which runs that was."""
    left = [name for name, _ in tree.entries(_EMPTYING) or ()]
    for name in left:
        tree.remove((*_EMPTYING, name))
    return left


def _stored(link: Link) -> Parts:
    if link.tag is None:
        return layout.revision_parts(link.repository, link.digest)
    return layout.tag_parts(link.repository, link.tag)


def _repositories(tree: Tree, where: Parts, name: tuple[str, ...]) -> Iterator[str]:
    for entry, is_folder in tree.entries((*where, *name)) or ():
        if is_folder and entry == "_manifests" and name:
            yield "/".join(name)
        elif is_folder:
            yield from _repositories(tree, where, (*name, entry))


def _check_version(line: Mapping[str, Any]) -> None:
    if line.get("version") != _VERSION:
        raise TrashError("the journal was written by a later version of this program, which has to go on with it")


def _time(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["at"])
