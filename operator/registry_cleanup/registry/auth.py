"""Logging in: Basic, the Docker token protocol, and OpenShift's `/openshift/token`.

A credential is sent only where its `TrustedHosts` allow it, whatever a challenge says.
"""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

import stamina

from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.ports import Clock, Credential, CredentialKind, CredentialSource, LoginWords
from registry_cleanup.registry.challenge import Challenge, parse_challenge
from registry_cleanup.registry.errors import (
    DeniedError,
    LoginFailedError,
    MalformedAnswerError,
    ServerFaultError,
    UntrustedHostError,
)
from registry_cleanup.registry.transport import Answer, Transport, json_object

# Docker's token specification: a token without `expires_in` lives 60 seconds.
_DEFAULT_LIFETIME = timedelta(seconds=60)
# A token is renewed so much before it ends, so that no request starts with one that ends on the way.
_MARGIN = timedelta(seconds=10)
# OpenShift answers 401 while its API server hangs (openshift.md, 1 and 12.6): such a 401 is worth another try.
_OPENSHIFT_ATTEMPTS = 3
_OPENSHIFT_PATH = "/openshift/token"
# OpenShift's token endpoint says 200 to a caller that it does not know, and means this (openshift.md, 1).
_ANONYMOUS = "anonymous"
_CLIENT_ID = "registry-cleanup"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires: datetime


class _TransientRefusalError(Exception):
    """OpenShift's token endpoint said 401, which may pass."""


