"""Our client gets tokens for real Distributions from a token service, as Docker's specification has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.ports import Credential, CredentialKind
from registry_cleanup.registry.errors import (
    DeniedError,
    LoginFailedError,
    MalformedAnswerError,
    ServerFaultError,
)
from tests.support.clients import HandClock, RotatedSource, dated, deletes, opened, password, resolved, trust
from tests.support.faulty import Fault, FaultyRegistry, Forward, answers, before, faulty_registry
from tests.support.images import push_image
from tests.support.processes import free_port
from tests.support.registries import RegistryServer, TokenAuth, Version, distribution
from tests.support.token_service import (
    ANONYMOUS,
    ICP_SERVICE,
    KeyName,
    TokenService,
    icp_token_service,
    token_service,
)

USERS = {"pruner": "p1", "puller": "p2", "nobody": "p3"}
GRANTS = {
    "pruner": {"team/*": {"pull", "delete"}, "registry:catalog": {"*"}},
    "puller": {"team/*": {"pull"}},
    "nobody": {},
    ANONYMOUS: {"public/*": {"pull"}},
}
CATALOG, PULL, DELETE = "registry:catalog:*", "repository:team/app:pull", "repository:team/app:delete,pull"


@dataclass(frozen=True)
class Setting:
    """A registry that sends its clients to a token service, behind a proxy.

    Attributes:
        server: The registry.
        proxy: What clients talk to.
        tokens: The service, which tests change.
        digests: By tag, of `team/app`.
    """

    server: RegistryServer
    proxy: FaultyRegistry
    tokens: TokenService
    digests: dict[str, str]

    @property
    def url(self) -> str:
        return self.proxy.url

    def login(self, user: str, secret: str | None = None) -> Credential:
        return password(user, USERS[user] if secret is None else secret, self.url)


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def _setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    version: Version = request.param
    folder = tmp_path_factory.mktemp(f"tokens-{version}")
    with token_service(folder / "tokens", USERS, GRANTS) as tokens, _registry(version, folder, tokens) as found:
        yield found


@pytest.fixture
def setting(_setting: Setting) -> Setting:
    _setting.proxy.heal()
    _setting.proxy.requests.clear()
    tokens = _setting.tokens
    tokens.requests.clear()
    tokens.failures.clear()
    tokens.key_name, tokens.expires_in, tokens.lifetime = "token", 300, 300
    return _setting


@contextmanager
def _registry(version: Version, folder: Path, tokens: TokenService, realm: str | None = None) -> Iterator[Setting]:
    storage = folder / "storage"
    with distribution(version, folder / "open", storage=storage) as server:
        digests = {f"v{n}": push_image(server.url, "team/app", [f"v{n}"], seed=str(n)) for n in range(8)}
        push_image(server.url, "public/app", ["v1"])
    auth = TokenAuth(realm or tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
    with (
        distribution(version, folder / "closed", storage=storage, token=auth) as server,
        faulty_registry(server.url) as proxy,
    ):
        yield Setting(server, proxy, tokens, digests)


async def test_a_token_is_fetched_with_what_replaced_the_password(setting: Setting) -> None:
    source = RotatedSource(setting.login("pruner", "old"), setting.login("pruner"))
    async with opened(setting.url, source) as registry:
        assert (await resolved(registry, "team/app")).tags == setting.digests
    assert source.reads == 1


async def test_a_refusal_of_what_a_token_does_not_grant_reads_no_secret(setting: Setting) -> None:
    source = RotatedSource(setting.login("nobody"), setting.login("pruner"))
    async with opened(setting.url, source) as registry:
        with pytest.raises(DeniedError):
            await resolved(registry, "team/app")
    assert source.reads == 0


@pytest.mark.parametrize("key_name", ["token", "access_token"])
async def test_one_token_is_fetched_for_each_scope(setting: Setting, key_name: KeyName) -> None:
    setting.tokens.key_name = key_name
    async with opened(setting.url, setting.login("pruner")) as registry:
        assert await registry.repositories() == ["public/app", "team/app"]
        assert (await resolved(registry, "team/app")).tags == setting.digests
        assert len((await dated(registry, "team/app")).tags) == 8
        expected = Deletion.BY_DIGEST if setting.server.version == "2" else Deletion.BY_TAG
        assert await deletes(registry, "team/app") is expected
    assert setting.tokens.scopes == {CATALOG: 1, PULL: 1, DELETE: 1}


@pytest.mark.parametrize(
    ("expires_in", "later", "fetched"),
    [
        (300, timedelta(seconds=289), 1),
        # Before it ends, not after: a request must not start with a token that ends on the way.
        (300, timedelta(seconds=291), 2),
        # Docker's specification: without `expires_in` it is 60 seconds.
        (None, timedelta(seconds=49), 1),
        (None, timedelta(seconds=51), 2),
    ],
)
async def test_a_token_is_renewed_before_it_ends(
    setting: Setting, expires_in: int | None, later: timedelta, fetched: int
) -> None:
    setting.tokens.expires_in = expires_in
    clock = HandClock(datetime.now(UTC))
    async with opened(setting.url, setting.login("puller"), clock=clock) as registry:
        await resolved(registry, "team/app")
        clock.move(later)
        await resolved(registry, "team/app")
    assert setting.tokens.scopes[PULL] == fetched


async def test_a_token_that_the_registry_no_longer_takes_is_renewed_once(setting: Setting) -> None:
    async with opened(setting.url, setting.login("puller")) as registry:
        setting.tokens.lifetime = -100
        setting.proxy.inject(
            before(lambda: setattr(setting.tokens, "lifetime", 300)), path="/v2/team/app/tags/list", times=1
        )
        assert (await resolved(registry, "team/app")).tags == setting.digests
    assert setting.tokens.scopes[PULL] == 2


async def test_requests_that_are_refused_together_share_the_next_token(setting: Setting) -> None:
    async with opened(setting.url, setting.login("puller"), concurrency=8) as registry:
        setting.proxy.inject(_revokes_the_first_token(), method="HEAD")
        assert (await resolved(registry, "team/app")).tags == setting.digests
    assert setting.tokens.scopes[PULL] == 2


def _revokes_the_first_token() -> Fault:
    first: list[str | None] = []

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        token = request.headers.get("Authorization")
        first.append(token)
        return web.Response(status=401) if token == first[0] else (await forward()).response()

    return fault


async def test_a_service_that_only_has_stale_tokens_is_not_asked_for_ever(setting: Setting) -> None:
    async with opened(setting.url, setting.login("puller")) as registry:
        setting.tokens.lifetime = -100
        with pytest.raises(DeniedError):
            await resolved(registry, "team/app")
    assert setting.tokens.scopes[PULL] == 2


async def test_a_token_of_a_secret_goes_to_the_registry_as_it_is(setting: Setting) -> None:
    credential = Credential(CredentialKind.TOKEN, "token", _token(setting), trust(setting.url))
    setting.tokens.requests.clear()
    async with opened(setting.url, credential) as registry:
        assert (await resolved(registry, "team/app")).tags == setting.digests
    assert setting.tokens.requests == []


def _token(setting: Setting) -> str:
    parameters = {"service": setting.tokens.service, "scope": PULL}
    answer = httpx.get(setting.tokens.realm, params=parameters, auth=("puller", USERS["puller"]), trust_env=False)
    token: str = answer.json()["token"]
    return token


@pytest.mark.parametrize("secret", ["", "a b", "\u00fc", "a\nb"])
async def test_a_token_of_a_secret_that_no_header_can_hold_is_a_failed_login(setting: Setting, secret: str) -> None:
    credential = Credential(CredentialKind.TOKEN, "token", secret, trust(setting.url))
    with pytest.raises(LoginFailedError, match="Secret"):
        async with opened(setting.url, credential):
            pass


async def test_a_token_that_grants_nothing_is_a_denial(setting: Setting) -> None:
    async with opened(setting.url, setting.login("nobody")) as registry:
        with pytest.raises(DeniedError, match=PULL) as caught:
            await resolved(registry, "team/app")
        assert caught.value.failure.mendable
        assert not caught.value.failure.stops_run
        with pytest.raises(DeniedError, match="catalog"):
            await registry.repositories()


async def test_who_may_not_delete_cannot_ask_what_can_be_deleted(setting: Setting) -> None:
    async with opened(setting.url, setting.login("puller")) as registry:
        assert await deletes(registry, "team/app") is Deletion.UNKNOWN


async def test_a_wrong_password_at_the_service_is_a_failed_login(setting: Setting) -> None:
    with pytest.raises(LoginFailedError, match="token service") as caught:
        async with opened(setting.url, setting.login("puller", "wrong")):
            pass
    assert not isinstance(caught.value, DeniedError)
    assert "wrong" not in str(caught.value)


async def test_without_a_credential_the_token_is_nobodys(setting: Setting) -> None:
    async with opened(setting.url) as registry:
        assert (await resolved(registry, "public/app")).size == 1
        with pytest.raises(LoginFailedError, match=r"spec\.registry\.secretRef"):
            await resolved(registry, "team/app")
    assert {request.authorization for request in setting.tokens.requests} == {None}


async def test_a_service_that_fails_once_is_asked_again(setting: Setting) -> None:
    setting.tokens.failures += [503, 500]
    async with opened(setting.url, setting.login("puller")) as registry:
        assert (await resolved(registry, "team/app")).size == 8


async def test_a_service_that_always_fails_is_a_fault_and_no_failed_login(setting: Setting) -> None:
    setting.tokens.failures += [503] * 20
    with pytest.raises(ServerFaultError) as caught:
        async with opened(setting.url, setting.login("puller")):
            pass
    assert "the test asked" not in str(caught.value)


@pytest.mark.parametrize("body", ['{"token":""}', '{"token":"a b"}', '{"token":"\\u00fc"}', '{"token":7}', "{}", "[]"])
async def test_what_no_header_can_hold_is_no_token(setting: Setting, body: str) -> None:
    with faulty_registry(setting.tokens.realm.removesuffix("/token")) as service:
        service.inject(answers(200, body, {"Content-Type": "application/json"}))
        with pytest.raises(MalformedAnswerError):
            async with opened(setting.url, setting.login("puller"), token_url=f"{service.url}/token"):
                pass


async def test_a_token_url_replaces_a_wrong_realm(tmp_path: Path) -> None:
    with icp_token_service(tmp_path / "tokens", USERS, GRANTS) as tokens:
        wrong = f"http://127.0.0.1:{free_port()}/image-manager/api/v1/auth/token"
        with _registry("2", tmp_path, tokens, wrong) as setting:
            async with opened(setting.url, setting.login("pruner"), token_url=tokens.realm) as registry:
                assert await registry.repositories() == ["public/app", "team/app"]
                assert (await resolved(registry, "team/app")).tags == setting.digests
                assert await deletes(registry, "team/app") is Deletion.BY_DIGEST
        assert {request.query["service"] for request in tokens.requests} == {ICP_SERVICE}
        assert tokens.scopes == {CATALOG: 1, PULL: 1, DELETE: 1}
