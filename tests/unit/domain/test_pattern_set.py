"""Many patterns asked at once answer as each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from registry_cleanup.domain.pattern_set import PatternSet
from tests.support.builders import patterns
from tests.unit.domain.generated import TAG_NAMES, TAG_PATTERNS

# What would mean something else if patterns were put together as text.
_AWKWARD = ["(?i)LATEST", r"\Qa.b", "(?P<v>.*)-1", "(?P<v>x)", "a|b", "(?s).", "^a$", r"v\d+", "é+"]
_TEXTS = [*TAG_PATTERNS, *_AWKWARD]
_TAGS = [*TAG_NAMES, "LATEST", "a.b", "axb", "b)", "x", "x-1", "", "é", "a\nb", "\n"]


def _each(texts: Sequence[str], tag: str) -> list[int]:
    return [place for place, pattern in enumerate(patterns(*texts)) if pattern.matches(tag)]


@given(st.lists(st.sampled_from(_TEXTS), max_size=6), st.sampled_from(_TAGS))
def test_all_patterns_at_once_answer_as_each_by_itself(texts: list[str], tag: str) -> None:
    assert sorted(PatternSet(patterns(*texts)).matching(tag)) == _each(texts, tag)


def test_patterns_that_are_too_large_together_are_asked_one_by_one() -> None:
    texts = [f"({number}|[^a]){{90}}.*" for number in range(400)]
    assert len(PatternSet(patterns(*texts, "b+")).matching("b" * 120)) == 401


def test_where_the_automaton_has_no_room_to_answer_nothing_is_taken_for_no_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(_set: object, _text: str) -> list[int]:
        return []

    monkeypatch.setattr(re2.Set, "Match", no_room)
    assert PatternSet(patterns("keep-.*", "x", ".*")).matching("keep-1") == (0, 2)
