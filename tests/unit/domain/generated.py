"""Generated repositories, uses and policies: small, and full of what is equal, shared, nested, odd or damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import ALL_TAGS, InUse, User
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Limits, OnExceeded, Policy, Rule, Untagged
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
    digest,
    inventory,
    patterns,
    planned,
    policy,
    referrer_tag,
    rule,
    selector,
)

_T = TypeVar("_T")

_WORDY = ["latest", "main", "pr-1", "pr-2", "pr-3", "pr-10", "keep-1", "release", "a", "b", "c"]
_VERSIONED = [
    *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-rc.2", "1.0.0-rc.11", "1.0.0", "v1.0.0", "1.0.1"),
    *("10.0.0", "v2.0.0-1", "01.0.0", "1.0", "rel-1.0.0", "rel-0.9.0", "rel-7", "rel-x"),
]
_NUMBERED = ["9", "10", "9.5", "9.50", "007", "9007199254740992", "9007199254740993", "1e3", "pr-7", "pr-11", "rel-8"]
TAG_NAMES = [*_WORDY, *_VERSIONED, *_NUMBERED]
TAG_PATTERNS = [".*", "pr-.*", "v?[0-9].*", "[0-9.]+", "rel-.*", "a|b", "[a-c]", "keep-.*", "none", "(?i)LATEST", "s.*"]
_EXTRACTING = ["rel-(?P<v>.*)", "(?P<v>.*)", "v?(?P<v>[0-9.]+)", "pr-(?P<v>[0-9]+)", "(?P<v>[0-9]+)?.*"]
_KEEP_TAGS = ["latest", "v1.0.0", "pr-1", "release", "sha256-.*[.]sig", "k.*", "1.*", "9", "rel-1.*"]
_GLOBS = ["**", "**", "team/*", "*", "team/app", "**/app", "other/**", "team/**", "t*/a??"]
_USERS = [User("Pod", "team", "a"), User("Deployment", "team", "b"), User("Node", "", "c")]
_WORDS = [f"m{number}" for number in range(9)]
# What the mark `registrycleanup.dev/keep` may say, and whether it keeps at noon of 2026-06-15.
MARKS = {
    None: False,
    "false": False,
    "2026-06-14": False,
    "2026-06-15T11:59:59Z": False,
    "true": True,
    "": True,
    "please": True,
    "2026-06-15": True,
    "9999-12-31": True,
}
# Few of them, so that many are equal.
_DATES = [
    *(ago(days) for days in (0, 1, 9.5, 10, 10.5, 29, 30, 31, 31, 90, 91, 200, 4000)),
    ago(10, microseconds=1),
    NOW + timedelta(minutes=5),
    datetime(2013, 3, 20, tzinfo=UTC),
]
_ODD_DATES = [
    None,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1980, 1, 1, tzinfo=UTC),
    datetime(2013, 3, 19, 23, 59, 59, tzinfo=UTC),
    NOW + timedelta(minutes=5, seconds=1),
]


@dataclass(frozen=True)
class Case:
    """All that a plan is made from.

    Attributes:
        policy: whose rules.
        there: the repository.
        unit: what its registry can delete; always the tag where tags have histories.
        using: what is in use.
        random: for what a test decides itself.
    """

    policy: Policy
    there: Inventory
    unit: DeletionUnit
    using: InUse
    random: Random = field(repr=False)

    def plan(self) -> RepositoryPlan:
        return planned(self.policy, self.there, self.unit, using=self.using)

    def with_policy(self, **changes: Any) -> Case:  # noqa: ANN401 - what dataclasses.replace takes
        return replace(self, policy=replace(self.policy, **changes))

    def with_repository(self, **changes: Any) -> Case:  # noqa: ANN401 - what dataclasses.replace takes
        return replace(self, there=replace(self.there, **changes))


def case(random: Random, *, floor: bool = True, plain: bool = False) -> Case:
    """Return a case; one that is `plain` has no subjects, dangling tags or histories."""
    there = _repository(random, plain=plain)
    unit = DeletionUnit.TAG if there.named_only else random.choice(list(DeletionUnit))
    using = _in_use(random, there) if random.random() < 0.4 else InUse()
    # Every other policy prunes most of what it can, or little would ever follow from anything.
    what = _eager_policy(random, floor=floor) if random.random() < 0.5 else _policy(random, floor=floor)
    return Case(what, there, unit, using, random)


# Seeds rather than strategies for each part: small examples are the dull ones here.
_randoms = st.randoms(use_true_random=True)
cases = _randoms.map(case)
cases_without_floor = _randoms.map(lambda random: case(random, floor=False))
plain_cases = _randoms.map(lambda random: case(random, plain=True))


def some(random: Random, those: Iterable[_T], share: float) -> list[_T]:
    """Return about this share of `those`."""
    return [each for each in those if random.random() < share]


def shuffled(random: Random, those: Iterable[_T]) -> list[_T]:
    """Return `those` in another order."""
    return random.sample(found := list(those), len(found))


def _manifests(random: Random, *, plain: bool) -> dict[str, Manifest]:
    """Return some manifests; an index lists any that came before it, or one that is not there."""
    found: dict[str, Manifest] = {}
    for word in _WORDS[: random.randint(2, len(_WORDS))]:
        kind = random.choice([Format.IMAGE] * 14 + [Format.INDEX] * 9 + [Format.UNKNOWN])
        others = [*found, "absent"]
        listed = random.choices(others, k=random.randint(0, 3)) if kind is Format.INDEX else []
        refers = not plain and kind is not Format.UNKNOWN and random.random() < 0.2
        found[word] = Manifest(
            digest(word),
            kind,
            tuple(digest(child) for child in listed),
            digest(random.choice(others)) if refers else None,
            random.choice(_DATES * 5 + _ODD_DATES),
            digest(f"config of {random.choice(_WORDS[:4])}") if kind is Format.IMAGE else None,
            keep=random.choice(list(MARKS)) if random.random() < 0.08 else None,
        )
    return found


def _repository(random: Random, *, plain: bool) -> Inventory:
    manifests = _manifests(random, plain=plain)
    names = random.sample(random.choice([_WORDY, _VERSIONED, _NUMBERED, TAG_NAMES]), random.randint(0, 11))
    for _ in range(random.choice([0, 1, 2, 4])):
        names.append(referrer_tag(random.choice([*manifests, "absent"]), random.choice(["", ".sig", ".att", ".sbom"])))
    names = shuffled(random, sorted(set(names)))
    alone = dict(zip(names, shuffled(random, manifests.values()), strict=False)) if random.random() < 0.6 else {}
    tags = {name: alone.get(name) or random.choice(list(manifests.values())) for name in names}
    dangling = random.sample(["gone", "pr-99"], random.choice([0, 0, 1])) if not plain else ()
    stream = _what_a_stream_knows(random, names, list(manifests)) if random.random() < 0.3 else {}
    if plain:
        stream.pop("history", None)
        stream.pop("named_only", None)
    return inventory(tags, *manifests.values(), dangling=dangling, **stream)


def _what_a_stream_knows(random: Random, names: list[str], words: list[str]) -> dict[str, Any]:
    """Return pushes, tags that the stream or its spec protects, manages or refers to, and sometimes histories."""
    dates = [date for date in _DATES * 4 + _ODD_DATES if date is not None]
    return {
        "pushed": {name: random.choice(dates) for name in names if random.random() < 0.9},
        **{part: some(random, names, 0.12) for part in ("protected", "managed", "used")},
        **(
            {
                "history": {name: random.choices(words, k=random.randint(1, 2)) for name in some(random, names, 0.2)},
                "named_only": True,
            }
            if random.random() < 0.6
            else {}
        ),
    }


def _in_use(random: Random, there: Inventory) -> InUse:
    known = sorted(there.manifests)
    digests = [*some(random, known, 0.15), digest("absent"), *some(random, [digest("config of m1")], 0.3)]
    tags = [(random.choice([REPOSITORY, REPOSITORY, "other"]), tag) for tag in some(random, sorted(there.tags), 0.1)]
    if random.random() < 0.03:
        tags.append((random.choice([REPOSITORY, "other"]), ALL_TAGS))
    used = some(random, digests, 0.7)
    return InUse(
        frozenset(used),
        frozenset(tags),
        {each: _names(random) for each in some(random, used, 0.15)},
        {each: (_USERS[0], random.choice(_USERS)) for each in some(random, used, 0.7)},
        {each: (random.choice(_USERS),) for each in some(random, tags, 0.7)},
        {each: _names(random) for each in some(random, used, 0.7)},
    )


def _names(random: Random) -> frozenset[str]:
    return frozenset(random.choice([[REPOSITORY], ["other"], [REPOSITORY, "other"], []]))


def _rule(random: Random, name: str) -> Rule:
    days = random.choice([None, 0.5, 10, 30])
    order = random.choice([*[OrderBy.DATE] * 3, OrderBy.SEM_VER, OrderBy.NUMERICAL, OrderBy.ALPHABETICAL])
    extract = "v" if order is not OrderBy.DATE and random.random() < 0.5 else None
    include: Sequence[str] = [*random.sample(TAG_PATTERNS, random.randint(0, 2)), *random.choice([[], [".*"]])]
    narrow = selector(random.choice(_GLOBS), exclude=[random.choice(["x/*", "x/*", "team/app"])])
    return rule(
        *(random.sample(_EXTRACTING, random.randint(1, 2)) if extract else include or [".*"]),
        name=name,
        exclude=random.sample(TAG_PATTERNS[1:], random.choice([0, 0, 0, 1])),
        repositories=random.choice([None, None, None, narrow]),
        days=days,
        most_recent=random.choice([1, 1, 2, 3] if days is None else [None, None, None, 1, 2]),
        include_managed=random.random() < 0.3,
        order_by=order,
        extract=extract,
    )


def _eager_policy(random: Random, *, floor: bool) -> Policy:
    rules = [rule(days=random.choice([0.5, 10]))]
    keep_tags = random.sample(_KEEP_TAGS, random.choice([0, 1]))
    return replace(_policy(random, floor=floor), rules=rules, keep_tags=patterns(*keep_tags))


def _policy(random: Random, *, floor: bool) -> Policy:
    return policy(
        *(_rule(random, f"rule-{number}") for number in range(random.randint(1, 3))),
        keep_tags=random.sample(_KEEP_TAGS, random.choice([0, 1, 2])),
        minimum_tags=random.choice([0, 0, 0, 1, 1, 2, 3, 20]) if floor else 0,
        untagged=random.choice(list(Untagged)),
        grace_hours=random.choice([0, 24]),
        limits=Limits(random.choice([0, 1, 3, 6, 1000]), random.choice([0, 30, 100]), random.choice(list(OnExceeded))),
        approval_required=random.random() < 0.2,
    )
