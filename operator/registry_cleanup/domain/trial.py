"""What a policy would do with tags that somebody names, be there such tags or not: the engine of a run, and words."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.order import OrderBy, parse_version
from registry_cleanup.domain.plan import plan_repository
from registry_cleanup.domain.policy import LATEST, Policy, Rule, TagPattern
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.rules import EARLIEST_DATE
from registry_cleanup.domain.verdict import KeepReason, Verdict


@dataclass(frozen=True, slots=True)
class TriedTag:
    """A tag as somebody names it.

    Attributes:
        tag: its name.
        image: tags of one image have the same word here, or the same digest; None for an image of its own.
        date: when its image was created, aware; None where nobody says.
    """

    tag: str
    image: str | None = None
    date: datetime | None = None


class Outcome(StrEnum):
    """What becomes of a tag; `Keep` and `Prune` as in reports."""

    KEEP = "Keep"
    PRUNE = "Prune"
    DEPENDS = "Depends"  # on its date, or on those of others, which nobody gave


@dataclass(frozen=True, slots=True)
class Trial:
    """What becomes of one tag.

    Attributes:
        tag: its name.
        rule: that owns it, if one does.
        outcome: what becomes of it.
        reasons: why, in the words of reports; empty where it depends.
        why: the same for people.
        date: when its image was created, where somebody said so.
    """

    tag: str
    rule: str | None
    outcome: Outcome
    reasons: tuple[str, ...]
    why: str
    date: datetime | None


def try_tags(
    policy: Policy, repository: str, tags: Sequence[TriedTag], unit: DeletionUnit, now: datetime
) -> list[Trial]:
    """Return what becomes of each of `tags` if these are all that `repository` has, in their order.

    Raises:
        ValueError: tags of one image have several dates.
    """
    verdicts = _verdicts(policy, repository, tags, unit, now)
    trials = [_trial(policy, repository, each, verdicts[each.tag], now) for each in tags]
    undated = {trial.tag for trial in trials if trial.outcome is Outcome.DEPENDS}
    if not undated:
        return trials
    # New ones push others out of the most recent; old ones go, so that the floor may keep others. There is no more.
    extremes = [
        _verdicts(policy, repository, [_dated(each, date, undated) for each in tags], unit, now)
        for date in (now, EARLIEST_DATE)
    ]
    return [_open(trial) if _differ(trial, extremes) else trial for trial in trials]


def made_up_repository(policy: Policy) -> str | None:
    """Return a repository that the policy selects: one that it names, or one that its first globs would match."""
    for glob in sorted(policy.repositories.include, key=lambda glob: not glob.literal):
        name = glob.text.replace("**", "app").replace("*", "app").replace("?", "a")
        if policy.repositories.selects(name):
            return name
    return None


def _verdicts(
    policy: Policy, repository: str, tags: Sequence[TriedTag], unit: DeletionUnit, now: datetime
) -> dict[str, Verdict]:
    return {v.tag: v for v in plan_repository(policy, _inventory(repository, tags), unit, now).verdicts}


def _dated(tried: TriedTag, date: datetime, undated: Collection[str]) -> TriedTag:
    return replace(tried, date=date) if tried.tag in undated else tried


def _differ(trial: Trial, extremes: Iterable[Mapping[str, Verdict]]) -> bool:
    """Say whether what becomes of a tag is another thing if those without a date have one of the extremes."""
    if trial.outcome is Outcome.DEPENDS:
        return False
    return any(verdicts[trial.tag].goes != (trial.outcome is Outcome.PRUNE) for verdicts in extremes)


def _open(trial: Trial) -> Trial:
    why = f"{trial.why}, but the dates that other tags lack may change that"
    return replace(trial, outcome=Outcome.DEPENDS, reasons=(), why=why)


def _inventory(repository: str, tags: Iterable[TriedTag]) -> Inventory:
    digests = {each.tag: _digest(each) for each in tags}
    dates: dict[Digest, datetime] = {}
    for each in tags:
        digest = digests[each.tag]
        if each.date is not None and dates.setdefault(digest, each.date) != each.date:
            raise ValueError(f"{each.tag}: the tags of one image have one date, that of the image")
    manifests = {digest: Manifest(digest, Format.IMAGE, created=dates.get(digest)) for digest in digests.values()}
    return Inventory(repository, digests, manifests=manifests)


def _digest(tried: TriedTag) -> Digest:
    word = f"tag {tried.tag}" if tried.image is None else tried.image
    try:
        return parse_digest(word)
    except ValueError:
        return parse_digest(f"sha256:{hashlib.sha256(word.encode()).hexdigest()}")


def _trial(policy: Policy, repository: str, tried: TriedTag, verdict: Verdict, now: datetime) -> Trial:
    rule = next((each for each in policy.rules if each.name == verdict.rule), None)
    date = verdict.date
    if rule is not None and verdict.kept is KeepReason.UNKNOWN_DATE and date is None:
        if _unparsable(rule, tried.tag):
            why = _unparsable_words(rule)
            return Trial(tried.tag, rule.name, Outcome.KEEP, (KeepReason.UNPARSABLE_VERSION.value,), why, None)
        return Trial(tried.tag, rule.name, Outcome.DEPENDS, (), f"goes if {_condition(rule)}", None)
    if rule is not None and verdict.kept is None:
        reasons = tuple(reason.value for reason in verdict.pruned)
        aged = f" (it is {_age(date, now)} old)" if date is not None and rule.older_than is not None else ""
        return Trial(tried.tag, rule.name, Outcome.PRUNE, reasons, f"is {_condition(rule)}{aged}", date)
    kept = verdict.kept if verdict.kept is not None else KeepReason.UNMATCHED
    why = _kept_words(policy, repository, verdict, kept, rule, now)
    return Trial(tried.tag, verdict.rule, Outcome.KEEP, (kept.value,), why, date)


def _condition(rule: Rule) -> str:
    """Return when a tag of `rule` goes."""
    parts = []
    if rule.older_than is not None:
        parts.append(f"older than {duration_text(rule.older_than)}")
    if rule.most_recent is not None:
        parts.append(f"not among the {_first(rule)}")
    return " and ".join(parts)


def _first(rule: Rule) -> str:
    number = "" if rule.most_recent == 1 else f"{rule.most_recent} "
    match rule.order_by:
        case OrderBy.DATE:
            return f"{number}newest"
        case OrderBy.SEM_VER:
            return f"{number}greatest versions"
        case OrderBy.NUMERICAL:
            return f"{number}greatest numbers"
        case OrderBy.ALPHABETICAL:
            return f"{number}last in the alphabet"


def _kept_words(  # noqa: C901 - a table of words, one line for each reason
    policy: Policy, repository: str, verdict: Verdict, kept: KeepReason, rule: Rule | None, now: datetime
) -> str:
    match kept:
        case KeepReason.KEEP_TAGS:
            return _kept_by_name(policy, verdict)
        case KeepReason.UNMATCHED:
            return _unmatched(policy, repository, verdict.tag)
        case KeepReason.EXCLUDED if rule is not None:
            return f"tags.exclude {_matching(rule.exclude, verdict.tag)} matches it"
        case KeepReason.MOST_RECENT if rule is not None:
            return f"among the {_first(rule)} of these tags"
        case KeepReason.NOT_OLD_ENOUGH if rule is not None and rule.older_than is not None:
            return f"not older than {duration_text(rule.older_than)} (it is {_age(verdict.date, now)} old)"
        case KeepReason.UNPARSABLE_VERSION if rule is not None:
            return _unparsable_words(rule)
        case KeepReason.UNKNOWN_DATE:
            return "its date cannot be true: before 2013-03-20, or in the future"
        case KeepReason.SHARED_DIGEST:
            return "a tag that stays is on the same image, and the registry deletes whole images only"
        case KeepReason.MINIMUM_TAGS:
            return f"minTagsPerRepository ({policy.minimum_tags}) would not be met without it"
        case KeepReason.FOLLOWS_PARENT | KeepReason.ORPHAN_REFERRER:
            return "named as a signature or the like: it follows the image that it is about, and is no rule's business"
        case _:
            return "stays"


def _kept_by_name(policy: Policy, verdict: Verdict) -> str:
    if verdict.setting is not None:
        return f"the operator's setting {verdict.setting} keeps it"
    pattern = _matching(policy.keep_tags, verdict.tag)
    return f"{LATEST} stays unless pruneLatest: true" if pattern == repr(LATEST) else f"keepTags {pattern} matches it"


def _unmatched(policy: Policy, repository: str, tag: str) -> str:
    elsewhere = [
        rule.name
        for rule in policy.rules
        if not rule.applies_to(repository) and any(pattern.matches(tag) for pattern in rule.include)
    ]
    if not elsewhere:
        return "no rule's tags.include match it"
    names = ", ".join(elsewhere)
    return f"no rule for this repository matches it; of other repositories it would be owned by {names}"


def _matching(patterns: Iterable[TagPattern], tag: str) -> str:
    return next((repr(pattern.text) for pattern in patterns if pattern.matches(tag)), "")


def _unparsable(rule: Rule, tag: str) -> bool:
    if rule.order_by is OrderBy.DATE:
        return False
    text = rule.version_text(tag)
    return text is None or parse_version(rule.order_by, text) is None


def _unparsable_words(rule: Rule) -> str:
    return f"spells no version to order by ({rule.order_by.value})"


def _age(date: datetime | None, now: datetime) -> str:
    if date is None:
        return "?"
    return duration_text(max(now - date, now - now))
