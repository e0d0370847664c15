"""What metrics tell of one policy: figures of its spec and of its status, without a name of any registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from registry_cleanup.domain.collection import CollectionPhase
from registry_cleanup.domain.run import Phase, RunReport


@dataclass(frozen=True, slots=True)
class SpecFigures:
    """What a spec lets people expect.

    Attributes:
        since: from when on a success may be expected: the creation or the last change of the spec, aware.
        scheduled: whether it names a schedule.
        interval: the longest time between two of its scheduled times; None without a schedule, and while suspended.
        suspended: whether it does not run at all.
        dry_run: whether its runs only plan.
        collection_timeout: how long a collection may keep the registry from changing; None where none does.
    """

    since: datetime
    scheduled: bool
    interval: timedelta | None
    suspended: bool
    dry_run: bool
    collection_timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RunFigures:
    """How the last run that ended came out.

    Attributes:
        phase: how it ended.
        seconds: how long it took; None where nobody knows.
        kept: number of tags that stay, by reason.
    """

    phase: Phase
    seconds: float | None
    kept: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConditionFigure:
    """A condition without its message."""

    type: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class CollectionFigures:
    """How garbage collection stands; None where nobody knows.

    Attributes:
        phase: of the collection under way, or the last one.
        freed: bytes that all collections freed.
        removed: blobs that they removed.
        seconds: how long the last one took.
        last_success: when one last succeeded, aware.
        frozen_since: since when the registry is kept from changing, aware; None while it is not.
    """

    phase: CollectionPhase | None
    freed: int
    removed: int
    seconds: float | None = None
    last_success: datetime | None = None
    frozen_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class StatusFigures:
    """What a status tells; None where it does not.

    Attributes:
        last_success: when a run last succeeded, aware.
        last_run: the last run, where it has ended.
        planned: number of tags that the published plan would prune.
        reclaimable: bytes that it would free, an estimate.
        references: number of references in use that the last look found.
        conditions: all that are set.
        collection: how garbage collection stands, where there is any.
    """

    last_success: datetime | None = None
    last_run: RunFigures | None = None
    planned: int | None = None
    reclaimable: int | None = None
    references: int | None = None
    conditions: tuple[ConditionFigure, ...] = ()
    collection: CollectionFigures | None = None


def freed_bytes(report: RunReport) -> int:
    """Return about how many bytes a run freed: as much of its plan's estimate as was pruned of its plan.

    An estimate twice over: of the sizes, and that all planned tags weigh the same. The registry's garbage collection
    gives the space back.
    """
    plan, counts = report.plan, report.counts
    if plan is None or not counts.tags_planned:
        return 0
    return plan.reclaimable * counts.tags_pruned // counts.tags_planned
