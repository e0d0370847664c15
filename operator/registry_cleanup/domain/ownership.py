"""Whose business a tag is, by its own name alone; and what has to be known of it before it can be judged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.copies import is_copy_name
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.pattern_set import PatternSet
from registry_cleanup.domain.policy import LATEST, Policy, Rule, TagPattern, Untagged
from registry_cleanup.domain.reference import referrer_subject
from registry_cleanup.domain.verdict import KeepReason

# The settings by which the administrator of the operator keeps tags.
PROTECTED_REPOSITORIES = "REGISTRY_CLEANUP_PROTECTED_REPOSITORIES"
PROTECTED_TAGS = "REGISTRY_CLEANUP_PROTECTED_TAGS"


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rule that owns a tag, or the reason why the tag is no rule's business.

    Attributes:
        rule: that owns it.
        kept: why it stays.
        setting: of the operator, where that keeps it.
        would: the rule that judges it, or would if it were not kept by name.
    """

    rule: Rule | None
    kept: KeepReason | None
    setting: str | None = None
    would: Rule | None = None


_A_COPY = Ownership(None, KeepReason.KEEP_TAGS)


class Owners:
    """Whose business the tags of one repository are.

    Tags that the same patterns match have the same owner, so each combination is thought through once.
    """

    def __init__(self, policy: Policy, repository: str) -> None:
        """Take the rules of `policy` that have a say in `repository`."""
        self._everything_protected = any(glob.matches(repository) for glob in policy.protected_repositories)
        self._rules = tuple(rule for rule in policy.rules if rule.applies_to(repository))
        self._patterns: list[TagPattern] = []
        self._protected = self._places(policy.protected_tags)
        self._kept = self._places(policy.keep_tags)
        self._of_rules = [(rule, self._places(rule.include), self._places(rule.exclude)) for rule in self._rules]
        self._set = PatternSet(self._patterns)
        self._known: dict[tuple[bool, tuple[int, ...]], Ownership] = {}

    def of(self, tag: str) -> Ownership:
        """Say whose business `tag` is, by its own name alone, whatever it points at."""
        if is_copy_name(tag):
            return _A_COPY  # of what a policy pruned: no rule of any policy takes that away
        key = (referrer_subject(tag) is not None, self._set.matching(tag))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._decide(*key)
        return found

    def _places(self, patterns: Sequence[TagPattern]) -> range:
        """Add `patterns` to those that are asked, and return where they stand."""
        start = len(self._patterns)
        self._patterns.extend(patterns)
        return range(start, len(self._patterns))

    def _decide(self, refers: bool, matching: tuple[int, ...]) -> Ownership:
        found = self._among_rules(matching) if not refers else Ownership(None, KeepReason.FOLLOWS_PARENT)
        setting = None
        if self._everything_protected:
            setting = PROTECTED_REPOSITORIES
        elif any(place in self._protected for place in matching):
            setting = PROTECTED_TAGS
        by_name = setting is not None or any(place in self._kept for place in matching)
        return Ownership(None, KeepReason.KEEP_TAGS, setting, found.would) if by_name else found

    def _among_rules(self, matching: tuple[int, ...]) -> Ownership:
        for rule, include, exclude in self._of_rules:
            if any(place in include for place in matching):
                if any(place in exclude for place in matching):
                    return Ownership(rule, KeepReason.EXCLUDED)
                return Ownership(rule, None, would=rule)
        return Ownership(None, KeepReason.UNMATCHED)


def ownership(policy: Policy, repository: str, tag: str) -> Ownership:
    """Say whose business a single `tag` is; of many, `Owners` tells it faster."""
    return Owners(policy, repository).of(tag)


