"""What an administrator asked for, parsed: a constructed `Policy` is valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

import re2

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
    """Repositories by glob: any include, and no exclude."""

    include: tuple[RepositoryGlob, ...]
    exclude: tuple[RepositoryGlob, ...] = ()

    def selects(self, repository: str) -> bool:
        """Say whether `repository` is selected."""
        return any(glob.matches(repository) for glob in self.include) and not any(
            glob.matches(repository) for glob in self.exclude
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
    """

    name: str
    include: tuple[TagPattern, ...]
    exclude: tuple[TagPattern, ...] = ()
    repositories: RepositorySelector | None = None
    older_than: timedelta | None = None
    most_recent: int | None = None
    include_managed: bool = False

    def __post_init__(self) -> None:
        """Refuse a rule that would prune everything it matches."""
        if self.older_than is None and self.most_recent is None:
            raise ValueError(f"rule {self.name!r} has neither olderThan nor keep.mostRecent")

    def applies_to(self, repository: str) -> bool:
        """Say whether the rule has a say in `repository`."""
        return self.repositories is None or self.repositories.selects(repository)


class TagDate(StrEnum):
    """Which date a tag is judged by."""

    AUTO = "Auto"  # when it was pushed, where the registry records that, else when its image was created
    CREATED = "Created"  # when its image was created


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
    """

    uid: str
    registry: str
    repositories: RepositorySelector
    rules: Sequence[Rule]
    keep_tags: Sequence[TagPattern]
    minimum_tags: int
    tag_date: TagDate = TagDate.AUTO
