"""Keep or prune, and why: the words that status, report and log print."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from registry_cleanup.domain.in_use import User
from registry_cleanup.domain.reference import Digest


class KeepReason(StrEnum):
    """Why a tag stays."""

    UNMATCHED = "Unmatched"  # no rule owns it
    EXCLUDED = "Excluded"  # the owning rule's `tags.exclude` matches it
    KEEP_TAGS = "KeepTags"  # `keepTags` matches it
    MOST_RECENT = "MostRecent"  # its image is among the rule's `keep.mostRecent`
    NOT_OLD_ENOUGH = "NotOldEnough"  # younger than the rule's `olderThan`
    MINIMUM_TAGS = "MinimumTags"  # added back for `minTagsPerRepository`
    SHARED_DIGEST = "SharedDigest"  # a kept tag stands on the digest, and only the digest can be deleted
    UNKNOWN_DATE = "UnknownDate"  # no date, or one that cannot be true
    UNPARSABLE_VERSION = "UnparsableVersion"  # the rule orders by a version, and the tag spells none
    FOLLOWS_PARENT = "FollowsParent"  # a kept index lists it, or it refers to a subject
    ORPHAN_REFERRER = "OrphanReferrer"  # it refers to a subject that no tag names
    DANGLING = "Dangling"  # listed, but the registry has no manifest for it
    MANAGED_BY_SPEC = "ManagedBySpec"  # an image stream's own spec imports or aliases it
    IN_USE = "InUse"  # something else refers to it
    UNKNOWN_FORMAT = "UnknownFormat"  # its manifest is of a kind that we do not understand
    POLICY_CONFLICT = "PolicyConflict"  # an older policy prunes the repository
    IN_USE_UNKNOWN = "InUseUnknown"  # a container runs an image of the repository that nobody could find there
    REPOSITORY_INCOMPLETE = "RepositoryIncomplete"  # the repository could not be read whole
    GRACE_PERIOD = "GracePeriod"  # planned, and not published for long enough
    LIMIT_TRUNCATED = "LimitTruncated"  # planned, and more than a run may prune
    UNDONE = "Undone"  # planned, and put back by a person since the policy was changed last


# What stays not by a rule's retention, but since something needs it, or since it is said to be never pruned.
PROTECTED = frozenset({KeepReason.KEEP_TAGS, KeepReason.IN_USE, KeepReason.SHARED_DIGEST, KeepReason.FOLLOWS_PARENT})


class PruneReason(StrEnum):
    """Why a tag goes; a tag that goes is named with its rule and every reason that the rule has."""

    OLDER_THAN = "OlderThan"
    BEYOND_MOST_RECENT = "BeyondMostRecent"


class Verdict(NamedTuple):
    """What becomes of one tag: kept with one reason, or pruned by a rule with its reasons.

    A named tuple, which is made in a third of the time of a frozen dataclass: there is one for each tag.

    Attributes:
        tag: its name.
        digest: what it names; None where nobody needed to know, or where it dangles.
        kept: why it stays; None if it goes.
        rule: the rule that owns it, if one does.
        pruned: why it goes; empty if it stays.
        date: the date it was judged by, where one was read.
        pushed: whether that date is the push of the tag, rather than the creation of its image.
        users: who uses it, where it is kept because of that.
        subject: of a referrer, as much of its subject's digest as `reference.subject_key` keeps.
        setting: of the operator, where its administrator keeps the tag whatever the policy says.
    """

    tag: str
    digest: Digest | None
    kept: KeepReason | None
    rule: str | None = None
    pruned: tuple[PruneReason, ...] = ()
    date: datetime | None = None
    pushed: bool = False
    subject: str | None = None
    users: tuple[User, ...] = ()
    setting: str | None = None

    @property
    def goes(self) -> bool:
        """Whether the tag is to be pruned."""
        return self.kept is None

    def staying(self, reason: KeepReason) -> Verdict:
        """Return the verdict on the same tag, kept for `reason` after all."""
        return self._replace(kept=reason, pruned=())
