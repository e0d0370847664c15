"""Commands log in to real registries with what people have: options, files of Docker and Podman, credential helpers."""

import base64
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.binaries import binary
from tests.support.certificates import certificate_authority
from tests.support.command import environment, run
from tests.support.images import push_image
from tests.support.policies import days_ago
from tests.support.processes import free_port
from tests.support.registries import RegistryServer, TokenAuth, Version, distribution
from tests.support.token_service import ANONYMOUS, TokenService, token_service

USER, PASSWORD = "alice", "pass:word ü"
_BUILD = re.compile(r"\bbuild-\d+\b")
_BUILDS = {"build-1", "build-2", "build-3"}
_GRANTS = {USER: {"team/*": {"pull"}, "registry:catalog": {"*"}}, ANONYMOUS: {}}


@dataclass(frozen=True)
class Person:
    """Somebody with a home, who looks at one registry.

    Attributes:
        home: Of their own.
        server: The registry.
        ca_file: Of the authority that issued its certificate.
        variables: Of the environment.
    """

    home: Path
    server: RegistryServer
    ca_file: Path
    variables: dict[str, str]

    def plan(
        self, *options: str | Path, stdin: str | None = None, url: str | None = None, **registry: object
    ) -> subprocess.CompletedProcess[str]:
        """Plan what a policy for this registry would prune: every tag."""
        policy = {
            "apiVersion": "registrycleanup.dev/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": "builds", "namespace": "team"},
            "spec": {
                "registry": {"url": url or self.server.url, **registry},
                "repositories": {"include": ["team/*"]},
                "rules": [{"name": "all", "tags": {"include": [".*"]}, "olderThan": "1d"}],
                "minTagsPerRepository": 0,
                "inUse": {"enabled": False},
            },
        }
        file = self.home / "policy.json"  # which is YAML too
        file.write_text(json.dumps(policy))
        https = self.server.url.startswith("https:")
        trust: list[str | Path] = ["--certificate-authority", self.ca_file] if https else []
        arguments = ["-f", file, *trust, *options]
        return run(self.home, "plan", *arguments, stdin=stdin, limit=60.0, **self.variables)

    def keep(self, place: str, content: Mapping[str, object]) -> Path:
        """Write a file of logins below the home."""
        file = self.home / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    def helper(self, name: str, body: str) -> None:
        """Put a credential helper on the PATH, a script of Python that is told the server as `server`."""
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / f"docker-credential-{name}"
        start = f"#!{sys.executable}\nimport sys\nassert sys.argv[1:] == ['get']\nserver = sys.stdin.read()\n"
        program.write_text(start + textwrap.dedent(body))
        program.chmod(0o700)
        self.variables["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"

    def crane_lists(self, repository: str = "team/app") -> set[str]:
        """Return the tags that crane finds with the same files and helpers."""
        done = subprocess.run(
            [binary("crane"), "ls", f"{self.server.host}/{repository}"],
            env=environment(self.home, SSL_CERT_FILE=str(self.ca_file), **self.variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def protected(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RegistryServer, Path]]:
    """Run a registry that wants a password, over https."""
    version: Version = request.param
    folder = tmp_path_factory.mktemp(f"cli-logins-{version}")
    authority = certificate_authority(folder / "ca")
    certificate = authority.issue("127.0.0.1", "localhost")
    with distribution(version, folder, tls=certificate, htpasswd={USER: PASSWORD}) as server:
        for tag in sorted(_BUILDS):
            push_image(
                server.url,
                "team/app",
                [tag],
                created=days_ago(60),
                seed=tag,
                auth=(USER, PASSWORD),
                verify=authority.client_context(),
            )
        yield server, authority.ca_file


@pytest.fixture
def person(protected: tuple[RegistryServer, Path], tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    return Person(home, *protected, {})


@dataclass(frozen=True)
class _Tokens:
    server: RegistryServer
    service: TokenService


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Tokens]:
    """Run a registry that sends people to a token service, by another name of this machine."""
    version: Version = request.param
    folder = tmp_path_factory.mktemp(f"cli-tokens-{version}")
    with token_service(folder / "tokens", {USER: PASSWORD}, _GRANTS, host="localhost") as service:
        service.refresh_tokens = {"identity-of-alice": USER}
        auth = TokenAuth(service.realm, service.service, service.issuer, service.rootcertbundle, service.jwks)
        with distribution(version, folder / "open") as server:
            for tag in sorted(_BUILDS):
                push_image(server.url, "team/app", [tag], created=days_ago(60), seed=tag)
        with distribution(version, folder / "closed", storage=server.storage, token=auth) as server:
            yield _Tokens(server, service)


@pytest.fixture
def visitor(tokens: _Tokens, tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    tokens.service.requests.clear()
    return Person(home, tokens.server, Path(os.devnull), {})


def _auth(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _planned(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    return set(_BUILD.findall(done.stdout))


def _refused(done: subprocess.CompletedProcess[str], *hints: str, code: int = 4) -> None:
    """See that a command ended with one clear line, and no secret in it."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    line = done.stderr.strip()
    assert "\n" not in line, line
    assert line.startswith("Error: ")
    for hint in hints:
        assert hint in line
    assert PASSWORD not in line


# Where logins come from


def test_a_password_from_standard_input_logs_in(person: Person) -> None:
    done = person.plan("--username", USER, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert _planned(done) == _BUILDS


@pytest.mark.parametrize("variable", [False, True], ids=["home", "DOCKER_CONFIG"])
def test_what_docker_login_stored_logs_in(person: Person, variable: bool) -> None:
    place = "elsewhere" if variable else ".docker"
    person.keep(f"{place}/config.json", {"auths": {person.server.host: _auth()}})
    if variable:
        person.variables["DOCKER_CONFIG"] = str(person.home / place)
    assert _planned(person.plan()) == person.crane_lists() == _BUILDS


def test_what_podman_login_stored_logs_in(person: Person) -> None:
    person.variables["XDG_RUNTIME_DIR"] = str(person.home / "runtime")
    part = f"{person.server.host}/other"
    logins = {"auths": {part: _auth("nobody", "nothing"), person.server.host: _auth()}}
    person.keep("runtime/containers/auth.json", logins)
    assert _planned(person.plan()) == person.crane_lists() == _BUILDS


@pytest.mark.parametrize("by", ["--registry-config", "--authfile", "REGISTRY_AUTH_FILE"])
def test_a_file_that_is_named_comes_before_those_of_the_usual_places(person: Person, by: str) -> None:
    person.keep(".docker/config.json", {"auths": {person.server.host: _auth("nobody", "nothing")}})
    file = person.keep("mine.json", {"auths": {f"https://{person.server.host}/v1/": _auth()}})
    if by.startswith("--"):
        assert _planned(person.plan(by, file)) == _BUILDS
    else:
        person.variables[by] = str(file)
        assert _planned(person.plan()) == _BUILDS


def test_options_come_before_every_file(person: Person) -> None:
    file = person.keep("mine.json", {"auths": {person.server.host: _auth("nobody", "nothing")}})
    done = person.plan("-a", file, "-u", USER, "--password-stdin", stdin=PASSWORD)
    assert _planned(done) == _BUILDS


def test_the_credential_helper_of_a_registry_is_asked_for_it(person: Person) -> None:
    person.helper(
        "own", f"import json\nprint(json.dumps(dict(ServerURL=server, Username={USER!r}, Secret={PASSWORD!r})))"
    )
    person.keep(".docker/config.json", {"credHelpers": {person.server.host: "own"}})
    assert _planned(person.plan()) == person.crane_lists() == _BUILDS


def test_the_credential_store_is_asked_by_the_name_that_docker_login_left(person: Person) -> None:
    host = person.server.host
    person.helper(
        "store",
        f"""
        import json
        if server != {host!r}:
            print("credentials not found in native keychain")
            sys.exit(1)
        print(json.dumps(dict(ServerURL=server, Username={USER!r}, Secret={PASSWORD!r})))
        """,
    )
    person.keep(".docker/config.json", {"credsStore": "store", "auths": {host: {}}})
    assert _planned(person.plan()) == person.crane_lists() == _BUILDS


def test_the_login_of_another_port_of_the_same_host_is_not_used(person: Person) -> None:
    person.keep(".docker/config.json", {"auths": {"127.0.0.1:1": _auth(), "127.0.0.1": _auth()}})
    _refused(person.plan(), "LoginFailed", f"none for {person.server.host} was found", "docker login")


def test_a_registry_that_wants_no_login_needs_none(registry: RegistryServer, tmp_path: Path) -> None:
    push_image(registry.url, "team/app", ["build-1"], created=days_ago(60))
    home = tmp_path / "home"
    home.mkdir()
    person = Person(home, registry, Path(os.devnull), {})
    person.keep(".docker/config.json", {"credsStore": "not-there"})
    assert _planned(person.plan(insecure=True)) == {"build-1"}


# Token services


def test_a_token_service_on_another_host_gets_the_login_only_where_the_person_allows_it(
    visitor: Person, tokens: _Tokens
) -> None:
    visitor.keep(".docker/config.json", {"auths": {visitor.server.host: _auth()}})
    _refused(visitor.plan(insecure=True), "UntrustedTokenHost", "--token-host localhost")
    assert all(request.authorization is None for request in tokens.service.requests)
    assert _planned(visitor.plan("--token-host", "localhost", insecure=True)) == visitor.crane_lists() == _BUILDS


@pytest.mark.parametrize("by", ["identitytoken", "helper"])
def test_an_identity_token_is_exchanged_at_the_token_service(visitor: Person, tokens: _Tokens, by: str) -> None:
    if by == "helper":
        visitor.helper("cloud", 'print(\'{"Username": "<token>", "Secret": "identity-of-alice"}\')')
        visitor.keep(".docker/config.json", {"credHelpers": {visitor.server.host: "cloud"}})
    else:
        entry = {**_auth("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "identity-of-alice"}
        visitor.keep(".docker/config.json", {"auths": {visitor.server.host: entry}})
    done = visitor.plan("--token-host", "localhost", insecure=True)
    assert _planned(done) == visitor.crane_lists() == _BUILDS
    assert all("identity-of-alice" not in str(request.query) for request in tokens.service.requests)


def test_an_identity_token_that_is_no_good_is_told(visitor: Person) -> None:
    entry = {**_auth(USER, ""), "identitytoken": "expired"}
    visitor.keep(".docker/config.json", {"auths": {visitor.server.host: entry}})
    done = visitor.plan("--token-host", "localhost", insecure=True)
    _refused(done, "LoginFailed", "token service does not accept", ".docker/config.json", "renew it there")


def test_a_wrong_password_at_a_token_service_is_told(visitor: Person) -> None:
    done = visitor.plan("-u", USER, "--password-stdin", "--token-host", "localhost", stdin="wrong", insecure=True)
    _refused(done, "LoginFailed", "token service does not accept", "check --username")


def test_who_has_no_login_is_told_so_where_the_token_service_grants_nothing(visitor: Person) -> None:
    _refused(visitor.plan(insecure=True), "LoginFailed", "the registry wants a login", "docker login")


# What goes wrong


def test_a_wrong_password_is_told_with_where_it_is_from(person: Person) -> None:
    file = person.keep(".docker/config.json", {"auths": {person.server.host: _auth(password="wrong")}})
    _refused(person.plan(), "LoginFailed", "does not accept the user name and password", str(file), "renew it there")
    done = person.plan("-u", USER, "--password-stdin", stdin="wrong")
    _refused(done, "LoginFailed", "check --username and what --password-stdin reads")


def test_the_policys_own_login_is_not_the_persons(person: Person) -> None:
    done = person.plan(secretRef={"name": "pruner"})
    _refused(done, "none for", "(the policy's secretRef is for the operator; a command takes your own)")
    person.keep(".docker/config.json", {"auths": {person.server.host: _auth()}})
    done = person.plan(secretRef={"name": "pruner"}, caConfigMapRef={"name": "ca"})
    assert _planned(done) == _BUILDS
    assert "secretRef" not in done.stderr


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (None, "the credential helper docker-credential-own is not on the PATH"),
        ("print('the keyring is locked')\nsys.exit(2)", "docker-credential-own failed (exit code 2): the keyring is"),
        (f'print(\'{{"Secret": "{PASSWORD}"\')', "docker-credential-own answers no JSON with Username and Secret"),
        ("print('credentials not found in native keychain')\nsys.exit(1)", "was found in docker-credential-own"),
    ],
    ids=["missing", "fails", "no-json", "not-found"],
)
def test_a_credential_helper_of_no_use_is_told(person: Person, body: str | None, hint: str) -> None:
    if body is not None:
        person.helper("own", body)
    person.keep(".docker/config.json", {"credHelpers": {person.server.host: "own"}})
    _refused(person.plan(), hint, "config.json", "--password-stdin")


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": {"HOST": {"auth": "???"}}}'], ids=["cut", "list", "base64"])
def test_a_file_of_logins_that_cannot_be_read_is_told(person: Person, content: str) -> None:
    file = person.keep(".docker/config.json", {})
    file.write_text(content.replace("HOST", person.server.host))
    _refused(person.plan(), "LoginFileInvalid", str(file), "--registry-config")


def test_a_certificate_that_nobody_believes_is_told_with_the_options_that_help(person: Person) -> None:
    other = certificate_authority(person.home / "other").ca_file
    arguments = ("-u", USER, "--password-stdin")
    done = person.plan(*arguments, "--certificate-authority", other, stdin=PASSWORD, caConfigMapRef={"name": "ca"})
    _refused(done, "TLSNotTrusted", "--certificate-authority FILE", "--insecure", "caConfigMapRef is for the operator")
    done = person.plan(*arguments, "--certificate-authority", other, "--insecure", stdin=PASSWORD)
    assert _planned(done) == _BUILDS


def test_the_settings_may_forbid_an_unverified_certificate(person: Person) -> None:
    person.variables["REGISTRY_CLEANUP_ALLOW_INSECURE"] = "false"
    _refused(person.plan("--insecure"), "NotAllowed", "--insecure", "REGISTRY_CLEANUP_ALLOW_INSECURE")


def test_http_where_https_was_expected_is_told(person: Person, registry3: RegistryServer) -> None:
    done = person.plan(url=registry3.url.replace("http:", "https:"))
    _refused(done, "TLSNotTrusted", "speaks http on this port", "http:// in its address", "--insecure")


def test_https_where_http_was_expected_is_told(person: Person) -> None:
    done = person.plan(url=person.server.url.replace("https:", "http:"), insecure=True)
    _refused(done, "NotARegistry", f"check the address http://{person.server.host}")


@pytest.mark.parametrize("host", ["127.0.0.1", "registry.invalid"])
def test_a_registry_that_is_not_there_is_told_with_its_address(person: Person, host: str) -> None:
    url = f"https://{host}:{free_port()}"
    _refused(person.plan(url=url), "Unreachable", f"check the address {url}")


# Options


@pytest.mark.parametrize(
    ("options", "stdin", "hint"),
    [
        (["--registry-config", "not-there.json"], None, "--registry-config"),
        (["--certificate-authority", "not-there.crt"], None, "--certificate-authority"),
        (["--tlscacert", "policy.json"], None, "holds no PEM certificate"),
        (["--username", USER], None, "--username and --password-stdin go together"),
        (["--password-stdin"], "x", "--username and --password-stdin go together"),
        (["-u", USER, "--password-stdin"], "\n", "empty password"),
        (["-u", "a:b", "--password-stdin"], "x", "colon"),
        (["--token-host", "https://elsewhere"], None, "is not HOST or HOST:PORT"),
    ],
)
def test_an_option_that_cannot_be_obeyed_is_named(
    registry3: RegistryServer, tmp_path: Path, options: list[str], stdin: str | None, hint: str
) -> None:
    person = Person(tmp_path, registry3, Path(os.devnull), {})
    done = person.plan(*options, stdin=stdin, insecure=True)
    assert done.returncode == 2
    assert hint in done.stderr
    assert done.stdout == ""
