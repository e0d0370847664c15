"""Our client logs in to real registries with a password, and believes the certificates that it is told to."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_cleanup.ports import Credential, CredentialKind, RunError
from registry_cleanup.registry.errors import LoginFailedError, NotARegistryError, TLSError, UnreachableError
from tests.support.certificates import certificate_authority
from tests.support.clients import QUICK, HandClock, RotatedSource, opened, password, resolved, trust
from tests.support.faulty import changes_headers, faulty_registry
from tests.support.images import push_image
from tests.support.processes import free_port
from tests.support.registries import RegistryServer, Version, distribution

USER, PASSWORD = "user", "pass:word ü"


@dataclass(frozen=True)
class Setting:
    """A registry that wants a password, over https.

    Attributes:
        server: The registry.
        ca: The certificate of its authority, as a ConfigMap holds it.
        digest: Of `team/app:v1`.
    """

    server: RegistryServer
    ca: str
    digest: str


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    version: Version = request.param
    folder = tmp_path_factory.mktemp(f"logins-{version}")
    authority = certificate_authority(folder / "ca")
    certificate = authority.issue("127.0.0.1", "localhost")
    with distribution(version, folder, tls=certificate, htpasswd={USER: PASSWORD}) as server:
        digest = push_image(server.url, "team/app", ["v1"], auth=(USER, PASSWORD), verify=authority.client_context())
        yield Setting(server, authority.ca_file.read_text(), digest)


# Logins


async def test_a_registry_that_wants_no_login_is_read_anonymously(registry: RegistryServer) -> None:
    digest = push_image(registry.url, "team/app", ["v1"])
    async with opened(registry.url) as client:
        assert await client.repositories() == ["team/app"]
        assert (await resolved(client, "team/app")).tags == {"v1": digest}


async def test_a_password_logs_in_over_https(setting: Setting) -> None:
    url = setting.server.url
    credential = password(USER, PASSWORD, url, allow_http=False)
    async with opened(url, credential, ca_bundle=setting.ca) as client:
        assert await client.repositories() == ["team/app"]
        assert (await resolved(client, "team/app")).tags == {"v1": setting.digest}


@pytest.mark.parametrize(
    ("user", "secret", "hint"),
    [
        (USER, "wrong", "check the Secret"),
        ("nobody", PASSWORD, "check the Secret"),
        (None, "", "spec.registry.secretRef"),
    ],
    ids=["wrong-password", "unknown-user", "no-credential"],
)
async def test_a_wrong_or_missing_password_is_a_failed_login(
    setting: Setting, user: str | None, secret: str, hint: str
) -> None:
    credential = None if user is None else password(user, secret, setting.server.url)
    with pytest.raises(LoginFailedError, match=hint) as caught:
        async with opened(setting.server.url, credential, ca_bundle=setting.ca):
            pass
    assert caught.value.failure.mendable
    assert caught.value.failure.stops_run
    assert "wrong" not in str(caught.value)


async def test_a_password_that_replaced_another_is_read_once_for_all_requests_that_were_refused(
    setting: Setting,
) -> None:
    url = setting.server.url
    source = RotatedSource(password(USER, "old", url), password(USER, PASSWORD, url))
    async with opened(url, source, ca_bundle=setting.ca) as client:
        assert (await resolved(client, "team/app")).tags == {"v1": setting.digest}
    assert source.reads == 1


async def test_a_password_that_replaced_another_and_is_as_wrong_is_a_failed_login(setting: Setting) -> None:
    url = setting.server.url
    source = RotatedSource(password(USER, "old", url), password(USER, "wrong", url))
    with pytest.raises(LoginFailedError, match="check the Secret"):
        async with opened(url, source, ca_bundle=setting.ca):
            pass
    assert source.reads == 1


async def test_a_token_of_a_secret_goes_to_a_registry_that_wants_a_password(setting: Setting) -> None:
    # Some registries take a token as the password of any user.
    credential = Credential(CredentialKind.TOKEN, USER, PASSWORD, trust(setting.server.url))
    async with opened(setting.server.url, credential, ca_bundle=setting.ca) as client:
        assert await client.repositories() == ["team/app"]


async def test_the_registrys_clock_is_compared_with_ours(registry3: RegistryServer) -> None:
    ahead = HandClock(datetime.now(UTC) + timedelta(hours=1))
    async with opened(registry3.url, clock=ahead) as client:
        offset = await client.clock_offset()
    assert offset is not None
    assert abs(offset + timedelta(hours=1)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("date", "known"),
    [("Thu, 01 Jan 2026 00:00:00 -0000", True), ("yesterday", False), (None, False)],
)
async def test_a_date_that_nobody_understands_is_no_clock(
    registry3: RegistryServer, date: str | None, known: bool
) -> None:
    with faulty_registry(registry3.url) as proxy:
        # The proxy's server adds a date of its own to an answer that has none.
        proxy.inject(changes_headers({"Date": "" if date is None else date}))
        async with opened(proxy.url) as client:
            assert (await client.clock_offset() is not None) == known


# Certificates


async def test_an_unknown_authority_is_told_with_what_to_do(setting: Setting) -> None:
    with pytest.raises(TLSError, match=r"spec\.registry\.caConfigMapRef") as caught:
        async with opened(setting.server.url):
            pass
    assert caught.value.failure.mendable


async def test_another_authority_than_the_registrys_is_not_enough(setting: Setting, tmp_path: Path) -> None:
    other = certificate_authority(tmp_path).ca_file.read_text()
    with pytest.raises(TLSError):
        async with opened(setting.server.url, ca_bundle=other):
            pass


async def test_a_certificate_for_another_host_is_refused(setting: Setting, tmp_path: Path) -> None:
    authority = certificate_authority(tmp_path / "ca")
    certificate = authority.issue("registry.test")
    with faulty_registry(setting.server.url, certificate=certificate) as proxy, pytest.raises(TLSError):
        async with opened(proxy.url, ca_bundle=authority.ca_file.read_text()):
            pass


async def test_an_insecure_registry_may_have_any_certificate(setting: Setting) -> None:
    credential = password(USER, PASSWORD, setting.server.url)
    async with opened(setting.server.url, credential, insecure=True) as client:
        assert await client.repositories() == ["team/app"]


async def test_a_bundle_without_a_certificate_is_told_with_its_field(setting: Setting) -> None:
    for bundle in ("", "nothing", "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"):
        with pytest.raises(RunError, match=r"spec\.registry\.caConfigMapRef") as caught:
            async with opened(setting.server.url, ca_bundle=bundle):
                pass
        assert caught.value.failure.reason == "InvalidCABundle"


async def test_a_registry_that_speaks_http_is_no_https_registry(registry3: RegistryServer) -> None:
    with pytest.raises(TLSError, match=r"write http:// in spec\.registry\.url, with insecure: true"):
        async with opened(registry3.url.replace("http:", "https:")):
            pass


async def test_a_registry_that_speaks_https_is_no_http_registry(setting: Setting) -> None:
    with pytest.raises(NotARegistryError, match=r"check spec\.registry\.url"):
        async with opened(setting.server.url.replace("https:", "http:")):
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "registry.invalid"])
async def test_a_registry_that_is_not_there_cannot_be_reached(host: str) -> None:
    with pytest.raises(UnreachableError, match=r"check spec\.registry\.url") as caught:
        async with opened(f"http://{host}:{free_port()}", limits=QUICK):
            pass
    assert not caught.value.failure.reachable
