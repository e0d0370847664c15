"""How Docker Distribution 2 and 3 lay out a storage on a file system, read strictly: what is not known is refused.

docker/registry/v2/repositories/NAME/_manifests/tags/TAG/current/link       the digest that the tag names
                                                     TAG/index/ALG/HEX/link  those that it named
                                    _manifests/revisions/ALG/HEX/link       a manifest that can be pulled
                                    _layers/ALG/HEX/link                    a blob that can be pulled
docker/registry/v2/blobs/ALG/HE/HEX/data                                    the content of manifests and blobs
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from registry_cleanup.domain.copies import CopiedManifest
from registry_cleanup.domain.reference import Digest, is_repository, is_tag, parse_digest
from registry_cleanup.storage.errors import DoubtError, UnknownLayoutError
from registry_cleanup.storage.tree import Parts, Tree, shown

VERSIONS = ("docker", "registry")
V2 = (*VERSIONS, "v2")
REPOSITORIES = (*V2, "repositories")
_BLOBS = (*V2, "blobs")
# Distribution refuses larger manifests; a digest has 135 characters at most.
_MOST_MANIFEST = 16 * 1024 * 1024
_MOST_LINK = 200
_LINK = "link"
# Distribution 3 writes beside a link, and puts that in its place; a process that was killed leaves it.
_UNFINISHED = re.compile(r"link\.[0-9a-f-]{36}\.tmp")
_OF_REPOSITORY = frozenset({"_manifests", "_layers", "_uploads"})
# A pull-through cache writes down there when it forgets what.
_CACHE = "scheduler-state.json"


def check(tree: Tree) -> None:
    """See that the folder is the root of a storage whose layout we know; raise `UnknownLayoutError`."""
    versions = tree.entries(VERSIONS)
    if versions is None:
        raise UnknownLayoutError(
            f"{tree.path} holds no {shown(V2)}: --root has to be the rootdirectory of a registry's filesystem storage"
        )
    if versions != [("v2", True)]:
        names = ", ".join(shown([name]) for name, _ in versions) or "nothing"
        raise UnknownLayoutError(f"{tree.path}/{shown(VERSIONS)} holds {names}, and only v2 is known")
    _expect(tree, V2, tree.entries(V2) or [], {"repositories": True, "blobs": True})
    if tree.has(REPOSITORIES) is False:
        raise UnknownLayoutError(f"{tree.path} holds no {shown(REPOSITORIES)}")
    if tree.has((_CACHE,)):
        raise UnknownLayoutError(f"{tree.path} is that of a pull-through cache, which fetches again what is gone")


def repository_parts(name: str) -> Parts:
    """Return where a repository is."""
    if not is_repository(name):
        raise UnknownLayoutError(f"{shown([name])} names no repository")
    return (*REPOSITORIES, *name.split("/"))


def tag_parts(repository: str, tag: str) -> Parts:
    """Return the folder of a tag."""
    return (*repository_parts(repository), "_manifests", "tags", tag)


def revision_parts(repository: str, digest: Digest) -> Parts:
    """Return the folder that makes a manifest one of a repository."""
    algorithm, _, value = digest.partition(":")
    return (*repository_parts(repository), "_manifests", "revisions", algorithm, value)


def has_repository(tree: Tree, name: str) -> bool:
    """Say whether there is a repository of this name; raise `UnknownLayoutError` where it holds what is not known."""
    entries = tree.entries(repository_parts(name))
    for entry, is_folder in entries or ():
        known = entry in _OF_REPOSITORY or not entry.startswith("_")
        if not is_folder or not known or (entry not in _OF_REPOSITORY and not _is_part(entry)):
            raise _unknown(tree, (*repository_parts(name), entry))
    manifests = (*repository_parts(name), "_manifests")
    found = tree.entries(manifests)
    _expect(tree, manifests, found or [], {"tags": True, "revisions": True})
    return found is not None


def tags(tree: Tree, where: Parts) -> Iterator[tuple[str, Digest | None]]:
    """Yield the tags below `where` (`.../tags`) with what they name; None where that is not written."""
    for name, is_folder in tree.entries(where) or ():
        if not is_folder or not is_tag(name):
            raise _unknown(tree, (*where, name))
        folder = (*where, name)
        _expect(tree, folder, tree.entries(folder) or [], {"current": True, "index": True})
        current = (*folder, "current")
        _expect(tree, current, tree.entries(current) or [], {_LINK: False})
        yield name, link(tree, current)


def revisions(tree: Tree, where: Parts) -> Iterator[Digest]:
    """Yield the manifests below `where` (`.../revisions`)."""
    for algorithm, is_folder in tree.entries(where) or ():
        if not is_folder or algorithm not in ("sha256", "sha512"):
            raise _unknown(tree, (*where, algorithm))
        for value, is_folder_too in tree.entries((*where, algorithm)) or ():
            folder = (*where, algorithm, value)
            digest = _digest(f"{algorithm}:{value}")
            if not is_folder_too or digest is None:
                raise _unknown(tree, folder)
            # Registries before 2.7 kept signatures of schema 1 here.
            _expect(tree, folder, tree.entries(folder) or [], {_LINK: False, "signatures": True})
            linked = link(tree, folder)
            if linked is not None and linked != digest:
                raise DoubtError(f"{tree.path}/{shown(folder)} holds the link of another manifest")
            if linked is not None:
                yield digest


def link(tree: Tree, folder: Parts) -> Digest | None:
    """Return the digest that the link in a folder holds; None where there is none.

    Raises:
        DoubtError: it holds something else: nobody knows what it stood for.
    """
    content = tree.read((*folder, _LINK), _MOST_LINK)
    if not content:  # an empty one is left where a registry was killed that wrote it
        return None
    digest = None if len(content) > _MOST_LINK else _digest(content.decode("ascii", errors="replace").strip())
    if digest is None:
        raise DoubtError(f"{tree.path}/{shown((*folder, _LINK))} holds no digest")
    return digest


def manifest(tree: Tree, repository: str, digest: Digest) -> CopiedManifest | None:
    """Return a manifest's content; None where the storage has lost it.

    Raises:
        DoubtError: it is not what its digest names, or cannot be read, so nobody knows what it lists.
    """
    content = tree.read(_blob_parts(digest), _MOST_MANIFEST)
    if content is None:
        return None
    found = CopiedManifest(repository, digest, "", content)
    if len(content) > _MOST_MANIFEST or not found.genuine:
        raise DoubtError(f"{tree.path}/{shown(_blob_parts(digest))} is not what its digest names")
    if not found.understood:
        raise DoubtError(f"{tree.path}/{shown(_blob_parts(digest))} is nothing of which one can tell what it lists")
    return found


def has_blob(tree: Tree, repository: str, digest: Digest) -> bool:
    """Say whether a config or layer can be pulled: its content is there, and the repository's link to it."""
    algorithm, _, value = digest.partition(":")
    layer = (*repository_parts(repository), "_layers", algorithm, value)
    return tree.has(_blob_parts(digest)) and link(tree, layer) is not None


def _blob_parts(digest: Digest) -> Parts:
    algorithm, _, value = digest.partition(":")
    return (*_BLOBS, algorithm, value[:2], value, "data")


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except ValueError:
        return None


def _is_part(name: str) -> bool:
    return is_repository(name) and "/" not in name


def _expect(tree: Tree, where: Parts, entries: list[tuple[str, bool]], known: dict[str, bool]) -> None:
    """Raise unless all entries of a folder are known; `known` says which are folders."""
    for name, is_folder in entries:
        unfinished = _LINK in known and not is_folder and _UNFINISHED.fullmatch(name)
        if known.get(name) is not is_folder and not unfinished:
            raise _unknown(tree, (*where, name))


def _unknown(tree: Tree, parts: Parts) -> UnknownLayoutError:
    return UnknownLayoutError(f"{tree.path}/{shown(parts)} is nothing that Docker Distribution puts there")
