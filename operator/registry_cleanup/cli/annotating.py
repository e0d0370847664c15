"""Asking the operator for a run, or approving its plan: shown first, written with the person's own rights, followed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from registry_cleanup.cli.asking import can_ask, says_yes
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.words import count
from registry_cleanup.cli.plans.policies import from_cluster
from registry_cleanup.cli.running.showing import tell
from registry_cleanup.clock import SystemClock
from registry_cleanup.cluster import cluster_client
from registry_cleanup.domain.run import Phase
from registry_cleanup.kube.api import (
    APIError,
    ForbiddenError,
    KubernetesAPI,
    NoAnswerError,
    NotThereError,
    RefusedError,
)
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.spec import APPROVE_ANNOTATION, GROUP, PLURAL, REQUEST_ANNOTATION
from registry_cleanup.kube.status import PlanStatus, PolicyStatus, parse_status, parse_time
from registry_cleanup.logins.options import ClusterOptions
from registry_cleanup.session import Cluster

_RULE = f"{{apiGroups: [{GROUP}], resources: [{PLURAL}], verbs: [get, patch]}}"
# Somebody else may write to the policy at the same time, such as the operator its progress.
_ATTEMPTS = 5
_LOOK_SECONDS = 1.0
# For so long nobody is told that the operator has not begun.
_PATIENCE_SECONDS = 15.0
_SILENCE_SECONDS = 60.0
_LOOK_FOR_IT = "kubectl get deployments -A -l app.kubernetes.io/name=registry-cleanup-operator"
_EXITS = {
    Phase.SUCCEEDED: Exit.DONE,
    Phase.PARTIAL: Exit.PARTIAL,
    Phase.FAILED: Exit.FAILED,
    Phase.BLOCKED: Exit.HELD_BACK,
    Phase.AWAITING_APPROVAL: Exit.HELD_BACK,
    Phase.INTERRUPTED: Exit.HELD_BACK,
}

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy of the cluster, as it was when it was read last.

    Attributes:
        api: to read and write it.
        namespace, name: of it.
        body: the resource.
    """

    api: KubernetesAPI
    namespace: str
    name: str
    body: Resource

    @property
    def status(self) -> PolicyStatus:
        return parse_status(self.body.get("status"))

    @property
    def plan(self) -> PlanStatus | None:
        return self.status.plan

    @property
    def dry_run(self) -> bool:
        return (self.body.get("spec") or {}).get("dryRun", True) is True

    @property
    def suspended(self) -> bool:
        return bool((self.body.get("spec") or {}).get("suspend"))

    @property
    def who(self) -> str:
        return f"policy {self.namespace}/{self.name}"

    async def again(self) -> _Policy:
        """Return it as it is now; raise `CommandError` where it is gone, or another one."""
        try:
            body = (await self.api.policy(self.namespace, self.name)).body
        except NotThereError as error:
            raise CommandError(f"{self.who} was deleted", Exit.CLUSTER) from error
        if body["metadata"]["uid"] != self.body["metadata"]["uid"]:
            raise CommandError(f"{self.who} was deleted, and another one is called so now", Exit.CLUSTER)
        return _Policy(self.api, self.namespace, self.name, body)


async def ask_for_run(name: str, cluster: ClusterOptions, *, yes: bool, wait: bool) -> Exit:
    """Ask the operator for a run of the policy `name`, and return the exit code; raise `CommandError`."""
    async with _opened(name, cluster) as policy:
        _show(policy)
        for words in held_back(policy.body, SystemClock().now()):
            tell(f"Note: {words}")
        if not yes:
            _ask(f"Request a run of {policy.who}?", "add --yes")
        value = f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(3)}"
        await _annotate(policy, REQUEST_ANNOTATION, value)
        tell(f"Requested a run of {policy.who} ({value}).")
        if not wait:
            return Exit.DONE
        if policy.suspended:
            tell("It is suspended, so it runs once suspend is taken away: nothing to wait for.")
            return Exit.HELD_BACK

        def answered(status: PolicyStatus) -> bool:
            return status.last_handled_run_request == value

        return await _follow(policy, answered)


