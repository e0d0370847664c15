"""What every resource has, and what an API server refuses of it: apiVersion, kind, names, labels and annotations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from registry_cleanup.kube.fields import label_key, label_value
from registry_cleanup.kube.spec import GROUP, KIND, VERSION
from registry_cleanup.kube.structure import Told, unknown

API_VERSION = f"{GROUP}/{VERSION}"

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)
_LONGEST_NAME, _LONGEST_NAMESPACE = 253, 63
_MOST_ANNOTATIONS = 256 * 1024
_FIELDS = ["apiVersion", "kind", "metadata", "spec", "status"]
# Of these the API server writes some itself; whoever keeps what `kubectl get -o yaml` printed has them in a file.
_METADATA = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "selfLink",
]


def is_meant(body: Mapping[str, Any]) -> bool:
    """Say whether a resource is a policy, or was meant to be one."""
    group, _, _ = str(body.get("apiVersion")).partition("/")
    return body.get("kind") == KIND or group == GROUP


def problems(body: Mapping[str, Any]) -> Told:
    """Yield what is wrong with a resource that is meant to be a policy, but for its spec."""
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if name not in body:
            yield name, f"is required; write {expected}"
        elif body[name] != expected:
            yield name, f"must be {expected}"
    yield from ((name, unknown(name, _FIELDS)) for name in body if name not in _FIELDS)
    metadata = body.get("metadata", {})
    if isinstance(metadata, dict):
        yield from _of_metadata(metadata)
    else:
        yield "metadata", "must be a mapping"


def _of_metadata(metadata: Mapping[str, Any]) -> Told:
    yield from ((f"metadata.{name}", unknown(name, _METADATA)) for name in metadata if name not in _METADATA)
    if "name" not in metadata:
        yield "metadata.name", "is required"
    for name, form, longest, words in (
        ("name", _SUBDOMAIN, _LONGEST_NAME, "lower case letters, digits, '-' and '.'"),
        ("namespace", _NAMESPACE, _LONGEST_NAMESPACE, "lower case letters, digits and '-'"),
    ):
        text = metadata.get(name, "a")
        if not isinstance(text, str):
            yield f"metadata.{name}", "must be a string; write it in quotes"
        elif form.fullmatch(text) is None or len(text) > longest:
            yield (
                f"metadata.{name}",
                f"must be {words}, begin and end with a letter or digit, and have at most {longest} characters",
            )
    yield from _of_map(metadata, "labels", label_key, label_value)
    yield from _of_map(metadata, "annotations", lambda key: label_key(key.lower()), None)
    if _annotation_bytes(metadata) > _MOST_ANNOTATIONS:
        yield "metadata.annotations", f"must have at most {_MOST_ANNOTATIONS} bytes"


def _annotation_bytes(metadata: Mapping[str, Any]) -> int:
    found = metadata.get("annotations")
    texts = [text for entry in found.items() for text in entry] if isinstance(found, dict) else []
    return sum(len(text.encode()) for text in texts if isinstance(text, str))


def _of_map(
    metadata: Mapping[str, Any], name: str, check_key: Callable[[str], None], check_value: Callable[[str], None] | None
) -> Iterator[tuple[str, str]]:
    entries = metadata.get(name, {})
    if not isinstance(entries, dict):
        yield f"metadata.{name}", "must be a mapping"
        return
    for key, value in entries.items():
        try:
            check_key(key)
            if not isinstance(value, str):
                yield f"metadata.{name}.{key}", "must be a string; write it in quotes"
            elif check_value is not None:
                check_value(value)
        except ValueError as error:
            yield f"metadata.{name}.{key}", str(error)
