"""`explain`: what bears on one tag of real registries, compared with the plan and with crane."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import RawIOBase
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.command import COMMAND, environment, run
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.registries import RegistryServer

REPOSITORY = "team/app"
# One instant for all, or the same build pushed twice would be two images.
STARTED = datetime.now(UTC)
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "explain.schema.json"


def days_ago(days: float) -> datetime:
    return STARTED - timedelta(days=days)


def policy_file(folder: Path, url: str, **changes: Any) -> Path:  # noqa: ANN401 - values of any field
    """Write a policy of builds: the two newest stay, and what is younger than 30 days; of prefixes `v` all stay."""
    spec = {
        "registry": {"url": url, "insecure": True},
        "repositories": {"include": ["team/*"], "exclude": ["team/secret"]},
        "rules": [
            {
                "name": "builds",
                "tags": {"include": ["build-.*", "multi.*"], "exclude": [".*-pinned"]},
                "olderThan": "30d",
                "keep": {"mostRecent": 2},
            }
        ],
        "keepTags": ["v.*"],
        "inUse": {"enabled": False},
        **changes,
    }
    body = {
        "apiVersion": "registrycleanup.dev/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "metadata": {"name": "builds", "namespace": "team"},
        "spec": spec,
    }
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def push_all(url: str) -> dict[str, str]:
    """Push builds that share digests, an index, and what refers to a build; return digests by tag."""
    digests = {
        f"build-{number}": push_image(
            url, REPOSITORY, [f"build-{number}"], created=days_ago(100 - number), seed=str(number)
        )
        for number in range(1, 6)
    }
    digests["build-6"] = push_image(url, REPOSITORY, ["build-6", "build-6-pinned"], created=days_ago(7), seed="6")
    digests["v1.0"] = push_image(url, REPOSITORY, ["v1.0"], created=days_ago(99), seed="1")
    children = [
        push_image(url, REPOSITORY, [f"multi-{machine}"], created=days_ago(80), platform=f"linux/{machine}", seed="m")
        for machine in ("amd64", "arm64")
    ]
    digests["multi"] = push_index(url, REPOSITORY, ["multi"], children=children)
    signature = digests["build-2"].replace(":", "-") + ".sig"
    digests[signature] = push_image(url, REPOSITORY, [signature], created=days_ago(98), seed="signature")
    return digests


def check_schema(document: object) -> None:
    """Hold a document to the schema that is shipped."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())


def _all_of(terminal: RawIOBase) -> bytes:
    """Return what was written to a terminal whose other side is closed."""
    found = b""
    while True:
        try:
            more = terminal.read(65536)
        except OSError:  # the other side is closed
            return found
        if not more:
            return found
        found += more


