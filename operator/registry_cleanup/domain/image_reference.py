"""Image strings as Kubernetes and Docker read them, and which repositories, tags and digests they protect."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from registry_cleanup.domain.in_use import ALL_TAGS
from registry_cleanup.domain.policy import LATEST
from registry_cleanup.domain.reference import Digest, is_repository, is_tag, leading_repository, parse_digest

# What an image string means that names no registry (distribution/reference, "normalize").
DOCKER_HUB = "docker.io"
# Names of the same registry: the second was its name before, the third is where its API is served.
_DOCKER_HUB = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_OFFICIAL = "library/"
# Docker's shim writes these before what it puts into `imageID`.
_SHIM = ("docker-pullable://", "docker://")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[a-f0-9:.]+\])(?::[0-9]+)?")
_SCHEME = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*://)*", re.IGNORECASE)
_BARE_ID = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What an image string names.

    Attributes:
        host: of the registry, lower-case, with the port if there is one; `docker.io` where the string names none.
        repository: path in the registry; with `library/` where Docker adds it.
        tag: `latest` where the string has neither tag nor digest; `ALL_TAGS` where it could not be read; else None.
        digest: which wins where there is a tag, too.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None


class UnparsableImageError(ValueError):
    """An image string that neither Docker nor Kubernetes would understand.

    Attributes:
        guess: the repository that it could mean, with every tag of it (`ALL_TAGS`); None if it could mean none.
    """

    def __init__(self, text: str, guess: ImageReference | None) -> None:
        super().__init__(f"not an image: {text[:100]!r}")
        self.guess = guess


def parse_image(text: str) -> ImageReference:
    """Return what `text` names; raise `UnparsableImageError`, with what it could mean, where that is nothing."""
    plain = _without_shim(text)
    if image_id(plain) is not None:
        raise UnparsableImageError(text, None)  # an image by its ID, whose repository nobody says
    host, path = _split_host(plain)
    name, at, spelled = path.partition("@")
    repository, colon, tag = name.partition(":")
    try:
        digest = parse_digest(spelled) if at else None
    except ValueError as error:
        raise UnparsableImageError(text, _guess(plain)) from error
    if host == DOCKER_HUB and "/" not in repository:
        repository = _OFFICIAL + repository
    if not _HOST.fullmatch(host) or not is_repository(repository) or (colon and not is_tag(tag)):
        raise UnparsableImageError(text, _guess(plain))
    return ImageReference(host, repository, tag or (None if digest else LATEST), digest)


def image_id(text: str) -> Digest | None:
    """Return the bare image ID that `text` is: the digest of a manifest or of a config, of no repository."""
    plain = _without_shim(text)
    try:
        return parse_digest(f"sha256:{plain}" if _BARE_ID.fullmatch(plain) else plain)
    except ValueError:
        return None


def repositories(reference: ImageReference, aliases: Iterable[str] = ()) -> frozenset[str]:
    """Return the repositories that a reference may mean, whatever host it names.

    Args:
        reference: such as `mirror.example.com/dockerhub/team/app`.
        aliases: path prefixes, such as `dockerhub`, under which caches and mirrors serve other repositories.
    """
    found = {reference.repository}
    found |= {
        rest
        for alias in aliases
        if (rest := reference.repository.removeprefix(prefix := alias.strip("/") + "/")) != reference.repository
        and prefix != "/"
        and is_repository(rest)
    }
    # What Docker calls `library/x` is pushed to mirrors as plain `x`, too.
    short = {name.removeprefix(_OFFICIAL) for name in found - {reference.repository}}
    if reference.host == DOCKER_HUB:
        short.add(reference.repository.removeprefix(_OFFICIAL))
    return frozenset(found | short)


def protects(reference: ImageReference, aliases: Collection[str] = ()) -> frozenset[tuple[str, str]]:
    """Return the tags that a reference protects, as (repository, tag); its digest protects wherever it is found.

    The tag beside a digest is not what is pulled, and protects too: people read it, and move it back.
    """
    if reference.tag is None:
        return frozenset()
    return frozenset((repository, reference.tag) for repository in repositories(reference, aliases))


def _without_shim(text: str) -> str:
    for prefix in _SHIM:
        text = text.removeprefix(prefix)
    return text


def _split_host(text: str) -> tuple[str, str]:
    """Split off the registry: the first part, if it could be no path, which has a dot, a port or upper case."""
    first, slash, rest = text.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return DOCKER_HUB, text
    host = first.lower()
    return (DOCKER_HUB if host in _DOCKER_HUB else host), rest


def _guess(text: str) -> ImageReference | None:
    """Return the repository that a damaged string could mean: the longest path that it begins with."""
    host, path = _split_host(_SCHEME.sub("", text))
    repository = leading_repository(path.lower())
    if not repository:
        return None
    if host == DOCKER_HUB and "/" not in repository:
        repository = _OFFICIAL + repository
    return ImageReference(host, repository, ALL_TAGS)
