"""What the rules of a policy say of each tag by itself, before anything that hangs together is looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.policy import LATEST, Policy, Rule, TagPattern
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key
from registry_cleanup.domain.verdict import KeepReason, PruneReason, Verdict

# The day Docker was shown to the public: no image is older, so an older date is a build tool's placeholder
# (1970 from bazel and ko, 1980 from buildpacks, year 1 from Jib).
EARLIEST_DATE = datetime(2013, 3, 20, tzinfo=UTC)
# Clocks differ by so much without anything being wrong.
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rule that owns a tag, or the reason why the tag is no rule's business."""

    rule: Rule | None
    kept: KeepReason | None


def ownership(policy: Policy, repository: str, tag: str) -> Ownership:
    """Say whose business `tag` is, by its own name alone, whatever it points at."""
    if any(pattern.matches(tag) for pattern in policy.keep_tags):
        return Ownership(None, KeepReason.KEEP_TAGS)
    if referrer_subject(tag) is not None:
        return Ownership(None, KeepReason.FOLLOWS_PARENT)
    for rule in policy.rules:
        if rule.applies_to(repository) and any(pattern.matches(tag) for pattern in rule.include):
            if any(pattern.matches(tag) for pattern in rule.exclude):
                return Ownership(rule, KeepReason.EXCLUDED)
            return Ownership(rule, None)
    return Ownership(None, KeepReason.UNMATCHED)


def needs(policy: Policy, repository: str, tags: Collection[str], unit: DeletionUnit) -> Needs:
    """Return what has to be gathered of `tags` to plan `repository`.

    Args:
        policy: whose rules.
        repository: its name.
        tags: as the registry listed them.
        unit: what the registry can delete; where only digests, every tag's digest has a say.
    """
    owned = frozenset(tag for tag in tags if ownership(policy, repository, tag).kept is None)
    if not owned:
        return Needs()
    return Needs(dated=owned, resolved=frozenset(tags) - owned if unit is DeletionUnit.DIGEST else frozenset())


def tag_patterns(policy: Policy) -> dict[str, TagPattern]:
    """Return every pattern of tags that a person wrote, by its place; one that matches nothing may be mistyped."""
    found = {f"spec.keepTags {p.text!r}": p for p in policy.keep_tags if p.text != LATEST}
    for number, rule in enumerate(policy.rules):
        for field, patterns in (("include", rule.include), ("exclude", rule.exclude)):
            found |= {f"spec.rules[{number}].tags.{field} {p.text!r}": p for p in patterns}
    return found


def idle_globs(policy: Policy, repositories: Collection[str]) -> list[str]:
    """Return where globs stand that match none of `repositories`, which are all that the registry lists."""
    selectors = {"spec.repositories": policy.repositories}
    selectors |= {
        f"spec.rules[{number}].repositories": rule.repositories
        for number, rule in enumerate(policy.rules)
        if rule.repositories is not None
    }
    return [
        f"{path}.{field} {glob.text!r}"
        for path, selector in selectors.items()
        for field, globs in (("include", selector.include), ("exclude", selector.exclude))
        for glob in globs
        if not any(glob.matches(name) for name in repositories)
    ]


def judge(policy: Policy, inventory: Inventory, now: datetime) -> dict[str, Verdict]:
    """Return the verdict of the rules on each tag of `inventory`."""
    verdicts: dict[str, Verdict] = {}
    subjects = _Subjects(inventory)
    owned: dict[str, tuple[Rule, list[str]]] = {}
    for tag in _tags(inventory):
        owner = ownership(policy, inventory.repository, tag)
        digest = inventory.tags.get(tag)
        rule = owner.rule.name if owner.rule else None
        if tag in inventory.dangling:
            verdicts[tag] = Verdict(tag, None, KeepReason.DANGLING, rule)
        elif tag in inventory.protected:
            verdicts[tag] = Verdict(tag, digest, KeepReason.KEEP_TAGS)
        elif (subject := referrer_subject(tag)) is not None and owner.kept is KeepReason.FOLLOWS_PARENT:
            verdicts[tag] = Verdict(tag, digest, subjects.reason(subject))
        elif owner.rule is None or owner.kept is not None:
            verdicts[tag] = Verdict(tag, digest, owner.kept, rule)
        else:
            owned.setdefault(owner.rule.name, (owner.rule, []))[1].append(tag)
    for owning, tags in owned.values():
        verdicts.update((verdict.tag, verdict) for verdict in _apply(owning, tags, inventory, subjects, now))
    return verdicts


