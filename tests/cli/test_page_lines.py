"""The HTML page before any browser: which words it has for the report's, and what it makes of its lines."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from registry_cleanup.cli.page import render_page
from registry_cleanup.cli.page.contents import Line
from registry_cleanup.cli.page.summary import human_size
from registry_cleanup.cli.page.words import OUTCOMES, REASONS, Standing, standing, visible
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.report import FullReport, read_report
from registry_cleanup.domain.verdict import KeepReason, PruneReason
from tests.support.report_lines import head, tag


def data_of(lines: Iterable[Line]) -> dict[str, Any]:
    page = render_page(lines)
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_every_reason_and_every_outcome_has_words() -> None:
    assert REASONS.keys() == {*KeepReason, *PruneReason}
    assert OUTCOMES.keys() == set(Outcome)


@pytest.mark.parametrize(
    ("verdict", "reason", "expected"),
    [
        ("Prune", None, Standing.GOING),
        ("Keep", "InUse", Standing.PROTECTED),
        ("Keep", "SharedDigest", Standing.PROTECTED),
        ("Keep", "FollowsParent", Standing.PROTECTED),
        ("Keep", "KeepTags", Standing.PROTECTED),
        ("Keep", "MostRecent", Standing.KEPT),
        ("Keep", "Unmatched", Standing.KEPT),
        ("Keep", "OfALaterVersion", Standing.KEPT),
        ("OfALaterVersion", None, Standing.KEPT),
    ],
)
def test_a_verdict_means_kept_protected_or_going(verdict: str, reason: str | None, expected: Standing) -> None:
    assert standing(verdict, reason) is expected


def test_lines_that_begin_with_no_run_are_no_report() -> None:
    with pytest.raises(ValueError, match="begins with a line"):
        render_page([tag("app", "v1", "Unmatched")])
    with pytest.raises(ValueError, match="begins with a line"):
        render_page([])


def test_lines_of_an_unknown_type_are_passed_over() -> None:
    found = data_of([head(), {"type": "later", "repository": "app"}, tag("app", "v1", "Unmatched")])

    assert [repository["tags"] for repository in found["repositories"]] == [["v1"]]


def test_strings_that_many_tags_share_are_written_once() -> None:
    page = render_page(
        [head(), *(tag("team/app", f"v{n}", "InUse", users=["Deployment shop/web"], rule="rule-x") for n in range(50))]
    )

    # The second `team/app` is that of the summary.
    assert page.count("Deployment shop/web") == page.count("rule-x") == 1
    assert page.count("team/app") == 2


def test_tags_of_one_digest_name_the_first_of_them() -> None:
    digest = "sha256:" + "ab" * 32
    lines = [head(), *(tag("app", name, "Unmatched", digest=digest) for name in ("v1", "v2"))]

    assert data_of(lines)["repositories"][0]["digests"] == ["sha256:abababababab", 0]


def test_no_text_of_a_report_ends_the_element_that_holds_it() -> None:
    hostile = "</script><script>alert(1)</script><!--"
    page = render_page([head(registry=hostile), tag(hostile, hostile, "InUse", users=[hostile])], policy=hostile)

    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<!--" not in page.split("<style>")[0] + page.split("</style>")[1].split("<script>")[0]


def test_placeholders_in_names_are_names() -> None:
    page = render_page([head(), tag("$script", "${data}", "Unmatched")], policy="$style")

    assert "<dd>$style</dd>" in page
    assert page.count("${data}") == 1


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert visible("v1.0-x") == "v1.0-x"
    assert visible("\u202egpj.exe") == "\\u202egpj.exe"
    assert visible("a\x00b\ud800") == "a\\u0000b\\ud800"
    assert visible("größe") == "größe"


def test_a_tag_that_waits_says_from_when_it_may_go() -> None:
    lines = [
        head(),
        tag("app", "v1", "OlderThan", 40),
        {"type": "held", "repository": "app", "tag": "v1", "reason": "GracePeriod"},
    ]
    page = render_page(lines, prunable_from=datetime(2026, 3, 3, 9, 30, tzinfo=UTC))

    assert "1 tag waits until the grace period is over (from 2026-03-03 09:30 UTC)" in page
    assert data_of(lines)["repositories"][0]["states"] == {"0": ["GracePeriod", None]}


def test_what_holds_a_plan_back_stands_below_the_headline_as_a_list() -> None:
    reasons = ["spec.dryRun: the operator only plans", "spec.limits: <b>"]
    page = render_page([head()], held_back=reasons, message="1 of 2 would go; blocked: spec.limits: <b>; raise it")

    entries = "<li>spec.dryRun: the operator only plans</li><li>spec.limits: &lt;b&gt;</li>"
    assert entries in page
    assert page.index("</h1>") < page.index("Held back") < page.index(entries) < page.index('<p class="lede">')
    assert "<li>1 of 2 would go</li>\n<li>raise it</li>" in page
    assert "Held back" not in render_page([head()])


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (200 * 1024**2, "200 MiB"), (3 * 1024**6, "3,072 PiB")],
)
def test_sizes_are_told_as_people_read_them(size: int, words: str) -> None:
    assert human_size(size) == words


def test_a_report_as_the_runner_writes_it_is_a_page() -> None:
    content, _ = FullReport().compressed({key: value for key, value in head().items() if key != "type"})

    assert "No tags at all" in render_page(read_report(content))
