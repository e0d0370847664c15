"""`list`: what is in a registry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.options import cluster_options_with, login_options
from registry_cleanup.cli.streams import expect_output
from registry_cleanup.cli.telling import tell
from registry_cleanup.logins.options import ClusterOptions, LoginOptions

if TYPE_CHECKING:
    from datetime import datetime

    from registry_cleanup.cli.listing.documents import Shape
    from registry_cleanup.cli.listing.reading import Look
    from registry_cleanup.domain.listing import ListedRepository
    from registry_cleanup.domain.policy import RepositoryGlob
    from registry_cleanup.ports import Lister

_OUTPUTS = ("table", "json", "yaml", "csv")
_SORTS = ("name", "date", "size")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the options ask for."""

    output: str
    sort: str | None
    names: bool
    long: bool
    repositories: bool
    tree: bool
    no_trunc: bool


@click.command("list")
@click.argument("where", metavar="[HOST[/REPOSITORY]]", required=False)
@click.option("-l", "--long", is_flag=True, help="Of repositories, show the newest date and the size too.")
@click.option("-d", "--repositories", is_flag=True, help="Show repositories, and not their tags, whatever is named.")
@click.option("--names", is_flag=True, help="Show nothing but names, one a line: the quickest.")
@click.option("--tree", is_flag=True, help="Show what indexes list and what refers to it, such as signatures.")
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    help="What stands first: names, the newest or the largest. Default name of repositories, date of tags.",
)
@click.option(
    "-o", "--output", type=click.Choice(_OUTPUTS), default="table", show_default=True, help="How it is shown."
)
@click.option("--no-trunc", is_flag=True, help="Write digests and times out in the table.")
@login_options
@cluster_options_with("Without a HOST: the namespace to list; default all.")
def list_(
    where: str | None,
    long: bool,
    repositories: bool,
    names: bool,
    tree: bool,
    sort: str | None,
    output: str,
    no_trunc: bool,
    login: LoginOptions,
    cluster: ClusterOptions,
) -> None:
    """List repositories, tags, digests, dates, platforms and sizes.

    \b
    list HOST             repositories, number of tags
    list -l HOST          newest date and size too
    list HOST/REPOSITORY  its tags
    list 'HOST/team/**'   tags of all below team/
    list                  image streams of the cluster

    HOST is host, host:port, or a URL; of a repository, * stands for anything but /, and ** for anything. The number
    of tags takes one request for each repository. Dates, platforms and sizes take two or three for each image, so
    that a large listing takes its time; progress is shown on a terminal.

    A size is that of config and layers as they are stored, compressed; of an index, of all its platforms; of a
    repository, of everything in it, each blob once. Below stand the bytes that tags name, summed up, and the distinct
    ones, each blob once. A date is when an image was built, or on OpenShift when it was pushed. One that cannot be
    true, such as 1970, is a build tool's placeholder: it is marked as unknown, and rules keep such tags.

    Ends with 4 if the registry cannot be reached, lets nobody in, stops answering or has no such repository, and with
    6 if a part could not be read; what could is shown.
    """  # noqa: D301 - click's mark of a paragraph that is not to be wrapped
    from registry_cleanup.cli.working import work

    expect_output()
    if names and (tree or long or sort in ("date", "size")):
        raise click.UsageError("--names goes with neither --tree, --long, nor --sort date or size")
    if repositories and tree:
        raise click.UsageError("--repositories shows no tags, and --tree shows what hangs on them")
    asked = _Asked(output, sort, names, long, repositories, tree, no_trunc)
    work(_list(where, asked, login, cluster))


