"""What differs between the plan that was just made and the one that is published."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from registry_cleanup.domain.published import Published
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.report import Line

_GONE = ("Pruned", "AlreadyGone")


class Item(NamedTuple):
    """A tag of a plan, on what it stands."""

    repository: str
    tag: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Baseline:
    """All that is known of the published plan.

    Attributes:
        hash: its name, of the policy's status.
        generated_at: when it was made.
        prints: its fingerprints; None where they cannot be had, or are another plan's.
        items: its tags by name, as far as the report has them.
        pruned: those of them that are pruned since.
        whole: whether the report has them all.
    """

    hash: str
    generated_at: str
    prints: Published | None = None
    items: frozenset[Item] = frozenset()
    pruned: frozenset[Item] = frozenset()
    whole: bool = False

    @property
    def known(self) -> bool:
        """Whether anything can be compared with it but its hash."""
        return self.whole or self.prints is not None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is otherwise in a plan than in the published one.

    Attributes:
        same: whether both have the same hash.
        published: the hash of the published one.
        published_at: when it was made.
        new: what was not planned before.
        dropped: what is not planned any more, as far as it is known by name.
        pruned: what is not planned any more since it is pruned.
        nameless: number of further tags that are not planned any more, whose names nobody knows.
        unchanged: number of tags that both plan.
    """

    same: bool
    published: str
    published_at: str
    new: Sequence[Item]
    dropped: Sequence[Item]
    pruned: Sequence[Item]
    nameless: int
    unchanged: int

    def document(self) -> dict[str, Any]:
        """Return it as JSON prints it."""
        return {
            "same": self.same,
            "publishedHash": self.published,
            "publishedAt": self.published_at,
            "new": [item._asdict() for item in self.new],
            "dropped": [item._asdict() for item in self.dropped],
            "pruned": [item._asdict() for item in self.pruned],
            "droppedNameless": self.nameless,
            "unchanged": self.unchanged,
        }


def baseline_of(plan: Mapping[str, str], prints: Published | None, lines: Iterable[Line]) -> Baseline:
    """Return what is known of a published plan.

    Args:
        plan: `hash` and `generatedAt`, of the policy's status.
        prints: what is published; of another plan it counts for nothing.
        lines: of the last run's report, its first one among them, or none; another plan's count for nothing.
    """
    found = prints if prints is not None and prints.hash == plan["hash"] else None
    rest = iter(lines)
    head = next(rest, None)
    if head is None or head.get("plan") != plan["hash"]:
        return Baseline(plan["hash"], plan["generatedAt"], found)
    items, gone = set(), set()
    for line in rest:
        if line["type"] == "tag" and line["verdict"] == "Prune":
            items.add(_item(line))
        elif line["type"] == "outcome" and line["outcome"] in _GONE:
            gone.add(_item(line))
    whole = not head.get("repositoriesCut")
    return Baseline(plan["hash"], plan["generatedAt"], found, frozenset(items), frozenset(gone), whole)


def planned(lines: Iterable[Line]) -> frozenset[Item]:
    """Return the tags that the lines of a report plan."""
    return frozenset(_item(line) for line in lines if line["type"] == "tag" and line["verdict"] == "Prune")


def compare(fresh: frozenset[Item], fresh_hash: str, unread: Collection[str], before: Baseline) -> Difference:
    """Return what differs; of repositories that could not be read now (`unread`) nothing has dropped out."""
    named = {item for item in before.items if item.repository not in unread}
    pruned = (named & before.pruned) - fresh
    dropped = named - fresh - pruned
    if before.whole or before.prints is None:
        new, nameless = fresh - before.items, 0
    else:
        new = frozenset(item for item in fresh if before.prints.first(*item) is None)
        # What is pruned is taken out of what is published.
        left = before.prints.size_without(unread) - (len(fresh) - len(new))
        nameless = max(left - len(dropped), 0)
    return Difference(
        fresh_hash == before.hash,
        before.hash,
        before.generated_at,
        sorted(new),
        sorted(dropped),
        sorted(pruned),
        nameless,
        len(fresh) - len(new),
    )


def _item(line: Line) -> Item:
    return Item(line["repository"], line["tag"], Digest(line.get("digest", "")))
