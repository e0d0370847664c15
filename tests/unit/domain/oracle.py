"""The design's sentences on what stays and what goes, read one after the other, without any thought of speed.

Nothing here is shared with the code that plans: where a sentence is written twice, a mistake has to be made twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import ALL_TAGS, User
from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import RepositoryGlob, Rule, TagPattern, Untagged
from registry_cleanup.domain.reference import Digest
from tests.support.builders import NOW, REPOSITORY
from tests.unit.domain.generated import MARKS, Case

_REASONS = ("OlderThan", "BeyondMostRecent")
_REFERS = {"FollowsParent", "OrphanReferrer"}
# Every version that the generator spells, the least first; those in one row are equal (semver.org, section 11).
_VERSIONS = [
    ["0.9.0"],
    ["1.0.0-alpha"],
    ["1.0.0-alpha.1"],
    ["1.0.0-alpha.beta"],
    ["1.0.0-rc.2"],
    ["1.0.0-rc.11"],
    ["1.0.0", "v1.0.0"],
    ["1.0.1"],
    ["v2.0.0-1"],
    ["10.0.0"],
]


@dataclass
class Reading:
    """What the sentences say.

    Attributes:
        kept: by tag, the reasons of which one is told.
        going: by tag, what may be told of why it goes.
        untagged: manifests that are left without a name.
        gone: manifests that cease to exist.
    """

    kept: dict[str, set[str]]
    going: dict[str, set[str]]
    untagged: set[Digest]
    gone: set[Digest]


def read(case: Case) -> Reading:
    """Return what becomes of the repository of `case`."""
    kept, going = _of_the_rules(case)
    _complete(case, kept, going)
    while going and sum(an_image(case, tag) for tag in kept) < case.policy.minimum_tags:
        # 10: whole digest groups, newest first, unknown dates as newest, then by name.
        groups = [
            [tag for tag in going if case.there.tags[tag] == each] for each in {case.there.tags[t] for t in going}
        ]
        newest = max(max(_dated(case, tag) for tag in group) for group in groups)
        first = min((group for group in groups if max(_dated(case, tag) for tag in group) == newest), key=min)
        for tag in first:
            kept[tag] = {"MinimumTags"}
            del going[tag]
        _complete(case, kept, going)
    waiting = {tag for tag, reasons in kept.items() if tag in referrers(case) and reasons & _REFERS}
    found = _follow(case, kept, going, waiting)
    if not lost(case):
        return found
    # 9: what runs may be any of what would go.
    kept |= {tag: {"InUseUnknown"} for tag in found.going}
    return Reading(kept, {}, set(), set())


def hold(case: Case, before: Reading, held: Collection[str]) -> Reading:
    """Return what is left of a plan if the tags `held` stay after all."""
    following = referrers(case).keys()
    kept = {tag: set(reasons) for tag, reasons in before.kept.items()}
    going = {tag: why for tag, why in before.going.items() if tag not in held and tag not in following}
    kept |= {tag: {"held"} for tag in before.going if tag not in going}
    _complete(case, kept, going)
    return _follow(case, kept, going, {tag for tag in before.going if tag in following and tag not in held})


def listed_below(case: Case, digests: Iterable[Digest]) -> set[Digest]:
    """Return what the given manifests list, nested too."""
    known = [case.there.manifests[each] for each in digests if each in case.there.manifests]
    children = {child for manifest in known for child in manifest.children}
    return children | listed_below(case, children) if children else set()


def used(case: Case) -> set[Digest]:
    """9: what runs, the image whose config it is, and the indexes that list it."""
    found = set(case.using.digests)
    found |= {digest for digest, each in case.there.manifests.items() if each.config in found}
    return found | _indexes_of(case, found)


def in_use(case: Case, tag: str) -> bool:
    """9: by digest, by all digests of a history, by the tag itself, or by what a stream knows."""
    stands_for = {case.there.tags[tag], *case.there.history.get(tag, ())}
    by_name = {(REPOSITORY, tag), (REPOSITORY, ALL_TAGS)} & case.using.tags
    return bool(stands_for & used(case)) or tag in case.there.used or bool(by_name)


def lost(case: Case) -> set[Digest]:
    """9: bare image IDs that run under the repository's name, and that nothing in it is or has as its config."""
    here = {each for each, names in case.using.image_ids.items() if REPOSITORY in names}
    manifests = case.there.manifests
    there = {*manifests, *case.there.tags.values(), *(each.config for each in manifests.values())}
    there |= listed_below(case, manifests) | {each for those in case.there.history.values() for each in those}
    return here - there