async def _list(where: str | None, asked: _Asked, login: LoginOptions, cluster: ClusterOptions) -> None:
    from registry_cleanup.cli.listing.target import read_target, read_wanted
    from registry_cleanup.kubeconfig import not_accepted
    from registry_cleanup.ports import RunError
    from registry_cleanup.session import open_session
    from registry_cleanup.settings import read_settings

    target = None if where is None else read_target(where, insecure=login.insecure)
    async with open_session(read_settings(), login, cluster, needs_cluster=False) as session:
        now = session.clock.now()
        if target is not None:
            async with session.listers().open(target.urls, target.namespace) as lister:
                await _show(lister, target.wanted, asked, now)
            return
        wanted = None if cluster.namespace is None else read_wanted(f"{cluster.namespace}/**")
        try:
            async with session.listers().open_own(cluster.namespace) as own:
                if own is None:
                    raise _no_host("there is no kubeconfig that would name a cluster's own")
                await _show(own, wanted, asked, now)
        except RunError as error:
            if error.failure.reason == "NotOpenShift":
                raise _no_host("the kubeconfig's cluster is no OpenShift, which has one of its own") from error
            if error.code == "Unauthorized" and session.cluster is not None:
                raise CommandError(not_accepted(session.cluster.client.configuration.host), Exit.CLUSTER) from error
            raise CommandError(f"{error.failure.reason}: {error.failure.message}", Exit.CLUSTER) from error


def _no_host(why: str) -> CommandError:
    return CommandError(
        f"name a registry, for {why}; for example: registry-cleanup list registry.example.com", Exit.USAGE
    )


async def _show(lister: Lister, wanted: RepositoryGlob | None, asked: _Asked, now: datetime) -> None:
    from registry_cleanup.cli.listing.documents import Shape
    from registry_cleanup.cli.listing.progress import telling
    from registry_cleanup.cli.listing.reading import look
    from registry_cleanup.domain.listing import Sort, sorted_repositories

    tags = (wanted is not None and not asked.repositories) or asked.tree
    details = not asked.names and (tags or asked.long or asked.sort in ("date", "size"))
    with telling() as tell:
        found = await look(lister, wanted, tell, details=details)
    by = Sort(asked.sort or "name")
    repositories = sorted_repositories(found.repositories, by if not tags else Sort.NAME, now)
    shape = Shape(now, Sort(asked.sort or ("date" if details else "name")), tags, details, asked.tree)
    several = wanted is None or not wanted.literal
    _print(found, repositories, shape, asked, several=several)
    _tell_failures(found)


def _print(found: Look, repositories: list[ListedRepository], shape: Shape, asked: _Asked, *, several: bool) -> None:
    match asked.output:
        case "json":
            import json

            from registry_cleanup.cli.listing.documents import document

            click.echo(json.dumps(document(found, repositories, shape), indent=2))
        case "yaml":
            import yaml

            from registry_cleanup.cli.listing.documents import document

            click.echo(yaml.safe_dump(document(found, repositories, shape), sort_keys=False), nl=False)
        case "csv":
            from registry_cleanup.cli.listing.documents import as_csv

            click.echo(as_csv(repositories, shape), nl=False)
        case _ if asked.names:
            for repository in repositories:
                if not shape.tags:
                    click.echo(repository.name)
                for tag in repository.tags if shape.tags else ():
                    click.echo(f"{repository.name}:{tag.name}" if several else tag.name)
        case _:
            _print_table(repositories, shape, asked, several=several)


def _print_table(repositories: list[ListedRepository], shape: Shape, asked: _Asked, *, several: bool) -> None:
    import shutil
    import textwrap

    from registry_cleanup.cli.listing.table import Style, repositories_table, tags_table, totals_line

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    style = Style(shape.now, width, asked.no_trunc, several)
    if shape.tags:
        table = tags_table(repositories, shape.sort, style, trees=shape.trees)
    else:
        table = repositories_table(repositories, style, details=shape.details)
    totals = totals_line(repositories, details=shape.details)
    click.echo("\n".join([*table.lines, "", totals if width is None else textwrap.fill(totals, width)]))
    if table.left_out:
        tell(f"Note: too narrow for {', '.join(table.left_out)}; -o json has everything")


def _tell_failures(found: Look) -> None:
    """Tell what could not be read, and end with the code for it."""
    for note in found.notes:
        tell(f"Note: {note}")
    for failure in found.failures:
        where = f"{failure.repository}: " if failure.repository is not None else ""
        tell(f"{where}{failure.reason}: {failure.message}")
    if found.ended is not None:
        unread = f", and {found.unread} repositories were not read at all" if found.unread else ""
        message = f"{found.ended.reason}: {found.ended.message}; shown is what was read before{unread}"
        raise CommandError(message, Exit.REGISTRY)
    if found.failures:
        number = len(found.failures)
        what = "a repository" if number == 1 else f"{number} repositories"
        raise CommandError(f"{what} could not be read whole", Exit.PARTIAL)
