"""What of a policy can never have an effect, by its own words alone; only what is certain is told.

Whether one regular expression matches all that another one does is not asked: only the same text and `.*` are known to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from registry_cleanup.domain.policy import Policy, RepositoryGlob, RepositorySelector, Rule, TagPattern
from registry_cleanup.domain.unmatchable import impossible_character

_EVERY_TAG = frozenset({".*", ".+", "(?s).*"})
_EVERY_REPOSITORY = "**"


def ineffective(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the paths of what can never have an effect, each with the reason."""
    yield from _of_selector(policy.repositories, "spec.repositories")
    yield from _of_patterns(policy.keep_tags, "spec.keepTags")
    kept = _texts(policy.keep_tags)
    for number, rule in enumerate(policy.rules):
        path = f"spec.rules[{number}]"
        if rule.repositories is not None:
            yield from _of_selector(rule.repositories, f"{path}.repositories")
        yield from _of_patterns(rule.include, f"{path}.tags.include")
        yield from _of_patterns(rule.exclude, f"{path}.tags.exclude")
        takers = _takers(rule, policy.rules[:number])
        if takers:
            names = " and ".join(repr(each.name) for each in takers)
            yield path, f"can never own a tag: {names} above it has the same tags.include in the same repositories"
        elif _all_among(rule.include, kept):
            yield path, "can never prune a tag: keepTags keeps all that its tags.include match"
        elif _all_among(rule.include, _texts(rule.exclude)):
            yield path, "can never prune a tag: its tags.exclude match all that its tags.include match"


def _of_selector(selector: RepositorySelector, path: str) -> Iterator[tuple[str, str]]:
    excluded = {glob.text for glob in selector.exclude}
    if _EVERY_REPOSITORY in excluded or excluded.issuperset(glob.text for glob in selector.include):
        yield path, "selects no repository: exclude matches all that include matches"
    for number, glob in enumerate(selector.exclude):
        if glob.literal and not any(each.matches(glob.text) for each in selector.include):
            yield f"{path}.exclude[{number}]", f"excludes nothing: no include matches {glob.text}"


def _of_patterns(patterns: Sequence[TagPattern], path: str) -> Iterator[tuple[str, str]]:
    for number, pattern in enumerate(patterns):
        if (character := impossible_character(pattern.text)) is not None:
            yield f"{path}[{number}]", f"can match no tag: it needs {character!r}, which no tag can have"


def _takers(rule: Rule, above: Sequence[Rule]) -> list[Rule]:
    """Return the rules that together own all that `rule` could; none where something may be left."""
    rivals = [other for other in above if _covers(other.repositories, rule.repositories)]
    found: list[Rule] = []
    for pattern in rule.include:
        taker = next((other for other in rivals if _all_among([pattern], _texts(other.include))), None)
        if taker is None:
            return []
        if taker not in found:
            found.append(taker)
    return found


def _covers(wide: RepositorySelector | None, narrow: RepositorySelector | None) -> bool:
    """Say whether `wide` certainly selects all that `narrow` does; None selects all of the policy's repositories."""
    if wide is None:
        return True
    excluded = _globs(wide.exclude)
    if narrow is None:
        return not excluded and _EVERY_REPOSITORY in _globs(wide.include)
    included = _globs(wide.include)
    everything = _EVERY_REPOSITORY in included or included >= _globs(narrow.include)
    return everything and excluded <= _globs(narrow.exclude)


def _globs(globs: Collection[RepositoryGlob]) -> set[str]:
    return {glob.text for glob in globs}


def _texts(patterns: Collection[TagPattern]) -> set[str]:
    return {pattern.text for pattern in patterns}


def _all_among(patterns: Collection[TagPattern], texts: set[str]) -> bool:
    return bool(_EVERY_TAG & texts) or texts.issuperset(pattern.text for pattern in patterns)
