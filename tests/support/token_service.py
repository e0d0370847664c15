"""A token service for registries: Docker token authentication, signed per scope.

Distribution trusts it through the certificate of its key, which travels in the header `x5c` of every token:
that is what both 2.8 and 3.1 understand.
"""

import base64
import fnmatch
import json
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from aiohttp import BasicAuth, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwk, jwt

from tests.support.certificates import ServerCertificate
from tests.support.http import Received, serve

Algorithm = Literal["ES256", "RS256"]
KeyName = Literal["token", "access_token"]
# {user: {repository pattern or "registry:catalog": actions}}
Grants = Mapping[str, Mapping[str, Collection[str]]]

ANONYMOUS = ""
# Distribution accepts a token for this much longer than its `exp` says, 2.8 and 3.1 alike.
REGISTRY_LEEWAY_SECONDS = 60
ICP_PATH = "/image-manager/api/v1/auth/token"
ICP_SERVICE = "token-service"


@dataclass
class TokenService:
    """A running token service; what is not fixed by the registry's configuration may change while it runs.

    Attributes:
        realm: URL that a registry's challenge names.
        service: Name of the registry, the audience of the tokens.
        issuer: Who signs.
        rootcertbundle: PEM file of the certificate that a registry is to trust.
        jwks: The same key as a JWK set, which Distribution 3 may use instead.
        requests: What it received.
        users: Password of each user.
        grants: What each user may do; `ANONYMOUS` is who sends no password.
        key_name: Under which key the token stands in the answer.
        expires_in: What the answer says about its lifetime; None leaves it out.
        lifetime: Seconds until the token's real end; a registry grants `REGISTRY_LEEWAY_SECONDS` more, so a
            token that lives two seconds there has a lifetime of -58.
        failures: Statuses of the next answers, used up one by one.
        refresh_tokens: Identity tokens, each with the user that it stands for; without any there is no POST.
    """

    realm: str
    service: str
    issuer: str
    rootcertbundle: Path
    jwks: Path
    requests: list[Received]
    users: Mapping[str, str]
    grants: Grants
    key_name: KeyName
    expires_in: int | None
    lifetime: float
    failures: list[int] = field(default_factory=list)
    refresh_tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def scopes(self) -> Counter[str]:
        """Count how often each scope was asked for."""
        return Counter(scope for request in self.requests for scope in _scopes(request))