def needs(
    policy: Policy,
    repository: str,
    tags: Collection[str],
    unit: DeletionUnit,
    in_use: InUse = NOTHING_IN_USE,
    now: datetime | None = None,
    *,
    least: bool = True,
) -> Needs:
    """Return what has to be gathered of `tags` to plan `repository`.

    Args:
        policy: whose rules.
        repository: its name.
        tags: as the registry listed them.
        unit: what the registry can delete; where only digests, every tag's digest has a say.
        in_use: what is in use.
        now: the time by which the plan will be made, exactly that; None where nobody says.
        least: whether nothing is needed where the names of the tags tell that none can go.
    """
    wanted = _needs(policy, repository, tags, unit, in_use, least=least)
    young_after = _young_after(policy, repository, now) if wanted.dated and now is not None else None
    return wanted if young_after is None else replace(wanted, young_after=young_after)


def _young_after(policy: Policy, repository: str, now: datetime) -> datetime | None:
    """Return since when whatever was created stays by age alone, whichever rule owns it; None where more has a say.

    By `keep.mostRecent` one image stays or goes by the dates of others, and one whose date is unknown takes no place:
    all that could be known has to be.
    """
    rules = [rule for rule in policy.rules if rule.applies_to(repository)]
    ages = [rule.older_than for rule in rules if rule.older_than is not None and rule.most_recent is None]
    try:
        return now - min(ages) if ages and len(ages) == len(rules) else None
    except OverflowError:  # older than time itself
        return None


def _needs(
    policy: Policy, repository: str, tags: Collection[str], unit: DeletionUnit, in_use: InUse, *, least: bool
) -> Needs:
    dated: set[str] = set()
    read: set[str] = set()
    owned = {rule.name: 0 for rule in policy.rules}
    lenders: set[str] = set()
    referrers: set[str] = set()
    others: list[str] = []
    owners = Owners(policy, repository)
    for tag in tags:
        owner = owners.of(tag)
        if owner.kept is None and owner.rule is not None:
            (dated if owner.rule.reads_dates else read).add(tag)
            owned[owner.rule.name] += 1
        elif owner.kept is KeepReason.FOLLOWS_PARENT:
            referrers.add(tag)
        else:
            others.append(tag)
            if owner.would is not None and _orders_by_version(owner.would):
                lenders.add(tag)
    # As many tags stand on as many images at most: whatever they are, `keep.mostRecent` keeps each that has a place.
    # All or nothing: what another rule lets go may hang together with any of them, by a mark, a subject, or its use.
    if least and all(owned[rule.name] <= (rule.most_recent or 0) for rule in policy.rules):
        return Needs()
    # So many that are kept by name fill the floor, if they turn out to be images and no referrers.
    read.update(sorted(others)[: policy.minimum_tags])
    use = in_use.at(repository)
    if use.image_ids:
        # What runs is known by its config only, or by a manifest that no tag names any more: look at all.
        return Needs(frozenset(dated), frozenset(tags) - dated, frozenset(), use.digests, use.digests, use.image_ids)
    whole = unit is DeletionUnit.DIGEST or policy.untagged is Untagged.DELETE
    if not whole:
        return Needs(frozenset(dated), frozenset(read), frozenset(lenders - read), used=use.digests)
    if in_use.digests:
        # A referrer may go, and what runs may be known by its config only.
        read |= referrers
    return Needs(frozenset(dated), frozenset(read), frozenset(tags) - dated - read, use.digests, use.digests)


def tag_patterns(policy: Policy) -> dict[str, TagPattern]:
    """Return every pattern of tags that a person wrote, by its place; one that matches nothing may be mistyped."""
    found = {f"spec.keepTags {p.text!r}": p for p in policy.keep_tags if p.text != LATEST}
    for number, rule in enumerate(policy.rules):
        for name, patterns in (("include", rule.include), ("exclude", rule.exclude)):
            found |= {f"spec.rules[{number}].tags.{name} {p.text!r}": p for p in patterns}
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
        f"{path}.{name} {glob.text!r}"
        for path, selector in selectors.items()
        for name, globs in (("include", selector.include), ("exclude", selector.exclude))
        for glob in globs
        if not any(glob.matches(repository) for repository in repositories)
    ]


def _orders_by_version(rule: Rule) -> bool:
    return rule.most_recent is not None and rule.order_by is not OrderBy.DATE
