"""Whatever a repository holds and a policy says: the planner against a naive reading of the design's sentences.

`make test` tries some hundreds of examples of each property, `make test-thorough` 10,000 (tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import event, given
from hypothesis import strategies as st

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import ALL_TAGS
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import RepositoryPlan, plan_hash
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.reference import Digest
from tests.support.builders import REPOSITORY, digest, image, inventory, patterns, planned, policy, pruned, rule, told
from tests.unit.domain import oracle
from tests.unit.domain.generated import TAG_NAMES, TAG_PATTERNS, Case, cases, cases_without_floor, plain_cases, shuffled


def _ceasing(plan: RepositoryPlan) -> set[Digest]:
    """Return the manifests that a plan deletes, whether it says so itself or they go with their last tag."""
    digests = {group.digest for group in plan.groups} if plan.unit is DeletionUnit.DIGEST else set()
    return digests | (set(plan.untagged) if plan.deletes_untagged or plan.named_only else set())


def _staying(case: Case, plan: RepositoryPlan) -> set[Digest]:
    """Return what the tags that stay name, and what is in use."""
    going = pruned(plan)
    return {address for tag, address in case.there.tags.items() if tag not in going} | oracle.used(case)


# The comparison


@given(cases)
def test_every_verdict_is_what_a_naive_reading_of_the_design_says(case: Case) -> None:
    plan = case.plan()
    expected = oracle.read(case)
    assert pruned(plan) == set(expected.going)
    verdicts = told(plan.verdicts)
    assert verdicts.keys() == expected.kept.keys() | expected.going.keys()
    for tag, reasons in (expected.going | expected.kept).items():
        assert verdicts[tag] in reasons, tag
    assert set(plan.untagged) == expected.untagged
    for reason in set(verdicts.values()):
        event(reason.partition(": ")[2] or reason)


# What must hold without any reading


@given(cases)
def test_no_tag_goes_that_its_name_a_mark_or_a_use_keeps(case: Case) -> None:
    for tag in pruned(case.plan()):
        assert not oracle.matches(case.policy.keep_tags, tag)
        assert any(oracle.matches(each.include, tag) for each in case.policy.rules) or tag in oracle.referrers(case)
        assert tag not in case.there.dangling
        assert not oracle.kept_by_mark(case, tag)
        assert not oracle.in_use(case, tag)


@given(cases)
def test_no_manifest_goes_that_a_kept_tag_names(case: Case) -> None:
    plan = case.plan()
    assert not _staying(case, plan) & _ceasing(plan)


@given(cases)
def test_no_kept_or_used_index_misses_a_manifest_that_it_lists(case: Case) -> None:
    plan = case.plan()
    assert not oracle.listed_below(case, _staying(case, plan)) & _ceasing(plan)


@given(cases)
def test_no_referrer_goes_whose_subject_stays(case: Case) -> None:
    plan = case.plan()
    subjects = oracle.referrers(case)
    assert all(subjects[tag] in _ceasing(plan) for tag in pruned(plan) & subjects.keys())


@given(cases)
def test_at_least_the_floor_stays_where_there_is_so_much(case: Case) -> None:
    going = pruned(case.plan())
    images = [tag for tag in case.there.tags if oracle.an_image(case, tag)]
    assert sum(tag not in going for tag in images) >= min(case.policy.minimum_tags, len(images))


@given(cases)
def test_every_tag_in_use_names_all_that_use_it_and_no_other_tag_names_any(case: Case) -> None:
    for verdict in case.plan().verdicts:
        if verdict.kept == "InUse":
            assert set(verdict.users) == oracle.users(case, verdict.tag)
        elif verdict.kept != "InUseUnknown":
            assert not verdict.users


# More that keeps never prunes more


def _assert_no_more(more: Case, than: Case) -> None:
    with_more, without = more.plan(), than.plan()
    assert pruned(with_more) <= pruned(without)
    assert _ceasing(with_more) <= _ceasing(without)


@given(cases_without_floor, st.sampled_from([*TAG_PATTERNS, *TAG_NAMES]))
def test_another_pattern_in_keep_tags_never_prunes_more(case: Case, pattern: str) -> None:
    _assert_no_more(case.with_policy(keep_tags=[*case.policy.keep_tags, *patterns(pattern)]), case)


@given(cases_without_floor)
def test_a_mark_on_an_image_never_prunes_more(case: Case) -> None:
    address = case.random.choice(sorted(case.there.manifests))
    marked = replace(case.there.manifests[address], keep="true")
    _assert_no_more(case.with_repository(manifests={**case.there.manifests, address: marked}), case)


@given(cases_without_floor)
def test_a_higher_number_of_most_recent_images_never_prunes_more(case: Case) -> None:
    rules = [replace(each, most_recent=each.most_recent and each.most_recent + 1) for each in case.policy.rules]
    _assert_no_more(case.with_policy(rules=rules), case)


@given(cases_without_floor)
def test_another_use_never_prunes_more(case: Case) -> None:
    digests = sorted(case.there.manifests) + [each.config for each in case.there.manifests.values() if each.config]
    tags = {(REPOSITORY, case.random.choice(sorted(case.there.tags)))} if case.there.tags else set()
    used = case.random.choice([*digests, digest("absent")])
    everything = {(REPOSITORY, ALL_TAGS)} if case.random.random() < 0.05 else set()
    by_id = {used: frozenset({REPOSITORY})} if case.random.random() < 0.3 else {}
    using = replace(
        case.using,
        digests=case.using.digests | {used},
        tags=case.using.tags | everything | (tags if case.random.random() < 0.5 else set()),
        image_ids={**by_id, **case.using.image_ids},
    )
    _assert_no_more(replace(case, using=using), case)


def test_a_kept_tag_may_take_the_place_on_the_floor_that_a_newer_one_had() -> None:
    # Why the properties above hold without a floor only: what is kept counts for it, as the design has it.
    there = inventory({"old": image("old", 90), "new-1": image("new", 40), "new-2": image("new", 40)})
    what = policy(rule(days=30), minimum_tags=1)
    assert pruned(planned(what, there)) == {"old"}
    assert pruned(planned(replace(what, keep_tags=patterns("old")), there)) == {"new-1", "new-2"}


# One plan, whatever comes between


@given(cases)
def test_the_plan_does_not_depend_on_any_order(case: Case) -> None:
    there, random = case.there, case.random
    other = case.with_repository(
        tags=dict(shuffled(random, there.tags.items())),
        manifests=dict(shuffled(random, there.manifests.items())),
        pushed=dict(shuffled(random, there.pushed.items())),
        history=dict(shuffled(random, there.history.items())),
    ).plan()
    first = case.plan()
    assert (other.verdicts, other.groups, other.untagged) == (first.verdicts, first.groups, first.untagged)
    assert plan_hash(case.policy, [other]) == plan_hash(case.policy, [first])


def _after(case: Case, plan: RepositoryPlan) -> Case:
    """Return the case as it is when all of `plan` is done."""
    going, ceasing = pruned(plan), _ceasing(plan)
    return case.with_repository(
        tags={tag: address for tag, address in case.there.tags.items() if tag not in going},
        manifests={address: each for address, each in case.there.manifests.items() if address not in ceasing},
        history={tag: digests for tag, digests in case.there.history.items() if tag not in going},
    )


@given(cases)
def test_planning_a_pruned_repository_again_prunes_only_what_a_referrer_held(case: Case) -> None:
    # A referrer that is an index keeps what it lists until it is gone. Doubt keeps: those were judged while it was
    # there, and the next run finds them, with their own referrers.
    first = case.plan()
    followers = [verdict for verdict in first.verdicts if verdict.goes and verdict.subject is not None]
    held = oracle.listed_below(case, {verdict.digest for verdict in followers if verdict.digest is not None})
    second = _after(case, first).plan()
    assert all(case.there.tags[tag] in held for tag in pruned(second) - oracle.referrers(case).keys())
    assert held or not pruned(second)


@given(cases)
def test_what_goes_goes_in_an_order_that_leaves_nothing_pullable_without_a_part(case: Case) -> None:
    plan = case.plan()
    last = {group.digest: number for number, group in enumerate(plan.groups)}
    for number, group in enumerate(plan.groups):
        for subject in group.after:
            assert last.get(Digest(subject), -1) < number
        if case.unit is DeletionUnit.DIGEST:
            assert all(last.get(child, number + 1) > number for child in oracle.listed_below(case, {group.digest}))
    place = {address: number for number, address in enumerate(plan.untagged)}
    for address, number in place.items():
        assert all(place.get(child, number + 1) > number for child in oracle.listed_below(case, {address}))
    assert len(pruned(plan)) == plan.planned
    assert plan.planned + plan.kept_by_reason().total() == case.there.size


# What has to be known


def _gathered(case: Case) -> Case:
    """Return the case with what `needs` asks for, and no more."""
    there = case.there
    asked = needs(case.policy, REPOSITORY, list(there.tags), case.unit, case.using)
    known = {tag: address for tag, address in there.tags.items() if tag in asked.dated | asked.read | asked.resolved}
    dated = {there.tags[tag] for tag in asked.dated}
    read = {there.tags[tag] for tag in asked.read} | ((asked.digests | asked.image_ids) & there.manifests.keys())
    resolved = {there.tags[tag] for tag in asked.resolved}
    facts = {
        address: _structure(there.manifests[address])
        for address in _indexes(there, oracle.listed_below(case, resolved) | resolved)
    }
    facts |= {
        address: replace(there.manifests[address], created=None)
        for address in oracle.listed_below(case, dated | read) | read
        if address in there.manifests
    }
    facts |= {address: there.manifests[address] for address in dated}
    return case.with_repository(tags=known, unresolved=frozenset(there.tags) - known.keys(), manifests=facts)


def _generous(case: Case) -> Case:
    """Return the case with rules of which some keep as many images as they may own tags, or all but one."""
    size = len(case.there.tags)
    numbers = [size, size, max(size - 1, 0), None]
    rules = [
        each if (number := case.random.choice(numbers)) is None else replace(each, most_recent=number)
        for each in case.policy.rules
    ]
    return case.with_policy(rules=rules)


def _indexes(there: Inventory, digests: Iterable[Digest]) -> list[Digest]:
    return [each for each in digests if each in there.manifests and there.manifests[each].format is Format.INDEX]


def _structure(index: Manifest) -> Manifest:
    return Manifest(index.digest, index.format, index.children)


@given(plain_cases | plain_cases.map(_generous))
def test_what_the_rules_asked_for_is_all_that_the_plan_needed(case: Case) -> None:
    # Of plain cases: whether a tag that no rule owns refers to something is not asked, as it is kept either way. A mark
    # counts only where it is read anyway, and a manifest only where a tag or a use leads to it.
    gathered = _gathered(case)
    read = {address for address, each in gathered.there.manifests.items() if each.keep is not None}
    used = case.using.at(REPOSITORY)
    reached = {*case.there.tags.values(), *used.digests, *used.image_ids}
    facts = {
        address: each if address in read else replace(each, keep=None)
        for address, each in case.there.manifests.items()
        if address in reached | oracle.listed_below(case, reached)
    }
    plan, fewer = case.with_repository(manifests=facts).plan(), gathered.plan()
    assert fewer.groups == plan.groups
    if case.unit is DeletionUnit.DIGEST or case.policy.untagged is Untagged.DELETE:
        assert fewer.untagged == plan.untagged


@given(cases.map(_generous))
def test_where_the_names_of_the_tags_tell_that_none_can_go_nothing_is_asked_and_no_other_reason_is_made_up(
    case: Case,
) -> None:
    there = case.there
    listed = there.tags.keys() | there.dangling
    if needs(case.policy, REPOSITORY, listed, case.unit, case.using) != Needs():
        event("something is asked")
        return
    event("rules own tags" if any(verdict.rule for verdict in case.plan().verdicts) else "rules own nothing")
    facts = {address: replace(each, created=None) for address, each in there.manifests.items()}
    known_by_name = case.with_repository(tags={}, dangling=frozenset(), unresolved=listed, manifests={}, pushed={})
    without_dates = case.with_repository(manifests=facts, pushed={}, undated=frozenset(there.tags))
    whole = told(case.plan().verdicts)
    for fewer in (known_by_name.plan(), without_dates.plan()):
        assert fewer.groups == case.plan().groups == ()
        verdicts = told(fewer.verdicts)
        assert verdicts.keys() == whole.keys()
        assert "UnknownDate" not in verdicts.values()
        for tag, reason in verdicts.items():
            if whole[tag] in {"MostRecent", "UnparsableVersion", "ManagedBySpec", "Unmatched", "Excluded"}:
                assert reason == whole[tag]
