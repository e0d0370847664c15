"""The full report of a run: every verdict and outcome, as lines of JSON, compressed, and bounded.

Each line is one JSON object with a `type`:

- `run`: first; policy, run and plan; `untaggedManifestsLeft` are those that the plan leaves without a name, and that
  are not deleted: a garbage collection that spares untagged manifests frees nothing of them; `deletionUnit` is what
  the registry can delete (`Tag` or `Digest`), `unapproved` how many planned tags one approval would let through;
  `spared` is the number of lines by which something stays that is planned, so that the loss of any shows.
- `tag`: one tag with its verdict (`Keep` with `reason`, or `Prune` with `reasons`), rule, digest, date, `dateSource`
  (`Pushed` or `Created`) and size in bytes, as far as known; of one that is in use, at most three `users`, and
  `moreUsers`, how many are left out; of one that a setting of the operator keeps, the `setting`.
- `held`: a tag that would go, and why not now (`GracePeriod`, `LimitTruncated`, `Undone`).
- `outcome`: what became of a tag that was to go.
- `untagged`: a manifest that is left without a name, and what became of it where it was to be deleted.
- `incomplete`: a repository that could not be read whole.
- `cut`: a repository that did not fit, and how many lines it had.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from math import inf
from typing import Any

from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.inventory import Manifest
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.verdict import KeepReason, Verdict

# Kubernetes refuses objects of more than 1 MiB (ConfigMap) and etcd requests of more than 1.5 MiB.
MOST_BYTES = 900 * 1024
# Of those who use a tag, so many are named.
USERS_TOLD = 3
# So much of it is left for the first line and for the names of what was cut.
_RESERVE = 64 * 1024
# So many times its final size is held while it grows: what comes last among more than that is left out already.
_HELD_FOLD = 8

# What became of what a run found needed, or elsewhere: it stays, whatever is true by now.
SPARING = frozenset({Outcome.MOVED, Outcome.NOW_SHARED, Outcome.NOW_IN_USE})
# So many lines are in memory at a time, before they are compressed.
_BATCH = 1000

Line = Mapping[str, Any]
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class _Part:
    """The lines of one repository, compressed: members of a gzip file can simply follow each other.

    Attributes:
        content: None where the repository is cut, whatever else comes.
        lines: their number.
        size: of `content`, in bytes.
        prunes: whether anything goes there.
    """

    content: list[bytes] | None = field(default_factory=list)
    lines: int = 0
    size: int = 0
    prunes: bool = False

    def drop(self) -> None:
        """Hold no lines any more, only their number."""
        self.content, self.size = None, 0


@dataclass(slots=True)
class FullReport:
    """Takes in one repository after the other, and holds no more than their compressed lines.

    Attributes:
        most: bytes that it may have in the end; None for any number, where nothing is cut.
    """

    most: int | None = MOST_BYTES
    _parts: dict[str, _Part] = field(default_factory=dict)
    _bytes: int = 0
    _spared: int = 0

    @property
    def size(self) -> int:
        """Bytes that are held while it grows."""
        return self._bytes

    def planned(self, plan: RepositoryPlan) -> None:
        """Take in the verdicts on one repository."""
        lines = (tag_line(plan, verdict) for verdict in plan.verdicts)
        nameless = ({"type": "untagged", "repository": plan.repository, "digest": digest} for digest in plan.untagged)
        number = len(plan.verdicts) + len(plan.untagged)
        self._add(plan.repository, chain(lines, nameless), number, prunes=bool(plan.groups))

    def held(self, repository: str, items: Mapping[str, KeepReason]) -> None:
        """Take in which planned tags of a repository are held back."""
        self._spared += len(items)
        self._add(
            repository,
            ({"type": "held", "repository": repository, "tag": tag, "reason": why} for tag, why in items.items()),
            len(items),
        )

    def outcomes(self, repository: str, outcomes: Collection[ItemOutcome | UntaggedOutcome]) -> None:
        """Take in what became of what was to go."""
        self._spared += sum(each.outcome in SPARING for each in outcomes)
        self._add(repository, (_outcome(repository, outcome) for outcome in outcomes), len(outcomes))

    def incomplete(self, repository: str, reason: str, tags: int) -> None:
        """Take in a repository that could not be read whole, of which `tags` were listed."""
        self._add(repository, [{"type": "incomplete", "repository": repository, "reason": reason, "tags": tags}], 1)

    def compressed(self, head: Line) -> tuple[bytes, int]:
        """Return the report as one gzip file that begins with the line `head`, and how many repositories are cut.

        Repositories in which something goes come first; whole ones are left out when the report would grow too large,
        and named at its end.
        """
        budget = inf if self.most is None else self.most - _RESERVE
        chosen: list[bytes] = []
        cut: list[Line] = []
        for name, part in self._in_order():
            if part.content is not None and part.size <= budget:
                chosen += part.content
                budget -= part.size
            else:
                cut.append({"type": "cut", "repository": name, "lines": part.lines})
        first = _compress([{"type": "run", **head, "spared": self._spared, "repositoriesCut": len(cut)}])
        if self.most is None:
            return b"".join([first, *chosen]), 0
        left = self.most - sum(map(len, chosen)) - len(first)
        return b"".join([first, *chosen, _fitting(cut, left)]), len(cut)

    def _in_order(self) -> list[tuple[str, _Part]]:
        return sorted(self._parts.items(), key=lambda item: (not item[1].prunes, item[0]))

    def _add(self, repository: str, lines: Iterable[Line], number: int, *, prunes: bool = False) -> None:
        if not number:
            return
        part = self._parts.setdefault(repository, _Part())
        part.lines += number
        part.prunes = part.prunes or prunes
        if part.content is None:
            return
        content = _compress(lines)
        part.content.append(content)
        part.size += len(content)
        self._bytes += len(content)
        if self.most is None:
            return
        if part.size > self.most - _RESERVE:
            self._bytes -= part.size
            part.drop()
        if self._bytes > _HELD_FOLD * self.most:
            self._cut_last(_HELD_FOLD * self.most // 2)

    def _cut_last(self, held: int) -> None:
        """Cut the repositories that come last, until so little is `held` that a while passes before the next time."""
        for _, part in reversed(self._in_order()):
            if self._bytes <= held:
                break
            self._bytes -= part.size
            part.drop()


def read_report(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the lines of a report."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        for line in file:
            yield json.loads(line)


def _compress(lines: Iterable[Line]) -> bytes:
    packed = io.BytesIO()
    # Level 6 takes half of the time of the highest, for a hundredth more.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file:
        pending = iter(lines)
        while batch := list(islice(pending, _BATCH)):
            file.write("".join(_encode(line) + "\n" for line in batch).encode())
    return packed.getvalue()


def _fitting(cut: list[Line], most: int) -> bytes:
    """Return as many of the lines as fit; their number is in the first line of the report anyway."""
    while cut and len(content := _compress(cut)) > most:
        cut = cut[: len(cut) * most // (len(content) + 1)]
    return content if cut else b""


def tag_line(plan: RepositoryPlan, verdict: Verdict) -> Line:
    """Return the line of one tag."""
    manifest = plan.manifests.get(verdict.digest) if verdict.digest is not None else None
    line: dict[str, Any] = {"type": "tag", "repository": plan.repository, "tag": verdict.tag}
    if verdict.kept is not None:
        line |= {"verdict": "Keep", "reason": verdict.kept.value}
    else:
        line |= {"verdict": "Prune", "reasons": [reason.value for reason in verdict.pruned]}
    if verdict.rule is not None:
        line["rule"] = verdict.rule
    if verdict.setting is not None:
        line["setting"] = verdict.setting
    if verdict.digest is not None:
        line["digest"] = verdict.digest
    if verdict.subject is not None:
        line["subject"] = verdict.subject
    if verdict.date is not None:
        line |= {"date": verdict.date.isoformat(), "dateSource": "Pushed" if verdict.pushed else "Created"}
    if verdict.users:
        line["users"] = [str(user) for user in verdict.users[:USERS_TOLD]]
        if (more := len(verdict.users) - USERS_TOLD) > 0:
            line["moreUsers"] = more
    if manifest is not None and (size := _size(manifest, plan.manifests)):
        line["size"] = size
    return line


def _size(manifest: Manifest, manifests: Mapping[Digest, Manifest]) -> int:
    """Return the bytes of config and layers, of an index those of all its platforms, each once; 0 if nobody knows."""
    images = [manifests.get(child) for child in manifest.children] or [manifest]
    blobs: dict[Digest, int] = {}
    for image in images:
        # A manifest is a blob too, the first of its own, and for people no part of the image.
        parts = () if image is None else [blob for blob in image.blobs if blob.digest != image.digest]
        if not parts:
            return 0
        blobs.update(parts)
    return sum(blobs.values())


def _outcome(repository: str, outcome: ItemOutcome | UntaggedOutcome) -> Line:
    line: dict[str, Any] = {"repository": repository, "digest": outcome.digest, "outcome": outcome.outcome.value}
    if outcome.code is not None:
        line["code"] = outcome.code
    if isinstance(outcome, ItemOutcome):
        return {"type": "outcome", "tag": outcome.tag, **line}
    return {"type": "untagged", **line}
