"""An explanation for people: sections of short sentences, wrapped to the terminal, with colour only there."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator

import click

from registry_cleanup.cli.explaining.words import sections, unselected, untagged, verdict_of
from registry_cleanup.cli.explaining.work import Found
from registry_cleanup.domain.explanation import Explanation

_WIDEST = 100
_INDENT = "  "


def print_text(found: Found) -> None:
    """Print what was found."""
    terminal = sys.stdout.isatty()
    colour = None if "NO_COLOR" not in os.environ else False
    width = min(shutil.get_terminal_size().columns, _WIDEST) if terminal else None
    for line in text_lines(found, width):
        click.echo(line, color=colour)


def text_lines(found: Found, width: int | None) -> Iterator[str]:
    """Yield the lines, wrapped where there is a `width`."""
    if not found.selection.selected:
        yield from _wrapped(unselected(found), width)
        return
    if not found.tags:
        yield from _wrapped(untagged(found), width)
    for number, told in enumerate(found.tags):
        if number:
            yield ""
        yield from _told(found, told, width)


def _told(found: Found, told: Explanation, width: int | None) -> Iterator[str]:
    name = f"{found.reference.repository}:{told.tag}"
    colour, verdict = verdict_of(told)
    yield from _wrapped(
        f"{name} {verdict}", width, style=lambda text: click.style(text, fg=colour, bold=True), hanging=_INDENT
    )
    for title, sentences in sections(found, told):
        if sentences:
            yield ""
            yield click.style(title, bold=True)
            for sentence in sentences:
                yield from _wrapped(sentence, width, indent=_INDENT, hanging=_INDENT * 2)


def _wrapped(
    text: str,
    width: int | None,
    *,
    indent: str = "",
    hanging: str = "",
    style: Callable[[str], str] = lambda text: text,
) -> Iterator[str]:
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if width is None:
        yield style(f"{indent}{text}")
        return
    wrapper = textwrap.TextWrapper(
        width, initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    yield from map(style, wrapper.wrap(text))
