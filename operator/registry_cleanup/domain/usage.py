"""What is in use of one repository: by name, digest, config or history, and with what lists it."""

from __future__ import annotations

from dataclasses import replace

from registry_cleanup.domain.in_use import ALL_TAGS, InUse, User
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.structure import ancestors, descendants


def used_digests(inventory: Inventory, in_use: InUse) -> set[Digest]:
    """Return the manifests of a repository that are in use: by their digest or config, and the indexes that list them.

    Digests in use that the repository does not know are among them.
    """
    if not in_use.digests:
        return set()
    by_config = {m.digest for m in inventory.manifests.values() if m.config is not None and m.config in in_use.digests}
    used = by_config.union(in_use.digests)
    return used | ancestors(used, inventory.manifests)


def unfound_images(inventory: Inventory, in_use: InUse) -> frozenset[Digest]:
    """Return the image IDs that run under the repository's name, and that are neither a manifest nor a config of it."""
    ids = in_use.at(inventory.repository).image_ids
    if not ids:
        return ids
    manifests = inventory.manifests
    configs = {manifest.config for manifest in manifests.values() if manifest.config is not None}
    before = {digest for digests in inventory.history.values() for digest in digests}
    return ids - configs - manifests.keys() - descendants(manifests, manifests) - {*inventory.tags.values()} - before


def users(inventory: Inventory, in_use: InUse, tag: str) -> tuple[User, ...]:
    """Return who uses `tag`: by its name, or by what it stands for, which is all of its history and what that lists."""
    return in_use.users_of(inventory.repository, tag, stands_for(inventory, tag))


def users_by_name(inventory: Inventory, in_use: InUse, tag: str) -> tuple[User, ...]:
    """Return who uses `tag` by its name."""
    return in_use.users_of(inventory.repository, tag, ())


def users_by_digest(inventory: Inventory, in_use: InUse, tag: str) -> dict[User, Digest]:
    """Return who uses what `tag` stands for by a digest, and by which: its own comes first."""
    own = inventory.tags.get(tag)
    found: dict[User, Digest] = {}
    for digest in sorted(stands_for(inventory, tag), key=lambda digest: (digest != own, digest)):
        for user in in_use.digest_users.get(digest, ()):
            found.setdefault(user, digest)
    return found


def stands_for(inventory: Inventory, tag: str) -> set[Digest]:
    """Return what protects `tag` if it is in use: all of its history, what that lists, and the configs of those."""
    named = {*inventory.history.get(tag, ())}
    if tag in inventory.tags:
        named.add(inventory.tags[tag])
    named |= descendants(named, inventory.manifests)
    known = [inventory.manifests[digest] for digest in named if digest in inventory.manifests]
    named.update(manifest.config for manifest in known if manifest.config is not None)
    return named


def without_use(inventory: Inventory, in_use: InUse, tag: str) -> tuple[Inventory, InUse]:
    """Return both as they were if nobody used `tag`: neither its name, nor what it stands for or lists."""
    repository = inventory.repository
    named = stands_for(inventory, tag)
    names = {(repository, tag), (repository, ALL_TAGS)}
    left = replace(
        in_use,
        digests=in_use.digests - named,
        tags=in_use.tags - names,
        image_ids={digest: where for digest, where in in_use.image_ids.items() if digest not in named},
    )
    return replace(inventory, used=inventory.used - {tag}), left
