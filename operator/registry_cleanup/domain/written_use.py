"""What is in use, as the operator writes it down for `storage prune`: what of it bears on a few repositories."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.reference import parse_digest


class UnreadableUseError(ValueError):
    """What was read does not say what is in use, or not whole."""


def write_use(in_use: InUse, repositories: Collection[str]) -> str:
    """Return what protects in `repositories`, as JSON: not who uses it."""
    wanted = frozenset(repositories)
    ids = {digest: sorted(names & wanted) for digest, names in in_use.image_ids.items() if names & wanted}
    document = {
        "digests": sorted(in_use.digests),
        "tags": sorted([name, tag] for name, tag in in_use.tags if name in wanted),
        "imageIDs": dict(sorted(ids.items())),
    }
    return json.dumps(document, separators=(",", ":"))


def read_use(text: bytes) -> InUse:
    """Return what `write_use` wrote; raise `UnreadableUseError`."""
    try:
        document: Mapping[str, Any] = json.loads(text)
        digests = frozenset(parse_digest(each) for each in document["digests"])
        ids = {parse_digest(each): frozenset(map(str, names)) for each, names in document["imageIDs"].items()}
        tags = frozenset((str(name), str(tag)) for name, tag in document["tags"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableUseError("it does not say what is in use") from error
    return InUse(digests, tags, ids)
