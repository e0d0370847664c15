"""The stand-in for OpenShift's registry, held to the sections of `facts/openshift.md` that it copies."""

import base64
import json
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.certificates import certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST, push_image, push_index
from tests.support.openshift import OpenShiftRegistry, openshift_registry
from tests.support.openshift_config import set_image_config
from tests.support.registries import RegistryServer, distribution

NAMESPACE = "standin"
APP = f"/v2/{NAMESPACE}/app"
TAGS = [f"v1.{number}" for number in range(20)]
ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
DENIED = 'Basic realm=openshift,error="access denied"'
UNVALIDATED = {"details": "unable to validate token"}

# ServiceAccount: rights in the namespace, rights in the cluster; section 8
RIGHTS: Mapping[str, tuple[tuple[str, str] | None, tuple[str, str] | None]] = {
    "nobody": (None, None),
    "puller": (("get", "imagestreams/layers"), None),
    "reader": (("get", "imagestreams"), None),
    "namespaced-lister": (("list", "imagestreams"), None),
    "lister": (None, ("list", "imagestreams")),
    "namespaced-pruner": (("delete", "images"), None),
    "pruner": (None, ("delete", "images")),
}


@dataclass(frozen=True)
class Setting:
    """A stand-in, the registry behind it, and ServiceAccounts with one right each.

    Attributes:
        standin: What is tested.
        behind: Where its images are.
        trust: Of the stand-in's certificate.
        digests: Of the tagged images in `standin/app`, and of its index and the index's child.
    """

    standin: OpenShiftRegistry
    behind: RegistryServer
    trust: ssl.SSLContext
    plane: ControlPlane
    digests: Mapping[str, str]
    _tokens: dict[str, str] = field(default_factory=dict)

    def token(self, account: str) -> str:
        if account not in self._tokens:
            self._tokens[account] = self.plane.token_for_service_account(NAMESPACE, account)
        return self._tokens[account]

    def send(
        self,
        method: str,
        path: str,
        account: str | None = None,
        authorization: str | None = None,
        headers: Mapping[str, str] = ACCEPT,
    ) -> httpx.Response:
        sent = dict(headers)
        if account is not None:
            sent["Authorization"] = f"Bearer {self.token(account)}"
        if authorization is not None:
            sent["Authorization"] = authorization
        with httpx.Client(verify=self.trust, trust_env=False, timeout=20) as client:
            # What httpx adds by itself would change the answers.
            client.headers.pop("Accept")
            return client.request(method, f"{self.standin.url}{path}", headers=sent)

    def get(self, path: str, account: str | None = None, authorization: str | None = None) -> httpx.Response:
        return self.send("GET", path, account, authorization)


