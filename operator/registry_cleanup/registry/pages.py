"""Reading lists that come in pages: the names on one, and where the next one is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urljoin

import httpx

from registry_cleanup.registry.errors import MalformedAnswerError
from registry_cleanup.registry.transport import Answer


def names(body: dict[str, Any], key: str, valid: Callable[[str], bool]) -> Collection[str]:
    """Return what a page lists under `key`; raise `MalformedAnswerError` where it holds anything else."""
    found = body.get(key)
    if found is None and key in body:
        return ()  # Distribution answers `null` once the last tag is gone (registries.md, 7)
    if not isinstance(found, list) or not all(isinstance(name, str) and valid(name) for name in found):
        raise MalformedAnswerError(f"the registry's list of {key} holds something else")
    return found


def next_link(answer: Answer) -> str | None:
    """Return the target of `Link: <…>; rel="next"` (RFC 8288), if there is one."""
    # As bytes: httpx refuses to make a header of text that is not ASCII.
    link = answer.headers.get("Link", "").encode(errors="replace")
    links = httpx.Response(200, headers=[(b"Link", link)]).links
    return links.get("next", {}).get("url")


def joined(base: str, reference: str) -> str:
    """Resolve `reference` against `base`; what is no URL at all becomes empty, which is no origin of anybody."""
    try:
        return urljoin(base, reference)
    except ValueError:
        return ""
