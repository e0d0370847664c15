"""What is written down: structured log lines of every verdict, outcome, failure and run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict

from typing_extensions import override

from registry_cleanup.domain.deletion import ItemOutcome, UntaggedOutcome
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.report import USERS_TOLD
from registry_cleanup.domain.run import Failure, Phase, RunOrder, RunReport
from registry_cleanup.ports import Audit

_log = logging.getLogger("registry_cleanup.audit")
# What stays is written down many tags a line: of 100,000 tags that is most of them.
_TAGS_A_LINE = 200


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
        users = {v.tag: [str(user) for user in v.users[:USERS_TOLD]] for v in plan.verdicts if v.users}
        for (reason, rule), tags in _kept(plan).items():
            for start in range(0, len(tags), _TAGS_A_LINE):
                _log.info(
                    "kept",
                    extra={
                        **self._fields,
                        "verdict": "Keep",
                        "repository": plan.repository,
                        "reason": reason,
                        "rule": rule,
                        "tags": (told := tags[start : start + _TAGS_A_LINE]),
                        **({"users": used} if (used := {tag: users[tag] for tag in told if tag in users}) else {}),
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
    def untagged(self, repository: str, outcome: UntaggedOutcome) -> None:
        _log.info(
            "untagged manifest",
            extra={
                **self._fields,
                "outcome": outcome.outcome.value,
                "repository": repository,
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
                "inUse": asdict(report.scan) if report.scan is not None else None,
            },
        )


def _kept(plan: RepositoryPlan) -> Mapping[tuple[str, str | None], list[str]]:
    """Return the tags that stay, by reason and rule."""
    kept: dict[tuple[str, str | None], list[str]] = {}
    for verdict in plan.verdicts:
        if verdict.kept is not None:
            kept.setdefault((verdict.kept.value, verdict.rule), []).append(verdict.tag)
    return kept