@pytest.fixture(scope="module")
def setting(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    _create_accounts(plane)
    folder = tmp_path_factory.mktemp("openshift")
    authority = certificate_authority(folder / "ca")
    with (
        distribution("3", folder / "registry") as behind,
        openshift_registry(behind.url, plane, authority.issue("127.0.0.1", "localhost")) as standin,
    ):
        digests = {tag: push_image(behind.url, f"{NAMESPACE}/app", [tag], seed=tag) for tag in TAGS}
        digests["child"] = push_image(behind.url, f"{NAMESPACE}/app", seed="child")
        digests["index"] = push_index(behind.url, f"{NAMESPACE}/app", ["index"], children=[digests["child"]])
        push_image(behind.url, "toplevel", ["v1"])
        push_image(behind.url, "three/parts/deep", ["v1"])
        yield Setting(standin, behind, authority.client_context(), plane, digests)


def _create_accounts(plane: ControlPlane) -> None:
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for account, (here, everywhere) in RIGHTS.items():
        metadata = {"name": account, "namespace": NAMESPACE}
        objects.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        objects += _grant("", metadata, here) + _grant("Cluster", {"name": f"standin-{account}"}, everywhere, account)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _grant(
    prefix: str, metadata: Mapping[str, str], right: tuple[str, str] | None, account: str | None = None
) -> list[dict[str, Any]]:
    if right is None:
        return []
    verb, resource = right
    api, kind = "rbac.authorization.k8s.io", f"{prefix}Role"
    rule = {"apiGroups": ["image.openshift.io"], "resources": [resource], "verbs": [verb]}
    subject = {"kind": "ServiceAccount", "name": account or metadata["name"], "namespace": NAMESPACE}
    role = {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": [rule]}
    reference = {"apiGroup": api, "kind": kind, "name": metadata["name"]}
    binding = {**role, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]}
    del binding["rules"]
    return [role, binding]


def _basic(password: str, user: str = "any") -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _codes(answer: httpx.Response) -> list[str]:
    return [error["code"] for error in answer.json()["errors"]]


class TestSection1:
    """The token endpoint."""

    def test_without_credentials_the_token_is_anonymous(self, setting: Setting) -> None:
        answer = setting.get("/openshift/token")
        assert (answer.status_code, answer.text) == (
            200,
            '{"access_token":"anonymous","token":"anonymous"}\n',
        )

    @pytest.mark.parametrize("user", ["any", ""])
    def test_a_good_token_comes_back_unchanged_and_alone(self, setting: Setting, user: str) -> None:
        token = setting.token("nobody")
        answer = setting.get("/openshift/token", authorization=_basic(token, user))
        assert (answer.status_code, answer.json()) == (200, {"access_token": token, "token": token})

    def test_bad_tokens_and_bearer_are_refused_without_a_word(self, setting: Setting) -> None:
        token = setting.token("nobody")
        damaged = token[:-8] + "AAAAAAAA"
        for sent in (_basic("bad"), _basic(damaged), "Bearer x", f"Bearer {token}", "Basic ???"):
            answer = setting.get("/openshift/token", authorization=sent)
            assert (answer.status_code, answer.content) == (401, b"")
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Content-Length"] == "0"
            assert "WWW-Authenticate" not in answer.headers

    def test_an_empty_password_is_forbidden_to_ask(self, setting: Setting) -> None:
        answer = setting.get("/openshift/token", authorization=_basic(""))
        assert answer.status_code == 401
        assert answer.json() == {"details": "unable to validate token: Forbidden"}

    @pytest.mark.parametrize(
        "query",
        ["scope=repository:onlyname:pull", "scope=repository:a/b:pull&scope=repository:onlyname:pull"],
    )
    @pytest.mark.parametrize("logged_in", [True, False])
    def test_a_name_without_a_project_is_refused_with_details(
        self, setting: Setting, query: str, *, logged_in: bool
    ) -> None:
        authorization = _basic(setting.token("nobody")) if logged_in else None
        answer = setting.get(f"/openshift/token?{query}", authorization=authorization)
        assert answer.status_code == 401
        assert answer.text.strip() == (
            r'{"details":"repository name \"onlyname\" invalid: it must be of the format '
            r'\u003cproject\u003e/\u003cname\u003e"}'
        )

    @pytest.mark.parametrize(
        "scope",
        [
            "repository:onlyname:pull registry:catalog:*",
            "unknown:onlyname:pull",
            "registry:catalog:*",
            "repository:a/b:pull",
        ],
    )
    def test_other_scopes_are_ignored(self, setting: Setting, scope: str) -> None:
        token = setting.token("nobody")
        path = f"/openshift/token?{httpx.QueryParams(scope=scope, service='x')}"
        assert setting.get(path, authorization=_basic(token)).json()["token"] == token

    @pytest.mark.parametrize("method", ["POST", "HEAD"])
    def test_only_get_is_allowed(self, setting: Setting, method: str) -> None:
        answer = setting.send(method, "/openshift/token")
        assert (answer.status_code, answer.content) == (405, b"")

    def test_longer_paths_work_too(self, setting: Setting) -> None:
        assert setting.get("/openshift/token/foo").status_code == 200

    def test_a_hanging_api_server_looks_like_a_refusal_after_a_while(self, setting: Setting) -> None:
        setting.standin.token_hangs(0.3)
        try:
            start = time.monotonic()
            answer = setting.get("/openshift/token", authorization=_basic(setting.token("nobody")))
        finally:
            setting.standin.token_hangs(None)
        assert time.monotonic() - start > 0.3
        assert (answer.status_code, answer.json()) == (401, UNVALIDATED)

    def test_a_test_may_let_it_fail_for_a_while(self, setting: Setting) -> None:
        setting.standin.token_fails_times(2)
        sent = _basic(setting.token("nobody"))
        answers = [setting.get("/openshift/token", authorization=sent) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 200]
        assert answers[0].json() == UNVALIDATED

    def test_a_token_for_another_audience_is_bad_everywhere(self, setting: Setting) -> None:
        token = _token_for_audience(setting.plane, "image-registry")
        assert setting.get("/openshift/token", authorization=_basic(token)).content == b""
        refused = setting.get("/v2/", authorization=f"Bearer {token}")
        assert refused.headers["WWW-Authenticate"] == DENIED


def _token_for_audience(plane: ControlPlane, audience: str) -> str:
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/nobody/token"
    answer = plane.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(kind))
    token: str = json.loads(answer)["status"]["token"]
    return token


