"""What would have to change for the other verdict: tried with the planner, never guessed.

A way to the other verdict is found by taking away one reason after the other, and each is planned anew from what the
operator would have read then. What could not be planned so, since more would have to be read, is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce

from typing_extensions import override

from registry_cleanup.domain import changes
from registry_cleanup.domain.changes import Change
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import Owners
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import LATEST, Rule, Untagged
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key
from registry_cleanup.domain.rules import pins, plausible, standings, version_of
from registry_cleanup.domain.situation import Situation, as_read, covers
from registry_cleanup.domain.structure import ancestors, descendants
from registry_cleanup.domain.usage import unfound_images, users, users_by_name
from registry_cleanup.domain.verdict import KeepReason, Verdict

# More reasons than this do not keep one tag, or nobody would want to hear of it.
_MOST_CHANGES = 8
_MOST_FLOOR = 100
# A name for each would have to be thought of.
_MOST_IMAGES = 200


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would have to change for the other verdict.

    Attributes:
        goes: whether the tag goes then.
        changes: all of them together, and none less.
    """

    goes: bool
    changes: tuple[Change, ...]

    @override
    def __str__(self) -> str:
        """Return it as a sentence."""
        *first, last = (change.text for change in self.changes)
        what = f"{', '.join(first)}, and {last}" if first else last
        return f"It {'goes' if self.goes else 'stays'} if {what}."


@dataclass(frozen=True, slots=True)
class World:
    """A situation, and what of it was read.

    Attributes:
        situation: with all that is known.
        read: what was read of the tags that the registry listed.
        listed: those.
    """

    situation: Situation
    read: Needs
    listed: frozenset[str]
    _last: list[tuple[Situation, RepositoryPlan | None]] = field(default_factory=list, repr=False, compare=False)

    def plan(self, situation: Situation) -> RepositoryPlan | None:
        """Return the plan that the operator would make; None where it would read more than was read here."""
        for known, plan in self._last:
            if known is situation:
                return plan
        found = self._plan(situation)
        # What is asked about once is mostly asked about twice in a row; the first is where every way begins.
        del self._last[1:]
        self._last.append((situation, found))
        return found

    def _plan(self, situation: Situation) -> RepositoryPlan | None:
        if not covers(self.read, situation.needs(), self.listed & situation.tags):
            return None
        return as_read(situation).plan()

    def verdict(self, situation: Situation, tag: str) -> Verdict | None:
        """Return the verdict on `tag`; None where nobody knows."""
        plan = self.plan(situation)
        return None if plan is None else next((each for each in plan.verdicts if each.tag == tag), None)

    def flips(self, situation: Situation, tag: str, *, goes: bool) -> bool:
        """Say whether it is known that `tag` goes, or stays."""
        verdict = self.verdict(situation, tag)
        return verdict is not None and verdict.goes == goes


def what_ifs(world: World, verdict: Verdict) -> tuple[WhatIf, ...]:
    """Return ways to the other verdict than `verdict`, each tried."""
    if not world.flips(world.situation, verdict.tag, goes=verdict.goes):
        return ()  # by what was read besides, it would have been another verdict already: nothing would be proved
    if verdict.goes:
        return tuple(WhatIf(False, (change,)) for change in _staying(world, verdict))
    found: dict[tuple[str, ...], WhatIf] = {}
    for waits in (True, False):
        ways = _way(world, verdict.tag, waits=waits)
        if ways:
            found.setdefault(tuple(change.text for change in ways), WhatIf(True, ways))
    return tuple(found.values())


# From keep to prune


def _way(world: World, tag: str, *, waits: bool) -> tuple[Change, ...]:
    """Return what lets `tag` go, by waiting or by another policy where there is a choice; empty if nothing does."""
    found: list[Change] = []
    now = world.situation
    while not world.flips(now, tag, goes=True):
        change = _Step(world, now, waits).towards(tag) if len(found) < _MOST_CHANGES else None
        if change is None or change in found:
            return ()
        found.append(change)
        now = change.apply(now)
    return tuple(_necessary(world, tag, found))


