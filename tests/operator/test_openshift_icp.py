"""IBM Cloud Private: Distribution 2.8 behind a token service on another port, which hands out tokens by repository."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.crane import Crane
from tests.support.policies import Namespace, condition, conditions, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer, TokenAuth, distribution
from tests.support.token_service import ICP_PATH, ICP_SERVICE, TokenService, icp_token_service

USER, PASSWORD = "admin", "correct-horse-battery"
_ALL = {"*": {"pull", "push", "delete"}, "registry:catalog": {"*"}}
_BUILDS = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]
_LOGIN = {"secretRef": {"name": "login"}, "caConfigMapRef": {"name": "ca"}}


@dataclass(frozen=True)
class Cloud:
    """A registry, and the management port of its token service.

    Attributes:
        registry: Asks for tokens of a realm that cannot be reached from outside.
        tokens: Hands them out.
        open_registry: Where the same tags are read without a login.
    """

    registry: RegistryServer
    tokens: TokenService
    open_registry: RegistryServer


@pytest.fixture
def cloud(namespace: Namespace, tmp_path: Path) -> Iterator[Cloud]:
    authority = certificate_authority(tmp_path / "ca")
    certificate = authority.issue("127.0.0.1")
    storage = tmp_path / "storage"
    with (
        distribution("2", tmp_path / "open", storage=storage) as opened,
        icp_token_service(tmp_path / "tokens", {USER: PASSWORD}, {USER: _ALL}, certificate=certificate) as tokens,
    ):
        push_builds(opened.url)
        # As inside of the cluster only, where the challenge was configured.
        realm = f"https://127.0.0.1:1{ICP_PATH}"
        auth = TokenAuth(realm, tokens.service, tokens.issuer, tokens.rootcertbundle)
        tls = _second(authority)
        with distribution("2", tmp_path / "closed", storage=storage, token=auth, tls=tls.issue("127.0.0.1")) as closed:
            namespace.grant_credentials()
            both = authority.ca_file.read_text() + tls.ca_file.read_text()
            namespace.create_config_map({"ca.crt": both})
            namespace.create_docker_config({closed.host: (USER, PASSWORD)})
            yield Cloud(closed, tokens, opened)


def _second(authority: CertificateAuthority) -> CertificateAuthority:
    """Return another authority: a certificate's files are named by whom it is for."""
    return certificate_authority(authority.folder / "registry")


def _tags(cloud: Cloud, tmp_path: Path) -> list[str]:
    return Crane(tmp_path / "crane").ls(f"{cloud.open_registry.host}/team/app")


def test_a_policy_with_a_token_url_plans_and_prunes_by_digest(
    cloud: Cloud, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.apply(policy_spec(cloud.registry.url, registry={**_LOGIN, "tokenURL": cloud.tokens.realm}, dryRun=False))
    planned = namespace.planned()
    assert planned["status"]["plan"]["deletions"] == 3
    assert condition(planned, "DeleteSupported")["reason"] == "ByDigest"
    assert _tags(cloud, tmp_path) == _BUILDS
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Succeeded"
    assert last_run(done)["counts"]["tagsPruned"] == 3
    assert _tags(cloud, tmp_path) == _KEPT
    # One token for each repository's scope and the catalog's, each asked for by the service's name.
    scopes = {scope.rpartition(":")[0] for scope in cloud.tokens.scopes if scope}
    assert scopes == {"registry:catalog", "repository:team/app"}
    assert {request.query.get("service") for request in cloud.tokens.requests} == {ICP_SERVICE}
    assert {request.path for request in cloud.tokens.requests} == {ICP_PATH}


def test_a_realm_that_cannot_be_reached_is_told_with_nothing_pruned(
    cloud: Cloud, namespace: Namespace, tmp_path: Path
) -> None:
    """Without `tokenURL` the challenge is believed, whose host is the registry's own."""
    namespace.apply(policy_spec(cloud.registry.url, registry=_LOGIN, dryRun=False))
    failed = namespace.phase("Failed")
    assert condition(failed, "RegistryReachable")["reason"] == "Unreachable"
    assert cloud.tokens.requests == []
    namespace.change({"registry": {"tokenURL": cloud.tokens.realm}})
    assert namespace.planned()["status"]["plan"]["deletions"] == 3
    assert _tags(cloud, tmp_path) == _BUILDS


@pytest.mark.parametrize("missing", ["everything", "deletion"])
def test_a_token_that_is_granted_but_empty_is_told_as_denied(
    cloud: Cloud, namespace: Namespace, tmp_path: Path, missing: str
) -> None:
    """The token service says 200 to whoever may do nothing; the registry finds out."""
    team: set[str] = set() if missing == "everything" else {"pull"}
    cloud.tokens.grants = {USER: {"registry:catalog": {"*"}, "team/*": team}}
    namespace.apply(policy_spec(cloud.registry.url, registry={**_LOGIN, "tokenURL": cloud.tokens.realm}, dryRun=False))
    if missing == "everything":
        message = namespace.stalled("Denied")
        assert "repository:team/app:" in message
        assert "to this credential" in message
        assert "plan" not in namespace.policy()["status"]
    else:
        namespace.planned()
        done = namespace.run("now")
        assert last_run(done)["phase"] == "Failed"
        assert condition(done, "Ready")["reason"] == "Denied"
    assert conditions(namespace.policy())["Ready"] == "False"
    assert _tags(cloud, tmp_path) == _BUILDS
    cloud.tokens.grants = {USER: _ALL}
    namespace.request_run("granted")
    healed = namespace.handled("granted")
    assert conditions(healed)["Ready"] == "True"


def test_a_wrong_password_is_a_failed_login(cloud: Cloud, namespace: Namespace, tmp_path: Path) -> None:
    namespace.create_docker_config({cloud.registry.host: (USER, "another-password")}, name="wrong")
    login = {**_LOGIN, "secretRef": {"name": "wrong"}, "tokenURL": cloud.tokens.realm}
    namespace.apply(policy_spec(cloud.registry.url, registry=login, dryRun=False))
    assert "does not accept the credential (401)" in namespace.stalled("LoginFailed")
    assert _tags(cloud, tmp_path) == _BUILDS
