"""What the status of a policy, and Events, tell of its garbage collection."""

from __future__ import annotations

from registry_cleanup.collector import Collection
from registry_cleanup.domain.collecting import Known
from registry_cleanup.domain.collection import CollectionMode, CollectionPhase, Measures, Step, StoragePruned
from registry_cleanup.domain.news import News
from registry_cleanup.kube.collecting import told
from registry_cleanup.kube.collecting.job import StorageOrder
from registry_cleanup.kube.status import CollectionStatus, parse_time
from registry_cleanup.ports import Clock
from registry_cleanup.standing import Notify, Standing


class CollectionStanding:
    """What one policy's collections have come to; nothing is told any more once the policy is gone.

    Attributes:
        policy: what the policy has come to as a whole; None where it is gone.
    """

    def __init__(self, standing: Standing | None, notify: Notify, clock: Clock) -> None:
        self.policy = standing
        self._notify = notify
        self._clock = clock
        self._news = News()

    def abandon(self) -> None:
        """Tell nobody any more: the policy was deleted."""
        self.policy = None

    @property
    def status(self) -> CollectionStatus:
        """What status says now."""
        found = self.policy.status.collection if self.policy is not None else None
        return found or CollectionStatus()

    async def known(self, collection: Collection) -> Known | None:
        """Return what status says of a collection under way; None where there is no policy any more."""
        if self.policy is None:
            return None
        if self.status.id != collection.id or self.status.phase is not CollectionPhase.RUNNING:
            # The mark outlived a status that could not be written, or was lost.
            await self.write(
                told.begun(
                    self.status,
                    collection.id,
                    collection.mode,
                    collection.workload,
                    collection.start,
                    None,
                    freezes=True,
                )
            )
        return told.known_of(self.status)

    async def begin(self, begun: CollectionStatus, request: str | None) -> None:
        """Show that a collection begins, and which request it answers, in one patch.

        Who sees the request answered sees its collection, and not the end of the one before.
        """
        if self.policy is not None:
            writer = self.policy.writer(self.policy.status.observed_generation)
            await self.policy.write(writer.collection_begun(begun, request))

    async def show(
        self,
        collection: Collection,
        step: Step | None,
        message: str,
        *,
        measures: Measures | None = None,
        failure: str | None = None,
        frozen: bool = True,
        pruned: StoragePruned | None = None,
    ) -> None:
        """Show where a collection is; at the step that is shown already where there is no `step`."""
        last, since = self.status, None
        if frozen and collection.mode is CollectionMode.RUN:
            since = parse_time(last.frozen_since) or self._clock.now()
        step = step or last.step or Step.FREEZING
        await self.write(
            told.stepped(last, step, message, measures=measures, failure=failure, frozen_since=since, pruned=pruned)
        )

    async def ordered(self, collection: Collection, order: StorageOrder) -> None:
        """Show what is pruned in the storage, before anything of it is."""
        await self.write(told.ordered(self.status, order, collection.deadline))

    async def not_ordered(self, why: str) -> None:
        """Show that nothing is pruned in the storage after all."""
        if told.prunes(self.status):
            await self.write(told.not_ordered(self.status, why))

    async def fail(self, collection: Collection, failure: str, *, frozen: bool = True) -> None:
        """Show why a collection fails; it goes on until all is restored."""
        await self.show(collection, None, f"ends, since {failure}", failure=failure, frozen=frozen)

    async def write(self, status: CollectionStatus) -> None:
        """Publish what status says of collections."""
        if self.policy is not None and status != self.policy.status.collection:
            writer = self.policy.writer(self.policy.status.observed_generation)
            await self.policy.write(writer.collection(status))

    async def note_request(self, request: str) -> None:
        """Take note of a request that asks for nothing."""
        if self.policy is not None and self.policy.status.last_handled_collect_request != request:
            writer = self.policy.writer(self.policy.status.observed_generation)
            await self.policy.write(writer.collect_request(request))

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Post an Event; what happens again and again is told once in a while."""
        if self.policy is not None and self._news.is_news(reason, message, self._clock.now()):
            self._notify(self.policy.body, warning, reason, message)