def _necessary(world: World, tag: str, found: list[Change]) -> list[Change]:
    """Return what is left of `found` without what turned out not to be necessary in the end."""
    for change in found:
        fewer = [each for each in found if each is not change]
        try:
            now = _all(world.situation, fewer)
        except ValueError:
            continue  # without this one, another would make a rule that cannot be
        if fewer and world.flips(now, tag, goes=True):
            return _necessary(world, tag, fewer)
    return found


def _all(situation: Situation, those: list[Change]) -> Situation:
    return reduce(lambda was, change: change.apply(was), those, situation)


class _Step:
    """Looks for one change that takes away the reason for which a tag is kept."""

    def __init__(self, world: World, situation: Situation, waits: bool) -> None:
        self._world = world
        self._now = situation
        self._there = situation.inventory
        self._waits = waits
        plan = world.plan(situation)
        self._verdicts = {} if plan is None else {verdict.tag: verdict for verdict in plan.verdicts}
        self._asked: set[str] = set()

    def towards(self, tag: str) -> Change | None:
        """Return what takes the reason away for which `tag` is kept; None where nothing can."""
        verdict = self._verdicts.get(tag)
        if verdict is None or verdict.kept is None or tag in self._asked:
            return None
        self._asked.add(tag)
        find = _BY_REASON.get(verdict.kept)
        return None if find is None else find(self, verdict)

    def conflict(self, _verdict: Verdict) -> Change | None:
        repository = self._there.repository
        for rival in self._now.rivals:
            if rival.older and rival.repositories.selects(repository):
                return changes.without_rival(rival.namespace, rival.name, repository)
        return None

    def by_name(self, verdict: Verdict) -> Change | None:
        tag, policy, repository = verdict.tag, self._now.policy, self._there.repository
        if verdict.setting is not None:
            return changes.setting_without(verdict.setting, repository, tag)
        for pattern in policy.keep_tags:
            if pattern.matches(tag):
                return changes.no_longer_kept_by_name(pattern.text, latest=pattern.text == LATEST)
        for rival in self._now.rivals:
            if rival.repositories.selects(repository) and any(each.matches(tag) for each in rival.keep_tags):
                return changes.without_rival(rival.namespace, rival.name, repository)
        marked = pins(self._there, self._now.now).keys()
        digest = self._there.tags.get(tag)
        own = set() if digest is None else ({digest} | descendants([digest], self._there.manifests)) & marked
        return changes.mark_removed(tag, sorted(own)) if own or tag in self._there.protected else None

    def excluded(self, verdict: Verdict) -> Change | None:
        rule = self._rule(verdict)
        text = None if rule is None else next((p.text for p in rule.exclude if p.matches(verdict.tag)), None)
        return None if rule is None or text is None else changes.no_longer_excluded(self._now.policy, rule, text)

    def unmatched(self, verdict: Verdict) -> Change | None:
        for rule in self._now.policy.rules:
            if rule.applies_to(self._there.repository) and rule.extract is None:
                return changes.included(self._now.policy, rule, verdict.tag)
        return None

    def too_young(self, verdict: Verdict) -> Change | None:
        rule = self._rule(verdict)
        if rule is None or rule.older_than is None or verdict.date is None:
            return None
        age = changes.shorter(self._now.now - verdict.date)
        if self._waits or age is None:
            return changes.time_passes(verdict.tag, rule.older_than, verdict.date)
        return changes.older_than(self._now.policy, rule, age)

    def unknown_date(self, verdict: Verdict) -> Change | None:
        rule, date = self._rule(verdict), verdict.date
        if rule is None or date is None or date <= self._now.now or plausible(date, self._now.now):
            return None
        return changes.time_passes(verdict.tag, rule.older_than, date)

    def most_recent(self, verdict: Verdict) -> Change | None:
        rule = self._rule(verdict)
        if rule is None or rule.most_recent is None or verdict.tag not in self._there.tags:
            return None
        there = self._there
        places = standings(self._now.effective, there, self._now.now, self._now.in_use).get(rule.name, {})
        own = places.get(there.tags[verdict.tag])
        if own is None:
            return None
        before = sum(position > own for position in places.values())
        missing = rule.most_recent - before
        if self._waits and 0 < missing <= _MOST_IMAGES:
            pushed = changes.newer_images(self._now, rule, self._best_tag(verdict, rule), missing)
            if pushed is not None:
                return pushed
        if before:
            return changes.most_recent(self._now.policy, rule, before)
        return changes.most_recent(self._now.policy, rule, None) if rule.older_than is not None else None

    def _best_tag(self, verdict: Verdict, rule: Rule) -> str:
        """Return the tag by which an image stands where it stands, if `rule` orders by version."""
        if rule.order_by is OrderBy.DATE:
            return verdict.tag
        siblings = [tag for tag, digest in self._there.tags.items() if digest == verdict.digest]
        versions = {tag: version for tag in siblings if (version := version_of(rule, tag)) is not None}
        return max(versions, key=lambda tag: versions[tag], default=verdict.tag)

    def unparsable(self, verdict: Verdict) -> Change | None:
        rule = self._rule(verdict)
        return None if rule is None else changes.order_by_date(self._now.policy, rule)

    def managed(self, verdict: Verdict) -> Change | None:
        rule = self._rule(verdict)
        return None if rule is None else changes.include_managed(self._now.policy, rule)

    def in_use(self, verdict: Verdict) -> Change | None:
        tag = verdict.tag
        who, named = users(self._there, self._now.in_use, tag), users_by_name(self._there, self._now.in_use, tag)
        change = changes.not_used(tag, who, by_name=set(who) <= set(named))
        if change.apply(self._now) != self._now:
            return change
        # It may list nothing that is used, and be used through something that lists it.
        return None

    def unfound(self, _verdict: Verdict) -> Change | None:
        unfound = unfound_images(as_read(self._now).inventory, self._now.in_use)
        return changes.digests_not_used(unfound, "the images that nobody could find there") if unfound else None

    def shared(self, verdict: Verdict) -> Change | None:
        siblings = [each for each in self._verdicts.values() if each.digest == verdict.digest and not each.goes]
        own = [each.tag for each in siblings if each.kept is not KeepReason.SHARED_DIGEST]
        if self._waits:
            return changes.untag(own, ": only digests can be deleted here") if own else None
        return next((change for tag in own if (change := self.towards(tag)) is not None), None)

    def floor(self, verdict: Verdict) -> Change | None:
        policy, tag = self._now.policy, verdict.tag

        def let_go(number: int) -> bool:
            found = self._world.verdict(changes.minimum_tags(number).apply(self._now), tag)
            return found is not None and found.kept is not KeepReason.MINIMUM_TAGS

        rule = self._rule(verdict)
        if self._waits and rule is not None:
            for number in range(1, min(policy.minimum_tags, _MOST_IMAGES) + 1):
                change = changes.newer_images(self._now, rule, tag, number)
                if change is None:
                    break
                if self._world.flips(change.apply(self._now), tag, goes=True):
                    return change
        most = _largest(let_go, policy.minimum_tags - 1)
        return None if most is None else changes.minimum_tags(most)

    def follows(self, verdict: Verdict) -> Change | None:
        """Let what it follows go: its subject, or else an index that lists it."""
        manifests = self._there.manifests
        if verdict.subject is not None:
            tags = [tag for tag, d in self._there.tags.items() if verdict.subject == subject_key(d)]
            listing = {digest for digest in manifests if subject_key(digest) == verdict.subject}
            change = self._any(tags) or self._parents(listing)
            keeps = self._now.unit is DeletionUnit.TAG and not self._there.named_only
            if change is None and keeps and self._now.policy.untagged is Untagged.KEEP:
                return changes.untagged_deleted()
            return change
        return None if verdict.digest is None else self._parents({verdict.digest})

    def _parents(self, digests: set[Digest]) -> Change | None:
        above = ancestors(digests, self._there.manifests)
        tags = [tag for tag, digest in self._there.tags.items() if digest in above]
        if (change := self._any(tags)) is not None:
            return change
        used = (above | digests) & self._now.in_use.digests
        below = descendants(above, self._there.manifests) & self._now.in_use.digests
        needed = frozenset(used | below)
        return changes.digests_not_used(needed, "the index that lists it, or what that lists") if needed else None

    def _any(self, tags: list[str]) -> Change | None:
        return next((change for tag in sorted(tags) if (change := self.towards(tag)) is not None), None)

    def _rule(self, verdict: Verdict) -> Rule | None:
        owner = Owners(self._now.effective, self._there.repository).of(verdict.tag)
        return owner.rule


