"""How a plan is printed: for scripts without surprises, for people within the width of their terminal."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.documents import write_json, write_yaml
from registry_cleanup.cli.output.printed import Printed, view_of
from registry_cleanup.cli.output.rows import write_csv
from registry_cleanup.cli.output.table import rows, write_table
from registry_cleanup.cli.output.target import check_writable
from registry_cleanup.cli.output.words import count, freed_when, safe, size
from registry_cleanup.cli.output.writing import format_of, write
from registry_cleanup.cli.plans.difference import Difference, Item
from registry_cleanup.cli.plans.findings import View
from registry_cleanup.cli.plans.summary import Summary
from registry_cleanup.domain.reference import Digest
from tests.support.report_lines import head
from tests.support.schemas import validate

HASH = "0123456789abcdef" * 4
DIGEST = f"sha256:{HASH}"
RUN: Mapping[str, Any] = {
    "id": "20261125-000000-abcdef",
    "registry": "registry.example:5000",
    "phase": "Succeeded",
    "planOnly": True,
    "startTime": "2026-11-25T00:00:00Z",
    "completionTime": "2026-11-25T00:01:00Z",
    "message": "2 of 4 tags would be pruned; waiting for the grace period: 1",
    "counts": {"repositoriesScanned": 1, "repositoriesFailed": 0, "tagsScanned": 4, "tagsPlanned": 2},
    "keptByReason": {"InUse": 1, "MostRecent": 1, "GracePeriod": 1},
}
WAITING = {"exceeded": [], "approvalRequired": False, "unapproved": 0, "dryRun": True, "suspended": False}
PLAN: Mapping[str, Any] = {
    "hash": HASH,
    "generatedAt": "2026-11-25T00:01:00+00:00",
    "published": False,
    "prunableFrom": "2026-11-26T00:01:00Z",
    "deletions": 2,
    "reclaimableBytes": 3 * 2**30,
    "untaggedManifests": 1,
    "waiting": WAITING,
}
POLICY = {"namespace": "team", "name": "nightly", "uid": "u-i-d", "from": "policy.yaml"}


def _tag(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return {"type": "tag", "repository": "team/app", "tag": name, **more}


def _going(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return _tag(name, verdict="Prune", reasons=["OlderThan"], rule="builds", digest=DIGEST, **more)


DATED = {"date": "2026-01-02T03:04:05+00:00", "dateSource": "Created", "size": 5 * 2**20}
LINES: Sequence[Mapping[str, Any]] = (
    _going("build-1", **DATED),
    _going("build-2", **DATED),
    _tag("live", verdict="Keep", reason="InUse", rule="builds", users=["Pod a/b", "Pod a/c"], moreUsers=4),
    _tag("new", verdict="Keep", reason="MostRecent", rule="builds"),
    {"type": "untagged", "repository": "team/app", "digest": DIGEST},
    {"type": "held", "repository": "team/app", "tag": "build-2", "reason": "GracePeriod"},
)


def _printed(
    lines: Sequence[Mapping[str, Any]] = LINES, difference: Difference | None = None, view: View | None = None
) -> Printed:
    return Printed(Summary("Plan", POLICY, RUN, PLAN, ()), {"type": "run"}, lines, view or View(), difference)


class _Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def test_json_and_yaml_are_one_document_each_of_the_published_shape() -> None:
    in_json, in_yaml = io.StringIO(), io.StringIO()
    write_json(_printed(), in_json)
    write_yaml(_printed(), in_yaml)
    document = json.loads(in_json.getvalue())
    validate(document, "plan")
    assert document["lines"] == list(LINES)
    assert yaml.safe_load(in_yaml.getvalue()) == document


def test_a_plan_without_lines_is_a_document_with_none() -> None:
    in_json, in_yaml = io.StringIO(), io.StringIO()
    write_json(_printed(()), in_json)
    write_yaml(_printed(()), in_yaml)
    assert json.loads(in_json.getvalue())["lines"] == []
    assert yaml.safe_load(in_yaml.getvalue())["lines"] == []


def test_csv_has_a_header_and_a_row_for_each_tag() -> None:
    out = io.StringIO()
    write_csv(_printed(), out)
    assert out.getvalue().endswith("\r\n")
    found = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert [(row["tag"], row["verdict"], row["reasons"], row["held"]) for row in found] == [
        ("build-1", "Prune", "OlderThan", ""),
        ("build-2", "Prune", "OlderThan", "GracePeriod"),
        ("live", "Keep", "InUse", ""),
        ("new", "Keep", "MostRecent", ""),
    ]
    assert (found[2]["users"], found[2]["moreUsers"], found[0]["size"]) == ("Pod a/b; Pod a/c", "4", str(5 * 2**20))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_gets_no_formula(sign: str) -> None:
    out = io.StringIO()
    users = [f"{sign}cmd|' /C calc'!A0"]
    write_csv(_printed([_tag("live", verdict="Keep", reason="InUse", users=users)]), out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert row["users"] == f"'{users[0]}"


def test_cells_with_commas_quotes_and_line_ends_are_read_back_as_they_were() -> None:
    out = io.StringIO()
    name = 'Pod "a", b\r\nc'
    write_csv(_printed([_tag("live", verdict="Keep", reason="InUse", users=[name])]), out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert row["users"] == name


def test_a_pipe_gets_plain_lines_of_any_length_and_every_tag() -> None:
    lines = [_going(f"{number:0>100}") for number in range(200)]
    out = io.StringIO()
    write_table(_printed(lines), out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert all(f"{number:0>100}" in text for number in range(200))
    assert HASH in text


def test_a_terminal_of_60_columns_stays_readable_and_shows_the_first_of_many() -> None:
    many = [_going(f"nightly-20260101-{number:04}", **DATED) for number in range(200)]
    found = [row.text for row in rows(_printed(many), 60)]
    assert all(len(text) <= 60 for text in found if HASH not in text)
    table = [text for text in found if text.startswith("    ") and not text.startswith(" " * 15)]
    assert table[0].split() == ["TAG", "DATE", "SIZE", "DIGEST"] or table[0].split() == ["TAG", "DATE", "SIZE"]
    assert sum("nightly" in text for text in found) == 30 + 1  # and once in the policy's name
    assert table[-1] == "    … and 170 more; all of them: | less"
    narrow = [row.text for row in rows(_printed(many), 30)]
    assert "    TAG" in narrow  # the rest has no room


def test_colours_are_for_terminals_and_not_where_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = _Terminal(), _Terminal()
    write_table(_printed(), coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    write_table(_printed(), plain)
    assert "\x1b[31m" in coloured.getvalue()
    assert "\x1b[31m" not in plain.getvalue()


def test_what_a_registry_calls_its_tags_does_nothing_to_a_terminal() -> None:
    out = io.StringIO()
    write_table(_printed([_going("evil\x1b]0;owned\x07")]), out)
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert safe("plain") == "plain"


def test_the_table_says_what_stays_what_waits_and_from_when_the_plan_can_be_pruned() -> None:
    found = [row.text for row in rows(_printed(), None)]
    group = found.index("  go by rule builds: OlderThan (2 tags)")
    assert found[group + 1].split() == ["TAG", "DATE", "SIZE", "DIGEST", "NOTE"]
    assert found[group + 3].endswith("waits: GracePeriod")
    assert "  stay by rule builds: InUse (1 tag)" in found
    assert "    used by Pod a/b, Pod a/c and 4 more" in found
    assert "  left without a name (1 manifest)" in found
    assert found[found.index("Kept by reason") + 1 :][:2] == ["  InUse       1", "  MostRecent  1"]
    assert f"Plan           {HASH}" in found
    assert "Prunable from  2026-11-26 00:01:00 UTC, if it were published now" in found
    assert "Result         2 of 4 tags would be pruned" in found
    assert "               waiting for the grace period: 1" in found
    assert "Held back by   spec.dryRun: the policy is only planned, and prunes nothing" in found


@pytest.mark.parametrize(
    ("deletion", "told"),
    [
        ("ReadOnly", "the registry: it is read-only"),
        ("DeletionDisabled", "the registry: deletion is switched off there"),
        ("DeletionForbidden", "the registry: the login may not remove tags"),
        ("SomethingElse", "the registry does not delete (SomethingElse)"),
    ],
)
def test_a_registry_that_does_not_delete_holds_a_plan_back(deletion: str, told: str) -> None:
    plan = {**PLAN, "waiting": {**WAITING, "dryRun": False, "deletion": deletion}}
    printed = Printed(Summary("Plan", POLICY, RUN, plan, ()), {"type": "run"}, LINES, View())
    assert f"Held back by   {told}" in [row.text for row in rows(printed, None)]


def test_what_a_narrow_terminal_has_no_room_for_is_told() -> None:
    wide, narrow = ([row.text for row in rows(_printed([_going("nightly", **DATED)]), width)] for width in (100, 30))
    assert not any("too narrow" in text for text in wide)
    begin = next(number for number, text in enumerate(narrow) if text.startswith("Note "))
    told = " ".join(text[15:] for text in narrow[begin:])
    assert told == "too narrow for SIZE, DIGEST; -o json has everything"


def test_all_of_many_are_where_the_command_says() -> None:
    many = [_going(f"build-{number}") for number in range(31)]
    command = "registry-cleanup plan -f policies/nightly.yaml"
    found = [row.text for row in rows(replace(_printed(many), whole=command), 100)]
    assert f"    … and 1 more; all of them: {command}" in found
    found = [row.text for row in rows(replace(_printed(many), whole=command), 60)]
    more = found.index("    … and 1 more; all of them:")
    assert found[more + 1] == f"      {command}"  # whole, to be copied


def test_a_page_and_a_table_tell_the_same_of_what_holds_a_plan_back(tmp_path: Path) -> None:
    waiting = {
        "exceeded": [f"limit {number}" for number in range(1, 8)],
        "approvalRequired": True,
        "unapproved": 1,
        "dryRun": True,
        "suspended": True,
    }
    summary = Summary("Plan", POLICY, RUN, {**PLAN, "waiting": waiting}, ())
    printed = Printed(summary, head(), LINES, View())
    told = [
        "spec.suspend: the policy does not run",
        "spec.dryRun: the policy is only planned, and prunes nothing",
        *(f"limit {number}" for number in range(1, 6)),
        "and 2 more limits",
        "spec.approval: 1 planned tag not approved",
    ]
    text = [row.text for row in rows(printed, None)]
    assert text[-len(told) :] == [f"{'' if number else 'Held back by':15}{each}" for number, each in enumerate(told)]
    write(printed, "html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "".join(f"<li>{each}</li>" for each in told) in page


def test_what_could_not_be_read_or_did_not_fit_is_told() -> None:
    lines = [
        {"type": "incomplete", "repository": "a", "reason": "Timeout", "tags": 7},
        {"type": "cut", "repository": "b", "lines": 9},
    ]
    found = [row.text for row in rows(_printed(lines), None)]
    assert found[:2] == ["a", "  could not be read whole (Timeout), all 7 listed tags stay"]
    assert found[3:5] == ["b", "  left out of the report, which would have grown too large: 9 lines"]


def test_a_difference_is_told_by_tag_in_each_format() -> None:
    new, late = (Item("team/app", tag, Digest(DIGEST)) for tag in ("new", "late"))
    printed = _printed(difference=Difference(False, "f" * 64, "2026-11-24T00:00:00Z", [new], [late], [], 2, 5))
    found = [row.text for row in rows(printed, None)]
    assert found[0] == "New in this plan (1 tag)"
    assert found[2].split() == ["team/app:new", "0123456789ab"]
    assert "Not planned any more (1 tag)" in found
    assert any("1 new, 3 dropped, 0 pruned, 5 in both" in text for text in found)
    out = io.StringIO()
    write_json(printed, out)
    document = json.loads(out.getvalue())
    validate(document, "plan")
    assert document["diff"]["new"] == [new._asdict()]
    out = io.StringIO()
    write_csv(printed, out)
    assert out.getvalue().splitlines() == [
        "change,repository,tag,digest",
        f"new,team/app,new,{DIGEST}",
        f"dropped,team/app,late,{DIGEST}",
    ]


def test_a_file_is_replaced_once_it_is_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("as it was")
    target.chmod(0o640)
    broken = _printed([{"type": "tag", "repository": "a", "tag": "b", "verdict": "Prune"}])  # without reasons
    with pytest.raises(KeyError):
        write(broken, "json", target)
    assert target.read_text() == "as it was"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    write(_printed(), "json", link)
    assert json.loads(target.read_text())["lines"] == list(LINES)
    assert (target.stat().st_mode & 0o777, link.is_symlink()) == (0o640, True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "plan.json"]


def test_a_folder_that_nobody_may_write_into_is_told_and_what_is_no_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "plan.json")
    check_writable(Path("/dev/null"), Path("/dev/null"))
    check_writable(Path("-"), Path("-"))
    monkeypatch.setattr(os, "access", lambda folder, _: folder != tmp_path)  # root may write everywhere
    with pytest.raises(CommandError, match="you may not write into the folder"):
        check_writable(tmp_path / "plan.json")


def test_a_glob_of_repositories_that_matches_none_is_told_with_similar_names() -> None:
    view = view_of("all", globs=["team/ap", "team/*", "nothing/**", "team/apps/*"])
    assert list(_printed(view=view).notes()) == [
        "--repository team/ap matches no repository of the plan; similar: team/app",
        "--repository nothing/** matches no repository of the plan",
        "--repository team/apps/* matches no repository of the plan; similar: team/app",
    ]
    assert list(_printed(()).notes()) == []


def test_a_format_is_that_of_the_option_else_that_of_the_file() -> None:
    assert format_of("csv", Path("plan.json")) == "csv"
    assert [format_of(None, Path(name)) for name in ("a.yml", "a.HTML", "a.csv", "a.txt")] == [
        "yaml",
        "html",
        "csv",
        "table",
    ]
    assert format_of(None, None) == "table"


def test_a_word_that_is_no_reason_or_outcome_is_refused_with_those_that_are() -> None:
    for reasons, outcome in ((["Inuse"], None), ([], "pruned")):
        with pytest.raises(CommandError, match="there are ") as refused:
            view_of("all", reasons, outcome)
        assert refused.value.code == Exit.USAGE
    assert view_of("all", ["InUse", "GracePeriod", "OlderThan"], "Pruned").outcome == "Pruned"


def test_numbers_are_told_as_people_read_them() -> None:
    assert [size(number) for number in (0, 1023, 1024, 2**20 - 1, 150 * 2**20, 3 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1024 KiB",
        "150 MiB",
        "3.0 TiB",
    ]
    assert (count(1, "tag"), count(1200, "tag"), count(2, "repository", "repositories")) == (
        "1 tag",
        "1,200 tags",
        "2 repositories",
    )


def test_columns_that_are_empty_everywhere_are_left_out() -> None:
    found = [row.text for row in rows(_printed([_going("a")]), None)]
    header = next(text.split() for text in found if text.split()[:1] == ["TAG"])
    assert "DATE" not in header
    assert "SIZE" not in header


def test_what_a_garbage_collection_spares_is_said_to_take_one_that_does_not() -> None:
    assert freed_when({"untaggedManifestsLeft": 0}) == "once the registry's garbage collection has run"
    assert freed_when({}) == "once the registry's garbage collection has run"
    assert "with --delete-untagged: 3 manifests would be left untagged" in freed_when({"untaggedManifestsLeft": 3})
