"""Small random policies, and what they let go of a repository, worked out from the design's sentences alone.

Nothing is shared with the code that plans, and nothing is done with speed in mind. It knows only as much of the
language as these policies use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import (
    Limits,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagPattern,
    Untagged,
)
from tests.support.generated_registry import Yard

_INCLUDES = [".*", ".*", ".*", "pr-.*", "build-.*", "v?[0-9].*", "v.*|2.*", "pr-.*|build-.*|nightly", "[^k].*"]
_EXCLUDES = ["pr-3", ".*-rc.*", "build-[12]", "none"]
_KEEP = ["keep-.*", "release", "v1.*", "sha256-.*", "none"]
_REFERRER = re.compile(r"sha256-([0-9a-f]{64})(\.(sig|att|sbom))?")
_EARLIEST = datetime(2013, 3, 20, tzinfo=UTC)
# Comparable with others of one rule: of a date, its seconds.
_Place = tuple[float, ...]


@dataclass(frozen=True)
class RuleRecipe:
    """One rule, in values that JSON has too; `days` is `olderThan`."""

    include: str
    exclude: str | None
    days: int | None
    most_recent: int | None
    by_version: bool

    @property
    def reads_dates(self) -> bool:
        return self.days is not None or not self.by_version


@dataclass(frozen=True)
class Recipe:
    """One policy, in values that JSON has too."""

    rules: tuple[RuleRecipe, ...]
    keep: tuple[str, ...]
    minimum: int
    deletes_untagged: bool

    def policy(self, repository: str) -> Policy:
        """Return the policy for one repository; nothing has to wait, and no limit is reached."""
        rules = [
            Rule(
                f"rule-{number}",
                (TagPattern(each.include),),
                (TagPattern(each.exclude),) if each.exclude is not None else (),
                older_than=timedelta(days=each.days) if each.days is not None else None,
                most_recent=each.most_recent,
                order_by=OrderBy.SEM_VER if each.by_version else OrderBy.DATE,
            )
            for number, each in enumerate(self.rules)
        ]
        return Policy(
            "a-uid",
            "",
            RepositorySelector((RepositoryGlob(repository),)),
            rules,
            [TagPattern(text) for text in self.keep],
            self.minimum,
            untagged=Untagged.DELETE if self.deletes_untagged else Untagged.KEEP,
            grace_period=timedelta(0),
            limits=Limits(max_deletions=1000, max_percent=100),
        )

    def never(self, tag: str) -> bool:
        """Say whether `keepTags` protects a tag."""
        return any(re.fullmatch(text, tag) for text in self.keep)


def random_recipe(random: Random) -> Recipe:
    """Return a policy by age, number and version, with or without a floor, that may delete what it leaves."""
    rules = []
    for _ in range(random.randint(1, 3)):
        days, most_recent = random.choice([(7, None), (30, None), (2, 1), (15, 2), (None, 0), (None, 1), (None, 2)])
        exclude = random.choice(_EXCLUDES) if random.random() < 0.3 else None
        rules.append(RuleRecipe(random.choice(_INCLUDES), exclude, days, most_recent, random.random() < 0.3))
    # Among images whose date no rule reads, the floor counts by name: not a matter of these tests.
    minimum = random.choice([0, 0, 1, 3]) if all(rule.reads_dates for rule in rules) else 0
    keep = ["latest"] if random.random() < 0.8 else []
    if random.random() < 0.5:
        keep.append(random.choice(_KEEP))
    return Recipe(tuple(rules), tuple(keep), minimum, random.random() < 0.5)


def fitting_recipe(random: Random, yard: Yard, *, by_digest: bool) -> Recipe:
    """Return a policy that lets more than a little go, if there is one: where nothing goes, nothing can go wrong."""
    there = yard.tags()
    recipes = [random_recipe(random) for _ in range(6)]
    enough = (each for each in recipes if len(read(each, yard, there, by_digest=by_digest).going) > 1)
    return next(enough, recipes[0])


@dataclass(frozen=True)
class Reading:
    """What a policy says of a repository: which tags go, and which of all tags are referrers."""

    going: frozenset[str]
    referrers: Mapping[str, str]


def read(recipe: Recipe, yard: Yard, tags: Mapping[str, str], *, by_digest: bool) -> Reading:
    """Return which of `tags` go."""
    now, facts = datetime.now(UTC), yard.facts
    referrers = _referrers(recipe, yard, tags)
    owner = {tag: _owner(recipe, tag) for tag in tags if tag not in referrers and not recipe.never(tag)}
    going: set[str] = set()
    for rule in recipe.rules:
        mine = [tag for tag, own in owner.items() if own is rule and not _excluded(rule, tag)]
        places = {tag: _place(rule, tag, facts[tags[tag]].created, now) for tag in mine}
        best: dict[str, _Place] = {}
        lending = [t for t in tags if recipe.never(t) and t not in referrers and _owner(recipe, t) is rule]
        for tag in [*mine, *(tag for tag in lending if not _excluded(rule, tag))]:
            place = _place(rule, tag, facts[tags[tag]].created, now)
            images = {tags[each] for each in mine if places[each] is not None}
            if place is not None and tags[tag] in images:
                best[tags[tag]] = max(place, best.get(tags[tag], place))
        for tag in mine:
            if places[tag] is None:
                continue
            better = sum(other > best[tags[tag]] for other in best.values())
            recent = rule.most_recent is not None and better < rule.most_recent
            created = facts[tags[tag]].created
            young = rule.days is not None and (created is None or now - created <= timedelta(days=rule.days))
            if not recent and not young:
                going.add(tag)
    _keep_what_hangs_together(yard, tags, going, by_digest=by_digest)
    _fill_the_floor(recipe, yard, tags, going, referrers, by_digest=by_digest)
    _follow(recipe, yard, tags, going, referrers, by_digest=by_digest)
    return Reading(frozenset(going), referrers)


def _owner(recipe: Recipe, tag: str) -> RuleRecipe | None:
    return next((rule for rule in recipe.rules if re.fullmatch(rule.include, tag)), None)


def _excluded(rule: RuleRecipe, tag: str) -> bool:
    return rule.exclude is not None and re.fullmatch(rule.exclude, tag) is not None


def _place(rule: RuleRecipe, tag: str, created: datetime | None, now: datetime) -> _Place | None:
    """Return where a tag stands in the order of its rule; None for what is kept without a place."""
    if rule.reads_dates and (created is None or not _EARLIEST <= created <= now + timedelta(minutes=5)):
        return None
    if not rule.by_version:
        return None if created is None else (created.timestamp(),)
    match = re.fullmatch(r"v?([0-9]+)\.([0-9]+)\.([0-9]+)(-.*)?", tag)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]), match[4] is None)


def _referrers(recipe: Recipe, yard: Yard, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the subject of every tag that is a referrer, by its name or, where a rule would own it, by its manifest.

    A tag that no rule owns stays whatever it is (1), so nobody reads its manifest.
    """
    found = {}
    for tag, digest in tags.items():
        named, subject, rule = _REFERRER.fullmatch(tag), yard.facts[digest].subject, _owner(recipe, tag)
        if named is not None:
            found[tag] = f"sha256:{named[1]}"
        elif subject is not None and rule is not None and not _excluded(rule, tag):
            found[tag] = subject
    return found


