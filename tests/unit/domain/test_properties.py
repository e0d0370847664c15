"""Whatever a repository holds and a policy says: the planner against a naive reading of the design's sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.plan import plan_hash
from registry_cleanup.domain.policy import Policy, RepositoryGlob, Rule, TagPattern
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.rules import needs
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
    digest,
    image,
    inventory,
    patterns,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    selector,
    told,
)

# The same examples each time: a failure is a change of the code, not of the day.
_many = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

_TAG_NAMES = ["latest", "main", "v1", "v2", "v10", "pr-1", "pr-2", "pr-3", "pr-10", "keep-1", "release", "a", "b", "c"]
_TAG_PATTERNS = [".*", "pr-.*", "v.*", "v1", "pr-[0-9]", "a|b", "[a-c]", "keep-.*", "none", "(?i)LATEST", "sha256-.*"]
_KEEP_TAGS = ["latest", "v1", "pr-1", "release", "sha256-.*[.]sig", "k.*"]
_GLOBS = ["**", "**", "team/*", "*", "team/app", "**/app", "other/**", "team/**", "t*/a??"]
_WORDS = [f"m{number}" for number in range(8)]
# Few of them, so that many are equal.
_DATES = [
    *(ago(days) for days in (0, 1, 9.5, 10, 10.5, 29, 30, 31, 31, 90, 4000)),
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


def _manifests(random: Random, *, whole: bool) -> dict[str, Manifest]:
    """Return some manifests; an index lists any that came before it, or one that is not there."""
    found: dict[str, Manifest] = {}
    for word in _WORDS[: random.randint(2, len(_WORDS))]:
        kind = random.choice([Format.IMAGE] * 8 + [Format.INDEX] * 7 + [Format.UNKNOWN])
        others = [*found, "absent"]
        listed = random.choices(others, k=random.randint(0, 3)) if kind is Format.INDEX else []
        subject = digest(random.choice(others)) if whole and random.random() < 0.1 else None
        created = random.choice(_DATES * 4 + _ODD_DATES)
        found[word] = Manifest(digest(word), kind, tuple(digest(child) for child in listed), subject, created)
    return found


def _repository(random: Random, *, whole: bool = True) -> Inventory:
    """Return a repository of which everything is known; not `whole` is one without subjects and dangling tags."""
    manifests = _manifests(random, whole=whole)
    names = random.sample(_TAG_NAMES, random.randint(0, len(_TAG_NAMES)))
    for _ in range(random.choice([0, 0, 1, 2])):
        names.append(referrer_tag(random.choice([*manifests, "absent"]), random.choice(["", ".sig", ".att", ".sbom"])))
    random.shuffle(names)
    tags = {name: random.choice(list(manifests.values())) for name in names}
    dangling = random.sample(["gone", "pr-99"], random.choice([0, 0, 1])) if whole else ()
    stream = _what_a_stream_knows(random, names) if whole and random.random() < 0.4 else {}
    return inventory(tags, *manifests.values(), dangling=dangling, **stream)


def _what_a_stream_knows(random: Random, names: list[str]) -> dict[str, Any]:
    """Return some pushes, and tags that the stream or its spec protects, manages or refers to."""
    dates = [date for date in _DATES * 4 + _ODD_DATES if date is not None]
    return {
        "pushed": {name: random.choice(dates) for name in names if random.random() < 0.9},
        **{part: [name for name in names if random.random() < 0.15] for part in ("protected", "managed", "used")},
    }


def _rule(random: Random, name: str) -> Rule:
    days = random.choice([None, 0.5, 10, 30])
    narrow = selector(random.choice(_GLOBS), exclude=[random.choice(["x/*", "x/*", "team/app"])])
    return rule(
        *random.sample(_TAG_PATTERNS, random.randint(1, 2)),
        *random.choice([(), (".*",)]),
        name=name,
        exclude=random.sample(_TAG_PATTERNS[1:], random.choice([0, 0, 1])),
        repositories=random.choice([None, None, narrow]),
        days=days,
        most_recent=random.choice([1, 2, 3] if days is None else [None, None, 1, 2, 3]),
        include_managed=random.random() < 0.3,
    )


def _policy(random: Random, *, floor: bool = True) -> Policy:
    rules = [_rule(random, f"rule-{number}") for number in range(random.randint(1, 3))]
    keep_tags = random.sample(
        ["latest", "v1", "pr-1", "release", "sha256-.*[.]sig", "k.*"], random.choice([0, 1, 1, 2])
    )
    return policy(*rules, keep_tags=keep_tags, minimum_tags=random.choice([0, 1, 1, 2, 3, 5, 20]) if floor else 0)


# Seeds rather than strategies for each part: small examples are the dull ones here.
_randoms = st.randoms(use_true_random=True)
_policies = _randoms.map(_policy)
_policies_without_floor = _randoms.map(partial(_policy, floor=False))
_repositories = _randoms.map(_repository)
_plain_repositories = _randoms.map(partial(_repository, whole=False))
_units = st.sampled_from(DeletionUnit)


_REASONS = ("OlderThan", "BeyondMostRecent")

# The design's sentences, one after the other, without any thought of speed.


@dataclass
class _Reading:
    """What the sentences say of each tag: kept for one of these reasons, or going for this one."""

    kept: dict[str, set[str]]
    going: dict[str, str]


def _naive(what: Policy, there: Inventory, unit: DeletionUnit) -> _Reading:
    kept, going = _of_the_rules(what, there)
    _complete(there, unit, kept, going)
    while going and sum(_an_image(tag, there) for tag in kept) < what.minimum_tags:
        # 10: whole digest groups, newest first, then by name.
        newest = max(_date(tag, there) for tag in going)
        first = min(tag for tag in going if _date(tag, there) == newest)
        for tag in [tag for tag in going if there.tags[tag] == there.tags[first]]:
            kept[tag] = {"MinimumTags"}
            del going[tag]
        _complete(there, unit, kept, going)
    return _Reading(kept, going)


def _of_the_rules(what: Policy, there: Inventory) -> tuple[dict[str, set[str]], dict[str, str]]:
    """1 to 5, and of 8 that referrers are no rule's business."""
    kept: dict[str, set[str]] = {tag: {"Dangling"} for tag in there.dangling}
    owned: dict[str, list[str]] = {each.name: [] for each in what.rules}
    for tag, address in there.tags.items():
        mine = next((each for each in what.rules if _has_a_say(each) and _any(each.include, tag)), None)
        reasons = (
            ({"KeepTags"} if tag in there.protected else set())
            or _by_name(what, mine, tag)
            or _by_facts(there.manifests[address], tag, there, managed=mine is not None and mine.include_managed)
        )
        if mine is None or reasons:
            kept[tag] = reasons
        else:
            owned[mine.name].append(tag)
    going: dict[str, str] = {}
    for each in what.rules:
        images: dict[Digest, datetime] = {}
        for tag in owned[each.name]:
            # 3: an image stands where its best tag stands.
            images[there.tags[tag]] = max(_date(tag, there), images.get(there.tags[tag], _date(tag, there)))
        why = [reason for reason, part in zip(_REASONS, (each.older_than, each.most_recent), strict=True) if part]
        for tag in owned[each.name]:
            date = _date(tag, there)
            newer = sum(other > images[there.tags[tag]] for other in images.values())
            if each.most_recent is not None and newer < each.most_recent:
                kept[tag] = {"MostRecent"}
            elif each.older_than is not None and not date < NOW - each.older_than:
                kept[tag] = {"NotOldEnough"}
            elif tag in there.used:
                kept[tag] = {"InUse"}
            else:
                going[tag] = f"{each.name}: {', '.join(why)}"
    return kept, going


