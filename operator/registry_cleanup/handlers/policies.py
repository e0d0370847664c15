"""Events of policies: they only wake the supervisor. `on.event` adds no finalizer, so deletion never waits for us."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import kopf

from registry_cleanup.kube.spec import GROUP, PLURAL, VERSION
from registry_cleanup.supervisor import Supervisor

_EVENT_LIMIT = 1000  # of the API's 1024 bytes for an Event's message


def register(registry: kopf.OperatorRegistry) -> None:
    """Add the handlers of policies to `registry`."""
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(_policy_event)


async def _policy_event(event: kopf.RawEvent, body: kopf.Body, memo: kopf.Memo, **_: object) -> None:
    supervisor: Supervisor = memo["supervisor"]
    # kopf's bodies are live views: a task keeps what it was told.
    supervisor.observe(copy.deepcopy(dict(body)), deleted=event.get("type") == "DELETED")
    # kopf keeps the last event of each resource, and asks for nothing of this: of a thousand it would take 30 MiB.
    for raw in (event["object"], event["object"]["metadata"]):
        for unused in ("status", "managedFields"):
            cast(dict[str, Any], raw).pop(unused, None)


def notify(body: Mapping[str, Any], warning: bool, reason: str, message: str) -> None:
    """Post an Event about a policy."""
    kopf.event(
        kopf.Body(cast(kopf.RawBody, body)),
        type="Warning" if warning else "Normal",
        reason=reason,
        message=message[:_EVENT_LIMIT],
    )
