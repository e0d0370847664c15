"""`request` and `approve`: the annotations that ask the operator for a run, and that let a plan through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from registry_cleanup.cli.known import policy_names
from registry_cleanup.cli.options import cluster_options
from registry_cleanup.logins.options import ClusterOptions

if TYPE_CHECKING:
    from registry_cleanup.cli.annotating.following import Wait


class _Duration(click.ParamType[timedelta]):
    """A duration as policies have it."""

    name = "duration"

    @override
    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        from registry_cleanup.domain.duration import parse_duration

        try:
            return parse_duration(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def _wait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options of waiting, which it gets as `wait` and `timeout`."""
    limit = click.option(
        "--timeout",
        type=_Duration(),
        metavar="DURATION",
        help="With --wait: for so long at most, such as 30m, then end with 3; default as long as it takes.",
    )
    return click.option("--wait", is_flag=True, help="Wait for the end of the run, and end as it ends.")(limit(command))


def _wait(wanted: bool, timeout: timedelta | None) -> Wait:
    from registry_cleanup.cli.annotating.following import Wait

    if timeout is not None and not wanted:
        raise click.UsageError("--timeout goes with --wait")
    return Wait(wanted, timeout)


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_wait_options
@cluster_options
def request(name: str, yes: bool, wait: bool, timeout: timedelta | None, cluster: ClusterOptions) -> None:
    """Ask the operator to run the policy NAME now.

    Shows first what its published plan would prune, and what holds that back. Limits, approval.required, the grace
    period and dryRun hold as in every run. A suspended policy runs once suspend is taken away: to request that takes
    --yes, and ends with 3.
    """
    from registry_cleanup.cli.annotating.work import ask_for_run
    from registry_cleanup.cli.working import work

    sys.exit(work(ask_for_run(name, cluster, yes=yes, wait=_wait(wait, timeout))))


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.option("--hash", "plan", metavar="HASH", help="Approve the plan of this hash, and no other, without asking.")
@_wait_options
@cluster_options
def approve(name: str, plan: str | None, wait: bool, timeout: timedelta | None, cluster: ClusterOptions) -> None:
    """Approve the plan that the policy NAME waits with.

    Shows it first, and approves exactly what was shown: a plan that was made meanwhile is not approved. Where nothing
    waits for an approval, nothing is written, and it ends with 3.
    """
    from registry_cleanup.cli.annotating.work import approve_plan
    from registry_cleanup.cli.working import work

    wanted = None if plan is None else plan.strip().lower()
    sys.exit(work(approve_plan(name, cluster, plan=wanted, wait=_wait(wait, timeout))))
