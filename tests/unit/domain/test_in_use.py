"""What is in use, as one repository sees it: by name, by image ID, and with those who use it."""

from dataclasses import replace

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import UsedSince
from registry_cleanup.domain.in_use import ALL_TAGS, InUse, UseAt, User
from registry_cleanup.domain.inventory import Inventory, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.report import FullReport, read_report
from tests.support.builders import (
    REPOSITORY,
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
    unknown,
)

_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG
_OLD_RULE = policy(rule(name="builds", days=30))
_WEB, _JOB, _NODE = User("Deployment", "team", "web"), User("Job", "team", "job"), User("Node", "", "node-1")


def _by_id(word: str, *repositories: str) -> InUse:
    return InUse(frozenset({digest(word)}), image_ids={digest(word): frozenset(repositories or (REPOSITORY,))})


def _users(there: Inventory, using: InUse, unit: DeletionUnit = _TAG) -> dict[str, tuple[User, ...]]:
    return {verdict.tag: verdict.users for verdict in planned(_OLD_RULE, there, unit, using=using).verdicts}


def test_a_user_is_named_as_people_name_it() -> None:
    assert [str(user) for user in (_WEB, _NODE)] == ["Deployment team/web", "Node node-1"]


# By repository


def test_a_repository_is_asked_for_what_bears_its_name_and_for_what_may_be_of_any() -> None:
    a, b, c, d = map(digest, "abcd")
    using = InUse(
        frozenset({a, b, c, d}),
        frozenset({("team/app", "v1"), ("team/web", "v2")}),
        image_ids={c: frozenset({"team/app"})},
        # Whoever calls it a manifest: nobody knows that of an image ID.
        repositories={a: frozenset({"team/app", "team/web"}), b: frozenset({"team/web"}), c: frozenset({"team/app"})},
    )
    assert using.at("team/app") == UseAt(frozenset({"v1"}), frozenset({a, d}), frozenset({c}))
    assert using.at("team/web") == UseAt(frozenset({"v2"}), frozenset({a, b, d}))
    assert using.at("other") == UseAt(digests=frozenset({d}))


def test_a_changed_copy_is_sorted_anew() -> None:
    using = replace(in_use(tags=["v1"]), tags=frozenset({(REPOSITORY, "v2")}))
    assert using.at(REPOSITORY).tags == {"v2"}


def test_only_what_bears_the_repositorys_name_is_read() -> None:
    mine, theirs = digest("mine"), digest("theirs")
    names = {mine: frozenset({REPOSITORY}), theirs: frozenset({"other"})}
    using = InUse(frozenset({mine, theirs}), repositories=names)
    asked = needs(policy(rule(days=1), untagged=Untagged.DELETE), REPOSITORY, ["a"], _TAG, using)
    assert asked.digests == asked.used == {mine}
    assert not asked.image_ids


def test_a_digest_protects_where_it_is_found_whatever_repository_it_was_used_by() -> None:
    there = inventory({"a": image("a"), "b": image("b")})
    using = InUse(frozenset({digest("a")}), repositories={digest("a"): frozenset({"other"})})
    assert told(planned(_OLD_RULE, there, using=using).verdicts)["a"] == "InUse"


@pytest.mark.parametrize("unit", DeletionUnit)
def test_an_image_that_cannot_be_told_keeps_every_tag_of_its_repository(unit: DeletionUnit) -> None:
    there = inventory({"a": image("a"), "b": image("b"), referrer_tag("b", ".sig"): image("s")}, dangling=["c"])
    using = in_use(tags=[ALL_TAGS])
    assert told(planned(_OLD_RULE, there, unit, using=using).verdicts) == {
        "a": "InUse",
        "b": "InUse",
        "c": "Dangling",
        referrer_tag("b", ".sig"): "InUse",
    }
    assert pruned(planned(_OLD_RULE, there, unit, using=in_use(tags=[ALL_TAGS], repository="other"))) >= {"a", "b"}


