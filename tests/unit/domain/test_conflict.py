"""Two policies that select one repository: who yields, what both keep, and how one registry is known by two names."""

from datetime import timedelta

import pytest

from registry_cleanup.domain.conflict import (
    Likeness,
    Rival,
    conflicts,
    likeness,
    mirrored,
    overall,
    seniority,
    telling,
    with_rivals,
    yields,
)
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Conflict
from tests.support.builders import NOW, digest, patterns, policy, rule, selector

_A, _B = {"v1": digest("a")}, {"v1": digest("b")}
_SAME, _DIFFERENT, _UNKNOWN = Likeness.SAME, Likeness.DIFFERENT, Likeness.UNKNOWN


def _rival(name: str = "other", *include: str, older: bool = True, keep: tuple[str, ...] = ()) -> Rival:
    return Rival("team", name, f"uid of {name}", older, selector(*(include or ("team/**",))), patterns(*keep))


# Who prunes


@pytest.mark.parametrize(
    ("rivals", "expected"),
    [
        ([], False),
        ([_rival()], True),
        ([_rival(older=False)], False),
        ([_rival("other", "other/**")], False),
        ([_rival("one", "other/**"), _rival("two", "team/app"), _rival("three", older=False)], True),
    ],
)
def test_a_policy_yields_in_a_repository_to_any_older_one(rivals: list[Rival], *, expected: bool) -> None:
    assert yields(rivals, "team/app") is expected


def test_the_keep_tags_of_every_policy_of_a_repository_hold_there() -> None:
    ours = policy(rule(days=1), keep_tags=["latest"])
    rivals = [
        _rival("older", keep=("v1",)),
        _rival("younger", older=False, keep=("v2", "v3")),
        _rival("elsewhere", "other/**", keep=("v4",)),
    ]
    held = with_rivals(ours, rivals, "team/app")
    assert [pattern.text for pattern in held.keep_tags] == ["latest", "v1", "v2", "v3"]
    assert with_rivals(ours, rivals, "some/where") == ours


def test_conflicts_name_the_other_policies_and_the_repositories_that_both_select() -> None:
    rivals = [
        _rival("zeta", "team/*", older=False),
        _rival("alpha", "**/app"),
        _rival("elsewhere", "other/**"),
    ]
    assert conflicts(rivals, ["team/web", "team/app", "third"]) == (
        Conflict("team", "alpha", "uid of alpha", yields=True, repositories=("team/app",)),
        Conflict("team", "zeta", "uid of zeta", yields=False, repositories=("team/app", "team/web")),
    )


def test_the_other_policy_sees_the_same_conflict_from_its_own_side() -> None:
    found = Conflict("team", "older", "uid of older", yields=True, repositories=("team/app",))
    seen = mirrored(found, "ours", "younger", "uid of younger")
    assert seen == Conflict("ours", "younger", "uid of younger", yields=False, repositories=("team/app",))
    assert mirrored(seen, "team", "older", "uid of older") == found


def test_the_older_policy_is_the_one_that_was_made_first_and_of_one_second_the_first_by_name() -> None:
    later = NOW + timedelta(seconds=1)
    ages = [
        seniority(later, "a", "a"),
        seniority(NOW, "b", "a"),
        seniority(NOW, "a", "b"),
        seniority(NOW, "a", "a"),
    ]
    assert sorted(ages) == ages[::-1]
    assert len(set(ages)) == 4


# One registry by two names


def test_both_sides_look_at_the_same_few_tags_in_whatever_order_they_are_listed() -> None:
    tags = [f"v{number}" for number in range(100)]
    chosen = telling(tags, 5)
    assert len(chosen) == 5
    assert telling(reversed(tags), 5) == chosen
    assert telling(tags[:3], 5) == set(tags[:3])
    # Not simply the first by name, which every registry of a company may have.
    assert chosen != set(sorted(tags)[:5])


@pytest.mark.parametrize(
    ("before", "theirs", "after", "expected"),
    [
        (_A, _A, _A, _SAME),
        (_A, _B, _A, _DIFFERENT),
        # Other tags at the same place in the order are a difference too.
        (_A, {"v2": digest("a")}, _A, _DIFFERENT),
        (_A, {**_A, "v2": digest("b")}, _A, _DIFFERENT),
        (_A, {}, _A, _DIFFERENT),
        ({}, _A, {}, _DIFFERENT),
        # Nothing to see is no likeness.
        ({}, {}, {}, _UNKNOWN),
        # While ours moved, theirs is seen as it was before, as it is after, or in between.
        (_A, _A, _B, _SAME),
        (_A, _B, _B, _SAME),
        (_A, {"v1": digest("c")}, _B, _UNKNOWN),
        (_A, {}, _B, _UNKNOWN),
    ],
)
def test_equal_tags_are_likeness_and_any_difference_of_what_holds_still_is_none(
    before: dict[str, Digest], theirs: dict[str, Digest], after: dict[str, Digest], expected: Likeness
) -> None:
    assert likeness(before, theirs, after) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], _UNKNOWN),
        ([_UNKNOWN], _UNKNOWN),
        ([_SAME, _UNKNOWN], _SAME),
        ([_UNKNOWN, _SAME, _DIFFERENT], _DIFFERENT),
        ([_DIFFERENT, _UNKNOWN], _DIFFERENT),
    ],
)
def test_one_repository_that_differs_makes_two_registries(found: list[Likeness], expected: Likeness) -> None:
    assert overall(found) is expected
