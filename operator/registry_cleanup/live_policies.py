"""Which policies prune, read once for all runs that ask within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.kube.raw import Kind, RawAPI
from registry_cleanup.kube.spec import GROUP, KIND, PLURAL, VERSION, InvalidSpecError, ParsedPolicy, parse_policy
from registry_cleanup.ports import Clock

Parse = Callable[[Mapping[str, Any]], ParsedPolicy]
"""Returns the policy that a resource spells, or raises `InvalidSpecError`."""

_POLICIES = Kind(f"{GROUP}/{VERSION}", KIND, PLURAL)
# A policy takes ten times as much memory as objects as on the wire: a thousand at a time would take 100 MiB.
_POLICIES_A_PAGE = 100
# For so long runs that only plan share a list, while no event tells of a change: where a thousand policies are planned
# at once, each would list and parse a thousand.
_SHARED_FOR = timedelta(seconds=5)


def live_policy(body: Mapping[str, Any], parse: Parse = parse_policy) -> ParsedPolicy | None:
    """Return the policy of a resource if it prunes.

    Suspended, dry-run and dying ones block nobody, nor do those that are invalid or not allowed.
    """
    spec = body.get("spec") or {}
    if body["metadata"].get("deletionTimestamp") is not None or spec.get("dryRun", True) is True or spec.get("suspend"):
        return None
    try:
        return parse(body)
    except InvalidSpecError:
        return None


async def all_policies(raw: RawAPI, namespaces: Sequence[str] = ()) -> AsyncIterator[dict[str, Any]]:
    """Yield all policies of these namespaces as they are now, or of the cluster where none is named."""
    for namespace in namespaces or (None,):
        pages = raw.pages(_POLICIES, namespace=namespace, limit=_POLICIES_A_PAGE)
        async with aclosing(pages):
            async for page in pages:
                for body in page.items:
                    yield body


@dataclass(frozen=True, slots=True)
class _Read:
    began: datetime
    task: asyncio.Task[Sequence[ParsedPolicy]]


class LivePolicies:
    """The policies that prune: valid, not suspended, no dry runs, not being deleted.

    They are read anew again and again: after a start of the operator not every policy has shown itself by an event yet.
    """

    def __init__(self, policies: Callable[[], AsyncIterator[Mapping[str, Any]]], parse: Parse, clock: Clock) -> None:
        """Ask `policies` for all resources, which may yield one several times, and let `parse` parse them."""
        self._policies = policies
        self._parse = parse
        self._clock = clock
        self._last: _Read | None = None

    def outdate(self) -> None:
        """Take note that a policy begins to prune, does so otherwise, or ends: what was read before is no one's."""
        self._last = None

    async def read(self, since: datetime | None = None) -> Sequence[ParsedPolicy]:
        """Return them as they are now, or were seconds ago; raise `APIError` where they cannot be read.

        Args:
            since: an instant before which nothing may have been read; a run that prunes asks for what is newer than it.
        """
        now = self._clock.now()
        last = self._last
        oldest = max(now - _SHARED_FOR, since) if since is not None else now - _SHARED_FOR
        # A clock that was put back makes an old list one of the time to come.
        if last is None or not oldest < last.began <= now or _failed(last.task):
            last = self._last = _Read(now, asyncio.create_task(self._read(), name="reads all policies"))
        # One of those that wait may be cancelled; the others go on waiting.
        return await asyncio.shield(last.task)

    async def _read(self) -> Sequence[ParsedPolicy]:
        live = {body["metadata"]["uid"]: live_policy(body, self._parse) async for body in self._policies()}
        return [policy for policy in live.values() if policy is not None]


def _failed(task: asyncio.Task[Sequence[ParsedPolicy]]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
