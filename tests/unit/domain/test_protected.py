"""What protects a tag whatever its rule says: a mark on its image, and every way of being in use."""

from datetime import timedelta

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.rules import pinned
from registry_cleanup.domain.usage import used_digests
from tests.support.builders import (
    NOW,
    digest,
    image,
    in_use,
    index,
    inventory,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
)

_OLD = "rule: OlderThan"
_OLD_RULE = policy(rule(days=30))
_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG


def _plan(there: Inventory, using: InUse, unit: DeletionUnit = _TAG, what: Policy = _OLD_RULE) -> dict[str, str]:
    return told(planned(what, there, unit, using=using).verdicts)


# Marks: NOW is noon of 2026-06-15, UTC.


@pytest.mark.parametrize(
    ("mark", "keeps"),
    [
        (None, False),
        ("false", False),
        (" False ", False),
        ("true", True),
        ("TRUE", True),
        ("", True),
        ("no", True),
        ("until next week", True),
        # A day lasts to its end.
        ("2026-06-14", False),
        ("2026-06-15", True),
        ("2026-06-16", True),
        ("20260614", False),
        ("20260615", True),
        # An instant does not.
        ("2026-06-15T12:00:00Z", False),
        ("2026-06-15t12:00:00z", False),
        ("2026-06-15T12:00:01Z", True),
        ("2026-06-15T12:00:01", True),
        ("2026-06-15T12:00:00+02:00", False),
        ("2026-06-15T12:00:00-02:00", True),
        # What cannot be counted with is no reason to prune.
        ("9999-12-31", True),
        ("9999-12-31T23:59:59-12:00", True),
        ("0001-01-01T00:00:00+12:00", False),
        ("2026-02-30", True),
        ("10000-01-01", True),
    ],
)
def test_a_mark_keeps_if_it_is_true_a_date_to_come_or_nothing_that_we_understand(
    mark: str | None, *, keeps: bool
) -> None:
    assert pinned(mark, NOW) is keeps
    there = inventory({"a": image("a", keep=mark)})
    assert _plan(there, InUse()) == {"a": "KeepTags" if keeps else _OLD}


