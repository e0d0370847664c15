"""Many patterns, asked at once: RE2 walks over a tag once for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import re2

from registry_cleanup.domain.policy import TagPattern

# Matches every text. Where RE2 does not find it, its automaton had no room and it says "nothing matches" of anything.
_ALWAYS = "(?s).*"


class PatternSet:
    """Says which of some patterns match a tag, just as each `TagPattern` says by itself."""

    __slots__ = ("_always", "_patterns", "_together")

    def __init__(self, patterns: Iterable[TagPattern]) -> None:
        """Compile `patterns` into one automaton; where that would be too large, each is asked by itself."""
        self._patterns = tuple(patterns)
        self._together = _compile(tuple(pattern.text for pattern in self._patterns))
        self._always = len(self._patterns)

    def matching(self, tag: str) -> tuple[int, ...]:
        """Return the places, in no certain order, of the patterns that match the whole of `tag`."""
        if self._together is not None:
            found: list[int] = self._together.Match(tag)
            if self._always in found:
                found.remove(self._always)
                return tuple(found)
        return tuple(place for place, pattern in enumerate(self._patterns) if pattern.matches(tag))


@lru_cache(maxsize=256)
def _compile(texts: tuple[str, ...]) -> re2.Set | None:
    options = re2.Options()
    options.log_errors = False
    found = re2.Set.FullMatchSet(options)
    try:
        for text in (*texts, _ALWAYS):
            found.Add(text)
        found.Compile()
    except re2.error:
        return None
    return found
