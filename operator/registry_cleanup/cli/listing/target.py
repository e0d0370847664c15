"""What `list` is asked for: HOST[/REPOSITORY] as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.image_reference import DOCKER_HUB
from registry_cleanup.domain.policy import InvalidPatternError, RepositoryGlob
from registry_cleanup.domain.reference import is_repository
from registry_cleanup.domain.trust import Endpoint, Host

_SCHEME = re.compile(r"(https?)://", re.IGNORECASE)
_DIGEST = re.compile(r"@(sha256|sha384|sha512|blake3):.*$")
# Where Docker Hub's API is.
_DOCKER_HUB_API = "registry-1.docker.io"
# As docker and podman have it: what is on this machine may speak http.
_ON_THIS_MACHINE = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be listed.

    Attributes:
        urls: of the registry, to be tried in this order.
        wanted: which repositories; None for all.
    """

    urls: tuple[str, ...]
    wanted: RepositoryGlob | None

    @property
    def namespace(self) -> str | None:
        """The first part of the repositories' names, which on OpenShift is a namespace, where it is named in full."""
        first, slash, _ = self.wanted.text.partition("/") if self.wanted is not None else ("", "", "")
        return first if slash and RepositoryGlob(first).literal else None


def read_target(text: str, *, insecure: bool) -> Target:
    """Return what `text` names; raise `CommandError`, with an example, where it is no HOST[/REPOSITORY].

    Without a scheme it is https; where `insecure` is allowed, and on this machine, http comes after that.
    """
    _refuse_login(text)
    scheme = _SCHEME.match(text)
    host, slash, path = (text[scheme.end() :] if scheme else text).partition("/")
    if not scheme and "://" in text:
        raise _wrong(text, "a URL has to begin with https:// or http://")
    if not scheme and slash and not re.search(r"[.:]|^localhost$", host):
        raise _wrong(text, f"{host!r} is no host (of one without a dot write https://{host}/…)")
    try:
        name = Host.parse(host).name
        urls = [f"{scheme[1].lower() if scheme else 'https'}://{_api(host)}"]
        Endpoint.of(urls[0])
    except ValueError as error:
        raise _wrong(text, f"{host!r} is no host") from error
    if not scheme and (insecure or _ON_THIS_MACHINE.fullmatch(name)):
        urls.append(f"http://{host}")
    path = path.rstrip("/")
    if host == DOCKER_HUB and path and "/" not in path and "*" not in path:
        path = f"library/{path}"
    return Target(tuple(urls), read_wanted(path) if path else None)


def read_wanted(text: str) -> RepositoryGlob:
    """Return the repository, or the glob of some, that `text` spells; raise `CommandError`."""
    if ":" in text or "@" in text:
        raise _wrong(text, "is more than a repository: leave out tag and digest")
    try:
        glob = RepositoryGlob(text)
    except InvalidPatternError as error:
        raise _wrong(text, f"is no repository: it {error}") from error
    if glob.literal and not is_repository(text):
        raise _wrong(text, "is no repository")
    return glob


def _refuse_login(text: str) -> None:
    """Refuse a login in an address, and never print it."""
    if "@" in (named := _DIGEST.sub("", text)):
        raise _wrong(
            f"…@{named.rpartition('@')[2]}", "a login is no part of an address; give --username with --password-stdin"
        )


def _api(host: str) -> str:
    return _DOCKER_HUB_API if host in (DOCKER_HUB, f"index.{DOCKER_HUB}") else host


def _wrong(text: str, why: str) -> CommandError:
    example = "registry-cleanup list registry.example.com/team/app"
    return CommandError(f"{text!r}: {why}; for example: {example}", Exit.USAGE)
