"""`validate`: all errors at once with their lines, warnings, folders, exit codes and JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.command import run

_ROOT = Path(__file__).parents[2]
_SAMPLES = _ROOT / "crds" / "samples"
_SCHEMA = json.loads((_ROOT / "docs" / "schemas" / "validate.schema.json").read_text())

_GOOD = """\
apiVersion: registrycleanup.dev/v1alpha1
kind: RegistryCleanupPolicy
metadata:
  name: good
spec:
  registry:
    url: https://registry.example.com
  repositories:
    include: [team/**]
  rules:
    - name: builds
      tags:
        include: [build-.*]
      olderThan: 30d
"""
_BAD = """\
# A file of a GitOps repository.
apiVersion: v1
kind: ConfigMap
metadata: {name: x}
---
apiVersion: registrycleanup.dev/v1alpha1
kind: RegistryCleanupPolicy
metadata:
  name: Bad
spec:
  registry:
    url: http://registry.example.com
    secretRef: {name: y}
  repositories:
    include: []
  rules:
    - name: builds
      tags: {include: ["build-[0-9]+", "("]}
      olderThan: 30
    - name: builds
      tags:
        include: ["a<version>b"]
      orderBy: SemVer
      extract: version
      keep: {mostRecent: "3"}
    - name: all
      tags: {include: [.*]}
  dryrun: on
  dryRun: on
  schedule: "99 3 * * *"
  dryRun: off
---
a: [
"""
_TOLD = [
    (9, "metadata.name", "must be lower case letters"),
    (12, "spec.registry.url", "http:// is allowed only with insecure: true"),
    (13, "spec.registry.secretRef.name", "must be a string, and true is a boolean; put the value in quotes"),
    (15, "spec.repositories.include", "all of them is written **"),
    (18, "spec.rules[0].tags.include[1]", "RE2 syntax: missing )"),
    (19, "spec.rules[0].olderThan", "30 is a number; it must be a duration"),
    (20, "spec.rules[1].name", "two rules have the same name; give each rule its own: 'builds'"),
    (24, "spec.rules[1].extract", "must define the group that extract names"),
    (25, "spec.rules[1].keep.mostRecent", '"3" is a string; write it without quotes'),
    (26, "spec.rules[2]", "to prune by age write olderThan: 30d"),
    (28, "spec.dryrun", "did you mean dryRun?"),
    (30, "spec.schedule", "is not a cron expression"),
    (31, "spec.dryRun", "is there twice, first in line 29"),
    (34, "", "is not YAML"),
]


def _file(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def _json(done: subprocess.CompletedProcess[str]) -> Any:  # noqa: ANN401 - whatever JSON it is
    found = json.loads(done.stdout)
    jsonschema.validate(found, _SCHEMA)
    assert found["valid"] == (done.returncode == 0)
    return found


def test_the_samples_are_valid_and_warn_of_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "validate", _SAMPLES)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(list(_SAMPLES.glob("*.yaml")))
    assert f"{_SAMPLES / 'policy-basic.yaml'}:4: basic is valid" in done.stdout.splitlines()


def test_all_errors_are_told_at_once_with_file_line_and_field(tmp_path: Path) -> None:
    _file(tmp_path, "bad.yaml", _BAD)
    done = run(tmp_path, "validate", "bad.yaml")
    assert (done.returncode, done.stderr) == (2, "")
    for shown, (line, path, words) in zip(done.stdout.splitlines(), _TOLD, strict=True):
        assert shown.startswith(f"bad.yaml:{line}: {path}")
        assert words in shown
    found = _json(run(tmp_path, "validate", "bad.yaml", "--output", "json"))
    assert [(each["line"], each["path"]) for each in found["errors"]] == [(line, path) for line, path, _ in _TOLD]
    assert found["policies"] == [{"file": "bad.yaml", "line": 6, "namespace": None, "name": "Bad", "valid": False}]


def test_one_bad_file_among_several_does_not_hide_the_others(tmp_path: Path) -> None:
    _file(tmp_path, "good.yaml", _GOOD)
    _file(tmp_path, "other.yaml", "kind: Service\n")
    done = run(tmp_path, "validate", "other.yaml", "good.yaml", "none.yaml", "-", stdin=_GOOD.replace("30d", "x"))
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "other.yaml:1: is a Service, not a RegistryCleanupPolicy",
        "none.yaml: No such file or directory",
        (
            "-:14: spec.rules[0].olderThan: must be a duration of days, hours, minutes and seconds in this order, "
            "such as 30d, 12h or 1d12h"
        ),
        "good.yaml:1: good is valid",
    ]


def test_quiet_tells_errors_only(tmp_path: Path) -> None:
    _file(tmp_path, "good.yaml", _GOOD + "  suspend:\n")
    done = run(tmp_path, "validate", "--quiet", "good.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert _json(run(tmp_path, "validate", "--quiet", "good.yaml", "-o", "json"))["warnings"] == []
    _file(tmp_path, "bad.yaml", _BAD)
    assert len(run(tmp_path, "validate", "-q", "bad.yaml", "good.yaml").stdout.splitlines()) == len(_TOLD)


def test_what_can_have_no_effect_is_warned_of_and_valid(tmp_path: Path) -> None:
    rule = "    - name: again\n      tags: {include: [build-.*]}\n      olderThan: 1d\n"
    text = _GOOD + rule + "  suspend:\n---\n" + _GOOD
    _file(tmp_path, "good.yaml", text)
    done = run(tmp_path, "validate", "good.yaml")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "good.yaml:1: good is valid",
        (
            "good.yaml:15: warning: spec.rules[1]: can never own a tag: 'builds' above it has the same tags.include in "
            "the same repositories"
        ),
        "good.yaml:18: warning: spec.suspend: has no value, which is as if it were not there",
        "good.yaml:20: good is valid",
        (
            "good.yaml:23: warning: metadata.name: has the name of the policy in good.yaml:1; of two applied to one "
            "namespace the last one is left"
        ),
    ]
    assert len(_json(run(tmp_path, "validate", "good.yaml", "-o", "json"))["warnings"]) == 3


def test_patterns_that_no_tag_can_match_and_exclusions_of_nothing_are_warned_of(tmp_path: Path) -> None:
    text = _GOOD.replace("[team/**]", "[team/**]\n    exclude: [team/base, other/base]").replace(
        "[build-.*]", '["app:v.*", build-.*]\n        exclude: ["x/y"]'
    )
    _file(tmp_path, "good.yaml", text + "  keepTags:\n  - v.*\n  - \"'v.*'\"\n")
    done = run(tmp_path, "validate", "good.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "good.yaml:1: good is valid",
        "good.yaml:10: warning: spec.repositories.exclude[1]: excludes nothing: no include matches other/base",
        "good.yaml:14: warning: spec.rules[0].tags.include[0]: can match no tag: it needs ':', which no tag can have",
        "good.yaml:15: warning: spec.rules[0].tags.exclude[0]: can match no tag: it needs '/', which no tag can have",
        'good.yaml:19: warning: spec.keepTags[1]: can match no tag: it needs "\'", which no tag can have',
    ]


@pytest.mark.parametrize(
    ("pattern", "refused"), [(r"a\C", True), (r"\\\C", True), (r"a\\C", False), (r"\Q\C\E", False)]
)
def test_a_pattern_that_matches_single_bytes_is_refused_as_an_api_server_does(
    tmp_path: Path, pattern: str, refused: bool
) -> None:
    _file(tmp_path, "policy.yaml", _GOOD.replace("build-.*", f"'{pattern}'"))
    done = run(tmp_path, "validate", "policy.yaml")
    assert done.returncode == (2 if refused else 0)
    assert ("policy.yaml:13: spec.rules[0].tags.include[0]" in done.stdout) is refused
    assert ("\\C, which an API server refuses; write . for any character" in done.stdout) is refused


def test_a_folder_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    _file(tmp_path, "all/b.yaml", _GOOD)
    _file(tmp_path, "all/a.yml", _GOOD.replace("name: good", "name: first"))
    _file(tmp_path, "all/words.txt", _GOOD)
    _file(tmp_path, "all/chart/template.yaml", "{{- if .Values.x }}\na: [\n")
    _file(tmp_path, "all/values.yaml", "a: 1\n")
    _file(tmp_path, "all/deep/er/c.json", json.dumps({"kind": "RegistryCleanupPolicy"}))
    done = run(tmp_path, "validate", "all")
    assert (done.returncode, done.stdout) == (0, "all/a.yml:1: first is valid\nall/b.yaml:1: good is valid\n")
    done = run(tmp_path, "validate", "-R", "all", "-o", "json")
    assert {each["file"] for each in _json(done)["errors"]} == {"all/deep/er/c.json"}


def test_what_may_be_a_policy_and_cannot_be_read_is_an_error_in_a_folder_too(tmp_path: Path) -> None:
    _file(tmp_path, "all/good.yaml", _GOOD)
    _file(tmp_path, "all/broken.yaml", f"{_GOOD}  x: [\n")
    _file(tmp_path, "all/none.yaml", "").chmod(0o644)
    done = run(tmp_path, "validate", "all")
    assert done.returncode == 2
    assert done.stdout.startswith("all/broken.yaml:16: is not YAML")


def test_a_folder_without_policies_is_an_error_that_says_what_was_looked_at(tmp_path: Path) -> None:
    _file(tmp_path, "all/deep/good.yaml", _GOOD)
    done = run(tmp_path, "validate", "all")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert "all: holds no RegistryCleanupPolicy; looked at are .json, .yaml, .yml, and folders in it" in done.stdout


def test_the_settings_of_the_environment_bound_policies_too(tmp_path: Path) -> None:
    _file(tmp_path, "good.yaml", _GOOD)
    done = run(tmp_path, "validate", "good.yaml", REGISTRY_CLEANUP_ALLOWED_REGISTRIES="other.example.com")
    assert done.returncode == 2
    assert "good.yaml:7: spec.registry.url: names registry.example.com:443" in done.stdout
    done = run(tmp_path, "validate", "good.yaml", REGISTRY_CLEANUP_MAX_DELETION="7")
    assert (done.returncode, "is no setting of this operator" in done.stderr) == (2, True)


def test_a_link_that_leads_nowhere_is_an_error_in_a_folder_too(tmp_path: Path) -> None:
    _file(tmp_path, "all/good.yaml", _GOOD)
    (tmp_path / "all" / "linked.yaml").symlink_to(tmp_path / "gone.yaml")
    done = run(tmp_path, "validate", "all")
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, "all/linked.yaml: No such file or directory")


def test_without_a_file_it_says_what_it_needs(tmp_path: Path) -> None:
    done = run(tmp_path, "validate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Missing argument 'FILE...'" in done.stderr