def plausible(date: datetime | None, now: datetime) -> bool:
    """Say whether `date` can be when an image was made; what cannot is unknown, and keeps."""
    return date is not None and EARLIEST_DATE <= date <= now + CLOCK_TOLERANCE


def _tags(inventory: Inventory) -> Iterable[str]:
    yield from inventory.tags
    yield from inventory.unresolved
    yield from inventory.dangling


class _Subjects:
    """What a referrer of the repository may belong to: all that a tag names or an index lists."""

    def __init__(self, inventory: Inventory) -> None:
        children = (child for manifest in inventory.manifests.values() for child in manifest.children)
        self._known = {subject_key(digest) for digest in (*inventory.tags.values(), *inventory.manifests, *children)}
        self._doubt = bool(inventory.unresolved)

    def reason(self, subject: str) -> KeepReason:
        """Say why a referrer of `subject` stays."""
        known = subject in self._known or self._doubt
        return KeepReason.FOLLOWS_PARENT if known else KeepReason.ORPHAN_REFERRER


def _apply(rule: Rule, tags: list[str], inventory: Inventory, subjects: _Subjects, now: datetime) -> Iterable[Verdict]:
    """Yield the verdicts of `rule` on the tags that it owns."""
    ranked: dict[str, tuple[Digest, datetime]] = {}
    for tag in tags:
        digest = inventory.tags[tag]
        manifest = inventory.manifests.get(digest) or Manifest(digest, Format.UNKNOWN)
        if manifest.format is Format.UNKNOWN:
            yield Verdict(tag, digest, KeepReason.UNKNOWN_FORMAT, rule.name)
        elif manifest.subject is not None:
            yield Verdict(tag, digest, subjects.reason(subject_key(manifest.subject)))
        elif tag in inventory.managed and not rule.include_managed:
            yield Verdict(tag, digest, KeepReason.MANAGED_BY_SPEC, rule.name)
        elif (date := inventory.pushed.get(tag, manifest.created)) is None or not plausible(date, now):
            yield Verdict(tag, digest, KeepReason.UNKNOWN_DATE, rule.name, date=date)
        else:
            ranked[tag] = (digest, date)
    recent = _most_recent(rule.most_recent, ranked)
    for tag, (digest, date) in ranked.items():
        if digest in recent:
            yield Verdict(tag, digest, KeepReason.MOST_RECENT, rule.name, date=date)
        elif rule.older_than is not None and not _older(date, rule.older_than, now):
            yield Verdict(tag, digest, KeepReason.NOT_OLD_ENOUGH, rule.name, date=date)
        elif tag in inventory.used:
            yield Verdict(tag, digest, KeepReason.IN_USE, rule.name, date=date)
        else:
            yield Verdict(tag, digest, None, rule.name, _reasons(rule), date)


def _most_recent(count: int | None, ranked: Mapping[str, tuple[Digest, datetime]]) -> frozenset[Digest]:
    """Return the images that `keep.mostRecent` keeps: `count` of them, and all that equal the last one."""
    if not count:
        return frozenset()
    best: dict[Digest, datetime] = {}
    for digest, date in ranked.values():
        best[digest] = max(date, best.get(digest, date))
    if len(best) <= count:
        return frozenset(best)
    last = sorted(best.values(), reverse=True)[count - 1]
    return frozenset(digest for digest, date in best.items() if date >= last)


def _older(date: datetime, age: timedelta, now: datetime) -> bool:
    return now - date > age


def _reasons(rule: Rule) -> tuple[PruneReason, ...]:
    reasons: list[PruneReason] = []
    if rule.older_than is not None:
        reasons.append(PruneReason.OLDER_THAN)
    if rule.most_recent is not None:
        reasons.append(PruneReason.BEYOND_MOST_RECENT)
    return tuple(reasons)