# By image ID


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize("untagged", Untagged)
def test_where_a_container_is_known_by_an_image_id_all_manifests_and_configs_are_read(
    unit: DeletionUnit, untagged: Untagged
) -> None:
    what = policy(rule("a", days=1), untagged=untagged)
    assert needs(what, REPOSITORY, ["a", "x"], unit, _by_id("runs")) == Needs(
        frozenset({"a"}), frozenset({"x"}), image_ids=frozenset({digest("runs")})
    )
    assert not needs(what, REPOSITORY, ["a", "x"], unit, _by_id("runs", "other")).image_ids
    assert needs(what, REPOSITORY, ["x"], unit, _by_id("runs")) == Needs()


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("a", {"a": "InUse"}),
        ("config of a", {"a": "InUse"}),
        ("amd64", {"i": "InUse"}),
        ("config of amd64", {"i": "InUse"}),
        ("arm64", {"i": "InUse"}),  # listed, and not here
        ("config of unnamed", {}),
        ("before", {"c": "InUse"}),
    ],
)
def test_an_image_id_is_a_manifest_or_a_config_that_is_there(
    unit: DeletionUnit, word: str, kept: dict[str, str]
) -> None:
    there = inventory(
        {"a": image("a", config="config of a"), "b": image("b"), "c": image("c"), "i": index("i", ["amd64", "arm64"])},
        image("amd64", config="config of amd64"),
        image("unnamed", config="config of unnamed"),
        history={"c": ["c", "before"]},
    )
    goes = dict.fromkeys(there.tags, "builds: OlderThan")
    assert told(planned(_OLD_RULE, there, unit, using=_by_id(word)).verdicts) == goes | kept


@pytest.mark.parametrize("unit", DeletionUnit)
def test_an_image_id_that_is_not_there_keeps_whatever_would_go(unit: DeletionUnit) -> None:
    signature = referrer_tag("a", ".sig")
    there = inventory({"a": image("a"), "b": image("b", 1), signature: image("s"), "i": index("i", ["c"])}, image("c"))
    what = replace(_OLD_RULE, untagged=Untagged.DELETE)
    using = replace(_by_id("nowhere"), digest_users={digest("nowhere"): (_WEB,)})
    plan = planned(what, there, unit, using=using)
    unclear = "InUseUnknown"
    assert told(plan.verdicts) == {"a": unclear, "b": "NotOldEnough", signature: unclear, "i": unclear}
    assert (plan.groups, plan.untagged, plan.planned) == ((), (), 0)
    assert {v.tag for v in plan.verdicts if v.users == (_WEB,)} == {"a", signature, "i"}
    assert pruned(planned(what, there, unit, using=_by_id("nowhere", "other"))) == {"a", signature, "i"}


# Who uses it


def test_a_tag_in_use_names_who_uses_it_by_name_digest_config_history_and_by_what_it_lists() -> None:
    there = inventory(
        {
            "a": image("a", config="config"),
            "i": index("i", ["amd64"]),
            "h": image("h"),
            "n": image("n"),
            "x": image("x"),
        },
        image("amd64", config="config of amd64"),
        history={"h": ["h", "before"]},
    )
    by = {"config": _WEB, "config of amd64": _JOB, "before": _NODE, "a": _JOB}
    using = replace(
        in_use(*by, tags=["n"]),
        digest_users={digest(word): (user,) for word, user in by.items()},
        tag_users={(REPOSITORY, "n"): (_WEB, _JOB), ("other", "x"): (_NODE,)},
    )
    found = {"a": (_WEB, _JOB), "i": (_JOB,), "h": (_NODE,), "n": (_WEB, _JOB), "x": ()}
    assert _users(there, using) == found


def test_who_uses_an_image_that_cannot_be_told_is_named_at_every_tag() -> None:
    using = replace(in_use(tags=[ALL_TAGS]), tag_users={(REPOSITORY, ALL_TAGS): (_WEB,)})
    assert _users(inventory({"a": image("a"), "b": image("b")}), using) == {"a": (_WEB,), "b": (_WEB,)}


