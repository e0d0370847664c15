"""`list` on OpenShift: image streams with the times of their pushes, compared with kubectl, and what is not known."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import jsonschema
import pytest

from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.openshift_cluster import OpenShiftCluster, openshift_cluster
from tests.support.openshift_rights import LIST_EVERYWHERE, PULL, Level, grant
from tests.support.operator import REPOSITORY_ROOT, install
from tests.support.policies import days_ago

_SCHEMA = json.loads((REPOSITORY_ROOT / "docs/schemas/list.schema.json").read_text())
_READ = Level("read-images", {"imagestreams": ["get", "list"], "imagestreamimages": ["get"]})
_LIST = Level("list-streams", {"imagestreams": ["get", "list"]})
_HOME = "list-people"
_numbers = count(1)


def test_a_cluster_that_is_no_openshift_asks_for_a_host(plane: ControlPlane, tmp_path: Path) -> None:
    # First in the file: there are no image streams yet.
    done = run(tmp_path / "home", "list", "--kubeconfig", plane.admin_kubeconfig)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no OpenShift" in done.stderr
    assert done.stderr.rstrip().endswith("registry-cleanup list registry.example.com")


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    install(plane)
    with openshift_cluster(plane, tmp_path_factory.mktemp("openshift")) as running:
        plane.kubectl("create", "namespace", _HOME)
        yield running


@pytest.fixture
def project(cluster: OpenShiftCluster) -> Iterator[str]:
    """Make a project with a stream of builds, of which two have one image, and an index."""
    name = f"list-{next(_numbers)}"
    cluster.plane.kubectl("create", "namespace", name)
    images = cluster.images
    for build in (1, 2):
        images.push(name, "app", f"build-{build}", created=days_ago(10 - build), layers=(100, 2000 * build))
    images.push_again(name, "app", "latest", images.tags(name, "app")["build-2"], created=days_ago(3))
    children = [images.push(name, "app", None, platform=f"linux/{arch}", seed=arch) for arch in ("amd64", "arm64")]
    images.push(name, "app", "multi", children=children, created=days_ago(2))
    images.push(name, "web", "x", created=days_ago(1))
    yield name
    images.calm()


def _person(cluster: OpenShiftCluster, name: str, *levels: Level, namespaces: tuple[str, ...] = ()) -> Path:
    """Return the kubeconfig of somebody with these rights."""
    account = (_HOME, f"{name}-{next(_numbers)}")
    grant(cluster.plane, Level("none", {}), account, _HOME)
    for level in levels:
        grant(cluster.plane, level, account, *namespaces)
    return cluster.plane.kubeconfig_for_service_account(*account)


def _list(tmp_path: Path, kubeconfig: Path, *arguments: str, code: int = 0) -> CompletedProcess[str]:
    done = run(tmp_path / "home", "list", "--kubeconfig", kubeconfig, *arguments)
    assert done.returncode == code, done.stderr
    return done


def _document(tmp_path: Path, kubeconfig: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_list(tmp_path, kubeconfig, *arguments, "-o", "json", code=code).stdout)
    jsonschema.validate(found, _SCHEMA)
    return found


def _streams(cluster: OpenShiftCluster, project: str) -> dict[str, dict[str, Any]]:
    """Return the current item of each tag of each stream, as kubectl shows them."""
    items = json.loads(cluster.plane.kubectl("get", "imagestreams", "-n", project, "-o", "json"))["items"]
    return {
        f"{project}/{stream['metadata']['name']}": {tag["tag"]: tag["items"][0] for tag in stream["status"]["tags"]}
        for stream in items
    }


def _image(cluster: OpenShiftCluster, project: str, stream: str, digest: str) -> dict[str, Any]:
    path = f"/apis/image.openshift.io/v1/namespaces/{project}/imagestreamimages/{stream}@{digest}"
    image: dict[str, Any] = json.loads(cluster.plane.kubectl("get", "--raw", path))["image"]
    return image


def test_streams_are_listed_with_the_times_of_their_pushes(
    cluster: OpenShiftCluster, project: str, tmp_path: Path
) -> None:
    person = _person(cluster, "reader", _READ, namespaces=(project,))
    there = _streams(cluster, project)

    document = _document(tmp_path, person, "--namespace", project)

    assert document["registry"] == cluster.registry.host
    found = {each["name"]: {tag["name"]: tag for tag in each["tags"]} for each in document["repositories"]}
    told = [(name, tag, each["digest"], each["date"]) for name, tags in found.items() for tag, each in tags.items()]
    assert sorted(told) == [
        (name, tag, item["image"], item["created"])
        for name, tags in there.items()
        for tag, item in sorted(tags.items())
    ]
    assert {each["dateSource"] for tags in found.values() for each in tags.values()} == {"Pushed"}
    app = found[f"{project}/app"]
    for tag in ("build-1", "build-2"):
        image = _image(cluster, project, "app", app[tag]["digest"])
        assert app[tag]["size"] == image["dockerImageMetadata"]["Size"]
        assert app[tag]["platforms"] == [image["dockerImageMetadata"]["Architecture"]], "of no system is said"
    assert app["latest"]["digest"] == app["build-2"]["digest"]
    listed = _image(cluster, project, "app", app["multi"]["digest"])["dockerImageManifests"]
    assert app["multi"]["platforms"] == [f"{each['os']}/{each['architecture']}" for each in listed]
    sizes = [_image(cluster, project, "app", each["digest"])["dockerImageMetadata"]["Size"] for each in listed]
    assert app["multi"]["size"] == sum(sizes)
    assert document["totals"]["namedBytes"] - document["totals"]["distinctBytes"] == app["latest"]["size"]


def test_a_table_says_that_its_dates_are_those_of_pushes(
    cluster: OpenShiftCluster, project: str, tmp_path: Path
) -> None:
    person = _person(cluster, "reader", _READ, namespaces=(project,))
    lines = _list(tmp_path, person, "--tree", "-n", project).stdout.splitlines()
    assert lines[0].split()[:3] == ["REFERENCE", "DIGEST", "PUSHED"]
    assert lines[1].startswith(f"{project}/app:multi ")
    assert lines[2].startswith("├─ linux/amd64 ")


def test_whoever_may_list_all_streams_needs_to_name_nothing(
    cluster: OpenShiftCluster, project: str, tmp_path: Path
) -> None:
    person = _person(cluster, "all", LIST_EVERYWHERE)
    document = _document(tmp_path, person)
    found = {each["name"]: each["tagCount"] for each in document["repositories"]}
    assert {name: len(tags) for name, tags in _streams(cluster, project).items()}.items() <= found.items()


def test_whoever_may_not_is_told_to_name_a_namespace(cluster: OpenShiftCluster, project: str, tmp_path: Path) -> None:
    person = _person(cluster, "reader", _READ, namespaces=(project,))
    done = _list(tmp_path, person, code=5)
    assert done.stdout == ""
    assert "Error: MissingRight: you may not list the image streams of all namespaces: name one" in done.stderr
    # Cluster-wide rights are missing, so the cluster told no host: it cannot be named as one.
    example = done.stderr.rstrip().rpartition("as in ")[2].split()
    assert example[:2] == ["registry-cleanup", "list"]
    words = [word.strip("'").replace("my-project", project) for word in example[2:]]
    assert "image.openshift.io/" not in done.stderr
    login = ("--certificate-authority", str(cluster.authority.ca_file))
    assert f"{project}/app" in _list(tmp_path, person, *login, *words, "--names").stdout
    other = _list(tmp_path, person, "-n", _HOME, code=5)
    assert f"you may not list image streams in namespace {_HOME}" in other.stderr


def test_what_may_not_be_read_of_images_is_not_known_and_said(
    cluster: OpenShiftCluster, project: str, tmp_path: Path
) -> None:
    person = _person(cluster, "lister", _LIST, namespaces=(project,))
    document = _document(tmp_path, person, "-n", project)
    tags = {tag["name"]: tag for tag in document["repositories"][0]["tags"]}
    assert tags["build-1"]["digest"] == cluster.images.tags(project, "app")["build-1"]
    assert tags["build-1"]["dateSource"] == "Pushed"
    assert (tags["build-1"]["size"], tags["build-1"]["platforms"]) == (None, [])
    done = _list(tmp_path, person, "-n", project)
    assert f"Note: platforms and sizes of {project} are not known" in done.stderr
    assert " unknown" in done.stdout


def test_an_image_that_the_cluster_has_lost_is_missing(cluster: OpenShiftCluster, project: str, tmp_path: Path) -> None:
    person = _person(cluster, "reader", _READ, namespaces=(project,))
    lost = cluster.images.tags(project, "app")["build-1"]
    cluster.plane.kubectl("delete", "--raw", f"/apis/image.openshift.io/v1/images/{lost}")
    tags = {tag["name"]: tag for tag in _document(tmp_path, person, "-n", project)["repositories"][0]["tags"]}
    assert (tags["build-1"]["digest"], tags["build-1"]["size"]) == (lost, None)
    assert tags["build-2"]["size"] is not None


def test_a_host_that_the_cluster_names_as_its_own_is_listed_by_its_streams(
    cluster: OpenShiftCluster, project: str, tmp_path: Path
) -> None:
    person = _person(cluster, "pusher", _READ, PULL, namespaces=(project,))
    token = json.loads(person.read_text())["users"][0]["user"]["token"]
    login = ("--username", "any", "--password-stdin", "--certificate-authority", str(cluster.authority.ca_file))
    where = f"{cluster.registry.host}/{project}/app"
    home = tmp_path / "home"
    arguments = ["list", *login, where, "-o", "json"]

    with_cluster = json.loads(run(home, *arguments, "--kubeconfig", person, stdin=token).stdout)
    without = json.loads(run(home, *arguments, stdin=token).stdout)

    assert {tag["dateSource"] for tag in with_cluster["repositories"][0]["tags"]} == {"Pushed"}
    assert {tag["dateSource"] for tag in without["repositories"][0]["tags"]} == {"Created"}, "by the registry alone"
    digests = [
        {tag["name"]: tag["digest"] for tag in each["repositories"][0]["tags"]} for each in (with_cluster, without)
    ]
    assert digests[0] == digests[1] == cluster.images.tags(project, "app")


def test_a_namespace_without_streams_is_told(cluster: OpenShiftCluster, project: str, tmp_path: Path) -> None:
    person = _person(cluster, "reader", _READ, namespaces=(project,))
    cluster.plane.kubectl("delete", "imagestreams", "app", "web", "-n", project)
    done = _list(tmp_path, person, "-n", project, code=4)
    assert f"no repository of image.openshift.io matches '{project}/**'" in done.stderr


def test_a_token_that_is_no_longer_good_is_called_the_kubeconfigs(cluster: OpenShiftCluster, tmp_path: Path) -> None:
    person = json.loads(_person(cluster, "late").read_text())
    person["users"][0]["user"] = {"token": "expired"}
    kubeconfig = tmp_path / "late"
    kubeconfig.write_text(json.dumps(person))
    done = _list(tmp_path, kubeconfig, code=5)
    assert "does not accept the kubeconfig's credential" in done.stderr
    assert person["clusters"][0]["cluster"]["server"] in done.stderr
    assert "ServiceAccount" not in done.stderr


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    server = {"clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}]}
    context = {"contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}], "current-context": "x"}
    kubeconfig.write_text(json.dumps({**server, **context, "users": [{"name": "x", "user": {}}]}))
    done = _list(tmp_path, kubeconfig, code=5)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
