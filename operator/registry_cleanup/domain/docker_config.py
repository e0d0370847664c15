"""Logins as `docker login` and `podman login` store them: which one is for a registry, by exact host and port."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from registry_cleanup.domain.trust import Endpoint, Host

# What credential helpers and older files give as the user name of an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - no secret, but the name that says that one follows
# Docker Hub goes by three names, and Docker stores its login under the address of an API that is long gone.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"
_SCHEME_PORTS = {"http": 80, "https": 443}


class StoredKind(Enum):
    """What a stored login is."""

    PASSWORD = "password"  # noqa: S105 - a kind, no secret
    IDENTITY_TOKEN = "identity token"  # noqa: S105 - a kind, no secret. Exchanged for others by OAuth2
    REGISTRY_TOKEN = "registry token"  # noqa: S105 - a kind, no secret. Shown to the registry as it is


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """A login as it is stored.

    Attributes:
        kind: what the secret is.
        username: of a password.
        secret: never printed.
    """

    kind: StoredKind
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Helper:
    """A credential helper to be asked.

    Attributes:
        name: it is the program `docker-credential-NAME`.
        server: what it is asked for.
    """

    name: str
    server: str


@dataclass(frozen=True, slots=True)
class LoginFile:
    """A `config.json` of Docker or an `auth.json` of Podman.

    Attributes:
        auths: entries by registry; without a login where a helper has it.
        helpers: names of credential helpers by registry.
        store: name of the helper for all other registries; empty if there is none.
    """

    auths: Mapping[str, Mapping[str, Any]] = field(repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def helper(self, endpoint: Endpoint) -> Helper | None:
        """Return the helper that is to be asked for a login at `endpoint`, if any is."""
        key = _best(self.helpers, endpoint)
        if key is not None:
            return Helper(self.helpers[key], key)
        if not self.store:
            return None
        # Docker leaves an empty entry under the name by which the helper knows the registry.
        return Helper(self.store, _best(self.auths, endpoint) or _server(endpoint))

    def login(self, endpoint: Endpoint) -> StoredLogin | None:
        """Return the login that the file itself holds for `endpoint`; raise `ValueError` if it cannot be read."""
        key = _best(self.auths, endpoint)
        return None if key is None else _stored(self.auths[key])

    def parts(self, endpoint: Endpoint) -> list[str]:
        """Return the keys that name a part of the registry, such as `host/namespace`, which nobody here uses."""
        keys = {*self.auths, *self.helpers}
        return sorted(key for key in keys if _is_part(key) and _at(bare(key), endpoint))


def parse_login_file(text: str) -> LoginFile:
    """Return what a file of logins says; raise `ValueError` with what is wrong, and nothing of its content."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None  # the error would quote the file
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - a file of the wrong shape, as any other
    auths, helpers, store = (found.get(key) for key in ("auths", "credHelpers", "credsStore"))
    entries = _mapping(auths, "auths")
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError("an entry of auths is no object")
    names_ = _mapping(helpers, "credHelpers")
    if not all(isinstance(name, str) for name in (*names_.values(), store or "")):
        raise ValueError("credHelpers or credsStore name a program with something else than text")
    return LoginFile(entries, names_, store or "")


def parse_helper_answer(text: str) -> StoredLogin:
    """Return the login that a credential helper printed; raise `ValueError` if it is none."""
    try:
        found = json.loads(text)
        username, secret = found["Username"], found["Secret"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError("no JSON with Username and Secret") from None  # the error would quote a secret
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        raise ValueError("no JSON with Username and Secret")
    return _of_user(username, secret)


def names(text: str | None, endpoint: Endpoint) -> bool:
    """Say whether `text` is exactly the host and port of `endpoint`; without a port it means the scheme's own."""
    try:
        host = Host.parse(text or "")
    except ValueError:
        return False
    return host.name == endpoint.host and (host.port or _SCHEME_PORTS[endpoint.scheme]) == endpoint.port


def bare(key: str) -> str:
    """Return host and port of a key of a Docker configuration, which may be a URL with a path."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def user_and_password(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return user name and password of an entry of `auths`; raise an error of many kinds where it has none."""
    if entry.get("auth"):
        user, separator, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not separator:
            raise ValueError("no colon")
        return user, password
    return str(entry["username"]), str(entry["password"])


def _stored(entry: Mapping[str, Any]) -> StoredLogin | None:
    """Return the login of an entry; None where it holds none, as where a helper has it."""
    for key, kind in (("identitytoken", StoredKind.IDENTITY_TOKEN), ("registrytoken", StoredKind.REGISTRY_TOKEN)):
        if (token := entry.get(key)) and isinstance(token, str):
            return StoredLogin(kind, "", token)
    if not entry.get("auth") and not entry.get("username"):
        return None
    try:
        user, password = user_and_password(entry)
    except (ValueError, LookupError, TypeError):
        raise ValueError("its auth is not base64 of user:password, or it has no password") from None
    return _of_user(user, password)


def _of_user(user: str, secret: str) -> StoredLogin:
    if user == _TOKEN_USER:
        return StoredLogin(StoredKind.IDENTITY_TOKEN, "", secret)
    return StoredLogin(StoredKind.PASSWORD, user, secret)


def _best(keys: Iterable[str], endpoint: Endpoint) -> str | None:
    """Return the key for the registry as a whole; of several the one that is written as the registry is named."""
    found = [key for key in keys if not _is_part(key) and _at(bare(key), endpoint)]
    return min(found, key=lambda key: ("/" in key, key), default=None)


def _is_part(key: str) -> bool:
    """Say whether a key names a namespace or repository, as Podman's may; a URL's path means nothing."""
    return "://" not in key and "/" in key.rstrip("/")


def _at(host_port: str, endpoint: Endpoint) -> bool:
    if _is_hub(endpoint):
        return host_port in _HUB
    return names(host_port, endpoint)


def _is_hub(endpoint: Endpoint) -> bool:
    return endpoint.host in _HUB and endpoint.scheme == "https" and endpoint.port == _SCHEME_PORTS["https"]


def _server(endpoint: Endpoint) -> str:
    """Return the name by which Docker would know the registry, if nothing else says it."""
    if _is_hub(endpoint):
        return _HUB_KEY
    if endpoint.port != _SCHEME_PORTS[endpoint.scheme]:
        return endpoint.host_port
    return f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host


def _mapping(found: Any, name: str) -> Mapping[str, Any]:  # noqa: ANN401 - whatever JSON it is
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no object")  # noqa: TRY004 - the same
    return found
