"""A fresh plan and the published one: what is new, what dropped out, and what was pruned in between."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from registry_cleanup.cli.plans.difference import Baseline, Item, baseline_of, compare, planned
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.published import Published, nothing_published
from registry_cleanup.domain.reference import Digest

NOW = datetime(2026, 11, 25, tzinfo=UTC)
PLAN = {"hash": "a" * 64, "generatedAt": "2026-11-24T00:00:00Z"}


def _item(tag: str, repository: str = "app") -> Item:
    return Item(repository, tag, Digest(f"sha256:{tag}"))


def _tag(tag: str, repository: str = "app", verdict: str = "Prune") -> dict[str, Any]:
    return {"type": "tag", "verdict": verdict, **_item(tag, repository)._asdict()}


def _head(plan: str = PLAN["hash"], cut: int = 0) -> dict[str, Any]:
    return {"type": "run", "plan": plan, "repositoriesCut": cut}


def _fresh(*tags: str) -> frozenset[Item]:
    return frozenset(map(_item, tags))


def _prints(tags: Iterable[str], plan: str = PLAN["hash"]) -> Published:
    groups = tuple(DigestGroup(Digest(f"sha256:{tag}"), (tag,)) for tag in tags)
    return nothing_published("uid").renewed([RepositoryPlan("app", (), groups, {})], (), plan, NOW)


def test_what_is_planned_is_read_from_the_lines_of_a_report() -> None:
    assert planned([_tag("old"), _tag("new", verdict="Keep")]) == {_item("old")}


def test_by_a_whole_report_each_tag_that_is_new_or_dropped_out_has_its_name() -> None:
    outcome = {"type": "outcome", "outcome": "Pruned", **_item("gone")._asdict()}
    lines = [_head(), _tag("same"), _tag("late"), _tag("gone"), _tag("kept", verdict="Keep"), outcome]
    baseline = baseline_of(PLAN, None, lines)
    assert baseline.whole

    difference = compare(_fresh("same", "more"), "b" * 64, (), baseline)

    assert not difference.same
    assert (difference.new, difference.dropped, difference.pruned) == (
        [_item("more")],
        [_item("late")],
        [_item("gone")],
    )
    assert (difference.nameless, difference.unchanged) == (0, 1)


def test_by_fingerprints_what_is_new_has_a_name_and_what_dropped_out_a_number() -> None:
    baseline = baseline_of(PLAN, _prints(["same", "late", "later"]), [])

    difference = compare(_fresh("same", "more"), "b" * 64, (), baseline)

    assert (difference.new, difference.dropped) == ([_item("more")], [])
    assert (difference.nameless, difference.unchanged) == (2, 1)


def test_a_report_that_is_cut_gives_names_to_some_of_what_dropped_out() -> None:
    baseline = baseline_of(PLAN, _prints(["same", "late", "later"]), [_head(cut=1), _tag("late")])
    assert not baseline.whole

    difference = compare(_fresh("same"), "b" * 64, (), baseline)

    assert (difference.dropped, difference.nameless) == ([_item("late")], 1)


def test_a_tag_that_stands_on_another_digest_is_new_and_dropped_out() -> None:
    moved = Item("app", "same", Digest("sha256:other"))
    difference = compare(frozenset({moved}), "b" * 64, (), baseline_of(PLAN, None, [_head(), _tag("same")]))
    assert (difference.new, difference.dropped) == ([moved], [_item("same")])


def test_of_a_repository_that_could_not_be_read_nothing_has_dropped_out() -> None:
    by_report = baseline_of(PLAN, None, [_head(), _tag("old", "broken")])
    assert compare(frozenset(), "b" * 64, {"broken"}, by_report).dropped == []
    by_prints = baseline_of(PLAN, _prints(["old"]), [])
    assert compare(frozenset(), "b" * 64, {"app"}, by_prints).nameless == 0


def test_what_belongs_to_another_plan_counts_for_nothing() -> None:
    other = "c" * 64
    assert not baseline_of(PLAN, _prints(["old"], other), [_head(other), _tag("old")]).known
    assert not baseline_of(PLAN, nothing_published("uid"), []).known


def test_the_same_hash_is_no_difference() -> None:
    baseline = Baseline(PLAN["hash"], PLAN["generatedAt"], items=_fresh("same"), whole=True)
    difference = compare(_fresh("same"), PLAN["hash"], (), baseline)
    assert difference.same
    assert (difference.new, difference.dropped, difference.unchanged) == ([], [], 1)
