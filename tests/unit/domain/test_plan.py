"""The plan of a repository, its order, and the hash that names it."""

import hashlib
from dataclasses import replace
from itertools import permutations

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Blob
from registry_cleanup.domain.plan import RepositoryPlan, conflicting, plan_hash
from tests.support.builders import (
    REPOSITORY,
    ago,
    digest,
    image,
    in_use,
    index,
    inventory,
    planned,
    policy,
    pruned,
    rule,
    told,
)

_POLICY = policy(rule(name="builds", days=30), keep_tags=["keep.*"])
_EMPTY_HASH = hashlib.sha256(b"a-uid\nregistry.example.com:443\n").hexdigest()


def _plans(tags: dict[str, str], *, repository: str = "team/app") -> list[RepositoryPlan]:
    return [planned(_POLICY, inventory({tag: image(word) for tag, word in tags.items()}, repository=repository))]


def test_a_plan_has_one_verdict_for_each_listed_tag_sorted_by_name() -> None:
    there = inventory({"b": image("b"), "keep": image("k"), "a": image("a")}, dangling=["c"])
    assert [verdict.tag for verdict in planned(_POLICY, there).verdicts] == ["a", "b", "c", "keep"]


def test_the_tags_of_one_digest_go_together() -> None:
    same = image("same")
    (group,) = planned(_POLICY, inventory({"b": same, "a": same, "keep": image("k")})).groups
    assert (group.digest, group.tags) == (digest("same"), ("a", "b"))


def test_indexes_go_before_what_they_list() -> None:
    there = inventory(
        {
            "leaf": image("leaf"),
            "low": index("low", ["leaf"]),
            "top": index("top", ["low", "other"]),
            "middle": index("middle", ["low", "other"]),
            "other": image("other"),
            "highest": index("highest", ["top", "middle"]),
        }
    )
    plan = planned(_POLICY, there)
    place = {group.digest: number for number, group in enumerate(plan.groups)}
    for manifest in there.manifests.values():
        assert all(place[manifest.digest] < place[child] for child in manifest.children)


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_pruning_holds_on_to_is_what_goes_its_siblings_and_the_indexes(unit: DeletionUnit) -> None:
    same = image("same")
    there = inventory({"a": same, "keep": same, "i": index("i", ["b"]), "b": image("b"), "keep-2": image("k")})
    plan = planned(_POLICY, there, unit)
    part = plan.only_going()
    assert (part.repository, part.groups, part.planned) == (plan.repository, plan.groups, plan.planned)
    assert {verdict.tag for verdict in part.verdicts} == (
        {"a", "keep", "i", "b"} if unit is DeletionUnit.TAG else {"i", "b"}
    )
    assert set(part.manifests) == {digest("i")}


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_pruning_must_not_touch_is_what_stays_of_what_goes_and_what_is_in_use(unit: DeletionUnit) -> None:
    both = image("both")
    there = inventory(
        {
            "v1": index("i", ["c", "d"]),
            "keep": index("j", ["c", "elsewhere"]),
            "keep-2": image("apart"),
            "keep-3": both,
            "a": both,
        },
        image("c"),
        image("d"),
        index("runs", ["e"]),
        image("e"),
    )
    part = planned(_POLICY, there, unit, using=in_use("runs", "in another repository")).only_going()
    shared = {digest("both")} if unit is DeletionUnit.TAG else set()
    assert part.needed == {digest("c"), digest("runs"), digest("e")} | shared


def test_pruning_knows_the_history_of_the_tags_on_what_goes_only() -> None:
    there = inventory({"a": image("a"), "keep": image("k")}, history={"a": ["b"], "keep": ["c"]}, named_only=True)
    assert planned(_POLICY, there, DeletionUnit.TAG).only_going().history == {"a": (digest("b"),)}


def test_what_tags_that_stay_named_before_must_stay_and_of_those_that_go_nothing() -> None:
    there = inventory({"a": image("a"), "keep": image("k")}, history={"a": ["b"], "keep": ["c", "d"]}, named_only=True)
    assert planned(_POLICY, there, DeletionUnit.TAG).needed == {digest("c"), digest("d")}


