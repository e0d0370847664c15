"""What a collection prunes in the storage: the plan of the policy's last run, where its registry deletes nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import Phase, RunOrder, Trigger
from registry_cleanup.domain.written_plan import UnreadablePlanError, WrittenPlan, objection, read_lines
from registry_cleanup.domain.written_use import write_use
from registry_cleanup.kube.collecting.job import IN_USE_KEY, PLAN_KEY, OrderFile, StorageOrder
from registry_cleanup.kube.config_maps import OwnedConfigMaps
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.kube.status import PolicyStatus
from registry_cleanup.ports import Clock, RunError, Workloads

# What is pushed, dated or marked since the plan was made nobody looks at again; what is in use, somebody does.
_MOST_AGE = timedelta(hours=1)
# A report may fill a ConfigMap nearly, and thousands of digests in use half of one.
_PLAN, _IN_USE = "storage-plan", "storage-in-use"


class StorageOrders:
    """Makes the orders of one policy's collections."""

    def __init__(
        self,
        plans: ConfigMapPlans,
        maps: OwnedConfigMaps,
        workloads: Workloads,
        clock: Clock,
        on_openshift: Callable[[], Awaitable[bool]],
    ) -> None:
        self._plans = plans
        self._maps = maps
        self._workloads = workloads
        self._clock = clock
        self._on_openshift = on_openshift

    async def order(self, policy: ParsedPolicy, status: PolicyStatus) -> StorageOrder:
        """Return what a collection that begins now does in the storage, and write down what its Job needs for it.

        Raises:
            APIError: it is not known what kind of cluster this is.
        """
        # There, each namespace has users of its own, and what names none gets one of them.
        as_root = not await self._on_openshift()
        window = policy.policy.undo.window
        try:
            plan, content = await self._plan(policy, status)
            in_use = await self._in_use(status)
            files = await self._write(plan, content, in_use)
        except _NothingError as why:
            return StorageOrder(None, None, window, str(why), as_root)
        except RunError as error:
            return StorageOrder(None, None, window, error.failure.message, as_root)
        return StorageOrder(files, plan.run, window, None, as_root)

    async def _plan(self, policy: ParsedPolicy, status: PolicyStatus) -> tuple[WrittenPlan, bytes]:
        """Return the plan of the last run, and the report that it is in; raise `_NothingError`."""
        last, stalled = status.last_run, status.condition("Stalled")
        refused = stalled is not None and (stalled.status, stalled.reason) == ("True", Deletion.DISABLED.value)
        # One that was interrupted leaves the condition as the run before it did.
        if last is None or last.phase in (Phase.RUNNING, Phase.INTERRUPTED) or not refused:
            raise _NothingError(
                f"the policy's last run did not end with {Deletion.DISABLED.value}; one that does has to end within an "
                "hour before the collection"
            )
        if status.plan is None or status.plan.observed_generation != policy.generation:
            raise _NothingError("the policy was changed since its last run")
        content = await self._plans.last_report()
        if content is None:
            raise _NothingError("the report of the last run is gone")
        told = last.report_ref.sha256 if last.report_ref is not None else None
        # Its plan's hash anybody can make anew who may write ConfigMaps here; status only the operator writes.
        if told is None or hashlib.sha256(content).hexdigest() != told:
            raise _NothingError("the report in the cluster is not the one that the run wrote")
        try:
            plan = await asyncio.to_thread(_read, content)
        except (UnreadablePlanError, OSError, EOFError, ValueError, zlib.error) as error:
            raise _NothingError(f"the report of the last run cannot be pruned by: {error}") from error
        if plan.run != last.id or plan.policy != policy.uid:
            raise _NothingError("the report in the cluster is not that of the last run")
        why = objection(plan, self._clock.now(), _MOST_AGE, None, policy.policy.registry)
        if why is not None:
            raise _NothingError(why)
        if not any(tag.spared is None for each in plan.repositories for tag in each.tags.values()):
            raise _NothingError("nothing of the last run's plan may go yet" if plan.planned else "nothing is planned")
        return plan, content

    async def _in_use(self, status: PolicyStatus) -> InUse:
        """Return what is in use now; raise `RunError` where nobody knows."""
        before = status.in_use
        references = before.references if before is not None else None
        order = RunOrder("", Trigger.REQUEST, plan_only=False, start=self._clock.now(), references_before=references)
        async with self._workloads.scan(order) as scan:
            return scan.in_use

    async def _write(self, plan: WrittenPlan, content: bytes, in_use: InUse) -> tuple[OrderFile, OrderFile]:
        text = write_use(in_use, [each.name for each in plan.repositories])
        use = await asyncio.to_thread(gzip.compress, text.encode(), mtime=0)
        async with self._maps.explained():
            return await self._file(_PLAN, PLAN_KEY, content), await self._file(_IN_USE, IN_USE_KEY, use)

    async def _file(self, part: str, key: str, content: bytes) -> OrderFile:
        name = self._maps.name(part)
        await self._maps.write(name, {key: content}, {})
        return OrderFile(name, hashlib.sha256(content).hexdigest())


class _NothingError(Exception):
    """Nothing is pruned now; the message says why."""


def _read(content: bytes) -> WrittenPlan:
    return read_lines(read_report(content))