class TestSection2:
    """Challenges of `/v2/`."""

    @pytest.mark.parametrize("authorization", [None, "Negotiate abc"])
    def test_without_a_known_scheme_the_challenge_names_the_token_endpoint(
        self, setting: Setting, authorization: str | None
    ) -> None:
        answer = setting.get("/v2/", authorization=authorization)
        assert answer.status_code == 401
        realm = f"{setting.standin.url}/openshift/token"
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="{realm}"'
        assert answer.json() == {
            "errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}]
        }

    def test_a_forged_host_is_echoed_in_the_realm(self, setting: Setting) -> None:
        forged = {"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "81"}
        answer = setting.send("GET", "/v2/", headers=forged)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="http://evil.test:81/openshift/token"'
        by_name = setting.send("GET", "/v2/", headers={"Host": "registry.test"})
        assert by_name.headers["WWW-Authenticate"] == 'Bearer realm="https://registry.test/openshift/token"'

    def test_a_test_may_forge_the_realm_of_every_challenge(self, setting: Setting) -> None:
        setting.standin.forge_realm("https://evil.test")
        try:
            answer = setting.get("/v2/")
        finally:
            setting.standin.forge_realm(None)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="https://evil.test/openshift/token"'

    @pytest.mark.parametrize("how", ["Bearer", "Basic"])
    def test_a_good_token_passes_as_bearer_and_as_basic(self, setting: Setting, how: str) -> None:
        token = setting.token("nobody")
        sent = f"Bearer {token}" if how == "Bearer" else _basic(token)
        answer = setting.get("/v2/", authorization=sent)
        assert (answer.status_code, answer.text) == (200, "{}")

    @pytest.mark.parametrize(
        ("method", "path", "want"),
        [
            ("GET", f"{APP}/tags/list", ("repository", f"{NAMESPACE}/app", "pull")),
            ("DELETE", f"{APP}/manifests/v1.0", ("repository", f"{NAMESPACE}/app", "delete")),
            ("GET", "/v2/_catalog", ("registry", "catalog", "*")),
        ],
        ids=["pull", "delete", "catalog"],
    )
    def test_a_bad_token_and_a_missing_right_look_alike(
        self, setting: Setting, method: str, path: str, want: tuple[str, str, str]
    ) -> None:
        kind, name, action = want
        for answer in (
            setting.send(method, path, authorization="Bearer bad"),
            setting.send(method, path, account="nobody"),
        ):
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, DENIED)
            detail = [{"Type": kind, "Class": "", "Name": name, "Action": action}]
            assert answer.json()["errors"][0]["detail"] == detail

    def test_a_push_wants_to_pull_and_push(self, setting: Setting) -> None:
        answer = setting.send("PUT", f"{APP}/manifests/v1.0", account="puller")
        detail = answer.json()["errors"][0]["detail"]
        assert (answer.status_code, [want["Action"] for want in detail]) == (401, ["pull", "push"])

    def test_an_empty_password_cannot_be_decoded(self, setting: Setting) -> None:
        answer = setting.get("/v2/", authorization=_basic(""))
        assert answer.status_code == 401
        expected = 'Basic realm=openshift,error="failed to decode credentials"'
        assert answer.headers["WWW-Authenticate"] == expected

    def test_bearer_anonymous_passes_at_v2_and_nowhere_else(self, setting: Setting) -> None:
        assert setting.get("/v2/", authorization="Bearer anonymous").status_code == 200
        refused = setting.get(f"{APP}/tags/list", authorization="Bearer anonymous")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, DENIED)

    def test_bearer_anonymous_reads_what_everybody_may_pull(self, setting: Setting) -> None:
        create = ["rolebinding", "everybody", "--role=puller", "--group=system:unauthenticated"]
        setting.plane.kubectl("create", *create, f"--namespace={NAMESPACE}")
        try:
            answer = _soon(200, lambda: setting.get(f"{APP}/tags/list", authorization="Bearer anonymous"))
            without = setting.get(f"{APP}/tags/list")
        finally:
            setting.plane.kubectl("delete", "rolebinding", "everybody", f"--namespace={NAMESPACE}")
        assert answer.status_code == 200
        assert (without.status_code, without.headers["WWW-Authenticate"][:6]) == (401, "Bearer")

    @pytest.mark.parametrize("name", ["onlyname", "a/b/c"])
    def test_a_name_that_is_no_stream_is_a_bad_request_without_a_word(self, setting: Setting, name: str) -> None:
        answer = setting.get(f"/v2/{name}/tags/list", "puller")
        assert (answer.status_code, answer.content) == (400, b"")

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/v2/", True),
            (f"{APP}/tags/list", True),
            ("/openshift/token", False),
            ("/", False),
            ("/healthz", False),
            ("/unknown", False),
            (f"{APP}/referrers/sha256:{'0' * 64}", False),
        ],
    )
    def test_only_v2_says_that_it_supports_signatures(self, setting: Setting, path: str, *, expected: bool) -> None:
        for account in (None, "puller"):
            answer = setting.get(path, account)
            assert (answer.headers.get("X-Registry-Supports-Signatures") == "1") is expected

    @pytest.mark.parametrize("path", ["/", "/healthz"])
    def test_health_is_public_and_empty(self, setting: Setting, path: str) -> None:
        answer = setting.get(path)
        assert (answer.status_code, answer.content) == (200, b"")

    def test_answers_name_the_version_of_the_api(self, setting: Setting) -> None:
        for path in ("/v2/", f"{APP}/tags/list", f"{APP}/manifests/v1.0"):
            answer = setting.get(path, "puller")
            assert answer.headers.get_list("Docker-Distribution-Api-Version") == ["registry/2.0"]

    def test_referrers_are_no_route(self, setting: Setting) -> None:
        answer = setting.get(f"{APP}/referrers/sha256:{'0' * 64}", "puller")
        assert (answer.status_code, answer.headers["Content-Type"][:10]) == (404, "text/plain")


