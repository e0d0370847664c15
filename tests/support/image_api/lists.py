"""Lists in pages of one version, and the selectors that the API knows. `facts/openshift.md` section 6."""

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.image_api import refusals
from tests.support.image_api.documents import API_VERSION
from tests.support.image_api.streams import Stream

_VERSION = "meta.k8s.io/v1"
_SNAPSHOTS_KEPT = 32

Entry = tuple[str, Callable[[], bytes]]


@dataclass(frozen=True)
class Page:
    """Of a list that stays as it was at its first page, whatever happens meanwhile."""

    entries: Sequence[Entry]
    version: int
    token: str
    remaining: int | None


class Lists:
    """Lists that were begun with a limit and may be continued."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[tuple[str, int], Sequence[Entry]] = OrderedDict()

    def page(self, kind: str, entries: Callable[[], Sequence[Entry]], version: int, query: Mapping[str, str]) -> Page:
        """Return a page, of a new list unless the query continues one."""
        limit = _limit(query)
        token = query.get("continue", "")
        if token:
            version, start = _parsed(token)
            found = self._snapshots.get((kind, version))
            if found is None:
                raise refusals.expired()
            rest = [entry for entry in found if entry[0] > start]
        else:
            rest = list(entries())
        if not limit or len(rest) <= limit:
            return Page(rest, version, "", None)
        if not token:
            self._keep(kind, version, rest)
        selective = query.get("labelSelector") or query.get("fieldSelector")
        page = rest[:limit]
        return Page(page, version, _token(version, page[-1][0]), None if selective else len(rest) - limit)

    def forget(self) -> None:
        """Let every list that was begun be too old to be continued."""
        self._snapshots.clear()

    def _keep(self, kind: str, version: int, entries: Sequence[Entry]) -> None:
        self._snapshots[kind, version] = entries
        while len(self._snapshots) > _SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)


def encoded_list(kind: str, page: Page, api_version: str = API_VERSION) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(page.version)}
    if page.token:
        metadata["continue"] = page.token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
    head = json.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata}, separators=(",", ":"))
    return head[:-1].encode() + b',"items":[' + b",".join(entry[1]() for entry in page.entries) + b"]}"


def _limit(query: Mapping[str, str]) -> int:
    try:
        return int(query.get("limit", "0"))
    except ValueError as error:
        raise refusals.bad_request("limit is no number") from error


def _token(version: int, last: str) -> str:
    content = json.dumps({"v": _VERSION, "rv": version, "start": last})
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _parsed(token: str) -> tuple[int, str]:
    try:
        content = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        return int(content["rv"]), str(content["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise refusals.bad_request(f"continue key is not valid: {error}") from error


# Selectors


def selected(streams: Sequence[Stream], query: Mapping[str, str]) -> list[Stream]:
    """Return the streams that both selectors of a query take."""
    by_label = [_label_test(one) for one in _requirements(query.get("labelSelector", ""))]
    by_field = [_field_test(one) for one in _requirements(query.get("fieldSelector", ""))]
    return [
        stream
        for stream in streams
        if all(test(stream.labels) for test in by_label) and all(test(stream) for test in by_field)
    ]


def _requirements(selector: str) -> list[str]:
    return [one.strip() for one in selector.split(",") if one.strip()]


def _comparison(requirement: str) -> tuple[str, bool, str] | None:
    for sign in ("!=", "==", "="):
        name, found, value = requirement.partition(sign)
        if found:
            return name.strip(), sign != "!=", value.strip()
    return None


def _label_test(requirement: str) -> Callable[[Mapping[str, str]], bool]:
    compared = _comparison(requirement)
    if compared is not None:
        name, equal, value = compared
        return lambda labels: (labels.get(name) == value) is equal
    if " " in requirement:
        raise refusals.bad_request("the stand-in for image.openshift.io knows no set-based label selectors")
    absent = requirement.startswith("!")
    return lambda labels: (requirement.lstrip("!") not in labels) is absent


def _field_test(requirement: str) -> Callable[[Stream], bool]:
    compared = _comparison(requirement)
    fields: Mapping[str, Callable[[Stream], str]] = {
        "metadata.name": lambda stream: stream.name,
        "metadata.namespace": lambda stream: stream.namespace,
        "spec.dockerImageRepository": lambda _stream: "",
        "status.dockerImageRepository": lambda stream: stream.repository,
    }
    if compared is None or compared[0] not in fields:
        raise refusals.bad_request(f'field label not supported: "{requirement}"')
    name, equal, value = compared
    read = fields[name]
    return lambda stream: (read(stream) == value) is equal
