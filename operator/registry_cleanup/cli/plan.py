"""`plan`: what a policy would prune, and why everything else stays."""

from __future__ import annotations

from pathlib import Path

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.known import policy_names
from registry_cleanup.cli.options import cluster_options, login_options
from registry_cleanup.cli.output.options import output_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.cli.telling import tell
from registry_cleanup.logins.options import ClusterOptions, LoginOptions


@click.command()
@click.argument("name", required=False, shell_complete=policy_names)
@click.option(
    "-f",
    "--filename",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the policy, - for standard input; without one, policy NAME of the cluster.",
)
@click.option(
    "--no-in-use",
    is_flag=True,
    help="Do not look at what the cluster uses: what runs there is not protected in this plan.",
)
@click.option(
    "--diff",
    "differs",
    is_flag=True,
    help="Show what differs from the plan that the operator published; exit code 7 if anything does.",
)
@click.option(
    "--show",
    type=click.Choice(["all", "going", "kept", "protected"]),
    help="Which tags to show; default going in a table, all otherwise.",
)
@output_options
@login_options
@cluster_options
def plan(
    name: str | None,
    filename: Path | None,
    no_in_use: bool,
    differs: bool,
    show: str | None,
    globs: tuple[str, ...],
    output: str | None,
    output_file: Path | None,
    login: LoginOptions,
    cluster: ClusterOptions,
) -> None:
    """Show what a policy would prune, and why everything else stays.

    The plan as the operator would compute it, of a policy in a file or of policy NAME of the cluster. Nothing is
    pruned or published. --show and --repository narrow what is shown, and never the plan.
    """
    from registry_cleanup.cli.output.printed import view_of
    from registry_cleanup.cli.output.target import check_writable
    from registry_cleanup.cli.output.writing import format_of, write
    from registry_cleanup.cli.plans.planning import Asked, exit_of, make
    from registry_cleanup.cli.working import work

    if output_file is None:
        expect_output()
    if filename is None and name is None:
        raise CommandError("name a policy of the cluster, or a file with -f", Exit.USAGE)
    if str(filename) == "-" and login.password is not None:
        raise CommandError("the policy and the password cannot both come from standard input", Exit.USAGE)
    check_writable(output_file, filename)
    chosen = format_of(output, output_file)
    if differs and chosen == "html":
        raise CommandError("--diff has no page; use --output table, json, yaml or csv", Exit.USAGE)
    view = view_of(show or ("going" if chosen == "table" else "all"), globs=globs)
    printed = work(make(Asked(name, filename, not no_in_use, differs, login, cluster), view))
    write(printed, chosen, output_file)
    for note in printed.notes():
        tell(f"Note: {note}")
    for failure in printed.summary.failures:
        where = f"{failure['repository']}: " if "repository" in failure else ""
        tell(f"Error: {where}{failure['reason']}: {failure['message']}")
    if (code := exit_of(printed)) is not Exit.DONE:
        click.get_current_context().exit(code)
