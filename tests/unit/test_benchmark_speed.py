"""What the benchmark holds the operator to: the least requests, what has to go, and when a target is met."""

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.speed.limit import BrokenError, whole
from benchmarks.speed.minimal import cold, deletions, names, warm
from benchmarks.speed.rounds import Figures
from benchmarks.speed.table import Target, ratios
from benchmarks.speed.truth import NOW, Fact, RepositoryTruth, Truth
from benchmarks.speed.works import WrongError, beyond, compare

OLD, YOUNG = (int((NOW - timedelta(days=days)).timestamp()) for days in (40, 20))
APP = RepositoryTruth(
    "team/app",
    {"build-0": "sha256:a", "build-1": "sha256:a", "build-2": "sha256:i", "build-3": "sha256:b"},
    {
        "sha256:a": Fact(OLD, "sha256:config-a"),
        "sha256:b": Fact(YOUNG, "sha256:config-b"),
        "sha256:c": Fact(OLD, "sha256:config-c"),
        "sha256:i": Fact(0, None, ("sha256:b", "sha256:c")),
    },
)
TRUTH = Truth([APP])
LISTS = ["GET /v2/_catalog?n=1000", "GET /v2/team/app/tags/list"]


def test_a_cold_plan_takes_each_tag_once_each_untagged_platform_once_and_one_config_for_each_image() -> None:
    assert [f"{one.method} {one.path}" for one in cold(TRUTH, timedelta(days=10))] == [
        *LISTS,
        *(f"GET /v2/team/app/manifests/build-{number}" for number in range(4)),
        "GET /v2/team/app/manifests/sha256:c",
        *(f"GET /v2/team/app/blobs/sha256:config-{letter}" for letter in "abc"),
    ]


def test_a_platform_that_is_young_enough_settles_its_index() -> None:
    assert [one.path for one in cold(TRUTH, timedelta(days=30)) if "blobs" in one.path] == [
        f"/v2/team/app/blobs/sha256:config-{letter}" for letter in "ab"
    ]


def test_a_warm_plan_takes_the_digest_of_each_tag() -> None:
    assert [f"{one.method} {one.path}" for one in warm(TRUTH)] == [
        *LISTS,
        *(f"HEAD /v2/team/app/manifests/build-{number}" for number in range(4)),
    ]


def test_names_take_lists_and_a_deletion_takes_one_request_for_a_tag() -> None:
    assert [f"{one.method} {one.path}" for one in names(TRUTH)] == LISTS
    going = deletions([("team/app", "build-0", "sha256:a")])
    assert [f"{one.method} {one.path}" for one in going] == ["DELETE /v2/team/app/manifests/build-0"]


def test_a_registry_is_asked_for_all_media_types_so_that_it_converts_nothing() -> None:
    asked = [one.more for one in [*cold(TRUTH, timedelta(days=30)), *warm(TRUTH)] if "/manifests/" in one.path]
    assert all("image.index.v1+json" in more and "manifest.v2+json" in more for more in asked)


def test_an_index_is_as_young_as_its_youngest_platform() -> None:
    assert APP.created("sha256:i") == datetime.fromtimestamp(YOUNG, UTC)
    assert TRUTH.older_than(timedelta(days=30)) == {
        ("team/app", "build-0", "sha256:a"),
        ("team/app", "build-1", "sha256:a"),
    }


def test_by_names_all_go_but_the_newest_of_those_that_share_nothing() -> None:
    tags = {f"build-{number:06}": "" for number in range(20)}
    assert beyond(RepositoryTruth("app", tags, {}), 14) == ["build-000000", "build-000001"]
    assert beyond(RepositoryTruth("app", tags, {}), 100) == []


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 40),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", 43),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 59),
    ],
)
def test_an_answer_is_whole_when_its_last_byte_is_there(answer: bytes, length: int | None) -> None:
    assert whole(answer) == length


def test_the_answer_to_a_head_has_no_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"
    assert whole(answer, bodiless=True) == len(answer)


def test_an_answer_of_unknown_length_is_refused() -> None:
    with pytest.raises(BrokenError):
        whole(b"HTTP/1.1 200 OK\r\n\r\n{}")


def test_a_result_that_is_not_the_truth_fails() -> None:
    compare("client", {("a", "1")}, {("a", "1")})
    with pytest.raises(WrongError, match="1 lines are missing and 2 are too much"):
        compare("client", {("a", "2"), ("a", "3")}, {("a", "1")})


def test_a_target_is_met_by_the_median_of_the_ratios_of_each_round() -> None:
    bare, ours = ([Figures(1, 1, seconds, 0, 0) for seconds in each] for each in ((1, 2, 4), (1, 3, 4)))
    assert ratios(ours, bare) == [1.0, 1.5, 1.0]
    assert Target("time", 1.0, ratios(ours, bare)).reached
    assert not Target("speed", 1.1, ratios(ours, bare), at_least=True).reached
