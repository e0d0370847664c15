"""What the rules of a policy say of each tag by itself, before anything that hangs together is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

from registry_cleanup.domain.clocks import CLOCK_TOLERANCE
from registry_cleanup.domain.in_use import ALL_TAGS, NOTHING_IN_USE, InUse, User
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.order import OrderBy, Version, parse_version
from registry_cleanup.domain.ownership import Owners
from registry_cleanup.domain.policy import Policy, Rule
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key
from registry_cleanup.domain.structure import ancestors, descendants
from registry_cleanup.domain.usage import used_digests, users
from registry_cleanup.domain.verdict import KeepReason, PruneReason, Verdict

# The day Docker was shown to the public: no image is older, so an older date is a build tool's placeholder
# (1970 from bazel and ko, 1980 from buildpacks, year 1 from Jib).
EARLIEST_DATE = datetime(2013, 3, 20, tzinfo=UTC)

Position: TypeAlias = Any
"""Where a tag or image stands: a date, or a version; those of one rule can be compared with each other."""


def plausible(date: datetime | None, now: datetime) -> bool:
    """Say whether `date` can be when an image was made; what cannot is unknown, and keeps."""
    return date is not None and EARLIEST_DATE <= date <= now + CLOCK_TOLERANCE


def pinned(mark: str | None, now: datetime) -> bool:
    """Say whether the mark `registrycleanup.dev/keep` of an image keeps it.

    `true` does, and a date until which (that day included); what is neither, and not `false`, keeps too.
    """
    text = "false" if mark is None else mark.strip().lower()
    if text == "false":
        return False
    try:
        until = datetime.fromisoformat(text.upper())
        if len(text) <= len("2026-01-31"):
            until += timedelta(days=1)
        return now < (until if until.tzinfo is not None else until.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # 9999-12-31 has no day after it
        return True


def judge(policy: Policy, inventory: Inventory, now: datetime, in_use: InUse = NOTHING_IN_USE) -> dict[str, Verdict]:
    """Return the verdict of the rules on each tag of `inventory`."""
    known = _Known(inventory, now, in_use)
    verdicts, owned = _owned(policy, known)
    for rule in owned.values():
        verdicts.update((verdict.tag, verdict) for verdict in _apply(rule, known))
    return verdicts


def standings(
    policy: Policy, inventory: Inventory, now: datetime, in_use: InUse = NOTHING_IN_USE
) -> dict[str, Mapping[Digest, Position]]:
    """Return where the images of each rule stand that have a place in its order; the greatest is the most recent."""
    known = _Known(inventory, now, in_use)
    _, owned = _owned(policy, known)
    return {name: _best(each, _ranked(each, known)[0], known) for name, each in owned.items()}


def pins(inventory: Inventory, now: datetime) -> dict[Digest, str]:
    """Return the manifests that bear a mark `registrycleanup.dev/keep` which keeps them, each with what it says."""
    manifests = inventory.manifests
    return {
        d: manifest.keep
        for d, manifest in manifests.items()
        if manifest.keep is not None and pinned(manifest.keep, now)
    }


def _owned(policy: Policy, known: _Known) -> tuple[dict[str, Verdict], dict[str, _Owned]]:
    """Return the verdicts that rules have no part in, and by their names the rules with the tags that they own."""
    inventory = known.inventory
    owners = Owners(policy, inventory.repository)
    verdicts: dict[str, Verdict] = {}
    owned: dict[str, _Owned] = {rule.name: _Owned(rule) for rule in policy.rules}
    for tag in (*inventory.tags, *inventory.unresolved, *inventory.dangling):
        owner = owners.of(tag)
        digest = inventory.tags.get(tag)
        kept = KeepReason.DANGLING if tag in inventory.dangling else known.protection(tag, digest, owner.kept)
        if kept is KeepReason.KEEP_TAGS:
            if owner.would is not None and digest is not None:
                owned[owner.would.name].lending.append(tag)
            verdicts[tag] = Verdict(tag, digest, kept, setting=owner.setting)
        elif kept is KeepReason.FOLLOWS_PARENT:
            verdicts[tag] = known.referrer(tag, digest, referrer_subject(tag))
        elif owner.rule is None or kept is not None:
            verdicts[tag] = Verdict(tag, digest, kept, owner.rule.name if owner.rule is not None else None)
        else:
            owned[owner.rule.name].tags.append(tag)
    return verdicts, owned


@dataclass(slots=True)
class _Owned:
    """The tags of one rule.

    Attributes:
        rule: which.
        tags: that it owns.
        lending: that it would own if they were not kept by name: they take no place in `keep.mostRecent`, but an image
            stands where its best tag stands. Or one more tag in `keepTags` could let another one on its image go.
    """

    rule: Rule
    tags: list[str] = field(default_factory=list)
    lending: list[str] = field(default_factory=list)


class _Known:
    """What is known of a repository, as far as it keeps tags by themselves."""

    def __init__(self, inventory: Inventory, now: datetime, in_use: InUse) -> None:
        self.inventory = inventory
        self.now = now
        self._pushed = inventory.pushed
        manifests = inventory.manifests
        marked = pins(inventory, now).keys()
        self._pinned = marked | ancestors(marked, manifests)
        self._in_use = in_use
        self._used = used_digests(inventory, in_use)
        self._by_name = in_use.at(inventory.repository)
        self._whole_repository = ALL_TAGS in self._by_name.tags
        self._names = inventory.used | self._by_name.tags
        self._latest = now + CLOCK_TOLERANCE

    @cached_property
    def _subjects(self) -> frozenset[str]:
        """What a referrer may refer to."""
        manifests = self.inventory.manifests
        named = self.inventory.tags.values()
        return frozenset(map(subject_key, chain(named, manifests, descendants(manifests, manifests))))

    def manifest(self, tag: str) -> Manifest:
        digest = self.inventory.tags[tag]
        found = self.inventory.manifests.get(digest)
        return found if found is not None else Manifest(digest, Format.UNKNOWN)

    def date(self, tag: str, manifest: Manifest) -> datetime | None:
        """Return when the tag was pushed, where that is recorded, else when its image was created."""
        return self._pushed.get(tag, manifest.created)

    def pushed(self, tag: str) -> bool:
        """Say whether its date is that of its push."""
        return tag in self._pushed

    def plausible(self, date: datetime | None) -> bool:
        return date is not None and EARLIEST_DATE <= date <= self._latest

    def dependable_date(self, tag: str, date: datetime | None, rule: Rule) -> datetime | None:
        """Return the date of a tag of `rule` that may decide; a date that nobody asked for would decide by chance."""
        date = date if rule.reads_dates else self._pushed.get(tag)
        return date if self.plausible(date) else None

    def unasked(self, tag: str, rule: Rule) -> bool:
        """Say whether nobody asked for what `rule`, which owns `tag`, judges by: `needs` saw that it lets none go."""
        return tag in self.inventory.unresolved or (rule.reads_dates and tag in self.inventory.undated)

    def in_use(self, tag: str, digest: Digest | None) -> bool:
        if digest in self._used or self._whole_repository or tag in self._names:
            return True
        history = self.inventory.history.get(tag)
        return history is not None and not self._used.isdisjoint(history)

    def users(self, tag: str) -> tuple[User, ...]:
        return users(self.inventory, self._in_use, tag)

    def protection(self, tag: str, digest: Digest | None, by_name: KeepReason | None) -> KeepReason | None:
        """Return why `tag` is kept whatever the rules say: by its name, or by a mark on it or its image."""
        if tag in self.inventory.protected or digest in self._pinned:
            return KeepReason.KEEP_TAGS
        return by_name

    def referrer(self, tag: str, digest: Digest | None, subject: str | None) -> Verdict:
        """Return the verdict on a referrer: it stays, unless its subject turns out to go."""
        if self.in_use(tag, digest):
            return Verdict(tag, digest, KeepReason.IN_USE, subject=subject, users=self.users(tag))
        # A tag that nobody resolved may stand on the subject.
        known = subject in self._subjects or bool(self.inventory.unresolved)
        reason = KeepReason.FOLLOWS_PARENT if known else KeepReason.ORPHAN_REFERRER
        return Verdict(tag, digest, reason, subject=subject)


def _apply(owned: _Owned, known: _Known) -> Iterable[Verdict]:
    """Yield the verdicts of a rule on the tags that it owns."""
    rule, reasons = owned.rule, _reasons(owned.rule)
    ranked, dates, others = _ranked(owned, known)
    yield from others
    recent = _most_recent(owned, ranked, known)
    for tag, date in zip(ranked, dates, strict=True):
        digest = known.inventory.tags[tag]
        kept: KeepReason | None = None
        by: tuple[User, ...] = ()
        if digest in recent:
            kept = KeepReason.MOST_RECENT
        elif rule.older_than is not None and not _older(date, rule.older_than, known.now):
            kept = KeepReason.NOT_OLD_ENOUGH
        elif known.in_use(tag, digest):
            kept, by = KeepReason.IN_USE, known.users(tag)
        yield Verdict(tag, digest, kept, rule.name, reasons if kept is None else (), date, known.pushed(tag), users=by)


def _ranked(owned: _Owned, known: _Known) -> tuple[dict[str, Position], list[datetime | None], list[Verdict]]:
    """Return the tags of a rule that have a place in its order, with their dates, and the verdicts on the others."""
    rule = owned.rule
    ranked: dict[str, Position] = {}
    dates: list[datetime | None] = []
    others: list[Verdict] = []
    for tag in owned.tags:
        if known.unasked(tag, rule):
            others.append(Verdict(tag, known.inventory.tags.get(tag), _unasked_reason(rule, tag, known), rule.name))
            continue
        manifest = known.manifest(tag)
        if manifest.subject is not None:
            others.append(known.referrer(tag, manifest.digest, subject_key(manifest.subject)))
            continue
        date = known.date(tag, manifest)
        position = _position(rule, tag, manifest, date, known)
        if isinstance(position, KeepReason):
            others.append(Verdict(tag, manifest.digest, position, rule.name, (), date, known.pushed(tag)))
        else:
            ranked[tag] = position
            dates.append(known.dependable_date(tag, date, rule))
    return ranked, dates, others


def _position(
    rule: Rule, tag: str, manifest: Manifest, date: datetime | None, known: _Known
) -> datetime | Version | KeepReason:
    """Return where `tag` stands in the order of `rule`, or why it has no place there and is kept."""
    if manifest.format is Format.UNKNOWN:
        return KeepReason.UNKNOWN_FORMAT
    if tag in known.inventory.managed and not rule.include_managed:
        return KeepReason.MANAGED_BY_SPEC
    if rule.reads_dates and not known.plausible(date):
        return KeepReason.UNKNOWN_DATE
    if rule.order_by is OrderBy.DATE:
        return date if date is not None else KeepReason.UNKNOWN_DATE
    version = version_of(rule, tag)
    return KeepReason.UNPARSABLE_VERSION if version is None else version


def _unasked_reason(rule: Rule, tag: str, known: _Known) -> KeepReason:
    """Return why a tag is kept of which nobody had to ask more than its name."""
    if tag in known.inventory.managed and not rule.include_managed:
        return KeepReason.MANAGED_BY_SPEC
    if rule.order_by is not OrderBy.DATE and version_of(rule, tag) is None:
        return KeepReason.UNPARSABLE_VERSION
    return KeepReason.MOST_RECENT


def version_of(rule: Rule, tag: str) -> Version | None:
    """Return the version that `tag` spells to a rule that orders by one; None where it spells none."""
    text = rule.version_text(tag)
    return parse_version(rule.order_by, text) if text is not None else None


def _most_recent(owned: _Owned, ranked: Mapping[str, Position], known: _Known) -> frozenset[Digest]:
    """Return the images that `keep.mostRecent` keeps: so many of them, and all that equal the last one."""
    count = owned.rule.most_recent
    if not count:
        return frozenset()
    best = _best(owned, ranked, known)
    if len(best) <= count:
        return frozenset(best)
    last = sorted(best.values(), reverse=True)[count - 1]
    return frozenset(digest for digest, position in best.items() if position >= last)


def _best(owned: _Owned, ranked: Mapping[str, Position], known: _Known) -> dict[Digest, Position]:
    """Return where each image stands, which is where its best tag stands."""
    tags = known.inventory.tags
    best: dict[Digest, Position] = {}
    for tag, position in ranked.items():
        best[tags[tag]] = max(position, best.get(tags[tag], position))
    for tag in owned.lending:
        if tags[tag] in best:
            manifest = known.manifest(tag)
            position = _position(owned.rule, tag, manifest, known.date(tag, manifest), known)
            if not isinstance(position, KeepReason):
                best[tags[tag]] = max(position, best[tags[tag]])
    return best


def _older(date: datetime | None, age: timedelta, now: datetime) -> bool:
    return date is not None and now - date > age


def _reasons(rule: Rule) -> tuple[PruneReason, ...]:
    reasons: list[PruneReason] = []
    if rule.older_than is not None:
        reasons.append(PruneReason.OLDER_THAN)
    if rule.most_recent is not None:
        reasons.append(PruneReason.BEYOND_MOST_RECENT)
    return tuple(reasons)
