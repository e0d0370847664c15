"""`validate`: policies in files against the schema and the rules, without a cluster."""

from __future__ import annotations

import click

from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.streams import expect_output


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-R", "--recursive", is_flag=True, help="Look into the folders of folders, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line for each finding, or one JSON document (docs/schemas/validate.schema.json).",
)
def validate(files: tuple[str, ...], recursive: bool, quiet: bool, output: str) -> None:
    """Check policies in files, without a cluster.

    Tells at once what breaks the CRD of this version, its schema and its rules, and what the operator would refuse,
    each as FILE:LINE: FIELD: MESSAGE, and warns of what is valid and can have no effect. An API server looks at a
    little more, such as what is in finalizers and ownerReferences, and its regular expressions know fewer Unicode
    classes and no group names beyond ASCII.

    FILE is YAML or JSON of any number of documents, a folder, of which *.yaml, *.yml and *.json are read, or - for
    standard input. Documents of other kinds are passed over, but a FILE without any policy is an error.

    Settings of the operator (REGISTRY_CLEANUP_...) in the environment bound policies here, too.

    Exit code 0 if all is valid, 2 if not.
    """
    from registry_cleanup.cli.checking.validation import as_json, as_lines, look_at

    expect_output()
    findings = look_at(files, recursive=recursive)
    if output == "json":
        click.echo(as_json(findings, quiet=quiet))
    else:
        for line in as_lines(findings, quiet=quiet):
            click.echo(line)
    if findings.errors:
        raise SystemExit(Exit.USAGE)
