"""What becomes of each thing that is put back, and what people are told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry_cleanup.domain.copies import Undoable, Wanted
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Failure


class Undo(StrEnum):
    """What happened to one tag or manifest of an undo."""

    RESTORED = "Restored"  # it is there again, verified
    ALREADY_THERE = "AlreadyThere"  # nothing was to be done
    REFUSED = "Refused"  # the tag names something else by now, which stays
    MISSING = "Missing"  # blobs or manifests that it needs are gone from the registry
    TAMPERED = "Tampered"  # its copy is not what its digest names
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """The end of one tag, or of a manifest that no copied tag names.

    Attributes:
        repository: where it belongs.
        tag: None of a manifest without a name.
        digest: that was pruned.
        result: what became of it.
        current: what the tag names instead, where it is refused.
        missing: what the registry says it does not have any more.
        code: of the registry's refusal, where it failed; of what a person should know, where it is there again.
    """

    repository: str
    tag: str | None
    digest: Digest
    result: Undo
    current: Digest | None = None
    missing: tuple[Digest, ...] = ()
    code: str | None = None

    @property
    def reference(self) -> str:
        """As people write it."""
        return f"{self.repository}@{self.digest}" if self.tag is None else f"{self.repository}:{self.tag}"

    @property
    def detail(self) -> str:
        """What there is to say besides its result; empty where nothing is."""
        match self.result:
            case Undo.REFUSED if self.code == NOT_SELECTED:
                return "the policy does not select it, or the operator's settings protect it"
            case Undo.REFUSED:
                return f"names {self.current} by now"
            case Undo.MISSING if self.missing:
                return "gone from the registry: " + ", ".join(self.missing)
            case Undo.MISSING:
                return f"gone from the registry: {self.digest}, and there is no copy of it"
            case Undo.TAMPERED:
                return f"its copy is not what {self.digest} names"
            case Undo.FAILED:
                return self.code or ""
            case Undo.RESTORED:
                return _NOTES.get(self.code or "", "")
            case Undo.ALREADY_THERE:
                return ""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo came to.

    Attributes:
        run: that was undone.
        outcomes: of everything that it was about.
        damaged: how many parts of the copies are damaged or gone.
        dry_run: whether it only looked.
        history_lost: whether tags came back without what they named before.
        failure: what ended it before its end; of what it did not come to there is no outcome.
        unfinished: whether nothing says that there were no more copies, since the run was killed, or that is gone.
        not_kept: what a person named of which nothing is kept, besides what there is something of.
    """

    run: str
    outcomes: Sequence[UndoOutcome]
    damaged: int = 0
    dry_run: bool = False
    history_lost: bool = False
    failure: Failure | None = None
    unfinished: bool = False
    not_kept: Sequence[str] = ()

    def count(self, *results: Undo) -> int:
        """Return how many tags and manifests ended so."""
        return sum(outcome.result in results for outcome in self.outcomes)

    @property
    def left(self) -> Sequence[UndoOutcome]:
        """What is not as it was."""
        return [each for each in self.outcomes if each.result not in (Undo.RESTORED, Undo.ALREADY_THERE)]

    @property
    def whole(self) -> bool:
        """Whether all that was pruned is there (again)."""
        return (
            self.failure is None
            and not self.damaged
            and not self.unfinished
            and not self.not_kept
            and self.count(Undo.RESTORED, Undo.ALREADY_THERE) == len(self.outcomes)
        )

    @property
    def message(self) -> str:
        """Say it in a sentence."""
        counts = Counter(outcome.result for outcome in self.outcomes)
        said = _WORDS | {Undo.RESTORED: "would be put back"} if self.dry_run else _WORDS
        words = [f"{number} {said[result]}" for result, number in _in_order(counts)]
        if codes := Counter(each.code for each in self.outcomes if each.result is Undo.FAILED and each.code):
            # Last of the results, so that its causes stand with it.
            words[-1] += f" ({', '.join(code for code, _ in codes.most_common(_CODES))})"
        if self.damaged:
            words.append(f"{self.damaged} parts of the copies are damaged or missing, and nothing of them was used")
        if self.unfinished:
            words.append(
                "the run did not end by itself, or its end is gone, so it may have pruned more or less than this"
            )
        if self.not_kept:
            named = ", ".join(self.not_kept[:_NAMED])
            more = f" and {len(self.not_kept) - _NAMED} more" if len(self.not_kept) > _NAMED else ""
            words.append(f"nothing is kept of {named}{more} (is that its name?)")
        if not words:
            words = ["the run pruned nothing of this, so there is nothing to put back"]
        elif self.whole and not counts.keys() - {Undo.ALREADY_THERE}:
            words.append("nothing to do")
        if self.history_lost and counts[Undo.RESTORED]:
            words.append("what the tags named before is lost")
        if self.failure is not None:
            words.append(f"and then it ended, before all was done: {self.failure.message}")
        would = "nothing was done, since it is a dry run: " if self.dry_run else ""
        return f"undo of run {self.run}: {would}{', '.join(words)}"


NOT_SELECTED, IMPORT_LOST, OVERWROTE = "NotSelected", "ImportLost", "Overwrote"
_NOTES = {
    IMPORT_LOST: "the import in the stream's spec is lost: oc tag or oc import-image set it up again",
    OVERWROTE: "somebody pushed it at the same moment: what they pushed stands behind it in the tag's history",
}
# Of what the registry says against many, so much is told at once.
_CODES = 3
# Of what nothing is kept of, so much is named.
_NAMED = 5
_WORDS = {
    Undo.RESTORED: "put back",
    Undo.ALREADY_THERE: "already there",
    Undo.REFUSED: "refused, since the tag names something else by now or is not the policy's",
    Undo.MISSING: "lack blobs or manifests that the registry does not have any more",
    Undo.TAMPERED: "refused, since the copy was tampered with",
    Undo.FAILED: "failed",
}


def not_among(copies: Undoable, wanted: Iterable[Wanted]) -> list[Wanted]:
    """Return what of `wanted` there is nothing of in `copies`."""
    names = {(each.repository, each.digest) for each in copies.manifests}
    repositories = {repository for repository, _ in names}

    def held(each: Wanted) -> bool:
        if any(each.covers(tag) for tag in copies.tags):
            return True
        if each.tag is not None:
            return False
        return each.repository in repositories if each.digest is None else (each.repository, each.digest) in names

    return [each for each in wanted if not held(each)]


def _in_order(counts: Counter[Undo]) -> Iterable[tuple[Undo, int]]:
    return ((result, counts[result]) for result in Undo if counts[result])


def tag_result(current: Digest | None, copied: Digest, *, force: bool) -> Undo:
    """Say what becomes of a tag that names `current` and named `copied`: RESTORED where it has to be written."""
    if current == copied:
        return Undo.ALREADY_THERE
    return Undo.RESTORED if current is None or force else Undo.REFUSED