_BY_REASON: dict[KeepReason, Callable[[_Step, Verdict], Change | None]] = {
    KeepReason.POLICY_CONFLICT: _Step.conflict,
    KeepReason.KEEP_TAGS: _Step.by_name,
    KeepReason.EXCLUDED: _Step.excluded,
    KeepReason.UNMATCHED: _Step.unmatched,
    KeepReason.NOT_OLD_ENOUGH: _Step.too_young,
    KeepReason.UNKNOWN_DATE: _Step.unknown_date,
    KeepReason.MOST_RECENT: _Step.most_recent,
    KeepReason.UNPARSABLE_VERSION: _Step.unparsable,
    KeepReason.MANAGED_BY_SPEC: _Step.managed,
    KeepReason.IN_USE: _Step.in_use,
    KeepReason.IN_USE_UNKNOWN: _Step.unfound,
    KeepReason.SHARED_DIGEST: _Step.shared,
    KeepReason.MINIMUM_TAGS: _Step.floor,
    KeepReason.FOLLOWS_PARENT: _Step.follows,
}


# From prune to keep


def _staying(world: World, verdict: Verdict) -> Iterator[Change]:
    """Yield each change that keeps a tag that goes, alone."""
    for change in _that_may_keep(world, verdict):
        if world.flips(change.apply(world.situation), verdict.tag, goes=False):
            yield change


