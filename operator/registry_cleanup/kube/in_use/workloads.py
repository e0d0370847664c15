"""What the cluster uses, as a run asks for it: one look that runs of the same minute share, and a watch of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from typing_extensions import override

from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.policy import InUseRules
from registry_cleanup.domain.run import RunOrder, ScanSummary, Trigger
from registry_cleanup.domain.tenancy import WHOLE_CLUSTER, Reach
from registry_cleanup.kube.in_use.doubt import doubt
from registry_cleanup.kube.in_use.look import Found, Look, ReadConfigMap
from registry_cleanup.kube.in_use.watch import AllWatches, PodWatch
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.ports import Clock, Observer, Scan, Workloads

# For so long runs that only plan share a look.
_SHARED_FOR = timedelta(seconds=60)
# Runs that begin together share one also where they prune; what was deployed before that must be seen.
_TOGETHER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A look that is under way or done."""

    began: datetime
    task: asyncio.Task[Found]


class Looks:
    """The looks of the last minute, by what they look at."""

    def __init__(
        self,
        api: RawAPI,
        config_map: ReadConfigMap,
        clock: Clock,
        reach: Reach = WHOLE_CLUSTER,
        observer: Observer | None = None,
    ) -> None:
        """Look through `api` at what is within `reach`; `observer` is told how long each look took."""
        self._reach = reach
        self._api = api
        self._observer = observer
        self._config_map = config_map
        self._clock = clock
        self._begun: dict[tuple[InUseRules, str], _Begun] = {}

    def for_policy(self, rules: InUseRules, namespace: str) -> ClusterWorkloads:
        """Return what a policy in `namespace` sees of the cluster by its `rules`."""
        return ClusterWorkloads(self._api, self._clock, rules, lambda since: self._found(rules, namespace, since))

    async def _found(self, rules: InUseRules, namespace: str, since: datetime) -> Found:
        """Return a look that began at `since` or later, one that others have taken if there is one."""
        # What is found does not depend on how its names are read afterwards.
        key = (replace(rules, aliases=()), namespace if rules.references_config_map is not None else "")
        known = self._begun.get(key)
        # A clock that was put back makes an old look one of the time to come.
        if known is None or not since <= known.began <= self._clock.now():
            known = self._begun[key] = self._begin(key, rules, namespace)
        # One of the runs that wait may be cancelled; the others go on waiting.
        return await asyncio.shield(known.task)

    def _begin(self, key: tuple[InUseRules, str], rules: InUseRules, namespace: str) -> _Begun:
        look = Look(self._api, self._config_map, self._clock, rules, namespace, self._reach)
        begun = _Begun(self._clock.now(), asyncio.create_task(look.take(), name="in use"))

        def forget() -> None:
            if self._begun.get(key) is begun:
                del self._begun[key]

        def done(task: asyncio.Task[Found]) -> None:
            if self._observer is not None and not task.cancelled():
                seconds = (self._clock.now() - begun.began).total_seconds()
                self._observer.scanned(max(seconds, 0.0), whole=task.exception() is None)
            # A look that failed is taken again by who asks next.
            if task.cancelled() or task.exception() is not None:
                forget()
            else:
                asyncio.get_running_loop().call_later(_SHARED_FOR.total_seconds(), forget)

        begun.task.add_done_callback(done)
        return begun


class ClusterWorkloads(Workloads):
    """What one policy sees of the cluster."""

    def __init__(
        self, api: RawAPI, clock: Clock, rules: InUseRules, found: Callable[[datetime], Awaitable[Found]]
    ) -> None:
        """Look by `rules`; `found` returns a look that began at a time or later."""
        self._api = api
        self._clock = clock
        self._rules = rules
        self._found = found

    @asynccontextmanager
    @override
    async def scan(self, order: RunOrder) -> AsyncIterator[Scan]:
        if not self._rules.enabled:
            yield Scan(NOTHING_IN_USE, ScanSummary(0, disabled=True), _nothing)
            return
        found = await self._found(order.start - _age(order))
        number = len(found.gathered)
        before = order.references_before
        if before is not None and 2 * number < before and not order.acknowledges:
            raise doubt(
                f"only {number} references are in use, fewer than half of the {before} of the last look",
                "if that is right, request a run: kubectl annotate rcp NAME --overwrite "
                'registrycleanup.dev/run-requested-at="$(date)"',
            )
        in_use, odd = await asyncio.to_thread(found.gathered.in_use, self._rules.aliases)
        async with AsyncExitStack() as stack:
            watches = [
                await stack.enter_async_context(
                    PodWatch(self._api, self._clock, found, self._rules.aliases, namespace=namespace).running()
                )
                for namespace in found.pods_versions
            ]

            since = watches[0].since if len(watches) == 1 else AllWatches(watches).since
            yield Scan(in_use, ScanSummary(number, (*found.notes, *odd), began=found.began), since)


def _age(order: RunOrder) -> timedelta:
    """Return how old a look may be. Who has just deployed something and asks for a run is told of that."""
    if order.trigger in (Trigger.REQUEST, Trigger.RESUME):
        return timedelta(0)
    return _SHARED_FOR if order.trigger is Trigger.SCHEDULE and order.plan_only else _TOGETHER


async def _nothing() -> InUse:
    return NOTHING_IN_USE
