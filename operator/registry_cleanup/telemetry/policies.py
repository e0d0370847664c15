"""The metrics of single policies: kept as figures, and spelled out only when the page is asked for.

A thousand policies have some thirty thousand series: as objects of prometheus-client they would take far more memory
than the figures they show, and each would have to be taken away by its labels when its policy goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from registry_cleanup.domain.figures import CollectionFigures, RunFigures, SpecFigures, StatusFigures, freed_bytes
from registry_cleanup.domain.run import RunReport

_PREFIX = "registry_cleanup_policy_"
_POLICY = ("namespace", "name")


@dataclass(slots=True)
class _State:
    """All that is known of one policy."""

    spec: SpecFigures
    status: StatusFigures = field(default_factory=StatusFigures)
    last_run: RunFigures | None = None
    expiry: datetime | None = None
    counts: Counter[str] = field(default_factory=Counter)


class PolicySeries:
    """What the page shows of one policy, until it is closed.

    After that nothing of it is shown any more, whatever a run that ends later still tells.
    """

    def __init__(self, labels: tuple[str, str], spec: SpecFigures, collector: PolicyCollector) -> None:
        self._labels = labels
        self._collector = collector
        self.state = _State(spec)

    def spec(self, figures: SpecFigures) -> None:
        """Take note of the spec."""
        self.state.spec = figures

    def status(self, figures: StatusFigures) -> None:
        """Take note of the status; the last run stays that which ended last, while another one is under way."""
        self.state.status = figures
        self.state.last_run = figures.last_run or self.state.last_run

    def run_ended(self, report: RunReport) -> None:
        """Count what a run did."""
        counts = report.counts
        self.state.counts.update(
            planned_tags=counts.tags_planned,
            pruned_tags=counts.tags_pruned,
            failed_tags=counts.tags_failed,
            skipped_tags=counts.tags_skipped,
            freed_bytes=freed_bytes(report),
        )

    def credential_expires(self, when: datetime | None) -> None:
        """Take note of when the policy's credential ends; None where nobody knows."""
        self.state.expiry = when

    def close(self) -> None:
        """Take all series of the policy away."""
        self._collector.forget(self._labels, self)


class PolicyCollector(Collector):
    """All policies of the process, by namespace and name: of two with one name the later is shown."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], PolicySeries] = {}

    def open(self, namespace: str, name: str, spec: SpecFigures) -> PolicySeries:
        """Begin to show a policy."""
        series = self._series[namespace, name] = PolicySeries((namespace, name), spec, self)
        return series

    def find(self, namespace: str, name: str) -> PolicySeries | None:
        """Return the series of a policy, if it is shown."""
        return self._series.get((namespace, name))

    def forget(self, labels: tuple[str, str], series: PolicySeries) -> None:
        """Show a policy no more, unless another one has taken its name."""
        if self._series.get(labels) is series:
            del self._series[labels]

    @override
    def collect(self) -> Iterator[Metric]:
        # One family after the other, so that the samples of only one are in memory. The event loop may add and remove
        # policies while the page is made.
        shown = list(self._series.items())
        for family in _FAMILIES:
            metric = family.type(_PREFIX + family.name, family.text, labels=(*_POLICY, *family.labels))
            for labels, series in shown:
                for more, value in family.samples(series.state):
                    metric.add_metric((*labels, *more), value)
            yield metric


# What is shown

_Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric of all policies.

    Attributes:
        name: without the prefix.
        text: its HELP.
        samples: of one policy, the values of `labels` with the sample's own.
        labels: besides those that name the policy.
        type: gauge or counter.
    """

    name: str
    text: str
    samples: Callable[[_State], _Samples]
    labels: tuple[str, ...] = ()
    type: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily


def _one(value: Callable[[_State], float | datetime | None]) -> Callable[[_State], _Samples]:
    """Return the only sample of a policy; none where there is no value."""

    def samples(state: _State) -> _Samples:
        found = value(state)
        if found is not None:
            yield (), found.timestamp() if isinstance(found, datetime) else found

    return samples


def _counter(name: str, text: str) -> _Family:
    return _Family(name, text, _one(lambda state: state.counts[name]), type=CounterMetricFamily)


def _info(state: _State) -> _Samples:
    spec = state.spec
    yield tuple("true" if each else "false" for each in (spec.scheduled, spec.suspended, spec.dry_run)), 1


def _interval(state: _State) -> float | None:
    return state.spec.interval.total_seconds() if state.spec.interval is not None else None


def _phase(state: _State) -> _Samples:
    return [((state.last_run.phase.value,), 1)] if state.last_run is not None else []


