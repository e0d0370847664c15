"""No host receives a credential that was not meant for it, whatever a registry says.

All servers are on loopback; one that is called `localhost` is another host than one called `127.0.0.1`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from registry_cleanup.ports import Credential, CredentialKind
from registry_cleanup.registry.errors import (
    LoginFailedError,
    MalformedAnswerError,
    NotARegistryError,
    RegistryError,
    UntrustedHostError,
)
from tests.support.certificates import ServerCertificate, certificate_authority
from tests.support.clients import dated, opened, password, resolved, service_account, trust
from tests.support.faulty import FaultyRegistry, faulty_registry, links_to, redirects
from tests.support.http import Received, serve
from tests.support.images import push_image
from tests.support.registries import TokenAuth, distribution
from tests.support.token_service import TokenService, token_service

USERS = {"user": "secret"}
GRANTS = {"user": {"team/*": {"pull"}, "registry:catalog": {"*"}}}


@dataclass(frozen=True)
class Host:
    """A server that would like to have a credential.

    Attributes:
        url: By the name `localhost`.
        requests: What it received.
    """

    url: str
    requests: list[Received]

    @property
    def name(self) -> str:
        return self.url.partition("//")[2]

    @property
    def here(self) -> str:
        """By address: the same host as the registry, another port."""
        return self.url.replace("localhost", "127.0.0.1")


@contextmanager
def _evil(certificate: ServerCertificate | None = None) -> Iterator[Host]:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "x", "repositories": ["evil/app"], "tags": ["evil"], "created": "2026"})

    with serve(handle, certificate=certificate) as server:
        yield Host(server.url.replace("127.0.0.1", "localhost"), server.requests)


@pytest.fixture
def evil() -> Iterator[Host]:
    with _evil() as host:
        yield host


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry that wants a password, behind a proxy."""
    with (
        distribution("3", tmp_path, htpasswd=USERS) as server,
        faulty_registry(server.url) as proxy,
    ):
        push_image(server.url, "team/app", ["v1"], auth=("user", "secret"))
        yield proxy


@contextmanager
def _with_realm(folder: Path, realm: str, certificate: ServerCertificate | None = None) -> Iterator[str]:
    """Run a registry whose challenge names `realm`."""
    with token_service(folder / "tokens", USERS, GRANTS) as tokens:
        auth = TokenAuth(realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
        with distribution("3", folder / "registry", tls=certificate, token=auth) as server:
            yield server.url


def _authorizations(requests: list[Received]) -> set[str | None]:
    return {request.authorization for request in requests}


async def _open(
    url: str, credential: Credential | None, *, token_url: str | None = None, ca_bundle: str | None = None
) -> None:
    async with opened(url, credential, token_url=token_url, ca_bundle=ca_bundle):
        return


# Token services


async def test_a_realm_on_another_host_gets_nothing(tmp_path: Path, evil: Host) -> None:
    hint = r"'localhost'.*registrycleanup\.dev/token-hosts"
    with _with_realm(tmp_path, f"{evil.url}/token") as url, pytest.raises(UntrustedHostError, match=hint) as caught:
        await _open(url, password("user", "secret", url))
    assert caught.value.failure.mendable
    assert "secret'" not in str(caught.value)
    assert evil.requests == []


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenService]:
    with token_service(tmp_path / "own-tokens", USERS, GRANTS, host="localhost") as running:
        yield running


@pytest.mark.parametrize("listed", ["localhost", "localhost:port"])
async def test_a_realm_that_the_secret_lists_gets_the_password(
    tmp_path: Path, tokens: TokenService, listed: str
) -> None:
    auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
    port = tokens.realm.split(":")[2].partition("/")[0]
    with distribution("3", tmp_path / "registry", token=auth) as server:
        credential = password("user", "secret", server.url, listed.replace("port", port))
        async with opened(server.url, credential) as registry:
            assert await registry.repositories() == []
    assert tokens.requests