class Authenticator:
    """The login of one policy at one registry.

    It learns from the first challenge how the registry wants to be logged in to, and keeps one token per scope.
    """

    def __init__(
        self,
        transport: Transport,
        registry: Endpoint,
        source: CredentialSource,
        clock: Clock,
        token_url: str | None = None,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._source = source
        self._clock = clock
        self._token_url = token_url
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def openshift(self) -> bool:
        """Whether the registry's challenge named OpenShift's token endpoint."""
        return self._challenge is not None and _names_openshift(self._challenge)

    async def headers(self, scope: str) -> dict[str, str]:
        """Return the headers that authorise requests of `scope`; none before a challenge was seen.

        Raises:
            LoginFailedError: there is no credential, or it is not accepted.
            UntrustedHostError: the login would send the credential where it must not go.
            RunError: the credential cannot be had, or the token service does not answer.
        """
        if self._challenge is None:
            return {}
        if self._challenge.scheme == "basic":
            credential = self._needed(self._fit(await self._credential(), self._registry))
            if credential.kind is CredentialKind.IDENTITY_TOKEN:
                message = (
                    f"the registry wants a password, and the login is an identity token; {self.words.wrong_password}"
                )
                raise LoginFailedError(message)
            return {"Authorization": _basic(credential)}
        return {"Authorization": f"Bearer {await self._token(scope, self._challenge)}"}

    def learn(self, refusal: Answer, scope: str, sent: Mapping[str, str]) -> None:
        """Learn from a 401 to the headers `sent` what to do before the same request is sent once more."""
        if self._challenge is not None:
            token = self._tokens.get(scope)
            # Of several requests that are refused at once, the first fetches the token that all others use.
            if token is not None and sent.get("Authorization") == f"Bearer {token.value}":
                del self._tokens[scope]
            return
        challenge = parse_challenge(refusal.headers.get("WWW-Authenticate", ""))
        if challenge is None or challenge.scheme not in ("basic", "bearer"):
            raise LoginFailedError("the registry refuses the request and names no way to log in", refusal.code)
        self._challenge = challenge

    async def renew(self, scope: str, sent: Mapping[str, str]) -> bool:
        """Say whether the credential in the headers `sent`, refused twice, was replaced meanwhile by another.

        A token that a token service gave is none: who was given one is known there.
        """
        credential = await self._credential()
        if self._challenge is None or credential is None:
            return False
        if self._challenge.scheme == "basic":
            # Of several requests that are refused at once, the first reads what all others use.
            return sent.get("Authorization") != _basic(credential) or await self._source.renew(credential)
        if credential.kind is not CredentialKind.TOKEN or not await self._source.renew(credential):
            return False
        self._tokens.pop(scope, None)
        return True

    async def refused(self, refusal: Answer, scope: str, ping_url: str) -> Exception:
        """Return the error that a second 401 in a row means."""
        if self._challenge is None or self._challenge.scheme == "basic":
            return LoginFailedError(
                f"the registry does not accept the user name and password; {self.words.wrong_password}", refusal.code
            )
        if self.openshift:
            # A bad token and a missing right look alike, except at /v2/ (openshift.md, 2).
            answer = await self._transport.request("GET", ping_url, await self.headers(scope))
            if answer.status == 401:
                return LoginFailedError("the registry does not accept the token it handed out", refusal.code)
            if answer.status != 200:
                # 400 with an empty body while its API server hangs: neither the token's fault nor a missing right.
                return ServerFaultError("the registry cannot say whether it accepts the token", answer.code)
        if await self._credential() is None:
            return LoginFailedError(f"the registry wants a login; {self.words.no_login}", refusal.code)
        return DeniedError(f"the registry does not grant {scope!r} to this credential", refusal.code)

    async def _token(self, scope: str, challenge: Challenge) -> str:
        async with self._locks[scope]:
            token = self._tokens.get(scope)
            if token is None or token.expires - _MARGIN <= self._clock.now():
                token = await self._fetch(scope, challenge)
                self._tokens[scope] = token
            return token.value

    async def _fetch(self, scope: str, challenge: Challenge) -> _Token:
        credential = await self._credential()
        # Whatever a token service returns for a credential goes to the registry, and OpenShift's returns what it was
        # sent: a foreign registry that names a trusted realm would be handed the credential itself.
        self._fit(credential, self._registry)
        if _names_openshift(challenge):
            return await self._fetch_openshift(self._needed(credential), challenge)
        if credential is not None and credential.kind is CredentialKind.TOKEN:
            if not _sendable(credential.secret):
                raise LoginFailedError(f"{self.words.whose_token} is empty or holds characters that no header can")
            return _Token(credential.secret, credential.expires or datetime.max.replace(tzinfo=UTC))
        query = {"service": challenge.parameters["service"]} if "service" in challenge.parameters else {}
        query |= {"scope": scope} if scope else {}
        answer = await self._ask(challenge, credential, query)
        if answer.status == 401 and credential is not None and await self._source.renew(credential):
            credential = self._fit(await self._credential(), self._registry)
            answer = await self._ask(challenge, credential, query)
        if answer.status != 200:
            raise self._not_accepted(credential, answer)
        return self._read(answer, None)

    async def _fetch_openshift(self, credential: Credential, challenge: Challenge) -> _Token:
        """Exchange, or rather validate, a token: the endpoint returns what it was sent (openshift.md, 1)."""
        try:
            answer = await self._ask_patiently(challenge, credential)
        except _TransientRefusalError as error:
            raise LoginFailedError(
                f"OpenShift's token endpoint does not accept the token; {self.words.refused_by_openshift}",
                "HTTP 401",
            ) from error
        if answer.status != 200:
            raise self._not_accepted(credential, answer)
        token = self._read(answer, credential.expires)
        if token.value == _ANONYMOUS:
            raise LoginFailedError("OpenShift's token endpoint did not see the credential and answered 'anonymous'")
        return token

    async def _ask_patiently(self, challenge: Challenge, credential: Credential) -> Answer:
        """Ask OpenShift's endpoint, again where it answers 401: that may pass."""
        async for attempt in stamina.retry_context(
            on=_TransientRefusalError, attempts=_OPENSHIFT_ATTEMPTS, wait_initial=0.5, timeout=None
        ):
            with attempt:
                answer = await self._ask(challenge, credential, {})
                if answer.status != 401:
                    return answer
                raise _TransientRefusalError
        raise AssertionError("unreachable: retry_context either returns or raises")

    async def _ask(self, challenge: Challenge, credential: Credential | None, query: dict[str, str]) -> Answer:
        realm = self._token_url or challenge.realm
        try:
            endpoint = Endpoint.of(realm)
        except ValueError as error:
            raise MalformedAnswerError("the registry names a token service that is no URL") from error
        if endpoint.link_local:
            raise UntrustedHostError(
                f"the registry names the link-local address {endpoint.host_port} as its token service"
            )
        if self._fit(credential, endpoint) and credential and credential.kind is CredentialKind.IDENTITY_TOKEN:
            # Docker's token specification, "OAuth2 Token Authentication": a refresh token never goes into a query.
            grant = {"grant_type": "refresh_token", "refresh_token": credential.secret, "client_id": _CLIENT_ID}
            return await self._transport.request("POST", realm, {}, form={**grant, **query})
        headers = {"Authorization": _basic(credential)} if credential is not None else {}
        separator = "&" if urlsplit(realm).query else "?"
        return await self._transport.request("GET", realm + (separator + urlencode(query) if query else ""), headers)

    def _read(self, answer: Answer, expires: datetime | None) -> _Token:
        body = json_object(answer)
        value = body.get("token") or body.get("access_token")
        if not isinstance(value, str) or not _sendable(value):
            raise MalformedAnswerError("the token service's answer holds no token")
        if expires is None:
            seconds = body.get("expires_in")
            lifetime = timedelta(seconds=seconds) if isinstance(seconds, int) and 0 < seconds < 10**9 else None
            expires = self._clock.now() + (lifetime or _DEFAULT_LIFETIME)
        return _Token(value, expires)

    def _fit(self, credential: Credential | None, endpoint: Endpoint) -> Credential | None:
        """Return `credential` if it may go to `endpoint`; refuse to send it anywhere else."""
        refusal = credential.trust.refusal(endpoint) if credential is not None else None
        if refusal is not None and credential is not None:
            raise UntrustedHostError(
                f"the {credential.kind.value} was not sent to {endpoint.host_port}: {refusal}; "
                + _remedy(credential, endpoint, self.words)
            )
        return credential

    async def _credential(self) -> Credential | None:
        """Return the credential; a person's own at the API server is shown to nobody but OpenShift's endpoint."""
        credential = await self._source.credential()
        if credential is not None and credential.kind is CredentialKind.KUBECONFIG and not self.openshift:
            return None
        return credential

    @property
    def words(self) -> LoginWords:
        """What the owner of the credential is told to do."""
        return self._source.words

    def _needed(self, credential: Credential | None) -> Credential:
        if credential is None:
            message = f"the registry wants a login; {self.words.no_login_of_any_kind}"
            raise LoginFailedError(message, "UNAUTHORIZED")
        return credential

    def _not_accepted(self, credential: Credential | None, answer: Answer) -> LoginFailedError:
        if credential is None:
            return LoginFailedError(f"the token service wants a login; {self.words.no_login}", answer.code)
        return LoginFailedError(
            f"the token service does not accept the credential ({answer.status}); {self.words.wrong_credential}",
            answer.code,
        )


def _sendable(token: str) -> bool:
    """Say whether a header can hold `token` (RFC 6750 section 2.1 allows less)."""
    return token.isascii() and token.isprintable() and token != "" and " " not in token


def _remedy(credential: Credential, endpoint: Endpoint, words: LoginWords) -> str:
    if credential.kind is CredentialKind.SERVICE_ACCOUNT:
        return "a ServiceAccount's token goes over https to hosts that the cluster's administrator trusts only"
    if endpoint.scheme == "http" and credential.kind is CredentialKind.KUBECONFIG:
        return "it goes over https only"
    if endpoint.scheme == "http" and not credential.trust.allow_http:
        return words.over_http
    return words.to_other_host.format(host=endpoint.host)


def _names_openshift(challenge: Challenge) -> bool:
    try:
        path = urlsplit(challenge.realm).path
    except ValueError:  # no URL, as is found out where it would be asked
        return False
    return challenge.scheme == "bearer" and path.rstrip("/").endswith(_OPENSHIFT_PATH)


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.secret}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")