def _by_name(what: Policy, mine: Rule | None, tag: str) -> set[str]:
    if _any(what.keep_tags, tag):
        return {"KeepTags"}
    if re.fullmatch(r"sha256-[0-9a-f]{64}([.](sig|att|sbom))?", tag):
        return {"FollowsParent", "OrphanReferrer"}
    if mine is None:
        return {"Unmatched"}
    return {"Excluded"} if _any(mine.exclude, tag) else set()


def _by_facts(manifest: Manifest, tag: str, there: Inventory, *, managed: bool) -> set[str]:
    if manifest.format is Format.UNKNOWN:
        return {"UnknownFormat"}
    if manifest.subject is not None:
        return {"FollowsParent", "OrphanReferrer"}
    if tag in there.managed and not managed:
        return {"ManagedBySpec"}
    return set() if _believed(there.pushed.get(tag, manifest.created)) else {"UnknownDate"}


def _complete(there: Inventory, unit: DeletionUnit, kept: dict[str, set[str]], going: dict[str, str]) -> None:
    """6 and 7, until nothing changes."""
    if unit is DeletionUnit.TAG:
        return
    while True:
        stand = {there.tags[tag] for tag in kept if tag in there.tags}
        listed = _listed_below(stand, there)
        found: dict[str, set[str]] = {}
        for tag in going:
            if there.tags[tag] in stand:
                found.setdefault(tag, set()).add("SharedDigest")
            if there.tags[tag] in listed:
                found.setdefault(tag, set()).add("FollowsParent")
        if not found:
            return
        kept.update(found)
        for tag in found:
            del going[tag]


