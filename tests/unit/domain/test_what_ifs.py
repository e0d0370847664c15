"""What would have to change for the other verdict: each way, made so by a hand that is not ours, gives it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from registry_cleanup.domain.changes import Change, Kind
from registry_cleanup.domain.conflict import Rival
from registry_cleanup.domain.duration import parse_duration
from registry_cleanup.domain.explanation import explain
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import Policy, Rule, TagPattern, Untagged
from registry_cleanup.domain.situation import Situation, as_read
from tests.support.builders import NOW, digest, patterns, selector
from tests.unit.domain.generated import TAG_PATTERNS, Case, case


def _situation(random: Random) -> Situation:
    """Return a situation in which everything is known, now and then with protected tags or another policy."""
    made: Case = case(random)
    policy = made.policy
    if random.random() < 0.15:
        policy = replace(policy, protected_tags=patterns(random.choice(TAG_PATTERNS[1:])))
    rivals: tuple[Rival, ...] = ()
    if random.random() < 0.2:
        keep = patterns(*random.sample(TAG_PATTERNS[1:], random.choice([0, 1])))
        rivals = (
            Rival("other", "rival", "b-uid", random.random() < 0.6, selector(random.choice(["team/*", "x/*"])), keep),
        )
    return Situation(policy, made.there, made.unit, NOW, made.using, rivals)


situations = st.randoms(use_true_random=True).map(_situation)


def everything(there: Inventory) -> Needs:
    """Return what was read where nothing is left to read."""
    listed = frozenset((*there.tags, *there.unresolved, *there.dangling))
    digests = frozenset(there.manifests) | {digest("absent"), digest("config of m1")}
    return Needs(listed, frozenset(), frozenset(), digests, digests, digests)


def made_so(was: Situation, change: Change) -> Situation:
    """Make `change` so, as a person would who reads what JSON says of it."""
    there, policy = was.inventory, was.policy
    match change.kind:
        case Kind.TIME:
            assert change.at is not None
            return replace(was, now=change.at)
        case Kind.NEWER_IMAGES:
            new = {tag: Manifest(digest(f"new {tag}"), Format.IMAGE, created=was.now) for tag in change.tags}
            tags = {**there.tags, **{tag: manifest.digest for tag, manifest in new.items()}}
            facts = {**there.manifests, **{manifest.digest: manifest for manifest in new.values()}}
            pushed = {**there.pushed, **dict.fromkeys(change.tags, was.now)} if there.pushed else there.pushed
            return replace(was, inventory=replace(there, tags=tags, manifests=facts, pushed=pushed))
        case Kind.UNTAGGED:
            left = {tag: each for tag, each in there.tags.items() if tag not in change.tags}
            history = {tag: each for tag, each in there.history.items() if tag in left}
            return replace(was, inventory=replace(there, tags=left, history=history))
        case Kind.USED:
            names = {(there.repository, tag) for tag in change.tags}
            return replace(was, in_use=replace(was.in_use, tags=was.in_use.tags | names))
        case Kind.RIVAL:
            return replace(was, rivals=())
        case Kind.SETTING:
            return replace(was, policy=replace(policy, protected_tags=(), protected_repositories=()))
        case Kind.POLICY:
            return replace(was, policy=_rewritten(policy, change))
        case Kind.NOT_USED | Kind.MARK:
            return change.apply(was)  # what of it is used, or marked, no person could tell otherwise


def _rewritten(policy: Policy, change: Change) -> Policy:
    assert change.field is not None
    value = change.value
    match change.field.split(".", 1)[1]:
        case "minTagsPerRepository":
            assert isinstance(value, int)
            return replace(policy, minimum_tags=value)
        case "untagged":
            return replace(policy, untagged=Untagged(str(value)))
        case "keepTags" if change.removes:
            return replace(policy, keep_tags=[each for each in policy.keep_tags if each.text != value])
        case "keepTags":
            return replace(policy, keep_tags=[*policy.keep_tags, TagPattern(str(value))])
        case "pruneLatest":
            return replace(policy, keep_tags=[each for each in policy.keep_tags if each.text != "latest"])
        case _:
            pass
    place = re.fullmatch(r"spec[.]rules\[(\d+)\][.](.*)", change.field)
    assert place is not None
    rules = list(policy.rules)
    rules[int(place[1])] = _rewritten_rule(rules[int(place[1])], place[2], change)
    return replace(policy, rules=rules)


def _rewritten_rule(rule: Rule, field: str, change: Change) -> Rule:
    value = change.value
    match field:
        case "olderThan":
            return replace(rule, older_than=parse_duration(str(value)))
        case "keep.mostRecent":
            assert value is None or (isinstance(value, int) and value >= 1)
            return replace(rule, most_recent=value)
        case "includeManaged":
            return replace(rule, include_managed=True)
        case "orderBy":
            return replace(rule, order_by=OrderBy(str(value)), extract=None)
        case "tags.include":
            return replace(rule, include=(*rule.include, TagPattern(str(value))))
        case "tags.exclude":
            return replace(rule, exclude=tuple(each for each in rule.exclude if each.text != value))
        case _:
            raise AssertionError(field)


def _goes_then(situation: Situation, changes: Sequence[Change], tag: str) -> bool | None:
    """Return whether `tag` goes after these changes, as the operator would plan it; None where no policy can be so."""
    try:
        for change in changes:
            situation = made_so(situation, change)
    except ValueError:
        return None
    return tag in as_read(situation).plan().going_tags()


@given(situations)
def test_the_verdict_is_that_of_the_plan_and_each_what_if_made_so_gives_the_other(situation: Situation) -> None:
    planned = as_read(situation)
    plan = planned.plan()
    for told, verdict in zip(
        explain(planned, situation, everything(situation.inventory), [v.tag for v in plan.verdicts]),
        plan.verdicts,
        strict=True,
    ):
        assert told.verdict == verdict
        word = "Prune" if verdict.goes else verdict.kept
        event(f"{word}: {'a way' if told.what_ifs else 'no way'}")
        for what_if in told.what_ifs:
            assert what_if.goes is not verdict.goes
            assert _goes_then(situation, what_if.changes, verdict.tag) is what_if.goes, str(what_if)
            for change in what_if.changes:
                fewer = [each for each in what_if.changes if each is not change]
                assert _goes_then(situation, fewer, verdict.tag) is not what_if.goes, f"not needed: {change.text}"
