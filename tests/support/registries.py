"""Docker Distribution 2.8 and 3.1, each started on loopback with a configuration of the test's choice."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bcrypt
import httpx

from tests.support.binaries import binary
from tests.support.certificates import ServerCertificate, certificate_authority
from tests.support.processes import environment_without, free_port, running, wait_until

__all__ = [
    "RegistryServer",
    "ServerCertificate",
    "TokenAuth",
    "Version",
    "certificate_authority",
    "distribution",
]

Version = Literal["2", "3"]

_START_LIMIT = 30.0


@dataclass(frozen=True)
class TokenAuth:
    """Where a registry sends its clients for a token, and whose tokens it believes.

    Attributes:
        realm: URL of the token endpoint.
        service: What the registry calls itself there; the tokens' audience.
        issuer: The tokens' issuer.
        rootcertbundle: PEM file with the certificates of the issuer's keys.
        jwks: The same keys as a JSON Web Key Set; version 3 finds a token's key id there, 2.8 ignores it.
    """

    realm: str
    service: str
    issuer: str
    rootcertbundle: Path
    jwks: Path | None = None


@dataclass(frozen=True)
class RegistryServer:
    """A running registry.

    Attributes:
        version: Its major version.
        host: As in an image reference: address and port.
        url: With the scheme, without `/v2/`.
        storage: Root of its filesystem storage; survives the server.
        log: What it printed, one line per request included, unless it has no access log.
        configuration: Its configuration file, as its garbage collection needs it too.
    """

    version: Version
    host: str
    url: str
    storage: Path
    log: Path
    configuration: Path


@contextmanager
def distribution(
    version: Version,
    folder: Path,
    *,
    storage: Path | None = None,
    delete: bool = True,
    readonly: bool = False,
    tls: ServerCertificate | None = None,
    htpasswd: Mapping[str, str] | None = None,
    token: TokenAuth | None = None,
    access_log: bool = True,
    host: str | None = None,
) -> Iterator[RegistryServer]:
    """Run a registry with its configuration, log and, unless given, its storage in `folder`.

    At a free port, unless `host` says where one was that is stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = host or f"127.0.0.1:{free_port()}"
    server = RegistryServer(
        version=version,
        host=host,
        url=f"{'https' if tls else 'http'}://{host}",
        storage=storage or folder / "storage",
        log=folder / f"registry-{version}.log",
        configuration=folder / f"registry-{version}.yaml",
    )
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": not access_log}},
        "storage": {
            "filesystem": {"rootdirectory": str(server.storage)},
            "delete": {"enabled": delete},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": readonly}},
        },
        "http": {"addr": host, "secret": "of this test", **_tls(tls)},
        **_auth(folder, version, htpasswd, token),
    }
    # JSON is YAML too.
    server.configuration.write_text(json.dumps(configuration, indent=2))
    # A variable REGISTRY_... would override the configuration; version 3 exports traces unless told not to.
    environment = environment_without("REGISTRY_", "OTEL_", OTEL_TRACES_EXPORTER="none")
    command: list[str | Path] = [_program(version), "serve", server.configuration]
    with running(f"registry {version}", command, server.log, environment=environment) as process:
        wait_until(lambda: _answers(server, tls), _START_LIMIT, f"registry {version}", process)
        yield server


def _program(version: Version) -> Path:
    match version:
        case "2":
            return binary("registry-2")
        case "3":
            return binary("registry-3")


def _tls(certificate: ServerCertificate | None) -> dict[str, Any]:
    if certificate is None:
        return {}
    return {"tls": {"certificate": str(certificate.certificate), "key": str(certificate.key)}}


def _auth(
    folder: Path, version: Version, htpasswd: Mapping[str, str] | None, token: TokenAuth | None
) -> dict[str, Any]:
    if token is not None:
        options = {
            "realm": token.realm,
            "service": token.service,
            "issuer": token.issuer,
            "rootcertbundle": str(token.rootcertbundle),
        }
        if version == "3" and token.jwks is not None:
            options["jwks"] = str(token.jwks)
        return {"auth": {"token": options}}
    if htpasswd is not None:
        file = write_passwords(folder, htpasswd)
        return {"auth": {"htpasswd": {"realm": "test registry", "path": str(file)}}}
    return {}


def write_passwords(folder: Path, passwords: Mapping[str, str]) -> Path:
    """Write who may log in to the registry in `folder`, which reads the file anew when it is changed."""
    # The cheapest cost that bcrypt knows: the registry computes it anew for every request.
    entries = {
        user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode() for user, password in passwords.items()
    }
    file = folder / "htpasswd"
    new = folder / "htpasswd.new"
    new.write_text("".join(f"{user}:{entry}\n" for user, entry in entries.items()))
    return new.replace(file)


def _answers(server: RegistryServer, tls: ServerCertificate | None) -> bool:
    """Tell whether it answers, be it with a challenge."""
    trust = ssl.create_default_context(cafile=str(tls.ca_file)) if tls else False
    try:
        answer = httpx.get(f"{server.url}/v2/", verify=trust, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code in {200, 401}
