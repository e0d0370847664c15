"""How policies log in to registries that want it, each as a real registry checks it."""

from pathlib import Path

import httpx
import pytest

from tests.support.crane import Crane
from tests.support.operator import NAMESPACE as OPERATOR_NAMESPACE
from tests.support.operator import SERVICE_ACCOUNT
from tests.support.policies import (
    Namespace,
    condition,
    is_planned,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.registries import TokenAuth, Version, certificate_authority, distribution
from tests.support.token_service import TokenService, token_service

USER, PASSWORD = "pruner", "correct-horse-battery"
_LOGIN = {"secretRef": {"name": "login"}}
_KEPT = ["build-4", "build-5"]


def _prune(namespace: Namespace, host: str, crane: Crane) -> None:
    """See that the policy is planned, and prunes when asked."""
    assert namespace.planned()["status"]["plan"]["deletions"] == 3
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Succeeded"
    assert crane.ls(f"{host}/team/app") == _KEPT


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("kind", ["basic-auth", "dockerconfigjson"])
def test_https_with_a_private_ca_and_a_password(
    version: Version, kind: str, namespace: Namespace, tmp_path: Path
) -> None:
    authority = certificate_authority(tmp_path / "ca")
    tls = authority.issue("127.0.0.1")
    with distribution(version, tmp_path / "registry", tls=tls, htpasswd={USER: PASSWORD}) as registry:
        push_builds(registry.url, auth=(USER, PASSWORD), verify=authority.client_context())
        namespace.grant_credentials()
        namespace.create_config_map({"ca.crt": authority.ca_file.read_text()})
        if kind == "basic-auth":
            namespace.create_basic_auth(registry.host, USER, PASSWORD)
        else:
            others = ("someone-else", "another-password")
            namespace.create_docker_config({"example.com": others, registry.host: (USER, PASSWORD)})
        login = {**_LOGIN, "caConfigMapRef": {"name": "ca"}}
        namespace.apply(policy_spec(registry.url, registry=login, dryRun=False))
        crane = Crane(tmp_path / "crane", authority.ca_file, {registry.host: (USER, PASSWORD)})
        _prune(namespace, registry.host, crane)


@pytest.mark.parametrize("key", ["token", "access_token"])
@pytest.mark.parametrize("version", ["2", "3"])
def test_docker_token_authentication(version: Version, key: str, namespace: Namespace, tmp_path: Path) -> None:
    grants = {USER: {"team/*": {"pull", "delete"}, "registry:catalog": {"*"}}}
    # By name: crane sends no password to a realm that is a loopback address.
    with token_service(tmp_path / "tokens", {USER: PASSWORD}, grants, host="localhost") as tokens:
        tokens.key_name = "token" if key == "token" else "access_token"
        storage = tmp_path / "storage"
        with distribution(version, tmp_path / "open", storage=storage) as registry:
            push_builds(registry.url)
        auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
        with distribution(version, tmp_path / "closed", storage=storage, token=auth) as registry:
            namespace.grant_credentials()
            _create_login_with_token_host(namespace, registry.host, tokens)
            namespace.apply(policy_spec(registry.url, registry=_LOGIN, dryRun=False))
            crane = Crane(tmp_path / "crane", credentials={registry.host: (USER, PASSWORD)})
            _prune(namespace, registry.host, crane)
    assert tokens.scopes["registry:catalog:*"] == 2  # a token for each run


def _create_login_with_token_host(namespace: Namespace, host: str, tokens: TokenService) -> None:
    """Create a Secret whose owner allows the token service's host, which is not the registry's."""
    assert "localhost" in tokens.realm
    annotations = {"registrycleanup.dev/registry": host, "registrycleanup.dev/token-hosts": "localhost"}
    namespace.create_secret({"username": USER, "password": PASSWORD}, annotations=annotations)


def test_a_realm_on_a_host_that_nobody_named_never_receives_the_password(namespace: Namespace, tmp_path: Path) -> None:
    certificate = certificate_authority(tmp_path / "ca").issue("localhost")
    with token_service(tmp_path / "tokens", {USER: PASSWORD}, {}, host="localhost", certificate=certificate) as tokens:
        auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
        with distribution("3", tmp_path / "registry", token=auth) as registry:
            namespace.grant_credentials()
            namespace.create_basic_auth(registry.host, USER, PASSWORD)
            namespace.apply(policy_spec(registry.url, registry=_LOGIN))
            message = namespace.stalled("UntrustedTokenHost")
        assert "localhost" in message
        assert "registrycleanup.dev/token-hosts" in message
        assert tokens.requests == []


def test_a_bearer_token_from_a_secret(namespace: Namespace, tmp_path: Path) -> None:
    """A registry that takes one ready-made token for everything."""
    grants = {USER: {"team/*": {"pull", "delete"}, "registry:catalog": {"*"}}}
    with token_service(tmp_path / "tokens", {USER: PASSWORD}, grants) as tokens:
        storage = tmp_path / "storage"
        with distribution("3", tmp_path / "open", storage=storage) as registry:
            push_builds(registry.url)
        token = _ready_made(tokens, "registry:catalog:*", "repository:team/app:pull,delete")
        auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
        with distribution("3", tmp_path / "closed", storage=storage, token=auth) as registry:
            namespace.grant_credentials()
            namespace.create_secret({"token": token}, annotations={"registrycleanup.dev/registry": registry.host})
            seen = len(tokens.requests)
            namespace.apply(policy_spec(registry.url, registry=_LOGIN, dryRun=False))
            namespace.planned()
            assert last_run(namespace.run("now"))["counts"]["tagsPruned"] == 3
            assert len(tokens.requests) == seen


def _ready_made(tokens: TokenService, *scopes: str) -> str:
    parameters = {"service": tokens.service, "scope": list(scopes)}
    answer = httpx.get(tokens.realm, params=parameters, auth=(USER, PASSWORD), trust_env=False)
    token: str = answer.raise_for_status().json()["token"]
    return token


def test_the_command_that_the_message_names_lets_the_operator_in(namespace: Namespace, tmp_path: Path) -> None:
    with distribution("3", tmp_path / "registry", htpasswd={USER: PASSWORD}) as registry:
        push_builds(registry.url, auth=(USER, PASSWORD))
        namespace.create_basic_auth(registry.host, USER, PASSWORD)
        namespace.apply(policy_spec(registry.url, registry=_LOGIN))
        message = namespace.stalled("CredentialsNotGranted")
        command = message[message.index("kubectl create rolebinding") :]
        assert command == (
            "kubectl create rolebinding registry-cleanup-credentials --clusterrole=registry-cleanup-credentials "
            f"--serviceaccount={OPERATOR_NAMESPACE}:{SERVICE_ACCOUNT} -n {namespace.name}"
        )
        namespace.plane.kubectl(*command.split()[1:])
        # It tries again by itself, and at once when asked.
        namespace.request_run("the grant is there")
        healed = namespace.wait(is_planned, "the plan after the grant")
        assert condition(healed, "Stalled")["status"] == "False"
        assert condition(healed, "Ready")["status"] == "True"


def test_without_the_grant_no_token_of_a_service_account_is_made(namespace: Namespace, tmp_path: Path) -> None:
    tls = certificate_authority(tmp_path / "ca").issue("127.0.0.1")
    with distribution("3", tmp_path / "registry", tls=tls, htpasswd={USER: PASSWORD}) as registry:
        namespace.create_service_account("pruner")
        login = {"serviceAccountName": "pruner", "insecure": True}
        namespace.apply(policy_spec(registry.url, registry=login))
        message = namespace.stalled("CredentialsNotGranted")
    assert "create tokens of ServiceAccounts" in message
    assert message.endswith(f"-n {namespace.name}")
