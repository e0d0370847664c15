"""A person's login is looked for in a fixed order; the kubeconfig's token goes to the cluster's own registry only."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup.domain.run import Failure
from registry_cleanup.domain.trust import Endpoint, Host, RegistryHosts
from registry_cleanup.logins.cluster import ClusterLogin
from registry_cleanup.logins.options import LoginOptions
from registry_cleanup.logins.personal import PersonalLogin
from registry_cleanup.ports import Credential, CredentialKind, RunError

_URL = "https://registry.example"
_INTERNAL = "registry.example"


@dataclass
class _Cluster(ClusterLogin):
    hosts: RegistryHosts = field(default_factory=lambda: RegistryHosts(_INTERNAL))
    shown: str | None = "token"
    openshift: bool = True
    down: bool = False
    asked: int = 0

    @override
    async def registry_hosts(self) -> RegistryHosts:
        self.asked += 1
        if self.down:
            raise RunError(Failure("APIServerUnavailable", "no answer"))
        return self.hosts

    @override
    async def has_image_streams(self) -> bool:
        return self.openshift

    @override
    async def token(self) -> str | None:
        return self.shown

    @override
    async def service_ca(self, namespace: str) -> str | None:
        return f"CA of {namespace}"


def _login(
    home: Path,
    options: LoginOptions | None = None,
    cluster: ClusterLogin | None = None,
    url: str | None = _URL,
    **more: Any,  # noqa: ANN401 - as the login takes them
) -> PersonalLogin:
    environment = {"HOME": str(home), "PATH": "", "XDG_RUNTIME_DIR": str(home / "run")}
    more.setdefault("insecure", False)
    return PersonalLogin(options or LoginOptions(), url, environment=environment, cluster=cluster, **more)


def _keep(file: Path, user: str, host: str = "registry.example") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{user}:secret".encode()).decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return file


async def _credential(login: PersonalLogin) -> Credential:
    found = await login.credential()
    assert found is not None
    return found


async def test_the_order_is_options_docker_podman_and_then_the_kubeconfig(tmp_path: Path) -> None:
    places = {
        "docker": ".docker/config.json",
        "runtime": "run/containers/auth.json",
        "config": ".config/containers/auth.json",
    }
    cluster = _Cluster()
    for user, place in places.items():
        _keep(tmp_path / place, user)
    given = LoginOptions("given", "secret")
    assert (await _credential(_login(tmp_path, given, cluster))).username == "given"
    for user, place in places.items():
        assert (await _credential(_login(tmp_path, None, cluster))).username == user
        (tmp_path / place).unlink()
    assert cluster.asked == 0
    assert (await _credential(_login(tmp_path, None, cluster))).kind is CredentialKind.KUBECONFIG
    assert await _login(tmp_path).credential() is None


async def test_a_file_that_is_named_replaces_the_usual_places_but_not_the_kubeconfig(tmp_path: Path) -> None:
    _keep(tmp_path / ".docker" / "config.json", "docker")
    other = _keep(tmp_path / "mine.json", "mine", "elsewhere.example")
    assert await _login(tmp_path, LoginOptions(registry_config=other)).credential() is None
    found = await _credential(_login(tmp_path, LoginOptions(registry_config=other), _Cluster()))
    assert found.kind is CredentialKind.KUBECONFIG
    nothing = LoginOptions(registry_config=Path("/dev/null"))
    assert await _login(tmp_path, nothing).credential() is None
    gone = _login(tmp_path, LoginOptions(registry_config=tmp_path / "not-there"))
    with pytest.raises(RunError, match="there is no such file"):
        await gone.credential()


@pytest.mark.parametrize("content", [b"\xff", b"{", b"x" * (4 * 1024 * 1024 + 1)], ids=["no-text", "no-json", "huge"])
async def test_a_file_that_cannot_be_read_is_no_absence_of_a_login(tmp_path: Path, content: bytes) -> None:
    file = _keep(tmp_path / ".docker" / "config.json", "x")
    file.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read") as caught:
        await _login(tmp_path, None, _Cluster()).credential()
    assert caught.value.failure.reason == "LoginFileInvalid"


async def test_a_login_goes_to_its_own_host_and_to_those_that_the_person_or_the_settings_name(tmp_path: Path) -> None:
    options = LoginOptions("alice", "secret", token_hosts=("auth.example:8443",))
    trust = (await _credential(_login(tmp_path, options, trusted=[Host("trusted.example")]))).trust
    for url in (_URL, "https://registry.example:8443", "https://auth.example:8443", "https://trusted.example"):
        assert trust.refusal(Endpoint.of(url)) is None
    for url in ("https://auth.example", "https://other.example", "http://registry.example"):
        assert trust.refusal(Endpoint.of(url)) is not None


@pytest.mark.parametrize(("by_policy", "by_person"), [(True, False), (False, True)])
async def test_a_password_goes_over_http_where_policy_or_person_say_so(
    tmp_path: Path, by_policy: bool, by_person: bool
) -> None:
    options = LoginOptions("alice", "secret", insecure=by_person)
    trust = (await _credential(_login(tmp_path, options, insecure=by_policy))).trust
    assert trust.allow_http


@pytest.mark.parametrize(
    ("url", "cluster", "note"),
    [
        ("https://other.example", _Cluster(), "names registry.example as its registry"),
        ("https://other.example", _Cluster(openshift=False), None),
        ("https://other.example", _Cluster(RegistryHosts(None, forbidden=True)), "does not tell you"),
        (
            "https://registry.example:5000",
            _Cluster(RegistryHosts("registry.example:443")),
            "names registry.example:443",
        ),
        ("http://registry.example", _Cluster(), None),
        (_URL, _Cluster(shown=None), "without a token, such as by a client certificate"),
        (_URL, _Cluster(down=True), "could not be asked: no answer"),
    ],
)
async def test_the_kubeconfigs_token_is_for_what_the_cluster_names_over_https(
    tmp_path: Path, url: str, cluster: _Cluster, note: str | None
) -> None:
    login = _login(tmp_path, None, cluster, url)
    assert await login.credential() is None
    assert (note or "docker login") in login.words.no_login
    assert "oc whoami" not in login.words.no_login or note is not None


async def test_the_kubeconfigs_token_goes_to_no_other_host_and_never_over_http(tmp_path: Path) -> None:
    found = await _credential(_login(tmp_path, None, _Cluster(RegistryHosts(_INTERNAL, ("route.example",)))))
    assert found.secret == "token"
    assert "token" not in repr(found).replace("kubeconfig's token", "")
    assert found.trust.refusal(Endpoint.of("https://route.example")) is None
    for url in ("https://other.example", "http://registry.example"):
        assert found.trust.refusal(Endpoint.of(url)) is not None


async def test_a_policy_that_believes_any_certificate_does_not_get_the_kubeconfigs_token_for_that(
    tmp_path: Path,
) -> None:
    login = _login(tmp_path, None, _Cluster(), insecure=True)
    assert await login.credential() is None
    assert "with --insecure only" in login.words.no_login
    login = _login(tmp_path, LoginOptions(insecure=True), _Cluster(), insecure=True)
    assert (await _credential(login)).kind is CredentialKind.KUBECONFIG


async def test_a_login_that_was_replaced_meanwhile_is_read_again_and_one_that_is_wrong_only_once(
    tmp_path: Path,
) -> None:
    file = _keep(tmp_path / ".docker" / "config.json", "old")
    login = _login(tmp_path)
    old = await _credential(login)
    _keep(file, "new")
    assert await login.renew(old)
    new = await _credential(login)
    assert new.username == "new"
    assert await login.renew(old)
    assert not await login.renew(new)
    file.unlink()
    assert not await login.renew(new)
    assert await login.credential() == new


async def test_what_was_given_is_not_looked_for_anew(tmp_path: Path) -> None:
    login = _login(tmp_path, LoginOptions("alice", "secret"))
    assert not await login.renew(await _credential(login))


async def test_who_is_to_be_anonymous_shows_nothing(tmp_path: Path) -> None:
    _keep(tmp_path / ".docker" / "config.json", "alice")
    login = _login(tmp_path, LoginOptions("given", "secret"), _Cluster(), anonymous=True)
    assert await login.credential() is None


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        (None, "--kubeconfig"),
        (_Cluster(RegistryHosts(None)), "names none"),
        (_Cluster(RegistryHosts(None, forbidden=True)), "you may read neither"),
    ],
)
async def test_a_registry_that_nobody_names_is_told(tmp_path: Path, cluster: _Cluster | None, told: str) -> None:
    with pytest.raises(RunError, match=told):
        await _login(tmp_path, None, cluster, None).registry_url()


async def test_the_cluster_says_where_its_registry_is_and_whose_certificate_to_believe(tmp_path: Path) -> None:
    hosts = RegistryHosts("localhost:5000", ("route.example",))
    login = _login(tmp_path, LoginOptions(ca_bundle="own"), _Cluster(hosts), None, namespace="team")
    url = await login.registry_url()
    assert url == "https://localhost:5000"
    assert login.known_as is None
    assert await login.ca_bundle(Endpoint.of(url)) == "own\nCA of team"
    assert await _login(tmp_path, None, _Cluster()).ca_bundle(Endpoint.of(_URL)) is None


async def test_outside_the_cluster_its_registry_is_reached_by_its_route(tmp_path: Path) -> None:
    internal = "image-registry.openshift-image-registry.svc:5000"
    login = _login(tmp_path, None, _Cluster(RegistryHosts(internal, ("route.example",))), None)
    assert await login.registry_url() == "https://route.example"
    assert login.known_as == internal


def test_what_was_given_for_one_registry_is_for_no_other() -> None:
    options = LoginOptions("alice", "secret", Path("file"), "ca", insecure=True, token_hosts=("auth.example",))
    assert options.elsewhere() == LoginOptions(registry_config=Path("file"), ca_bundle="ca")
    assert "secret" not in repr(options)
