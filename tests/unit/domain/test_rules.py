"""What the rules say of each tag by itself: ownership, age, number, dates, and what is no rule's business."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.conflict import Rival, with_rivals
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import needs, ownership
from registry_cleanup.domain.policy import Policy, RepositoryGlob, RepositorySelector, Rule, Untagged
from registry_cleanup.domain.rules import judge, plausible
from registry_cleanup.domain.verdict import KeepReason, PruneReason
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
    digest,
    image,
    in_use,
    index,
    inventory,
    patterns,
    policy,
    referrer_tag,
    rule,
    selector,
    told,
    unknown,
)

_DIGESTS, _TAGS = DeletionUnit.DIGEST, DeletionUnit.TAG


def _judged(what: Policy, repository: Inventory) -> dict[str, str]:
    return told(judge(what, repository, NOW).values())


# Which tags


def test_a_tag_that_matches_keep_tags_is_kept_before_any_rule_sees_it() -> None:
    what = policy(rule(days=30), keep_tags=["v1", "prod-.*"])
    tags = {name: image(name) for name in ("v1", "prod-7", "v10")}
    assert _judged(what, inventory(tags)) == {"v1": "KeepTags", "prod-7": "KeepTags", "v10": "rule: OlderThan"}


def test_latest_is_pruned_only_where_the_policy_does_not_keep_it() -> None:
    tags = inventory({"latest": image("a")})
    assert _judged(policy(rule(days=30)), tags) == {"latest": "KeepTags"}
    assert _judged(policy(rule(days=30), keep_tags=[]), tags) == {"latest": "rule: OlderThan"}


def test_the_first_rule_that_matches_owns_a_tag() -> None:
    what = policy(
        rule("pr-.*", name="pull-requests", days=200),
        rule("pr-1", "x-.*", name="second", days=1),
        rule(name="rest", days=50),
    )
    tags = {name: image(name) for name in ("pr-1", "x-1", "other")}
    assert _judged(what, inventory(tags)) == {
        "pr-1": "NotOldEnough",
        "x-1": "second: OlderThan",
        "other": "rest: OlderThan",
    }


def test_a_tag_that_its_rule_excludes_is_kept_and_no_later_rule_sees_it() -> None:
    what = policy(rule(exclude=["keep-.*"], name="first", days=1), rule(name="second", days=1))
    tags = inventory({"keep-1": image("a"), "x": image("b")})
    verdicts = judge(what, tags, NOW)
    assert told(verdicts.values()) == {"keep-1": "Excluded", "x": "first: OlderThan"}
    assert verdicts["keep-1"].rule == "first"


def test_an_exclude_speaks_only_of_tags_that_the_rule_includes() -> None:
    what = policy(rule("a-.*", exclude=["b-.*"], name="first", days=1), rule(name="second", days=1))
    assert _judged(what, inventory({"b-1": image("b")})) == {"b-1": "second: OlderThan"}


def test_a_rule_of_other_repositories_owns_nothing() -> None:
    what = policy(
        rule(name="theirs", days=1, repositories=selector("other/**")),
        rule(name="ours", days=1, repositories=selector("team/**", exclude=["team/base"])),
    )
    assert _judged(what, inventory({"x": image("x")})) == {"x": "ours: OlderThan"}
    assert _judged(what, inventory({"x": image("x")}, repository="team/base")) == {"x": "Unmatched"}


def test_a_tag_that_no_rule_owns_is_kept() -> None:
    verdicts = judge(policy(rule("pr-.*", days=1)), inventory({"x": image("x")}), NOW)
    assert told(verdicts.values()) == {"x": "Unmatched"}
    assert verdicts["x"].rule is None


def test_a_tag_is_judged_by_its_own_name_whatever_it_points_at() -> None:
    what = policy(rule("pr-.*", days=1), keep_tags=["v.*"])
    same = image("same")
    assert _judged(what, inventory({"v1": same, "pr-1": same})) == {"v1": "KeepTags", "pr-1": "rule: OlderThan"}


def test_every_listed_tag_gets_a_verdict() -> None:
    what = policy(rule("pr-.*", days=1))
    there = inventory({"pr-1": image("a")}, unresolved=["v1"], dangling=["pr-2", "v2"])
    assert _judged(what, there) == {
        "pr-1": "rule: OlderThan",
        "v1": "Unmatched",
        "pr-2": "Dangling",
        "v2": "Dangling",
    }


# Age and number


@pytest.mark.parametrize(
    ("days", "most_recent", "expected"),
    [
        (30, None, {"new": "NotOldEnough", "middle": "rule: OlderThan", "old": "rule: OlderThan"}),
        (None, 1, {"new": "MostRecent", "middle": "rule: BeyondMostRecent", "old": "rule: BeyondMostRecent"}),
        (
            30,
            2,
            {"new": "MostRecent", "middle": "MostRecent", "old": "rule: OlderThan, BeyondMostRecent"},
        ),
        (
            60,
            1,
            {"new": "MostRecent", "middle": "NotOldEnough", "old": "rule: OlderThan, BeyondMostRecent"},
        ),
        (30, 3, {"new": "MostRecent", "middle": "MostRecent", "old": "MostRecent"}),
        (30, 99, {"new": "MostRecent", "middle": "MostRecent", "old": "MostRecent"}),
    ],
)
def test_a_tag_goes_only_if_it_is_older_and_outside_the_most_recent(
    days: float | None, most_recent: int | None, expected: dict[str, str]
) -> None:
    tags = inventory({"new": image("new", 1), "middle": image("middle", 50), "old": image("old", 100)})
    assert _judged(policy(rule(days=days, most_recent=most_recent)), tags) == expected


def test_a_tag_that_is_exactly_as_old_as_older_than_is_kept() -> None:
    tags = inventory({"same": image("a", ago(30)), "older": image("b", ago(30, microseconds=1))})
    assert _judged(policy(rule(days=30)), tags) == {"same": "NotOldEnough", "older": "rule: OlderThan"}


def test_a_verdict_that_prunes_names_the_rule_the_reasons_and_the_date() -> None:
    what = policy(rule(name="builds", days=30, most_recent=1))
    verdict = judge(what, inventory({"a": image("a", 1), "b": image("b", 40)}), NOW)["b"]
    assert (verdict.digest, verdict.kept, verdict.rule, verdict.date) == (digest("b"), None, "builds", ago(40))
    assert verdict.pruned == (PruneReason.OLDER_THAN, PruneReason.BEYOND_MOST_RECENT)


def test_a_verdict_that_keeps_names_no_reason_to_prune() -> None:
    tags = {"recent": image("a", 40), "young": image("b", 1), "odd": image("c", None), "used": image("d", 90)}
    verdicts = judge(policy(rule(days=30, most_recent=2)), inventory(tags, used=["used"]), NOW)
    assert {verdict.kept for verdict in verdicts.values()} == {
        KeepReason.MOST_RECENT,
        KeepReason.UNKNOWN_DATE,
        KeepReason.IN_USE,
    }
    assert all(verdict.pruned == () for verdict in verdicts.values())


def test_most_recent_counts_images_and_not_tags() -> None:
    newest = image("newest", 1)
    tags = inventory({"a": newest, "b": newest, "c": newest, "d": image("d", 2), "e": image("e", 3)})
    assert _judged(policy(rule(most_recent=2)), tags) == {
        "a": "MostRecent",
        "b": "MostRecent",
        "c": "MostRecent",
        "d": "MostRecent",
        "e": "rule: BeyondMostRecent",
    }


def test_most_recent_counts_only_tags_that_the_rule_owns() -> None:
    what = policy(
        rule("pr-.*", name="prs", most_recent=1), rule(name="rest", most_recent=1), keep_tags=["pr-0", "latest"]
    )
    tags = inventory(
        {"pr-0": image("p0", 1), "pr-1": image("p1", 2), "pr-2": image("p2", 3), "x": image("x", 4), "y": image("y", 5)}
    )
    assert _judged(what, tags) == {
        "pr-0": "KeepTags",
        "pr-1": "MostRecent",
        "pr-2": "prs: BeyondMostRecent",
        "x": "MostRecent",
        "y": "rest: BeyondMostRecent",
    }


def test_most_recent_counts_before_the_age_test() -> None:
    # The young ones take the places: what is old and outside goes, although only young ones are "recent".
    tags = inventory({"a": image("a", 1), "b": image("b", 2), "c": image("c", 50)})
    assert _judged(policy(rule(days=30, most_recent=2)), tags) == {
        "a": "MostRecent",
        "b": "MostRecent",
        "c": "rule: OlderThan, BeyondMostRecent",
    }


def test_whatever_is_equal_to_the_last_one_kept_is_kept_too() -> None:
    tags = inventory({"a": image("a", 1), "b": image("b", 2), "c": image("c", 2), "d": image("d", 2.0001)})
    assert _judged(policy(rule(most_recent=2)), tags) == {
        "a": "MostRecent",
        "b": "MostRecent",
        "c": "MostRecent",
        "d": "rule: BeyondMostRecent",
    }


def test_dates_of_different_time_zones_are_compared_as_instants() -> None:
    berlin = datetime.fromisoformat("2026-06-01T01:30:00+02:00")
    earlier = datetime.fromisoformat("2026-06-01T00:00:00+00:00")
    tags = inventory({"berlin": image("a", berlin), "utc": image("b", earlier)})
    assert _judged(policy(rule(most_recent=1)), tags) == {"utc": "MostRecent", "berlin": "rule: BeyondMostRecent"}


# Dates that nobody knows


@pytest.mark.parametrize(
    "date",
    [
        None,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1980, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(2013, 3, 20, tzinfo=UTC) - timedelta(microseconds=1),
        NOW + timedelta(minutes=5, microseconds=1),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
def test_a_tag_whose_date_is_missing_or_cannot_be_true_is_kept_and_takes_no_place(date: datetime | None) -> None:
    tags = inventory({"odd": image("odd", date), "new": image("new", 50), "old": image("old", 60)})
    assert _judged(policy(rule(days=30, most_recent=1)), tags) == {
        "odd": "UnknownDate",
        "new": "MostRecent",
        "old": "rule: OlderThan, BeyondMostRecent",
    }
    assert not plausible(date, NOW)


@pytest.mark.parametrize("date", [datetime(2013, 3, 20, tzinfo=UTC), NOW, NOW + timedelta(minutes=5)])
def test_a_date_exactly_at_a_bound_is_believed(date: datetime) -> None:
    assert plausible(date, NOW)
    tags = inventory({"edge": image("edge", date)})
    assert "UnknownDate" not in _judged(policy(rule(days=30, most_recent=1)), tags).values()


def test_the_first_date_that_is_believed_is_old_enough_for_any_rule() -> None:
    tags = inventory({"first": image("first", datetime(2013, 3, 20, tzinfo=UTC))})
    assert _judged(policy(rule(days=30)), tags) == {"first": "rule: OlderThan"}


# What is no rule's business


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_a_tag_of_the_tag_schema_follows_its_subject_whatever_the_rules_say(suffix: str) -> None:
    tag = referrer_tag("app", suffix)
    tags = inventory({"app": image("app"), tag: image("signature")})
    assert _judged(policy(rule(days=1)), tags) == {"app": "rule: OlderThan", tag: "FollowsParent"}
    assert ownership(policy(rule(days=1)), REPOSITORY, tag).rule is None


def test_a_tag_of_the_tag_schema_for_a_longer_digest_is_no_rules_business_either() -> None:
    # The OCI specification cuts the subject's digest off after 64 digits.
    tag = "sha512-" + "a" * 64
    tags = inventory({tag: index("referrers", [], 200)})
    assert _judged(policy(rule(days=1)), tags)[tag] in ("FollowsParent", "OrphanReferrer")


def test_a_manifest_with_a_subject_is_no_rules_business_whatever_its_tag() -> None:
    tags = inventory({"app": image("app"), "sbom-1": image("sbom", subject="app"), "sbom-2": image("x", subject="y")})
    assert _judged(policy(rule(days=1)), tags) == {
        "app": "rule: OlderThan",
        "sbom-1": "FollowsParent",
        "sbom-2": "OrphanReferrer",
    }


def test_a_referrer_whose_subject_no_tag_names_is_kept_as_an_orphan() -> None:
    tag = referrer_tag("gone", ".sig")
    assert _judged(policy(rule(days=1)), inventory({tag: image("signature")})) == {tag: "OrphanReferrer"}


def test_a_referrer_is_no_orphan_while_tags_may_stand_on_its_subject() -> None:
    tag = referrer_tag("app", ".sig")
    there = inventory({"x": image("x")}, unresolved=["v1", tag])
    assert _judged(policy(rule("x", days=1)), there)[tag] == "FollowsParent"


def test_a_referrer_of_a_platform_of_an_index_follows_it() -> None:
    tag = referrer_tag("amd64", ".sig")
    there = inventory({"v1": index("v1", ["amd64"]), tag: image("signature")})
    assert _judged(policy(rule("v1", days=1)), there)[tag] == "FollowsParent"


def test_referrers_take_no_place_among_the_most_recent() -> None:
    tags = inventory(
        {
            referrer_tag("old", ".sig"): image("signature", 1),
            "sbom": image("sbom", 1, subject="old"),
            "new": image("new", 50),
            "old": image("old", 60),
        }
    )
    judged = _judged(policy(rule(most_recent=1)), tags)
    assert (judged["new"], judged["old"]) == ("MostRecent", "rule: BeyondMostRecent")


def test_a_tag_without_a_manifest_is_dangling_and_takes_no_place() -> None:
    there = inventory({"new": image("new", 50), "old": image("old", 60)}, dangling=["a"])
    assert _judged(policy(rule(most_recent=1)), there) == {
        "a": "Dangling",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }


@pytest.mark.parametrize("odd", [unknown("odd"), "a digest without facts"])
def test_a_manifest_that_nobody_understands_is_kept_and_takes_no_place(odd: Manifest | str) -> None:
    tags = inventory({"odd": odd, "new": image("new", 50), "old": image("old", 60)})
    assert _judged(policy(rule(most_recent=1)), tags) == {
        "odd": "UnknownFormat",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }


@pytest.mark.parametrize("odd", [unknown("odd"), "odd"])
def test_a_manifest_that_nobody_understands_is_still_told_by_its_digest(odd: Manifest | str) -> None:
    what = policy(rule("odd", days=30))
    there = inventory({"odd": odd})
    assert judge(what, there, NOW)["odd"].digest == digest("odd")


def test_a_tag_that_is_kept_by_its_name_and_that_nobody_had_to_resolve_takes_no_place() -> None:
    there = inventory({"new": image("new", 1), "old": image("old", 2)}, unresolved=["latest"])
    assert _judged(policy(rule(most_recent=1)), there) == {
        "latest": "KeepTags",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }


def test_a_referrer_of_a_manifest_that_is_known_without_a_tag_is_no_orphan() -> None:
    tag = referrer_tag("runs", ".sig")
    there = inventory({"x": image("x"), tag: image("s")}, image("runs"))
    assert _judged(policy(rule(days=30)), there)[tag] == "FollowsParent"


# What has to be known

_LISTED = ["a", "b", "latest", "keep-1", "v1", referrer_tag("x", ".sig")]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (_TAGS, Needs(dated=frozenset({"a", "b"}))),
        (
            _DIGESTS,
            Needs(
                dated=frozenset({"a", "b"}),
                resolved=frozenset({"latest", "keep-1", "v1", referrer_tag("x", ".sig")}),
            ),
        ),
    ],
)
def test_dates_are_read_of_owned_tags_only_and_other_digests_only_where_they_have_a_say(
    unit: DeletionUnit, expected: Needs
) -> None:
    what = policy(rule("[ab]", "keep-.*", exclude=["keep-.*"], days=1))
    assert needs(what, REPOSITORY, _LISTED, unit) == expected


@pytest.mark.parametrize("unit", DeletionUnit)
def test_nothing_is_read_where_no_rule_owns_anything(unit: DeletionUnit) -> None:
    assert needs(policy(rule("pr-.*", days=1)), REPOSITORY, _LISTED, unit) == Needs()
    elsewhere = policy(rule(days=1, repositories=selector("other/**")))
    assert needs(elsewhere, REPOSITORY, _LISTED, unit) == Needs()
    assert needs(policy(rule(days=1)), REPOSITORY, [], unit) == Needs()


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize("untagged", Untagged)
@pytest.mark.parametrize(
    "using", [NOTHING_IN_USE, InUse(frozenset({digest("a")}), image_ids={digest("a"): frozenset({REPOSITORY})})]
)
@pytest.mark.parametrize("order", OrderBy)
def test_nothing_is_read_where_no_rule_owns_more_tags_than_it_keeps_images(
    unit: DeletionUnit, untagged: Untagged, using: InUse, order: OrderBy
) -> None:
    rules = [rule("[ab]", name="two", most_recent=2, order_by=order), rule("v.*", most_recent=1, days=1)]
    what = policy(*rules, keep_tags=["keep-.*"], minimum_tags=3, untagged=untagged)
    assert needs(what, REPOSITORY, _LISTED, unit, using, NOW) == Needs()
    # One tag more of one rule, and those of the other are read as ever: they may hang together.
    asked = needs(what, REPOSITORY, [*_LISTED, "v2"], unit, using)
    assert asked.dated | asked.read >= {"a", "b", "v1", "v2"}


def test_a_tag_that_rivals_keep_by_name_is_none_of_those_that_a_rule_owns() -> None:
    rival = Rival("other", "b", "b-uid", False, selector("**"), patterns("b"))
    what = policy(rule("[ab]", most_recent=1))
    assert needs(what, REPOSITORY, _LISTED, _TAGS).dated == {"a", "b"}
    assert needs(with_rivals(what, [rival], REPOSITORY), REPOSITORY, _LISTED, _TAGS) == Needs()


def test_a_tag_of_which_nobody_had_to_know_anything_is_kept_for_what_its_name_tells() -> None:
    dated, both = rule("a.*", name="dated", most_recent=2), rule("v.*", days=1, most_recent=3, order_by=OrderBy.SEM_VER)
    what = policy(dated, both, keep_tags=["latest"])
    listed = ["a1", "a2", "v1.0.0", "vague", "vast", "latest", "other"]
    assert needs(what, REPOSITORY, listed, _TAGS) == Needs()
    verdicts = judge(what, inventory({}, unresolved=listed, managed=["vast"]), NOW, in_use(tags=["a1"]))
    assert told(verdicts.values()) == {
        "a1": "MostRecent",
        "a2": "MostRecent",
        "v1.0.0": "MostRecent",
        "vague": "UnparsableVersion",
        "vast": "ManagedBySpec",
        "latest": "KeepTags",
        "other": "Unmatched",
    }
    assert (verdicts["a1"].rule, verdicts["a1"].digest, verdicts["a1"].date) == ("dated", None, None)


def test_a_date_that_nobody_asked_for_is_no_unknown_date() -> None:
    what = policy(rule("a", most_recent=1), rule("v.*", name="v", days=1, most_recent=2, order_by=OrderBy.SEM_VER))
    tags = {"a": image("a", None), "v1.0.0": image("b", None), "vague": image("c", None)}
    unasked = judge(what, inventory(tags, undated=tags), NOW)
    assert told(unasked.values()) == {"a": "MostRecent", "v1.0.0": "MostRecent", "vague": "UnparsableVersion"}
    assert unasked["a"].digest == digest("a")
    assert _judged(what, inventory(tags)) == dict.fromkeys(tags, "UnknownDate")


def test_what_is_kept_by_its_name_is_said_without_any_fact() -> None:
    kept = ownership(policy(rule(days=1), keep_tags=["v.*"]), REPOSITORY, "v1")
    assert (kept.rule, kept.kept) == (None, KeepReason.KEEP_TAGS)


# What an image stream knows besides


def test_a_tag_is_as_old_as_its_push_where_that_is_recorded_whatever_its_image_says() -> None:
    tags = {"old-image": image("a", 90), "old-push": image("b", 1), "no-date": image("c", None)}
    there = inventory(tags, pushed={"old-image": 1, "old-push": 90, "no-date": 90})
    verdicts = judge(policy(rule(days=30)), there, NOW)
    assert told(verdicts.values()) == {
        "old-image": "NotOldEnough",
        "old-push": "rule: OlderThan",
        "no-date": "rule: OlderThan",
    }
    assert verdicts["old-push"].date == ago(90)


def test_a_verdict_says_whether_its_date_is_that_of_the_push() -> None:
    tags = {"pushed": image("a", 90), "created": image("b", 90), "young": image("c", 1), "odd": image("d", 90)}
    there = inventory(tags, pushed={"pushed": 80, "young": 2, "odd": datetime(1, 1, 1, tzinfo=UTC)})
    verdicts = judge(policy(rule(days=30)), there, NOW)
    assert {tag: (verdict.date, verdict.pushed) for tag, verdict in verdicts.items()} == {
        "pushed": (ago(80), True),
        "created": (ago(90), False),
        "young": (ago(2), True),
        "odd": (datetime(1, 1, 1, tzinfo=UTC), True),
    }


def test_a_push_that_is_not_recorded_leaves_the_date_of_the_image() -> None:
    there = inventory({"a": image("a", 90), "b": image("b", None)}, pushed={})
    assert _judged(policy(rule(days=30)), there) == {"a": "rule: OlderThan", "b": "UnknownDate"}


@pytest.mark.parametrize("when", [datetime(1, 1, 1, tzinfo=UTC), NOW + timedelta(minutes=5, seconds=1)])
def test_a_push_that_cannot_be_is_an_unknown_date_though_the_image_has_a_good_one(when: datetime) -> None:
    there = inventory({"a": image("a", 90), "b": image("b", 80)}, pushed={"a": when, "b": 80})
    assert _judged(policy(rule(most_recent=1)), there) == {"a": "UnknownDate", "b": "MostRecent"}


def test_two_tags_on_one_image_pushed_at_different_times_are_each_as_old_as_their_own_push() -> None:
    same = image("same", 400)
    there = inventory({"early": same, "late": same}, pushed={"early": 90, "late": 1})
    assert _judged(policy(rule(days=30)), there) == {"early": "rule: OlderThan", "late": "NotOldEnough"}


def test_an_image_stands_where_its_latest_push_stands() -> None:
    same = image("same")
    tags = {"early": same, "late": same, "middle": image("m"), "oldest": image("o")}
    there = inventory(tags, pushed={"early": 90, "late": 10, "middle": 50, "oldest": 95})
    assert _judged(policy(rule(most_recent=1)), there) == {
        "early": "MostRecent",
        "late": "MostRecent",
        "middle": "rule: BeyondMostRecent",
        "oldest": "rule: BeyondMostRecent",
    }
    assert _judged(policy(rule(most_recent=2)), there)["middle"] == "MostRecent"


def test_a_tag_that_the_spec_manages_is_kept_and_takes_no_place() -> None:
    tags = {"imported": image("i", 1), "new": image("n", 40), "old": image("o", 50)}
    there = inventory(tags, managed=["imported"])
    assert _judged(policy(rule(most_recent=1)), there) == {
        "imported": "ManagedBySpec",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }


def test_a_rule_that_includes_managed_tags_counts_and_prunes_them_like_others() -> None:
    tags = {"imported": image("i", 45), "new": image("n", 40), "old": image("o", 50)}
    there = inventory(tags, managed=["imported", "old"])
    assert _judged(policy(rule(most_recent=1, include_managed=True)), there) == {
        "imported": "rule: BeyondMostRecent",
        "new": "MostRecent",
        "old": "rule: BeyondMostRecent",
    }
    assert _judged(policy(rule(most_recent=2, include_managed=True)), there)["imported"] == "MostRecent"


def test_managed_tags_are_the_business_of_the_rule_that_owns_them_alone() -> None:
    there = inventory({"a-1": image("a"), "b-1": image("b"), "c": image("c")}, managed=["a-1", "b-1", "c"])
    what = policy(rule("a-.*", name="a", days=1, include_managed=True), rule("b-.*", name="b", days=1))
    verdicts = judge(what, there, NOW)
    assert told(verdicts.values()) == {"a-1": "a: OlderThan", "b-1": "ManagedBySpec", "c": "Unmatched"}
    assert verdicts["b-1"].rule == "b"


def test_a_tag_in_use_is_told_so_only_where_it_would_go_otherwise() -> None:
    tags = {"young": image("y", 1), "recent": image("r", 40), "used": image("u", 50), "free": image("f", 50)}
    there = inventory(tags, used=["young", "recent", "used"])
    assert _judged(policy(rule(days=30, most_recent=2)), there) == {
        "young": "MostRecent",
        "recent": "MostRecent",
        "used": "InUse",
        "free": "rule: OlderThan, BeyondMostRecent",
    }
    assert _judged(policy(rule(days=30)), there)["young"] == "NotOldEnough"


def test_an_image_in_use_counts_among_the_most_recent() -> None:
    tags = {"used": image("u", 10), "next": image("n", 20)}
    assert _judged(policy(rule(most_recent=1)), inventory(tags, used=["used"])) == {
        "used": "MostRecent",
        "next": "rule: BeyondMostRecent",
    }


def test_a_tag_in_use_keeps_no_other_tag_of_its_image_where_tags_go_alone() -> None:
    same = image("same")
    there = inventory({"used": same, "other": same}, used=["used"])
    assert _judged(policy(rule(days=30)), there) == {"used": "InUse", "other": "rule: OlderThan"}


def test_a_tag_that_its_stream_protects_is_kept_like_one_of_keep_tags_and_no_rules_business() -> None:
    tags = {"mine": image("m", 1), "new": image("n", 40), "old": image("o", 50)}
    there = inventory(tags, protected=["mine"], managed=["mine"], used=["mine"])
    verdicts = judge(policy(rule(most_recent=1, include_managed=True)), there, NOW)
    assert told(verdicts.values()) == {"mine": "KeepTags", "new": "MostRecent", "old": "rule: BeyondMostRecent"}
    assert verdicts["mine"].rule is None


def test_a_protected_tag_without_image_is_dangling() -> None:
    there = inventory({"a": image("a")}, dangling=["gone"], protected=["gone", "a"])
    assert _judged(policy(rule(days=30)), there) == {"a": "KeepTags", "gone": "Dangling"}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([rule(days=7)], 7),
        ([rule("pr-.*", name="a", days=30), rule(name="b", days=7)], 7),
        # By `mostRecent` what stays hangs on the dates of others.
        ([rule(days=7, most_recent=1)], None),
        ([rule("pr-.*", name="a", days=30), rule(name="b", most_recent=1)], None),
        ([rule("pr-.*", name="a", days=30), rule(name="b", most_recent=1, order_by=OrderBy.SEM_VER)], None),
        ([rule(most_recent=1)], None),
    ],
)
def test_an_index_need_not_be_dated_whole_where_age_alone_decides(rules: list[Rule], days: int | None) -> None:
    expected = None if days is None else NOW - timedelta(days=days)
    asked = needs(policy(*rules), REPOSITORY, ["pr-1", "a"], DeletionUnit.TAG, now=NOW)
    assert asked.young_after == expected
    assert replace(asked, young_after=None) == needs(policy(*rules), REPOSITORY, ["pr-1", "a"], DeletionUnit.TAG)


def test_a_rule_of_other_repositories_has_no_say_in_what_is_read_of_an_index() -> None:
    elsewhere = RepositorySelector((RepositoryGlob("elsewhere"),))
    what = policy(rule(name="a", days=7), rule(name="b", most_recent=1, repositories=elsewhere))
    assert needs(what, REPOSITORY, ["a"], DeletionUnit.TAG, now=NOW).young_after == NOW - timedelta(days=7)


def test_an_age_older_than_time_itself_asks_for_all_dates() -> None:
    what = policy(rule(days=999_999))
    assert needs(what, REPOSITORY, ["a"], DeletionUnit.TAG, now=NOW).young_after is None
