"""Copies of what a run prunes, from which it can be put back: what they hold, how they are named, what goes back when.

A manifest is kept byte for byte, since its digest names it; whatever is not as its digest says is never put back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_cleanup.domain.clocks import CLOCK_TOLERANCE
from registry_cleanup.domain.reference import Digest, parse_digest, referrer_subject, subject_key

COPY_TOO_LARGE = "CopyTooLarge"
"""Reason of a store that has room, and not for one thing that is as large as this: others may be kept all the same."""

_POLICY_CHARACTERS = 8
_NAME = re.compile(rf"copies\.([A-Za-z0-9-]{{1,64}})\.([1-9][0-9]{{0,8}})\.([0-9a-f]{{{_POLICY_CHARACTERS}}})")
_RUN_TIME = re.compile("([0-9]{8}-[0-9]{6})-")
# RFC 6838, "Naming Requirements".
_MEDIA_TYPE = re.compile("[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
# An index that lists as many manifests as any may has some ten for each of them. A few megabytes of empty lists would
# make objects of more memory than the operator has.
_MOST_COMMAS = 500_000


@dataclass(frozen=True, slots=True)
class CopiedTag:
    """A tag that is about to go, and what it names.

    Attributes:
        repository, tag: its name.
        digest: that it names.
        reference: where its image is, of a tag of an image stream that names an image of another place.
        managed: whether the spec of its image stream imports it, or makes it follow another tag.
    """

    repository: str
    tag: str
    digest: Digest
    reference: str | None = None
    managed: bool = False


@dataclass(frozen=True, slots=True)
class CopiedManifest:
    """A manifest as it was served.

    Attributes:
        repository: that it is in.
        digest: that names it.
        media_type: as the registry called it.
        content: byte for byte.
    """

    repository: str
    digest: Digest
    media_type: str
    content: bytes

    @property
    def genuine(self) -> bool:
        """Whether its content is what its digest names."""
        algorithm, _, value = self.digest.partition(":")
        return hashlib.new(algorithm, self.content).hexdigest() == value

    @property
    def readable(self) -> bool:
        """Whether it is understood, and calls itself, if anything, what the registry called it."""
        body = self._json()
        return bool(body) and body.get("mediaType") in (None, self.media_type) and is_media_type(self.media_type)

    @property
    def understood(self) -> bool:
        """Whether anybody can tell what it lists."""
        return bool(self._json())

    @property
    def typed(self) -> bool:
        """Whether it says itself what it is."""
        return self._json().get("mediaType") is not None

    @property
    def children(self) -> tuple[Digest, ...]:
        """What it lists, if it is an index."""
        entries = self._json().get("manifests")
        return tuple(_digests(entries)) if isinstance(entries, list) else ()

    @property
    def subject(self) -> Digest | None:
        """What it refers to, if it is a referrer."""
        return next(_digests([self._json().get("subject")]), None)

    @property
    def config(self) -> Digest | None:
        """The config that it names, if it is an image."""
        return next(_digests([self._json().get("config")]), None)

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """The config and layers that it names, but for those that are somewhere else, each once."""
        body = self._json()
        layers = body.get("layers")
        parts = [body.get("config"), *(layers if isinstance(layers, list) else ())]
        own = [part for part in parts if isinstance(part, dict) and not part.get("urls")]
        return tuple(dict.fromkeys(_digests(own)))

    def _json(self) -> Mapping[str, Any]:
        if self.content.count(b",") > _MOST_COMMAS:
            return {}
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Copies:
    """What was kept of a run, or of a part of it.

    Attributes:
        policy: its UID.
        run: its ID.
        tags: that were to go.
        manifests: that were to go, or to lose their last name, with all that they list.
    """

    policy: str
    run: str
    tags: tuple[CopiedTag, ...] = ()
    manifests: tuple[CopiedManifest, ...] = ()

    def within(self, repositories: Collection[str]) -> Copies:
        """Return what of them is in `repositories`."""
        return Copies(
            self.policy,
            self.run,
            tuple([tag for tag in self.tags if tag.repository in repositories]),
            tuple([each for each in self.manifests if each.repository in repositories]),
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a copied manifest as long as nobody holds its content, which may be large.

    Attributes:
        repository: that it is in.
        digest: that names it.
        children: what it lists.
        subject: what it refers to.
        part: the number of the part that holds it.
    """

    repository: str
    digest: Digest
    children: tuple[Digest, ...]
    subject: Digest | None
    part: int

    @classmethod
    def of(cls, manifest: CopiedManifest, part: int) -> Outline:
        """Return what is known of a manifest of this part."""
        return cls(manifest.repository, manifest.digest, manifest.children, manifest.subject, part)