def test_pruning_holds_on_to_no_blobs() -> None:
    big = replace(index("i", ["c"]), blobs=(Blob(digest("i"), 500),))
    part = planned(_POLICY, inventory({"v1": big})).only_going()
    assert part.manifests == {digest("i"): replace(big, blobs=())}


def test_a_repository_that_an_older_policy_prunes_stays_whole_whatever_the_rules_say() -> None:
    there = inventory({"b": image("b"), "a": image("a")}, unresolved=["d"], dangling=["c"])
    plan = conflicting(there)
    assert told(plan.verdicts) == dict.fromkeys("abcd", "PolicyConflict")
    assert [(verdict.tag, verdict.digest) for verdict in plan.verdicts] == [
        ("a", digest("a")),
        ("b", digest("b")),
        ("c", None),
        ("d", None),
    ]
    assert (plan.repository, plan.size, plan.planned, plan.untagged) == (REPOSITORY, 4, 0, ())


def test_what_stays_is_counted_by_reason_and_what_goes_by_number() -> None:
    there = inventory({"a": image("a"), "b": image("b"), "keep": image("k"), "x": image("x", 1)}, dangling=["d"])
    plan = planned(_POLICY, there)
    assert plan.kept_by_reason() == {"KeepTags": 1, "NotOldEnough": 1, "Dangling": 1}
    assert (plan.planned, pruned(plan)) == (2, {"a", "b"})


def test_the_hash_covers_policy_registry_and_each_repository_tag_and_digest() -> None:
    # Sorted by tag: by digest the two would stand the other way round.
    assert digest("x") < digest("y")
    text = (
        f"a-uid\nregistry.example.com:443\nteam/app\ta\t{digest('y')}\nteam/app\tb\t{digest('x')}\n"
        f"team/web\ta\t{digest('x')}\n"
    )
    plans = _plans({"a": "y", "b": "x"}) + _plans({"a": "x"}, repository="team/web")
    assert plan_hash(_POLICY, plans) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_does_not_depend_on_the_order_of_repositories_and_tags() -> None:
    tags = {"a": image("x"), "b": image("x"), "c": index("i", ["x"])}
    plans = [
        planned(_POLICY, inventory({tag: tags[tag] for tag in order}, repository=name))
        for order in permutations(tags)
        for name in ("a", "b-c", "b/c")
    ]
    groups = [plans[start : start + 3] for start in range(0, len(plans), 3)]
    hashes = {plan_hash(_POLICY, order) for group in groups for order in permutations(group)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "other",
    [
        _plans({"a": "x"}),
        _plans({"a": "x", "c": "y"}),
        _plans({"a": "x", "b": "z"}),
        _plans({"a": "y", "b": "x"}),
        _plans({"a": "x", "b": "y"}, repository="team/web"),
    ],
)
def test_another_repository_tag_or_digest_makes_another_hash(other: list[RepositoryPlan]) -> None:
    assert plan_hash(_POLICY, other) != plan_hash(_POLICY, _plans({"a": "x", "b": "y"}))


def test_another_policy_or_registry_makes_another_hash() -> None:
    plans = _plans({"a": "x"})
    others = [policy(rule(days=30), uid="another"), policy(rule(days=30), registry="registry.example.com:5000")]
    assert len({plan_hash(what, plans) for what in [_POLICY, *others]}) == 3


def test_what_stays_and_why_it_goes_do_not_change_the_hash() -> None:
    one = planned(_POLICY, inventory({"a": image("x", 50)}))
    same = planned(
        policy(rule(name="other", most_recent=1)), inventory({"a": image("x", 99), "new": image("new", ago(1))})
    )
    assert plan_hash(_POLICY, [one]) == plan_hash(_POLICY, [same])


def test_a_plan_that_prunes_nothing_has_a_hash_too() -> None:
    assert plan_hash(_POLICY, []) == plan_hash(_POLICY, _plans({"keep": "x"})) == _EMPTY_HASH
