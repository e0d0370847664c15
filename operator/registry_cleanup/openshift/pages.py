"""Reading a page of a list of objects while it arrives: pure, from bytes to one document after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from registry_cleanup.openshift.errors import OddAnswerError

_ITEMS = b'"items":['
# Each item begins with its metadata (openshift.md, 6). Within a string the quotes would be escaped.
_BETWEEN = b',{"metadata":'


class PageReader:
    """Cuts a page into its items.

    The cuts are guesses, and a JSON parser says of each whether it is right. Where nothing looks like a cut, such as in
    JSON that a person may read, the page is parsed at its end, as a whole.
    """

    def __init__(self) -> None:
        self._head = b""
        self._rest = bytearray()
        self._seen = 0

    def feed(self, content: bytes) -> Iterator[dict[str, Any]]:
        """Take what comes next, and yield the items that it completes; go through them before more is fed."""
        self._rest += content
        if not self._head:
            at = self._rest.find(_ITEMS)
            if at < 0:
                return
            self._head = bytes(self._rest[: at + len(_ITEMS)])
            del self._rest[: len(self._head)]
        start = 0
        while (cut := self._rest.find(_BETWEEN, max(self._seen, start))) >= 0:
            try:
                item = json.loads(self._rest[start:cut])
            except ValueError:
                self._seen = cut + 1  # something within an item
                continue
            start = cut + 1
            yield item
        del self._rest[:start]
        self._seen = max(len(self._rest) - len(_BETWEEN) + 1, 0)

    def end(self) -> tuple[list[dict[str, Any]], str]:
        """Return the items that are left, and the token of the next page, which is empty after the last.

        Raises:
            OddAnswerError: what was fed is no list.
        """
        try:
            page = json.loads(self._head + self._rest)
            items, token = page["items"], (page.get("metadata") or {}).get("continue") or ""
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OddAnswerError("the list of image streams is no list") from error
        if not isinstance(items, list):
            raise OddAnswerError("the list of image streams is no list")
        return items, str(token)