def test_a_tag_that_another_reason_keeps_names_nobody() -> None:
    using = replace(in_use("a"), digest_users={digest("a"): (_WEB,)})
    assert _users(inventory({"a": image("a", 1)}), using) == {"a": ()}


@pytest.mark.parametrize(("number", "more"), [(1, None), (3, None), (4, 1), (7, 4)])
def test_the_report_names_three_users_of_a_tag_and_how_many_more(number: int, more: int | None) -> None:
    users = tuple(User("Pod", "team", f"web-{each}") for each in range(number))
    using = replace(in_use("a"), digest_users={digest("a"): users})
    report = FullReport()
    report.planned(planned(_OLD_RULE, inventory({"a": image("a")}), using=using))
    (_, line) = read_report(report.compressed({})[0])
    assert line["users"] == [f"Pod team/web-{each}" for each in range(min(number, 3))]
    assert line.get("moreUsers") == more


# What pods use since


def _going(unit: DeletionUnit) -> RepositoryPlan:
    there = inventory(
        {
            "a": image("a", config="config of a"),
            "i": index("i", ["amd64"]),
            "child": image("child", config="config of child"),
            "u": unknown("u"),
        },
        image("amd64", config="config of amd64"),
        index("elsewhere", ["child"]),
        image("before", config="config of before"),
        history={"a": ["a", "before"]} if unit is _TAG else {},
    )
    return planned(_OLD_RULE, there, unit).only_going()


def _saved(plan: RepositoryPlan, since: InUse) -> set[str]:
    used = UsedSince(plan, since)
    return {group.tags[0] for group in plan.groups if used.saves(group.digest, group.tags)}


@pytest.mark.parametrize("unit", DeletionUnit)
@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (InUse(), set()),
        (in_use("x", tags=["x"]), set()),
        (in_use("a"), {"a"}),
        (in_use("config of a"), {"a"}),
        (in_use("i"), {"i"}),
        (in_use("amd64"), {"i"}),
        (in_use("config of amd64"), {"i"}),
        (in_use(tags=["a"]), {"a"}),
        (in_use(tags=["a"], repository="other"), set()),
        (in_use(tags=[ALL_TAGS]), {"a", "child", "i"}),
        (_by_id("config of a"), {"a"}),
        (_by_id("elsewhere at all"), set()),  # all configs of what goes are known, and it is none of them
    ],
)
def test_what_a_pod_uses_since_is_saved_and_so_is_the_index_that_lists_it(
    unit: DeletionUnit, since: InUse, expected: set[str]
) -> None:
    assert _saved(_going(unit), since) == expected


@pytest.mark.parametrize(("unit", "expected"), [(_DIGEST, {"child"}), (_TAG, set())])
def test_what_an_index_lists_that_is_used_since_is_saved_where_its_tag_takes_it_along(
    unit: DeletionUnit, expected: set[str]
) -> None:
    assert _saved(_going(unit), in_use("elsewhere")) == expected
    # Without a name it would go itself.
    assert UsedSince(_going(unit), in_use("elsewhere")).saves(digest("child"), ())


def test_an_image_that_cannot_be_told_saves_what_has_no_name_too() -> None:
    assert UsedSince(_going(_DIGEST), in_use(tags=[ALL_TAGS])).saves(digest("amd64"), ())


def test_what_a_tag_stood_for_saves_it() -> None:
    assert _saved(_going(_TAG), in_use("before")) == _saved(_going(_TAG), in_use("config of before")) == {"a"}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_an_image_id_of_the_repository_saves_what_has_a_config_that_nobody_knows(unit: DeletionUnit) -> None:
    there = inventory(
        {"a": image("a"), "b": image("b", config="config of b"), "i": index("i", ["absent"])},
    )
    plan = planned(_OLD_RULE, there, unit).only_going()
    assert _saved(plan, _by_id("runs")) == {"a", "i"}
    assert _saved(plan, _by_id("runs", "other")) == set()
