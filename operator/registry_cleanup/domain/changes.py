"""What could change in a situation, each as a clause of "it goes if …"."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, product

from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import Owners
from registry_cleanup.domain.policy import Policy, Rule, TagPattern, Untagged
from registry_cleanup.domain.reference import Digest, is_tag
from registry_cleanup.domain.rules import version_of
from registry_cleanup.domain.situation import Situation
from registry_cleanup.domain.usage import without_use

_NUMBER = re.compile(r"[0-9]+")
# So many names are thought of in each way; a number that is longer than any build's is part of a hash.
_STEPS = 500
_LONGEST = 16
_UNITS = [timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)]


class Kind(StrEnum):
    """What it is that changes."""

    TIME = "Time"  # nothing but time passes
    NEWER_IMAGES = "NewerImages"  # images are pushed
    UNTAGGED = "Untagged"  # somebody removes other tags
    NOT_USED = "NotUsed"  # nobody uses it any more
    USED = "Used"  # somebody uses it
    MARK = "Mark"  # a mark on its image, or on the tag of an image stream, goes
    RIVAL = "Rival"  # another policy gives the repository up
    POLICY = "Policy"  # a field of the policy
    SETTING = "Setting"  # a setting of the operator


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that could change.

    Attributes:
        kind: what it is.
        text: as a clause, such as `3 newer images are there`.
        apply: makes it so.
        field: of the policy, or the setting, that is written otherwise.
        value: that the field has then; of a list, the entry that comes or goes.
        removes: whether `value` is taken out of the list `field`.
        tags: that come, go or are used.
        at: when it is so by itself.
    """

    kind: Kind
    text: str
    apply: Callable[[Situation], Situation] = field(repr=False, compare=False)
    field: str | None = None
    value: str | int | bool | None = None
    removes: bool = False
    tags: tuple[str, ...] = ()
    at: datetime | None = None


def time_passes(tag: str, age: timedelta | None, date: datetime) -> Change:
    """Wait until `tag`, which is of `date`, is older than `age`, or until that date has come."""
    at = (date + (age or timedelta(0))).replace(microsecond=0) + timedelta(seconds=1)
    what = "has a date that has come" if age is None else f"is older than {duration_text(age)}"
    text = f"{tag} {what}, as it is from {_instant(at)} on"
    return Change(Kind.TIME, text, lambda was: replace(was, now=max(was.now, at)), tags=(tag,), at=at)


def older_than(policy: Policy, rule: Rule, age: timedelta) -> Change:
    """Let `rule` have another `olderThan`."""
    path = f"{_path(policy, rule)}.olderThan"
    apply = _with_rule(rule, lambda each: replace(each, older_than=age))
    return Change(Kind.POLICY, f"{path} is {duration_text(age)}", apply, path, duration_text(age))


def most_recent(policy: Policy, rule: Rule, number: int | None) -> Change:
    """Let `rule` keep another number of images, or any."""
    path = f"{_path(policy, rule)}.keep.mostRecent"
    text = f"{path} is {number}" if number is not None else f"rule {rule.name} has no keep.mostRecent"
    apply = _with_rule(rule, lambda each: replace(each, most_recent=number))
    return Change(Kind.POLICY, text, apply, path, number, removes=number is None)


def minimum_tags(number: int) -> Change:
    """Let another number of tags stay in each repository."""
    path = "spec.minTagsPerRepository"

    def apply(was: Situation) -> Situation:
        return replace(was, policy=replace(was.policy, minimum_tags=number))

    return Change(Kind.POLICY, f"{path} is {number}", apply, path, number)


def include_managed(policy: Policy, rule: Rule) -> Change:
    """Let `rule` prune what an image stream's spec brings."""
    path = f"{_path(policy, rule)}.includeManaged"
    apply = _with_rule(rule, lambda each: replace(each, include_managed=True))
    return Change(Kind.POLICY, f"{path} is true", apply, path, value=True)


def order_by_date(policy: Policy, rule: Rule) -> Change:
    """Let `rule` count by date."""
    path = f"{_path(policy, rule)}.orderBy"
    apply = _with_rule(rule, lambda each: replace(each, order_by=OrderBy.DATE, extract=None))
    return Change(Kind.POLICY, f"{path} is {OrderBy.DATE.value}", apply, path, OrderBy.DATE.value)


def untagged_deleted() -> Change:
    """Let manifests go that are left without a name."""
    path = "spec.untagged"

    def apply(was: Situation) -> Situation:
        return replace(was, policy=replace(was.policy, untagged=Untagged.DELETE))

    return Change(Kind.POLICY, f"{path} is {Untagged.DELETE.value}", apply, path, Untagged.DELETE.value)


def included(policy: Policy, rule: Rule, tag: str) -> Change:
    """Let `rule` own `tag`."""
    path, text = f"{_path(policy, rule)}.tags.include", exactly(tag)
    apply = _with_rule(rule, lambda each: replace(each, include=(*each.include, TagPattern(text))))
    return Change(Kind.POLICY, f"{path} has '{text}'", apply, path, text)


