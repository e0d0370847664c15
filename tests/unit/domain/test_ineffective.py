"""What can never have an effect is told, and nothing that might have one."""

from __future__ import annotations

from typing import Any

import pytest

from registry_cleanup.domain.ineffective import ineffective
from registry_cleanup.kube.offline import parse
from tests.support.crd_cases import policy_with


def _rule(name: str, *include: str, repositories: dict[str, Any] | None = None, **tags: Any) -> dict[str, Any]:  # noqa: ANN401 - as the resource has it
    rule: dict[str, Any] = {"name": name, "tags": {"include": list(include), **tags}, "olderThan": "30d"}
    return rule if repositories is None else rule | {"repositories": repositories}


def _told(**spec: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - as the resource has it
    policy = policy_with("spec.dryRun", True)
    policy["spec"] |= spec
    return list(ineffective(parse(policy).policy))


_TEAM, _APPS = {"include": ["team/**"]}, {"include": ["team/**"], "exclude": ["team/base"]}


@pytest.mark.parametrize(
    "rules",
    [
        [_rule("a", "x"), _rule("b", "x")],
        [_rule("a", "x", "y"), _rule("b", "x")],
        [_rule("a", "x"), _rule("b", "y"), _rule("c", "y", "x")],
        [_rule("a", ".*"), _rule("b", "x", "y")],
        [_rule("a", "y"), _rule("b", "x"), _rule("c", "x", "y")],
        [_rule("a", "x"), _rule("b", "x", repositories=_TEAM)],
        [_rule("a", "x", repositories=_TEAM), _rule("b", "x", repositories=_TEAM)],
        [_rule("a", "x", repositories=_TEAM), _rule("b", "x", repositories=_APPS)],
        [_rule("a", "x", repositories={"include": ["**"]}), _rule("b", "x")],
        [_rule("a", "x", repositories={"include": ["**"]}), _rule("b", "x", repositories=_APPS)],
    ],
)
def test_a_rule_whose_tags_rules_above_it_own_in_all_its_repositories_is_told(rules: list[dict[str, Any]]) -> None:
    path, words = _told(rules=rules)[-1]
    assert path == f"spec.rules[{len(rules) - 1}]"
    assert "can never own a tag" in words


@pytest.mark.parametrize(
    "rules",
    [
        [_rule("a", "x"), _rule("b", "y")],
        [_rule("a", "x"), _rule("b", "x", "y")],
        [_rule("a", "x"), _rule("b", ".*")],
        [_rule("a", "x", repositories=_TEAM), _rule("b", "x")],
        [_rule("a", "x", repositories=_APPS), _rule("b", "x", repositories=_TEAM)],
        [_rule("a", "x", repositories={"include": ["team/a"]}), _rule("b", "x", repositories=_TEAM)],
        [_rule("a", "x", repositories={"include": ["**"], "exclude": ["team/a"]}), _rule("b", "x")],
        [_rule("a", ".*", repositories={"include": ["*"]}), _rule("b", "x")],
    ],
)
def test_a_rule_that_may_own_a_tag_is_not_told(rules: list[dict[str, Any]]) -> None:
    assert _told(rules=rules) == []


def test_a_rule_all_of_whose_tags_are_kept_by_name_is_told() -> None:
    rules = [_rule("a", "x", "y")]
    assert _told(rules=rules, keepTags=["x"]) == []
    for keep in (["y", "x"], [".*"]):
        assert _told(rules=rules, keepTags=keep) == [
            ("spec.rules[0]", "can never prune a tag: keepTags keeps all that its tags.include match")
        ]


def test_a_rule_that_excludes_all_that_it_includes_is_told() -> None:
    assert _told(rules=[_rule("a", "x", "y", exclude=["x"])]) == []
    for exclude in (["y", "x"], [".*"]):
        ((path, words),) = _told(rules=[_rule("a", "x", "y", exclude=exclude)])
        assert (path, "its tags.exclude match all" in words) == ("spec.rules[0]", True)


def test_a_selector_that_excludes_all_that_it_includes_is_told() -> None:
    assert _told(repositories={"include": ["a", "b"], "exclude": ["b"]}) == []
    for exclude in (["a", "b"], ["**"]):
        ((path, words),) = _told(repositories={"include": ["a", "b"], "exclude": exclude})
        assert (path, "selects no repository" in words) == ("spec.repositories", True)
    rules = [_rule("a", "x", repositories={"include": ["a"], "exclude": ["a"]})]
    assert [path for path, _ in _told(rules=rules)] == ["spec.rules[0].repositories"]
