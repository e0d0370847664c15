"""Label selectors, as `kube.spec` writes them for the API, applied to labels that were read one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Commas within brackets separate values.
_BETWEEN = re.compile(r",(?![^()]*\))")
_SET = re.compile(r"(?P<key>\S+) (?P<operator>in|notin) \((?P<values>[^()]*)\)")


def bears(labels: Mapping[str, str], selector: str) -> bool:
    """Say whether `labels` are as `selector` wants them; as in the API, `notin` also holds without the key."""
    return all(_holds(labels, part) for part in _BETWEEN.split(selector))


def _holds(labels: Mapping[str, str], part: str) -> bool:
    if (match := _SET.fullmatch(part)) is not None:
        value, values = labels.get(match["key"]), match["values"].split(",")
        return value in values if match["operator"] == "in" else value not in values
    if part.startswith("!"):
        return part[1:] not in labels
    key, equals, value = part.partition("=")
    return labels.get(key) == value if equals else key in labels