class TestSection3:
    """Reads."""

    def test_tags_come_in_another_order_every_time(self, setting: Setting) -> None:
        reads = [setting.get(f"{APP}/tags/list", "puller") for _ in range(12)]
        orders = {tuple(answer.json()["tags"]) for answer in reads}
        assert len(orders) == 12
        assert {tuple(sorted(order)) for order in orders} == {tuple(sorted([*TAGS, "index"]))}
        assert all("Link" not in answer.headers for answer in reads)
        assert reads[0].json()["name"] == f"{NAMESPACE}/app"

    def test_pages_lose_tags(self, setting: Setting) -> None:
        seen: list[str] = []
        last = ""
        for _ in range(len(TAGS)):
            answer = setting.get(f"{APP}/tags/list?n=5&last={last}", "puller")
            seen += answer.json()["tags"]
            if "Link" not in answer.headers:
                break
            last = seen[-1]
            assert answer.headers["Link"] == f'<{APP}/tags/list?last={last}&n=5>; rel="next"'
        assert sorted(seen) != sorted([*TAGS, "index"])

    @pytest.mark.parametrize(
        ("number", "status", "length"),
        [("0", 200, 0), ("1001", 200, 21), ("-1", 400, None), ("abc", 400, None)],
    )
    def test_the_page_size_of_tags(self, setting: Setting, number: str, status: int, length: int | None) -> None:
        answer = setting.get(f"{APP}/tags/list?n={number}", "puller")
        assert answer.status_code == status
        if length is None:
            assert _codes(answer) == ["PAGINATION_NUMBER_INVALID"]
        else:
            assert len(answer.json()["tags"]) == length
            assert "Link" not in answer.headers

    def test_a_missing_stream_is_unknown(self, setting: Setting) -> None:
        answer = setting.get(f"/v2/{NAMESPACE}/missing/tags/list", "puller")
        assert (answer.status_code, _codes(answer)) == (404, ["NAME_UNKNOWN"])
        assert answer.json()["errors"][0]["detail"] == {"name": f"{NAMESPACE}/missing"}

    def test_a_stream_without_tags_has_an_empty_list(self, setting: Setting, crane: Crane) -> None:
        push_image(setting.behind.url, f"{NAMESPACE}/empty", ["v1"], seed="empty")
        crane.run("delete", f"{setting.behind.host}/{NAMESPACE}/empty:v1")
        answer = setting.get(f"/v2/{NAMESPACE}/empty/tags/list", "puller")
        assert (answer.status_code, answer.json()["tags"]) == (200, [])

    def test_the_catalog_is_sorted_and_has_streams_only(self, setting: Setting) -> None:
        names = setting.get("/v2/_catalog", "lister").json()["repositories"]
        assert names == sorted(names)
        assert f"{NAMESPACE}/app" in names
        assert not {"toplevel", "three/parts/deep"} & set(names)

    def test_the_catalog_has_a_hundred_streams_a_page(self, setting: Setting) -> None:
        # Copied rather than pushed one by one, which would take seconds.
        repositories = setting.behind.storage / "docker/registry/v2/repositories"
        for number in range(105):
            shutil.copytree(repositories / "toplevel", repositories / f"many/s{number:03}")
        first = setting.get("/v2/_catalog", "lister")
        page = first.json()["repositories"]
        assert len(page) == 100
        following = f"/v2/_catalog?last={page[-1].replace('/', '%2F')}&n=100"
        assert first.headers["Link"] == f'<{following}>; rel="next"'
        second = setting.get(following, "lister")
        assert "Link" not in second.headers
        assert sorted({*page, *second.json()["repositories"]}) == page + second.json()["repositories"]

    @pytest.mark.parametrize("number", ["1001", "-1", "abc"])
    def test_a_catalog_page_has_a_thousand_streams_at_most(self, setting: Setting, number: str) -> None:
        answer = setting.get(f"/v2/_catalog?n={number}", "lister")
        assert (answer.status_code, _codes(answer)) == (400, ["PAGINATION_NUMBER_INVALID"])

    def test_a_catalog_page_of_none_is_empty(self, setting: Setting) -> None:
        assert setting.get("/v2/_catalog?n=0", "lister").json() == {"repositories": []}

    @pytest.mark.parametrize("reference", ["v1.3", "index"])
    @pytest.mark.parametrize("by_digest", [True, False])
    def test_a_manifest_comes_from_the_registry_behind(
        self, setting: Setting, reference: str, *, by_digest: bool
    ) -> None:
        digest = setting.digests[reference]
        path = f"{APP}/manifests/{digest if by_digest else reference}"
        for method in ("GET", "HEAD"):
            answer = setting.send(method, path, "puller")
            assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (200, digest)

    def test_a_blob_comes_from_the_registry_behind(self, setting: Setting) -> None:
        manifest = setting.get(f"{APP}/manifests/v1.3", "puller").json()
        answer = setting.get(f"{APP}/blobs/{manifest['config']['digest']}", "puller")
        assert (answer.status_code, answer.json()["os"]) == (200, "linux")

    def test_the_child_of_a_tagged_index_is_served(self, setting: Setting) -> None:
        assert setting.get(f"{APP}/manifests/{setting.digests['child']}", "puller").status_code == 200

    def test_a_digest_that_no_tag_names_is_not_served(self, setting: Setting) -> None:
        digest = push_image(setting.behind.url, f"{NAMESPACE}/app", seed="untagged")
        answer = setting.get(f"{APP}/manifests/{digest}", "puller")
        assert (answer.status_code, _codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
        assert answer.json()["errors"][0]["detail"] == {"Name": f"{NAMESPACE}/app", "Revision": digest}

    def test_a_digest_is_gone_with_its_last_tag(self, setting: Setting, crane: Crane) -> None:
        digest = push_image(setting.behind.url, f"{NAMESPACE}/moving", ["a", "b"], seed="moving")
        path = f"/v2/{NAMESPACE}/moving/manifests/{digest}"
        statuses = [setting.get(path, "puller").status_code]
        for tag in ("a", "b"):
            push_image(setting.behind.url, f"{NAMESPACE}/moving", [tag], seed=f"other {tag}")
            statuses.append(setting.get(path, "puller").status_code)
        assert statuses == [200, 200, 404]
        assert crane.exists(f"{setting.behind.host}/{NAMESPACE}/moving@{digest}")

    def test_a_missing_tag_is_unknown(self, setting: Setting) -> None:
        answer = setting.get(f"{APP}/manifests/missing", "puller")
        assert (answer.status_code, _codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
        assert answer.json()["errors"][0]["detail"] == {"Tag": "missing"}

    def test_in_a_missing_stream_a_tag_is_unknown_and_a_digest_an_error(self, setting: Setting) -> None:
        missing = f"/v2/{NAMESPACE}/missing/manifests"
        by_tag = setting.get(f"{missing}/v1", "puller")
        assert (by_tag.status_code, _codes(by_tag)) == (404, ["NAME_UNKNOWN"])
        assert "detail" not in by_tag.json()["errors"][0]
        by_digest = setting.get(f"{missing}/{setting.digests['child']}", "puller")
        assert (by_digest.status_code, _codes(by_digest)) == (500, ["UNKNOWN"])

    @pytest.mark.parametrize(("tag", "accept"), [("v1.0", {}), ("index", {}), ("index", {"Accept": "*/*"})])
    def test_oci_manifests_need_their_type_in_accept(
        self, setting: Setting, tag: str, accept: Mapping[str, str]
    ) -> None:
        answer = setting.send("GET", f"{APP}/manifests/{tag}", "puller", headers=accept)
        assert (answer.status_code, _codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
        assert "but accept header does not support OCI" in answer.json()["errors"][0]["message"]
        own = {"Accept": OCI_INDEX if tag == "index" else OCI_MANIFEST}
        assert setting.send("GET", f"{APP}/manifests/{tag}", "puller", headers=own).status_code == 200


class TestSection4:
    """Deletions, which need the cluster-wide right to delete images."""

    @pytest.mark.parametrize(
        "path",
        [
            f"{APP}/manifests/v1.0",
            f"{APP}/manifests/missing",
            f"/v2/{NAMESPACE}/missing/manifests/v1",
            f"{APP}/manifests/sha256:zz",
        ],
        ids=["tag", "missing-tag", "missing-stream", "malformed-digest"],
    )
    def test_a_deletion_by_tag_is_accepted_and_does_nothing(self, setting: Setting, crane: Crane, path: str) -> None:
        before = crane.ls(f"{setting.behind.host}/{NAMESPACE}/app")
        answer = setting.send("DELETE", path, "pruner")
        assert (answer.status_code, answer.content) == (202, b"")
        assert crane.ls(f"{setting.behind.host}/{NAMESPACE}/app") == before
        assert crane.digest(f"{setting.behind.host}/{NAMESPACE}/app:v1.0") == setting.digests["v1.0"]

    @pytest.mark.parametrize("reference", ["v1.0", "index", "child"])
    def test_a_digest_that_is_referenced_cannot_be_deleted(self, setting: Setting, reference: str) -> None:
        answer = setting.send("DELETE", f"{APP}/manifests/{setting.digests[reference]}", "pruner")
        assert answer.status_code == 405
        assert answer.json() == {"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}

    def test_a_digest_that_nothing_references_is_deleted_once(self, setting: Setting) -> None:
        digest = push_image(setting.behind.url, f"{NAMESPACE}/app", seed="to be deleted")
        path = f"{APP}/manifests/{digest}"
        assert setting.send("DELETE", path, "pruner").status_code == 202
        again = setting.send("DELETE", path, "pruner")
        assert again.status_code == 404
        assert again.json() == {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}

    def test_in_a_missing_stream_a_deletion_by_digest_is_an_error(self, setting: Setting) -> None:
        path = f"/v2/{NAMESPACE}/missing/manifests/{setting.digests['v1.0']}"
        answer = setting.send("DELETE", path, "pruner")
        assert (answer.status_code, _codes(answer)) == (500, ["UNKNOWN"])


class TestSection8:
    """Rights, each with exactly one rule."""

    @pytest.mark.parametrize(
        ("method", "path", "account"),
        [
            ("GET", f"{APP}/tags/list", "puller"),
            ("GET", f"{APP}/manifests/v1.0", "puller"),
            ("GET", "/v2/_catalog", "lister"),
            ("DELETE", f"{APP}/manifests/v1.0", "pruner"),
        ],
        ids=["tags", "manifests", "catalog", "delete"],
    )
    def test_exactly_one_right_suffices(self, setting: Setting, method: str, path: str, account: str) -> None:
        allowed = {one for one in RIGHTS if setting.send(method, path, one).status_code != 401}
        assert allowed == {account}

    def test_a_role_counts_in_its_own_namespace_only(self, setting: Setting) -> None:
        assert setting.get("/v2/elsewhere/app/tags/list", "puller").status_code == 401

    def test_a_right_counts_as_long_as_it_lasts(self, setting: Setting) -> None:
        create = ["rolebinding", "for-a-while", "--role=puller", f"--serviceaccount={NAMESPACE}:nobody"]
        setting.plane.kubectl("create", *create, f"--namespace={NAMESPACE}")
        try:
            bound = _soon(200, lambda: setting.get(f"{APP}/tags/list", "nobody"))
        finally:
            setting.plane.kubectl("delete", "rolebinding", "for-a-while", f"--namespace={NAMESPACE}")
        assert bound.status_code == 200
        assert _soon(401, lambda: setting.get(f"{APP}/tags/list", "nobody")).status_code == 401


def _soon(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the API server has noticed a change of rights, for two seconds at most."""
    end = time.monotonic() + 2
    while (answer := ask()).status_code != status and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def test_sections_1_and_2_without_an_api_server_even_good_tokens_are_refused(setting: Setting) -> None:
    token = setting.token("puller")
    with setting.plane.api_server_down():
        refused = setting.get("/openshift/token", authorization=_basic(token))
        bad_request = setting.get("/v2/", authorization=f"Bearer {token}")
        public = [setting.get(path).status_code for path in ("/", "/healthz", "/openshift/token")]
    assert (refused.status_code, refused.json()) == (401, UNVALIDATED)
    assert (bad_request.status_code, bad_request.content) == (400, b"")
    assert public == [200, 200, 200]


def test_crane_logs_in_with_a_service_accounts_token(setting: Setting, tmp_path: Path) -> None:
    host = setting.standin.host
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(ssl.DER_cert_to_PEM_cert(setting.trust.get_ca_certs(binary_form=True)[0]))
    crane = Crane(tmp_path, ca_file=ca_file, credentials={host: ("any", setting.token("puller"))})
    assert crane.digest(f"{host}/{NAMESPACE}/app:v1.0") == setting.digests["v1.0"]


def test_the_image_config_names_the_clusters_registry(plane: ControlPlane) -> None:
    for internal, external in (("registry.test:5000", ["a.test", "b.test"]), (None, [])):
        set_image_config(plane, internal=internal, external=external)
        found = json.loads(plane.kubectl("get", "images.config.openshift.io", "cluster", "--output=json"))
        expected = {"internalRegistryHostname": internal, "externalRegistryHostnames": external or None}
        assert found.get("status", {}) == {key: value for key, value in expected.items() if value is not None}
