"""The course of `run`: a plan that is published and shown, a question, and a run that prunes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from registry_cleanup.cli.asking import says_yes
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.words import count
from registry_cleanup.cli.plans.policies import Loaded, load
from registry_cleanup.cli.progress import progress
from registry_cleanup.cli.running.holding import Hold, Past, Wish, exit_of, fewer_references, going_now, hold_of
from registry_cleanup.cli.running.local_copies import LocalCopies
from registry_cleanup.cli.running.local_plans import LocalPlans, Memory, fingerprint
from registry_cleanup.cli.running.outcomes import Outcomes
from registry_cleanup.cli.running.showing import (
    Shown,
    concluded,
    ending,
    print_document,
    show_outcomes,
    show_plan,
)
from registry_cleanup.cli.running.still import PolicyFile, StillWanted, is_live
from registry_cleanup.cli.running.stopping import Stopping
from registry_cleanup.cli.telling import tell
from registry_cleanup.cli.working import work
from registry_cleanup.clock import SystemClock
from registry_cleanup.domain.policy import RepositoryGlob
from registry_cleanup.domain.run import Phase, RunOrder, RunReport, Trigger
from registry_cleanup.domain.tenancy import PLAN_ONLY
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.api import APIError, right_to_policies
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.runner import new_run_id
from registry_cleanup.session import Session, open_session
from registry_cleanup.settings import Settings, read_settings

# Nobody in the cluster knows of this run: it gives way to every policy that prunes there.
_YOUNGEST = datetime.max.replace(tzinfo=UTC)
_ANSWER_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Call:
    """What a person typed.

    Attributes:
        file: with the policy.
        name: of the policy in it; None where there is one only.
        login, cluster: who is at work, and where.
        wish: whether to ask, and what is approved.
        as_json: whether the final report is printed as a document.
    """

    file: Path
    name: str | None
    login: LoginOptions
    cluster: ClusterOptions
    wish: Wish
    as_json: bool

    @property
    def asks(self) -> bool:
        """Whether somebody is asked before anything is pruned."""
        return self.wish.asks and not self.wish.yes and self.wish.approve is None


@dataclass(frozen=True)
class _Plan:
    """A plan that was made and published.

    Attributes:
        policy: as it is run.
        where: it is from.
        store: of its plans, which is held.
        report: of the run that planned.
        past: what was known before.
        file: how it was before anything was read.
        memory: of the last run, with the spec of this one.
        server: of the cluster that was looked at; None where there is none.
        made: when it was shown, aware.
    """

    policy: ParsedPolicy
    where: str
    store: LocalPlans
    report: RunReport
    past: Past
    file: PolicyFile
    memory: Memory
    server: str | None
    made: datetime

    @property
    def hash(self) -> str | None:
        """Of the plan."""
        return None if self.report.plan is None else self.report.plan.hash

    @cached_property
    def shown(self) -> Shown:
        """The plan, as it is shown."""
        return Shown.of(self.policy, self.where, self.report, self.store.content)

    def shown_after(self, report: RunReport) -> Shown:
        """Return what became of it, as it is shown."""
        return Shown.of(self.policy, self.where, report, self.store.content)

    @property
    def references(self) -> int | None:
        """Number of references in use, by a look that a person has accepted, should it have been in doubt."""
        scan = self.report.scan
        return self.past.references if scan is None or scan.disabled else scan.references


def run(call: Call) -> Exit:
    """Do it all, and return the exit code; raise `CommandError`."""
    settings = read_settings()
    with ExitStack() as stack:
        try:
            plan = work(_planned(call, settings, stack))
            # Whoever is asked has to see it, wherever the result goes.
            show_plan(plan.shown, to_stderr=call.as_json or (call.asks and not sys.stdout.isatty()))
            hold = hold_of(plan.policy, plan.report, call.wish, plan.past, withheld=_withheld(settings))
            if hold is None and call.asks:
                hold = _answer(plan)
        except KeyboardInterrupt as error:
            raise _nothing_pruned("Ctrl-C") from error
        except BrokenPipeError:
            tell("Nothing was pruned: nobody reads the output.")
            raise
        if hold is not None:
            with concluded(hold.message or f"Nothing was pruned: {plan.report.message}", hold.code):
                if call.as_json:
                    print_document(plan.shown)
            return hold.code
        # Whoever answered has seen no limit that speaks against it, so that none is approved with it.
        exceeded = plan.report.waiting is not None and bool(plan.report.waiting.exceeded)
        approval = plan.hash if call.asks and not exceeded else call.wish.approve
        stack.enter_context(plan.store.registry_held(_registry(plan), _now()))
        return _prune(call, settings, plan, approval)


def _registry(plan: _Plan) -> str:
    """Return the one name of a registry, however its address is written."""
    url = plan.policy.registry.url
    return f"OpenShift at {plan.server}" if url is None else Endpoint.of(url).server


def _answer(plan: _Plan) -> Hold | None:
    """Ask; return why nothing is pruned."""
    if not says_yes(_question(plan)):
        return Hold("Nothing was pruned: the answer was not yes.")
    if _now() - plan.made > _ANSWER_WITHIN:
        # By now more may have waited for long enough than was shown.
        minutes = _ANSWER_WITHIN.total_seconds() / 60
        return Hold(f"Nothing was pruned: the plan was shown more than {minutes:.0f} minutes ago. Look at it anew.")
    return None


# The plan


async def _planned(call: Call, settings: Settings, stack: ExitStack) -> _Plan:
    """Make the plan and publish it; hold the policy until `stack` ends."""
    file = PolicyFile(call.file)
    stopping = Stopping(tell)
    try:
        with stopping.listening():
            async with open_session(settings, call.login, call.cluster, needs_cluster=False, prunes=True) as session:
                server = _server(session)
                loaded = await load(session, call.file, call.name, call.cluster)
                await _refuse_live(session, loaded)
                policy = replace(loaded.policy, created=_YOUNGEST)
                store = LocalPlans(policy.uid, tell)
                store.intent = policy.intent
                stack.enter_context(store.held(session.clock.now()))
                memory = store.memory()
                spec = fingerprint(loaded.spec)
                past = Past(memory.spec == spec, memory.references if memory.spec == spec else None)
                order = _order(session, policy, memory, plan_only=True)
                report = await session.run(policy, order, store, follow=progress())
    except asyncio.CancelledError as error:
        raise _nothing_pruned(stopping.signal or "Ctrl-C") from error
    if stopping.signal is not None:  # whatever took the cancellation for its own
        raise _nothing_pruned(stopping.signal)
    plan = _Plan(policy, loaded.where, store, report, past, file, replace(memory, spec=spec), server, _now())
    if fewer_references(report, past) is None:
        plan = replace(plan, memory=replace(plan.memory, references=plan.references))
    if report.plan is None:
        raise _failed(report)
    if report.phase in (Phase.SUCCEEDED, Phase.PARTIAL):  # else it was not published
        store.remember(plan.memory)
    return plan


async def _refuse_live(session: Session, loaded: Loaded) -> None:
    """Refuse a policy that prunes in the cluster: its operator would do the same at the same time."""
    policy, resource = loaded.policy, loaded.resource
    try:
        live = [(each.namespace, each.name) for each in await session.live() if each.uid == policy.uid]
    except APIError as error:
        message = f"which policies prune in the cluster cannot be read, so nothing was done: {error}"
        raise CommandError(f"{message}{right_to_policies(error)}", Exit.CLUSTER) from error
    if resource is not None and is_live(resource):
        live.insert(0, (policy.namespace, policy.name))
    if live:
        namespace, name = live[0]
        message = (
            f"policy {namespace}/{name} prunes in the cluster (neither dryRun nor suspend), so its operator runs it; "
            f"nothing was done. Ask it to: registry-cleanup request {name} -n {namespace}"
        )
        raise CommandError(message, Exit.HELD_BACK)
    if policy.suspend:
        raise CommandError("nothing was done: the policy has suspend: true, so it does not run", Exit.HELD_BACK)


def _server(session: Session) -> str | None:
    return None if session.cluster is None else session.cluster.server


def _order(session: Session, policy: ParsedPolicy, memory: Memory, *, plan_only: bool) -> RunOrder:
    now = session.clock.now()
    return RunOrder(
        new_run_id(now),
        Trigger.REQUEST,
        plan_only,
        now,
        deadline=now + policy.timeout,
        first_repository=memory.next_repository,
    )


def _question(plan: _Plan) -> str:
    report = plan.report
    if (fewer := fewer_references(report, plan.past)) is not None:
        tell(f"Beware: {fewer}. A look that missed something would let go what runs.")
    for conflict in report.conflicts or ():
        tell(f"Note: policy {conflict.namespace}/{conflict.name} prunes at this registry, too.")
    tags, repositories = going_now(plan.policy, report), _repositories(plan)
    upto = "up to " if report.waiting is not None and report.waiting.exceeded else ""
    where = plan.policy.registry.url or "OpenShift's registry"
    if plan.server is not None and plan.policy.policy.in_use.enabled:
        tell(f"What the cluster at {plan.server} uses is kept, and of no other.")
    return f"Prune {upto}{count(tags, 'tag')} in {count(repositories, 'repository', 'repositories')} of {where}?"


def _repositories(plan: _Plan) -> int:
    """Return in how many repositories anything may go now."""
    waits = plan.policy.policy.grace_period
    held = (
        {(line["repository"], line["tag"]) for line in plan.shown.lines if line["type"] == "held"} if waits else set()
    )
    return len(
        {
            line["repository"]
            for line in plan.shown.lines
            if line["type"] == "tag" and line["verdict"] == "Prune" and (line["repository"], line["tag"]) not in held
        }
    )


def _withheld(settings: Settings) -> str | None:
    return f"the setting {PLAN_ONLY} lets no policy prune" if settings.plan_only else None


# Pruning


def _prune(call: Call, settings: Settings, plan: _Plan, approval: str | None) -> Exit:
    """Prune what both plans contain, and tell what became of it, whatever goes wrong on the way."""
    outcomes = Outcomes()
    asked = going_now(plan.policy, plan.report)
    plan.store.content = b""  # from now on that of this run, or of none
    stopping = Stopping(tell)
    try:
        report = work(_pruned(call, settings, plan, approval, stopping, outcomes))
    except BaseException as error:
        # Also where something broke that nobody foresaw: what was done is told first.
        with suppress(OSError):  # of the output, where nobody reads it, or there is no room for it
            show_outcomes(outcomes.lines(), to_stderr=call.as_json)
        if isinstance(error, KeyboardInterrupt):
            raise CommandError("ended by Ctrl-C", Exit.INTERRUPTED) from error
        raise
    shown = plan.shown_after(report)
    code = exit_of(report, signalled=stopping.signal is not None, gone_already=outcomes.gone_already, asked=asked)
    with concluded(ending(report), code):
        if call.as_json:
            print_document(shown)
        else:
            show_outcomes(shown.lines or outcomes.lines())
    return code


async def _pruned(
    call: Call, settings: Settings, plan: _Plan, approval: str | None, stopping: Stopping, outcomes: Outcomes
) -> RunReport:
    policy = _as_shown(plan)
    try:
        with stopping.listening():
            async with open_session(settings, call.login, call.cluster, needs_cluster=False, prunes=True) as session:
                if _server(session) != plan.server:
                    message = "the kubeconfig names another cluster than when the plan was made; nothing was pruned"
                    raise CommandError(message, Exit.CLUSTER)
                api = session.cluster.api if session.cluster is not None else None
                order = replace(
                    _order(session, policy, plan.memory, plan_only=False),
                    approval=approval,
                    references_before=plan.references,
                )
                report = await session.run(
                    policy,
                    order,
                    plan.store,
                    stopping.halt,
                    stopping.following(progress()),
                    still=StillWanted(plan.file, api, policy.namespace, policy.name, session.clock),
                    ended=outcomes.add,
                    copies=LocalCopies(plan.store, policy.uid),
                )
                stopping.over()  # a signal that comes after the run must not take its report away
    except asyncio.CancelledError as error:
        if stopping.given_up:
            message = "ended at once: what was sent last to the registry was not verified; the tags above are done"
            raise CommandError(message, Exit.INTERRUPTED) from error
        if outcomes.lines():
            raise CommandError(f"ended by {stopping.signal or 'Ctrl-C'}; see above", Exit.INTERRUPTED) from error
        raise _nothing_pruned(stopping.signal or "Ctrl-C") from error
    plan.store.remember(replace(plan.memory, references=plan.references, next_repository=report.next_repository))
    return report


def _as_shown(plan: _Plan) -> ParsedPolicy:
    """Return the policy without repositories that could not be read for the plan: nobody saw what would go there."""
    unread = {line["repository"] for line in plan.shown.lines if line["type"] == "incomplete"}
    selector = plan.policy.policy.repositories
    exclude = (*selector.exclude, *(RepositoryGlob(name) for name in sorted(unread)))
    return replace(plan.policy, policy=replace(plan.policy.policy, repositories=replace(selector, exclude=exclude)))


def _nothing_pruned(signal: str) -> CommandError:
    return CommandError(f"ended by {signal}: nothing was pruned", Exit.INTERRUPTED)


def _failed(report: RunReport) -> CommandError:
    """Return why no plan came about."""
    return CommandError(f"no plan came about, and nothing was pruned: {report.message}", exit_of(report))


def _now() -> datetime:
    return SystemClock().now()
