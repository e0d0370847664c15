"""Patterns and globs of a policy: where they stand, so that what matches nothing can be named."""

import pytest

from registry_cleanup.domain.ownership import idle_globs, tag_patterns
from registry_cleanup.domain.policy import Policy
from tests.support.builders import policy, rule, selector

_POLICY = policy(
    rule("a.*", "b", exclude=["a-keep"], name="first", days=1),
    rule(name="second", days=1, repositories=selector("team/*", exclude=["team/base"])),
    keep_tags=["latest", "prod-.*"],
    repositories=selector("team/**", "tools", exclude=["**/test"]),
)


def test_every_pattern_that_a_person_wrote_is_found_by_its_place() -> None:
    found = tag_patterns(_POLICY)
    assert list(found) == [
        "spec.keepTags 'prod-.*'",
        "spec.rules[0].tags.include 'a.*'",
        "spec.rules[0].tags.include 'b'",
        "spec.rules[0].tags.exclude 'a-keep'",
        "spec.rules[1].tags.include '.*'",
    ]
    assert [pattern.text for pattern in found.values()] == ["prod-.*", "a.*", "b", "a-keep", ".*"]


@pytest.mark.parametrize(
    ("repositories", "expected"),
    [
        (["team/app", "team/base", "team/test", "tools"], []),
        (
            ["team/app", "other"],
            [
                "spec.repositories.include 'tools'",
                "spec.repositories.exclude '**/test'",
                "spec.rules[1].repositories.exclude 'team/base'",
            ],
        ),
        (
            ["tools", "x/test"],
            [
                "spec.repositories.include 'team/**'",
                "spec.rules[1].repositories.include 'team/*'",
                "spec.rules[1].repositories.exclude 'team/base'",
            ],
        ),
    ],
)
def test_a_glob_is_idle_where_no_repository_at_all_matches_it(repositories: list[str], expected: list[str]) -> None:
    assert idle_globs(_POLICY, repositories) == expected


@pytest.mark.parametrize("what", [_POLICY, policy(rule(days=1))])
def test_where_nothing_is_listed_every_glob_is_idle(what: Policy) -> None:
    globs = [*what.repositories.include, *what.repositories.exclude]
    assert [place.partition(" ")[2] for place in idle_globs(what, [])][: len(globs)] == [repr(g.text) for g in globs]