@dataclass(frozen=True, slots=True)
class Undoable:
    """What of a run, or of all that is wanted of it, can be put back.

    Attributes:
        tags: that name something again.
        manifests: that are there again before.
    """

    tags: tuple[CopiedTag, ...] = ()
    manifests: tuple[Outline, ...] = ()

    def by_repository(self) -> Sequence[Undoable]:
        """Return what of each repository there is, by their names."""
        tags: defaultdict[str, list[CopiedTag]] = defaultdict(list)
        manifests: defaultdict[str, list[Outline]] = defaultdict(list)
        for tag in self.tags:
            tags[tag.repository].append(tag)
        for each in self.manifests:
            manifests[each.repository].append(each)
        names = sorted(tags.keys() | manifests.keys())
        return [Undoable(tuple(tags[name]), tuple(manifests[name])) for name in names]


def is_media_type(text: str) -> bool:
    """Say whether `text` may name a media type."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def _digests(descriptors: Iterable[object]) -> Iterator[Digest]:
    for descriptor in descriptors:
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        try:
            if isinstance(digest, str):
                yield parse_digest(digest)
        except ValueError:
            continue


# How they are named


def policy_key(policy: str) -> str:
    """Return what stands for a policy's UID in the names of its copies."""
    return hashlib.sha256(policy.encode()).hexdigest()[:_POLICY_CHARACTERS]


def copy_name(run: str, part: int, policy: str) -> str:
    """Return the name of a part: a tag, or the key of a ConfigMap."""
    name = f"copies.{run}.{part}.{policy_key(policy)}"
    if not _NAME.fullmatch(name):
        raise ValueError(f"no ID of a run, or no number of a part: {run[:100]!r}, {part}")
    return name