async def approve_plan(name: str, cluster: ClusterOptions, *, plan: str | None, wait: bool) -> Exit:
    """Approve the plan that the policy `name` waits with, and return the exit code; raise `CommandError`."""
    async with _opened(name, cluster) as policy:
        _show(policy)
        found = policy.plan
        if found is None:
            raise CommandError(f"{policy.who} has no plan yet; nothing was approved", Exit.HELD_BACK)
        if plan is not None and plan != found.hash:
            raise CommandError(
                f"--hash names {plan}, and the plan of now is {found.hash}; nothing was approved. Look at it first",
                Exit.HELD_BACK,
            )
        if not found.deletions:
            tell("The plan prunes nothing, so there is nothing to approve.")
            return Exit.DONE
        if policy.dry_run:
            raise CommandError(
                f"{policy.who} has dryRun: true, so that an approval lets nothing through; nothing was approved",
                Exit.HELD_BACK,
            )
        for words in held_back(policy.body, SystemClock().now()):
            tell(f"Note: {words}")
        if plan is None:
            what = count(found.deletions, "tag")
            _ask(f"Approve plan {found.hash} of {policy.who}, which prunes {what}?", f"add --hash {found.hash}")
        return await _approve(policy, found.hash, wait=wait)


async def _approve(policy: _Policy, plan: str, *, wait: bool) -> Exit:
    """Write the approval of a plan that was shown."""
    before = (policy.body["metadata"].get("annotations") or {}).get(APPROVE_ANNOTATION)
    if before == plan:
        # The operator takes note of an approval once: the same one again has to be a new one.
        await _annotate(policy, APPROVE_ANNOTATION, None, plan)
        policy = await policy.again()
    last = policy.status.last_run
    await _annotate(policy, APPROVE_ANNOTATION, plan, plan)
    tell(f"Approved plan {plan} of {policy.who}, for 24 hours.")
    if not wait:
        return Exit.DONE
    if policy.suspended:
        tell("It is suspended, so nothing runs before suspend is taken away: nothing to wait for.")
        return Exit.HELD_BACK

    def answered(status: PolicyStatus) -> bool:
        run = status.last_run
        new = run is not None and (last is None or run.id != last.id)
        return new and status.last_handled_approval == plan

    return await _follow(policy, answered)


def held_back(body: Resource, now: datetime) -> list[str]:
    """Return what holds the plan of a policy back, in words."""
    spec, status = body.get("spec") or {}, parse_status(body.get("status"))
    told = []
    if spec.get("suspend"):
        told.append("it is suspended, so it does not run before suspend is taken away")
    if spec.get("dryRun", True) is True:
        told.append("it has dryRun: true, so a run only plans")
    plan = status.plan
    if plan is not None and plan.observed_generation != body["metadata"]["generation"]:
        told.append("this plan is of an earlier spec: the policy, as it is now, is only planned first")
    from_ = parse_time(plan.prunable_from) if plan is not None else None
    if plan is not None and plan.deletions and from_ is not None and from_ > now:
        told.append(f"the grace period: the first tag may go from {plan.prunable_from}")
    for type_ in ("LimitExceeded", "AwaitingApproval", "PolicyConflict"):
        found = status.condition(type_)
        if found is not None and found.status == "True":
            told.append(f"{type_}: {found.message}")
    known = status.condition("InUseKnown")
    if known is not None and known.status == "False":
        told.append(f"{known.reason}: {known.message}")
    return told


def _show(policy: _Policy) -> None:
    """Show the published plan in short, on stderr: it is no result."""
    plan = policy.plan
    if plan is None:
        tell(f"{policy.who} has no plan yet.".capitalize())
        return
    where = (policy.body.get("spec") or {}).get("registry", {}).get("url") or "OpenShift's registry"
    tell(f"Plan {plan.hash} of {policy.who}, made at {plan.generated_at}:")
    tell(f"  would prune {count(plan.deletions, 'tag')} of {where}")
    for top in plan.top_repositories:
        tell(f"  {top.repository}: {top.deletions:,} of {count(top.tags, 'tag')}")
    if plan.sample:
        tell("  such as" if len(plan.sample) < plan.deletions else "  namely")
    for item in plan.sample:
        tell(f"    {item.repository}:{item.tag}  {item.rule}: {', '.join(item.reasons)}")