def _listed_below(digests: set[Digest], there: Inventory) -> set[Digest]:
    known = [there.manifests[each] for each in digests if each in there.manifests]
    children = {child for manifest in known for child in manifest.children}
    return children | _listed_below(children, there) if children else set()


def _an_image(tag: str, there: Inventory) -> bool:
    return (
        tag not in there.dangling and not tag.startswith("sha256-") and there.manifests[there.tags[tag]].subject is None
    )


def _date(tag: str, there: Inventory) -> datetime:
    date = there.pushed.get(tag, there.manifests[there.tags[tag]].created)
    assert date is not None
    return date


def _believed(created: datetime | None) -> bool:
    return created is not None and datetime(2013, 3, 20, tzinfo=UTC) <= created <= NOW + timedelta(minutes=5)


def _any(those: Iterable[TagPattern], tag: str) -> bool:
    return any(re.fullmatch(each.text, tag) for each in those)


def _has_a_say(each: Rule) -> bool:
    chosen = each.repositories
    if chosen is None:
        return True
    return any(map(_glob, chosen.include)) and not any(map(_glob, chosen.exclude))


def _glob(glob: RepositoryGlob) -> bool:
    """Say whether `glob` matches the repository of all these tests, by trying every way to read it."""

    def matches(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern.startswith("**/") and matches(pattern[3:], text):
            return True
        if pattern.startswith("**"):
            return any(matches(pattern[2:], text[start:]) for start in range(len(text) + 1))
        if pattern.startswith("*"):
            longest = len(text.partition("/")[0])
            return any(matches(pattern[1:], text[start:]) for start in range(longest + 1))
        if not text or (pattern[0] != text[0] and (pattern[0] != "?" or text[0] == "/")):
            return False
        return matches(pattern[1:], text[1:])

    return matches(glob.text, REPOSITORY)


# The comparison, and what must hold without any reading


@_many
@given(_policies, _repositories, _units)
def test_every_verdict_is_what_a_naive_reading_of_the_design_says(
    what: Policy, there: Inventory, unit: DeletionUnit
) -> None:
    plan = planned(what, there, unit)
    expected = _naive(what, there, unit)
    assert pruned(plan) == set(expected.going)
    verdicts = told(plan.verdicts)
    assert verdicts.keys() == expected.kept.keys() | expected.going.keys()
    assert {tag: verdicts[tag] for tag in expected.going} == expected.going
    for tag, reasons in expected.kept.items():
        assert verdicts[tag] in reasons, tag
    for reason in set(verdicts.values()):
        event(reason.partition(": ")[2] or reason)


@_many
@given(_policies, _repositories)
def test_no_tag_goes_from_a_digest_that_keeps_another(what: Policy, there: Inventory) -> None:
    going = pruned(planned(what, there, DeletionUnit.DIGEST))
    stays = {address for tag, address in there.tags.items() if tag not in going}
    assert not stays & {there.tags[tag] for tag in going}


@_many
@given(_policies, _repositories)
def test_no_kept_index_misses_a_manifest_that_it_lists(what: Policy, there: Inventory) -> None:
    going = pruned(planned(what, there, DeletionUnit.DIGEST))
    stays = {address for tag, address in there.tags.items() if tag not in going}
    assert not _listed_below(stays, there) & {there.tags[tag] for tag in going}


@_many
@given(_policies, _repositories, _units)
def test_at_least_the_floor_stays_where_there_is_so_much(what: Policy, there: Inventory, unit: DeletionUnit) -> None:
    going = pruned(planned(what, there, unit))
    images = [tag for tag in there.tags if _an_image(tag, there)]
    assert sum(tag not in going for tag in images) >= min(what.minimum_tags, len(images))


@_many
@given(_policies_without_floor, _repositories, _units, st.sampled_from([*_TAG_PATTERNS, *_TAG_NAMES]))
def test_another_pattern_in_keep_tags_never_prunes_more(
    what: Policy, there: Inventory, unit: DeletionUnit, pattern: str
) -> None:
    there = replace(there, pushed={})
    more = replace(what, keep_tags=[*what.keep_tags, *patterns(pattern)])
    assert pruned(planned(more, there, unit)) <= pruned(planned(what, there, unit))


def test_a_kept_tag_may_have_held_its_image_among_the_most_recent_by_its_later_push() -> None:
    # Why the property above holds for dates of images only: an image stands where the best tag that the rule owns
    # stands. The image itself stays, by the tag that `keepTags` names.
    same = image("same")
    there = inventory(
        {"early": same, "late": same, "middle": image("middle")}, pushed={"early": 90, "late": 10, "middle": 50}
    )
    what = policy(rule(most_recent=1))
    assert pruned(planned(what, there, DeletionUnit.TAG)) == {"middle"}
    kept = replace(what, keep_tags=patterns("late"))
    assert pruned(planned(kept, there, DeletionUnit.TAG)) == {"early"}
    assert pruned(planned(kept, there, DeletionUnit.DIGEST)) == set()


def test_a_kept_tag_may_take_the_place_on_the_floor_that_a_newer_one_had() -> None:
    # Why the property above holds without a floor only: `keepTags` counts for it, as the design has it.
    there = inventory({"old": image("old", 90), "new-1": image("new", 40), "new-2": image("new", 40)})
    what = policy(rule(days=30), minimum_tags=1)
    assert pruned(planned(what, there)) == {"old"}
    assert pruned(planned(replace(what, keep_tags=patterns("old")), there)) == {"new-1", "new-2"}


@_many
@given(_policies, _repositories, _units, _randoms)
def test_the_plan_does_not_depend_on_any_order(
    what: Policy, there: Inventory, unit: DeletionUnit, random: Random
) -> None:
    tags, manifests = list(there.tags.items()), list(there.manifests.items())
    random.shuffle(tags)
    random.shuffle(manifests)
    other = planned(what, replace(there, tags=dict(tags), manifests=dict(manifests)), unit)
    first = planned(what, there, unit)
    assert (other.verdicts, other.groups) == (first.verdicts, first.groups)
    assert plan_hash(what, [other]) == plan_hash(what, [first])


@_many
@given(_policies, _repositories, _units)
def test_planning_a_pruned_repository_again_prunes_nothing(what: Policy, there: Inventory, unit: DeletionUnit) -> None:
    going = pruned(planned(what, there, unit))
    left = replace(there, tags={tag: address for tag, address in there.tags.items() if tag not in going})
    assert pruned(planned(what, left, unit)) == set()


@_many
@given(_policies, _repositories, _units)
def test_indexes_go_before_what_they_list_and_each_tag_once(what: Policy, there: Inventory, unit: DeletionUnit) -> None:
    plan = planned(what, there, unit)
    place = {group.digest: number for number, group in enumerate(plan.groups)}
    for address, number in place.items():
        assert all(place.get(child, number + 1) > number for child in _listed_below({address}, there))
    assert len(pruned(plan)) == plan.planned
    assert plan.planned + plan.kept_by_reason().total() == there.size


@_many
@given(_policies, _plain_repositories, _units)
def test_what_the_rules_asked_for_is_all_that_the_plan_needed(
    what: Policy, there: Inventory, unit: DeletionUnit
) -> None:
    asked = needs(what, REPOSITORY, list(there.tags), unit)
    known = {tag: address for tag, address in there.tags.items() if tag in asked.dated | asked.resolved}
    dated = {there.tags[tag] for tag in asked.dated}
    read = set(known.values()) | _listed_below(set(known.values()), there)
    gathered = Inventory(
        REPOSITORY,
        known,
        frozenset(there.tags) - asked.dated - asked.resolved,
        manifests={
            address: manifest if address in dated else replace(manifest, created=None)
            for address, manifest in there.manifests.items()
            if address in dated or (address in read and manifest.format is Format.INDEX)
        },
    )
    assert planned(what, gathered, unit).groups == planned(what, there, unit).groups
