"""The stand-in for OpenShift's registry before image streams, held to `facts/openshift.md` sections 3, 4 and 10.

What does not depend on where the images are, `test_openshift_standin.py` holds to its facts.
"""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.image_api import ImageApi, image_api
from tests.support.image_api.registration import admin_client
from tests.support.images import DOCKER_MANIFEST, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST
from tests.support.openshift import OpenShiftRegistry, openshift_registry
from tests.support.openshift_rights import DELETE_IMAGES, LIST_EVERYWHERE, PULL, grant

HOME = "streams-accounts"
_numbers = count()


def test_the_api_comes_and_goes_with_its_stand_in(plane: ControlPlane, tmp_path: Path) -> None:
    # First in the file: there is only one at a time.
    streams = "/apis/image.openshift.io/v1/imagestreams"
    with admin_client(plane) as client:
        for _ in range(2):
            with image_api(plane, tmp_path / "image-api"):
                assert client.get(streams).json()["items"] == []
            assert client.get(streams).status_code == 404
            assert "image.openshift.io" not in [group["name"] for group in client.get("/apis").json()["groups"]]


@dataclass(frozen=True)
class Place:
    """A namespace of a test's own, in the API and in the registry.

    Attributes:
        account: May pull here, list all streams and delete all images.
    """

    api: ImageApi
    standin: OpenShiftRegistry
    trust: ssl.SSLContext
    token: str
    namespace: str = field(default_factory=lambda: f"streams-{next(_numbers)}")

    @property
    def name(self) -> str:
        return f"{self.namespace}/app"

    def send(self, method: str, rest: str, accept: str = ", ".join(MANIFEST_TYPES)) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept}
        with httpx.Client(verify=self.trust, trust_env=False, timeout=20) as client:
            return client.request(method, f"{self.standin.url}/v2/{rest}", headers=headers)

    def read(self, reference: str, method: str = "GET") -> httpx.Response:
        return self.send(method, f"{self.name}/manifests/{reference}")

    def delete(self, reference: str) -> httpx.Response:
        return self.send("DELETE", f"{self.name}/manifests/{reference}")

    def push(self, tag: str | None, *, seed: str | None = None, children: tuple[str, ...] = ()) -> str:
        return self.api.push(self.namespace, "app", tag, seed=seed, children=children)

    @property
    def tags(self) -> list[str]:
        tags: list[str] = self.send("GET", f"{self.name}/tags/list").raise_for_status().json()["tags"]
        return tags


