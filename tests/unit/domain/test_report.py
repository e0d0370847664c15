"""The full report of a run: what each line says, in which order, and what is cut where it would grow too large."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.report import MOST_BYTES, FullReport, read_report
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import REPOSITORY, ago, digest, image, index, inventory, planned, policy, referrer_tag, rule

_POLICY = policy(rule(name="builds", days=30, most_recent=0), keep_tags=["keep.*"], untagged=Untagged.DELETE)
_HEAD = {"policy": "team/builds"}


def _lines(report: FullReport) -> list[dict[str, Any]]:
    content, _ = report.compressed(_HEAD)
    return list(read_report(content))


def _plan(there: Inventory, unit: DeletionUnit = DeletionUnit.DIGEST) -> RepositoryPlan:
    return planned(_POLICY, there, unit)


def _repository(name: str, words: Iterable[str] = ("keep",)) -> RepositoryPlan:
    return _plan(inventory({word: image(word) for word in words}, repository=name))


def _noise(word: str, number: int) -> list[str]:
    """Return tags that all stay, and that no compression makes shorter."""
    return [f"keep-{digest(f'{word} {each}')[7:]}" for each in range(number)]


# Lines


def test_a_report_begins_with_the_run() -> None:
    assert _lines(FullReport()) == [{"type": "run", "policy": "team/builds", "spared": 0, "repositoriesCut": 0}]


def test_every_verdict_is_a_line_with_all_that_is_known_of_it() -> None:
    signature = referrer_tag("i", ".sig")
    there = inventory(
        {
            "a": image("a", 90, blobs={"x": 10, "y": 5}),
            "b": index("i", ["c"], 80),
            "keep": image("k"),
            signature: image("s"),
        },
        dangling=["gone"],
        pushed={"a": 60},
    )
    report = FullReport()
    report.planned(_plan(there))
    gone = {"verdict": "Prune", "reasons": ["OlderThan", "BeyondMostRecent"], "rule": "builds"}
    expected: list[dict[str, object]] = [
        {"tag": "a", **gone, "digest": digest("a"), "date": ago(60).isoformat(), "dateSource": "Pushed", "size": 15},
        {"tag": "b", **gone, "digest": digest("i"), "date": ago(80).isoformat(), "dateSource": "Created"},
        {"tag": "gone", "verdict": "Keep", "reason": "Dangling", "rule": "builds"},
        {"tag": "keep", "verdict": "Keep", "reason": "KeepTags", "digest": digest("k")},
        {"tag": signature, **gone, "digest": digest("s"), "subject": digest("i")},
    ]
    assert _lines(report)[1:] == [
        *({"type": "tag", "repository": REPOSITORY, **line} for line in expected),
        {"type": "untagged", "repository": REPOSITORY, "digest": digest("c")},
    ]


def test_a_size_is_that_of_config_and_layers_and_of_an_index_that_of_its_platforms_each_blob_once() -> None:
    there = inventory(
        {
            "image": image("i", blobs={"i": 400, "config": 10, "layer": 5}),
            "index": index("x", ["amd", "arm"]),
            "half": index("h", ["amd", "unread"]),
            "empty": image("e", blobs={"e": 400}),
        },
        image("amd", blobs={"amd": 400, "layer": 5, "one": 1}),
        image("arm", blobs={"arm": 400, "layer": 5, "two": 2}),
    )
    report = FullReport()
    report.planned(_plan(there))
    sizes = {line["tag"]: line.get("size") for line in _lines(report) if line["type"] == "tag"}
    assert sizes == {"image": 15, "index": 8, "half": None, "empty": None}


def test_what_is_held_back_what_became_of_the_rest_and_what_could_not_be_read_are_lines() -> None:
    report = FullReport()
    report.held("team/a", {"v1": KeepReason.GRACE_PERIOD, "v2": KeepReason.LIMIT_TRUNCATED})
    report.outcomes(
        "team/b",
        [
            ItemOutcome("v1", digest("x"), Outcome.PRUNED),
            ItemOutcome("v2", digest("y"), Outcome.FAILED, "DENIED"),
            UntaggedOutcome(digest("z"), Outcome.PRUNED),
            UntaggedOutcome(digest("w"), Outcome.FAILED, "UNSUPPORTED"),
        ],
    )
    report.incomplete("team/c", "MalformedAnswer", 7)
    failed = {"repository": "team/b", "outcome": "Failed"}
    done = {"repository": "team/b", "outcome": "Pruned"}
    assert _lines(report)[1:] == [
        {"type": "held", "repository": "team/a", "tag": "v1", "reason": "GracePeriod"},
        {"type": "held", "repository": "team/a", "tag": "v2", "reason": "LimitTruncated"},
        {"type": "outcome", "tag": "v1", "digest": digest("x"), **done},
        {"type": "outcome", "tag": "v2", "digest": digest("y"), **failed, "code": "DENIED"},
        {"type": "untagged", "digest": digest("z"), **done},
        {"type": "untagged", "digest": digest("w"), **failed, "code": "UNSUPPORTED"},
        {"type": "incomplete", "repository": "team/c", "reason": "MalformedAnswer", "tags": 7},
    ]


def test_repositories_in_which_something_goes_come_first_and_then_the_names_decide() -> None:
    report = FullReport()
    for name, tag in (("d", "keep"), ("c", "v1"), ("a", "keep"), ("b", "v1")):
        report.planned(_repository(name, [tag]))
    report.held("c", {"v1": KeepReason.GRACE_PERIOD})
    report.outcomes("a", [])
    assert [(line["repository"], line["type"]) for line in _lines(report)[1:]] == [
        ("b", "tag"),
        ("c", "tag"),
        ("c", "held"),
        ("a", "tag"),
        ("d", "tag"),
    ]


def test_the_same_report_has_the_same_bytes() -> None:
    first, second = FullReport(), FullReport()
    for report in (first, second):
        report.planned(_repository("team/app"))
    content, _ = first.compressed(_HEAD)
    assert second.compressed(_HEAD) == (content, 0)
    # RFC 1952: the time of the file is not known.
    assert content[4:8] == bytes(4)
    assert gzip.decompress(content).startswith(b'{"type":"run","policy":"team/builds"')


# What does not fit


def test_whole_repositories_are_cut_and_named_where_the_report_would_grow_too_large() -> None:
    report = FullReport()
    for name in ("a", "b", "c"):
        report.planned(_repository(name, _noise(name, 6000)))
    report.held("b", {"v1": KeepReason.GRACE_PERIOD})
    report.planned(_repository("z", ["v1", *_noise("z", 3000)]))
    report.planned(_repository("small"))
    content, cut = report.compressed(_HEAD)
    lines = list(read_report(content))
    assert len(content) <= MOST_BYTES
    assert (lines[0]["repositoriesCut"], cut) == (2, 2)
    assert [line["repository"] for line in lines[1:3002]] == ["z"] * 3001
    assert {line["repository"] for line in lines if line["type"] == "tag"} == {"z", "a", "small"}
    assert lines[-2:] == [
        {"type": "cut", "repository": "b", "lines": 6001},
        {"type": "cut", "repository": "c", "lines": 6000},
    ]


def test_where_not_even_the_names_fit_that_are_cut_their_number_is_told() -> None:
    report = FullReport()
    for number in range(15_000):
        report.incomplete(digest(f"repository {number}")[7:], "MalformedAnswer", 1)
    content, cut = report.compressed(_HEAD)
    lines = list(read_report(content))
    kinds = [line["type"] for line in lines]
    assert MOST_BYTES - 4 * 1024 < len(content) <= MOST_BYTES
    assert lines[0]["repositoriesCut"] == cut == 15_000 - kinds.count("incomplete")
    assert 0 < kinds.count("cut") < cut


def test_what_a_growing_report_holds_is_bounded_and_what_prunes_is_cut_last() -> None:
    report = FullReport()
    plans = [_repository(f"kept-{number:02}", _noise(f"{number}", 5000)) for number in range(4)]
    pruning = _repository("zzz", ["v1", *_noise("z", 3000)])
    report.planned(pruning)
    for number in range(40):
        report.planned(replace(plans[number % 4], repository=f"kept-{number:02}"))
    assert report.size <= 8 * MOST_BYTES
    content, cut = report.compressed(_HEAD)
    lines = list(read_report(content))
    told = {line["repository"] for line in lines if line["type"] == "tag"}
    assert "zzz" in told
    assert cut == 41 - len(told)
    assert sum(line["lines"] for line in lines if line["type"] == "cut") == 5000 * cut
    assert len(content) <= MOST_BYTES


def test_a_repository_that_was_cut_while_the_report_grew_stays_cut_whatever_else_comes() -> None:
    report = FullReport()
    report.planned(_repository("a", ["v1", *_noise("a", 25_000)]))
    report.held("a", {"v1": KeepReason.GRACE_PERIOD})
    content, cut = report.compressed(_HEAD)
    assert cut == 1
    assert list(read_report(content))[1:] == [{"type": "cut", "repository": "a", "lines": 25_002}]


def test_dates_are_written_with_their_zone() -> None:
    report = FullReport()
    report.planned(_plan(inventory({"a": image("a", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))})))
    assert _lines(report)[1]["date"] == "2026-01-02T03:04:05+00:00"