def users(case: Case, tag: str) -> set[User]:
    """Return who uses a tag: by name, by digest, by a config, or by what an index lists."""
    using = case.using
    found = {user for name in (tag, ALL_TAGS) for user in using.tag_users.get((REPOSITORY, name), ())}
    stands_for = {case.there.tags[tag], *case.there.history.get(tag, ())}
    for each in stands_for | listed_below(case, stands_for):
        manifest = case.there.manifests.get(each)
        for name in (each, manifest.config if manifest else None):
            found.update(using.digest_users.get(name, ()) if name else ())
    return found


def kept_by_mark(case: Case, tag: str) -> bool:
    """Say whether the stream protects the tag, or a mark on the image (or on one that the index lists) keeps it."""
    marked = {digest for digest, each in case.there.manifests.items() if MARKS[each.keep]}
    return tag in case.there.protected or case.there.tags[tag] in marked | _indexes_of(case, marked)


def an_image(case: Case, tag: str) -> bool:
    """Say whether a tag counts for the floor."""
    return tag not in case.there.dangling and tag not in referrers(case)


def matches(those: Iterable[TagPattern], tag: str) -> bool:
    """Say whether any of the patterns matches the whole tag."""
    return any(re.fullmatch(each.text, tag) for each in those)


def _indexes_of(case: Case, digests: set[Digest]) -> set[Digest]:
    return {each for each in case.there.manifests if listed_below(case, {each}) & digests}


def referrers(case: Case) -> dict[str, Digest]:
    """8: by the OCI API or by the tag schema, with the subject."""
    found: dict[str, Digest] = {}
    for tag, address in case.there.tags.items():
        by_name = re.fullmatch(r"sha256-([0-9a-f]{64})([.](sig|att|sbom))?", tag)
        about = case.there.manifests[address].subject
        if by_name is not None:
            found[tag] = Digest(f"sha256:{by_name[1]}")
        elif about is not None:
            found[tag] = about
    return found


def _of_the_rules(case: Case) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """1 to 5, of 8 that referrers are no rule's business, and of 9 what is in use."""
    tags = case.there.tags
    kept: dict[str, set[str]] = {tag: {"Dangling"} for tag in case.there.dangling}
    owned: dict[str, list[str]] = {each.name: [] for each in case.policy.rules}
    for tag in tags:
        mine = _owner(case, tag)
        reasons = _before_the_rules(case, mine, tag) or (_without_a_place(case, mine, tag) if mine else {"Unmatched"})
        if mine is None or reasons:
            kept[tag] = reasons
        else:
            owned[mine.name].append(tag)
    going: dict[str, set[str]] = {}
    for each in case.policy.rules:
        # 3: an image stands where its best tag stands, one of those that the rule would own but for `keepTags` or a
        # mark among them.
        lending = [tag for tag in tags if kept.get(tag) == {"KeepTags"} and _would_own(case, each, tag)]
        places: dict[Digest, Any] = {}
        for image in {tags[tag] for tag in owned[each.name]}:
            places[image] = max(_place(case, each, t) for t in [*owned[each.name], *lending] if tags[t] == image)
        why = [reason for reason, part in zip(_REASONS, (each.older_than, each.most_recent), strict=True) if part]
        for tag in owned[each.name]:
            better = sum(other > places[tags[tag]] for other in places.values())
            if each.most_recent is not None and better < each.most_recent:
                kept[tag] = {"MostRecent"}
            elif each.older_than is not None and not _date(case, tag) < NOW - each.older_than:
                kept[tag] = {"NotOldEnough"}
            elif in_use(case, tag):
                kept[tag] = {"InUse"}
            else:
                going[tag] = {f"{each.name}: {', '.join(why)}"}
    return kept, going


