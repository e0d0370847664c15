"""The group of all commands: imports the one that is called, and no other, and turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn

import click
from typing_extensions import override

from registry_cleanup.cli import streams
from registry_cleanup.cli.ending import told
from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.program import COMPLETE_VARIABLE, PROGRAM

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """Knows where each command is, and what it does in one line, without importing it."""

    def __init__(self, *args: Any, commands_in: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:  # noqa: ANN401 - as click has them
        """Find each command by name in `commands_in`: as `module:attribute` below this package, and its short help."""
        super().__init__(*args, **kwargs)
        self._commands_in = commands_in

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands_in)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands_in:
            return None
        module, _, attribute = self._commands_in[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"registry_cleanup.cli.{module}"), attribute)
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._commands_in and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, self._commands_in, n=1, cutoff=0.5)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        # click would import every command for its short help.
        names = {name: short for name, (_, short) in self._commands_in.items() if name.startswith(incomplete)}
        return [
            *(CompletionItem(name, help=short) for name, short in names.items()),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in self._commands_in.items()])

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.words) for code in Exit])

    @override
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with told(debug=False):
            return super().make_context(*args, **kwargs)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with told(debug=ctx.find_root().params.get("debug", False)):
            return super().invoke(ctx)

    @override
    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; end with the exit code of what went wrong, told on stderr."""
        streams.prepare()
        kwargs["prog_name"] = kwargs.get("prog_name") or called_as(sys.argv[0])
        # The same for `kubectl registry-cleanup`, whose name is none for a variable.
        kwargs.setdefault("complete_var", COMPLETE_VARIABLE)
        if COMPLETE_VARIABLE in os.environ:
            _complete(super().main, kwargs)
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            # What click did not write yet, such as what a csv.writer left in the buffer.
            failed = streams.finish()
            if failed is not None and end.code in (None, Exit.DONE):
                sys.exit(failed)
            raise


def _complete(main: Callable[..., Any], options: Mapping[str, Any]) -> NoReturn:
    """Tell a shell what may follow; whatever goes wrong would stand between the words that a person types."""
    from registry_cleanup.cli.completion import learn_bash

    try:
        learn_bash()
        main(**options)
    except Exception:
        sys.exit(Exit.FAILED)
    sys.exit(Exit.DONE)


def called_as(path: str) -> str:
    """Return what a person types to start the program that is at `path`."""
    return f"kubectl {PROGRAM}" if PurePath(path).name.startswith("kubectl-") else PROGRAM
