"""`plan` with a policy in a file: the same tags as crane lists, each with its verdict, in every format."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.policies import days_ago, policy_spec, push_builds
from tests.support.registries import RegistryServer
from tests.support.schemas import validate

UNUSED: Mapping[str, Any] = {"inUse": {"enabled": False}}
GOING = ["build-1", "build-2", "build-3"]


def write_policy(folder: Path, spec: Mapping[str, Any], name: str = "nightly", **metadata: str) -> Path:
    body = {
        "apiVersion": "registrycleanup.dev/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }
    file = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(body))
    return file


def fill(url: str) -> None:
    """Push what a plan has most of: old builds, one that is kept by its name, and one that no rule owns."""
    push_builds(url)
    push_builds(url, "team/web", 2)
    push_image(url, "team/app", ["latest", "release"], created=days_ago(99), seed="by name")


def test_a_plan_has_every_tag_that_crane_lists_with_the_digest_that_crane_resolves(
    registry: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    fill(registry.url)
    file = write_policy(tmp_path, policy_spec(registry.url, **UNUSED))

    done = run(tmp_path / "home", "plan", "-f", file, "-o", "json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    validate(document, "plan")
    lines = [line for line in document["lines"] if line["type"] == "tag"]
    there = {(name, tag) for name in ("team/app", "team/web") for tag in crane.ls(f"{registry.host}/{name}")}
    assert {(line["repository"], line["tag"]) for line in lines} == there
    for line in lines:
        if "digest" in line:
            assert line["digest"] == crane.digest(f"{registry.host}/{line['repository']}:{line['tag']}")
    going = [(line["repository"], line["tag"]) for line in lines if line["verdict"] == "Prune"]
    assert going == [("team/app", tag) for tag in GOING]
    assert all("digest" in line for line in lines if line["verdict"] == "Prune")
    assert (document["plan"]["deletions"], document["run"]["counts"]["tagsScanned"]) == (3, 9)
    assert document["policy"]["namespace"] == "default"
    assert sorted(crane.ls(f"{registry.host}/team/app")) == sorted([*GOING, "build-4", "build-5", "latest", "release"])


def test_the_same_policy_and_registry_have_the_same_hash_each_time_and_other_tags_another(
    registry3: RegistryServer, tmp_path: Path
) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))

    def plan_hash(*options: str) -> str:
        done = run(tmp_path / "home", "plan", "-f", file, "-o", "json", *options)
        found: str = json.loads(done.stdout)["plan"]["hash"]
        return found

    first = plan_hash()
    assert plan_hash() == first
    assert plan_hash("--repository", "team/web") == first  # a view, not another plan
    assert plan_hash("-n", "elsewhere") != first  # another policy
    push_image(registry3.url, "team/app", ["build-0"], created=days_ago(80), seed="one more")
    assert plan_hash() != first


def test_the_table_groups_what_goes_by_repository_and_reason_and_counts_what_stays(
    registry3: RegistryServer, tmp_path: Path
) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))

    done = run(tmp_path / "home", "plan", "-f", file, COLUMNS="40")

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    group = lines.index("  go by rule builds: OlderThan, BeyondMostRecent (3 tags)")
    assert lines[group - 1] == "team/app"
    assert [line.split()[0] for line in lines[group + 2 : group + 5]] == GOING
    assert "team/web" not in lines  # nothing goes there
    assert "  MostRecent  4" in lines
    assert "\x1b" not in done.stdout
    hashes = [line for line in lines if line.startswith("Plan ")]
    assert len(hashes[0].split()[1]) == 64  # neither cut nor wrapped, though the terminal would be narrow


@pytest.mark.parametrize(
    ("show", "shown"),
    [
        ("going", GOING),
        ("kept", ["build-4", "build-5", "latest", "release"]),
        ("protected", ["latest"]),
        ("all", [*GOING, "build-4", "build-5", "latest", "release"]),
    ],
)
def test_what_is_shown_narrows_the_view_in_each_format_and_never_the_totals(
    registry3: RegistryServer, tmp_path: Path, show: str, shown: list[str]
) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))
    view = ("--show", show, "--repository", "team/a*")

    documents = {
        output: run(tmp_path / "home", "plan", "-f", file, "-o", output, *view).stdout
        for output in ("json", "yaml", "csv", "table")
    }

    in_json, in_yaml = json.loads(documents["json"]), yaml.safe_load(documents["yaml"])
    validate(in_json, "plan")
    validate(in_yaml, "plan")
    assert [line["tag"] for line in in_json["lines"] if line["type"] == "tag"] == shown
    assert in_yaml["lines"] == in_json["lines"]
    assert in_json["run"]["counts"]["tagsScanned"] == 9
    rows = list(csv.DictReader(io.StringIO(documents["csv"], newline="")))
    assert [row["tag"] for row in rows] == shown
    assert {row["repository"] for row in rows} == {"team/app"}
    assert all(line.count("\r\n") == 0 for line in documents["csv"].split("\r\n"))
    assert all(f"    {tag}" in documents["table"] for tag in shown)
    assert "team/web" not in documents["table"]


def test_the_file_that_is_written_is_whole_and_its_name_says_the_format(
    registry3: RegistryServer, tmp_path: Path
) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))
    target = tmp_path / "plan.json"

    done = run(tmp_path / "home", "plan", "-f", file, "--output-file", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    validate(json.loads(target.read_text()), "plan")

    before = target.read_text()
    nowhere = run(tmp_path / "home", "plan", "-f", file, "--output-file", tmp_path / "no" / "plan.json")
    assert nowhere.returncode == 2
    assert "cannot write" in nowhere.stderr
    gone = write_policy(tmp_path, policy_spec("http://127.0.0.1:1", **UNUSED), "gone")
    failed = run(tmp_path / "home", "plan", "-f", gone, "--output-file", target)
    assert failed.returncode == 4
    assert target.read_text() == before


def test_a_repository_that_cannot_be_read_is_told_and_the_rest_is_planned(
    registry3: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    fill(registry3.url)
    push_builds(registry3.url, "team/web", 4)
    hexadecimal = crane.digest(f"{registry3.host}/team/web:build-1").removeprefix("sha256:")
    blob = registry3.storage / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")  # other content than the digest says
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))

    done = run(tmp_path / "home", "plan", "-f", file, "-o", "json")

    assert done.returncode == 6, done.stderr
    document = json.loads(done.stdout)
    validate(document, "plan")
    assert [line["tag"] for line in document["lines"] if line.get("verdict") == "Prune"] == GOING
    assert [line["repository"] for line in document["lines"] if line["type"] == "incomplete"] == ["team/web"]
    assert document["failures"][0]["repository"] == "team/web"
    assert "Error: team/web: " in done.stderr


def test_without_a_cluster_a_plan_that_needs_one_says_what_to_do(registry3: RegistryServer, tmp_path: Path) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url))

    done = run(tmp_path / "home", "plan", "-f", file)
    assert (done.returncode, done.stdout) == (5, "")
    assert "--no-in-use" in done.stderr
    assert "--kubeconfig" in done.stderr

    loud = run(tmp_path / "home", "plan", "-f", file, "--no-in-use")
    assert loud.returncode == 0
    assert "not protected" in loud.stderr


def test_what_stands_in_the_way_is_told_in_one_line_with_its_exit_code(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = write_policy(tmp_path, policy_spec("https://127.0.0.1:1", **UNUSED))
    invalid = write_policy(tmp_path, policy_spec("https://127.0.0.1:1", rules=[]), "invalid")
    none = "there is no kubeconfig (looked at ~/.kube/config)"
    cases = [
        (("plan",), 2, "name a policy"),
        (("plan", "nightly"), 5, f"no cluster: {none}: name one with --kubeconfig, or a policy file with -f\n"),
        (("report", "nightly"), 5, f"no cluster: {none}: name one with --kubeconfig\n"),
        (("plan", "-f", file), 4, "127.0.0.1:1"),
        (("plan", "-f", invalid), 2, "spec.rules"),
        (("plan", "-f", file, "--diff"), 5, f"no cluster: {none}: name one with --kubeconfig\n"),
        (("plan", "-f", file, "--diff", "-o", "html"), 2, "--diff has no page"),
        (("plan", "-f", file, "--repository", "Team"), 2, "--repository"),
        (("plan", "-f", file, "--kubeconfig", tmp_path / "none"), 5, "no cluster"),
    ]
    for arguments, code, told in cases:
        done = run(home, *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done.stderr)
        assert told in done.stderr, arguments


def test_a_file_that_cannot_or_must_not_be_written_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = write_policy(tmp_path, policy_spec("https://127.0.0.1:1", **UNUSED))
    text = file.read_text()
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    for target, told in (
        (file, "is the policy's own file"),
        (link, "is the policy's own file"),
        (tmp_path / "none" / "plan.json", "there is no folder"),
        (file / "plan.json", "cannot write"),
    ):
        done = run(home, "plan", "-f", file, "--output-file", target)
        assert (done.returncode, done.stdout, told in done.stderr) == (2, "", True), done.stderr
    assert file.read_text() == text


def test_the_places_of_kubeconfigs_are_those_of_the_variable(tmp_path: Path) -> None:
    missing = f"{tmp_path / 'one'}:{tmp_path / 'two'}"
    done = run(tmp_path / "home", "report", "nightly", KUBECONFIG=missing)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"there is no kubeconfig (looked at {tmp_path / 'one'}, {tmp_path / 'two'})" in done.stderr


def test_plain_http_that_a_person_accepts_need_not_be_in_the_policy(registry3: RegistryServer, tmp_path: Path) -> None:
    fill(registry3.url)
    home = tmp_path / "home"
    spec = policy_spec(registry3.url, **UNUSED)
    file = write_policy(tmp_path, spec)
    secure = write_policy(tmp_path, {**spec, "registry": {"url": registry3.url}}, "secure")

    refused = run(home, "plan", "-f", secure)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "insecure: true" in refused.stderr
    plans = [json.loads(run(home, "plan", "-f", each, "--insecure", "-o", "json").stdout) for each in (secure, file)]
    going = [[line["tag"] for line in plan["lines"] if line.get("verdict") == "Prune"] for plan in plans]
    assert going == [GOING, GOING]
    explained = run(home, "explain", "team/app:build-1", "-f", secure, "--insecure")
    assert explained.returncode == 0, explained.stderr

    forbidden = run(home, "plan", "-f", secure, "--insecure", REGISTRY_CLEANUP_ALLOW_INSECURE="false")
    assert (forbidden.returncode, forbidden.stdout) == (4, "")
    assert "--insecure is not allowed by the setting REGISTRY_CLEANUP_ALLOW_INSECURE" in forbidden.stderr


def test_a_kubeconfig_of_a_cluster_that_is_gone_is_passed_over_where_no_cluster_is_needed(
    registry3: RegistryServer, tmp_path: Path
) -> None:
    fill(registry3.url)
    file = write_policy(tmp_path, policy_spec(registry3.url, **UNUSED))
    kubeconfig = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gone",
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
        "clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": {"token": "any"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config))

    done = run(tmp_path / "home", "plan", "-f", file, KUBECONFIG=str(kubeconfig))
    assert done.returncode == 0, done.stderr
    assert "does not answer" in done.stderr

    meant = run(tmp_path / "home", "plan", "-f", file, "--kubeconfig", kubeconfig)
    assert meant.returncode == 5
