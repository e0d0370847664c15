"""Patterns that need what no tag has are known, and none that a tag might match is among them."""

from __future__ import annotations

import pytest
import re2
from hypothesis import assume, given
from hypothesis import strategies as st

from registry_cleanup.domain.policy import InvalidPatternError, TagPattern
from registry_cleanup.domain.unmatchable import impossible_character


@pytest.mark.parametrize(
    ("pattern", "character"),
    [
        ("app:v.*", ":"),
        ("team/v.*", "/"),
        ("build-.* ", " "),
        ("'v.*'", "'"),
        ('"v.*"', '"'),
        ("v@+", "@"),
        ("(?:a(?P<n>b:)c)", ":"),
        ("(a:)+", ":"),
        ("a:{2}", ":"),
        ("[:]?,", ","),
        ("é.*", "é"),
        ("v.*\n", "\n"),
        (r"\p{Lu}\x{41}!", "!"),
        ("[]:]=", "="),
        ("[[:alpha:]]=", "="),
        ("a{b", "{"),
    ],
)
def test_what_a_pattern_needs_and_no_tag_has_is_named(pattern: str, character: str) -> None:
    TagPattern(pattern)  # which is valid
    assert impossible_character(pattern) == character


@pytest.mark.parametrize(
    "pattern",
    [
        "v.*",
        ".*",
        "^v[0-9]+$",
        "v(?P<version>.*)",
        "(?:a)",
        "(?<n>a)",
        "a:?b",
        "a:*",
        "a:{0}",
        "a:{0,3}b",
        "(a:)?b",
        "(a(b:))*c",
        "a|b:",
        "[:/ ]?a",
        "[^:]",
        "[]:]?a",
        r"[\]:]*a",
        "[[:alpha:]]",
        r"a\.b",
        r"\pL\p{Lu}\x{41}\x41",
        "(?i)\N{LATIN SMALL LETTER LONG S}",
        r"\Qa:\E",
        "a{1,2}",
    ],
)
def test_where_it_is_not_certain_nothing_is_said(pattern: str) -> None:
    TagPattern(pattern)  # which is valid
    assert impossible_character(pattern) is None


@given(st.text("ab:[]()?*+{}0,1\\^$.|-<>Ppx", max_size=12))
def test_no_pattern_that_is_told_has_a_match_among_tags(pattern: str) -> None:
    try:
        TagPattern(pattern)
    except InvalidPatternError:
        assume(False)
    if (character := impossible_character(pattern)) is not None:
        # Without that character in the alphabet nothing short matches, either.
        tags = ["a", "b", "0", "1", "P", "p", "x", "ab", "ba", "aa", "a-", "a.", "00", "a0", "abab", "a.b-0", "P1"]
        assert not any(re2.fullmatch(pattern, tag) for tag in tags), character
