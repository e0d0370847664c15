"""Making a plan as the operator would, for a person who only looks, and comparing it with what is published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.cli.plans.difference import Baseline, Difference, baseline_of, compare, planned
from registry_cleanup.cli.plans.findings import View
from registry_cleanup.cli.plans.looking import check_in_use, look_store, order_to_plan, published_plan, tell_notes
from registry_cleanup.cli.plans.policies import Loaded, load
from registry_cleanup.cli.plans.reports import report_lines
from registry_cleanup.cli.plans.summary import of_plan
from registry_cleanup.cli.plans.waiting import as_published
from registry_cleanup.cli.progress import progress
from registry_cleanup.cli.telling import tell
from registry_cleanup.cli.working import told
from registry_cleanup.domain.published import Published
from registry_cleanup.domain.report import Line, read_report
from registry_cleanup.domain.run import RunReport
from registry_cleanup.kube.api import NoAnswerError
from registry_cleanup.kube.in_use.doubt import REASON
from registry_cleanup.kube.status import PolicyStatus, parse_status
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.session import Session, open_session
from registry_cleanup.settings import read_settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of `plan`.

    Attributes:
        name: of a policy, in the cluster or in the file.
        filename: of the policy; None for the cluster's.
        in_use: whether what the cluster uses is looked at, where the policy wants that.
        differs: whether the plan is compared with the published one.
        login: at the registry.
        cluster: which.
    """

    name: str | None
    filename: Path | None
    in_use: bool
    differs: bool
    login: LoginOptions
    cluster: ClusterOptions


async def make(asked: Asked, view: View) -> Printed:
    """Return the plan; raise `CommandError` where there is none."""
    needs_cluster = asked.filename is None or asked.differs
    async with open_session(read_settings(), asked.login, asked.cluster, needs_cluster=needs_cluster) as session:
        loaded = await _load(session, asked)
        status = parse_status((loaded.resource or {}).get("status"))
        if asked.differs and status.plan is None:
            whose = f"{loaded.policy.namespace}/{loaded.policy.name}"
            if loaded.unreadable:
                raise CommandError(f"nothing to compare with: policy {whose} may not be read", Exit.CLUSTER)
            what = "is not in the cluster" if loaded.resource is None else "has no plan yet"
            raise CommandError(f"nothing to compare with: policy {whose} {what}", Exit.HELD_BACK)
        check_in_use(session, loaded.policy, in_use=asked.in_use, otherwise="plan")
        published = await published_plan(session, loaded)
        store = await look_store(session, loaded, published)
        report = await session.run(loaded.policy, order_to_plan(session), store, follow=progress(), in_use=asked.in_use)
        tell_notes(session)
        if not store.content:
            raise _no_plan(loaded, report)
        first, *others = await asyncio.to_thread(lambda: list(read_report(store.content)))
        report, head, lines = as_published(loaded.policy.policy, report, first, others)
        difference = None
        if asked.differs:
            baseline = await _baseline(session, loaded, status, published)
            difference = _compare(head, lines, baseline)
        known = published is not None and bool(published.repositories)
        summary = of_plan(loaded.policy, loaded.where, head, report, published=known)
        return Printed(summary, head, lines, view, difference)


def exit_of(printed: Printed) -> Exit:
    """Return how `plan` ends: what could not be read weighs more than a difference."""
    failures = printed.summary.failures
    if any("repository" not in failure for failure in failures):
        return Exit.FAILED
    if failures:
        return Exit.PARTIAL
    return Exit.DIFFERENT if printed.difference is not None and not printed.difference.same else Exit.DONE


async def _load(session: Session, asked: Asked) -> Loaded:
    """Return the policy; one of a file also where the cluster does not answer and need not."""
    try:
        return await load(session, asked.filename, asked.name, asked.cluster)
    except NoAnswerError as error:
        means_it = asked.cluster.kubeconfig is not None or asked.cluster.context is not None
        if asked.filename is None or asked.differs or means_it:
            raise
        tell(f"Note: the kubeconfig's cluster does not answer ({error}), so the plan is made without it")
    session.cluster = None
    return await load(session, asked.filename, asked.name, asked.cluster)


def _no_plan(loaded: Loaded, report: RunReport) -> CommandError:
    """Return why no plan came about."""
    policy = loaded.policy
    if not report.failures:
        # Nothing else stops a run that only plans: who else prunes there could not be read.
        return CommandError(f"{report.message}{_otherwise(loaded)}", Exit.CLUSTER)
    first = told(report.failures[0])
    if report.failures[0].reason == REASON:
        return CommandError(f"{first}; or plan without looking: --no-in-use{_otherwise(loaded)}", Exit.CLUSTER)
    where = f"registry {policy.registry.url}: " if first.code is Exit.REGISTRY and policy.registry.url else ""
    more = "".join(f"\n{told(failure)}" for failure in report.failures[1:])
    return CommandError(f"{where}{first}{more}", first.code)


def _otherwise(loaded: Loaded) -> str:
    """Return what does without a person's own rights in the cluster."""
    if loaded.resource is None:
        return ""
    policy = loaded.policy
    return f"; registry-cleanup report {policy.name} -n {policy.namespace} shows what the operator planned last"


# Comparing


async def _baseline(session: Session, loaded: Loaded, status: PolicyStatus, published: Published | None) -> Baseline:
    """Return what is known of the published plan; raise `CommandError` where that is no more than its hash."""
    if status.plan is None or session.cluster is None or loaded.resource is None:
        raise CommandError("nothing to compare with", Exit.CLUSTER)
    plan = {"hash": status.plan.hash, "generatedAt": status.plan.generated_at}
    if status.plan.observed_generation != loaded.resource["metadata"]["generation"]:
        tell("Note: the published plan is of an earlier spec of the policy")
    lines: list[Line] = []
    try:
        lines = await report_lines(session.cluster.api, loaded.resource, status)
    except CommandError as error:
        tell(f"Note: tags that dropped out have no names here: {error}")
    baseline = baseline_of(plan, published, lines)
    if not baseline.known:
        message = (
            f"the published plan {status.plan.hash} cannot be compared tag by tag: neither it nor a report of it can "
            "be read; see the notes above, or request a run"
        )
        raise CommandError(message, Exit.CLUSTER)
    return baseline


def _compare(head: Line, lines: Sequence[Line], baseline: Baseline) -> Difference:
    unread = {line["repository"] for line in lines if line["type"] == "incomplete"}
    return compare(planned(lines), head["plan"], unread, baseline)