def _that_may_keep(world: World, verdict: Verdict) -> Iterator[Change]:
    tag, situation = verdict.tag, world.situation
    yield changes.kept_by_name(tag)
    if situation.policy.in_use.enabled:
        yield changes.used(tag)
    rule = Owners(situation.effective, situation.inventory.repository).of(tag).rule
    if rule is not None and referrer_subject(tag) is None:
        if rule.older_than is not None and verdict.date is not None:
            yield changes.older_than(situation.policy, rule, changes.longer(situation.now - verdict.date))
        places = standings(situation.effective, situation.inventory, situation.now, situation.in_use).get(rule.name, {})
        own = places.get(situation.inventory.tags[tag])
        if own is not None:
            better = sum(position > own for position in places.values())
            yield changes.most_recent(situation.policy, rule, better + 1)
    fewest = situation.policy.minimum_tags

    def would_go(number: int) -> bool:
        return world.flips(changes.minimum_tags(number).apply(situation), tag, goes=True)

    # Nobody wants to hear of a floor of thousands.
    if fewest < _MOST_FLOOR and not would_go(_MOST_FLOOR):
        last = _largest(would_go, _MOST_FLOOR - 1)
        if last is not None and last >= fewest:
            yield changes.minimum_tags(last + 1)


def _largest(holds: Callable[[int], bool], most: int) -> int | None:
    """Return the largest number up to `most` of which it `holds`, which does of all that are less, too."""
    low, high = -1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low if low >= 0 else None
