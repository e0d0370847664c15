"""What a listing says: dates, platforms, sizes and trees of manifests, and sums in which each blob counts once."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.listing import (
    ListedManifest,
    ListedRepository,
    ListedTag,
    Sort,
    sorted_repositories,
    totals,
)
from tests.support.listings import blob, day, digest, image, index, repository

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_an_index_takes_what_its_platforms_take_with_shared_layers_once() -> None:
    found = repository(
        {"1": "a"},
        index("a", ("b", "linux/amd64"), ("c", "linux/arm64")),
        image("b", blob("1", 10), blob("2", 100)),
        image("c", blob("3", 20), blob("2", 100)),
    )
    assert found.size(digest("a")) == 130
    assert found.size(digest("b")) == 110


def test_a_layer_that_an_image_lists_twice_takes_its_room_once() -> None:
    found = repository({"1": "a"}, image("a", blob("1", 10), blob("1", 10)))
    assert found.size(digest("a")) == 10


def test_the_size_of_what_was_not_read_is_not_known() -> None:
    found = repository({"1": "a", "2": "d"}, index("a", ("b", None), ("c", None)), image("b", blob("1", 10)))
    assert found.size(digest("a")) is None
    assert found.size(digest("d")) is None
    assert found.size(None) is None


def test_a_platform_that_the_repository_does_not_hold_takes_nothing() -> None:
    found = repository({"1": "a"}, index("a", ("b", None), ("c", None)), image("b", blob("1", 10)), missing="c")
    assert found.size(digest("a")) == 10


def test_a_tag_on_something_that_is_not_there_any_more_has_no_size() -> None:
    found = repository({"1": "a"}, missing="a")
    assert found.size(digest("a")) is None
    assert totals([found]).unknown == 1


def test_an_image_of_which_nobody_tells_the_blobs_has_no_size() -> None:
    unknown = ListedManifest(digest("a"), Format.IMAGE, blobs=None)
    found = repository({"1": "a"}, unknown)
    assert found.size(digest("a")) is None
    assert totals([found]).unknown == 1


def test_the_date_of_an_index_is_that_of_its_newest_platform() -> None:
    found = repository(
        {"1": "a"},
        index("a", ("b", None), ("c", None), attestations="d"),
        image("b", created=day(1)),
        image("c", created=day(5)),
        image("d", created=None),
    )
    assert found.created(digest("a")) == day(5)


def test_an_index_with_a_platform_without_a_date_has_none() -> None:
    found = repository({"1": "a"}, index("a", ("b", None), ("c", None)), image("b", created=day(1)), image("c"))
    assert found.created(digest("a")) is None


def test_the_time_of_a_push_is_the_date_of_a_tag_where_it_is_known() -> None:
    found = repository({}, image("a", created=day(1)))
    assert found.date(ListedTag("1", digest("a"))) == day(1)
    assert found.date(ListedTag("1", digest("a"), pushed=day(9))) == day(9)


def test_the_newest_date_is_one_that_can_be_true() -> None:
    found = repository(
        {"1": "a", "2": "b", "3": "c"},
        image("a", created=datetime(1970, 1, 1, tzinfo=UTC)),
        image("b", created=day(3)),
        image("c", created=datetime(2106, 1, 1, tzinfo=UTC)),
    )
    assert found.newest(NOW) == day(3)
    assert repository({"1": "a"}, image("a", created=datetime(1970, 1, 1, tzinfo=UTC))).newest(NOW) is None


def test_the_platforms_of_an_index_are_those_of_its_images_nested_too_and_each_once() -> None:
    found = repository(
        {"1": "a"},
        index("a", ("b", "linux/amd64"), ("c", None), ("d", None), attestations="e"),
        image("b", platform="linux/amd64"),
        image("c", platform="linux/arm64/v8"),
        index("d", ("f", "windows/amd64"), ("b", "linux/amd64")),
        image("e", platform="unknown/unknown"),
    )
    assert found.platforms(digest("a")) == ("linux/amd64", "linux/arm64/v8", "windows/amd64")
    assert found.platforms(digest("c")) == ("linux/arm64/v8",)
    assert found.platforms(None) == ()


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (Sort.NAME, ["1", "2", "3", "4"]),
        (Sort.DATE, ["3", "1", "2", "4"]),
        (Sort.SIZE, ["2", "3", "1", "4"]),
    ],
)
def test_tags_are_sorted_with_the_unknown_last(by: Sort, expected: list[str]) -> None:
    found = repository(
        {"1": "a", "2": "b", "3": "c", "4": None},
        image("a", blob("1", 1), created=day(2)),
        image("b", blob("2", 30), created=day(1)),
        image("c", blob("3", 20), created=day(3)),
    )
    assert [tag.name for tag in found.sorted_tags(by)] == expected


def test_repositories_are_sorted_by_name_or_what_is_in_them() -> None:
    small = repository({"1": "a"}, image("a", blob("1", 1), created=day(3)), name="z")
    large = repository({"1": "b"}, image("b", blob("2", 9), created=day(2)), name="m")
    empty = repository({}, name="e")
    orders = [[each.name for each in sorted_repositories([small, large, empty], by, NOW)] for by in Sort]
    assert orders == [["e", "m", "z"], ["z", "m", "e"], ["m", "z", "e"]]


def test_totals_count_each_manifest_and_blob_of_the_registry_once() -> None:
    shared = image("a", blob("1", 10), blob("2", 100))
    one = repository({"1": "a", "latest": "a", "gone": None}, shared, image("f", blob("4", 7), subject="a"))
    other = repository({"2": "b"}, index("b", ("a", None), ("c", None)), shared, image("c", blob("2", 100)), name="x")
    found = totals([one, other])
    assert (found.repositories, found.tags, found.manifests) == (2, 4, 4)
    assert found.named_bytes == 110 + 110 + 110
    assert found.distinct_bytes == 117
    assert found.unknown == 1, "a tag was not read"


def test_a_tag_that_names_nothing_is_no_unknown_size() -> None:
    found = ListedRepository("team/app", (ListedTag("gone", dangling=True),))
    assert totals([found]).unknown == 0


def test_what_lists_itself_many_times_over_takes_no_time() -> None:
    letters = "0123456789abcdef"
    nested = [index(above, *((below, f"linux/{number}") for number in range(50))) for above, below in pairwise(letters)]
    found = repository({"1": "0"}, *nested, image("f", blob("1", 9), created=day(1)))
    assert found.created(digest("0")) == day(1)
    assert len(found.platforms(digest("0"))) == 50
    assert found.size(digest("0")) == 9


def test_what_goes_round_in_a_circle_has_an_end() -> None:
    found = repository({"1": "a"}, index("a", ("b", None)), index("b", ("a", None)))
    assert found.created(digest("a")) is None
    assert found.platforms(digest("a")) == ()
    assert found.size(digest("a")) == 0