async def test_a_listed_host_with_a_port_is_trusted_on_that_port_alone(tmp_path: Path, tokens: TokenService) -> None:
    auth = TokenAuth(tokens.realm, tokens.service, tokens.issuer, tokens.rootcertbundle, tokens.jwks)
    with distribution("3", tmp_path / "registry", token=auth) as server, pytest.raises(UntrustedHostError):
        await _open(server.url, password("user", "secret", server.url, "localhost:1"))
    assert tokens.requests == []


async def test_a_realm_over_http_gets_nothing_from_a_login_over_https(tmp_path: Path, evil: Host) -> None:
    authority = certificate_authority(tmp_path / "ca")
    with (
        _with_realm(tmp_path, f"{evil.here}/token", authority.issue("127.0.0.1")) as url,
        pytest.raises(UntrustedHostError, match=r"not https.*spec\.registry\.insecure"),
    ):
        await _open(url, password("user", "secret", url, allow_http=False), ca_bundle=authority.ca_file.read_text())
    assert evil.requests == []


async def test_a_token_url_on_another_host_gets_nothing(tmp_path: Path, evil: Host, tokens: TokenService) -> None:
    hint = r"registrycleanup\.dev/token-hosts"
    with _with_realm(tmp_path, tokens.realm) as url, pytest.raises(UntrustedHostError, match=hint):
        await _open(url, password("user", "secret", url), token_url=f"{evil.url}/token")
    assert (evil.requests, tokens.requests) == ([], [])


@pytest.mark.parametrize(
    ("realm", "error"),
    [
        ("http://169.254.169.254/latest/meta-data", UntrustedHostError),
        ("http://[::ffff:169.254.169.254]/", UntrustedHostError),
        ("http://user@127.0.0.1/", MalformedAnswerError),
        ("file:///etc/passwd", MalformedAnswerError),
        ("http://[bad/", MalformedAnswerError),
        ("http://127.0.0.1:99999/", MalformedAnswerError),
        ("", MalformedAnswerError),
    ],
)
@pytest.mark.parametrize("anonymous", [True, False])
async def test_a_realm_that_is_no_place_for_tokens_is_never_asked(
    realm: str, error: type[RegistryError], anonymous: bool
) -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with serve(handle) as server, pytest.raises(error):
        await _open(server.url, None if anonymous else password("user", "secret", server.url))


async def test_a_token_of_a_secret_never_goes_to_a_token_service(tmp_path: Path, evil: Host) -> None:
    with _with_realm(tmp_path, f"{evil.here}/token") as url:
        credential = Credential(CredentialKind.TOKEN, "token", "secret", trust(url))
        with pytest.raises(RegistryError):
            await _open(url, credential)
    assert evil.requests == []


# A ServiceAccount's token


async def test_a_service_accounts_token_never_goes_over_http(closed: FaultyRegistry) -> None:
    with pytest.raises(UntrustedHostError, match="ServiceAccount"):
        await _open(closed.url, service_account("secret", "127.0.0.1"))
    assert _authorizations(closed.requests) == {None}


@pytest.mark.parametrize("path", ["/openshift/token", "/openshift/token/x", "/token"])
async def test_a_foreign_registry_cannot_have_a_trusted_service_fetch_the_token_for_it(
    tmp_path: Path, path: str
) -> None:
    # OpenShift's token endpoint returns the token that it was sent, so the realm's host is not all that counts.
    authority = certificate_authority(tmp_path)
    certificate = authority.issue("127.0.0.1", "localhost")
    realm: list[str] = []

    async def challenge(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm[0]}"'})

    with _evil(certificate) as trusted, serve(challenge, certificate=certificate) as foreign:
        realm.append(trusted.url + path)
        with pytest.raises(UntrustedHostError, match="ServiceAccount"):
            await _open(foreign.url, service_account("secret", trusted.name), ca_bundle=authority.ca_file.read_text())
    assert _authorizations(foreign.requests) == {None}
    assert trusted.requests == []


