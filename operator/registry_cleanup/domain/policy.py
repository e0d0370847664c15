"""What an administrator asked for, parsed: a constructed `Policy` is valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

import re2

from registry_cleanup.domain.order import OrderBy

# The operator's setting that no policy's limits go beyond.
MAX_DELETIONS = "REGISTRY_CLEANUP_MAX_DELETIONS"
# `latest` is protected unless the policy says `pruneLatest: true`.
LATEST = "latest"


class InvalidPatternError(ValueError):
    """A pattern of a policy that cannot be compiled; the message says why."""


class TagPattern:
    """A regular expression over tags: RE2, fully anchored, so that `v1` never matches `dev10`."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Compile `text`; raise `InvalidPatternError` where RE2 refuses it or where it is empty."""
        if not text:
            raise InvalidPatternError("is empty; write '.*' for every tag")
        self.text = text
        self._compiled = _compile(text)

    def matches(self, tag: str) -> bool:
        """Say whether the whole of `tag` matches."""
        return self._compiled.fullmatch(tag) is not None

    def defines(self, group: str) -> bool:
        """Say whether the expression has a group of this name, `(?P<group>…)`."""
        return group in self._compiled.groupindex

    def extract(self, tag: str, group: str) -> str | None:
        """Return what `group` matches in `tag`; None where the whole does not match or the group takes no part."""
        match = self._compiled.fullmatch(tag)
        found: str | None = match.group(group) if match is not None else None
        return found


class RepositoryGlob:
    """A glob over repositories in which `*` and `?` do not cross `/` and `**` does."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Translate `text`; raise `InvalidPatternError` for characters that no repository can have."""
        if not text:
            raise InvalidPatternError("is empty; write '**' for every repository")
        for character in text:
            if not (character in "*?./_-" or (character.isascii() and (character.isdigit() or character.islower()))):
                raise InvalidPatternError(
                    f"contains {character!r}, which no repository can have; allowed are lower-case letters, "
                    "digits, '.', '_', '-', '/', and the wildcards '*', '**' and '?'"
                )
        if text.startswith("/") or text.endswith("/") or "//" in text:
            raise InvalidPatternError("begins or ends with '/', or holds '//', as no repository does")
        self.text = text
        self._compiled = _compile(_translate(text))

    @property
    def literal(self) -> bool:
        """Whether it names exactly one repository."""
        return "*" not in self.text and "?" not in self.text

    def matches(self, repository: str) -> bool:
        """Say whether the whole of `repository` matches."""
        return self._compiled.fullmatch(repository) is not None


