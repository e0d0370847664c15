"""`test`: which rule owns which of some names, and what becomes of them, without a registry."""

from __future__ import annotations

from pathlib import Path

import click

from registry_cleanup.cli.streams import expect_output


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name", required=False)
@click.option(
    "-t",
    "--tags",
    "given",
    multiple=True,
    required=True,
    metavar="TAG[@IMAGE],...",
    help="Tags to try. Those with the same IMAGE, a digest or any word, are on one image. - reads lines of "
    "TAG[@IMAGE] [DATE|AGE] from standard input.",
)
@click.option("-r", "--repository", help="Repository that the tags are in. Default one that the policy selects.")
@click.option(
    "-d",
    "--date",
    "dates",
    multiple=True,
    metavar="TAG=DATE|AGE",
    help="When the image of TAG was created: 2026-01-31, 2026-01-31T12:00:00Z, or its age, such as 30d.",
)
@click.option("--now", metavar="DATE", help="Judge as of this time instead of now.")
@click.option(
    "--by-digest",
    is_flag=True,
    help="As in a registry that deletes whole images only; otherwise it deletes tags alone.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is shown.",
)
def test(
    file: Path,
    name: str | None,
    given: tuple[str, ...],
    repository: str | None,
    dates: tuple[str, ...],
    now: str | None,
    by_digest: bool,
    output: str,
) -> None:
    """Tell which rule of the policy in FILE owns which of some tags, and what becomes of them.

    Nothing is asked but FILE; with several policies in it, NAME says which. The tags are judged by the same code as in
    a run, as if they were all that the repository has. Of a tag without a date it is told on what it depends, and those
    with one depend on it where it could change their verdict. What the cluster uses, indexes and referrers, digests
    shared with tags that are not given, and the grace period would keep more.
    """
    from registry_cleanup.cli.checking.trying import try_names

    expect_output()
    for line in try_names(file, name, given, repository, dates, now, by_digest=by_digest, as_json=output == "json"):
        click.echo(line)
