"""How what ends a command early is told: one line on stderr, and its exit code."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.exceptions import Abort
from click.exceptions import Exit as ClickExit

from registry_cleanup.cli import streams
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.telling import safe_lines


@contextmanager
def told(*, debug: bool) -> Iterator[None]:
    """Translate what is raised into what click ends with; with `debug`, Python's traceback goes before it."""
    try:
        yield
    except (click.ClickException, ClickExit):
        raise
    except (KeyboardInterrupt, Abort, EOFError) as error:  # Abort: Ctrl-C or Ctrl-D at one of click's questions
        click.echo("\nInterrupted.", err=True)
        raise ClickExit(Exit.INTERRUPTED) from error
    except Exception as error:
        if isinstance(error, OSError) and (code := streams.unwritten(error)) is not None:
            raise ClickExit(code) from error
        if debug:
            click.echo(traceback.format_exc(), err=True, nl=False)
        raise _explained(error) from error


def _explained(error: Exception) -> click.ClickException:
    if isinstance(error, CommandError):
        return _ending(str(error), error.code)
    # Only now, since it imports pydantic.
    from registry_cleanup.settings import WrongSettingsError

    if isinstance(error, WrongSettingsError):
        return _ending("wrong settings:\n" + "\n".join(error.problems), Exit.USAGE)
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return _ending(
        f"internal error: {type(error).__name__}: {said} ({where.filename}, line {where.lineno}). Please report it, "
        "with what `registry-cleanup --debug COMMAND …` prints before this line.",
        Exit.FAILED,
    )


def _ending(message: str, code: Exit) -> click.ClickException:
    """Return what click prints after `Error: `, with an exit code of ours."""

    class Ending(click.ClickException):
        exit_code = code

    return Ending(safe_lines(message))
