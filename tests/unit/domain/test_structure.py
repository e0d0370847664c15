"""How manifests hang together: what is below, what is above, and which goes first."""

from itertools import permutations

from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import ancestors, descendants, parents_first
from tests.support.builders import digest, image, index, inventory

_FACTS = inventory(
    {},
    index("top", ["left", "right", "leaf"]),
    index("left", ["leaf", "unread"]),
    index("right", ["leaf"]),
    index("apart", ["other"]),
    image("leaf"),
).manifests


def _digests(*words: str) -> set[Digest]:
    return {digest(word) for word in words}


def test_descendants_are_found_once_each_however_they_are_shared() -> None:
    assert descendants([digest("top")], _FACTS) == _digests("left", "right", "leaf", "unread")
    assert descendants([digest("leaf"), digest("unheard of")], _FACTS) == set()
    assert descendants([], _FACTS) == set()


def test_what_is_given_is_no_descendant_unless_it_is_listed() -> None:
    assert descendants(_digests("left", "leaf"), _FACTS) == _digests("leaf", "unread")


def test_ancestors_are_all_that_list_it_however_deep() -> None:
    assert ancestors([digest("leaf")], _FACTS) == _digests("left", "right", "top")
    assert ancestors(_digests("unread", "other"), _FACTS) == _digests("left", "top", "apart")
    assert ancestors([digest("top"), digest("unheard of")], _FACTS) == set()
    assert ancestors([], _FACTS) == set()


def test_indexes_that_list_each_other_end_the_search() -> None:
    facts = inventory({}, index("a", ["b"]), index("b", ["a"])).manifests
    assert descendants([digest("a")], facts) == _digests("a", "b")
    assert ancestors([digest("a")], facts) == _digests("a", "b")
    assert set(parents_first(_digests("a", "b"), facts)) == _digests("a", "b")


def test_what_lists_others_comes_first_in_the_same_order_each_time() -> None:
    words = ["leaf", "right", "top", "left"]
    orders = {tuple(parents_first([digest(word) for word in order], _FACTS)) for order in permutations(words)}
    (order,) = orders
    assert order[0] == digest("top")
    assert order[-1] == digest("leaf")


def test_what_lies_between_need_not_be_among_the_sorted() -> None:
    assert parents_first(_digests("leaf", "top"), _FACTS) == [digest("top"), digest("leaf")]
