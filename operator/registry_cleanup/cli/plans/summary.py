"""What is told of a plan or a report as a whole: whose it is, what it came to, and what holds it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.domain.report import Line
from registry_cleanup.domain.run import Failure, RunReport
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.kube.status import PolicyStatus, rfc3339

# Of the JSON and YAML that `plan` and `report` print: another one where a script that reads it would break.
API_VERSION = "cli.registrycleanup.dev/v1"
# Of the limits that a plan exceeds; there may be one for each repository.
_LIMITS_TOLD = 5


_NOT_DELETING = {
    Deletion.DISABLED: "the registry: deletion is switched off there",
    Deletion.READ_ONLY: "the registry: it is read-only",
    Deletion.FORBIDDEN: "the registry: the login may not remove tags",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan or a report without its lines.

    Attributes:
        kind: `Plan` or `Report`.
        policy: whose, with `namespace`, `name`, `uid` and where it is `from`.
        run: that made it.
        plan: its hash and totals.
        failures: of the run and of single repositories.
    """

    kind: str
    policy: Mapping[str, str]
    run: Mapping[str, Any]
    plan: Mapping[str, Any]
    failures: Sequence[Mapping[str, str]]

    def document(self) -> dict[str, Any]:
        """Return it as JSON prints it."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "policy": dict(self.policy),
            "run": dict(self.run),
            "plan": dict(self.plan),
            "failures": [dict(failure) for failure in self.failures],
        }

    def held_back(self) -> list[str]:
        """Return what holds all of a plan back, or would, by the field that does; of a grace period the tags tell."""
        waiting = self.plan.get("waiting") or {}
        told = []
        if waiting.get("deletion"):
            told.append(_NOT_DELETING.get(waiting["deletion"], f"the registry does not delete ({waiting['deletion']})"))
        if waiting.get("suspended"):
            told.append("spec.suspend: the policy does not run")
        if waiting.get("dryRun"):
            told.append("spec.dryRun: the policy is only planned, and prunes nothing")
        exceeded = waiting.get("exceeded", ())
        told += exceeded[:_LIMITS_TOLD]
        if (more := len(exceeded) - _LIMITS_TOLD) > 0:
            told.append(f"and {more:,} more limits")
        if waiting.get("approvalRequired") and waiting.get("unapproved"):
            number = waiting["unapproved"]
            told.append(f"spec.approval: {number:,} planned tag{'' if number == 1 else 's'} not approved")
        return told


def of_plan(policy: ParsedPolicy, where: str, head: Line, report: RunReport, *, published: bool) -> Summary:
    """Return what is told of a plan that was just made, and whether an earlier one of the policy is published."""
    plan, waiting = report.plan, report.waiting
    run = {
        "id": report.order.id,
        "registry": head["registry"],
        "phase": report.phase.value,
        "planOnly": report.order.plan_only,
        "startTime": rfc3339(report.order.start),
        "completionTime": rfc3339(report.completion),
        "message": report.message,
        "counts": _camel(asdict(report.counts)),
        "keptByReason": dict(sorted(report.kept_by_reason.items())),
    }
    totals: dict[str, Any] = {"hash": head["plan"], "generatedAt": head["generatedAt"]}
    if plan is not None:
        totals |= {
            "published": published,
            "prunableFrom": rfc3339(plan.prunable_from),
            "deletions": plan.deletions,
            "reclaimableBytes": plan.reclaimable,
            "untaggedManifests": plan.untagged,
            "untaggedManifestsLeft": head.get("untaggedManifestsLeft"),
            "deletionUnit": head.get("deletionUnit"),
            "spared": head.get("spared"),
        }
    if waiting is not None:
        totals["waiting"] = {
            "exceeded": list(waiting.exceeded),
            "approvalRequired": waiting.approval,
            "unapproved": waiting.unapproved,
            "dryRun": policy.dry_run,
            "suspended": policy.suspend,
        }
        if report.deletion is not None and not report.deletion.deletion.possible:
            totals["waiting"]["deletion"] = report.deletion.deletion.value
    failures = [_failure(failure) for failure in report.failures]
    return Summary("Plan", _whose(policy.namespace, policy.name, policy.uid, where), run, _known(totals), failures)


def of_report(namespace: str, name: str, uid: str, head: Line, status: PolicyStatus) -> Summary:
    """Return what is told of the report that a policy's status refers to."""
    run: dict[str, Any] = {"id": head["run"], "registry": head["registry"], "planOnly": head["planOnly"]}
    last = status.last_run
    if last is not None and last.id == head["run"]:
        run |= {
            "trigger": last.trigger.value,
            "phase": last.phase.value,
            "startTime": last.start_time,
            "completionTime": last.completion_time,
            "message": last.message,
            "counts": None if last.counts is None else last.counts.as_json(),
            "keptByReason": last.kept_by_reason,
        }
    totals = {
        "hash": head["plan"],
        "generatedAt": head["generatedAt"],
        "reclaimableBytes": head["reclaimableBytesEstimate"],
        # Reports of older operators do not say it.
        "untaggedManifestsLeft": head.get("untaggedManifestsLeft"),
        "deletionUnit": head.get("deletionUnit"),
        "spared": head.get("spared"),
        "unapproved": head.get("unapproved"),
    }
    if status.plan is not None and status.plan.hash == head["plan"]:
        totals |= {
            "prunableFrom": status.plan.prunable_from,
            "deletions": status.plan.deletions,
            "untaggedManifests": status.plan.untagged_manifests,
        }
    whose = _whose(namespace, name, uid, f"policy {namespace}/{name}")
    return Summary("Report", whose, _known(run), _known(totals), ())


def _whose(namespace: str, name: str, uid: str, where: str) -> Mapping[str, str]:
    return {"namespace": namespace, "name": name, "uid": uid, "from": where}


def _failure(failure: Failure) -> Mapping[str, str]:
    told = {"reason": failure.reason, "message": failure.message}
    return told if failure.repository is None else {"repository": failure.repository, **told}


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {to_camel(key): value for key, value in values.items()}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
