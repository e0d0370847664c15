"""What was left frozen is found by its marks, and each mark finds somebody who restores what bears it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from registry_cleanup.application import Application
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.kube.api import APIError

_log = logging.getLogger(__name__)

_AGAIN_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Left:
    """A collection that a workload bears the mark of.

    Attributes:
        policy: UID of its policy, as the mark says it.
        collection: it.
    """

    policy: str
    collection: Collection


async def find_frozen(application: Application, collector: Collector) -> list[Left]:
    """Return what bears a mark.

    It is tried until it is known: a run that began at a frozen registry would only fail.
    """
    while True:
        try:
            found = await collector.api.marked(application.settings.namespaces)
        except APIError as error:
            _log.warning("whether a registry was left frozen is not known yet", extra={"cause": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)
            continue
        return [Left(mark.policy, Collection.of(namespace, name, mark)) for namespace, name, mark in found]


def owned(left: Iterable[Left], policies: Mapping[str, Mapping[str, Any]]) -> dict[str, Collection]:
    """Return which of `left` are the collections of policies, by UID: one each, that its policy can go on with.

    Whoever may change a workload can copy a mark, or write one. A policy freezes in its own namespace only; of several
    there, the one is its own that it names.

    Args:
        left: all that bears a mark.
        policies: all that there are, by UID.
    """
    found: dict[str, Collection] = {}
    for each in left:
        body = policies.get(each.policy)
        if body is None or body["metadata"]["namespace"] != each.collection.namespace:
            continue
        other = found.get(each.policy)
        if other is None or _likeness(each.collection, body) > _likeness(other, body):
            found[each.policy] = each.collection
    return found


def _likeness(collection: Collection, policy: Mapping[str, Any]) -> tuple[bool, bool]:
    """Say how much of a collection the policy itself tells: its ID, and its workload."""
    status = ((policy.get("status") or {}).get("collection") or {}).get("id")
    named = ((policy.get("spec") or {}).get("garbageCollection") or {}).get("workloadRef") or {}
    workload = (named.get("kind"), named.get("name")) == (collection.workload.kind, collection.workload.name)
    return status == collection.id, workload


async def known_policies(application: Application) -> dict[str, Mapping[str, Any]]:
    """Return all policies by UID; it is tried until they are known."""
    while True:
        try:
            return {body["metadata"]["uid"]: body async for body in application.policies()}
        except APIError as error:
            _log.warning("whose registry was left frozen is not known yet", extra={"cause": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)
