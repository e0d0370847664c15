"""What a registry's configuration says of its storage; whoever may write a ConfigMap may have written anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

# As in the official images' configuration.
DEFAULT_ROOT = "/var/lib/registry"
# Theirs have less than 2 KiB. It is read at each look.
_MOST_CHARACTERS = 64 * 1024
_DEEPEST = 32
# What a registry remembers of its layers, by either name; in redis it outlives the registry's pods.
_CACHES = ("blobdescriptor", "layerinfo")
_NO_DRIVERS = frozenset({"cache", "delete", "maintenance", "redirect", "tag"})


class UnreadableConfigurationError(ValueError):
    """A text that is no configuration, or none that is safe to read; the message says how that shows."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What a configuration says of the storage.

    Attributes:
        driver: its kind; None where none is named.
        root: the root directory of the driver for files.
        caches: where it keeps what it knows of its layers, by either name.
    """

    driver: str | None = None
    root: str = DEFAULT_ROOT
    caches: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def storage_settings(text: str) -> StorageSettings:
    """Return what the configuration `text` says of the storage; raise `UnreadableConfigurationError`."""
    _expect_plain(text)
    try:
        storage = _mapping(_mapping(yaml.safe_load(text)).get("storage"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableConfigurationError("cannot be read as YAML") from error
    root = _mapping(storage.get("filesystem")).get("rootdirectory") or DEFAULT_ROOT
    if not isinstance(root, str):
        raise UnreadableConfigurationError("names a storage.filesystem.rootdirectory that is no path")
    caches = _mapping(storage.get("cache"))
    return StorageSettings(
        next((str(each) for each in storage if each not in _NO_DRIVERS), None),
        root,
        tuple([_word(caches[each]) for each in _CACHES if caches.get(each) is not None]),
    )


def _expect_plain(text: str) -> None:
    """Raise for what takes more time and memory than the operator has: some hundred bytes of aliases do."""
    if len(text) > _MOST_CHARACTERS:
        raise UnreadableConfigurationError(f"is longer than {_MOST_CHARACTERS // 1024} KiB")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise UnreadableConfigurationError("has aliases (*name): write out what they stand for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise UnreadableConfigurationError("is nested too deep")
    except yaml.YAMLError as error:
        raise UnreadableConfigurationError("cannot be read as YAML") from error


def _mapping(found: object) -> Mapping[Any, Any]:
    if found is not None and not isinstance(found, Mapping):
        raise UnreadableConfigurationError("cannot be read as YAML of a registry's configuration")
    return found or {}


def _word(found: object) -> str:
    return found if isinstance(found, str) else type(found).__name__