def _before_the_rules(case: Case, mine: Rule | None, tag: str) -> set[str]:
    """What keeps a tag by its name, by a mark, or as a referrer."""
    if matches(case.policy.keep_tags, tag) or kept_by_mark(case, tag):
        return {"KeepTags"}
    if tag.startswith("sha256-"):
        return {"InUse"} if in_use(case, tag) else _REFERS
    if mine is None:
        return {"Unmatched"}
    if matches(mine.exclude, tag):
        return {"Excluded"}
    if tag in referrers(case):
        return {"InUse"} if in_use(case, tag) else _REFERS
    return set()


def _without_a_place(case: Case, mine: Rule, tag: str) -> set[str]:
    """4, and what nobody understands: kept, and without a place among the most recent."""
    if case.there.manifests[case.there.tags[tag]].format is Format.UNKNOWN:
        return {"UnknownFormat"}
    if tag in case.there.managed and not mine.include_managed:
        return {"ManagedBySpec"}
    if (mine.older_than is not None or mine.order_by is OrderBy.DATE) and not _believed(_recorded(case, tag)):
        return {"UnknownDate"}
    return {"UnparsableVersion"} if _place(case, mine, tag) is None else set()


def _owner(case: Case, tag: str) -> Rule | None:
    """1: the first rule whose repositories and `tags.include` match."""
    return next((each for each in case.policy.rules if _has_a_say(each) and matches(each.include, tag)), None)


def _would_own(case: Case, rule: Rule, tag: str) -> bool:
    if tag.startswith("sha256-") or _owner(case, tag) is not rule or matches(rule.exclude, tag):
        return False
    return tag not in referrers(case) and not _without_a_place(case, rule, tag)


def _place(case: Case, rule: Rule, tag: str) -> Any:  # noqa: ANN401 - a date, a number or words, of one rule only
    """Return where a tag stands; the greater the more recent; None for what is no version."""
    if rule.order_by is OrderBy.DATE:
        return _date(case, tag)
    text: str | None = tag
    if rule.extract is not None:
        first = next(found for each in rule.include if (found := re.fullmatch(each.text, tag)))
        text = first.group(rule.extract)
    if text is None:
        return None
    if rule.order_by is OrderBy.ALPHABETICAL:
        return [ord(character) for character in text]
    if rule.order_by is OrderBy.NUMERICAL:
        return Fraction(text) if all(part.isdecimal() for part in text.split(".", 1)) else None
    return next((row for row, equal in enumerate(_VERSIONS) if text in equal), None)


def _complete(case: Case, kept: dict[str, set[str]], going: dict[str, set[str]]) -> None:
    """6 and 7, until nothing changes."""
    while case.unit is DeletionUnit.DIGEST:
        stand = {case.there.tags[tag] for tag in kept if tag in case.there.tags}
        listed = listed_below(case, stand | used(case))
        found: dict[str, set[str]] = {}
        for tag in going:
            if case.there.tags[tag] in stand:
                found.setdefault(tag, set()).add("SharedDigest")
            if case.there.tags[tag] in listed:
                found.setdefault(tag, set()).add("FollowsParent")
        if not found:
            return
        kept.update(found)
        for tag in found:
            del going[tag]


