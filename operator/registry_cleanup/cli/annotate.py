"""`request` and `approve`: the annotations that ask the operator for a run, and that let a plan through."""

from __future__ import annotations

import sys

import click

from registry_cleanup.cli.known import policy_names
from registry_cleanup.cli.options import cluster_options
from registry_cleanup.logins.options import ClusterOptions

_WAIT = click.option("--wait", is_flag=True, help="Wait for the end of the run, and end as it ends.")


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_WAIT
@cluster_options
def request(name: str, yes: bool, wait: bool, cluster: ClusterOptions) -> None:
    """Ask the operator to run the policy NAME now.

    Shows first what its published plan would prune, and what holds that back. Limits, approval.required, the grace
    period and dryRun hold as in every run.
    """
    from registry_cleanup.cli.annotating import ask_for_run
    from registry_cleanup.cli.working import work

    sys.exit(work(ask_for_run(name, cluster, yes=yes, wait=wait)))


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.option("--hash", "plan", metavar="HASH", help="Approve the plan of this hash, and no other, without asking.")
@_WAIT
@cluster_options
def approve(name: str, plan: str | None, wait: bool, cluster: ClusterOptions) -> None:
    """Approve the plan that the policy NAME waits with.

    Shows it first, and approves exactly what was shown: a plan that was made meanwhile is not approved.
    """
    from registry_cleanup.cli.annotating import approve_plan
    from registry_cleanup.cli.working import work

    sys.exit(work(approve_plan(name, cluster, plan=None if plan is None else plan.strip().lower(), wait=wait)))