def no_longer_excluded(policy: Policy, rule: Rule, text: str) -> Change:
    """Take the pattern `text` out of what `rule` excludes."""
    path = f"{_path(policy, rule)}.tags.exclude"
    apply = _with_rule(rule, lambda each: replace(each, exclude=_without(each.exclude, text)))
    return Change(Kind.POLICY, f"{path} has no '{text}'", apply, path, text, removes=True)


def kept_by_name(tag: str) -> Change:
    """Add `tag` to `keepTags`."""
    path, text = "spec.keepTags", exactly(tag)

    def apply(was: Situation) -> Situation:
        return replace(was, policy=replace(was.policy, keep_tags=(*was.policy.keep_tags, TagPattern(text))))

    return Change(Kind.POLICY, f"'{text}' is added to {path}", apply, path, text)


def no_longer_kept_by_name(text: str, *, latest: bool) -> Change:
    """Take the pattern `text` out of `keepTags`; `latest` stands there by itself."""

    def apply(was: Situation) -> Situation:
        return replace(was, policy=replace(was.policy, keep_tags=_without(was.policy.keep_tags, text)))

    if latest:
        return Change(
            Kind.POLICY,
            "spec.pruneLatest is true and spec.keepTags does not name it",
            apply,
            "spec.pruneLatest",
            value=True,
        )
    return Change(Kind.POLICY, f"spec.keepTags has no '{text}'", apply, "spec.keepTags", text, removes=True)


def setting_without(setting: str, repository: str, tag: str) -> Change:
    """Let the administrator of the operator no longer protect `tag`."""

    def apply(was: Situation) -> Situation:
        globs = tuple(glob for glob in was.policy.protected_repositories if not glob.matches(repository))
        tags = tuple(pattern for pattern in was.policy.protected_tags if not pattern.matches(tag))
        if setting.endswith("REPOSITORIES"):
            return replace(was, policy=replace(was.policy, protected_repositories=globs))
        return replace(was, policy=replace(was.policy, protected_tags=tags))

    text = f"the operator's administrator takes what matches it out of {setting}"
    return Change(Kind.SETTING, text, apply, setting, removes=True)


def without_rival(namespace: str, name: str, repository: str) -> Change:
    """Let the policy `namespace`/`name` give the repository up."""

    def apply(was: Situation) -> Situation:
        left = tuple(each for each in was.rivals if (each.namespace, each.name) != (namespace, name))
        return replace(was, rivals=left)

    return Change(Kind.RIVAL, f"policy {namespace}/{name} selects {repository} no longer, or is suspended", apply)


def untag(tags: Sequence[str], why: str) -> Change:
    """Remove other tags by hand."""

    def apply(was: Situation) -> Situation:
        return replace(was, inventory=without_tags(was.inventory, tags))

    return Change(
        Kind.UNTAGGED, f"{_names(tags)} {'is' if len(tags) == 1 else 'are'} untagged, too{why}", apply, tags=tuple(tags)
    )


def not_used(tag: str, users: Iterable[object], *, by_name: bool) -> Change:
    """Let nobody use `tag` any more; `by_name` says whether all of the `users` name it, and not only its image."""
    who = [str(user) for user in users]
    if who:
        what = tag if by_name else f"the image of {tag}"
        text = f"{_names(who, 3)} no longer {'uses' if len(who) == 1 else 'use'} {what}"
    else:
        text = f"nothing uses {tag} or refers to it"

    def apply(was: Situation) -> Situation:
        there, use = without_use(was.inventory, was.in_use, tag)
        return replace(was, inventory=there, in_use=use)

    return Change(Kind.NOT_USED, text, apply, tags=(tag,))


def used(tag: str) -> Change:
    """Let something use `tag`."""

    def apply(was: Situation) -> Situation:
        names = was.in_use.tags | {(was.inventory.repository, tag)}
        return replace(was, in_use=replace(was.in_use, tags=names))

    return Change(Kind.USED, "a workload of the cluster uses it", apply, tags=(tag,))


def digests_not_used(digests: frozenset[Digest], what: str) -> Change:
    """Let nobody use these images any more."""

    def apply(was: Situation) -> Situation:
        ids = {digest: where for digest, where in was.in_use.image_ids.items() if digest not in digests}
        return replace(was, in_use=replace(was.in_use, digests=was.in_use.digests - digests, image_ids=ids))

    return Change(Kind.NOT_USED, f"nothing uses {what}", apply)


def mark_removed(tag: str, digests: Iterable[Digest]) -> Change:
    """Let `tag`, and the images `digests`, bear no mark that keeps them."""
    marked = tuple(digests)

    def apply(was: Situation) -> Situation:
        there = was.inventory
        facts = {d: replace(m, keep=None) if d in marked else m for d, m in there.manifests.items()}
        return replace(was, inventory=replace(there, manifests=facts, protected=there.protected - {tag}))

    what = "its image" if marked else "its image stream"
    return Change(Kind.MARK, f"{what} does not bear the mark registrycleanup.dev/keep", apply, tags=(tag,))


