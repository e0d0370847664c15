"""What became of what was to go, as it is told while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from registry_cleanup.domain.deletion import ItemOutcome, Outcome, UntaggedOutcome
from registry_cleanup.domain.report import FullReport, read_report


@dataclass(slots=True)
class Outcomes:
    """What became of what was to go, as it is told: also of a run that does not come to its end.

    Attributes:
        gone_already: number of tags that somebody else had taken away.
    """

    gone_already: int = 0
    _items: dict[str, list[ItemOutcome | UntaggedOutcome]] = field(default_factory=dict)

    def add(self, repository: str, outcome: ItemOutcome | UntaggedOutcome) -> None:
        """Take note of one."""
        self._items.setdefault(repository, []).append(outcome)
        self.gone_already += isinstance(outcome, ItemOutcome) and outcome.outcome is Outcome.ALREADY_GONE

    def lines(self) -> list[dict[str, Any]]:
        """Return them as lines of a report."""
        report = FullReport(None)
        for repository, outcomes in self._items.items():
            report.outcomes(repository, outcomes)
        return [line for line in read_report(report.compressed({})[0]) if line["type"] != "run"]
