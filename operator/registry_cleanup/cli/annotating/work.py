"""Asking the operator for a run, or approving its plan: shown first, written with the person's own rights, followed."""

from __future__ import annotations

import secrets

from registry_cleanup.cli.annotating.following import Wait, follow
from registry_cleanup.cli.annotating.standing import held_back, pruned, waits
from registry_cleanup.cli.annotating.target import Target, opened
from registry_cleanup.cli.asking import can_ask, says_yes
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.output.words import count
from registry_cleanup.cli.telling import tell
from registry_cleanup.clock import SystemClock
from registry_cleanup.kube.spec import APPROVE_ANNOTATION, REQUEST_ANNOTATION
from registry_cleanup.kube.status import PlanStatus, PolicyStatus
from registry_cleanup.logins.options import ClusterOptions


async def ask_for_run(name: str, cluster: ClusterOptions, *, yes: bool, wait: Wait) -> Exit:
    """Ask the operator for a run of the policy `name`, and return the exit code; raise `CommandError`."""
    async with opened(name, cluster) as target:
        _show(target)
        _note(target)
        if target.suspended and not yes:
            message = f"{target.who} is suspended, so nothing was requested; --yes requests a run for when it is not"
            raise CommandError(message, Exit.HELD_BACK)
        if not yes:
            _ask(f"Request a run of {target.who}?", "add --yes")
        value = f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(3)}"
        await target.annotate(REQUEST_ANNOTATION, value)
        tell(f"Requested a run of {target.who} ({value}).")
        if target.suspended:
            tell("It is suspended, so it runs once suspend is taken away: nothing to wait for.")
            return Exit.HELD_BACK
        if not wait.wanted:
            return Exit.DONE

        def answered(status: PolicyStatus) -> bool:
            return status.last_handled_run_request == value

        return await follow(target, answered, wait)


async def approve_plan(name: str, cluster: ClusterOptions, *, plan: str | None, wait: Wait) -> Exit:
    """Approve the plan that the policy `name` waits with, and return the exit code; raise `CommandError`."""
    async with opened(name, cluster) as target:
        _show(target)
        found = target.plan
        if found is None:
            raise _unapproved(f"{target.who} has no plan yet")
        if plan is not None and plan != found.hash:
            raise _unapproved(f"--hash names {plan}, and the plan of now is {found.hash}", "Look at it first")
        _see_that_it_waits(target, found)
        _note(target)
        if plan is None:
            what = count(found.deletions, "tag")
            _ask(f"Approve plan {found.hash} of {target.who}, which prunes {what}?", f"add --hash {found.hash}")
        return await _approve(target, found.hash, wait)


def _see_that_it_waits(target: Target, plan: PlanStatus) -> None:
    """Raise `CommandError` where an approval would let nothing through."""
    if not plan.deletions:
        raise _unapproved("the plan prunes nothing")
    if target.dry_run:
        raise _unapproved(f"{target.who} has dryRun: true, so that an approval lets nothing through")
    done = pruned(target.status)
    if done is not None and done.whole:
        raise _unapproved(
            f"this plan was already pruned at {done.at}, and nothing waits",
            f"For another run: {target.command('request')}",
        )
    if not waits(target.status):
        raise _unapproved(
            "the plan waits for no approval: neither approval.required nor a limit holds it",
            f"To have it run now: {target.command('request')}",
        )


def _unapproved(why: str, step: str = "") -> CommandError:
    return CommandError(f"{why}; nothing was approved{f'. {step}' if step else ''}", Exit.HELD_BACK)


async def _approve(target: Target, plan: str, wait: Wait) -> Exit:
    """Write the approval of a plan that was shown."""
    before = (target.body["metadata"].get("annotations") or {}).get(APPROVE_ANNOTATION)
    if before == plan:
        # The operator takes note of an approval once: the same one again has to be a new one.
        await target.annotate(APPROVE_ANNOTATION, None, plan)
        target = await target.again()
    last = target.status.last_run
    await target.annotate(APPROVE_ANNOTATION, plan, plan)
    tell(f"Approved plan {plan} of {target.who}, for 24 hours.")
    if not wait.wanted:
        return Exit.DONE
    if target.suspended:
        tell("It is suspended, so nothing runs before suspend is taken away: nothing to wait for.")
        return Exit.HELD_BACK

    def answered(status: PolicyStatus) -> bool:
        run = status.last_run
        new = run is not None and (last is None or run.id != last.id)
        return new and status.last_handled_approval == plan

    return await follow(target, answered, wait)


def _note(target: Target) -> None:
    for words in held_back(target.body, SystemClock().now()):
        tell(f"Note: {words}")


def _show(target: Target) -> None:
    """Show the published plan in short, on stderr: it is no result."""
    plan = target.plan
    if plan is None:
        tell(f"{target.who} has no plan yet.".capitalize())
        return
    where = (target.body.get("spec") or {}).get("registry", {}).get("url") or "OpenShift's registry"
    tell(f"Plan {plan.hash} of {target.who}, made at {plan.generated_at}:")
    done = pruned(target.status)
    if done is not None and done.whole:
        tell(f"  already pruned at {done.at}: {count(done.tags, 'tag')} of {where}; nothing waits")
        return
    tell(f"  would prune {count(plan.deletions, 'tag')} of {where}")
    if done is not None:
        tell(f"  of which {done.tags:,} {'is' if done.tags == 1 else 'are'} already pruned, at {done.at}")
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
