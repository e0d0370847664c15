"""What a policy's patterns match, and what they say when they cannot be used."""

import pytest

from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import InvalidPatternError, RepositoryGlob, Rule, TagPattern
from tests.support.builders import patterns, rule, selector

_MATCHES = [
    # A glob without wildcards is one repository.
    ("team/app", "team/app", True),
    ("team/app", "team/app2", False),
    ("team/app", "my/team/app", False),
    ("team/app", "team/app/cache", False),
    # `*` does not cross `/`.
    ("*", "app", True),
    ("*", "team/app", False),
    ("team/*", "team/app", True),
    ("team/*", "team/app/cache", False),
    ("team/*", "team", False),
    ("team/*-api", "team/shop-api", True),
    ("team/*-api", "team/shop-api-2", False),
    ("*/app", "team/app", True),
    ("*/app", "app", False),
    ("*/app", "a/b/app", False),
    # `?` is one character, and not `/`.
    ("app?", "app1", True),
    ("app?", "app", False),
    ("app?", "app/", False),
    ("team?app", "team/app", False),
    # `**` crosses `/`.
    ("**", "app", True),
    ("**", "a/b/c", True),
    ("team/**", "team/app", True),
    ("team/**", "team/a/b/c", True),
    ("team/**", "team2/app", False),
    ("team/**", "my/team/app", False),
    # `**/` is any number of levels, none among them.
    ("**/app", "app", True),
    ("**/app", "team/app", True),
    ("**/app", "a/b/app", True),
    ("**/app", "myapp", False),
    ("**/app", "team/myapp", False),
    ("team/**/cache", "team/cache", True),
    ("team/**/cache", "team/a/b/cache", True),
    ("team/**/cache", "teamcache", False),
    ("team/**/cache", "team/xcache", False),
    # A slash that is written must be there.
    ("team**/cache", "teamcache", False),
    ("team**/cache", "team-a/cache", True),
    ("team**/cache", "team/a/cache", True),
    # Characters of regular expressions mean themselves.
    ("a.b", "a.b", True),
    ("a.b", "axb", False),
    ("a-b_c", "a-b_c", True),
]


@pytest.mark.parametrize(("glob", "repository", "matches"), _MATCHES)
def test_a_glob_matches_whole_repositories(glob: str, repository: str, matches: bool) -> None:
    assert RepositoryGlob(glob).matches(repository) is matches


@pytest.mark.parametrize("glob", ["Team/app", "team app", "[ab]", "{a,b}", "a\\*", "a|b", "^a", "ä/b", "a:b", "a\n"])
def test_a_glob_that_no_repository_can_match_is_refused_with_what_is_allowed(glob: str) -> None:
    with pytest.raises(InvalidPatternError, match="which no repository can have; allowed are lower-case letters"):
        RepositoryGlob(glob)


def test_a_glob_may_have_digits() -> None:
    assert RepositoryGlob("team-2/app0*").matches("team-2/app07")


def test_a_glob_is_refused_with_the_character_that_no_repository_can_have() -> None:
    with pytest.raises(InvalidPatternError, match=r"^contains 'A', which no repository can have"):
        RepositoryGlob("team/App")


def test_an_empty_glob_is_refused_with_how_to_write_all() -> None:
    with pytest.raises(InvalidPatternError, match=r"is empty; write '\*\*' for every repository"):
        RepositoryGlob("")


@pytest.mark.parametrize("text", ["/team", "team/", "team//app", "/"])
def test_a_glob_that_no_repository_can_match_is_refused(text: str) -> None:
    with pytest.raises(InvalidPatternError, match="begins or ends with '/', or holds '//'"):
        RepositoryGlob(text)


