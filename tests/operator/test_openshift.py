"""The login to OpenShift's registry with a ServiceAccount's token, before a stand-in that asks the real API server."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.http import Received, serve
from tests.support.images import push_image
from tests.support.openshift import OpenShiftRegistry, openshift_registry
from tests.support.openshift_config import set_image_config
from tests.support.policies import (
    Namespace,
    condition,
    conditions,
    days_ago,
    last_run,
    policy_spec,
)
from tests.support.registries import RegistryServer

ACCOUNT = "pruner"


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return certificate_authority(tmp_path / "ca")


@pytest.fixture
def standin(
    registry3: RegistryServer, namespace: Namespace, authority: CertificateAuthority
) -> Iterator[OpenShiftRegistry]:
    """Run a stand-in with builds in the test's namespace, whose ServiceAccount may list and pull."""
    for build in range(1, 6):
        tags = [f"build-{build}"]
        push_image(registry3.url, f"{namespace.name}/app", tags, created=days_ago(50 - build), seed=f"{build}")
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map({"ca.crt": authority.ca_file.read_text()})
    _grant(namespace)
    certificate = authority.issue("127.0.0.1", "localhost")
    with ExitStack() as stack:
        running = stack.enter_context(openshift_registry(registry3.url, namespace.plane, certificate))
        yield running
        _forbid_tokens(namespace, running.requests)


def _grant(namespace: Namespace) -> None:
    """Let the account do what the documentation asks for: list the catalog, pull, delete."""
    api = "rbac.authorization.k8s.io"
    name = f"{namespace.name}-{ACCOUNT}"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace.name}
    rules = [
        {
            "apiGroups": ["image.openshift.io"],
            "resources": ["imagestreams", "imagestreams/layers"],
            "verbs": ["get", "list", "update", "delete"],
        },
        {"apiGroups": ["image.openshift.io"], "resources": ["registry/catalog", "registry"], "verbs": ["*"]},
    ]
    role = {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
        "subjects": [subject],
    }
    objects: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": [role, binding]}
    namespace.plane.kubectl("apply", "-f", "-", stdin=json.dumps(objects))


def _tokens(requests: list[Received]) -> set[str]:
    """Return the secrets in all Authorization headers."""
    found = set()
    for request in requests:
        scheme, _, value = (request.authorization or "").partition(" ")
        found.add(base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value)
    return found - {""}


def _forbid_tokens(namespace: Namespace, requests: list[Received]) -> None:
    namespace.forbid(*_tokens(requests))


def _spec(url: str, namespace: Namespace, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    registry = {"serviceAccountName": ACCOUNT, "caConfigMapRef": {"name": "ca"}}
    return policy_spec(url, registry=registry, repositories={"include": [f"{namespace.name}/*"]}, **changes)


def test_a_service_account_logs_in_lists_and_plans_and_a_real_run_deletes_nothing(
    standin: OpenShiftRegistry, namespace: Namespace
) -> None:
    set_image_config(namespace.plane, internal="registry.example.svc:5000", external=[standin.host])
    namespace.apply(_spec(standin.url, namespace, dryRun=False))
    planned = namespace.planned()
    assert planned["status"]["plan"]["deletions"] == 3
    assert condition(planned, "DeleteSupported")["status"] == "False"
    assert condition(planned, "DeleteSupported")["reason"] == "OpenShiftNotYetSupported"
    assert "only plans on OpenShift" in condition(planned, "DeleteSupported")["message"]
    assert conditions(planned)["Ready"] == "True"

    done = namespace.run("now")
    assert last_run(done)["counts"]["tagsPruned"] == 0
    assert "nothing was pruned" in last_run(done)["message"]
    assert condition(done, "DeleteSupported")["reason"] == "OpenShiftNotYetSupported"
    assert {request.method for request in standin.requests} <= {"GET", "HEAD"}
    exchanged = [request for request in standin.requests if request.path == "/openshift/token"]
    assert exchanged
    subjects = {_claims(token)["sub"] for token in _tokens(standin.requests)}
    assert subjects == {f"system:serviceaccount:{namespace.name}:{ACCOUNT}"}


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_a_token_endpoint_that_answers_401_for_a_moment_is_asked_again(
    standin: OpenShiftRegistry, namespace: Namespace
) -> None:
    set_image_config(namespace.plane, external=[standin.host])
    standin.token_fails_times(2)
    namespace.apply(_spec(standin.url, namespace))
    assert namespace.planned()["status"]["plan"]["deletions"] == 3


def test_a_host_that_the_cluster_does_not_name_never_receives_the_token(
    namespace: Namespace, authority: CertificateAuthority
) -> None:
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map({"ca.crt": authority.ca_file.read_text()})
    set_image_config(namespace.plane, internal="registry.example.svc:5000")

    async def lure(request: web.Request) -> web.StreamResponse:
        realm = f'Bearer realm="{request.scheme}://{request.host}/openshift/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    with serve(lure, certificate=authority.issue("127.0.0.1")) as evil:
        namespace.apply(_spec(evil.url, namespace))
        message = namespace.stalled("UntrustedTokenHost")
        assert evil.requests
        assert _tokens(evil.requests) == set()
        assert [request for request in evil.requests if request.path != "/v2/"] == []
    assert "the cluster's administrator" in message


def test_a_realm_that_a_middle_box_forged_never_receives_the_token(
    standin: OpenShiftRegistry, namespace: Namespace, authority: CertificateAuthority
) -> None:
    set_image_config(namespace.plane, external=[standin.host])

    async def echo(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "of the evil one"})

    with serve(echo, certificate=authority.issue("127.0.0.1")) as evil:
        standin.forge_realm(evil.url)
        namespace.apply(_spec(standin.url, namespace))
        namespace.stalled("UntrustedTokenHost")
        assert evil.requests == []
        assert _tokens(standin.requests) == set()


def test_a_token_endpoint_that_answers_anonymous_is_a_failed_login(
    standin: OpenShiftRegistry, namespace: Namespace, authority: CertificateAuthority
) -> None:
    """As behind a proxy that drops the Authorization header: nothing is listed with the rights of anybody."""

    async def anonymous(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "anonymous", "access_token": "anonymous"})

    with serve(anonymous, certificate=authority.issue("127.0.0.1")) as proxy:
        set_image_config(namespace.plane, external=[standin.host, proxy.url.partition("//")[2]])
        standin.forge_realm(proxy.url)
        namespace.apply(_spec(standin.url, namespace, dryRun=False))
        message = namespace.stalled("LoginFailed")
        _forbid_tokens(namespace, proxy.requests)
    assert "anonymous" in message
    assert {request.path for request in standin.requests} == {"/v2/"}


def test_a_missing_service_account_is_named(standin: OpenShiftRegistry, namespace: Namespace) -> None:
    set_image_config(namespace.plane, external=[standin.host])
    spec = _spec(standin.url, namespace)
    spec["registry"]["serviceAccountName"] = "nobody-here"
    namespace.apply(spec)
    message = namespace.stalled("ServiceAccountNotFound")
    assert message.startswith("spec.registry.serviceAccountName: there is no ServiceAccount 'nobody-here'")
    assert _tokens(standin.requests) == set()
