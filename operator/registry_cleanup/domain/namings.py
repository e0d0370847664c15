"""What a policy says of a name: which selectors, patterns and settings match it, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from registry_cleanup.domain.ownership import PROTECTED_REPOSITORIES, PROTECTED_TAGS
from registry_cleanup.domain.policy import Policy, RepositoryGlob, RepositorySelector, Rule, TagPattern
from registry_cleanup.domain.reference import referrer_subject
from registry_cleanup.domain.situation import Situation


@dataclass(frozen=True, slots=True)
class Naming:
    """A pattern or glob that keeps tags by their name.

    Attributes:
        field: of the policy or of another one, or the operator's setting, that has it.
        pattern: as it stands there.
    """

    field: str
    pattern: str


class Says(StrEnum):
    """What a rule says of a name."""

    OWNS = "Owns"  # the first whose repositories and tags.include match
    WOULD_OWN = "WouldOwn"  # if the tag were not kept by its name
    EXCLUDES = "Excludes"  # the first, and its tags.exclude matches, too
    LATER = "Later"  # its tags.include matches, and an earlier rule has the tag
    NO_MATCH = "NoMatch"  # no pattern of tags.include matches
    OTHER_REPOSITORIES = "OtherRepositories"  # its repositories do not match
    REFERRER = "Referrer"  # the tag names a referrer, which is no rule's business


@dataclass(frozen=True, slots=True)
class RuleTold:
    """What one rule says of one name.

    Attributes:
        name: of the rule.
        says: what it says.
        include, exclude: the first pattern that matches the tag; None where none does.
        repositories: the glob that decides on the repository; None where the rule has no globs, or none matches.
    """

    name: str
    says: Says
    include: str | None = None
    exclude: str | None = None
    repositories: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Whether a selector selects a repository, and by which globs.

    Attributes:
        selected: whether it does.
        include, exclude: the globs that match.
        globs: all that it includes.
    """

    selected: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    globs: tuple[str, ...]

    @classmethod
    def of(cls, selector: RepositorySelector, repository: str) -> Selection:
        """Ask `selector` for `repository`."""
        return cls(
            selector.selects(repository),
            _matching(selector.include, repository),
            _matching(selector.exclude, repository),
            tuple(glob.text for glob in selector.include),
        )


def namings(situation: Situation, tag: str) -> tuple[Naming, ...]:
    """Return all that keeps `tag` by its name, whoever said so."""
    policy, repository = situation.policy, situation.inventory.repository
    found = [Naming(PROTECTED_REPOSITORIES, text) for text in _matching(policy.protected_repositories, repository)]
    found += [Naming(PROTECTED_TAGS, text) for text in _matching(policy.protected_tags, tag)]
    found += [Naming("spec.keepTags", text) for text in _matching(policy.keep_tags, tag)]
    for rival in situation.rivals:
        if rival.repositories.selects(repository):
            where = f"spec.keepTags of policy {rival.namespace}/{rival.name}"
            found += [Naming(where, text) for text in _matching(rival.keep_tags, tag)]
    return tuple(found)


def rules_told(policy: Policy, repository: str, tag: str, *, kept_by_name: bool) -> tuple[RuleTold, ...]:
    """Return what each rule says of the name `tag`."""
    found: list[RuleTold] = []
    taken = False
    for rule in policy.rules:
        told = _rule_told(rule, repository, tag, taken=taken, kept_by_name=kept_by_name)
        taken = taken or told.says in {Says.OWNS, Says.WOULD_OWN, Says.EXCLUDES}
        found.append(told)
    return tuple(found)


def _rule_told(rule: Rule, repository: str, tag: str, *, taken: bool, kept_by_name: bool) -> RuleTold:
    glob = None
    if rule.repositories is not None:
        selection = Selection.of(rule.repositories, repository)
        glob = next(iter((*selection.exclude, *selection.include)), None)
        if not selection.selected:
            return RuleTold(rule.name, Says.OTHER_REPOSITORIES, repositories=glob)
    include = next(iter(_matching(rule.include, tag)), None)
    exclude = next(iter(_matching(rule.exclude, tag)), None)
    if include is None:
        says = Says.NO_MATCH
    elif referrer_subject(tag) is not None:
        says = Says.REFERRER
    elif taken:
        says = Says.LATER
    elif exclude is not None:
        says = Says.EXCLUDES
    else:
        says = Says.WOULD_OWN if kept_by_name else Says.OWNS
    return RuleTold(rule.name, says, include, exclude, glob)


def _matching(patterns: Iterable[RepositoryGlob] | Iterable[TagPattern], text: str) -> tuple[str, ...]:
    return tuple(pattern.text for pattern in patterns if pattern.matches(text))