def test_a_marked_image_is_kept_with_all_its_tags_and_takes_no_place() -> None:
    marked = image("m", 1, keep="true")
    there = inventory({"a": marked, "b": marked, "new": image("n", 40), "old": image("o", 50)})
    assert _plan(there, InUse(), what=policy(rule(most_recent=1))) == {
        "a": "KeepTags",
        "b": "KeepTags",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_mark_on_a_platform_keeps_the_indexes_that_list_it(unit: DeletionUnit) -> None:
    there = inventory(
        {"top": index("top", ["low"]), "other": index("o", ["arm64"])},
        index("low", ["amd64"]),
        image("amd64", keep="true"),
        image("arm64"),
    )
    assert _plan(there, InUse(), unit) == {"top": "KeepTags", "other": _OLD}


def test_a_mark_on_an_index_keeps_what_it_lists() -> None:
    there = inventory({"i": index("i", ["c"], keep="true"), "c": image("c")})
    assert _plan(there, InUse(), _DIGEST) == {"i": "KeepTags", "c": "FollowsParent"}


def test_a_mark_on_a_referrer_keeps_it_and_not_its_subject() -> None:
    there = inventory({"v1": image("v1"), referrer_tag("v1", ".sig"): image("s", keep="true")})
    assert _plan(there, InUse(), _DIGEST) == {"v1": _OLD, referrer_tag("v1", ".sig"): "KeepTags"}


# In use


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_digest_in_use_keeps_every_tag_on_it(unit: DeletionUnit) -> None:
    same = image("same")
    there = inventory({"a": same, "b": same, "c": image("c")})
    assert _plan(there, in_use("same"), unit) == {"a": "InUse", "b": "InUse", "c": _OLD}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_config_in_use_keeps_the_image_that_has_it(unit: DeletionUnit) -> None:
    there = inventory({"a": image("a", config="config"), "b": image("b", config="other")})
    assert _plan(there, in_use("config"), unit) == {"a": "InUse", "b": _OLD}


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize("word", ["amd64", "config"])
def test_a_platform_in_use_keeps_the_indexes_that_list_it(unit: DeletionUnit, word: str) -> None:
    there = inventory(
        {"top": index("top", ["low"]), "low": index("low", ["amd64", "arm64"]), "other": index("other", ["arm64"])},
        image("amd64", config="config"),
        image("arm64"),
    )
    assert _plan(there, in_use(word), unit) == {"top": "InUse", "low": "InUse", "other": _OLD}


def test_an_index_in_use_keeps_what_it_lists_where_only_digests_can_be_deleted() -> None:
    there = inventory({"c": image("c"), "d": image("d")}, index("no tag on it", ["low"]), index("low", ["c"]))
    using = in_use("no tag on it")
    assert _plan(there, using, _DIGEST) == {"c": "FollowsParent", "d": _OLD}
    assert _plan(there, using, _TAG) == {"c": _OLD, "d": _OLD}


def test_the_whole_index_stays_whose_platform_runs() -> None:
    there = inventory({"i": index("i", ["amd64", "arm64"]), "amd64": image("amd64"), "arm64": image("arm64")})
    assert _plan(there, in_use("amd64"), _DIGEST) == {"i": "InUse", "amd64": "InUse", "arm64": "FollowsParent"}


def test_a_tag_stands_for_all_digests_of_its_history() -> None:
    there = inventory({"a": image("a"), "b": image("b")}, image("before"), history={"a": ["before", "a"]})
    assert _plan(there, in_use("before")) == {"a": "InUse", "b": _OLD}


def test_a_tag_reference_keeps_that_tag_of_that_repository_only() -> None:
    same = image("same")
    there = inventory({"a": same, "b": same})
    assert _plan(there, in_use(tags=["a"])) == {"a": "InUse", "b": _OLD}
    assert _plan(there, in_use(tags=["a"]), _DIGEST) == {"a": "InUse", "b": "SharedDigest"}
    assert _plan(there, in_use(tags=["a"], repository="team/other")) == {"a": _OLD, "b": _OLD}


@pytest.mark.parametrize("tag", [referrer_tag("v1", ".sig"), "sbom"])
def test_a_referrer_in_use_stays_though_its_subject_goes(tag: str) -> None:
    there = inventory({"v1": image("v1"), tag: image("r", subject="v1", config="config")})
    plan = planned(_OLD_RULE, there, _DIGEST, using=in_use("config"))
    assert told(plan.verdicts) == {"v1": _OLD, tag: "InUse"}
    assert {verdict.subject for verdict in plan.verdicts} == {None, digest("v1")}


def test_a_use_does_not_change_who_is_among_the_most_recent() -> None:
    there = inventory({"a": image("a", 1), "b": image("b", 2), "c": image("c", 3)})
    assert _plan(there, in_use("b", "c"), what=policy(rule(most_recent=2))) == {
        "a": "MostRecent",
        "b": "MostRecent",
        "c": "InUse",
    }


def test_a_use_fills_the_floor() -> None:
    there = inventory({"a": image("a", 40), "b": image("b", 50)})
    assert _plan(there, in_use("b"), what=policy(rule(days=30), minimum_tags=1)) == {"a": _OLD, "b": "InUse"}


def test_digests_in_use_that_nobody_knows_harm_nobody() -> None:
    there = inventory({"a": image("a", 1)})
    assert used_digests(there, in_use("unheard of")) == {digest("unheard of")}
    assert used_digests(there, InUse()) == set()
    assert pruned(planned(_OLD_RULE, there, using=in_use("unheard of"), now=NOW + timedelta(days=60))) == {"a"}
