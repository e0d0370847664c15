"""Until when what was pruned at a registry can still be undone: garbage waits for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry_cleanup.domain.interval import expected_interval
from registry_cleanup.kube.spec import InvalidSpecError, ParsedPolicy
from registry_cleanup.kube.status import parse_status, parse_time
from registry_cleanup.live_policies import Parse
from registry_cleanup.ports import RunError
from registry_cleanup.rivals import Connect, SameRegistry


@dataclass(frozen=True, slots=True)
class UndoWindow:
    """A window that has not passed.

    Attributes:
        until: its end.
        policy: whose runs can be undone, `namespace/name`.
        length: of the window.
        interval: the longest time between two scheduled runs of that policy, where they come more often than the
            window can pass.
    """

    until: datetime
    policy: str
    length: timedelta
    interval: timedelta | None


class UndoWindows:
    """The windows of all policies of the cluster, whatever name each uses for its registry."""

    def __init__(
        self,
        policies: Callable[[], AsyncIterator[Mapping[str, Any]]],
        parse: Parse,
        registries: SameRegistry,
        connect: Connect,
    ) -> None:
        """Ask `policies` for all resources, of which one may come several times."""
        self._policies = policies
        self._parse = parse
        self._registries = registries
        self._connect = connect

    async def last_at(self, policy: ParsedPolicy, pruned: datetime | None, now: datetime) -> UndoWindow | None:
        """Return the window at the registry of `policy` that ends last; None where all have passed.

        Args:
            policy: that wants to collect.
            pruned: when it pruned last itself, which its written status may not tell yet.
            now: the time.

        Raises:
            APIError: the policies could not be read, so nobody knows.
        """
        open_ = {}
        async for body in self._policies():
            try:
                other = self._parse(body)
            except InvalidSpecError:
                continue  # nothing runs by it; what it pruned before it was broken, its own window no longer says
            last = parse_time(parse_status(body.get("status")).last_pruned_time)
            if other.uid == policy.uid:
                last = max((each for each in (last, pruned) if each is not None), default=None)
            window = _window(other, last, now)
            if window is not None:
                open_[other.uid] = (other, window)
        found = [window for other, window in open_.values() if await self._same(policy, other)]
        return max(found, key=lambda window: window.until, default=None)

    async def _same(self, mine: ParsedPolicy, other: ParsedPolicy) -> bool:
        """Say whether both are at one registry; where nobody can tell they are, since waiting does no harm."""
        if mine.uid == other.uid or mine.registry.url == other.registry.url:
            return True
        try:
            async with self._connect(mine) as registry:
                names = await registry.repositories()
                common = [name for name in names if other.policy.repositories.selects(name)]
                return bool(common) and await self._registries.same(mine, registry, other, common)
        except RunError:
            return True


def _window(policy: ParsedPolicy, pruned: datetime | None, now: datetime) -> UndoWindow | None:
    length = policy.policy.undo.window
    if pruned is None or pruned + length <= now:
        return None
    interval = None
    if policy.schedule is not None and not policy.suspend and not policy.dry_run:
        longest = expected_interval(policy.schedule, now)
        interval = longest if longest <= length else None
    return UndoWindow(pruned + length, f"{policy.namespace}/{policy.name}", length, interval)