@pytest.fixture(scope="module")
def place_of_all(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("streams")
    plane.kubectl("create", "namespace", HOME)
    account = (HOME, "all")
    for level in (LIST_EVERYWHERE, DELETE_IMAGES):
        grant(plane, level, account)
    # A cluster's administrator may let one pull everywhere.
    everywhere = type(PULL)("pull-everywhere", PULL.rules, cluster=True)
    grant(plane, everywhere, account)
    authority = certificate_authority(folder / "ca")
    with (
        image_api(plane, folder / "image-api") as api,
        openshift_registry(api, plane, authority.issue("127.0.0.1", "localhost")) as standin,
    ):
        yield Place(api, standin, authority.client_context(), plane.token_for_service_account(*account))


@pytest.fixture
def place(place_of_all: Place) -> Place:
    return Place(place_of_all.api, place_of_all.standin, place_of_all.trust, place_of_all.token)


def codes(answer: httpx.Response) -> list[str]:
    return [error["code"] for error in answer.json()["errors"]]


class TestSection3:
    """Reads."""

    def test_streams_name_this_registry_as_theirs(self, place: Place) -> None:
        digest = place.push("v1")
        status = place.api.stream(place.namespace, "app")["status"]
        assert status["dockerImageRepository"] == f"{place.standin.host}/{place.name}"
        reference = status["tags"][0]["items"][0]["dockerImageReference"]
        assert reference == f"{place.standin.host}/{place.name}@{digest}"

    def test_tags_come_in_another_order_every_time(self, place: Place) -> None:
        tags = place.api.fill(place.namespace, "app", 20)
        orders = {tuple(place.tags) for _ in range(12)}
        assert len(orders) == 12
        assert {tuple(sorted(order)) for order in orders} == {tuple(tags)}

    def test_a_failed_import_is_no_tag_and_one_without_image_object_is(self, place: Place) -> None:
        place.api.fail_import(place.namespace, "app", "bad")
        place.api.remove_image_object(place.push("gone"))
        assert place.tags == ["gone"]
        assert codes(place.read("bad")) == ["MANIFEST_UNKNOWN"]
        assert (place.read("gone").status_code, codes(place.read("gone"))) == (404, ["MANIFEST_UNKNOWN"])

    def test_a_stream_without_tags_has_an_empty_list(self, place: Place) -> None:
        place.api.create_stream(place.namespace, "app")
        assert place.tags == []

    def test_a_missing_stream(self, place: Place) -> None:
        listed = place.send("GET", f"{place.name}/tags/list")
        assert (listed.status_code, codes(listed)) == (404, ["NAME_UNKNOWN"])
        by_tag, by_digest = place.read("v1"), place.read(f"sha256:{'0' * 64}")
        assert (by_tag.status_code, codes(by_tag)) == (404, ["NAME_UNKNOWN"])
        assert (by_digest.status_code, codes(by_digest)) == (500, ["UNKNOWN"])

    def test_the_catalog_has_streams_without_tags_too(self, place: Place) -> None:
        place.api.create_stream(place.namespace, "app")
        names = place.send("GET", "_catalog?n=1000").json()["repositories"]
        assert place.name in names
        assert names == sorted(names)

    def test_every_digest_of_a_history_is_served_and_none_beside(self, place: Place) -> None:
        first, second = place.push("v1", seed="one"), place.push("v1", seed="two")
        untagged = place.push(None, seed="untagged")
        for digest in (first, second):
            for method in ("GET", "HEAD"):
                answer = place.read(digest, method)
                assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (200, digest)
        answer = place.read(untagged)
        assert (answer.status_code, codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
        assert answer.json()["errors"][0]["detail"] == {"Name": place.name, "Revision": untagged}

    def test_a_tag_serves_its_newest_image_whose_config_is_a_blob(self, place: Place) -> None:
        place.push("v1", seed="one")
        digest = place.push("v1", seed="two")
        answer = place.read("v1")
        assert (answer.headers["Docker-Content-Digest"], answer.headers["Content-Type"]) == (digest, OCI_MANIFEST)
        config = place.send("GET", f"{place.name}/blobs/{answer.json()['config']['digest']}")
        assert config.json()["created"] == "2026-01-01T00:00:00Z"
        missing = place.send("GET", f"{place.name}/blobs/sha256:{'0' * 64}")
        assert (missing.status_code, codes(missing)) == (404, ["BLOB_UNKNOWN"])

    def test_a_digest_is_gone_with_the_last_tag_that_names_it(self, place: Place) -> None:
        digest = place.push("a", seed="same")
        place.api.push_again(place.namespace, "app", "b", digest)
        statuses = [place.read(digest).status_code]
        for tag in ("a", "b"):
            place.api.delete_tag(place.namespace, "app", tag)
            statuses.append(place.read(digest).status_code)
        assert statuses == [200, 200, 404]

    def test_a_digest_is_gone_with_its_image_object(self, place: Place) -> None:
        digest = place.push("v1")
        place.api.remove_image_object(digest)
        assert place.read(digest).status_code == 404

    def test_children_are_served_as_long_as_their_index_is_tagged(self, place: Place) -> None:
        child = place.push(None, seed="child")
        index = place.push("v1", children=(child,))
        served = [place.read(one).status_code for one in (child, index)]
        place.api.delete_tag(place.namespace, "app", "v1")
        assert served == [200, 200]
        assert [place.read(one).status_code for one in (child, index)] == [404, 404]

    @pytest.mark.parametrize(("kind", "media_type"), [("manifest", OCI_MANIFEST), ("index", OCI_INDEX)])
    def test_oci_manifests_need_their_type_in_accept(self, place: Place, kind: str, media_type: str) -> None:
        child = place.push("manifest")
        place.push("index", children=(child,))
        for accept in ("*/*", DOCKER_MANIFEST):
            answer = place.send("GET", f"{place.name}/manifests/{kind}", accept)
            assert (answer.status_code, codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
            assert f"OCI {kind} found" in answer.json()["errors"][0]["message"]
        assert place.send("GET", f"{place.name}/manifests/{kind}", media_type).status_code == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_reading_an_imported_tag_pulls_it_through(self, place: Place, method: str) -> None:
        digest = place.api.import_tag(place.namespace, "app", "imported", source=f"registry.test/{place.name}:1")
        place.push("pushed")
        place.read("pushed", method)
        assert (place.name, digest) not in place.api.store.pulled_through
        assert place.read("imported", method).status_code == 200
        assert (place.name, digest) in place.api.store.pulled_through
        assert (place.name, digest) in place.api.store.links


class TestSection4:
    """Deletions."""

    @pytest.mark.parametrize("reference", ["v1", "missing", "sha256:zz"])
    def test_a_deletion_by_tag_is_accepted_and_does_nothing(self, place: Place, reference: str) -> None:
        place.push("v1")
        before = place.api.stream(place.namespace, "app")
        assert (place.delete(reference).status_code, place.delete(reference).content) == (202, b"")
        assert place.api.stream(place.namespace, "app") == before

    def test_what_a_history_or_an_index_in_one_names_cannot_be_deleted(self, place: Place) -> None:
        old, new = place.push("v1", seed="old"), place.push("v1", seed="new")
        child = place.push(None, seed="child")
        index = place.push("index", children=(child,))
        for digest in (old, new, child, index):
            answer = place.delete(digest)
            assert answer.status_code == 405
            assert answer.json() == {"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}

    def test_without_its_image_object_a_tagged_digest_loses_its_guard(self, place: Place) -> None:
        digest = place.push("v1")
        place.api.remove_image_object(digest)
        assert place.delete(digest).status_code == 202
        assert place.api.tags(place.namespace, "app") == {"v1": digest}
        assert (place.name, digest) not in place.api.store.links

    def test_what_nothing_references_is_deleted_once(self, place: Place) -> None:
        child = place.push(None, seed="child")
        index = place.push("v1", children=(child,))
        place.api.delete_tag(place.namespace, "app", "v1")
        for digest in (index, child):
            assert place.delete(digest).status_code == 202
            again = place.delete(digest)
            assert again.status_code == 404
            assert again.json() == {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            assert place.api.image(digest) is not None

    def test_section_10_once_the_clusters_pruner_took_the_manifest_the_link_stays(self, place: Place) -> None:
        digest = place.push("v1")
        place.api.delete_tag(place.namespace, "app", "v1")
        place.api.remove_image_object(digest, with_content=True)
        assert place.delete(digest).status_code == 404
        assert (place.name, digest) in place.api.store.links

    def test_in_a_deleted_stream_a_deletion_is_an_error_and_the_link_stays(self, place: Place) -> None:
        digest = place.push("v1")
        place.api.delete_stream(place.namespace, "app")
        answer = place.delete(digest)
        assert (answer.status_code, codes(answer)) == (500, ["UNKNOWN"])
        assert (place.name, digest) in place.api.store.links

    def test_an_alias_outlives_the_link_of_its_source(self, place: Place) -> None:
        digest = place.push("v1")
        place.api.alias(place.namespace, "other", "copy", "v1", source_stream="app")
        place.api.delete_tag(place.namespace, "app", "v1")
        assert place.delete(digest).status_code == 202
        assert place.send("GET", f"{place.namespace}/other/manifests/copy").status_code == 200


def test_crane_reads_what_was_never_pushed_over_http(place: Place, tmp_path: Path) -> None:
    digest = place.push("v1")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(ssl.DER_cert_to_PEM_cert(place.trust.get_ca_certs(binary_form=True)[0]))
    crane = Crane(tmp_path, ca_file=ca_file, credentials={place.standin.host: ("any", place.token)})
    reference = f"{place.standin.host}/{place.name}"
    assert crane.ls(reference) == ["v1"]
    assert crane.digest(f"{reference}:v1") == digest
    assert json.loads(crane.run("config", f"{reference}:v1"))["architecture"] == "amd64"
