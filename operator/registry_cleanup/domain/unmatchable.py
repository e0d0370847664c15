"""Regular expressions that no tag can match, as they need a character that none has; only what is certain is told."""

from __future__ import annotations

import re

_NO_TAG_HAS = re.compile(r"[^A-Za-z0-9_.\-]")
# What a scan takes as one: the head of a group, a class, an escape, how often what stands before it comes, the rest.
_PARTS = re.compile(
    r"""
    (?P<group>\((?:\?(?:P?<\w+>|:))?)
    |(?P<end>\))
    |(?P<class>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\])
    |(?P<escape>\\[pPx]\{[^}]*\}|\\.)
    |(?P<anchor>[\^$.])
    |(?P<literal>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OFTEN = re.compile(r"(?P<maybe>[?*]|\{0(?:,\d*)?\})|\+|\{\d+(?:,\d*)?\}")


def impossible_character(pattern: str) -> str | None:
    """Return a character that `pattern` needs and no tag has; None where there is none, or that is not certain.

    Args:
        pattern: of RE2 syntax, and valid.
    """
    # What of these is literal, is left alone too: alternatives, flags (of which one folds letters), quotations.
    if "|" in pattern or "\\Q" in pattern or re.search(r"\(\?[a-zA-Z-]*[imsU]", pattern):
        return None
    needed: list[list[str]] = [[]]
    place = 0
    while place < len(pattern):
        part = _PARTS.match(pattern, place)
        if part is None:
            return None
        place = part.end()
        if part["group"]:
            needed.append([])
            continue
        found = [part[0]] if part["literal"] and _NO_TAG_HAS.match(part[0]) else []
        if part["end"]:
            if len(needed) == 1:
                return None
            found = needed.pop()
        maybe = False
        while often := _OFTEN.match(pattern, place):
            place = often.end()
            maybe = maybe or often["maybe"] is not None
        if not maybe:
            needed[-1] += found
    return needed[0][0] if len(needed) == 1 and needed[0] else None
