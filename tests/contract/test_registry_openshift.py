"""Our client logs in to a stand-in for OpenShift's registry, with ServiceAccounts' tokens of the real API server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry_cleanup.ports import Credential
from registry_cleanup.registry.errors import (
    DeniedError,
    LoginFailedError,
    MalformedAnswerError,
    ServerFaultError,
    UntrustedHostError,
)
from tests.support.certificates import certificate_authority
from tests.support.clients import kinds, opened, password, resolved, service_account
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry, answers, changes_headers, faulty_registry
from tests.support.images import push_image
from tests.support.openshift import TOKEN_PATH, OpenShiftRegistry, openshift_registry
from tests.support.registries import RegistryServer, distribution

NAMESPACE = "registry-client"
APP = f"{NAMESPACE}/app"
# ServiceAccount: rights in the namespace and in the cluster (openshift.md, 8)
PULL = ("get", "imagestreams/layers")
RIGHTS = {"reader": (PULL, ("list", "imagestreams")), "nobody": (None, None), "gone": (PULL, None)}


@dataclass(frozen=True)
class Setting:
    """A stand-in behind a proxy, with the real API server and a real Distribution behind both.

    Attributes:
        standin: The stand-in, whose switches tests turn.
        proxy: What clients talk to.
        behind: Where the images are.
        ca: Of both certificates.
        tokens: By ServiceAccount.
        digests: Of `registry-client/app`, by tag.
    """

    standin: OpenShiftRegistry
    proxy: FaultyRegistry
    behind: RegistryServer
    ca: str
    tokens: dict[str, str]
    digests: dict[str, str]

    @property
    def url(self) -> str:
        return self.proxy.url

    def login(self, account: str) -> Credential:
        return service_account(self.tokens[account], self.url.partition("//")[2])

    def asked_for_tokens(self) -> int:
        return sum(request.path == TOKEN_PATH for request in self.proxy.requests)


@pytest.fixture(scope="module")
def _setting(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    _create_accounts(plane)
    folder = tmp_path_factory.mktemp("openshift")
    authority = certificate_authority(folder / "ca")
    certificate = authority.issue("127.0.0.1", "localhost")
    tokens = {account: plane.token_for_service_account(NAMESPACE, account, 600) for account in RIGHTS}
    plane.kubectl("delete", "serviceaccount", "gone", f"--namespace={NAMESPACE}")
    with (
        distribution("3", folder / "registry") as behind,
        openshift_registry(behind.url, plane, certificate) as standin,
        faulty_registry(standin.url, certificate=certificate, ca_file=authority.ca_file) as proxy,
    ):
        digests = {f"v{n}": push_image(behind.url, APP, [f"v{n}"], seed=str(n)) for n in range(6)}
        yield Setting(standin, proxy, behind, authority.ca_file.read_text(), tokens, digests)


@pytest.fixture
def setting(_setting: Setting) -> Setting:
    _setting.proxy.heal()
    _setting.proxy.requests.clear()
    _setting.standin.requests.clear()
    _setting.standin.token_fails_times(0)
    _setting.standin.forge_realm(None)
    return _setting


def _create_accounts(plane: ControlPlane) -> None:
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for account, (here, everywhere) in RIGHTS.items():
        place = {"name": account, "namespace": NAMESPACE}
        subject = {"kind": "ServiceAccount", **place}
        objects.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place})
        for prefix, metadata, right in (
            ("", place, here),
            ("Cluster", {"name": f"{NAMESPACE}-{account}"}, everywhere),
        ):
            if right is not None:
                objects += _grant(f"{prefix}Role", metadata, right, subject)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _grant(
    kind: str, metadata: dict[str, str], right: tuple[str, str], subject: dict[str, str]
) -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    common = {"apiVersion": f"{group}/v1", "metadata": metadata}
    rule = {"apiGroups": ["image.openshift.io"], "resources": [right[1]], "verbs": [right[0]]}
    role = {"apiGroup": group, "kind": kind, "name": metadata["name"]}
    return [
        {**common, "kind": kind, "rules": [rule]},
        {**common, "kind": f"{kind}Binding", "roleRef": role, "subjects": [subject]},
    ]


async def test_a_service_account_logs_in_through_the_token_endpoint_and_reads(setting: Setting) -> None:
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        assert await registry.repositories() == [APP]
        assert (await resolved(registry, APP)).tags == setting.digests
    schemes = {
        (request.path == TOKEN_PATH, (request.authorization or "").partition(" ")[0])
        for request in setting.proxy.requests
    }
    assert schemes == {(False, ""), (True, "Basic"), (False, "Bearer")}


async def test_without_a_credential_the_login_fails_before_the_endpoint_answers_anonymous(setting: Setting) -> None:
    with pytest.raises(LoginFailedError, match=r"spec\.registry\.secretRef"):
        async with opened(setting.url, ca_bundle=setting.ca):
            pass
    assert setting.asked_for_tokens() == 0


async def test_the_answer_anonymous_is_a_failed_login(setting: Setting) -> None:
    # As where a middle box takes the Authorization header away.
    body = '{"access_token":"anonymous","token":"anonymous"}\n'
    setting.proxy.inject(answers(200, body, {"Content-Type": "application/json"}), path=TOKEN_PATH)
    with pytest.raises(LoginFailedError, match="anonymous"):
        async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca):
            pass
    assert not any("anonymous" in (request.authorization or "") for request in setting.proxy.requests)


async def test_a_refusal_of_the_token_endpoint_may_pass(setting: Setting) -> None:
    setting.standin.token_fails_times(1)
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        assert (await resolved(registry, APP)).tags == setting.digests


async def test_a_bad_token_is_a_failed_login_after_some_patience(setting: Setting) -> None:
    host = setting.url.partition("//")[2]
    with pytest.raises(LoginFailedError, match="does not accept the token") as caught:
        async with opened(setting.url, service_account("bad", host), ca_bundle=setting.ca):
            pass
    assert setting.asked_for_tokens() == 3
    assert caught.value.failure.stops_run


async def test_a_good_token_without_rights_is_a_denial(setting: Setting) -> None:
    async with opened(setting.url, setting.login("nobody"), ca_bundle=setting.ca) as registry:
        with pytest.raises(DeniedError, match=APP) as caught:
            await resolved(registry, APP)
        with pytest.raises(DeniedError, match="catalog"):
            await registry.repositories()
    assert not caught.value.failure.stops_run


async def test_a_token_that_went_bad_during_the_run_is_a_failed_login_and_no_denial(setting: Setting) -> None:
    refused = answers(401, headers={"WWW-Authenticate": 'Basic realm=openshift,error="access denied"'})
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        setting.proxy.inject(refused, path="/v2/.*")
        with pytest.raises(LoginFailedError):
            await resolved(registry, APP)


async def test_an_api_server_that_hangs_is_neither(setting: Setting) -> None:
    # The registry then answers 400 with an empty body, to everything (openshift.md, 2).
    refused = answers(401, headers={"WWW-Authenticate": 'Basic realm=openshift,error="access denied"'})
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        setting.proxy.inject(refused, path="/v2/.*/tags/list")
        setting.proxy.inject(answers(400), path="/v2/")
        with pytest.raises(ServerFaultError):
            await resolved(registry, APP)
        setting.proxy.heal()
        setting.proxy.inject(answers(400), path="/v2/.*/tags/list")
        with pytest.raises(ServerFaultError):
            await resolved(registry, APP)


async def test_a_forged_realm_never_sees_the_token(setting: Setting) -> None:
    with faulty_registry(setting.behind.url) as evil:
        for forged in (evil.url.replace("127.0.0.1", "localhost"), evil.url, evil.url.replace("http:", "https:")):
            setting.standin.forge_realm(forged)
            with pytest.raises(UntrustedHostError, match="ServiceAccount"):
                async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca):
                    pass
        assert evil.requests == []


async def test_a_password_of_a_secret_logs_in_the_same_way(setting: Setting) -> None:
    credential = password("any", setting.tokens["reader"], setting.url, allow_http=False)
    async with opened(setting.url, credential, ca_bundle=setting.ca) as registry:
        assert (await resolved(registry, APP)).tags == setting.digests


async def test_it_is_recognised_and_nothing_is_deleted_to_find_that_out(setting: Setting, tmp_path: Path) -> None:
    # Its registry says 202 to the deletion of a tag and does nothing (openshift.md, 4).
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        assert registry.openshift is True
        assert (await resolved(registry, APP)).tags == setting.digests
    assert not any(method.startswith("DELETE") for method in kinds(setting.proxy.requests))
    assert Crane(tmp_path).ls(f"{setting.behind.host}/{APP}") == sorted(setting.digests)


@pytest.mark.parametrize(
    ("realm_seen", "header_seen", "expected"),
    [(True, False, True), (False, True, True), (True, True, True), (False, False, False)],
)
async def test_it_is_recognised_by_its_realm_or_its_header(
    setting: Setting, realm_seen: bool, header_seen: bool, expected: bool
) -> None:
    """The registry behind, made to look more or less like OpenShift's."""
    with faulty_registry(setting.behind.url) as proxy:
        if realm_seen:
            challenge = {"WWW-Authenticate": f'Bearer realm="{proxy.url}{TOKEN_PATH}"'}
            proxy.inject(answers(401, headers=challenge), path="/v2/", times=1)
            proxy.inject(answers(200, '{"token":"t"}'), path=TOKEN_PATH)
        if header_seen:
            proxy.inject(changes_headers({"X-Registry-Supports-Signatures": "1"}), path="/v2/")
        async with opened(proxy.url, password("user", "token", proxy.url)) as registry:
            assert registry.openshift is expected
        assert not any(method.startswith("DELETE") for method in kinds(proxy.requests))


async def test_a_repository_that_is_no_image_stream_is_malformed_or_a_fault_and_never_empty(setting: Setting) -> None:
    async with opened(setting.url, setting.login("reader"), ca_bundle=setting.ca) as registry:
        with pytest.raises((MalformedAnswerError, ServerFaultError)):
            await resolved(registry, "three/parts/deep")
