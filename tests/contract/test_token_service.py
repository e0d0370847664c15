"""Our token service, held to what both real Distributions make of its tokens, and crane of its answers."""

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.crane import Crane, CraneError
from tests.support.images import MANIFEST_TYPES, push_image
from tests.support.registries import TokenAuth, Version, distribution
from tests.support.token_service import (
    ICP_PATH,
    REGISTRY_LEEWAY_SECONDS,
    KeyName,
    TokenService,
    icp_token_service,
    token_service,
)

USERS = {"puller": "p1", "pruner": "p2", "lister": "p3"}
GRANTS = {
    "puller": {"team/*": {"pull"}},
    "pruner": {"team/*": {"pull", "delete"}},
    "lister": {"registry:catalog": {"*"}},
}
ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}


@dataclass(frozen=True)
class Setting:
    """A registry that sends its clients to our service.

    Attributes:
        registry: URL of the registry.
        tokens: Our service.
        digest: Of `team/app:v1`.
    """

    registry: str
    tokens: TokenService
    digest: str

    def token(self, user: str, *scopes: str) -> str:
        answer = _ask(self.tokens, *scopes, auth=(user, USERS[user]))
        token: str = answer.raise_for_status().json()[self.tokens.key_name]
        return token

    def send(self, method: str, path: str, token: str | None = None) -> httpx.Response:
        headers = ACCEPT if token is None else {**ACCEPT, "Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.registry}{path}", headers=headers, trust_env=False)


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    version: Version = request.param
    folder = tmp_path_factory.mktemp(f"registry-{version}")
    # By name: crane sends no password to a realm that is a loopback address.
    with (
        token_service(folder / "tokens", USERS, GRANTS, host="localhost") as tokens,
        _registry(version, folder, tokens) as found,
    ):
        yield found


@contextmanager
def _registry(version: Version, folder: Path, tokens: TokenService) -> Iterator[Setting]:
    storage = folder / "storage"
    with distribution(version, folder / "open", storage=storage) as registry:
        digest = push_image(registry.url, "team/app", ["v1"])
    auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
    with distribution(version, folder / "closed", storage=storage, token=auth) as registry:
        yield Setting(registry.url, tokens, digest)


def _ask(tokens: TokenService, *scopes: str, auth: tuple[str, str] | None = None) -> httpx.Response:
    parameters = {"service": tokens.service, "scope": list(scopes)}
    return httpx.get(tokens.realm, params=parameters, auth=auth, trust_env=False)


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_the_registrys_challenge_names_the_service(setting: Setting) -> None:
    answer = setting.send("GET", "/v2/team/app/manifests/v1")
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers["WWW-Authenticate"]))
    assert answer.status_code == 401
    assert challenge == {
        "realm": setting.tokens.realm,
        "service": setting.tokens.service,
        "scope": "repository:team/app:pull",
    }


def test_a_pull_token_pulls_and_does_not_delete(setting: Setting) -> None:
    token = setting.token("puller", "repository:team/app:pull,delete")
    assert setting.send("GET", "/v2/team/app/manifests/v1", token).status_code == 200
    refused = setting.send("DELETE", f"/v2/team/app/manifests/{setting.digest}", token)
    assert refused.status_code == 401
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert 'scope="repository:team/app:delete"' in refused.headers["WWW-Authenticate"]


def test_a_delete_token_deletes(tmp_path: Path) -> None:
    for version in ("2", "3"):
        folder = tmp_path / version
        with (
            token_service(folder / "tokens", USERS, GRANTS) as tokens,
            _registry(version, folder, tokens) as own,
        ):
            token = own.token("pruner", "repository:team/app:delete,pull")
            answer = own.send("DELETE", f"/v2/team/app/manifests/{own.digest}", token)
            assert answer.status_code == 202
            assert own.send("GET", "/v2/team/app/manifests/v1", token).status_code == 404


def test_a_token_is_good_for_its_own_repository_only(setting: Setting) -> None:
    token = setting.token("pruner", "repository:team/other:pull")
    refused = setting.send("GET", "/v2/team/app/manifests/v1", token)
    assert (refused.status_code, "insufficient_scope" in refused.headers["WWW-Authenticate"]) == (401, True)


def test_the_catalog_needs_its_own_scope(setting: Setting) -> None:
    token = setting.token("lister", "registry:catalog:*")
    assert setting.send("GET", "/v2/_catalog", token).json() == {"repositories": ["team/app"]}
    other = setting.token("pruner", "registry:catalog:*")
    assert setting.send("GET", "/v2/_catalog", other).status_code == 401


