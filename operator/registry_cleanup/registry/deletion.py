"""Making tags and manifests go over `/v2/`: what goes when."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, UntaggedOutcome
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.registry.by_digest import ByDigest
from registry_cleanup.registry.by_tag import ByTag
from registry_cleanup.registry.copier import Copier
from registry_cleanup.registry.deleter import Deleter
from registry_cleanup.registry.untagged import Progress, Untagged


class Pruning:
    """The deletions of one repository."""

    def __init__(self, deleter: Deleter, plan: RepositoryPlan, unit: DeletionUnit, copier: Copier) -> None:
        self._plan = plan
        self._progress = Progress()
        self._untagged = Untagged(deleter, plan, unit, self._progress, copier)
        self._tags: ByTag | ByDigest = (
            ByTag(deleter, plan, copier)
            if unit is DeletionUnit.TAG
            else ByDigest(deleter, plan, self._untagged, self._progress, copier)
        )

    async def outcomes(self) -> AsyncGenerator[ItemOutcome | UntaggedOutcome, None]:
        """Delete what may go, and with it gone what may go then; yield the verified outcomes.

        Tags go first, then what they leave without a name, then the referrers of what is gone, and so on. Tags and
        manifests that were not touched have no outcome.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        waiting, further = self._plan.groups, True
        while further:
            further = False
            gone = self._progress.gone_subjects()
            ready = tuple(group for group in waiting if group.after <= gone)
            waiting = tuple(group for group in waiting if not group.after <= gone)
            async with aclosing(self._tags.outcomes(ready)) as items:
                async for item in items:
                    further = True
                    self._progress.ended[item.tag] = item.outcome
                    yield item
            async with aclosing(self._untagged.outcomes()) as manifests:
                async for manifest in manifests:
                    further = True
                    yield manifest
