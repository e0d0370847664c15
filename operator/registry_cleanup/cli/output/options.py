"""Options of commands that print plans or reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_FORMATS = ("table", "json", "yaml", "csv", "html")


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options `globs`, `output` and `output_file`."""
    for option in (
        click.option("--output-file", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."),
        click.option(
            "-o",
            "--output",
            type=click.Choice(_FORMATS),
            help="Format; default what the name of the file ends in, else table. HTML is a page for the browser.",
        ),
        click.option(
            "--repository",
            "globs",
            multiple=True,
            metavar="GLOB",
            help="Show only these repositories, as in spec.repositories; may be given several times.",
        ),
    ):
        command = option(command)
    return command
