"""A policy that no API server has seen: what breaks the CRD, and what the operator would refuse, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds
from registry_cleanup.kube import identity, structure
from registry_cleanup.kube.built_in import built_in_schema
from registry_cleanup.kube.spec import InvalidSpecError, ParsedPolicy, parse_policy

# What an API server adds to a resource and `parse_policy` wants to see.
_ADDED: Mapping[str, Any] = {"uid": "", "generation": 1, "creationTimestamp": "2000-01-01T00:00:00+00:00"}


def parse(body: Mapping[str, Any], bounds: Bounds = UNBOUNDED) -> ParsedPolicy:
    """Return the policy of a resource that no API server has seen.

    Raises:
        InvalidSpecError: with all that is wrong with it.
    """
    if found := refusals(body, bounds):
        raise InvalidSpecError(found)
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "default")
    return _parsed(body, bounds, name=name, namespace=namespace)


def refusals(body: Mapping[str, Any], bounds: Bounds = UNBOUNDED) -> list[tuple[str, str]]:
    """Return the paths of all that is wrong with a resource, each with what to write instead.

    The schema's words come first. The model knows more of a field (whether a time zone exists, what a glob can match),
    but looks at fields together only where each is right by itself, which the schema's rules do without.
    """
    told = [*identity.problems(body), *_of_schema(body)]
    if isinstance(body.get("spec"), dict):
        places = {path for path, _ in told}
        told += [(path, words) for path, words in _of_model(body, bounds) if not _known(path, places)]
    return told


def _of_schema(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "spec" in body:
        yield from structure.problems(body["spec"], _schema()["spec"], "spec")
    else:
        yield "spec", "is required"
    # Whoever keeps what `kubectl get -o yaml` printed has a status: an API server passes over it, but for its keys.
    yield from structure.unknown_fields(body.get("status"), _schema()["status"], "status")


def _known(path: str, places: set[str]) -> bool:
    """Say whether one of `places` tells of a field, of a part of it, or of what it is part of."""
    whole = path.rpartition(".")[0]
    return any(place in (path, whole) or place.startswith((f"{path}.", f"{path}[")) for place in places)


def _of_model(body: Mapping[str, Any], bounds: Bounds) -> Iterator[tuple[str, str]]:
    try:
        _parsed(body, bounds, name="", namespace="")
    except InvalidSpecError as error:
        # The key of a mapping is a place of its own to pydantic.
        yield from ((path.removesuffix(".[key]"), words) for path, words in error.errors)


def _parsed(body: Mapping[str, Any], bounds: Bounds, *, name: str, namespace: str) -> ParsedPolicy:
    return parse_policy({"metadata": {**_ADDED, "name": name, "namespace": namespace}, "spec": body["spec"]}, bounds)


@cache
def _schema() -> Mapping[str, structure.Schema]:
    found: Mapping[str, structure.Schema] = built_in_schema()["properties"]
    return found
