"""`test`: which rule owns which names, what becomes of them with dates, and on what it depends without."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.command import run

_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "test.schema.json").read_text())
_NOW = "2026-06-15T12:00:00Z"
_POLICY = """\
apiVersion: registrycleanup.dev/v1alpha1
kind: RegistryCleanupPolicy
metadata:
  name: builds
  namespace: team
spec:
  registry: {url: "https://registry.example.com"}
  repositories: {include: ["team/**", base/image]}
  rules:
    - name: features
      repositories: {include: ["team/apps/*"]}
      tags: {include: ["feature-.*"], exclude: [".*-keep"]}
      olderThan: 7d
    - name: releases
      tags: {include: ['v(?P<version>.*)']}
      orderBy: SemVer
      extract: version
      keep: {mostRecent: 2}
    - name: builds
      tags: {include: ["build-[0-9]+"]}
      olderThan: 30d
      keep: {mostRecent: 2}
  keepTags: ["build-0"]
  minTagsPerRepository: 0
"""
_ASSUMED = (
    "Note: assumed is a registry that deletes tags alone; --by-digest judges as where only whole images can go",
    "Note: indexes, referrers, and digests shared with tags that are not given here would keep more",
)


def _try(folder: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - as run has it
    (folder / "policy.yaml").write_text(_POLICY)
    return run(folder, "test", "policy.yaml", "--now", _NOW, *arguments, **more)


def _tags(folder: Path, *arguments: str, **more: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - as run has it
    done = _try(folder, "--output", "json", *arguments, **more)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    jsonschema.validate(found, _SCHEMA, format_checker=jsonschema.FormatChecker())
    assert (found["policy"], found["now"]) == ({"namespace": "team", "name": "builds"}, _NOW)
    return {each["tag"]: each for each in found["tags"]}


def _verdicts(tags: dict[str, dict[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    return {tag: (each["verdict"], each["reasons"]) for tag, each in tags.items()}


def test_without_dates_it_says_who_owns_a_tag_and_on_what_it_depends(tmp_path: Path) -> None:
    done = _try(tmp_path, "--tags", "build-1,build-0,latest,v1,feature-x,other", "-r", "team/apps/a")
    assert (done.returncode, done.stderr.splitlines()) == (0, [*_ASSUMED])
    assert [line.split(maxsplit=3) for line in done.stdout.splitlines()] == [
        ["TAG", "RULE", "VERDICT", "WHY"],
        ["build-1", "builds", "Depends", "goes if older than 30d and not among the 2 newest"],
        ["build-0", "-", "Keep", "keepTags 'build-0' matches it"],
        ["latest", "-", "Keep", "latest stays unless pruneLatest: true"],
        ["v1", "releases", "Keep", "spells no version to order by (SemVer)"],
        ["feature-x", "features", "Depends", "goes if older than 7d"],
        ["other", "-", "Keep", "no rule's tags.include match it"],
    ]


def test_with_dates_the_engine_of_a_run_decides(tmp_path: Path) -> None:
    dates = {"build-1": "100d", "build-2": "2026-01-01", "build-3": "2026-06-01T00:00:00+02:00", "build-4": "1d"}
    given = [part for tag, when in dates.items() for part in ("--date", f"{tag}={when}")]
    tags = _tags(tmp_path, "--tags", ",".join(dates), *given)
    both = ["OlderThan", "BeyondMostRecent"]
    assert _verdicts(tags) == {
        "build-1": ("Prune", both),
        "build-2": ("Prune", both),
        "build-3": ("Keep", ["MostRecent"]),
        "build-4": ("Keep", ["MostRecent"]),
    }
    assert tags["build-1"]["why"] == "is older than 30d and not among the 2 newest (it is 100d old)"
    assert tags["build-3"]["date"] == "2026-05-31T22:00:00Z"


def test_versions_need_no_dates(tmp_path: Path) -> None:
    tags = _tags(tmp_path, "--tags", "v1.9.0,v1.10.0,v1.2.0,vx")
    assert _verdicts(tags) == {
        "v1.9.0": ("Keep", ["MostRecent"]),
        "v1.10.0": ("Keep", ["MostRecent"]),
        "v1.2.0": ("Prune", ["BeyondMostRecent"]),
        "vx": ("Keep", ["UnparsableVersion"]),
    }
    assert tags["v1.2.0"]["why"] == "is not among the 2 greatest versions"


def test_a_rule_for_other_repositories_is_told_where_no_other_owns_the_tag(tmp_path: Path) -> None:
    tags = _tags(tmp_path, "--tags", "feature-x,feature-y-keep", "-r", "team/other")
    assert tags["feature-x"]["why"].endswith("of other repositories it would be owned by features")
    tags = _tags(tmp_path, "--tags", "feature-x,feature-y-keep", "-r", "team/apps/a", "-d", "feature-x=8d")
    assert _verdicts(tags) == {"feature-x": ("Prune", ["OlderThan"]), "feature-y-keep": ("Keep", ["Excluded"])}
    assert tags["feature-y-keep"]["why"] == "tags.exclude '.*-keep' matches it"


def test_tags_come_from_standard_input_with_dates_and_images(tmp_path: Path) -> None:
    lines = ["build-1@one 90d  # words", "", "build-9@one", f"latest@sha256:{'a' * 64} 1d"]
    lines += [f"build-{n} {n}d" for n in (40, 41, 42)]
    tags = _tags(tmp_path, "--tags", "-", stdin="\n".join(lines))
    # build-9 is on the image of build-1, and has its date.
    assert {tag for tag, each in tags.items() if each["verdict"] == "Prune"} == {"build-1", "build-9", "build-42"}
    assert (tags["build-9"]["date"], tags["latest"]["verdict"]) == (tags["build-1"]["date"], "Keep")


def test_where_only_images_can_be_deleted_a_kept_tag_keeps_all_on_its_image(tmp_path: Path) -> None:
    dates = ("--date=build-1=90d", "--date=build-2=1d", "--date=build-3=2d")
    given = ("--tags", "build-0@one,build-1@one,build-2,build-3", *dates)
    assert _verdicts(_tags(tmp_path, *given))["build-1"][0] == "Prune"
    shared = _tags(tmp_path, *given, "--by-digest")["build-1"]
    assert (shared["verdict"], shared["reasons"]) == ("Keep", ["SharedDigest"])


def test_the_policys_floor_and_impossible_dates_keep_here_too(tmp_path: Path) -> None:
    policy = _POLICY.replace("minTagsPerRepository: 0", "minTagsPerRepository: 2").replace(
        "30d\n      keep: {mostRecent: 2}", "30d"
    )
    (tmp_path / "other.yaml").write_text(policy)
    dates = [f"--date=build-{n}={when}" for n, when in ((1, "90d"), (2, "80d"), (3, "70d"), (4, "1970-01-01"))]
    done = run(
        tmp_path, "test", "other.yaml", "--now", _NOW, "-o", "json", "-t", "build-1,build-2,build-3,build-4", *dates
    )
    assert _verdicts({each["tag"]: each for each in json.loads(done.stdout)["tags"]}) == {
        "build-1": ("Prune", ["OlderThan"]),
        "build-2": ("Prune", ["OlderThan"]),
        "build-3": ("Keep", ["MinimumTags"]),
        "build-4": ("Keep", ["UnknownDate"]),
    }


def test_a_signature_is_no_rules_business(tmp_path: Path) -> None:
    tag = f"sha256-{'a' * 64}.sig"
    assert _tags(tmp_path, "--tags", tag)[tag]["rule"] is None


def test_notes_say_what_was_assumed_and_what_a_run_would_do_besides(tmp_path: Path) -> None:
    done = _try(tmp_path, "--tags", "build-1,build-2,build-3,build-4", "-d", "build-1=90d", "-d", "build-2=1d")
    assert done.stderr.splitlines() == [
        "Note: judged as tags of base/image; --repository names another one",
        "Note: those with a date were judged as if those without one were not there",
        *_ASSUMED,
    ]
    done = _try(tmp_path, "--tags", "feature-1", "-d", "feature-1=8d", "-r", "team/apps/x")
    waits = "Note: a run would keep what is in use, and waits for the grace period of 1d"
    assert done.stderr.splitlines() == [waits, *_ASSUMED]
    done = _try(tmp_path, "--tags", "feature-1", "-r", "team/apps/x", "--by-digest")
    by_digest = "Note: assumed is a registry that deletes whole images only, with all tags on them"
    assert done.stderr.splitlines() == [by_digest, _ASSUMED[1]]
    assert _try(tmp_path, "--tags", "latest", "-r", "team/apps/x").stderr == ""


def test_what_the_operators_administrator_protects_is_kept(tmp_path: Path) -> None:
    tags = _tags(tmp_path, "-t", "build-1", "-d", "build-1=90d", REGISTRY_CLEANUP_PROTECTED_TAGS="build-1")
    assert "the operator's setting REGISTRY_CLEANUP_PROTECTED_TAGS keeps it" in tags["build-1"]["why"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tags", "a b"), "'a b' cannot be a tag"),
        (("--tags", "a:b"), "'a:b' cannot be a tag"),
        (("--tags", "a" * 129), "cannot be a tag"),
        (("--tags", "a@"), "'a@' cannot be a tag; write TAG or TAG@IMAGE"),
        (("--tags", ","), "no tags are given"),
        (("--tags", "-"), "no tags are given"),
        (("--tags", "a,a@b"), "the tag 'a' is given twice, and differently"),
        (("--tags", "a", "--date", "a"), "write TAG=DATE or TAG=AGE, such as a=30d"),
        (("--tags", "a", "--date", "b=1d"), "'b' is not among --tags"),
        (("--tags", "a", "--date", "a=soon"), "'soon' is no date; write 2026-01-31"),
        (("--tags", "a", "--date", "a=36500d", "--now", "0001-01-01"), "longer ago than there are dates"),
        (("--tags", "a@x,b@x", "-d", "a=1d", "-d", "b=2d"), "the tags of one image have one date"),
        (("--tags", "a", "-d", "a=1d", "-d", "a=1d"), "the date of 'a' is given twice"),
        (("--tags", "a", "-r", "Team"), "'Team' cannot be the name of a repository"),
        (("--tags", "a", "-r", "other"), "does not select other: nothing is ever pruned there"),
        ((), "Missing option '-t' / '--tags'"),
    ],
)
def test_what_is_given_wrongly_is_told(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = _try(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kept_tag_that_undated_ones_could_push_out_depends_on_them(tmp_path: Path) -> None:
    dates = ("-d", "build-1=90d", "-d", "build-2=80d", "-d", "build-3=70d", "-d", "build-4=1d")
    tags = _tags(tmp_path, "--tags", "build-1,build-2,build-3,build-4,build-5", *dates)
    assert _verdicts(tags) == {
        "build-1": ("Prune", ["OlderThan", "BeyondMostRecent"]),
        "build-2": ("Prune", ["OlderThan", "BeyondMostRecent"]),
        "build-3": ("Depends", []),
        # It is not old enough either, whatever the date of another one.
        "build-4": ("Keep", ["MostRecent"]),
        "build-5": ("Depends", []),
    }
    words = "among the 2 newest of these tags, but the dates that other tags lack may change that"
    assert tags["build-3"]["why"] == words
    # One more has room among the two newest.
    assert _verdicts(_tags(tmp_path, "--tags", "build-1,build-5", "-d", "build-1=90d"))["build-1"][0] == "Keep"


def test_lines_of_standard_input_may_begin_with_a_mark_and_are_numbered(tmp_path: Path) -> None:
    assert _tags(tmp_path, "--tags", "-", stdin="\ufeffbuild-1\r\nbuild-2\r\n").keys() == {"build-1", "build-2"}
    for bad, words in (
        ("a:b", "'a:b' cannot be a tag"),
        ("b soon", "'soon' is no date"),
        ("a 2d", "the tag 'a' is given twice, and differently"),
    ):
        done = _try(tmp_path, "--tags", "-", stdin=f"a 1d\n\n# words\x0c\n{bad}\n")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"line 4 of standard input: {words}" in done.stderr
    done = _try(tmp_path, "--tags", "-", "-d", "a=3d", stdin="a 1d\n")
    assert (done.returncode, "the date of 'a' is given twice" in done.stderr) == (2, True)


def test_a_policy_that_is_not_valid_is_told_with_its_lines(tmp_path: Path) -> None:
    done = run(tmp_path, "test", "-", "--tags", "a", stdin=_POLICY.replace("7d", "7"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "-:13: spec.rules[0].olderThan: must be a string, and 7 is a number" in done.stderr


def test_standard_input_is_the_policy_or_the_tags(tmp_path: Path) -> None:
    done = run(tmp_path, "test", "-", "--tags", "-", stdin=_POLICY)
    assert (done.returncode, "not both" in done.stderr) == (2, True)
