"""Questions to a person at a terminal, on stderr: stdout is for results."""

from __future__ import annotations

import sys

import click


def can_ask() -> bool:
    """Say whether there is somebody to ask, who can see the question."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def says_yes(question: str) -> bool:
    """Ask, and say whether the answer was `yes`; whoever ends the input says no."""
    click.echo(f"{question} Type yes to go on: ", err=True, nl=False)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        click.echo(err=True)
    return answer.strip().lower() == "yes"