def parse_copy_name(name: str, policy: str) -> tuple[str, int] | None:
    """Return run and part that `name` stands for, if it is a name of copies of this policy; else None."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2])) if match is not None and match[3] == policy_key(policy) else None


def is_copy_name(tag: str) -> bool:
    """Say whether `tag` names copies of any policy: no rule ever prunes those."""
    return tag.startswith("copies.") and _NAME.fullmatch(tag) is not None


def run_time(run: str) -> datetime | None:
    """Return when a run began, by its ID; None where that does not say."""
    match = _RUN_TIME.match(run)
    try:
        return None if match is None else datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def kept_until(run: str, kept_for: timedelta) -> datetime | None:
    """Return until when a run can be undone; None for ever, where nobody knows its time, or no date comes after it.

    What status tells, when copies are removed, and what collections of garbage wait for, all come from here.
    """
    began = run_time(run)
    try:
        return None if began is None else began + kept_for
    except OverflowError:
        return None


def is_of_the_future(run: str, now: datetime) -> bool:
    """Say whether no run can have this ID yet: whoever may push where copies are can name anything like copies."""
    began = run_time(run)
    return began is not None and began - now > CLOCK_TOLERANCE


def expired(runs: Iterable[str], kept_for: timedelta, now: datetime) -> list[str]:
    """Return the runs that can be undone no more."""
    return [run for run in runs if (until := kept_until(run, kept_for)) is not None and until <= now]


@dataclass(frozen=True, slots=True)
class CopiesHeld:
    """Which runs there are copies of.

    Attributes:
        runs: their IDs, sorted.
        repository: of the registry, that holds them; None where they are elsewhere.
        all: whether there are no others than these.
    """

    runs: Sequence[str]
    repository: str | None
    all: bool = True


@dataclass(frozen=True, slots=True)
class KnownCopies:
    """Where the copies of some runs of a policy are, by what its status says.

    Attributes:
        run: the last of them.
        repository: that holds them; None where they are in no repository.
        elsewhere: the registry that they were pruned at, where the policy names another one by now, or none.
    """

    run: str
    repository: str | None
    elsewhere: str | None = None


# What of them is put back, and in which order


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person names to have put back: a repository, or one tag or digest of it."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def reference(self) -> str:
        """As people write it."""
        tag = "" if self.tag is None else f":{self.tag}"
        return f"{self.repository}{tag}" + ("" if self.digest is None else f"@{self.digest}")

    def covers(self, tag: CopiedTag) -> bool:
        """Say whether `tag` is meant."""
        return self.repository == tag.repository and self.tag in (None, tag.tag) and self.digest in (None, tag.digest)


def chosen(copies: Undoable, wanted: Collection[Wanted]) -> Undoable:
    """Return of `copies` what is `wanted`, all of it if that is nothing, with what it lists and what refers to it."""
    if not wanted:
        return copies
    tags = {tag for tag in copies.tags if any(each.covers(tag) for each in wanted)}
    named = {(tag.repository, tag.digest) for tag in tags}
    named |= {(each.repository, each.digest) for each in wanted if each.digest is not None}
    whole = {each.repository for each in wanted if each.tag is None and each.digest is None}
    held = {(each.repository, each.digest): each for each in copies.manifests}
    needed = {key for key in held if key in named or key[0] in whole}
    new, referrers = set(needed), set[tuple[str, Digest]]()
    while new:
        found = {(key[0], child) for key in new for child in held[key].children}
        referring = {
            (each.repository, each.digest)
            for each in copies.manifests
            if each.subject is not None and (each.repository, each.subject) in new
        }
        referrers |= referring
        new = {key for key in found | referring if key in held} - needed
        needed |= new
    subjects = {(repository, subject_key(digest)) for repository, digest in needed}
    tags |= {
        tag
        for tag in copies.tags
        if (tag.repository, referrer_subject(tag.tag)) in subjects or (tag.repository, tag.digest) in referrers
    }
    needed |= {(tag.repository, tag.digest) for tag in tags} & held.keys()
    return Undoable(
        tuple(tag for tag in copies.tags if tag in tags),
        tuple(each for key, each in held.items() if key in needed),
    )


def nobodys(held: Mapping[Digest, Outline], refused: Collection[Digest], needed: Collection[Digest]) -> set[Digest]:
    """Return what nobody needs where those in `refused` do not come back: they, and what hangs on them alone.

    What is `needed` by itself stays, whatever lists it.
    """
    children = {digest: set(manifest.children) & held.keys() for digest, manifest in held.items()}
    parents: dict[Digest, set[Digest]] = {}
    referrers: dict[Digest, set[Digest]] = {}
    for digest, manifest in held.items():
        for child in children[digest]:
            parents.setdefault(child, set()).add(digest)
        if (subject := manifest.subject) is not None:
            referrers.setdefault(subject, set()).add(digest)
    gone = (set(refused) & held.keys()) - set(needed)
    pending = list(gone)
    while pending:
        digest = pending.pop()
        hanging = {child for child in children[digest] if parents[child] <= gone}
        hanging |= {each for each in referrers.get(digest, ()) if parents.get(each, set()) <= gone}
        new = hanging - gone - set(needed)
        gone |= new
        pending += new
    return gone


def without(copies: Undoable, tags: Collection[CopiedTag]) -> Undoable:
    """Return `copies` but for `tags`, what they alone name, and what hangs on that alone."""
    if not tags:
        return copies
    left: list[CopiedTag] = []
    manifests: list[Outline] = []
    for there in copies.by_repository():
        some = [tag for tag in there.tags if tag not in tags]
        held = {each.digest: each for each in there.manifests}
        named, needed = {tag.digest for tag in there.tags}, {tag.digest for tag in some}
        gone = nobodys(held, named - needed, needed)
        left += some
        manifests += [each for each in there.manifests if each.digest not in gone]
    return Undoable(tuple(left), tuple(manifests))


def undo_levels(manifests: Iterable[Outline]) -> list[list[Outline]]:
    """Return manifests of one repository in levels, of which each needs only those before it.

    What is listed goes before what lists it, and a subject before its referrers.
    """
    held = {each.digest: each for each in manifests}
    needs = {digest: [d for d in _before(each) if d in held] for digest, each in held.items()}
    level: dict[Digest, int] = {}
    for digest in held:
        pending, entered = [digest], set[Digest]()
        while pending:
            top = pending[-1]
            # What is under way already waits below: content that needs itself cannot be made, but be tampered with.
            before = [d for d in needs[top] if d not in level and d not in entered] if top not in entered else []
            entered.add(top)
            if before:
                pending.extend(before)
            else:
                pending.pop()
                level.setdefault(top, 1 + max((level.get(d, 0) for d in needs[top]), default=-1))
    levels: list[list[Outline]] = [[] for _ in range(1 + max(level.values(), default=-1))]
    for digest in sorted(held):
        levels[level[digest]].append(held[digest])
    return levels


def _before(manifest: Outline) -> Sequence[Digest]:
    subject = manifest.subject
    return manifest.children if subject is None else (*manifest.children, subject)