def _follow(case: Case, kept: dict[str, set[str]], going: dict[str, set[str]], waiting: set[str]) -> Reading:
    """8: referrers go after their subject, as far as nothing that stays needs them, until nothing changes."""
    subjects = referrers(case)
    while True:
        untagged, gone = _what_is_left(case, kept, going)
        leaving = {tag for tag in waiting & kept.keys() if subjects[tag] in gone}
        while case.unit is DeletionUnit.DIGEST:
            needed = _stays(case, kept.keys() - leaving)
            staying = {tag for tag in leaving if case.there.tags[tag] in needed}
            if not staying:
                break
            leaving -= staying
        if not leaving:
            return Reading(kept, going, untagged, gone)
        reasons = {tag: _reasons_of(case, subjects[tag], going) for tag in leaving}
        for tag in leaving:
            del kept[tag]
            going[tag] = reasons[tag]


def _reasons_of(case: Case, subject: Digest, going: dict[str, set[str]]) -> set[str]:
    """Return the reasons of whatever goes and is the subject, or lists it."""
    those = [t for t in going if subject in {case.there.tags[t], *listed_below(case, {case.there.tags[t]})}]
    return {why for tag in those for why in going[tag]}


def _what_is_left(case: Case, kept: Collection[str], going: Collection[str]) -> tuple[set[Digest], set[Digest]]:
    """Return the manifests that are left without a name, and those that cease to exist."""
    named = {case.there.tags[tag] for tag in going}
    stays = _stays(case, kept)
    free = (named - stays) | listed_below(case, named - stays)
    # Only what no kept, used or known index lists.
    free -= stays | listed_below(case, case.there.manifests.keys() - free)
    if case.unit is DeletionUnit.DIGEST:
        untagged = free - named
        return untagged, named | (untagged if case.policy.untagged is Untagged.DELETE else set())
    return free, free if case.policy.untagged is Untagged.DELETE or case.there.named_only else set()


def _stays(case: Case, kept: Iterable[str]) -> set[Digest]:
    """Return what kept tags name, now and before, what is in use, and what all those list."""
    kept = [tag for tag in kept if tag in case.there.tags]
    stand = used(case) | {case.there.tags[tag] for tag in kept}
    for tag in kept:
        stand |= set(case.there.history.get(tag, ()))
    return stand | listed_below(case, stand)


def _recorded(case: Case, tag: str) -> datetime | None:
    return case.there.pushed.get(tag, case.there.manifests[case.there.tags[tag]].created)


def _date(case: Case, tag: str) -> datetime:
    date = _recorded(case, tag)
    assert date is not None
    return date


def _dated(case: Case, tag: str) -> datetime:
    """Return the date for the floor: unknown ones, and those that the tag's rule does not read, are the newest."""
    mine, date = _owner(case, tag), _recorded(case, tag)
    assert mine is not None
    if mine.older_than is None and mine.order_by is not OrderBy.DATE:
        date = case.there.pushed.get(tag)
    return date if date is not None and _believed(date) else datetime.max.replace(tzinfo=UTC)


def _believed(date: datetime | None) -> bool:
    return date is not None and datetime(2013, 3, 20, tzinfo=UTC) <= date <= NOW + timedelta(minutes=5)


def _has_a_say(each: Rule) -> bool:
    chosen = each.repositories
    if chosen is None:
        return True
    return any(map(_glob, chosen.include)) and not any(map(_glob, chosen.exclude))


def _glob(glob: RepositoryGlob) -> bool:
    """Say whether `glob` matches the repository of all these tests, by trying every way to read it."""

    def matching(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern.startswith("**/") and matching(pattern[3:], text):
            return True
        if pattern.startswith("**"):
            return any(matching(pattern[2:], text[start:]) for start in range(len(text) + 1))
        if pattern.startswith("*"):
            longest = len(text.partition("/")[0])
            return any(matching(pattern[1:], text[start:]) for start in range(longest + 1))
        if not text or (pattern[0] != text[0] and (pattern[0] != "?" or text[0] == "/")):
            return False
        return matching(pattern[1:], text[1:])

    return matching(glob.text, REPOSITORY)
