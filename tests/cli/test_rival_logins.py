"""A command looks at the registries of other policies too, and shows them nothing that was not stored for them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.command import run
from tests.support.controlplane import ControlPlane
from tests.support.http import Received, serve
from tests.support.images import push_image
from tests.support.operator import install
from tests.support.policies import Namespace, days_ago, fresh_namespace, policy_spec
from tests.support.registries import RegistryServer, distribution

_ALICE, _BOB = ("alice", "of-alice"), ("bob", "of-bob")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return certificate_authority(tmp_path_factory.mktemp("rivals-ca"))


@pytest.fixture(scope="module")
def server(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Run a registry that knows alice."""
    folder, certificate = tmp_path_factory.mktemp("rivals"), authority.issue("127.0.0.1")
    with distribution("3", folder, tls=certificate, htpasswd=dict([_ALICE])) as running:
        verify = authority.client_context()
        push_image(running.url, "team/app", ["build-1"], created=days_ago(60), auth=_ALICE, verify=verify)
        yield running


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    install(plane)
    with fresh_namespace(plane, f"cli-rivals-{request.node.callspec.id}", []) as fresh:
        yield fresh


async def _wants_a_password(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="rival"'})


def _shown(requests: list[Received]) -> set[str]:
    return {request.authorization for request in requests if request.authorization is not None}


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("secure", [True, False], ids=["https", "insecure"])
def test_a_rivals_registry_gets_the_login_that_is_stored_for_it_and_over_https_only(
    namespace: Namespace, server: RegistryServer, authority: CertificateAuthority, tmp_path: Path, secure: bool
) -> None:
    certificate = authority.issue("127.0.0.1") if secure else None
    with serve(_wants_a_password, certificate=certificate) as rival:
        namespace.apply(policy_spec(rival.url, dryRun=False), name="rival")
        (tmp_path / ".docker").mkdir()
        host = rival.url.partition("//")[2]
        logins = {"auths": {host: {"auth": _basic(*_BOB)}}}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps(logins))
        policy = {
            "apiVersion": "registrycleanup.dev/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": "mine", "namespace": namespace.name},
            "spec": policy_spec(server.url),
        }
        (tmp_path / "policy.json").write_text(json.dumps(policy))
        options: list[str | Path] = [
            "--no-in-use",
            "--kubeconfig",
            namespace.plane.admin_kubeconfig,
            "--token-host",
            "127.0.0.1",
        ]
        options += ["--certificate-authority", authority.ca_file, "-u", _ALICE[0], "--password-stdin"]
        done = run(tmp_path, "plan", "-f", "policy.json", *options, stdin=_ALICE[1])
        assert done.returncode == 0, done.stderr
        namespace.delete("rival")
        assert rival.requests
        assert _shown(rival.requests) == ({f"Basic {_basic(*_BOB)}"} if secure else set())
