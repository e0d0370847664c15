"""What we rely on in the real parts, asserted on them: a new version that differs shows here."""

import json
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane, KubectlError, control_plane
from tests.support.crane import Crane
from tests.support.images import DOCKER_LIST, MANIFEST_TYPES, OCI_INDEX, push_image, push_index
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, Version, distribution

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}


def _call(server: RegistryServer, method: str, path: str) -> httpx.Response:
    return httpx.request(method, f"{server.url}/v2/{path}", headers=_ACCEPT, trust_env=False)


def _error_code(answer: httpx.Response) -> str:
    code: str = answer.json()["errors"][0]["code"]
    return code


def test_2_8_refuses_to_delete_by_tag(registry2: RegistryServer, crane: Crane) -> None:
    push_image(registry2.url, "team/app", ["v1"])

    answer = _call(registry2, "DELETE", "team/app/manifests/v1")

    assert (answer.status_code, _error_code(answer)) == (400, "DIGEST_INVALID")
    assert crane.ls(f"{registry2.host}/team/app") == ["v1"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_without_storage_delete_every_delete_is_refused(version: Version, tmp_path: Path) -> None:
    with distribution(version, tmp_path, delete=False) as server:
        digest = push_image(server.url, "team/app", ["v1"])

        for reference in ("v1", digest):
            answer = _call(server, "DELETE", f"team/app/manifests/{reference}")
            assert (answer.status_code, _error_code(answer)) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_read_only_registry_refuses_in_plain_text(version: Version, tmp_path: Path) -> None:
    with distribution(version, tmp_path) as server:
        digest = push_image(server.url, "team/app", ["v1"])
    with distribution(version, tmp_path, readonly=True) as server:
        answer = _call(server, "DELETE", f"team/app/manifests/{digest}")

        assert answer.status_code == 405
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert Crane(tmp_path / "crane").digest(f"{server.host}/team/app:v1") == digest


def test_3_1_deletes_by_tag_the_tag_alone(registry3: RegistryServer, crane: Crane) -> None:
    digest = push_image(registry3.url, "team/app", ["v1", "v2"])

    assert _call(registry3, "DELETE", "team/app/manifests/v1").status_code == 202

    assert crane.ls(f"{registry3.host}/team/app") == ["v2"]
    assert crane.exists(f"{registry3.host}/team/app@{digest}")


def test_3_1_does_not_find_a_missing_tag_to_delete(registry3: RegistryServer) -> None:
    push_image(registry3.url, "team/app", ["v1"])

    answer = _call(registry3, "DELETE", "team/app/manifests/v2")

    assert (answer.status_code, _error_code(answer)) == (404, "MANIFEST_UNKNOWN")


def test_deleting_a_digest_takes_every_tag_on_it(registry: RegistryServer, crane: Crane) -> None:
    digest = push_image(registry.url, "team/app", ["v1", "v2"])
    push_image(registry.url, "team/app", ["other"], seed="other")

    assert _call(registry, "DELETE", f"team/app/manifests/{digest}").status_code == 202

    assert crane.ls(f"{registry.host}/team/app") == ["other"]
    again = _call(registry, "DELETE", f"team/app/manifests/{digest}")
    assert (again.status_code, _error_code(again)) == (404, "MANIFEST_UNKNOWN")


def test_a_child_of_a_tagged_index_can_be_deleted(registry: RegistryServer, crane: Crane) -> None:
    child = push_image(registry.url, "team/app")
    index = push_index(registry.url, "team/app", ["v1"], children=[child])

    assert _call(registry, "DELETE", f"team/app/manifests/{child}").status_code == 202

    assert crane.digest(f"{registry.host}/team/app:v1") == index
    assert not crane.exists(f"{registry.host}/team/app@{child}")


def test_2_8_ignores_the_page_size_of_a_tag_list(registry2: RegistryServer) -> None:
    push_image(registry2.url, "team/app", ["v1", "v2", "v3"])

    answer = _call(registry2, "GET", "team/app/tags/list?n=1")

    assert sorted(answer.json()["tags"]) == ["v1", "v2", "v3"]
    assert "Link" not in answer.headers


def test_3_1_honours_the_page_size_of_a_tag_list(registry3: RegistryServer) -> None:
    push_image(registry3.url, "team/app", ["v1", "v2", "v3"])

    answer = _call(registry3, "GET", "team/app/tags/list?n=1")

    assert answer.json()["tags"] == ["v1"]
    assert answer.headers["Link"].endswith('rel="next"')


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_a_head_that_accepts_four_types_tells_the_pushed_digest(
    registry: RegistryServer, crane: Crane, docker: bool
) -> None:
    children = [
        push_image(registry.url, "team/app", ["image"], platform=platform, docker=docker)
        for platform in ("linux/arm64", "linux/amd64")
    ]
    index = push_index(registry.url, "team/app", ["index"], children=children, docker=docker)

    for tag, digest in (("image", children[1]), ("index", index)):
        head = _call(registry, "HEAD", f"team/app/manifests/{tag}")
        assert head.headers["Docker-Content-Digest"] == digest
        assert crane.digest(f"{registry.host}/team/app:{tag}") == digest
    listed = crane.manifest(f"{registry.host}/team/app:index")
    assert listed["mediaType"] == (DOCKER_LIST if docker else OCI_INDEX)
    assert [child["platform"]["architecture"] for child in listed["manifests"]] == ["arm64", "amd64"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_registry_with_a_certificate_and_passwords_answers_those_who_have_both(
    version: Version, tmp_path: Path
) -> None:
    authority = certificate_authority(tmp_path / "certificates")
    certificate = authority.issue("127.0.0.1", "localhost")
    user = ("user", "password")
    with distribution(version, tmp_path, tls=certificate, htpasswd=dict([user])) as server:
        trust = authority.client_context()
        assert httpx.get(f"{server.url}/v2/", verify=trust, trust_env=False).status_code == 401
        digest = push_image(server.url, "team/app", ["v1"], auth=user, verify=trust)

        crane = Crane(tmp_path / "crane", authority.ca_file, {server.host: user})
        assert crane.digest(f"{server.host}/team/app:v1") == digest
        assert crane.catalog(server.host) == ["team/app"]


def test_the_api_server_tells_its_version(plane: ControlPlane) -> None:
    version = json.loads(plane.kubectl("version", "-o", "json"))["serverVersion"]

    assert version["gitVersion"].startswith("v1.")


def test_a_requested_token_authenticates_its_service_account(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "real-parts-token")
    plane.kubectl("create", "serviceaccount", "reader", "--namespace=real-parts-token")
    kubeconfig = plane.kubeconfig_for_service_account("real-parts-token", "reader")

    review = json.loads(plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig))

    assert review["kind"] == "SelfSubjectReview"
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:real-parts-token:reader"


def test_a_service_account_is_forbidden_what_no_role_grants(plane: ControlPlane) -> None:
    space = "--namespace=real-parts-rbac"
    plane.kubectl("create", "namespace", "real-parts-rbac")
    plane.kubectl("create", "serviceaccount", "reader", space)
    kubeconfig = plane.kubeconfig_for_service_account("real-parts-rbac", "reader")
    with pytest.raises(KubectlError, match="Forbidden"):
        plane.kubectl("get", "pods", space, kubeconfig=kubeconfig)

    # A role of our own: `view` and `edit` are empty until kube-controller-manager aggregates them.
    plane.kubectl("create", "role", "reader", "--verb=list", "--resource=pods", space)
    bound = ("--role=reader", "--serviceaccount=real-parts-rbac:reader")
    plane.kubectl("create", "rolebinding", "reader", *bound, space)

    def may_list_pods() -> bool:
        return "Forbidden" not in plane.kubectl("get", "pods", space, kubeconfig=kubeconfig, check=False)

    wait_until(may_list_pods, 10, "the role binding to take effect")


def test_what_was_written_outlives_the_api_server(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "real-parts-restart")

    with plane.api_server_down(), pytest.raises(KubectlError, match="refused"):
        plane.kubectl("get", "namespaces")

    assert "real-parts-restart" in plane.kubectl("get", "namespaces")


@pytest.mark.thorough
def test_with_a_controller_manager_deployments_make_pods_and_namespaces_end(tmp_path: Path) -> None:
    with control_plane(tmp_path, controller_manager=True) as plane:
        space = "--namespace=real-parts"
        plane.kubectl("create", "namespace", "real-parts")
        plane.kubectl("create", "deployment", "app", "--image=registry.test/app:v1", space)
        names = ("get", "pods", "-o", "name", space)
        wait_until(lambda: plane.kubectl(*names).startswith("pod/app-"), 30, "the deployment's pod")

        # No kubelet confirms the end of the pod.
        plane.kubectl("delete", "deployment", "app", "--cascade=orphan", space)
        plane.kubectl("delete", "replicasets,pods", "--all", "--force", "--grace-period=0", space)
        plane.kubectl("delete", "namespace", "real-parts", "--timeout=60s")
