"""What bears on one tag, told from what is known of it and of its repository."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from registry_cleanup.domain.closer_look import closer_look
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.explanation import Explanation, Other, explain
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse, User
from registry_cleanup.domain.inventory import Inventory, Needs
from registry_cleanup.domain.namings import Naming, RuleTold, Says, Selection
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.ownership import PROTECTED_TAGS
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.published import Protected, nothing_published
from registry_cleanup.domain.situation import Situation, as_read, merged
from registry_cleanup.domain.verdict import KeepReason
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
)
from tests.unit.domain.test_what_ifs import everything


def told(
    what: Policy,
    there: Inventory,
    tag: str,
    *,
    unit: DeletionUnit = DeletionUnit.DIGEST,
    using: InUse = NOTHING_IN_USE,
    rivals: tuple[Rival, ...] = (),
) -> Explanation:
    """Explain one tag of a repository of which everything was read."""
    known = Situation(what, there, unit, NOW, using, rivals)
    [explanation] = explain(as_read(known), known, everything(there), [tag])
    return explanation


def ways(explanation: Explanation) -> list[str]:
    return [str(what_if) for what_if in explanation.what_ifs]


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("pr-1", [Says.OWNS, Says.NO_MATCH, Says.OTHER_REPOSITORIES, Says.LATER]),
        ("pr-2-wip", [Says.EXCLUDES, Says.NO_MATCH, Says.OTHER_REPOSITORIES, Says.LATER]),
        ("pr-3-keep", [Says.WOULD_OWN, Says.NO_MATCH, Says.OTHER_REPOSITORIES, Says.LATER]),
        ("main", [Says.NO_MATCH, Says.NO_MATCH, Says.OTHER_REPOSITORIES, Says.OWNS]),
        (referrer_tag("a"), [Says.NO_MATCH, Says.NO_MATCH, Says.OTHER_REPOSITORIES, Says.REFERRER]),
    ],
)
def test_each_rule_is_told_with_what_it_says_of_the_name(tag: str, says: list[Says]) -> None:
    what = policy(
        rule("pr-.*", name="requests", exclude=[".*-wip"], days=30),
        rule("v.*", name="versions", days=30),
        rule(name="elsewhere", repositories=selector("other/*"), days=30),
        rule(name="rest", days=30),
        keep_tags=[".*-keep"],
    )
    assert [each.says for each in told(what, inventory({tag: image("a", 40)}), tag).rules] == says


def test_the_pattern_that_decides_is_named() -> None:
    what = replace(
        policy(rule("x", "v.*", exclude=["y", "v2"], days=30, repositories=selector("**", exclude=["x/*"]))),
        protected_tags=patterns("v[23]"),
    )
    explanation = told(what, inventory({"v2": image("a", 40)}), "v2")
    assert explanation.namings == (Naming(PROTECTED_TAGS, "v[23]"),)
    assert explanation.rules == (RuleTold("rule", Says.EXCLUDES, "v.*", "v2", "**"),)
    assert explanation.line["setting"] == PROTECTED_TAGS
    assert ways(explanation)[0].startswith("It goes if the operator's administrator takes what matches it out of")


def test_a_place_is_told_with_the_boundary_and_what_is_equal() -> None:
    there = inventory({"a": image("a", 1), "b": image("b", 2), "c": image("c", 2), "d": image("d", 3)})
    what = policy(rule(most_recent=2))
    rank = told(what, there, "c").rank
    assert rank is not None
    assert (rank.place, rank.images, rank.equal, rank.kept) == (2, 4, 1, True)
    assert set(rank.last_kept) == {"b", "c"}
    last = told(what, there, "d").rank
    assert last is not None
    assert (last.place, last.kept) == (4, False)


def test_a_version_is_told_or_that_there_is_none() -> None:
    there = inventory({"v1.0.0": image("a"), "v2.0.0": image("b"), "main": image("c")})
    what = policy(rule(most_recent=1, order_by=OrderBy.SEM_VER))
    old, odd = told(what, there, "v1.0.0").rank, told(what, there, "main").rank
    assert old is not None
    assert odd is not None
    assert (old.version, old.place, old.last_position) == ("v1.0.0", 2, "v2.0.0")
    assert (odd.version, odd.place) == (None, None)


def test_an_age_is_told_with_the_time_at_which_it_is_enough() -> None:
    age = told(policy(rule(days=30)), inventory({"a": image("a", 10)}), "a").age
    assert age is not None
    assert (age.older, age.old_enough, age.source) == (False, NOW + timedelta(days=20), "Created")
    odd = told(policy(rule(days=30)), inventory({"a": image("a", ago(365 * 60))}), "a").age
    assert odd is not None
    assert (odd.plausible, odd.older, odd.old_enough) == (False, False, None)
    pushed = told(policy(rule(days=30)), inventory({"a": image("a", 90)}, pushed={"a": 40}), "a").age
    assert pushed is not None
    assert (pushed.source, pushed.date) == ("Pushed", ago(40))


def test_siblings_parents_children_and_referrers_are_told_with_what_becomes_of_them() -> None:
    there = inventory(
        {
            "multi": index("multi", ["linux"], 40),
            "linux": image("linux", 40),
            "same": "linux",
            referrer_tag("linux", ".sig"): image("sig", 40),
            "sbom": image("sbom", 40, subject="multi"),
        }
    )
    what = policy(rule(days=30), keep_tags=["multi"])
    linux, multi = told(what, there, "linux"), told(what, there, "multi")
    assert linux.siblings == (Other("same", "Keep", "FollowsParent"),)
    assert [(each.digest, each.tags) for each in linux.parents] == [
        (digest("multi"), (Other("multi", "Keep", "KeepTags"),))
    ]
    assert [each.digest for each in multi.children] == [digest("linux")]
    assert [each.digest for each in multi.referrers] == [digest("sbom")]
    assert [each.digest for each in linux.referrers] == [digest("sig")]
    subject = told(what, there, "sbom").subject
    assert subject is not None
    assert subject.digest == digest("multi")
    assert ways(linux)[0] == "It goes if spec.keepTags has no 'multi'."


def test_a_tag_that_shares_its_digest_goes_once_the_others_are_untagged() -> None:
    there = inventory({"old": image("a", 40), "v1": "a", "v2": "a", "new": image("b", 1)})
    explanation = told(policy(rule(days=30), keep_tags=["v.*"]), there, "old")
    assert ways(explanation)[0] == "It goes if v1 and v2 are untagged, too: only digests can be deleted here."


def test_a_tag_on_the_floor_goes_once_it_is_lower_or_a_newer_image_is_there() -> None:
    there = inventory({"build-1": image("a", 40)})
    explanation = told(policy(rule("build-.*", days=30), minimum_tags=1), there, "build-1")
    assert explanation.line["reason"] == "MinimumTags"
    assert ways(explanation) == [
        "It goes if 1 newer image is there with tags of rule rule (build-2, for example).",
        "It goes if spec.minTagsPerRepository is 0.",
    ]


def test_who_uses_a_tag_is_told_and_that_it_goes_without() -> None:
    user = User("Pod", "team", "app")
    using = replace(in_use("a"), digest_users={digest("a"): (user,)})
    explanation = told(policy(rule(days=30)), inventory({"old": image("a", 40)}), "old", using=using)
    assert explanation.users == (user,)
    assert ways(explanation) == ["It goes if Pod team/app no longer uses the image of old."]


def test_of_who_names_a_tag_it_is_told_that_they_use_the_tag() -> None:
    user = User("Pod", "team", "app")
    using = InUse(tags=frozenset({("team/app", "old")}), tag_users={("team/app", "old"): (user,)})
    explanation = told(policy(rule(days=30)), inventory({"old": image("a", 40)}), "old", using=using)
    assert ways(explanation) == ["It goes if Pod team/app no longer uses old."]


def test_a_mark_is_told_with_what_it_says() -> None:
    there = inventory({"old": image("a", 40, keep="2099-01-01")})
    explanation = told(policy(rule(days=30)), there, "old")
    assert explanation.marks == (f"{digest('a')} says 2099-01-01",)
    assert ways(explanation) == ["It goes if its image does not bear the mark registrycleanup.dev/keep."]


def test_a_dangling_tag_and_a_tag_that_is_not_there_are_told_as_such() -> None:
    there = inventory({"build-1": image("a", 1)}, dangling=["build-2"])
    what = policy(rule("build-.*", days=30))
    dangling = told(what, there, "build-2")
    assert (dangling.dangling, dangling.line["reason"], dangling.what_ifs) == (True, "Dangling", ())
    absent = told(what, there, "build-9")
    assert (absent.verdict, absent.similar[0]) == (None, "build-2")
    assert absent.rules[0].says is Says.OWNS


def test_a_tag_that_goes_is_told_since_when_it_is_published_and_which_limit_speaks_against_it() -> None:
    there = inventory({f"build-{number}": image(str(number), 40) for number in range(20)})
    known = Situation(policy(rule(days=30), grace_hours=48), there, DeletionUnit.TAG, NOW)
    plan = known.plan()
    published = nothing_published("a-uid").renewed([plan], [], "0" * 64, ago(1))
    [explanation] = explain(known, known, everything(there), ["build-1"], published)
    held = explanation.held
    assert held is not None
    assert (held.reason, held.published, held.may_go) == (KeepReason.GRACE_PERIOD, ago(1), ago(-1))
    assert held.limits == (f"20 of 20 tags of {REPOSITORY} would go, more than limits.maxPercentPerRepository (50)",)
    [fresh] = explain(known, known, everything(there), ["build-1"])
    assert fresh.held is not None
    assert (fresh.held.published, fresh.held.may_go) == (None, None)


def test_a_tag_that_an_undo_put_back_is_told_to_stay_for_that_until_another_digest_stands_there() -> None:
    there = inventory({"build-1": image("1", 40), "build-2": image("2", 40)})
    known = Situation(policy(rule(days=30), grace_hours=0), there, DeletionUnit.TAG, NOW)
    undone = Protected("a-uid").with_more(
        [(REPOSITORY, "build-1", digest("1")), (REPOSITORY, "build-2", digest("old"))]
    )
    told = explain(known, known, everything(there), ["build-1", "build-2"], undone=undone)
    assert [each.held and each.held.reason for each in told] == [KeepReason.UNDONE, KeepReason.GRACE_PERIOD]


def test_manifests_that_lose_their_name_with_a_tag_are_told_but_not_those_that_another_tag_names() -> None:
    there = inventory({"old": index("multi", ["a", "b"], 40), "kept": image("a", 1)}, image("b", 40))
    explanation = told(policy(rule("old", days=30)), there, "old", unit=DeletionUnit.TAG)
    assert set(explanation.untagged) == {digest("multi"), digest("b")}


def test_a_rival_is_told_with_what_it_keeps() -> None:
    rival = Rival("other", "builds", "b-uid", False, selector("team/*"), patterns("old"))
    explanation = told(policy(rule(days=30)), inventory({"old": image("a", 40)}), "old", rivals=(rival,))
    assert explanation.namings == (Naming("spec.keepTags of policy other/builds", "old"),)
    assert ways(explanation) == [f"It goes if policy other/builds selects {REPOSITORY} no longer, or is suspended."]


def test_which_globs_select_a_repository_or_do_not() -> None:
    globs = selector("team/*", "**/app", exclude=["team/secret"])
    assert Selection.of(globs, "team/app") == Selection(True, ("team/*", "**/app"), (), ("team/*", "**/app"))
    assert Selection.of(globs, "team/secret").exclude == ("team/secret",)
    assert not Selection.of(globs, "other/web").selected


# What is read besides


def test_where_nothing_can_go_what_the_rules_would_need_is_read_and_nothing_twice() -> None:
    there = inventory({}, unresolved=["build-1", "build-2", "v1"])
    planned = Situation(policy(rule("build-.*", most_recent=5)), there, DeletionUnit.TAG, NOW)
    read = planned.needs()
    assert not read.dated
    more = closer_look(planned, read, ["v1"])
    assert more.dated == {"build-1", "build-2", "v1"}
    assert not closer_look(planned, more, ["v1"]).dated


def test_of_a_large_repository_no_more_is_read_than_is_worth_an_answer() -> None:
    others = [f"v{number}" for number in range(5000)]
    there = inventory({}, unresolved=["build-1", *others])
    planned = Situation(policy(rule("build-.*", days=5)), there, DeletionUnit.TAG, NOW)
    more = closer_look(planned, planned.needs(), ["v7"])
    assert more.dated == {"v7"}
    assert len(more.read | more.resolved) <= 1000
    whole = closer_look(planned, planned.needs(), [], digest("a"))
    assert whole.dated | whole.read | whole.resolved >= set(others)
    assert whole.digests == {digest("a")}


def test_where_a_name_keeps_a_tag_all_that_the_pattern_keeps_is_dated_to_tell_how_it_would_be_without() -> None:
    there = inventory({}, unresolved=["build-1", "v1", "v2"])
    planned = Situation(policy(rule(days=5), keep_tags=["v.*"]), there, DeletionUnit.TAG, NOW)
    assert closer_look(planned, planned.needs(), ["v1"]).dated == {"v1", "v2"}


def test_the_date_of_an_index_that_one_platform_showed_to_be_young_is_read_anew() -> None:
    there = inventory({"multi": index("multi", ["a", "b"], 1), "old": image("c", 40)})
    planned = Situation(policy(rule(days=30)), there, DeletionUnit.TAG, NOW)
    assert closer_look(planned, planned.needs(), []).dated == {"multi"}


def test_an_index_of_which_one_platform_was_young_and_another_has_no_date_has_none() -> None:
    settled = inventory({"multi": replace(index("multi", ["a", "b"], 1), inferred=True)}, image("a", 1))
    whole = inventory(
        {"multi": replace(index("multi", ["a", "b"], None), inferred=True)}, image("a", 1), image("b", None)
    )
    assert merged(settled, whole).manifests[digest("multi")].created is None
    assert merged(whole, settled).manifests[digest("multi")].created == ago(1)


def test_what_could_not_be_planned_without_reading_more_is_not_told() -> None:
    there = inventory({"v1": image("a", 40)}, unresolved=["v2"])
    known = Situation(policy(rule(days=30), keep_tags=["v.*"]), there, DeletionUnit.TAG, NOW)
    v1 = frozenset({"v1"})
    [half] = explain(as_read(known), known, Needs(dated=v1), ["v1"])
    assert half.what_ifs == ()
    [whole] = explain(as_read(known), known, Needs(dated=v1 | {"v2"}), ["v1"])
    assert ways(whole) == ["It goes if spec.keepTags has no 'v.*'."]


def test_waiting_is_told_to_the_second_and_newer_images_to_the_number() -> None:
    there = inventory({"build-1": image("a", 10), "build-2": image("b", 5)})
    what = policy(rule("build-.*", days=30))
    assert ways(told(what, there, "build-1")) == [
        "It goes if build-1 is older than 30d, as it is from 2026-07-05T12:00:01Z on.",
        "It goes if spec.rules[0].olderThan is 9d.",
    ]
    what = policy(rule("build-.*", most_recent=3))
    assert ways(told(what, there, "build-1")) == [
        "It goes if 2 newer images are there with tags of rule rule (build-3 and build-4, for example).",
        "It goes if spec.rules[0].keep.mostRecent is 1.",
    ]
    assert ways(told(what, there, "build-2"))[0].startswith("It goes if 3 newer images are there")


def test_what_is_read_besides_decides_nothing() -> None:
    # The operator reads one of those that stay, which is no image of its own, and so the floor needs `old`.
    there = inventory({"k1": image("sbom", subject="k2"), "k2": image("k2"), "old": image("old", 40)})
    what = policy(rule("old", days=30), minimum_tags=1)
    known = Situation(what, there, DeletionUnit.DIGEST, NOW)
    assert known.plan().going_tags() == {"old"}
    assert as_read(known).plan().going_tags() == set()
    assert told(what, there, "old").line["reason"] == "MinimumTags"


def test_a_manifest_that_dates_itself_needs_no_config_for_it() -> None:
    itself, by_config = image("a", 40), replace(image("b", 40), inferred=True)
    known = Situation(
        policy(rule(most_recent=1, order_by=OrderBy.SEM_VER)),
        inventory({"1.0.0": itself, "2.0.0": by_config}),
        DeletionUnit.TAG,
        NOW,
    )
    read = as_read(known).inventory.manifests
    assert {m.digest: m.created for m in read.values()} == {itself.digest: itself.created, by_config.digest: None}


def test_a_mark_in_a_config_keeps_only_where_the_config_was_read_anyway() -> None:
    marked = replace(image("a", 40, keep="true"), inferred=True)
    there = inventory({"1.0.0": marked, "2.0.0": image("b", 40)})
    by_version = Situation(policy(rule(most_recent=1, order_by=OrderBy.SEM_VER)), there, DeletionUnit.TAG, NOW)
    assert as_read(by_version).plan().going_tags() == {"1.0.0"}
    assert as_read(replace(by_version, policy=policy(rule(days=30)))).plan().going_tags() == {"2.0.0"}
    annotated = inventory({"1.0.0": replace(marked, annotated="true"), "2.0.0": image("b", 40)})
    assert as_read(replace(by_version, inventory=annotated)).plan().going_tags() == set()


def test_a_pattern_that_keeps_thousands_is_not_read_through() -> None:
    there = inventory({}, unresolved=["build-1", *(f"v{number}" for number in range(5000))])
    planned = Situation(policy(rule(days=5), keep_tags=["v.*"]), there, DeletionUnit.TAG, NOW)
    assert closer_look(planned, planned.needs(), ["v7"]).dated == {"v7"}


def test_a_tag_that_goes_is_told_the_pattern_that_keeps_it_alone() -> None:
    explanation = told(policy(rule(days=30)), inventory({"v1.0": image("a", 40)}), "v1.0")
    assert ways(explanation)[0] == "It stays if 'v1[.]0' is added to spec.keepTags."