@pytest.mark.parametrize(
    ("path", "seen"),
    [("/openshift/token", True), ("/token", False), (None, False)],
    ids=["openshift", "bearer", "basic"],
)
async def test_a_kubeconfigs_token_is_shown_to_openshifts_endpoint_and_to_no_other(
    tmp_path: Path, path: str | None, seen: bool
) -> None:
    """Also where it is the same host: what is no registry of OpenShift has no use for it."""
    authority = certificate_authority(tmp_path)

    async def challenge(request: web.Request) -> web.StreamResponse:
        realm = "Basic realm=x" if path is None else f'Bearer realm="https://{request.host}{path}"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    with serve(challenge, certificate=authority.issue("127.0.0.1")) as server:
        token = Credential(CredentialKind.KUBECONFIG, "kubeconfig", "secret", trust(server.url, allow_http=False))
        with pytest.raises(LoginFailedError):
            await _open(server.url, token, ca_bundle=authority.ca_file.read_text())
    assert (_authorizations(server.requests) != {None}) == seen


# Pages and redirects


@pytest.mark.parametrize("same_host", [True, False], ids=["another-port", "another-host"])
async def test_a_next_page_elsewhere_is_not_asked_for(closed: FaultyRegistry, evil: Host, same_host: bool) -> None:
    closed.inject(links_to(f"{evil.here if same_host else evil.url}/v2/_catalog?last=a"), path="/v2/_catalog")
    async with opened(closed.url, password("user", "secret", closed.url, "localhost")) as registry:
        with pytest.raises(MalformedAnswerError):
            await registry.repositories()
    assert evil.requests == []


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", ".*/tags/list", ".*/manifests/.*"])
async def test_a_redirect_of_a_request_is_not_followed(closed: FaultyRegistry, evil: Host, path: str) -> None:
    closed.inject(redirects(f"{evil.url}/v2/"), path=path)

    async def read_everything() -> None:
        async with opened(closed.url, password("user", "secret", closed.url, "localhost")) as registry:
            await registry.repositories()
            await resolved(registry, "team/app")

    with pytest.raises((MalformedAnswerError, NotARegistryError)):
        await read_everything()
    assert evil.requests == []


async def test_a_redirect_of_a_blob_is_followed_without_the_credential(closed: FaultyRegistry, evil: Host) -> None:
    closed.inject(redirects(f"{evil.url}/blob"), path=".*/blobs/.*")
    async with opened(closed.url, password("user", "secret", closed.url, "localhost")) as registry:
        with pytest.raises(MalformedAnswerError):  # and what it serves is no such blob
            await dated(registry, "team/app")
    assert [(request.path, request.authorization) for request in evil.requests] == [("/blob", None)]


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/", "http://[bad/", "ftp://localhost/", "", "http://localhost:99999/"],
)
async def test_a_redirect_to_no_place_for_blobs_is_not_followed(closed: FaultyRegistry, location: str) -> None:
    closed.inject(redirects(location), path=".*/blobs/.*")
    async with opened(closed.url, password("user", "secret", closed.url)) as registry:
        with pytest.raises(MalformedAnswerError):
            await dated(registry, "team/app")


async def test_a_blob_store_over_http_gets_no_request_of_an_https_registry(tmp_path: Path, evil: Host) -> None:
    authority = certificate_authority(tmp_path / "ca")
    with (
        distribution("3", tmp_path) as server,
        faulty_registry(server.url, certificate=authority.issue("127.0.0.1")) as proxy,
    ):
        push_image(server.url, "team/app", ["v1"])
        proxy.inject(redirects(f"{evil.url}/blob"), path=".*/blobs/.*")
        async with opened(proxy.url, ca_bundle=authority.ca_file.read_text()) as registry:
            with pytest.raises(MalformedAnswerError, match="not followed"):
                await dated(registry, "team/app")
    assert evil.requests == []


async def test_a_redirected_token_service_is_not_followed(tmp_path: Path, evil: Host) -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"{evil.url}/token"})

    with (
        serve(handle) as service,
        _with_realm(tmp_path, f"{service.url}/token") as url,
        pytest.raises(RegistryError),
    ):
        await _open(url, password("user", "secret", url, "localhost"))
    assert evil.requests == []
