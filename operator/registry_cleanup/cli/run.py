"""`run`: plan, ask, prune, verify and report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_cleanup.cli.options import cluster_options, login_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.logins.options import ClusterOptions, LoginOptions


@click.command()
@click.argument("name", required=False)
@click.option(
    "-f",
    "--filename",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    required=True,
    help="File with the policy; - for standard input.",
)
@click.option(
    "-y",
    "--yes",
    is_flag=True,
    help=(
        "Ask nothing. Approves nothing: limits and approval.required hold, and a policy that is new on this machine "
        "or was changed is only planned (exit code 3)."
    ),
)
@click.option(
    "--approve",
    metavar="HASH",
    help="Let the plan of this hash through, and no other, without asking: also past limits and approval.required.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What is printed in the end.",
)
@login_options
@cluster_options
def run(
    name: str | None,
    filename: Path,
    yes: bool,
    approve: str | None,
    output: str,
    login: LoginOptions,
    cluster: ClusterOptions,
) -> None:
    """Plan, ask, prune, verify and report.

    NAME names the policy where FILE holds several.

    Makes the plan, as `plan` does, publishes it on this machine ($XDG_STATE_HOME/registry-cleanup), shows it, asks, and
    prunes what this plan and one that is made right before the first deletion both contain, as the operator does: the
    grace period counts from the first plan that was published here, and limits, approval.required and dryRun hold.
    A policy that prunes in the cluster is refused: see `request`.

    With --yes, a policy that is new on this machine, or was changed, is only planned and shown, and that ends with 3:
    the next run prunes. What one run knows of another is in $XDG_STATE_HOME/registry-cleanup, by default
    ~/.local/state/registry-cleanup. A CI job has to keep that folder from one run to the next, or else to name the plan
    with --approve HASH; without the folder, no grace period ever ends.

    An answer, or --approve, holds for this run alone, and for ten minutes. A repository that could not be read for the
    plan is left alone, and what the cluster of the kubeconfig uses is kept, and of no other. Two runs on one machine do
    not meet at one registry; those of other machines or users are not kept apart.

    Ctrl-C ends it at once while it plans, and at a safe point while it prunes; what was done is told.
    """
    from registry_cleanup.cli.asking import can_ask
    from registry_cleanup.cli.running.course import Call
    from registry_cleanup.cli.running.course import run as do
    from registry_cleanup.cli.running.holding import Wish

    expect_output()
    wish = Wish(yes, None if approve is None else approve.strip().lower(), can_ask())
    sys.exit(do(Call(filename, name, login, cluster, wish, output == "json")))
