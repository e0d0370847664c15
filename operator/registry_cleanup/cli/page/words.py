"""The page's words: which verdicts mean kept, protected or going, and each reason as people say it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.verdict import KeepReason, PruneReason


class Standing(StrEnum):
    """What becomes of a tag, in the three words of the glossary."""

    KEPT = "kept"
    PROTECTED = "protected"
    GOING = "going"


_PROTECTED = frozenset({KeepReason.IN_USE, KeepReason.SHARED_DIGEST, KeepReason.FOLLOWS_PARENT, KeepReason.KEEP_TAGS})

REASONS: Mapping[str, str] = {
    KeepReason.UNMATCHED: "no rule is about it",
    KeepReason.EXCLUDED: "its rule excludes it",
    KeepReason.KEEP_TAGS: "keepTags keeps it",
    KeepReason.MOST_RECENT: "among the most recent that its rule keeps",
    KeepReason.NOT_OLD_ENOUGH: "not old enough for its rule",
    KeepReason.MINIMUM_TAGS: "the repository would be left with too few tags",
    KeepReason.SHARED_DIGEST: "a tag that stays names the same digest, which can only be deleted as a whole",
    KeepReason.UNKNOWN_DATE: "its date is unknown, or cannot be true",
    KeepReason.UNPARSABLE_VERSION: "its rule orders by version, and its name is none",
    KeepReason.FOLLOWS_PARENT: "an index that stays lists it, or its subject stays",
    KeepReason.ORPHAN_REFERRER: "it refers to a subject that no tag names",
    KeepReason.DANGLING: "listed, but the registry has no manifest for it",
    KeepReason.MANAGED_BY_SPEC: "the image stream's own spec imports or aliases it",
    KeepReason.IN_USE: "in use in the cluster",
    KeepReason.UNKNOWN_FORMAT: "its manifest is of an unknown kind",
    KeepReason.POLICY_CONFLICT: "an older policy prunes this repository",
    KeepReason.IN_USE_UNKNOWN: "a container runs an image of this repository that could not be found in it",
    KeepReason.REPOSITORY_INCOMPLETE: "the repository could not be read whole",
    KeepReason.GRACE_PERIOD: "waits until the grace period is over",
    KeepReason.LIMIT_TRUNCATED: "waits, because one run may not prune so many",
    KeepReason.UNDONE: "waits, because an undo put it back, until the policy is changed",
    PruneReason.OLDER_THAN: "older than its rule keeps",
    PruneReason.BEYOND_MOST_RECENT: "beyond the most recent that its rule keeps",
}

OUTCOMES: Mapping[str, str] = {
    Outcome.PRUNED: "pruned",
    Outcome.ALREADY_GONE: "was gone already",
    Outcome.MOVED: "stayed: it names another digest now",
    Outcome.NOW_SHARED: "stayed: a tag that stays names its digest now",
    Outcome.NOW_IN_USE: "stayed: it came into use",
    Outcome.NOT_DELETED: "not deleted: the registry accepted it, and the tag is still there",
    Outcome.NO_COPY: "stayed: no copy of it could be written",
    Outcome.FAILED: "failed",
}

# Of these, nothing is left in the registry.
GONE = frozenset({Outcome.PRUNED.value, Outcome.ALREADY_GONE.value})


def visible(text: str) -> str:
    """Return text of others with what cannot be seen, such as marks that turn its direction, spelled out."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def standing(verdict: str, reason: str | None) -> Standing:
    """Return what a verdict of the report comes to; whatever is unknown is kept."""
    if verdict == "Prune":
        return Standing.GOING
    return Standing.PROTECTED if reason in _PROTECTED else Standing.KEPT