def newer_images(situation: Situation, rule: Rule, tag: str, number: int) -> Change | None:
    """Let `number` images be pushed that `rule` places before `tag`; None where no name for them comes to mind."""
    names = tuple(islice(_newer_names(situation, rule, tag), number))
    if len(names) < number:
        return None

    def apply(was: Situation) -> Situation:
        there = was.inventory
        made = {name: Manifest(_made_up(name), Format.IMAGE, created=was.now) for name in names}
        facts = {**there.manifests, **{manifest.digest: manifest for manifest in made.values()}}
        pushed = {**there.pushed, **dict.fromkeys(names, was.now)} if there.pushed else there.pushed
        tags = {**there.tags, **{name: manifest.digest for name, manifest in made.items()}}
        return replace(was, inventory=replace(there, tags=tags, manifests=facts, pushed=pushed))

    what = "1 newer image is" if number == 1 else f"{number} newer images are"
    text = f"{what} there with tags of rule {rule.name} ({_names(names, 2)}, for example)"
    return Change(Kind.NEWER_IMAGES, text, apply, tags=names)


def exactly(tag: str) -> str:
    """Return the pattern that matches `tag` and nothing else; of what tags are made of, the dot alone means more."""
    return tag.replace(".", "[.]")


def shorter(age: timedelta) -> timedelta | None:
    """Return the longest time in whole days, hours, minutes or seconds that is shorter than `age`."""
    for unit in _UNITS:
        whole = (age // unit) * unit
        if whole == age:
            whole -= unit
        if whole > timedelta(0):
            return whole
    return None


def longer(age: timedelta) -> timedelta:
    """Return a time in whole days, or in whole hours if that is less than a day, that is longer than `age`."""
    unit = _UNITS[0] if age >= _UNITS[0] else _UNITS[1]
    return (age // unit + 1) * unit


def without_tags(there: Inventory, tags: Iterable[str]) -> Inventory:
    """Return the repository as it was if these tags were not there."""
    gone = frozenset(tags)
    return replace(
        there,
        tags={tag: digest for tag, digest in there.tags.items() if tag not in gone},
        unresolved=there.unresolved - gone,
        dangling=there.dangling - gone,
        undated=there.undated - gone,
        history={tag: digests for tag, digests in there.history.items() if tag not in gone},
        pushed={tag: when for tag, when in there.pushed.items() if tag not in gone},
    )


def _newer_names(situation: Situation, rule: Rule, tag: str) -> Iterator[str]:
    """Yield names that `rule` would own, not taken yet, and by version, if it orders by one, after `tag`."""
    there = situation.inventory
    owners = Owners(situation.effective, there.repository)
    own = None if rule.order_by is OrderBy.DATE else version_of(rule, tag)
    seen = {*there.tags, *there.unresolved, *there.dangling}
    for name in _like(tag, tuple(seen)):
        if name in seen or not is_tag(name):
            continue
        seen.add(name)
        owner = owners.of(name)
        if owner.kept is None and owner.rule is not None and owner.rule.name == rule.name:
            version = None if own is None else version_of(rule, name)
            if own is None or (version is not None and version > own):  # type: ignore[operator]  # of one order
                yield name


def _like(tag: str, taken: Iterable[str]) -> Iterator[str]:
    """Yield names like `tag`: each of its numbers counted up past those that are taken, or more behind its end."""
    for number in reversed(list(_NUMBER.finditer(tag))):
        before, after = tag[: number.start()], tag[number.end() :]
        last = int(number[0])
        for name in taken:
            middle = name[len(before) : len(name) - len(after)]
            if name.startswith(before) and name.endswith(after) and middle.isdecimal() and len(middle) < _LONGEST:
                last = max(last, int(middle))
        for step in range(1, _STEPS):
            yield f"{before}{str(last + step).zfill(len(number[0]))}{after}"
    for step, gap in product(range(1, _STEPS), ("-", "", ".")):
        yield f"{tag}{gap}{step}"


def _made_up(name: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(f"an image that is not there yet: {name}".encode()).hexdigest())


def _with_rule(rule: Rule, changed: Callable[[Rule], Rule]) -> Callable[[Situation], Situation]:
    def apply(was: Situation) -> Situation:
        rules = tuple(changed(each) if each.name == rule.name else each for each in was.policy.rules)
        return replace(was, policy=replace(was.policy, rules=rules))

    return apply


def _path(policy: Policy, rule: Rule) -> str:
    number = next(number for number, each in enumerate(policy.rules) if each.name == rule.name)
    return f"spec.rules[{number}]"


def _without(patterns: Iterable[TagPattern], text: str) -> tuple[TagPattern, ...]:
    return tuple(pattern for pattern in patterns if pattern.text != text)


def _names(names: Sequence[str], most: int = 5) -> str:
    shown = list(names) if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