def _kept(state: _State) -> _Samples:
    kept = state.last_run.kept if state.last_run is not None else {}
    return [((reason,), number) for reason, number in kept.items()]


def _conditions(state: _State) -> _Samples:
    return [((each.type, each.status, each.reason), 1) for each in state.status.conditions]


def _of_collection(value: Callable[[CollectionFigures], float | datetime | None]) -> Callable[[_State], _Samples]:
    """Return the only sample of a policy's garbage collection; none where there is no collection, or no value."""
    return _one(lambda state: value(state.status.collection) if state.status.collection is not None else None)


def _collection_phase(state: _State) -> _Samples:
    collection = state.status.collection
    return [((collection.phase.value,), 1)] if collection is not None and collection.phase is not None else []


_FAMILIES = (
    _Family("info", "What kind of policy it is.", _info, ("scheduled", "suspended", "dry_run")),
    _Family(
        "expected_since_timestamp_seconds",
        "From when on a success may be expected: the policy's creation, or the last change of its spec.",
        _one(lambda state: state.spec.since),
    ),
    _Family(
        "interval_seconds",
        "Longest time between two scheduled runs; absent without a schedule, and while suspended.",
        _one(_interval),
    ),
    _Family(
        "last_success_timestamp_seconds",
        "When a run last succeeded, from status; absent before the first.",
        _one(lambda state: state.status.last_success),
    ),
    _Family("last_run_phase", "Phase of the last run that ended.", _phase, ("phase",)),
    _Family(
        "last_run_duration_seconds",
        "How long the last run took.",
        _one(lambda state: state.last_run.seconds if state.last_run is not None else None),
    ),
    _Family("last_run_kept_tags", "Tags that the last run kept, by reason.", _kept, ("reason",)),
    _Family("plan_tags", "Tags that the published plan would prune.", _one(lambda state: state.status.planned)),
    _Family(
        "plan_reclaimable_bytes",
        "Bytes that the published plan would free, an estimate.",
        _one(lambda state: state.status.reclaimable),
    ),
    _Family(
        "in_use_references",
        "References in use that the last look at the cluster found.",
        _one(lambda state: state.status.references),
    ),
    _Family("condition", "A condition of status as it is now.", _conditions, ("type", "status", "reason")),
    _Family(
        "credential_expiry_timestamp_seconds",
        "When the token in the policy's Secret ends, as it says itself; absent where it says nothing.",
        _one(lambda state: state.expiry),
    ),
    _Family(
        "collection_phase", "Phase of the garbage collection under way, or the last one.", _collection_phase, ("phase",)
    ),
    _Family(
        "collection_freed_bytes",
        "Bytes that garbage collections of the policy freed, measured; from status.",
        _of_collection(lambda collection: collection.freed),
        type=CounterMetricFamily,
    ),
    _Family(
        "collection_removed_blobs",
        "Blobs that garbage collections of the policy removed; from status.",
        _of_collection(lambda collection: collection.removed),
        type=CounterMetricFamily,
    ),
    _Family(
        "collection_last_duration_seconds",
        "How long the last garbage collection took.",
        _of_collection(lambda collection: collection.seconds),
    ),
    _Family(
        "collection_last_success_timestamp_seconds",
        "When a garbage collection last succeeded; absent before the first.",
        _of_collection(lambda collection: collection.last_success),
    ),
    _Family(
        "collection_frozen",
        "Whether the registry is kept from changing for a garbage collection.",
        _of_collection(lambda collection: collection.frozen_since is not None),
    ),
    _Family(
        "collection_frozen_since_timestamp_seconds",
        "Since when the registry is kept from changing; absent while it is not.",
        _of_collection(lambda collection: collection.frozen_since),
    ),
    _Family(
        "collection_timeout_seconds",
        "How long a garbage collection may keep the registry from changing.",
        _one(
            lambda state: (
                state.spec.collection_timeout.total_seconds() if state.spec.collection_timeout is not None else None
            )
        ),
    ),
    _counter("planned_tags", "Tags that runs of the policy planned to prune; a tag counts in each run that plans it."),
    _counter("pruned_tags", "Tags that were pruned and verified to be gone."),
    _counter("failed_tags", "Tags that were to go and did not, by failures of their deletion."),
    _counter(
        "skipped_tags",
        "Planned tags that runs which may prune left alone: held by a guard, moved, in use, or gone.",
    ),
    _counter(
        "freed_bytes",
        "Estimate: of each run the plan's estimate times the pruned share of its planned tags. The registry's garbage "
        "collection gives the space back.",
    ),
)
