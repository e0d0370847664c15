"""All that bears on one tag: what is known of it, what the policy says of it, and what would have to change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.guards import exceeded_limits, guard
from registry_cleanup.domain.in_use import User
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.namings import Naming, RuleTold, namings, rules_told
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import Owners
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Rule
from registry_cleanup.domain.published import Protected, Published, nothing_published
from registry_cleanup.domain.reference import Digest, referrer_subject, subject_key
from registry_cleanup.domain.report import tag_line
from registry_cleanup.domain.rules import Position, pins, plausible, standings, version_of
from registry_cleanup.domain.situation import Situation
from registry_cleanup.domain.structure import descendants
from registry_cleanup.domain.usage import users
from registry_cleanup.domain.verdict import KeepReason, Verdict
from registry_cleanup.domain.what_ifs import WhatIf, World, what_ifs


@dataclass(frozen=True, slots=True)
class Age:
    """How old a tag is.

    Attributes:
        date: that it is judged by; None where there is none.
        source: `Pushed` or `Created`.
        plausible: whether that can be.
        rule: the rule that looks at it, or would; None where there is none.
        older_than: what the rule says; None where it says nothing of age.
        older: whether the tag is older than that.
        old_enough: when it is, or was.
    """

    date: datetime | None
    source: str | None
    plausible: bool
    rule: str | None = None
    older_than: timedelta | None = None
    older: bool | None = None
    old_enough: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rank:
    """Where the image of a tag stands among those of its rule.

    Attributes:
        rule: that counts.
        order_by: what it counts by.
        keep: how many images it keeps; None for no number.
        images: how many have a place.
        place: from 1; None where the tag has none.
        equal: how many other images stand at the same place.
        kept: whether `keep.mostRecent` keeps it.
        version: that the tag spells, where the rule orders by one; None where it spells none.
        last_kept: the tags on the image at the boundary, which is the last one that is kept.
        last_position: the date or version of that.
    """

    rule: str
    order_by: str
    keep: int | None
    images: int
    place: int | None
    equal: int
    kept: bool
    version: str | None = None
    last_kept: tuple[str, ...] = ()
    last_position: str | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """Another tag, and what becomes of it."""

    tag: str
    verdict: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Related:
    """Another manifest: one that lists this one, is listed, refers to it, or is referred to."""

    digest: str
    tags: tuple[Other, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Why a tag that goes does not go now.

    Attributes:
        reason: of a guard; None where it may go at once, as far as this repository is concerned.
        published: since when it is in the published plan; None where it is not, or that is not known.
        may_go: when the grace period is over; None where that has not begun.
        limits: which of them the plan of this repository exceeds, in words.
    """

    reason: KeepReason | None
    published: datetime | None
    may_go: datetime | None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that bears on one tag.

    Attributes:
        tag: its name.
        verdict: of the plan; None where the registry lists no such tag.
        line: of the report, as `plan` shows it.
        namings: what keeps tags of this name.
        rules: all of them, with what each says of the name.
        digest: that it names; None where it names nothing, or nobody found out.
        format: of that: `Image`, `Index` or `Unknown`.
        dangling: whether the registry lists it and has nothing for it.
        age: its date, and what that means.
        rank: its place; None where no rule counts.
        siblings: other tags on its digest.
        unseen: how many tags were not looked at, and may stand on it, too.
        children, parents: what it lists; what lists it.
        subject: what it refers to.
        referrers: what refers to it.
        marks: what says on the image, or below it, that it stays; `image stream` where that says so.
        managed: whether an image stream's own spec brings it.
        users: who uses it.
        untagged: manifests that lose their name with it.
        deletes_untagged: whether those are deleted.
        minimum, staying: `minTagsPerRepository`; how many tags of the repository stay.
        rivals: other policies that prune there.
        held: of a tag that goes.
        what_ifs: what would have to change for the other verdict.
        similar: tags of a similar name, where there is none of this name.
    """

    tag: str
    verdict: Verdict | None
    line: Mapping[str, Any]
    namings: tuple[Naming, ...]
    rules: tuple[RuleTold, ...]
    digest: Digest | None = None
    format: str | None = None
    dangling: bool = False
    age: Age | None = None
    rank: Rank | None = None
    siblings: tuple[Other, ...] = ()
    unseen: int = 0
    children: tuple[Related, ...] = ()
    parents: tuple[Related, ...] = ()
    subject: Related | None = None
    referrers: tuple[Related, ...] = ()
    marks: tuple[str, ...] = ()
    managed: bool = False
    users: tuple[User, ...] = ()
    untagged: tuple[Digest, ...] = ()
    deletes_untagged: bool = False
    minimum: int = 0
    staying: int = 0
    rivals: tuple[Rival, ...] = ()
    held: Held | None = None
    what_ifs: tuple[WhatIf, ...] = ()
    similar: tuple[str, ...] = ()


def explain(
    planned: Situation,
    known: Situation,
    read: Needs,
    tags: Collection[str],
    published: Published | None = None,
    undone: Protected | None = None,
) -> tuple[Explanation, ...]:
    """Explain `tags`, in their order.

    Args:
        planned: what the operator would plan the repository from.
        known: the same with all that was read.
        read: what was read.
        tags: of the repository, or not.
        published: the plan that was published before; None where nobody knows.
        undone: what was put back, and stays; None where that is nothing.
    """
    plan = planned.plan()
    explained = _Explained(plan, World(known, read, planned.tags), published, undone)
    return tuple(explained.of(tag) for tag in tags)


class _Explained:
    """One repository, of which tags are explained."""

    def __init__(
        self, plan: RepositoryPlan, world: World, published: Published | None, undone: Protected | None
    ) -> None:
        self._plan = plan
        self._verdicts = {verdict.tag: verdict for verdict in plan.verdicts}
        self._world = world
        self._known = world.situation
        self._there = world.situation.inventory
        self._policy = world.situation.effective
        self._published = published
        self._undone = undone
        self._on: dict[Digest, list[str]] = {}
        for tag, digest in sorted(self._there.tags.items()):
            self._on.setdefault(digest, []).append(tag)

    def of(self, tag: str) -> Explanation:
        repository, verdict = self._there.repository, self._verdicts.get(tag)
        names = namings(self._known, tag)
        told = rules_told(self._known.policy, repository, tag, kept_by_name=bool(names))
        if verdict is None:
            similar = tuple(get_close_matches(tag, self._world.listed, 3))
            return Explanation(tag, None, {}, names, told, similar=similar)
        digest = self._there.tags.get(tag)
        manifest = self._there.manifests.get(digest) if digest is not None else None
        owner = Owners(self._policy, repository).of(tag)
        rule = owner.rule or owner.would
        subject = self._subject(tag, verdict, manifest)
        untagged = self._untagged(verdict)
        return Explanation(
            tag,
            verdict,
            tag_line(self._plan, verdict),
            names,
            told,
            digest,
            None if manifest is None else manifest.format.value,
            tag in self._there.dangling,
            self._age(tag, manifest, rule),
            None if rule is None or subject is not None else self._rank(tag, digest, rule),
            self._others(digest, but=tag),
            len(self._there.unresolved),
            self._related(manifest.children if manifest is not None else ()),
            self._related(d for d, m in self._there.manifests.items() if digest is not None and digest in m.children),
            subject,
            self._referrers(tag, digest),
            self._marks(tag, digest),
            tag in self._there.managed,
            users(self._there, self._known.in_use, tag),
            untagged,
            self._plan.deletes_untagged or self._plan.named_only,
            self._policy.minimum_tags,
            self._plan.size - self._plan.planned,
            tuple(rival for rival in self._known.rivals if rival.repositories.selects(repository)),
            self._held(verdict) if verdict.goes else None,
            what_ifs(self._world, verdict),
        )

    def _age(self, tag: str, manifest: Manifest | None, rule: Rule | None) -> Age | None:
        pushed = self._there.pushed.get(tag)
        date = pushed if pushed is not None else None if manifest is None else manifest.created
        source = "Pushed" if pushed is not None else None if date is None else "Created"
        likely = plausible(date, self._known.now)
        if rule is None or rule.older_than is None:
            return Age(date, source, likely, None if rule is None else rule.name)
        older = likely and date is not None and self._known.now - date > rule.older_than
        at = date + rule.older_than if date is not None and likely else None
        return Age(date, source, likely, rule.name, rule.older_than, older, at)

    def _rank(self, tag: str, digest: Digest | None, rule: Rule) -> Rank | None:
        orders = rule.order_by is not OrderBy.DATE
        version = rule.version_text(tag) if orders and version_of(rule, tag) is not None else None
        places = standings(self._policy, self._there, self._known.now, self._known.in_use)[rule.name]
        own = places.get(digest) if digest is not None else None
        if rule.most_recent is None and not orders:
            return None
        owned = own is not None and tag not in self._there.unresolved
        better = sum(position > own for position in places.values()) if owned else 0
        equal = sum(position == own for position in places.values()) - 1 if owned else 0
        boundary = _boundary(places, rule.most_recent)
        last = sorted(d for d, position in places.items() if boundary is not None and position == boundary)
        tags = tuple(each for d in last for each in self._on.get(d, ()) if self._owns(rule, each))
        return Rank(
            rule.name,
            rule.order_by.value,
            rule.most_recent,
            len(places),
            better + 1 if owned else None,
            equal,
            bool(owned and rule.most_recent and better < rule.most_recent),
            version,
            tags,
            _spelled(rule, boundary, tags),
        )

    def _owns(self, rule: Rule, tag: str) -> bool:
        owner = Owners(self._policy, self._there.repository).of(tag)
        return (owner.rule or owner.would) == rule

    def _other(self, tag: str) -> Other:
        verdict = self._verdicts[tag]
        return Other(tag, "Prune" if verdict.kept is None else "Keep", verdict.kept.value if verdict.kept else None)

    def _others(self, digest: Digest | None, but: str = "") -> tuple[Other, ...]:
        on = self._on.get(digest, ()) if digest is not None else ()
        return tuple(self._other(tag) for tag in on if tag != but and tag in self._verdicts)

    def _related(self, digests: Iterable[Digest]) -> tuple[Related, ...]:
        return tuple(Related(digest, self._others(digest)) for digest in dict.fromkeys(digests))

    def _subject(self, tag: str, verdict: Verdict, manifest: Manifest | None) -> Related | None:
        key = verdict.subject or referrer_subject(tag)
        if key is None and manifest is not None and manifest.subject is not None:
            key = subject_key(manifest.subject)
        if key is None:
            return None
        known = [*self._on, *self._there.manifests]
        digest = next((digest for digest in known if subject_key(digest) == key), None)
        return Related(key if digest is None else digest, self._others(digest))

    def _referrers(self, tag: str, digest: Digest | None) -> tuple[Related, ...]:
        if digest is None:
            return ()
        key = subject_key(digest)
        found = {d for d, m in self._there.manifests.items() if m.subject is not None and subject_key(m.subject) == key}
        found |= {self._there.tags[each] for each in self._there.tags if referrer_subject(each) == key}
        related = self._related(sorted(found))
        # By the tag schema its name alone says so, of a tag that nobody resolved, too.
        unread = tuple(self._other(each) for each in sorted(self._there.unresolved) if referrer_subject(each) == key)
        return (*related, Related("", unread)) if unread and tag not in self._there.unresolved else related

    def _marks(self, tag: str, digest: Digest | None) -> tuple[str, ...]:
        found = ["image stream"] if tag in self._there.protected else []
        if digest is not None:
            said = pins(self._there, self._known.now)
            below = [digest, *sorted(descendants([digest], self._there.manifests))]
            found += [f"{each} says {said[each]}" for each in below if each in said]
        return tuple(found)

    def _untagged(self, verdict: Verdict) -> tuple[Digest, ...]:
        if not verdict.goes or verdict.digest is None:
            return ()
        own = {verdict.digest} | descendants([verdict.digest], self._there.manifests)
        # Where the operator does not look at all tags, more is known here.
        stays = {digest for tag, digest in self._there.tags.items() if not self._verdicts[tag].goes}
        own -= stays | descendants(stays, self._there.manifests)
        return tuple(digest for digest in self._plan.untagged if digest in own)

    def _held(self, verdict: Verdict) -> Held:
        """Say what holds back a tag that goes, as far as its own repository tells."""
        policy, now = self._policy, self._known.now
        before = self._published or nothing_published(policy.uid)
        guarded = guard(policy, [self._plan], before, now, plan_only=True, undone=self._undone)
        first = before.first(self._plan.repository, verdict.tag, verdict.digest) if verdict.digest is not None else None
        return Held(
            guarded.items.get(self._plan.repository, {}).get(verdict.tag),
            first,
            None if first is None else first + policy.grace_period,
            tuple(exceeded_limits(policy.limits, [self._plan])),
        )


def _boundary(places: Mapping[Digest, Position], number: int | None) -> Position | None:
    """Return where the last image stands that is kept; None where none is too many."""
    if not number or len(places) <= number:
        return None
    return sorted(places.values(), reverse=True)[number - 1]


def _spelled(rule: Rule, boundary: Position | None, tags: tuple[str, ...]) -> str | None:
    if isinstance(boundary, datetime):
        return boundary.isoformat()
    texts = {version_of(rule, tag): rule.version_text(tag) for tag in tags}
    return texts.get(boundary) if boundary is not None else None


def tags_on(there: Inventory, digest: Digest) -> tuple[str, ...]:
    """Return the tags on `digest`, sorted."""
    return tuple(sorted(tag for tag, each in there.tags.items() if each == digest))
