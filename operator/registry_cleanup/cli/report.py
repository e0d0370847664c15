"""`report`: the full report of a policy's last run, from the cluster."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from registry_cleanup.cli.known import outcomes, policy_names, reasons
from registry_cleanup.cli.options import cluster_options
from registry_cleanup.cli.output.options import output_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.cli.telling import tell
from registry_cleanup.logins.options import ClusterOptions, LoginOptions

if TYPE_CHECKING:
    from registry_cleanup.cli.output.printed import Printed
    from registry_cleanup.cli.plans.findings import View

_SHOWN = {None: "all", "keep": "kept", "prune": "going"}


@click.command()
@click.argument("name", shell_complete=policy_names)
@click.option("--verdict", type=click.Choice(["keep", "prune"]), help="Show only tags of this verdict.")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    metavar="REASON",
    shell_complete=reasons,
    help="Show only tags that stay, go or wait for this reason, such as InUse; may be given several times.",
)
@click.option(
    "--outcome",
    metavar="OUTCOME",
    shell_complete=outcomes,
    help="Show only what came to this, such as Pruned or Moved.",
)
@output_options
@cluster_options
def report(
    name: str,
    verdict: str | None,
    reasons: tuple[str, ...],
    outcome: str | None,
    globs: tuple[str, ...],
    output: str | None,
    output_file: Path | None,
    cluster: ClusterOptions,
) -> None:
    """Show the full report of the last run of policy NAME, from the cluster.

    What may be pruned, what became of it, and why every other tag stays: a line for each tag. Filters narrow what is
    shown, and never the totals.
    """
    from registry_cleanup.cli.output.printed import view_of
    from registry_cleanup.cli.output.target import check_writable
    from registry_cleanup.cli.output.writing import format_of, write
    from registry_cleanup.cli.working import work

    check_writable(output_file)
    if output_file is None:
        expect_output()
    view = view_of(_SHOWN[verdict], reasons, outcome, globs)
    printed = work(_report(name, view, cluster))
    write(printed, format_of(output, output_file), output_file)
    for note in (*printed.notes(), *_notes(printed)):
        tell(f"Note: {note}")


async def _report(name: str, view: View, cluster: ClusterOptions) -> Printed:
    from registry_cleanup.cli.output.printed import Printed
    from registry_cleanup.cli.plans.policies import from_cluster
    from registry_cleanup.cli.plans.reports import report_lines
    from registry_cleanup.cli.plans.summary import of_report
    from registry_cleanup.cluster import NoClusterError
    from registry_cleanup.kube.status import parse_status
    from registry_cleanup.session import open_session
    from registry_cleanup.settings import read_settings

    async with open_session(read_settings(), LoginOptions(), cluster, needs_cluster=True) as session:
        if session.cluster is None:
            raise NoClusterError("reports are in a cluster")
        namespace, name, resource = await from_cluster(session.cluster, name, cluster)
        status = parse_status(resource.get("status"))
        head, *lines = await report_lines(session.cluster.api, resource, status)
        summary = of_report(namespace, name, resource["metadata"]["uid"], head, status)
        if status.last_run is not None and status.last_run.id != head["run"]:
            told = f"run {status.last_run.id} ({status.last_run.phase.value}) wrote no report"
            tell(f"Note: {told}; this is that of run {head['run']}")
        return Printed(summary, head, lines, view)


def _notes(printed: Printed) -> list[str]:
    """Return what is missing in the report, and where it is."""
    cut = [line["repository"] for line in printed.lines if line["type"] == "cut"]
    number = printed.head.get("repositoriesCut", len(cut))
    if not number:
        return []
    named = f" ({', '.join(cut)})" if cut else ""
    told = (
        f"{number} repositories did not fit into the report{named}; the operator's log has all of it: "
        f"kubectl logs -n registry-cleanup-system deployment/registry-cleanup | grep {quote(str(printed.head['run']))}"
    )
    return [told]
