"""Lines of a report become repositories with tags, and a view leaves out what nobody wants to see."""

from typing import Any

import pytest

from registry_cleanup.cli.plans.findings import Repository, Show, View, groups, repositories
from registry_cleanup.domain.policy import RepositoryGlob

LINES: list[dict[str, Any]] = [
    {"type": "tag", "repository": "a", "tag": "old", "verdict": "Prune", "reasons": ["OlderThan"], "rule": "r"},
    {"type": "tag", "repository": "a", "tag": "done", "verdict": "Prune", "reasons": ["OlderThan"], "rule": "r"},
    {"type": "tag", "repository": "a", "tag": "used", "verdict": "Keep", "reason": "InUse", "rule": "r"},
    {"type": "tag", "repository": "a", "tag": "new", "verdict": "Keep", "reason": "MostRecent", "rule": "r"},
    {"type": "untagged", "repository": "a", "digest": "sha256:1"},
    {"type": "held", "repository": "a", "tag": "old", "reason": "GracePeriod"},
    {"type": "outcome", "repository": "a", "tag": "done", "digest": "sha256:2", "outcome": "Failed", "code": "DENIED"},
    {"type": "incomplete", "repository": "b", "reason": "Timeout", "tags": 7},
    {"type": "cut", "repository": "c", "lines": 9},
]


def _seen(view: View) -> list[Repository]:
    return [seen for repository in repositories(LINES) if (seen := view.of(repository)) is not None]


def test_each_repository_has_its_tags_with_all_that_other_lines_say_of_them() -> None:
    a, b, c = repositories(LINES)
    found = {tag.name: (tag.goes, tag.reasons, tag.held, tag.outcome, tag.code) for tag in a.tags}
    assert found == {
        "old": (True, ("OlderThan",), "GracePeriod", None, None),
        "done": (True, ("OlderThan",), None, "Failed", "DENIED"),
        "used": (False, ("InUse",), None, None, None),
        "new": (False, ("MostRecent",), None, None, None),
    }
    assert (a.going, len(a.untagged), len(a.lines)) == (2, 1, 7)
    assert (b.incomplete, b.listed, b.tags) == ("Timeout", 7, ())
    assert (c.cut, c.tags) == (9, ())


@pytest.mark.parametrize(
    ("view", "tags", "untagged"),
    [
        (View(), ["old", "done", "used", "new"], 1),
        (View(Show.GOING), ["old", "done"], 1),
        (View(Show.KEPT), ["used", "new"], 0),
        (View(Show.PROTECTED), ["used"], 0),
        (View(reasons=frozenset({"GracePeriod", "InUse"})), ["old", "used"], 0),
        (View(outcome="Failed"), ["done"], 0),
        (View(Show.KEPT, outcome="Failed"), [], 0),
    ],
    ids=["all", "going", "kept", "protected", "reasons", "outcome", "none"],
)
def test_a_view_shows_the_tags_that_are_asked_for_with_their_lines_and_no_others(
    view: View, tags: list[str], untagged: int
) -> None:
    seen = {repository.name: repository for repository in _seen(view)}
    a = seen.get("a", Repository("a"))
    assert [tag.name for tag in a.tags] == tags
    assert len(a.untagged) == untagged
    assert {line["tag"] for line in a.lines if "tag" in line} == set(tags)
    assert {"b", "c"} <= seen.keys()  # what is not known of them is told in every view


def test_a_view_of_some_repositories_shows_no_others() -> None:
    assert [repository.name for repository in _seen(View(repositories=(RepositoryGlob("b"),)))] == ["b"]


def test_signatures_and_the_like_go_with_what_they_refer_to() -> None:
    signature = {**LINES[0], "tag": "sha256-1.sig", "subject": "1" * 64}
    (repository,) = repositories([LINES[0], signature])
    found = [(heading, [tag.name for tag in tags]) for heading, tags in groups(repository.tags)]
    assert found == [
        ("go by rule r: OlderThan", ["old"]),
        ("go with what they refer to (rule r: OlderThan)", ["sha256-1.sig"]),
    ]


def test_tags_are_grouped_by_rule_and_reason_and_what_goes_comes_first() -> None:
    a = next(repositories(LINES))
    found = [(heading, [tag.name for tag in tags]) for heading, tags in groups(a.tags)]
    assert found == [
        ("go by rule r: OlderThan", ["old", "done"]),
        ("stay by rule r: InUse", ["used"]),
        ("stay by rule r: MostRecent", ["new"]),
    ]
