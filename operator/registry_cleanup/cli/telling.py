"""Telling a person something that is no result: on stderr, and so that it does nothing to a terminal."""

from __future__ import annotations

import click

from registry_cleanup.cli.output.words import safe


def tell(words: str) -> None:
    """Tell it; names and messages come from registries and clusters, where anybody may have written them."""
    click.echo(safe_lines(words), err=True)


def safe_lines(words: str) -> str:
    """Return `words` without characters that would do something to a terminal, but for the ends of its lines."""
    return "\n".join(map(safe, words.split("\n")))