@contextmanager
def token_service(
    folder: Path,
    users: Mapping[str, str],
    grants: Grants,
    *,
    key_name: KeyName = "token",
    expires_in: int | None = 300,
    lifetime: float = 300,
    algorithm: Algorithm = "ES256",
    service: str = "registry.test",
    issuer: str = "registry-token-issuer",
    path: str = "/token",
    host: str = "127.0.0.1",
    certificate: ServerCertificate | None = None,
) -> Iterator[TokenService]:
    """Run a token service whose key files live in `folder`; its realm names `host`, a name of loopback."""
    signer = _Signer(algorithm, issuer, service)
    bundle, jwks = signer.write_public_parts(folder)
    requests: list[Received] = []
    running = TokenService(
        realm="",
        service=service,
        issuer=issuer,
        rootcertbundle=bundle,
        jwks=jwks,
        requests=requests,
        users=users,
        grants=grants,
        key_name=key_name,
        expires_in=expires_in,
        lifetime=lifetime,
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        return _answer(running, signer, path, request, await request.post())

    with serve(handle, certificate=certificate, requests=requests) as server:
        running.realm = server.url.replace("127.0.0.1", host) + path
        yield running


@contextmanager
def icp_token_service(
    folder: Path,
    users: Mapping[str, str],
    grants: Grants,
    *,
    expires_in: int | None = None,
    lifetime: float = 1800,
    certificate: ServerCertificate | None = None,
) -> Iterator[TokenService]:
    """Run a token service that looks like IBM Cloud Private's."""
    with token_service(
        folder,
        users,
        grants,
        expires_in=expires_in,
        lifetime=lifetime,
        algorithm="RS256",
        service=ICP_SERVICE,
        path=ICP_PATH,
        certificate=certificate,
    ) as running:
        yield running


# What it answers


def _answer(
    running: TokenService, signer: "_Signer", path: str, request: web.Request, form: Mapping[str, Any]
) -> web.Response:
    if request.path != path:
        return web.Response(status=404)
    if request.method == "POST" and running.refresh_tokens:
        return _exchanged(running, signer, form)
    if request.method != "GET":
        return web.Response(status=405, headers={"Allow": "GET"})
    if running.failures:
        status = running.failures.pop(0)
        return web.json_response({"details": f"the test asked for status {status}"}, status=status)
    user = _user(running.users, request.headers.get("Authorization"))
    if user is None:
        headers = {"WWW-Authenticate": f'Basic realm="{running.service}"'}
        return web.json_response({"details": "incorrect username or password"}, status=401, headers=headers)
    if request.query.get("service") != running.service:
        # A client that drops the challenge's service would get tokens for nobody from a real one.
        return web.json_response({"details": "unknown service"}, status=400)
    scopes = [scope for value in request.query.getall("scope", []) for scope in value.split()]
    return _granted(running, signer, user, scopes, running.key_name)


def _exchanged(running: TokenService, signer: "_Signer", form: Mapping[str, Any]) -> web.Response:
    """Answer a POST of OAuth2 (Docker's token specification, "OAuth2 Token Authentication")."""
    user = running.refresh_tokens.get(str(form.get("refresh_token")))
    if form.get("grant_type") != "refresh_token" or not form.get("client_id") or user is None:
        return web.json_response({"error": "invalid_grant"}, status=400)
    if form.get("service") != running.service:
        return web.json_response({"error": "invalid_request"}, status=400)
    return _granted(running, signer, user, str(form.get("scope", "")).split(), "access_token")


def _granted(
    running: TokenService, signer: "_Signer", user: str, scopes: Sequence[str], key_name: KeyName
) -> web.Response:
    access = _access(running.grants.get(user, {}), scopes)
    now = time.time()
    answer: dict[str, Any] = {key_name: signer.sign(user, access, now, running.lifetime)}
    if running.expires_in is not None:
        answer["expires_in"] = running.expires_in
        answer["issued_at"] = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return web.json_response(answer)


def _user(users: Mapping[str, str], authorization: str | None) -> str | None:
    """Return who asks, or None where the credentials are wrong."""
    if authorization is None:
        return ANONYMOUS
    try:
        login = BasicAuth.decode(authorization, encoding="utf-8")
    except ValueError:
        return None
    return login.login if users.get(login.login) == login.password else None


def _scopes(request: Received) -> list[str]:
    return [scope for value in request.query.getall("scope", []) for scope in value.split()]


def _access(granted: Mapping[str, Collection[str]], scopes: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is asked for and granted; a resource without any granted action is left out."""
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, wanted = rest.rpartition(":")
        allowed = _allowed(granted, kind, name)
        actions = [action for action in wanted.split(",") if action in allowed or "*" in allowed]
        if wanted == "*" and "*" not in allowed:
            actions = sorted(allowed)
        if actions:
            access.append({"type": kind, "name": name, "actions": actions})
    return access


def _allowed(granted: Mapping[str, Collection[str]], kind: str, name: str) -> set[str]:
    resource = name if kind == "repository" else f"{kind}:{name}"
    matching = (actions for pattern, actions in granted.items() if fnmatch.fnmatchcase(resource, pattern))
    return {action for actions in matching for action in actions}


# How it signs


class _Signer:
    """A key of its own with a self-signed certificate, which a registry takes for its own root."""

    def __init__(self, algorithm: Algorithm, issuer: str, audience: str) -> None:
        key = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        self._header = {"typ": "JWT", "alg": algorithm, "x5c": [base64.b64encode(der).decode()]}
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._key: jwk.ECKey | jwk.RSAKey = (
            jwk.ECKey.import_key(pem) if algorithm == "ES256" else jwk.RSAKey.import_key(pem)
        )
        self._key.ensure_kid()
        self._issuer = issuer
        self._audience = audience

    def write_public_parts(self, folder: Path) -> tuple[Path, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        bundle, jwks = folder / "token-service.crt", folder / "token-service.jwks"
        bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        jwks.write_text(json.dumps({"keys": [self._key.as_dict(private=False)]}))
        return bundle, jwks

    def sign(self, user: str, access: Sequence[Mapping[str, Any]], now: float, lifetime: float) -> str:
        end = int(now + lifetime)
        begin = min(int(now), end) - 10
        claims = {
            "iss": self._issuer,
            "sub": user,
            "aud": self._audience,
            "iat": begin,
            "nbf": begin,
            "exp": end,
            "jti": secrets.token_hex(8),
            "access": list(access),
        }
        return jwt.encode(self._header, claims, self._key)
