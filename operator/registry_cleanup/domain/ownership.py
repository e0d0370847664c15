"""Whose business a tag is, by its own name alone; and what has to be known of it before it can be judged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.order import OrderBy
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
    """

    rule: Rule | None
    kept: KeepReason | None
    setting: str | None = None


def ownership(policy: Policy, repository: str, tag: str) -> Ownership:
    """Say whose business `tag` is, by its own name alone, whatever it points at."""
    if (setting := protecting_setting(policy, repository, tag)) is not None:
        return Ownership(None, KeepReason.KEEP_TAGS, setting)
    if any(pattern.matches(tag) for pattern in policy.keep_tags):
        return Ownership(None, KeepReason.KEEP_TAGS)
    return among_rules(policy, repository, tag)


def protecting_setting(policy: Policy, repository: str, tag: str) -> str | None:
    """Return the setting by which the administrator of the operator keeps `tag`, whatever the policy says."""
    if any(glob.matches(repository) for glob in policy.protected_repositories):
        return PROTECTED_REPOSITORIES
    if any(pattern.matches(tag) for pattern in policy.protected_tags):
        return PROTECTED_TAGS
    return None


def among_rules(policy: Policy, repository: str, tag: str) -> Ownership:
    """Say whose business `tag` is, were it not for `keepTags`."""
    if referrer_subject(tag) is not None:
        return Ownership(None, KeepReason.FOLLOWS_PARENT)
    for rule in policy.rules:
        if rule.applies_to(repository) and any(pattern.matches(tag) for pattern in rule.include):
            if any(pattern.matches(tag) for pattern in rule.exclude):
                return Ownership(rule, KeepReason.EXCLUDED)
            return Ownership(rule, None)
    return Ownership(None, KeepReason.UNMATCHED)


def needs(
    policy: Policy,
    repository: str,
    tags: Collection[str],
    unit: DeletionUnit,
    in_use: InUse = NOTHING_IN_USE,
    now: datetime | None = None,
) -> Needs:
    """Return what has to be gathered of `tags` to plan `repository`.

    Args:
        policy: whose rules.
        repository: its name.
        tags: as the registry listed them.
        unit: what the registry can delete; where only digests, every tag's digest has a say.
        in_use: what is in use.
        now: the time by which the plan will be made, exactly that; None where nobody says.
    """
    wanted = _needs(policy, repository, tags, unit, in_use)
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


def _needs(policy: Policy, repository: str, tags: Collection[str], unit: DeletionUnit, in_use: InUse) -> Needs:
    dated: set[str] = set()
    read: set[str] = set()
    lenders: set[str] = set()
    referrers: set[str] = set()
    others: list[str] = []
    for tag in tags:
        owner = ownership(policy, repository, tag)
        if owner.kept is None and owner.rule is not None:
            (dated if owner.rule.reads_dates else read).add(tag)
        elif owner.kept is KeepReason.FOLLOWS_PARENT:
            referrers.add(tag)
        else:
            others.append(tag)
        if owner.kept is KeepReason.KEEP_TAGS:
            rule = among_rules(policy, repository, tag)
            if rule.kept is None and rule.rule is not None and _orders_by_version(rule.rule):
                lenders.add(tag)
    if not dated | read:
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