def explained(home: Path, policy: Path, reference: str, *options: str) -> dict[str, Any]:
    """Return the explanation of one tag."""
    done = run(home, "explain", "-f", policy, reference, "-o", "json", *options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    [told] = document["tags"]
    return dict(told)


def plan_lines(home: Path, policy: Path) -> dict[str, Mapping[str, Any]]:
    """Return the lines of the plan by tag."""
    done = run(home, "plan", "-f", policy, "-o", "json")
    assert done.returncode == 0, done.stderr
    return {line["tag"]: line for line in json.loads(done.stdout)["lines"] if line["type"] == "tag"}


def rewritten(policy: Path, field: str, value: Any, *, removes: bool) -> None:  # noqa: ANN401 - values of any field
    """Write one field of a policy as a what-if says."""
    body = yaml.safe_load(policy.read_text())
    at = body["spec"]
    *path, last = field.removeprefix("spec.").replace("[0]", ".0").split(".")
    for step in path:
        at = at[int(step)] if step.isdigit() else at.setdefault(step, {})
    if isinstance(at.get(last), list):
        at[last] = [each for each in at[last] if each != value] if removes else [*at[last], value]
    elif removes:
        del at[last]
        if path[-1:] == ["keep"]:
            del body["spec"]["rules"][0]["keep"]
    else:
        at[last] = value
    policy.write_text(yaml.safe_dump(body))


@dataclass(frozen=True)
class Yard:
    """A registry with builds, and a policy about them."""

    server: RegistryServer
    crane: Crane
    home: Path
    policy: Path
    digests: Mapping[str, str]

    def image(self, reference: str) -> str:
        return f"{self.server.host}/{REPOSITORY}{reference}"

    def text(self, reference: str, *options: str, code: int = 0, stdin: str | None = None) -> str:
        """Return what people are told; on stderr where that is an error."""
        done = run(self.home, "explain", "-f", self.policy, *options, reference, stdin=stdin)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    def named(self, tag: str) -> str:
        """Return the tag, or that of the signature, whose name depends on what it signs."""
        return next(each for each in self.digests if each.endswith(".sig")) if tag == "signature" else tag

    def tag(self, tag: str) -> dict[str, Any]:
        return explained(self.home, self.policy, f"{REPOSITORY}:{tag}")


@pytest.fixture
def yard(registry: RegistryServer, crane: Crane, tmp_path: Path) -> Yard:
    digests = push_all(registry.url)
    home = tmp_path / "home"
    home.mkdir()
    return Yard(registry, crane, home, policy_file(home, registry.url), digests)


def test_each_tag_has_the_verdict_of_the_plan_and_the_digest_and_relations_that_crane_sees(yard: Yard) -> None:
    lines = plan_lines(yard.home, yard.policy)
    there = {tag: yard.crane.digest(yard.image(f":{tag}")) for tag in yard.crane.ls(yard.image(""))}
    assert lines.keys() == there.keys()
    assert {line["verdict"] for line in lines.values()} == {"Keep", "Prune"}
    for tag, line in lines.items():
        told = yard.tag(tag)
        same = {key: value for key, value in line.items() if key not in {"type", "repository"}}
        assert {key: told.get(key) for key in same} == same
        assert told["digest"] == there[tag]
        assert {each["tag"] for each in told["siblings"]} == {t for t, d in there.items() if d == there[tag]} - {tag}
        listed = yard.crane.manifest(yard.image(f":{tag}")).get("manifests", [])
        assert [child["digest"] for child in told["children"]] == [child["digest"] for child in listed]
    [parent] = yard.tag("multi-amd64")["parents"]
    assert (parent["digest"], [each["tag"] for each in parent["tags"]]) == (there["multi"], ["multi"])
    signature = yard.named("signature")
    assert yard.tag(signature)["refersTo"]["digest"] == there["build-2"]
    assert [each["digest"] for each in yard.tag("build-2")["referrers"]] == [there[signature]]


def test_a_what_if_that_is_written_into_the_policy_gives_the_other_verdict(yard: Yard) -> None:
    tried = set()
    for tag in ("build-1", "build-5", "build-6", "build-6-pinned", "multi", "v1.0"):
        original, told = yard.policy.read_text(), yard.tag(tag)
        for what_if in told["whatIfs"]:
            if {change["kind"] for change in what_if["changes"]} != {"Policy"}:
                continue
            for change in what_if["changes"]:
                rewritten(yard.policy, change["field"], change.get("value"), removes=change["removes"])
                tried.add(change["field"])
            assert plan_lines(yard.home, yard.policy)[tag]["verdict"] == what_if["verdict"], what_if["text"]
            yard.policy.write_text(original)
    assert {"spec.keepTags", "spec.rules[0].olderThan", "spec.rules[0].keep.mostRecent"} <= tried


def test_where_only_digests_can_be_deleted_a_tag_is_told_which_other_one_keeps_it(
    registry2: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    push_all(registry2.url)
    policy = policy_file(tmp_path, registry2.url, minTagsPerRepository=0)
    told = explained(tmp_path, policy, f"{REPOSITORY}:build-1")
    assert told["reason"] == "SharedDigest"
    assert told["siblings"] == [{"tag": "v1.0", "verdict": "Keep", "reason": "KeepTags"}]
    [change] = told["whatIfs"][0]["changes"]
    assert (change["kind"], change["tags"]) == ("Untagged", ["v1.0"])
    # There the way to remove a tag alone is to push something else to it.
    crane.run("tag", f"{registry2.host}/{REPOSITORY}:build-6", "v1.0")
    assert explained(tmp_path, policy, f"{REPOSITORY}:build-1")["verdict"] == "Prune"


def test_newer_images_push_a_tag_out_as_its_explanation_says(yard: Yard) -> None:
    [what_if, *_] = yard.tag("multi")["whatIfs"]
    [change] = what_if["changes"]
    assert change["kind"] == "NewerImages"
    for tag in change["tags"]:
        push_image(yard.server.url, REPOSITORY, [tag], created=STARTED, seed=tag)
    assert plan_lines(yard.home, yard.policy)["multi"]["verdict"] == "Prune"


def test_all_tags_on_a_digest_are_explained(yard: Yard) -> None:
    digest = yard.digests["build-1"]
    done = run(yard.home, "explain", "-f", yard.policy, "-o", "yaml", yard.image(f"@{digest}"))
    document = yaml.safe_load(done.stdout)
    check_schema(document)
    assert [told["tag"] for told in document["tags"]] == ["build-1", "v1.0"]
    assert (document["digest"], document["present"]) == (digest, True)
    alone = push_image(yard.server.url, REPOSITORY, created=days_ago(3), seed="alone")
    assert "no tag stands on it, so no rule looks at it" in yard.text(f"{REPOSITORY}@{alone}")
    assert "is not there" in yard.text(f"{REPOSITORY}@sha256:{'0' * 64}", code=4)


@pytest.mark.parametrize("tag", ["build-1", "build-6", "v1.0", "multi", "signature", "nosuch"])
def test_json_is_what_the_schema_says(yard: Yard, tag: str) -> None:
    done = run(yard.home, "explain", "-f", yard.policy, "-o", "json", yard.image(f":{yard.named(tag)}"))
    assert done.returncode == (4 if tag == "nosuch" else 0), done.stderr
    check_schema(json.loads(done.stdout))


def test_people_are_told_in_sentences(yard: Yard) -> None:
    text = yard.text(f"{REPOSITORY}:build-6")
    title, *_ = text.splitlines()
    assert title == f"{REPOSITORY}:build-6 stays (MostRecent): its image is among those that keep.mostRecent keeps"
    for sentence in (
        "builds: owns it: tags.include 'build-.*' matches, and no earlier rule does",
        "It is not older than olderThan of rule builds (30d), until",
        "Its image is number 1 of the 9 images that rule builds counts here, by date.",
        "On the same digest: build-6-pinned (Excluded); ",
        "It goes if ",
    ):
        assert f"\n  {sentence}" in text
    assert "\x1b" not in text


def test_what_is_not_there_or_not_selected_is_explained(yard: Yard) -> None:
    missing = yard.text(f"{REPOSITORY}:build-66", code=4)
    assert "is not there: the registry lists no such tag" in missing
    assert "builds: owns it" in missing
    assert "Similar tags\n  build-6" in missing
    other = yard.text("other/app:1")
    assert "no glob of spec.repositories.include ('team/*') matches other/app; 'other/app' would" in other
    assert "spec.repositories.exclude 'team/secret' matches team/secret" in yard.text("team/secret:1")
    absent = yard.text("team/apq:1", code=4)
    assert absent == f"Error: there is no repository team/apq at {yard.server.host}; similar: team/app\n"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (REPOSITORY, "names a repository and no tag: write REPOSITORY:TAG"),
        ("other.example.com/team/app:1", "other.example.com is not the registry of the policy, which is 127.0.0.1:"),
        ("team/app:", "cannot be a tag"),
        ("Team/app:1", "names no repository"),
        ("team/app@sha256:12", "is no digest"),
        (f"team/app:1@sha256:{'0' * 64}", "names both a tag and a digest"),
    ],
)
def test_a_reference_that_means_nothing_is_told_with_what_would(tmp_path: Path, reference: str, told: str) -> None:
    policy = policy_file(tmp_path, "http://127.0.0.1:1")
    done = run(tmp_path, "explain", "-f", policy, reference)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_without_a_policy_a_cluster_or_a_registry_it_says_so(tmp_path: Path) -> None:
    nothing = run(tmp_path, "explain", "team/app:1")
    assert (nothing.returncode, "name the policy" in nothing.stderr) == (2, True)
    policy = policy_file(tmp_path, "http://127.0.0.1:1", inUse={"enabled": True})
    blind = run(tmp_path, "explain", "-f", policy, "team/app:1")
    assert (blind.returncode, "--no-in-use" in blind.stderr) == (5, True)
    gone = run(tmp_path, "explain", "-f", policy, "--no-in-use", "team/app:1")
    assert gone.returncode == 4
    assert "Warning: --no-in-use" in gone.stderr


@pytest.mark.parametrize("colour", [True, False])
def test_on_a_terminal_of_60_columns_only_digests_are_longer(yard: Yard, colour: bool) -> None:
    variables = {"TERM": "xterm"} if colour else {"TERM": "xterm", "NO_COLOR": "1"}
    command = [*COMMAND, "explain", "-f", str(yard.policy), f"{REPOSITORY}:build-6"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(command, stdout=theirs, env=environment(yard.home, **variables), timeout=60, check=False)
        os.close(theirs)
        text = _all_of(terminal).decode()
    assert done.returncode == 0
    assert ("\x1b[" in text) is colour
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert len(lines) > 20
    assert all(len(line) <= 60 or "sha256:" in line for line in lines)
