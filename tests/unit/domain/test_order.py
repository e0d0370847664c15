"""What a tag spells in each order, and which version comes after which."""

from itertools import pairwise
from typing import Any

import pytest

from registry_cleanup.domain.order import OrderBy, parse_version

_SEM_VER, _NUMERICAL, _ALPHABETICAL = OrderBy.SEM_VER, OrderBy.NUMERICAL, OrderBy.ALPHABETICAL


def _parsed(order: OrderBy, text: str) -> Any:  # noqa: ANN401 - versions of one order are comparable with each other
    version = parse_version(order, text)
    assert version is not None, text
    return version


@pytest.mark.parametrize(
    ("order", "ascending"),
    [
        # The example of semver.org, section 11.
        (
            _SEM_VER,
            "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0",
        ),
        (_SEM_VER, "0.0.1 0.0.2 0.1.0 0.9.9 0.10.0 1.0.0 2.0.0 2.0.1 2.1.0 10.0.0"),
        # Numbers before words, words by code point, a hyphen is no separator.
        (_SEM_VER, "1.0.0-0 1.0.0-9 1.0.0-10 1.0.0-1a 1.0.0-A 1.0.0-a 1.0.0-a-1 1.0.0-a1"),
        (_SEM_VER, "1.0.0-x 1.0.0-x.0 1.0.0-x.0.0 1.0.0-x.a"),
        (_SEM_VER, "9007199254740992.0.0 9007199254740993.0.0 9007199254740993.9007199254740993.9007199254740994"),
        (_NUMERICAL, "-10 -9.5 0 007 8 9 9.05 9.5 10 11 100"),
        (_NUMERICAL, "9007199254740992 9007199254740993 9007199254740993.1 9007199254740993.10000000000000000001"),
        (_NUMERICAL, f"{'9' * 120} 1{'0' * 120} 1{'0' * 119}1"),
        (_NUMERICAL, "20260101 20260102 20260601120000"),
        (_ALPHABETICAL, "1 10 9 A Z a b ba z"),
    ],
)
def test_each_version_comes_after_the_one_before(order: OrderBy, ascending: str) -> None:
    for earlier, later in pairwise(ascending.split()):
        assert _parsed(order, earlier) < _parsed(order, later), (earlier, later)


@pytest.mark.parametrize(
    ("order", "one", "other"),
    [
        (_SEM_VER, "1.2.3", "v1.2.3"),
        (_SEM_VER, "1.2.3+build.1", "1.2.3+20260615"),
        (_SEM_VER, "1.2.3-rc.1+a", "v1.2.3-rc.1"),
        (_NUMERICAL, "7", "007"),
        (_NUMERICAL, "9.5", "9.50"),
        (_NUMERICAL, "0", "-0"),
    ],
)
def test_versions_that_differ_only_in_what_has_no_precedence_are_equal(order: OrderBy, one: str, other: str) -> None:
    assert _parsed(order, one) == _parsed(order, other)


@pytest.mark.parametrize(
    "text",
    [
        *("", "v", "1", "1.2", "v1.2", "1.2.3.4", "latest", "1.2.x", "a1.2.3", "V1.2.3", "vv1.2.3", "1.2.3_1"),
        *("01.2.3", "1.02.3", "1.2.03", "1.2.3-01", "1.2.3-", "1.2.3-a..b", "1.2.3-a.", "1.2.3+", "1.2.3-ä"),
        *(" 1.2.3", "1.2.3 ", "1.2.3\n", "-1.2.3", "\N{ARABIC-INDIC DIGIT ONE}.2.3"),
    ],
)
def test_what_is_no_whole_semantic_version_spells_none(text: str) -> None:
    assert parse_version(_SEM_VER, text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".", "1.", ".5", "1.2.3", "1e3", "0x10", "1_000", "+1", "--1", "NaN", "Infinity", "v1"),
        *("1 ", "1\n", "½", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_what_is_no_plain_decimal_number_spells_none(text: str) -> None:
    assert parse_version(_NUMERICAL, text) is None


def test_a_version_as_long_as_a_tag_can_be_is_read() -> None:
    assert parse_version(_NUMERICAL, "9" * 128) is not None
    assert parse_version(_SEM_VER, f"1.0.{'9' * 124}") is not None
    assert parse_version(_SEM_VER, "1.0.0-" + "a.0-" * 30) is not None
    assert parse_version(_SEM_VER, "1.0.0-" + "0" * 121 + "!") is None


def test_a_date_is_not_read_from_a_tag() -> None:
    with pytest.raises(ValueError, match="not read from a tag"):
        parse_version(OrderBy.DATE, "2026-01-01")
