"""`list` on real registries, compared with crane, and with what their API says to a plain client."""

import csv
import io
import json
import os
import pty
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from tests.support.command import COMMAND, environment, run
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, answers, drops_the_connection, faulty_registry
from tests.support.images import DOCKER_LIST, OCI_INDEX, push_image, push_index
from tests.support.operator import REPOSITORY_ROOT
from tests.support.processes import free_port
from tests.support.referrers import offer_referrers
from tests.support.registries import RegistryServer, Version, distribution

_SCHEMA = json.loads((REPOSITORY_ROOT / "docs/schemas/list.schema.json").read_text())
_APP = "team/app"
_UNAUTHORIZED = '{"errors":[{"code":"UNAUTHORIZED"}]}'


@dataclass(frozen=True)
class Person:
    """Somebody with a home and a registry."""

    home: Path
    registry: RegistryServer
    crane: Crane

    @property
    def host(self) -> str:
        return self.registry.host

    def list(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = run(self.home, "list", *arguments)
        assert done.returncode == code, done.stderr
        return done

    def document(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Return what `--output json` prints, which fits the schema."""
        found: dict[str, Any] = json.loads(self.list(*arguments, "--output", "json", code=code).stdout)
        jsonschema.validate(found, _SCHEMA)
        return found


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def person(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Fill a registry of each version with all that a listing has to tell apart; the tests only look at it."""
    folder = tmp_path_factory.mktemp("list")
    version: Version = request.param
    with distribution(version, folder / "registry") as registry:
        _fill(registry.url)
        yield Person(folder / "home", registry, Crane(folder / "crane"))


def _fill(url: str) -> None:
    for build in range(3):
        push_image(url, _APP, [f"build-{build}"], created=datetime(2025, 4, 1 + build, tzinfo=UTC), seed=str(build))
    push_image(url, _APP, ["1.0", "latest"], created=datetime(2025, 5, 1, tzinfo=UTC), docker=True, seed="one")
    push_image(url, _APP, ["from-1970"], created="1970-01-01T00:00:00Z", seed="placeholder")
    push_image(url, _APP, ["undated"], created=None, seed="undated")
    amd = push_image(url, _APP, created=datetime(2025, 6, 1, tzinfo=UTC), platform="linux/amd64", seed="two")
    arm = push_image(url, _APP, created=datetime(2025, 6, 2, tzinfo=UTC), platform="linux/arm64", seed="two")
    index = push_index(url, _APP, ["2.0"], children=[amd, arm])
    listed = push_image(url, _APP, created=datetime(2025, 5, 15, tzinfo=UTC), docker=True, seed="listed")
    push_index(url, _APP, ["2.0-docker"], children=[listed], docker=True)
    push_image(url, _APP, [f"{index.replace(':', '-')}.sig"], created="0001-01-01T00:00:00Z", seed="signature")
    # The same image promoted to another repository.
    push_image(url, "prod/app", ["1.0"], created=datetime(2025, 5, 1, tzinfo=UTC), docker=True, seed="one")
    push_image(url, "prod/other", ["x"], seed="other")


@dataclass(frozen=True)
class Seen:
    """What crane sees of one manifest."""

    digest: str
    created: str | None
    platforms: list[str]
    blobs: Mapping[str, int]


def _seen(crane: Crane, repository: str, reference: str) -> Seen:
    """Read a manifest, and all that it lists, with crane alone."""
    separator = "@" if ":" in reference else ":"
    digest = crane.digest(f"{repository}{separator}{reference}")
    manifest = crane.manifest(f"{repository}{separator}{reference}")
    if manifest["mediaType"] in (OCI_INDEX, DOCKER_LIST):
        parts = [_seen(crane, repository, child["digest"]) for child in manifest["manifests"]]
        dates = [part.created or "" for part in parts]
        return Seen(
            digest,
            max(dates) if all(dates) else None,
            [platform for part in parts for platform in part.platforms],
            {blob: size for part in parts for blob, size in part.blobs.items()},
        )
    config = json.loads(crane.run("config", f"{repository}@{digest}"))
    blobs = {part["digest"]: part["size"] for part in (manifest["config"], *manifest["layers"])}
    return Seen(digest, config.get("created"), [f"{config['os']}/{config['architecture']}"], blobs)


def _tags(document: dict[str, Any], repository: str = _APP) -> dict[str, dict[str, Any]]:
    (found,) = [each for each in document["repositories"] if each["name"] == repository]
    return {tag["name"]: tag for tag in found["tags"]}


def test_a_registry_is_listed_with_its_repositories_and_the_number_of_their_tags(person: Person) -> None:
    there = {name: len(person.crane.ls(f"{person.host}/{name}")) for name in person.crane.catalog(person.host)}
    assert len(there) == 3

    document = person.document(person.host)
    table = person.list(person.host).stdout

    assert {each["name"]: each["tagCount"] for each in document["repositories"]} == there
    assert document["totals"] == {"repositories": 3, "tags": sum(there.values())}
    assert [line.split() for line in table.splitlines()[1:-2]] == [[name, str(there[name])] for name in sorted(there)]
    assert table.splitlines()[-1] == f"3 repositories, {sum(there.values())} tags"


def test_tags_are_what_crane_reads_of_them(person: Person) -> None:
    repository = f"{person.host}/{_APP}"
    there = {tag: _seen(person.crane, repository, tag) for tag in person.crane.ls(repository)}

    document = person.document(repository)

    tags = _tags(document)
    assert {name: tag["digest"] for name, tag in tags.items()} == {name: seen.digest for name, seen in there.items()}
    assert {name: tag["date"] for name, tag in tags.items()} == {name: seen.created for name, seen in there.items()}
    assert {name: tag["platforms"] for name, tag in tags.items()} == {n: seen.platforms for n, seen in there.items()}
    assert {name: tag["size"] for name, tag in tags.items()} == {n: sum(s.blobs.values()) for n, s in there.items()}
    assert {name for name, tag in tags.items() if not tag["dateKnown"]} == {
        "from-1970",
        "undated",
        *(tag for tag in there if tag.endswith(".sig")),
    }
    assert {tag["state"] for tag in tags.values()} == {"Read"}
    assert tags["2.0"]["referrerCount"] == 1, "its signature"


def test_each_blob_counts_once_in_the_distinct_bytes(person: Person) -> None:
    seen = [
        _seen(person.crane, f"{person.host}/{name}", tag)
        for name in person.crane.catalog(person.host)
        for tag in person.crane.ls(f"{person.host}/{name}")
    ]
    distinct = {blob: size for each in seen for blob, size in each.blobs.items()}

    totals = person.document("--long", person.host)["totals"]

    assert totals["namedBytes"] == sum(sum(each.blobs.values()) for each in seen)
    assert totals["distinctBytes"] == sum(distinct.values()) < totals["namedBytes"]
    children = 3  # of the two indexes
    assert totals["manifests"] == len({each.digest for each in seen}) + children
    assert totals["unknownSizes"] == 0


def test_long_tells_the_newest_date_and_the_size_of_each_repository(person: Person) -> None:
    repositories = {each["name"]: each for each in person.document("-l", person.host)["repositories"]}
    assert repositories[_APP]["newest"] == "2025-06-02T00:00:00Z"
    assert repositories["prod/app"]["size"] == sum(_seen(person.crane, f"{person.host}/prod/app", "1.0").blobs.values())
    assert all(each["sizeKnown"] and "tags" not in each for each in repositories.values())

    table = person.list("-l", "--sort", "date", person.host).stdout
    assert [line.split()[0] for line in table.splitlines()[1:4]] == ["prod/other", _APP, "prod/app"]


def test_the_table_names_digests_in_short_and_marks_what_is_no_date(person: Person) -> None:
    repository = f"{person.host}/{_APP}"
    digest = person.crane.digest(f"{repository}:1.0")

    table = person.list(repository).stdout

    lines = {line.split()[0]: line for line in table.splitlines() if line}
    assert f" {digest[7:19]}  2025-05-01 " in lines["1.0"]
    assert " 1970-01-01 (unknown) " in lines["from-1970"]
    assert " unknown " in lines["undated"]
    assert " linux/amd64 linux/arm64 " in lines["2.0"]
    first = [line.split()[0] for line in table.splitlines()[1:4]]
    assert first == ["2.0", "2.0-docker", "1.0"], "the newest first"
    assert max(map(len, table.splitlines())) > 100, "what is no terminal is not wrapped"
    assert digest in person.list(repository, "--no-trunc").stdout


def test_names_alone_are_what_crane_lists(person: Person) -> None:
    repository = f"{person.host}/{_APP}"
    assert person.list("--names", repository).stdout.split() == person.crane.ls(repository)
    assert person.list("--names", person.host).stdout.split() == person.crane.catalog(person.host)
    assert person.list("--names", f"{person.host}/prod/*").stdout.split() == ["prod/app:1.0", "prod/other:x"]
    assert person.document("--names", f"{person.host}/prod/app")["repositories"][0]["tags"] == [{"name": "1.0"}]


def test_a_glob_selects_repositories(person: Person) -> None:
    found = person.document(f"{person.host}/prod/**")
    assert [each["name"] for each in found["repositories"]] == ["prod/app", "prod/other"]
    assert _tags(found, "prod/app")["1.0"]["digest"] == person.crane.digest(f"{person.host}/prod/app:1.0")
    only = person.document("--repositories", f"{person.host}/*/app")
    assert [each["name"] for each in only["repositories"]] == ["prod/app", _APP]
    assert all("tags" not in each for each in only["repositories"])

    nothing = person.list(f"{person.host}/*", code=4)
    assert "matches '*'" in nothing.stderr
    assert nothing.stdout == ""


def test_yaml_and_csv_say_what_json_says(person: Person) -> None:
    repository = f"{person.host}/{_APP}"
    document = person.document("--tree", repository)
    assert yaml.safe_load(person.list("--tree", repository, "-o", "yaml").stdout) == document

    tags = _tags(document)
    lines = list(csv.DictReader(io.StringIO(person.list(repository, "-o", "csv").stdout)))
    assert {line["tag"]: (line["digest"], int(line["size"])) for line in lines} == {
        name: (tag["digest"], tag["size"]) for name, tag in tags.items()
    }
    trees = csv.DictReader(io.StringIO(person.list("--tree", repository, "-o", "csv").stdout))
    listed = [
        line["platforms"] for line in trees if line["parent"] == tags["2.0"]["digest"] and line["relation"] == "Listed"
    ]
    assert listed == ["linux/amd64", "linux/arm64"]
    counted = csv.DictReader(io.StringIO(person.list(person.host, "-o", "csv").stdout))
    assert {line["repository"]: line["tagCount"] for line in counted}["prod/app"] == "1"


def test_a_tree_shows_what_an_index_lists_and_its_signature_below_it(person: Person) -> None:
    repository = f"{person.host}/{_APP}"
    index = person.crane.manifest(f"{repository}:2.0")

    tag = _tags(person.document("--tree", repository))["2.0"]
    table = person.list("--tree", repository).stdout

    assert [(child["digest"], child["platform"]) for child in tag["children"]] == [
        (child["digest"], f"{child['platform']['os']}/{child['platform']['architecture']}")
        for child in index["manifests"]
    ]
    signature = f"{tag['digest'].replace(':', '-')}.sig"
    (referrer,) = tag["referrers"]
    assert referrer["tags"] == [signature]
    assert referrer["digest"] == person.crane.digest(f"{repository}:{signature}")
    at = next(number for number, line in enumerate(table.splitlines()) if line.startswith("2.0 "))
    below = [line.split("  ")[0] for line in table.splitlines()[at + 1 : at + 4]]
    assert below == ["├─ linux/amd64", "├─ linux/arm64", f"└─ signature {signature}"]
    assert table.count(signature) == 1
    assert "\n1.0, latest " in table


def test_what_the_tag_schema_lists_is_below_its_subject(registry: RegistryServer, tmp_path: Path, crane: Crane) -> None:
    person = Person(tmp_path / "home", registry, crane)
    subject = push_image(registry.url, _APP, ["1.0"], seed="subject")
    sbom = push_image(registry.url, _APP, subject=subject, artifact_type="application/spdx+json", seed="sbom")
    # As clients write it where the registry has no API for referrers.
    fallback = push_index(registry.url, _APP, [subject.replace(":", "-")], children=[sbom])

    tag = _tags(person.document("--tree", f"{registry.host}/{_APP}"))["1.0"]

    assert tag["referrerCount"] == 1
    (schema,) = tag["referrers"]
    assert schema["digest"] == fallback
    assert [(each["digest"], each["artifactType"]) for each in schema["children"]] == [(sbom, "application/spdx+json")]


@pytest.fixture
def proxy(registry3: RegistryServer) -> Iterator[FaultyRegistry]:
    with faulty_registry(registry3.url) as running:
        yield running


def _host(proxy: FaultyRegistry) -> str:
    return proxy.url.partition("//")[2]


def test_referrers_are_those_that_the_api_tells(
    registry3: RegistryServer, proxy: FaultyRegistry, crane: Crane, tmp_path: Path
) -> None:
    offer_referrers(proxy, registry3.storage, page=1)
    person = Person(tmp_path / "home", registry3, crane)
    subject = push_image(registry3.url, _APP, ["1.0"], seed="subject")
    index = push_index(registry3.url, _APP, ["2.0"], children=[subject])
    push_image(registry3.url, _APP, subject=subject, artifact_type="application/vnd.in-toto+json", seed="provenance")
    sbom = push_image(registry3.url, _APP, subject=subject, artifact_type="application/spdx+json", seed="sbom")
    push_image(registry3.url, _APP, subject=sbom, artifact_type="application/vnd.example.signature", seed="signature")

    def told(digest: str) -> dict[str, Any]:
        """Ask as a plain client does, page by page."""
        found, path = {}, f"/v2/{_APP}/referrers/{digest}"
        while path:
            answer = httpx.get(f"{proxy.url}{path}", trust_env=False).raise_for_status()
            for each in answer.json()["manifests"]:
                found[each["digest"]] = (each["artifactType"], told(each["digest"]))
            path = answer.links["next"]["url"] if "next" in answer.links else ""
        return found

    def listed(node: dict[str, Any]) -> dict[str, Any]:
        return {each["digest"]: (each["artifactType"], listed(each)) for each in node["referrers"]}

    tags = _tags(person.document("--tree", f"{_host(proxy)}/{_APP}"))

    assert listed(tags["1.0"]) == told(subject)
    assert len(told(subject)) == 2
    assert tags["1.0"]["referrerCount"] == 2
    (child,) = tags["2.0"]["children"]
    assert listed(child) == told(subject)
    assert tags["2.0"]["digest"] == index
    assert tags["2.0"]["referrerCount"] == 0


def test_everything_but_tags_is_read_once(
    registry3: RegistryServer, proxy: FaultyRegistry, crane: Crane, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home", registry3, crane)
    children = [push_image(registry3.url, _APP, platform=f"linux/{name}", seed=name) for name in ("amd64", "arm64")]
    push_index(registry3.url, _APP, ["1.0", "1", "latest"], children=children)
    push_image(registry3.url, _APP, ["amd64"], platform="linux/amd64", seed="amd64")
    for repository in ("prod/app", "test/app"):
        push_image(registry3.url, repository, ["amd64"], platform="linux/amd64", seed="amd64")

    person.document(f"{_host(proxy)}/**")

    paths = [request.path for request in proxy.requests if request.method == "GET"]
    blobs = [path.rpartition("/")[2] for path in paths if "/blobs/" in path]
    by_digest = [path for path in paths if "/manifests/sha256:" in path]
    by_tag = [path for path in paths if "/manifests/" in path and path not in by_digest]
    assert len(blobs) == 2, "the config of an image in three repositories is read once"
    assert by_digest == [f"/v2/{_APP}/manifests/{children[1]}"], "the other one has a tag"
    assert len(by_tag) == len(set(by_tag)) == 6


def test_a_tag_that_names_nothing_is_shown_and_is_no_failure(
    registry3: RegistryServer, proxy: FaultyRegistry, crane: Crane, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home", registry3, crane)
    for tag in ("1.0", "lost"):
        push_image(registry3.url, _APP, [tag], seed=tag)
    unknown = '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
    proxy.inject(answers(404, unknown), path=f"/v2/{_APP}/manifests/lost")

    tags = _tags(person.document(f"{_host(proxy)}/{_APP}"))
    assert (tags["lost"]["state"], tags["lost"]["digest"], tags["lost"]["size"]) == ("Dangling", None, None)
    assert tags["1.0"]["state"] == "Read"
    table = person.list(f"{_host(proxy)}/{_APP}").stdout
    assert any(line.split("  ") == ["lost", "(names nothing)"] for line in table.splitlines())


def test_what_nobody_understands_is_listed_without_what_is_not_known(
    registry2: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home", registry2, crane)
    with faulty_registry(registry2.url) as proxy:
        digest = push_image(registry2.url, _APP, ["old"], seed="old")
        schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
        headers = {"Content-Type": schema1, "Docker-Content-Digest": digest}
        proxy.inject(answers(200, "{}", headers), path=f"/v2/{_APP}/manifests/old")
        document = person.document(f"{_host(proxy)}/{_APP}")

    tag = _tags(document)["old"]
    assert (tag["digest"], tag["format"], tag["mediaType"]) == (digest, "Unknown", schema1)
    assert (tag["date"], tag["size"], tag["platforms"]) == (None, None, [])
    assert document["totals"]["unknownSizes"] == 1


def test_an_index_tells_of_platforms_that_the_registry_does_not_hold(
    registry3: RegistryServer, proxy: FaultyRegistry, crane: Crane, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home", registry3, crane)
    children = [push_image(registry3.url, _APP, platform=f"linux/{name}", seed=name) for name in ("amd64", "arm64")]
    push_index(registry3.url, _APP, ["1.0"], children=children)
    proxy.inject(answers(404), path=f"/v2/{_APP}/manifests/{children[1]}")

    tag = _tags(person.document("--tree", f"{_host(proxy)}/{_APP}"))["1.0"]

    assert [child["missing"] for child in tag["children"]] == [False, True]
    assert tag["platforms"] == ["linux/amd64", "linux/arm64"]
    assert tag["size"] == tag["children"][0]["size"]
    assert "(missing)" in person.list("--tree", f"{_host(proxy)}/{_APP}").stdout


def test_an_error_of_one_repository_does_not_end_the_others(person: Person) -> None:
    with faulty_registry(person.registry.url) as proxy:
        proxy.inject(answers(403, '{"errors":[{"code":"DENIED"}]}'), path="/v2/prod/app/.*")
        document = person.document(f"{_host(proxy)}/**", code=6)
        done = person.list(f"{_host(proxy)}/**", code=6)

    assert [each["name"] for each in document["repositories"]] == ["prod/other", _APP]
    assert [(each["repository"], each["reason"]) for each in document["failures"]] == [("prod/app", "Denied")]
    assert "prod/app: Denied: " in done.stderr
    assert "Error: a repository could not be read whole" in done.stderr
    assert "prod/other:x" in done.stdout


def test_a_repository_that_was_emptied_meanwhile_is_no_failure(person: Person) -> None:
    unknown = '{"errors":[{"code":"NAME_UNKNOWN"}]}'
    with faulty_registry(person.registry.url) as proxy:
        proxy.inject(answers(404, unknown), path="/v2/prod/app/tags/list")
        document = person.document(_host(proxy))
    assert {each["name"]: each["tagCount"] for each in document["repositories"]}["prod/app"] == 0


def test_what_was_read_before_the_registry_stopped_answering_is_shown(person: Person) -> None:
    with faulty_registry(person.registry.url) as proxy:
        proxy.inject(drops_the_connection(), path=f"/v2/{_APP}/manifests/build-1")
        document = person.document(f"{_host(proxy)}/{_APP}", code=4)
        done = person.list(f"{_host(proxy)}/{_APP}", code=4)

    tags = _tags(document)
    assert (tags["build-1"]["state"], tags["build-1"]["digest"]) == ("NotRead", None)
    assert tags["build-0"]["digest"] == person.crane.digest(f"{person.host}/{_APP}:build-0")
    assert [each["reason"] for each in document["failures"]] == ["Unreachable"]
    assert any(line.startswith("build-1 ") and "(not read)" in line for line in done.stdout.splitlines())
    assert "Error: Unreachable: " in done.stderr
    assert "shown is what was read before" in done.stderr


def test_a_registry_that_is_gone_is_not_asked_again_and_again(
    registry3: RegistryServer, proxy: FaultyRegistry, crane: Crane, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home", registry3, crane)
    for number in range(12):
        push_image(registry3.url, f"team/{number:02}", ["x"], seed=str(number))
    proxy.inject(drops_the_connection(), path=r"/v2/team/\d+/.*")

    done = person.list(f"{_host(proxy)}/team/*", code=4)

    assert "8 repositories were not read at all" in done.stderr
    asked = {request.path for request in proxy.requests if "/tags/list" in request.path}
    assert len(asked) == 4


def test_a_host_that_does_not_answer_is_told_in_a_line(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port()}"
    done = run(tmp_path / "home", "list", f"{host}/{_APP}")
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: Unreachable: the registry cannot be reached (connection refused)")
    # Both were tried, since it is on this machine.
    assert f"https://{host}" in line
    assert f"nor did http://{host} answer: the registry cannot be reached (connection refused)" in line


def test_what_is_no_registry_is_told(person: Person) -> None:
    with faulty_registry(person.registry.url) as proxy:
        proxy.inject(answers(200, "<html>"), path="/v2/_catalog")
        assert "MalformedAnswer" in person.list(_host(proxy), code=4).stderr
        proxy.heal()
        proxy.inject(answers(404, "nothing here"))
        assert "NotARegistry" in person.list(_host(proxy), code=4).stderr


def test_a_repository_that_is_not_there_is_told_with_what_may_be_below(person: Person) -> None:
    done = person.list(f"{person.host}/team", code=4)
    assert done.stdout == ""
    assert "has no repository 'team'" in done.stderr
    assert f"list '{person.host}/team/**'" in done.stderr


def test_a_registry_that_lists_no_repositories_asks_for_a_name(person: Person) -> None:
    with faulty_registry(person.registry.url) as proxy:
        proxy.inject(answers(403, '{"errors":[{"code":"DENIED"}]}'), path="/v2/_catalog")
        done = person.list(_host(proxy), code=4)
        assert "name a repository" in done.stderr
        assert len(_tags(person.document(f"{_host(proxy)}/{_APP}"))) == len(person.crane.ls(f"{person.host}/{_APP}"))


def test_a_login_is_needed_where_the_registry_wants_one(tmp_path: Path) -> None:
    with distribution("3", tmp_path / "closed", htpasswd={"ann": "secret"}) as closed:
        push_image(closed.url, _APP, ["1.0"], auth=("ann", "secret"))
        home = tmp_path / "home"
        login = ("--username", "ann", "--password-stdin", "--insecure")
        assert run(home, "list", *login, closed.host, stdin="secret\n").stdout.splitlines()[-1] == "1 tag"
        wrong = run(home, "list", *login, closed.host, stdin="wrong\n")
        assert (wrong.returncode, wrong.stdout) == (4, "")
        assert "Error: LoginFailed: " in wrong.stderr
        assert "wrong" not in wrong.stderr.partition("LoginFailed")[0]
        assert run(home, "list", closed.host).returncode == 4


def test_without_host_and_cluster_an_example_is_given(tmp_path: Path) -> None:
    done = run(tmp_path / "home", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.rstrip().endswith("registry-cleanup list registry.example.com")


@pytest.mark.parametrize(
    "options",
    [("--names", "--tree"), ("--names", "--long"), ("--names", "--sort", "size"), ("--repositories", "--tree")],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path / "home", "list", *options, "registry.example.com")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_terminal_of_60_columns_stays_readable(registry3: RegistryServer, crane: Crane, tmp_path: Path) -> None:
    person = Person(tmp_path / "home", registry3, crane)
    tag = "feature-" + "x" * 70
    children = [push_image(registry3.url, _APP, platform=f"linux/{name}", seed=name) for name in ("amd64", "arm64")]
    push_index(registry3.url, _APP, [tag, "latest"], children=children)
    push_image(registry3.url, _APP, ["from-1970"], created="1970-01-01T00:00:00Z", seed="placeholder")

    lines = _on_a_terminal(person, 60, f"{person.host}/{_APP}")

    assert all(len(line) <= 60 for line in lines if not line.startswith("Note: "))
    assert lines[0].split() == ["TAG", "CREATED", "SIZE"]
    assert tag in "".join(line.partition("  ")[0] if not line.startswith("  ") else line.strip() for line in lines)
    assert any("too narrow for DIGEST, AGE, PLATFORMS, REFERRERS" in line for line in lines)


def test_a_wide_terminal_shows_everything(person: Person) -> None:
    lines = _on_a_terminal(person, 200, "--tree", f"{person.host}/{_APP}")
    assert lines[0].split() == ["TAG", "DIGEST", "CREATED", "AGE", "PLATFORMS", "SIZE", "REFERRERS"]
    assert any(line.startswith("└─ signature sha256-") and "….sig" in line for line in lines)


def _on_a_terminal(person: Person, columns: int, *arguments: str) -> list[str]:
    """Return what a terminal of this width shows of a listing, its progress aside."""
    ours, theirs = pty.openpty()
    variables = environment(person.home, COLUMNS=str(columns), PYTHONIOENCODING="utf-8", TERM="dumb")
    shown = b""
    with subprocess.Popen(
        [*COMMAND, "list", *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=variables
    ) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so where the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(ours)
        assert process.stderr is not None
        noted = process.stderr.read()
    assert process.returncode == 0, noted
    return (shown + noted).decode().replace("\r\n", "\n").splitlines()
