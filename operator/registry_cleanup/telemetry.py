"""What is written down: one structured log line for each verdict that prunes, each outcome, failure and run."""

from __future__ import annotations

import logging
from dataclasses import asdict

from typing_extensions import override

from registry_cleanup.domain.deletion import ItemOutcome
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.run import Failure, Phase, RunOrder, RunReport
from registry_cleanup.ports import Audit

_log = logging.getLogger("registry_cleanup.audit")


class LogAudit(Audit):
    """Writes to the log; every line names the policy and the run."""

    def __init__(self, namespace: str, policy: str, registry: str, order: RunOrder) -> None:
        self._fields = {
            "policy": f"{namespace}/{policy}",
            "registry": registry,
            "run": order.id,
            "planOnly": order.plan_only,
        }

    @override
    def planned(self, plan: RepositoryPlan) -> None:
        for verdict in plan.verdicts:
            if verdict.kept is None:
                _log.info(
                    "to be pruned",
                    extra={
                        **self._fields,
                        "verdict": "Prune",
                        "repository": plan.repository,
                        "tag": verdict.tag,
                        "digest": verdict.digest,
                        "rule": verdict.rule,
                        "reasons": [reason.value for reason in verdict.pruned],
                        "date": verdict.date.isoformat() if verdict.date is not None else None,
                    },
                )
        _log.info(
            "repository planned",
            extra={
                **self._fields,
                "repository": plan.repository,
                "planned": plan.planned,
                "keptByReason": dict(plan.kept_by_reason()),
            },
        )

    @override
    def outcome(self, repository: str, outcome: ItemOutcome) -> None:
        _log.info(
            "outcome",
            extra={
                **self._fields,
                "outcome": outcome.outcome.value,
                "repository": repository,
                "tag": outcome.tag,
                "digest": outcome.digest,
                "code": outcome.code,
            },
        )

    @override
    def failure(self, failure: Failure) -> None:
        _log.warning(
            failure.message, extra={**self._fields, "reason": failure.reason, "repository": failure.repository}
        )

    @override
    def finished(self, report: RunReport) -> None:
        _log.log(
            logging.INFO if report.phase is Phase.SUCCEEDED else logging.WARNING,
            "run finished",
            extra={
                **self._fields,
                "trigger": report.order.trigger.value,
                "phase": report.phase.value,
                "plan": report.plan.hash if report.plan is not None else None,
                "counts": asdict(report.counts),
                "summary": report.message,
            },
        )