def _keep_what_hangs_together(yard: Yard, tags: Mapping[str, str], going: set[str], *, by_digest: bool) -> None:
    while by_digest:
        held = yard.below(digest for tag, digest in tags.items() if tag not in going)
        saved = {tag for tag in going if tags[tag] in held}
        if not saved:
            return
        going -= saved


def _fill_the_floor(
    recipe: Recipe,
    yard: Yard,
    tags: Mapping[str, str],
    going: set[str],
    referrers: Mapping[str, str],
    *,
    by_digest: bool,
) -> None:
    while going and len(tags.keys() - going - referrers.keys()) < recipe.minimum:
        newest = min(going, key=lambda tag: (-_age_order(yard, tags[tag]), _first(tags, going, tags[tag])))
        going -= {tag for tag in going if tags[tag] == tags[newest]}
        _keep_what_hangs_together(yard, tags, going, by_digest=by_digest)


def _age_order(yard: Yard, digest: str) -> float:
    created = yard.facts[digest].created
    assert created is not None, "what goes by date has one"
    return created.timestamp()


def _first(tags: Mapping[str, str], going: set[str], digest: str) -> str:
    return min(tag for tag in going if tags[tag] == digest)


def _follow(
    recipe: Recipe,
    yard: Yard,
    tags: Mapping[str, str],
    going: set[str],
    referrers: Mapping[str, str],
    *,
    by_digest: bool,
) -> None:
    """Let referrers go with their subject, if it ceases to exist and nothing that stays needs them."""
    waiting = {tag for tag in referrers if not recipe.never(tag)}
    while True:
        kept = yard.below(digest for tag, digest in tags.items() if tag not in going)
        named = {tags[tag] for tag in going}
        gone = named if by_digest else set()
        if recipe.deletes_untagged:
            gone = gone | (yard.below(named) - kept)
        leaving = {tag for tag in waiting - going if referrers[tag] in gone - kept}
        while by_digest:
            needed = yard.below(d for tag, d in tags.items() if tag not in going and tag not in leaving)
            staying = {tag for tag in leaving if tags[tag] in needed}
            if not staying:
                break
            leaving -= staying
        if not leaving:
            return
        going |= leaving
