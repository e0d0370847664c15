"""Builders for the data of tests: short to write, and valid unless a test says otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Blob, Format, Inventory, Manifest
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.plan import RepositoryPlan, plan_repository
from registry_cleanup.domain.policy import (
    Limits,
    Policy,
    RepositoryGlob,
    RepositorySelector,
    Rule,
    TagDate,
    TagPattern,
    Untagged,
)
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.verdict import Verdict

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
REPOSITORY = "team/app"


def digest(word: str) -> Digest:
    """Return a digest that stands for `word`, the same each time."""
    return parse_digest("sha256:" + hashlib.sha256(word.encode()).hexdigest())


def ago(days: float = 0, **parts: float) -> datetime:
    """Return the instant so long before `NOW`."""
    return NOW - timedelta(days=days, **parts)


def referrer_tag(word: str, suffix: str = "") -> str:
    """Return the tag by which the tag schema names a referrer of `digest(word)`."""
    return digest(word).replace(":", "-") + suffix


def image(
    word: str,
    created: datetime | float | None = 100,
    *,
    subject: str | None = None,
    config: str | None = None,
    blobs: Mapping[str, int] | None = None,
    keep: str | None = None,
) -> Manifest:
    """Return an image; `created` is an instant, or an age in days at `NOW`; `blobs` are sizes by word."""
    about = digest(subject) if subject is not None else None
    named = digest(config) if config is not None else None
    parts = tuple(Blob(digest(blob), size) for blob, size in (blobs or {}).items())
    return Manifest(digest(word), Format.IMAGE, (), about, _instant(created), named, parts, keep)


def index(
    word: str,
    children: Iterable[str],
    created: datetime | float | None = 100,
    *,
    subject: str | None = None,
    keep: str | None = None,
) -> Manifest:
    """Return an index that lists `children` by their words."""
    about = digest(subject) if subject is not None else None
    listed = tuple(digest(child) for child in children)
    return Manifest(digest(word), Format.INDEX, listed, about, _instant(created), keep=keep)


def unknown(word: str) -> Manifest:
    """Return a manifest of a kind that nobody understands."""
    return Manifest(digest(word), Format.UNKNOWN)


def inventory(
    tags: Mapping[str, str | Manifest],
    *others: Manifest,
    unresolved: Collection[str] = (),
    dangling: Collection[str] = (),
    pushed: Mapping[str, datetime | float] | None = None,
    protected: Collection[str] = (),
    managed: Collection[str] = (),
    used: Collection[str] = (),
    history: Mapping[str, Iterable[str]] | None = None,
    named_only: bool = False,
    undated: Iterable[str] = (),
    repository: str = REPOSITORY,
) -> Inventory:
    """Return a repository: for each tag its manifest, or the word of one that another tag or `others` bring.

    `pushed` are instants, or ages in days at `NOW`; `history` has the words of manifests.
    """
    known = {manifest.digest: manifest for manifest in tags.values() if isinstance(manifest, Manifest)}
    known |= {manifest.digest: manifest for manifest in others}
    addresses = {tag: what.digest if isinstance(what, Manifest) else digest(what) for tag, what in tags.items()}
    moments = {tag: _moment(when) for tag, when in (pushed or {}).items()}
    return Inventory(
        repository,
        addresses,
        frozenset(unresolved),
        frozenset(dangling),
        known,
        moments,
        frozenset(protected),
        frozenset(managed),
        frozenset(used),
        {tag: tuple(digest(word) for word in words) for tag, words in (history or {}).items()},
        named_only,
        frozenset(undated),
    )


def in_use(*words: str, tags: Iterable[str] = (), repository: str = REPOSITORY) -> InUse:
    """Return what is in use: the digests that `words` stand for, and `tags` of one repository."""
    return InUse(frozenset(digest(word) for word in words), frozenset((repository, tag) for tag in tags))


def selector(*include: str, exclude: Iterable[str] = ()) -> RepositorySelector:
    """Return a selection of repositories by their globs."""
    return RepositorySelector(
        tuple(RepositoryGlob(text) for text in include), tuple(RepositoryGlob(text) for text in exclude)
    )


def patterns(*texts: str) -> tuple[TagPattern, ...]:
    """Return tag patterns."""
    return tuple(TagPattern(text) for text in texts)


def rule(
    *include: str,
    name: str = "rule",
    exclude: Iterable[str] = (),
    repositories: RepositorySelector | None = None,
    days: float | None = None,
    most_recent: int | None = None,
    include_managed: bool = False,
    order_by: OrderBy = OrderBy.DATE,
    extract: str | None = None,
) -> Rule:
    """Return a rule over all tags, or over `include`; `days` is its `olderThan`."""
    older_than = timedelta(days=days) if days is not None else None
    included = patterns(*(include or (".*",)))
    return Rule(
        name,
        included,
        patterns(*exclude),
        repositories,
        older_than,
        most_recent,
        include_managed,
        order_by,
        extract,
    )


def policy(
    *rules: Rule,
    keep_tags: Iterable[str] = ("latest",),
    minimum_tags: int = 0,
    repositories: RepositorySelector | None = None,
    uid: str = "a-uid",
    registry: str = "registry.example.com:443",
    tag_date: TagDate = TagDate.AUTO,
    untagged: Untagged = Untagged.KEEP,
    grace_hours: float = 24,
    limits: Limits | None = None,
    approval_required: bool = False,
) -> Policy:
    """Return a policy over all repositories; without a floor, unlike the resource's default."""
    return Policy(
        uid,
        registry,
        repositories or selector("**"),
        rules,
        patterns(*keep_tags),
        minimum_tags,
        tag_date,
        untagged,
        timedelta(hours=grace_hours),
        limits or Limits(),
        approval_required,
    )


def planned(
    what: Policy,
    repository: Inventory,
    unit: DeletionUnit = DeletionUnit.DIGEST,
    now: datetime = NOW,
    using: InUse = NOTHING_IN_USE,
) -> RepositoryPlan:
    """Return the plan of one repository."""
    return plan_repository(what, repository, unit, now, using)


def told(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Return what was decided of each tag, in one word or more: the reason to keep, or the rule and its reasons."""
    return {
        verdict.tag: verdict.kept.value if verdict.kept is not None else f"{verdict.rule}: {', '.join(verdict.pruned)}"
        for verdict in verdicts
    }


def pruned(plan: RepositoryPlan) -> set[str]:
    """Return the tags that go."""
    return {tag for group in plan.groups for tag in group.tags}


def resource(
    spec: Mapping[str, Any] | None = None, *, annotations: Mapping[str, str] | None = None, generation: int = 1
) -> dict[str, Any]:
    """Return a policy's resource as the API server serves it."""
    metadata: dict[str, Any] = {"namespace": "team", "name": "builds", "uid": "a-uid", "generation": generation}
    metadata["creationTimestamp"] = "2026-06-01T09:30:00Z"
    if annotations is not None:
        metadata["annotations"] = dict(annotations)
    return {"metadata": metadata, "spec": dict(minimal_spec() if spec is None else spec)}


def minimal_spec(rules: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the least spec that is valid."""
    return {
        "registry": {"url": "https://registry.example.com"},
        "repositories": {"include": ["team/**"]},
        "rules": [{"name": "builds", "tags": {"include": [".*"]}, "olderThan": "30d"}] if rules is None else rules,
    }


def _instant(created: datetime | float | None) -> datetime | None:
    return None if created is None else _moment(created)


def _moment(when: datetime | float) -> datetime:
    return ago(when) if isinstance(when, int | float) else when
