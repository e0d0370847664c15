"""Rules that order by a version, or extract it from a part of the tag."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Inventory, Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.policy import Policy, Rule, Untagged
from registry_cleanup.domain.rules import judge
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
    image,
    in_use,
    inventory,
    patterns,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
    unknown,
)

_VERSIONS = rule(most_recent=1, order_by=OrderBy.SEM_VER)


def _judged(what: Policy, there: Inventory) -> dict[str, str]:
    return told(judge(what, there, NOW).values())


def _repository(*tags: str) -> Inventory:
    return inventory({tag: image(tag) for tag in tags})


def test_the_highest_version_is_the_most_recent_whatever_the_dates_say() -> None:
    there = inventory({"1.9.0": image("a", 1), "1.10.0": image("b", 99), "1.10.0-rc.1": image("c", 2)})
    assert _judged(policy(_VERSIONS), there) == {
        "1.10.0": "MostRecent",
        "1.9.0": "rule: BeyondMostRecent",
        "1.10.0-rc.1": "rule: BeyondMostRecent",
    }


def test_a_tag_that_spells_no_version_is_kept_and_takes_no_place() -> None:
    assert _judged(policy(_VERSIONS), _repository("1.0", "zzz", "1.0.0", "0.9.0")) == {
        "1.0": "UnparsableVersion",
        "zzz": "UnparsableVersion",
        "1.0.0": "MostRecent",
        "0.9.0": "rule: BeyondMostRecent",
    }


def test_versions_of_equal_precedence_are_kept_together() -> None:
    assert pruned(planned(policy(_VERSIONS), _repository("1.0.0", "v1.0.0", "0.9.0"))) == {"0.9.0"}


def test_an_image_stands_where_its_highest_version_stands() -> None:
    same = image("same")
    there = inventory({"1.0.0": same, "3.0.0": same, "2.0.0": image("b")})
    assert _judged(policy(_VERSIONS), there) == {
        "1.0.0": "MostRecent",
        "3.0.0": "MostRecent",
        "2.0.0": "rule: BeyondMostRecent",
    }


@pytest.mark.parametrize("order", [OrderBy.SEM_VER, OrderBy.NUMERICAL, OrderBy.ALPHABETICAL])
def test_a_rule_that_only_counts_versions_reads_no_date(order: OrderBy) -> None:
    what = policy(rule(most_recent=1, order_by=order))
    there = inventory({"1.0.0": image("a", None), "2": image("b", None), "3": image("c", None)})
    assert "UnknownDate" not in _judged(what, there).values()
    assert needs(what, REPOSITORY, ["2", "3"], DeletionUnit.TAG) == Needs(read=frozenset({"2", "3"}))


def test_a_rule_of_versions_and_age_keeps_what_has_no_date() -> None:
    what = policy(rule(most_recent=1, days=30, order_by=OrderBy.SEM_VER))
    there = inventory({"3.0.0": image("c", None), "2.0.0": image("b", 50), "1.0.0": image("a", 50)})
    assert _judged(what, there) == {
        "3.0.0": "UnknownDate",
        "2.0.0": "MostRecent",
        "1.0.0": "rule: OlderThan, BeyondMostRecent",
    }
    listed = ["2.0.0", "1.0.0"]
    assert needs(what, REPOSITORY, listed, DeletionUnit.TAG) == Needs(dated=frozenset(listed))


def test_a_date_that_the_rule_does_not_read_decides_nothing() -> None:
    # It may be known by chance, of an image that another rule dates.
    what = policy(_VERSIONS, minimum_tags=2)
    facts = {"3.0.0": 1, "2.0.0": 90, "1.0.0": 10}
    with_dates = planned(what, inventory({tag: image(tag, days) for tag, days in facts.items()}))
    without = planned(what, inventory({tag: image(tag, None) for tag in facts}))
    assert with_dates.verdicts == without.verdicts


def test_a_push_that_cannot_be_true_counts_as_the_newest_for_the_floor() -> None:
    tags = {"4.0.0": image("d"), "3.0.0": image("c"), "2.0.0": image("b"), "1.0.0": image("a")}
    odd = datetime(1970, 1, 1, tzinfo=UTC)
    there = inventory(tags, pushed={"4.0.0": 9, "3.0.0": 10, "2.0.0": 20, "1.0.0": odd})
    assert _judged(policy(_VERSIONS), there)["1.0.0"] == "rule: BeyondMostRecent"
    assert pruned(planned(policy(_VERSIONS, minimum_tags=2), there, DeletionUnit.TAG)) == {"3.0.0", "2.0.0"}
    assert pruned(planned(policy(_VERSIONS, minimum_tags=3), there, DeletionUnit.TAG)) == {"2.0.0"}


def test_a_push_that_cannot_be_is_not_the_date_of_a_tag_either() -> None:
    there = inventory(
        {"2.0.0": image("a"), "1.0.0": image("b")}, pushed={"2.0.0": 5, "1.0.0": datetime(1, 1, 1, tzinfo=UTC)}
    )
    assert [verdict.date for verdict in planned(policy(_VERSIONS), there).verdicts] == [None, ago(5)]


# Extracting


@pytest.mark.parametrize(
    ("include", "order", "tags", "kept"),
    [
        (["app-(?P<v>.*)"], OrderBy.SEM_VER, "app-1.10.0 app-1.9.0", "app-1.10.0"),
        (["build-(?P<v>[0-9]+)-.*"], OrderBy.NUMERICAL, "build-9-zzz build-10-aaa", "build-10-aaa"),
        (["(?P<v>[0-9]+)-.*", "b(?P<v>[0-9]+)"], OrderBy.NUMERICAL, "9-x b10", "b10"),
        # What the first include that matches extracts counts.
        (["(?P<v>[0-9]).*", "(?P<v>.*)"], OrderBy.NUMERICAL, "19 2", "2"),
        ([".*-(?P<v>[a-z]+)"], OrderBy.ALPHABETICAL, "2-a 1-b", "1-b"),
    ],
)
def test_a_rule_orders_by_what_it_extracts(include: list[str], order: OrderBy, tags: str, kept: str) -> None:
    what = policy(rule(*include, most_recent=1, order_by=order, extract="v"))
    judged = _judged(what, _repository(*tags.split()))
    assert [tag for tag, word in judged.items() if word == "MostRecent"] == [kept]


def test_a_group_that_takes_no_part_extracts_no_version() -> None:
    what = policy(rule("x|(?P<v>[0-9]+)", most_recent=1, order_by=OrderBy.NUMERICAL, extract="v"))
    assert _judged(what, _repository("x", "1"))["x"] == "UnparsableVersion"


def test_every_include_has_to_define_what_is_extracted() -> None:
    with pytest.raises(ValueError, match=r"^rule 'rule' has an include without the group 'v'"):
        rule("(?P<v>.*)", "b", most_recent=1, order_by=OrderBy.NUMERICAL, extract="v")


# Tags that keepTags keeps lend their images their place


def _lending() -> tuple[Policy, Inventory]:
    same = image("same", 90)
    there = inventory({"1.0.0": same, "3.0.0": same, "2.0.0": image("b", 90)})
    return policy(_VERSIONS), there


def test_a_kept_tag_lends_its_place_to_the_others_on_its_image() -> None:
    what, there = _lending()
    assert pruned(planned(what, there, DeletionUnit.TAG)) == {"2.0.0"}
    kept = replace(what, keep_tags=patterns("3.*"))
    assert pruned(planned(kept, there, DeletionUnit.TAG)) == {"2.0.0"}
    assert planned(kept, there).verdicts[0].kept == "MostRecent"


def test_a_tag_that_a_mark_of_its_stream_keeps_lends_its_place_too() -> None:
    what, there = _lending()
    assert pruned(planned(what, replace(there, protected=frozenset({"3.0.0"})), DeletionUnit.TAG)) == {"2.0.0"}


def test_a_kept_tag_that_the_rule_would_not_own_lends_nothing() -> None:
    _, there = _lending()
    excluding = rule(most_recent=1, order_by=OrderBy.SEM_VER, exclude=["3.*"])
    assert pruned(planned(policy(excluding, keep_tags=["3.*"]), there, DeletionUnit.TAG)) == {"1.0.0"}


def test_an_image_of_kept_tags_alone_takes_no_place() -> None:
    what = policy(_VERSIONS, keep_tags=["3.*"])
    assert _judged(what, _repository("3.0.0", "2.0.0", "1.0.0")) == {
        "3.0.0": "KeepTags",
        "2.0.0": "MostRecent",
        "1.0.0": "rule: BeyondMostRecent",
    }


def test_the_digests_of_lending_tags_are_asked_for_where_a_version_counts() -> None:
    listed = ["1.0.0", "2.0.0", "3.0.0", "other"]
    by_version = rule("[0-9].*", most_recent=1, order_by=OrderBy.SEM_VER)
    by_date = rule("[0-9].*", most_recent=1)
    excluding = rule("[0-9].*", exclude=["3.*"], most_recent=1, order_by=OrderBy.SEM_VER)
    by_age = rule("[0-9].*", days=30, order_by=OrderBy.SEM_VER)
    for what, lent in ((by_version, {"3.0.0"}), (by_date, set()), (excluding, set()), (by_age, set())):
        asked = needs(policy(what, keep_tags=["3.*"]), REPOSITORY, listed, DeletionUnit.TAG)
        assert asked.resolved == lent


# What else has to be known


def _asked(*rules: Rule, untagged: Untagged, unit: DeletionUnit) -> Needs:
    using = in_use("runs")
    listed = ["a", "x", referrer_tag("a", ".sig")]
    return needs(policy(*rules, untagged=untagged), REPOSITORY, listed, unit, using)


@pytest.mark.parametrize(
    ("unit", "untagged"),
    [(DeletionUnit.DIGEST, Untagged.KEEP), (DeletionUnit.DIGEST, Untagged.DELETE), (DeletionUnit.TAG, Untagged.DELETE)],
)
def test_where_manifests_go_all_digests_and_what_is_in_use_are_asked_for(
    unit: DeletionUnit, untagged: Untagged
) -> None:
    asked = _asked(rule("a", days=1), untagged=untagged, unit=unit)
    assert asked == Needs(
        dated=frozenset({"a"}),
        read=frozenset({referrer_tag("a", ".sig")}),
        resolved=frozenset({"x"}),
        digests=in_use("runs").digests,
        used=in_use("runs").digests,
    )


def test_what_is_owned_and_what_refers_are_both_read_where_only_versions_count() -> None:
    by_version = rule("a|x", most_recent=1, order_by=OrderBy.ALPHABETICAL)
    asked = _asked(by_version, untagged=Untagged.KEEP, unit=DeletionUnit.DIGEST)
    assert asked.read == {"a", "x", referrer_tag("a", ".sig")}


def test_where_only_tags_go_nothing_else_is_asked_for() -> None:
    asked = _asked(rule("a", days=1), untagged=Untagged.KEEP, unit=DeletionUnit.TAG)
    assert asked == Needs(dated=frozenset({"a"}), used=in_use("runs").digests)


def test_what_nobody_understands_is_kept_before_its_version_is_read() -> None:
    there = inventory({"2.0.0": unknown("x"), "1.0.0": image("a"), "zzz": unknown("y")})
    assert _judged(policy(_VERSIONS), there) == {
        "2.0.0": "UnknownFormat",
        "zzz": "UnknownFormat",
        "1.0.0": "MostRecent",
    }
