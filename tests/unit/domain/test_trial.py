"""Tags that somebody names are judged by the engine of a run, and told in words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.plan import plan_repository
from registry_cleanup.domain.trial import Outcome, Trial, TriedTag, made_up_repository, try_tags
from registry_cleanup.kube.offline import parse
from tests.support.builders import NOW, ago, image, inventory
from tests.support.crd_cases import policy_with

_POLICY = parse(policy_with("spec.rules.0.keep", {"mostRecent": 2})).policy


def _try(*tags: TriedTag, unit: DeletionUnit = DeletionUnit.TAG) -> list[Trial]:
    return try_tags(_POLICY, "team/app", tags, unit, NOW)


@given(
    st.dictionaries(
        st.sampled_from([f"build-{n}" for n in range(8)] + ["latest", "x"]),
        st.tuples(st.sampled_from("abcde"), st.integers(0, 100)),
        min_size=1,
    ),
    st.sampled_from(DeletionUnit),
)
def test_with_all_dates_a_trial_says_what_a_plan_says(given_: dict[str, tuple[str, int]], unit: DeletionUnit) -> None:
    ages = dict(given_.values())
    plan = plan_repository(
        _POLICY, inventory({tag: image(word, ages[word]) for tag, (word, _) in given_.items()}), unit, NOW
    )
    tags = [TriedTag(tag, word, ago(ages[word])) for tag, (word, _) in given_.items()]
    for trial, verdict in zip(sorted(_try(*tags, unit=unit), key=lambda t: t.tag), plan.verdicts, strict=True):
        assert (trial.tag, trial.rule, trial.outcome is Outcome.PRUNE) == (verdict.tag, verdict.rule, verdict.goes)
        assert trial.reasons == (tuple(verdict.pruned) if verdict.kept is None else (verdict.kept,))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("Date", "goes if older than 30d and not among the 2 newest"),
        ("SemVer", "goes if older than 30d and not among the 2 greatest versions"),
        ("Numerical", "goes if older than 30d and not among the 2 greatest numbers"),
        ("Alphabetical", "goes if older than 30d and not among the 2 last in the alphabet"),
    ],
)
def test_without_a_date_it_depends_in_the_words_of_the_rule(order: str, words: str) -> None:
    policy = policy_with("spec.rules.0.keep", {"mostRecent": 2})
    policy["spec"]["rules"][0] |= {"orderBy": order, "tags": {"include": [".*"]}}
    tag = "1.2.3" if order == "SemVer" else "12"
    (trial,) = try_tags(parse(policy).policy, "team/app", [TriedTag(tag)], DeletionUnit.TAG, NOW)
    assert (trial.outcome, trial.reasons, trial.why) == (Outcome.DEPENDS, (), words)


def test_a_tag_without_a_date_whose_version_is_none_stays_whatever_its_date() -> None:
    policy = policy_with("spec.rules.0.orderBy", "SemVer")
    (trial,) = try_tags(parse(policy).policy, "team/app", [TriedTag("build-1")], DeletionUnit.TAG, NOW)
    assert (trial.outcome, trial.reasons) == (Outcome.KEEP, ("UnparsableVersion",))


def test_the_tags_of_one_image_have_one_date() -> None:
    tags = [TriedTag("build-1", "a", ago(90)), TriedTag("build-2", "a"), TriedTag("build-3", "b", ago(1))]
    tags += [TriedTag("build-4", "c", ago(2))]
    assert [trial.outcome for trial in _try(*tags)] == [Outcome.PRUNE, Outcome.PRUNE, Outcome.KEEP, Outcome.KEEP]
    with pytest.raises(ValueError, match="have one date"):
        _try(TriedTag("build-1", "a", NOW), TriedTag("build-2", "a", NOW - timedelta(days=1)))


@pytest.mark.parametrize(
    ("include", "exclude", "repository"),
    [
        (["team/**"], [], "team/app"),
        (["**"], [], "app"),
        (["*/x?"], [], "app/xa"),
        (["team/*", "base/image"], [], "base/image"),
        (["a", "b"], ["a"], "b"),
        (["a"], ["a"], None),
    ],
)
def test_a_repository_is_made_up_that_the_policy_selects(
    include: list[str], exclude: list[str], repository: str | None
) -> None:
    policy = parse(policy_with("spec.repositories", {"include": include, "exclude": exclude})).policy
    assert made_up_repository(policy) == repository
