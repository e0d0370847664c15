"""What `explain` is asked about: a tag, or all tags on a digest, as people write references."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.copies import Wanted
from registry_cleanup.domain.policy import RepositorySelector
from registry_cleanup.domain.reference import Digest, is_repository, is_tag, parse_digest
from registry_cleanup.domain.trust import Endpoint, Host

_FORMS = "write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST, with or without the registry's HOST/ before it"


@dataclass(frozen=True, slots=True)
class Reference:
    """A tag, or a digest, of a repository.

    Attributes:
        repository: its name.
        tag: None where a digest is meant.
        digest: None where a tag is meant.
    """

    repository: str
    tag: str | None
    digest: Digest | None

    @override
    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.digest is None else f"{self.repository}@{self.digest}"


def read_reference(text: str, registry: Endpoint | None, selector: RepositorySelector) -> Reference:
    """Return what `text` refers to at the registry of a policy; raise `CommandError` where that is nothing.

    Args:
        text: as a person wrote it.
        registry: of the policy; None where the policy leaves it to the cluster, so that any host may be meant.
        selector: of the policy; what it selects is a repository, unless it begins with
            the registry's own host or with one that has a port.
    """
    rest, at, digest_text = text.partition("@")
    name, tag = _split_tag(rest)
    repository = _without_host(name, registry, selector)
    if not is_repository(repository):
        raise CommandError(f"{text!r} names no repository: {_FORMS}", Exit.USAGE)
    if at and tag is not None:
        raise CommandError(f"{text!r} names both a tag and a digest: leave one of them away", Exit.USAGE)
    if at:
        try:
            return Reference(repository, None, parse_digest(digest_text))
        except ValueError as error:
            raise CommandError(f"{digest_text!r} is no digest: {_FORMS}", Exit.USAGE) from error
    if tag is None:
        message = f"{text!r} names a repository and no tag: {_FORMS}; `list` shows its tags"
        raise CommandError(message, Exit.USAGE)
    if not is_tag(tag):
        raise CommandError(f"{tag!r} cannot be a tag: {_FORMS}", Exit.USAGE)
    return Reference(repository, tag, None)


def read_wanted(text: str, registry: Endpoint | None, selector: RepositorySelector) -> Wanted:
    """Return what `text` names, which may be a whole repository; raise `CommandError` where that is nothing."""
    name, tag = _split_tag(text)
    if "@" in text or tag is not None:
        found = read_reference(text, registry, selector)
        return Wanted(found.repository, found.tag, found.digest)
    repository = _without_host(name, registry, selector)
    if not is_repository(repository):
        raise CommandError(f"{text!r} names no repository: {_FORMS}", Exit.USAGE)
    return Wanted(repository)


def _split_tag(text: str) -> tuple[str, str | None]:
    """Return what stands before a tag, and the tag; a port is followed by a slash."""
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (text, None)


def _without_host(name: str, registry: Endpoint | None, selector: RepositorySelector) -> str:
    first, slash, rest = name.partition("/")
    if not slash or not _is_host(first, name, registry, selector):
        return name
    if registry is not None and not _same(first, registry):
        message = f"{first} is not the registry of the policy, which is {registry.host_port}: name a tag that is there"
        raise CommandError(message, Exit.USAGE)
    return rest


def _is_host(first: str, name: str, registry: Endpoint | None, selector: RepositorySelector) -> bool:
    """Say whether what stands before the first slash of `name` is a host."""
    if ":" in first:
        # No repository has a colon in its name; a scheme is no host.
        return not name.startswith(f"{first}//")
    if registry is None:
        # The cluster's own repositories begin with a namespace, and none of these has a dot.
        return "." in first
    if _same(first, registry) or first.lower() == registry.host:
        return True
    # As Docker tells them apart: a host has a dot or is localhost. But mirrors have repositories docker.io/library/x.
    return ("." in first or first == "localhost") and not selector.selects(name)


def _same(host: str, registry: Endpoint) -> bool:
    try:
        asked = Host.parse(host)
    except ValueError:
        return False
    port = asked.port or {"http": 80, "https": 443}[registry.scheme]
    return asked.name == registry.host and port == registry.port