def test_the_registry_accepts_a_token_for_sixty_seconds_after_its_end(setting: Setting) -> None:
    try:
        setting.tokens.lifetime = 2 - REGISTRY_LEEWAY_SECONDS
        token = setting.token("puller", "repository:team/app:pull")
    finally:
        setting.tokens.lifetime = 300
    assert _claims(token)["exp"] < time.time()
    assert setting.send("GET", "/v2/team/app/manifests/v1", token).status_code == 200
    time.sleep(2.2)
    assert setting.send("GET", "/v2/team/app/manifests/v1", token).status_code == 401


def test_crane_finds_its_way_through_the_challenge(setting: Setting, tmp_path: Path) -> None:
    host = setting.registry.removeprefix("http://")
    crane = Crane(tmp_path, credentials={host: ("puller", "p1")})
    assert crane.digest(f"{host}/team/app:v1") == setting.digest
    assert setting.tokens.scopes["repository:team/app:pull"] >= 1
    with pytest.raises(CraneError, match="401"):
        Crane(tmp_path, credentials={host: ("puller", "wrong")}).digest(f"{host}/team/app:v1")


def test_several_scopes_come_repeated_or_joined_by_a_space(tmp_path: Path) -> None:
    expected = [
        {"type": "repository", "name": "team/a", "actions": ["pull"]},
        {"type": "repository", "name": "team/b", "actions": ["delete", "pull"]},
    ]
    scopes = ("repository:team/a:pull", "repository:team/b:delete,pull")
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        for asked in (scopes, (" ".join(scopes),)):
            token = _ask(tokens, *asked, auth=("pruner", "p2")).json()["token"]
            assert _claims(token)["access"] == expected
        assert tokens.scopes == {scopes[0]: 2, scopes[1]: 2}


def test_only_what_is_granted_appears_in_the_token(tmp_path: Path) -> None:
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        scopes = ("repository:team/a:pull,push,delete", "repository:elsewhere/a:pull", "registry:catalog:*")
        token = _ask(tokens, *scopes, auth=("puller", "p1")).json()["token"]
        assert _claims(token)["access"] == [{"type": "repository", "name": "team/a", "actions": ["pull"]}]


def test_nobody_gets_a_token_for_nothing(tmp_path: Path) -> None:
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        answer = _ask(tokens, "repository:team/app:pull")
        assert (answer.status_code, _claims(answer.json()["token"])["access"]) == (200, [])


@pytest.mark.parametrize("auth", [("puller", "p2"), ("nobody", "p1"), ("", "")])
def test_a_wrong_login_is_refused(tmp_path: Path, auth: tuple[str, str]) -> None:
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        assert _ask(tokens, "repository:team/app:pull", auth=auth).status_code == 401


@pytest.mark.parametrize("key_name", ["token", "access_token"])
def test_the_answer_has_the_chosen_key_and_lifetime(tmp_path: Path, key_name: KeyName) -> None:
    with token_service(tmp_path, USERS, GRANTS, key_name=key_name, expires_in=7, lifetime=90) as tokens:
        answer = _ask(tokens, auth=("puller", "p1")).json()
        assert set(answer) == {key_name, "expires_in", "issued_at"}
        assert answer["expires_in"] == 7
        assert _claims(answer[key_name])["exp"] - time.time() == pytest.approx(90, abs=3)


def test_without_a_lifetime_the_answer_has_the_token_alone(tmp_path: Path) -> None:
    with token_service(tmp_path, USERS, GRANTS, expires_in=None) as tokens:
        assert set(_ask(tokens, auth=("puller", "p1")).json()) == {"token"}


def test_a_test_may_make_it_fail(tmp_path: Path) -> None:
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        tokens.failures += [503, 500]
        assert [_ask(tokens).status_code for _ in range(3)] == [503, 500, 200]


def test_a_client_that_drops_the_service_gets_no_token(tmp_path: Path) -> None:
    with token_service(tmp_path, USERS, GRANTS) as tokens:
        assert httpx.get(tokens.realm, trust_env=False).status_code == 400


def test_like_ibm_cloud_private_it_has_a_long_path_and_one_token_for_all_actions(tmp_path: Path) -> None:
    with icp_token_service(tmp_path / "tokens", USERS, GRANTS) as tokens:
        assert tokens.realm.endswith(ICP_PATH)
        with _registry("2", tmp_path, tokens) as own:
            answer = _ask(tokens, "repository:team/app:*", auth=("pruner", "p2")).json()
            assert set(answer) == {"token"}
            path = f"/v2/team/app/manifests/{own.digest}"
            assert own.send("GET", path, answer["token"]).status_code == 200
            assert own.send("DELETE", path, answer["token"]).status_code == 202
