"""What hangs on tags: platforms of an index, and signatures and SBOMs below what they refer to."""

from itertools import pairwise

from registry_cleanup.domain.listing import ListedRepository
from registry_cleanup.domain.trees import Node, Relation, Trees
from tests.support.listings import digest, image, index, repository


def shape(node: Node) -> str:
    """Write a tree as the first digit of each digest, what is below in brackets, and referrers after a bar."""
    listed = [shape(each) for each in node.below if each.relation is Relation.LISTED]
    refers = [shape(each) for each in node.below if each.relation is Relation.REFERS]
    below = f"({' '.join(listed)}{'|' if refers else ''}{' '.join(refers)})" if node.below else ""
    return node.digest[7] + below


def shapes(found: ListedRepository) -> list[str]:
    return [shape(node) for node in Trees(found).of_tags(found.tags)]


def test_what_refers_to_something_stands_below_it_and_nowhere_else() -> None:
    found = repository(
        {"1": "a", f"sha256-{'a' * 64}.sig": "d", "sbom": "e"},
        index("a", ("b", None), ("c", None)),
        image("b"),
        image("c"),
        image("d"),
        image("e", subject="b"),
        image("f", subject="a"),
        referrers={"a": "f"},
    )
    assert shapes(found) == ["a(b(|e) c|d f)"]
    assert Trees(found).referrer_count(digest("a")) == 2
    assert Trees(found).referrer_count(digest("b")) == 1


def test_what_the_index_of_the_tag_schema_lists_stands_below_that() -> None:
    found = repository(
        {"1": "a", f"sha256-{'a' * 64}": "d"},
        image("a"),
        index("d", ("e", None), ("f", None)),
        image("e", subject="a"),
        image("f", subject="a"),
    )
    assert shapes(found) == ["a(|d(e f))"]
    assert Trees(found).referrer_count(digest("a")) == 2


def test_the_referrer_of_something_that_is_not_here_stands_for_itself() -> None:
    found = repository({f"sha256-{'9' * 64}.sig": "d"}, image("d"))
    assert shapes(found) == ["d"]


def test_a_signature_of_a_signature_stands_below_it() -> None:
    found = repository({"1": "a"}, image("a"), image("b", subject="a"), image("c", subject="b"))
    assert shapes(found) == ["a(|b(|c))"]


def test_what_goes_round_in_a_circle_is_not_followed_twice() -> None:
    found = repository({"1": "a"}, index("a", ("b", None)), index("b", ("a", None)), referrers={"a": "b", "b": "a"})
    assert shapes(found) == ["a(b(a|a)|b)"]


def test_tags_on_one_digest_share_a_tree() -> None:
    found = repository({"1": "a", "2": "b", "latest": "a"}, image("a"), image("b"))
    assert [node.tags for node in Trees(found).of_tags(found.tags)] == [("1", "latest"), ("2",)]


def test_what_lists_itself_many_times_over_is_shown_once() -> None:
    letters = "0123456789abcdef"
    nested = [index(above, *((below, None) for _ in range(3))) for above, below in pairwise(letters)]
    (tree,) = shapes(repository({"1": "0"}, *nested, image("f")))
    assert tree.startswith("0(1(2(3(")
    assert tree.endswith(" 3 3) 2 2) 1 1)")