def _ask(question: str, hint: str) -> None:
    """Ask; raise `CommandError` where the answer is not yes, or nobody is there to ask."""
    if not can_ask():
        raise CommandError(f"there is no terminal to ask on: {hint}", Exit.USAGE)
    try:
        yes = says_yes(question)
    except KeyboardInterrupt as error:
        raise CommandError("ended by Ctrl-C; nothing was done", Exit.INTERRUPTED) from error
    if not yes:
        raise CommandError("nothing was done: the answer was not yes", Exit.HELD_BACK)


async def _annotate(policy: _Policy, annotation: str, value: str | None, plan: str | None = None) -> None:
    """Write an annotation, if the policy still has the `plan`; raise `CommandError`."""
    now = policy
    for attempt in range(_ATTEMPTS):
        try:
            await policy.api.annotate(policy.namespace, now.body, annotation, value, plan=plan)
        except ForbiddenError as error:
            message = f"you may not do that: {error}"
            if "admission" not in str(error).lower():
                message += f"; ClusterRole registry-cleanup-edit grants it with: {_RULE}"
            raise CommandError(message, Exit.CLUSTER) from error
        except RefusedError as error:
            # One of the tests of the patch failed, or the API server wants something else: the policy says which.
            now = await policy.again()
            if plan is not None and (now.plan is None or now.plan.hash != plan):
                current = "gone" if now.plan is None else f"now {now.plan.hash}"
                message = f"the plan changed meanwhile: {plan} was shown, and it is {current}; nothing was approved"
                raise CommandError(message, Exit.HELD_BACK) from error
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


@dataclass(slots=True)
class _Watcher:
    """Tells what a run of the operator comes to, while it goes on.

    Attributes:
        say: tells a person.
    """

    say: Callable[[str], None] = tell
    _told: str = ""
    _words: list[str] = field(default_factory=list)

    def see(self, status: PolicyStatus) -> None:
        """Tell what is new."""
        run = status.last_run
        if run is None or run.phase is not Phase.RUNNING:
            return
        words = run.progress.message if run.progress is not None else "running"
        if words != self._told:
            self._told = words
            self.say(f"  {words}")


async def _follow(policy: _Policy, answered: Callable[[PolicyStatus], bool]) -> Exit:
    """Follow a run until its end, and return how it ended."""
    watcher, waited, silent = _Watcher(), 0.0, 0.0
    try:
        while True:
            try:
                policy = await policy.again()
                silent = 0.0
            except NoAnswerError as error:
                silent += _LOOK_SECONDS
                if silent >= _SILENCE_SECONDS:
                    raise CommandError(f"the cluster does not answer any more: {error}", Exit.CLUSTER) from error
            except APIError as error:
                raise CommandError(f"the run cannot be followed: {error}", Exit.CLUSTER) from error
            status = policy.status
            watcher.see(status)
            run = status.last_run
            if answered(status) and run is not None and run.phase is not Phase.RUNNING:
                return _ended(status)
            if waited < _PATIENCE_SECONDS <= waited + _LOOK_SECONDS and (run is None or run.phase is not Phase.RUNNING):
                tell(f"The operator has not begun. Does it run? {_LOOK_FOR_IT}")
            waited += _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
    except asyncio.CancelledError as error:
        message = "no longer waiting; the operator goes on with the run"
        raise CommandError(message, Exit.INTERRUPTED) from error


def _ended(status: PolicyStatus) -> Exit:
    run = status.last_run
    if run is None:
        return Exit.FAILED
    tell(f"{run.phase.value}: {run.message or ''}")
    code = _EXITS.get(run.phase, Exit.FAILED)
    counts = run.counts
    if code is Exit.DONE and counts is not None and counts.tags_planned > counts.tags_pruned:
        return Exit.HELD_BACK  # the grace period, limits, a dry run, or what changed meanwhile
    return code


@asynccontextmanager
async def _opened(name: str, cluster: ClusterOptions) -> AsyncIterator[_Policy]:
    """Read the policy `name` with the person's own rights; raise `CommandError`, or `NoClusterError`."""
    async with cluster_client(cluster.kubeconfig, cluster.context) as api_client:
        api = KubernetesAPI(api_client)
        namespace, name, body = await from_cluster(Cluster(api, RawAPI(api_client), api_client), name, cluster)
        yield _Policy(api, namespace, name, body)
