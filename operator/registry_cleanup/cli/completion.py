"""`completion`, and what kubectl asks to complete `kubectl registry-cleanup`."""

from __future__ import annotations

from collections.abc import Sequence

import click
from typing_extensions import override

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.program import COMPLETE_VARIABLE, PROGRAM
from registry_cleanup.cli.streams import expect_output

_BASH = "bash"
# Of cobra, by which kubectl completes; each says what the shell adds to what is printed.
_FILES, _NO_FILES, _FOLDERS = 0, 4, 16


_HELP = """Print the script by which a shell completes commands, options and files.

\b
registry-cleanup completion bash > ~/.local/share/bash-completion/completions/registry-cleanup
registry-cleanup completion zsh > "${fpath[1]}/_registry-cleanup"
registry-cleanup completion fish > ~/.config/fish/completions/registry-cleanup.fish

The folder must be there; a new shell has it. bash needs its package bash-completion, or a line in ~/.bashrc that
sources the file. Where kubectl completes, it completes `kubectl registry-cleanup` without any of this: it asks the
program kubectl_complete-registry_cleanup, which is installed with this one.
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script of a shell."""
    from click.shell_completion import get_completion_class

    expect_output()
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"this version of click knows no {shell}", Exit.FAILED)
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source(), nl=False)


def learn_bash() -> None:
    """Let click understand `--output=js`, which bash hands over in three words."""
    from click.shell_completion import BashComplete, add_completion_class

    class Joining(BashComplete):
        @override
        def get_completion_args(self) -> tuple[list[str], str]:
            words, incomplete = super().get_completion_args()
            if incomplete == "=" and words:
                return words[:-1], f"{words[-1]}="
            if len(words) > 1 and words[-1] == "=":
                return words[:-2], f"{words[-2]}={incomplete}"
            return words, incomplete

    add_completion_class(Joining, _BASH)


def answer_kubectl(program: click.Group, words: Sequence[str]) -> None:
    """Print what may follow `words`, as kubectl reads it: a line for each with its help, and a directive at the end."""
    from click.shell_completion import ShellComplete

    *before, incomplete = words or [""]
    found = ShellComplete(program, {}, PROGRAM, COMPLETE_VARIABLE).get_completions(before, incomplete)
    for item in found:
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    kinds = {item.type for item in found}
    click.echo(f":{_FILES if 'file' in kinds else _FOLDERS if 'dir' in kinds else _NO_FILES}")