@pytest.mark.parametrize(
    ("pattern", "tag", "matches"),
    [
        ("v1", "v1", True),
        ("v1", "v10", False),
        ("v1", "dev1", False),
        ("v1|v2", "v2", True),
        ("v1|v2", "v1x", False),
        ("v1|v2", "xv2", False),
        ("a|ab", "ab", True),
        (".*", "anything", True),
        ("pr-[0-9]+", "pr-17", True),
        ("pr-[0-9]+", "pr-17a", False),
        ("(?i)latest", "LATEST", True),
        ("latest", "Latest", False),
        ("v1$", "v1", True),
        ("^v1", "v1", True),
        ("v1$|x", "v1x", False),
        (r"v\d+\.\d+", "v1.2", True),
        ("v1.", "v1.2", False),
    ],
)
def test_a_pattern_matches_whole_tags(pattern: str, tag: str, matches: bool) -> None:
    assert TagPattern(pattern).matches(tag) is matches


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("[", "missing \\]"),
        ("(", "missing \\)"),
        ("*", "no argument for repetition"),
        ("(?=a)", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a{2000}", "invalid repetition size"),
        ("(?P<x", "invalid named capture"),
    ],
)
def test_a_pattern_that_is_not_re2_is_refused_with_the_cause(pattern: str, cause: str) -> None:
    with pytest.raises(InvalidPatternError, match=f"is not a regular expression of RE2 syntax: {cause}"):
        TagPattern(pattern)


def test_a_pattern_that_is_refused_is_told_by_nobody_else(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidPatternError):
        TagPattern("[told nowhere else")
    assert capfd.readouterr() == ("", "")


def test_an_empty_pattern_is_refused_with_how_to_write_all() -> None:
    with pytest.raises(InvalidPatternError, match=r"is empty; write '\.\*' for every tag"):
        TagPattern("")


def test_a_pattern_that_backtracking_would_never_finish_is_quick() -> None:
    assert not TagPattern("(a*)*b").matches("a" * 128)


def test_a_repository_is_selected_by_any_include_and_no_exclude() -> None:
    chosen = selector("team/*", "base", exclude=["team/secret", "**/cache"])
    names = ["team/app", "base", "team/secret", "team/cache", "other/app"]
    assert [name for name in names if chosen.selects(name)] == ["team/app", "base"]


def test_a_selection_without_wildcards_is_known_without_asking_the_registry() -> None:
    assert selector("team/b", "team/a", "team/b", "team/c", exclude=["team/c"]).literals == ("team/a", "team/b")
    assert selector("team/a", "team/*").literals is None
    assert selector("team/?").literals is None


def test_a_rule_that_would_prune_everything_it_matches_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"^rule 'all' has neither olderThan nor keep\.mostRecent"):
        Rule("all", patterns(".*"))


def test_a_rule_without_repositories_has_a_say_in_all_of_the_policys() -> None:
    assert rule(days=1).applies_to("any/thing")
    narrow = rule(days=1, repositories=selector("team/*", exclude=["team/base"]))
    assert [name for name in ("team/app", "team/base", "x") if narrow.applies_to(name)] == ["team/app"]


@pytest.mark.parametrize(
    ("pattern", "tag", "expected"),
    [
        ("v(?P<v>[0-9]+)", "v12", "12"),
        # The whole tag has to match, so the group takes what that needs.
        ("(?P<v>1|12)", "12", "12"),
        ("v(?P<v>[0-9]+)", "xv12", None),
        ("v(?P<v>[0-9]+)", "v12x", None),
        ("x|v(?P<v>[0-9]+)", "x", None),
    ],
)
def test_a_group_is_extracted_from_tags_that_match_whole(pattern: str, tag: str, expected: str | None) -> None:
    assert TagPattern(pattern).extract(tag, "v") == expected


def test_a_tag_that_the_rule_does_not_include_spells_no_version() -> None:
    what = rule("v(?P<v>[0-9]+)", most_recent=1, order_by=OrderBy.NUMERICAL, extract="v")
    assert (what.version_text("v7"), what.version_text("x7")) == ("7", None)
