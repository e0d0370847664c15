"""What waits only until its plan is published, which is for no time where there is no grace period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.report import Line
from registry_cleanup.domain.run import RunReport
from registry_cleanup.domain.verdict import KeepReason

_GRACE = KeepReason.GRACE_PERIOD.value
# As `domain.messages` begins what it says of the grace period.
_WAITS = "waiting for the grace period"


def as_published(
    policy: Policy, report: RunReport, head: Line, lines: Sequence[Line]
) -> tuple[RunReport, Line, Sequence[Line]]:
    """Return the report of a run that planned, its first line and the others, as if the plan were published.

    Without a grace period nothing waits then; to say that it does, since no plan before had it, would puzzle people.
    """
    if policy.grace_period or not report.order.plan_only:
        return report, head, lines
    message = "; ".join(part for part in report.message.split("; ") if not part.startswith(_WAITS))
    kept = {reason: number for reason, number in report.kept_by_reason.items() if reason != _GRACE}
    left = [line for line in lines if line["type"] != "held" or line["reason"] != _GRACE]
    if "spared" in head:
        # Whoever prunes by the plan counts what is left.
        head = {**head, "spared": head["spared"] - (len(lines) - len(left))}
    return replace(report, message=message, kept_by_reason=kept), head, left
