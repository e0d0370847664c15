"""What an operator before this one has left frozen: found by its marks before anything else begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from registry_cleanup.application import Application
from registry_cleanup.collector import Collection, Collector
from registry_cleanup.kube.api import APIError, ForbiddenError

_log = logging.getLogger(__name__)

_AGAIN_AFTER = 5.0


async def find_frozen(application: Application, collector: Collector) -> Mapping[str, Collection]:
    """Return the collections that were left, by the UID of their policy.

    It is tried until it is known: a run that began at a frozen registry would only fail.
    """
    while True:
        try:
            found = await collector.api.marked(application.settings.namespaces)
        except ForbiddenError:
            # Who may not list workloads never froze any: the ClusterRole that lets it do so lets it list them.
            return {}
        except APIError as error:
            _log.warning("whether a registry was left frozen is not known yet", extra={"cause": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)
            continue
        left = {mark.policy: Collection.of(namespace, name, mark) for namespace, name, mark in found}
        for each in left.values():
            extra = {"workload": str(each.workload), "namespace": each.namespace, "collection": each.id}
            _log.warning("a registry was left frozen by an operator before this one", extra=extra)
        return left


async def known_policies(application: Application) -> set[str]:
    """Return the UIDs of all policies; it is tried until they are known."""
    while True:
        try:
            return {body["metadata"]["uid"] async for body in application.policies()}
        except APIError as error:
            _log.warning("whose registry was left frozen is not known yet", extra={"cause": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)
