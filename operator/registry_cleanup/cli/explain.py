"""`explain`: all that bears on one tag."""

from __future__ import annotations

from pathlib import Path

import click

from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.known import policy_names
from registry_cleanup.cli.options import cluster_options, login_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.logins.options import ClusterOptions, LoginOptions


@click.command()
@click.argument("reference")
@click.option(
    "-f",
    "--filename",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the policy, - for standard input; without one, the policy is that of the cluster.",
)
@click.option(
    "--policy",
    "name",
    metavar="NAME",
    shell_complete=policy_names,
    help="Name of the policy, in the cluster or in the file.",
)
@click.option(
    "--no-in-use",
    is_flag=True,
    help="Do not look at what the cluster uses: what runs there is not protected in this explanation.",
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True, help="Format."
)
@login_options
@cluster_options
def explain(
    reference: str,
    filename: Path | None,
    name: str | None,
    no_in_use: bool,
    output: str,
    login: LoginOptions,
    cluster: ClusterOptions,
) -> None:
    """Tell all that bears on one tag.

    REFERENCE is REPOSITORY:TAG, or REPOSITORY@DIGEST for all tags on it, with or without the registry's host before it.
    The verdict is that of `plan`, with what each rule says, who uses the tag, what it shares, and what would have to
    change for the other verdict: each of these is tried with the planner.

    One repository is read, and a little more of it than a run reads. Nothing is pruned or published.

    Ends with 4 if there is no such repository, tag or digest; of a tag that is not there it is still told what rules
    would say of it.
    """
    from registry_cleanup.cli.explaining.documents import as_document
    from registry_cleanup.cli.explaining.work import Asked, examined
    from registry_cleanup.cli.working import work

    expect_output()
    found = work(examined(Asked(reference, filename, name, not no_in_use, login, cluster)))
    if output == "text":
        from registry_cleanup.cli.explaining.text import print_text

        print_text(found)
    elif output == "json":
        import json

        click.echo(json.dumps(as_document(found), indent=2, ensure_ascii=False))
    else:
        import yaml

        text = yaml.safe_dump(as_document(found), sort_keys=False, allow_unicode=True, width=1_000_000)
        click.echo(text, nl=False)
    if found.present is False:
        click.get_current_context().exit(Exit.REGISTRY)