@lru_cache(maxsize=1024)
def _compile(text: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False  # the error is ours to report
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPatternError(f"is not a regular expression of RE2 syntax: {reason}") from error


def _translate(glob: str) -> str:
    """Return the regular expression of a glob."""
    parts: list[str] = []
    rest = glob
    while rest:
        if rest.startswith("**/") and glob.removesuffix(rest)[-1:] in ("", "/"):
            parts.append("(?:.*/)?")  # `**/app` also matches `app`, but `team**/app` not `teamapp`
            rest = rest[3:]
        elif rest.startswith("**"):
            parts.append(".*")
            rest = rest[2:]
        elif rest[0] in "*?":
            parts.append("[^/]*" if rest[0] == "*" else "[^/]")
            rest = rest[1:]
        else:
            parts.append(re2.escape(rest[0]))
            rest = rest[1:]
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class RepositorySelector:
    """Repositories by glob: any include, and no exclude.

    Attributes:
        include, exclude: the globs.
        never: a repository that is not selected whatever they say; None for none.
    """

    include: tuple[RepositoryGlob, ...]
    exclude: tuple[RepositoryGlob, ...] = ()
    never: str | None = None

    def selects(self, repository: str) -> bool:
        """Say whether `repository` is selected."""
        return (
            repository != self.never
            and any(glob.matches(repository) for glob in self.include)
            and not any(glob.matches(repository) for glob in self.exclude)
        )

    @property
    def literals(self) -> tuple[str, ...] | None:
        """The selected names, where the includes name each one in full; else None."""
        if not all(glob.literal for glob in self.include):
            return None
        return tuple(sorted({glob.text for glob in self.include if self.selects(glob.text)}))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy: which tags it owns, and which of them it keeps.

    Attributes:
        name: unique in its policy.
        include: tags that it owns match any of these.
        exclude: of the tags that match `include`, those that match any of these are kept.
        repositories: narrows the policy's selection; None for all of it.
        older_than: a tag younger than this is kept; None where age does not matter.
        most_recent: this number of newest images is kept; None where the number does not matter.
        include_managed: whether tags that an image stream's own spec imports or aliases may go.
        order_by: what `most_recent` counts by.
        extract: the group of each include that spells the version; None for the whole tag.
    """

    name: str
    include: tuple[TagPattern, ...]
    exclude: tuple[TagPattern, ...] = ()
    repositories: RepositorySelector | None = None
    older_than: timedelta | None = None
    most_recent: int | None = None
    include_managed: bool = False
    order_by: OrderBy = OrderBy.DATE
    extract: str | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that would prune everything it matches, or that has no version to order by."""
        if self.older_than is None and self.most_recent is None:
            raise ValueError(f"rule {self.name!r} has neither olderThan nor keep.mostRecent")
        if self.extract is not None and not all(pattern.defines(self.extract) for pattern in self.include):
            raise ValueError(f"rule {self.name!r} has an include without the group {self.extract!r}")

    @property
    def reads_dates(self) -> bool:
        """Whether a tag of unknown date cannot be judged."""
        return self.older_than is not None or self.order_by is OrderBy.DATE

    def version_text(self, tag: str) -> str | None:
        """Return the part of `tag` that spells its version: what the first include that matches extracts."""
        if self.extract is None:
            return tag
        matching = next((pattern for pattern in self.include if pattern.matches(tag)), None)
        return None if matching is None else matching.extract(tag, self.extract)

    def applies_to(self, repository: str) -> bool:
        """Say whether the rule has a say in `repository`."""
        return self.repositories is None or self.repositories.selects(repository)


class TagDate(StrEnum):
    """Which date a tag is judged by."""

    AUTO = "Auto"  # when it was pushed, where the registry records that, else when its image was created
    CREATED = "Created"  # when its image was created


class Untagged(StrEnum):
    """What becomes of manifests that pruning leaves without a name."""

    KEEP = "Keep"  # counted; the registry's garbage collection can free them
    DELETE = "Delete"  # by digest


class OnExceeded(StrEnum):
    """What a run does that would prune more than its limits allow."""

    ABORT = "Abort"
    TRUNCATE = "Truncate"  # whole digest groups, oldest first, as many as are allowed


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may prune, and how fast it may ask.

    Attributes:
        max_deletions: tags in all.
        max_percent: tags of one repository, in percent of all its tags, counted where more than 10 would go.
        on_exceeded: what happens then.
        requests_per_second: that a run begins, reads and deletions together; None for any number.
        max_concurrency: requests that are under way at a time; None for what the operator's settings say.
        ceiling: tags in all that the administrator of the operator allows, whoever approves; None for any number.
    """

    max_deletions: int = 1000
    max_percent: int = 50
    on_exceeded: OnExceeded = OnExceeded.ABORT
    requests_per_second: int | None = None
    max_concurrency: int | None = None
    ceiling: int | None = None

    @property
    def capped(self) -> bool:
        """Whether the administrator allows less than the policy."""
        return self.ceiling is not None and self.ceiling < self.max_deletions

    @property
    def most_deletions(self) -> int:
        """The number of tags that holds: the policy's, or the administrator's where that is lower."""
        return self.ceiling if self.ceiling is not None and self.capped else self.max_deletions

    @property
    def whose(self) -> str:
        """The field or setting that `most_deletions` comes from, with its number."""
        name = f"the operator's setting {MAX_DELETIONS}" if self.capped else "limits.maxDeletions"
        return f"{name} ({self.most_deletions})"


@dataclass(frozen=True, slots=True)
class ExtraReferences:
    """Objects of a kind that name images at a path of their own.

    Attributes:
        api_version: such as `serving.knative.dev/v1`.
        kind: such as `Service`.
        json_path: of the images, such as `.spec.template.spec.containers[*].image`.
    """

    api_version: str
    kind: str
    json_path: str


@dataclass(frozen=True, slots=True)
class InUseRules:
    """What counts as in use.

    Attributes:
        enabled: whether anything does.
        namespace_labels: `matchLabels` and `matchExpressions` of the namespaces that are looked at, as a label selector
            of the API (`a=b,c in (d,e)`); None for all.
        include_history: whether what a rollback would use counts.
        extra_references: more kinds that name images.
        references_config_map: name of a ConfigMap in the policy's namespace that lists images; None for none.
        aliases: path prefixes under which other registries (caches, mirrors) serve this one's repositories.
    """

    enabled: bool = True
    namespace_labels: str | None = None
    include_history: bool = True
    extra_references: tuple[ExtraReferences, ...] = ()
    references_config_map: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoRules:
    """Whether runs can be undone, and for how long.

    Attributes:
        window: copies of what is pruned are kept for so long; none are made where that is nothing.
        repository: of the same registry, where they are kept; None for ConfigMaps.
        longest_run: so long a run may take, which is known by its start.
    """

    window: timedelta = timedelta(0)
    repository: str | None = None
    longest_run: timedelta = timedelta(0)

    @property
    def enabled(self) -> bool:
        """Whether copies are made at all."""
        return self.window > timedelta(0)

    @property
    def kept_for(self) -> timedelta:
        """How long the copies of a run are kept from its start: what it pruned last has the whole window, too."""
        return self.window + self.longest_run if self.enabled else timedelta(0)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the planner needs of a `RegistryCleanupPolicy`.

    Attributes:
        uid: of the resource, part of every plan's hash.
        registry: host and port, as the plan's hash has it; empty while it is not known.
        repositories: which repositories are selected at all.
        rules: in the order of the policy; the first that matches owns a tag.
        keep_tags: never pruned; includes `latest` unless the policy says otherwise.
        minimum_tags: so many tags stay in each repository.
        tag_date: which date a tag is judged by.
        untagged: what becomes of manifests that pruning leaves without a name.
        grace_period: only what was in a published plan at least this long ago is pruned.
        limits: how much one run may prune.
        approval_required: whether a plan has to be approved before it is carried out.
        in_use: what counts as in use.
        protected_repositories: in which the administrator of the operator lets nothing go.
        protected_tags: that the administrator of the operator lets nobody prune.
        undo: whether runs can be undone.
    """

    uid: str
    registry: str
    repositories: RepositorySelector
    rules: Sequence[Rule]
    keep_tags: Sequence[TagPattern]
    minimum_tags: int
    tag_date: TagDate = TagDate.AUTO
    untagged: Untagged = Untagged.KEEP
    grace_period: timedelta = timedelta(hours=24)
    limits: Limits = Limits()
    approval_required: bool = False
    in_use: InUseRules = InUseRules()
    protected_repositories: Sequence[RepositoryGlob] = ()
    protected_tags: Sequence[TagPattern] = ()
    undo: UndoRules = UndoRules()
