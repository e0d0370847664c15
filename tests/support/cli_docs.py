"""What of docs/cli.md is made from the commands themselves: `make docs` writes it, and a test compares.

The page is written by hand around blocks, each between `<!-- NAME: made by make docs -->` and `<!-- /NAME -->`.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from registry_cleanup.__main__ import main as program
from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.program import PROGRAM
from registry_cleanup.settings import described

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "cli.md"
_BLOCK = re.compile(r"^(<!-- ([\w-]+): made by make docs -->\n).*?^(<!-- /\2 -->)$", re.DOTALL | re.MULTILINE)
# Wide enough that click never breaks a line.
_WIDTH = 10_000


def commands() -> Mapping[str, click.Command]:
    """Return all commands by name, in the order of the help.

    Raises:
        ImportError: one cannot be imported.
    """
    return dict(_below(program, _context(program, PROGRAM)))


def _below(group: click.Group, context: click.Context, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield the commands of a group, those of its groups after each, by all words that a person types."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from _below(command, context, f"{prefix}{name} ")


def written(page: str) -> str:
    """Return the page with all its blocks brought up to date."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n{found[3]}", page)


def blocks(page: str) -> list[str]:
    """Return the names of the blocks of a page, in their order."""
    return [found[2] for found in _BLOCK.finditer(page)]


# The blocks


def _logins() -> str:
    page = PAGE.parent / "cli-logins.md"
    if not page.exists():
        return ""
    return f"**Logins.** [{page.name}]({page.name}) says where they are looked for, and which host gets them.\n"


def _exit_codes() -> str:
    return _table("Code", "It ended so", {str(code.value): code.words for code in Exit})


def _commands() -> str:
    return "\n".join(_command(name, command) for name, command in commands().items())


def _variables() -> str:
    found: dict[str, str] = {}
    for command in commands().values():
        for parameter in command.params:
            for variable in _words(parameter.envvar):
                found[f"`{variable}`"] = f"stands in for `{max(parameter.opts, key=len)}`"
    return _table("Variable", "What it does", found)


def _settings() -> str:
    return _table("Setting", "What it is", {f"`{name}`": _text(text) for name, text in described().items()})


def _schemas() -> str:
    found = sorted((PAGE.parent / "schemas").glob("*.json"))
    return "".join(f"- [{file.name}](schemas/{file.name}): {_title(file)}\n" for file in found)


def _title(schema: Path) -> str:
    return _text(str(json.loads(schema.read_text()).get("title", "")))


BLOCKS: Mapping[str, Callable[[], str]] = {
    "logins": _logins,
    "exit-codes": _exit_codes,
    "commands": _commands,
    "variables": _variables,
    "settings": _settings,
    "schemas": _schemas,
}


# One command


def _command(name: str, command: click.Command) -> str:
    context = _context(command, name, _context(program, PROGRAM))
    parts = [f"### {name}\n", *_paragraphs(command.help or ""), f"```\n{_usage(command, context)}\n```\n"]
    records = [parameter.get_help_record(context) for parameter in command.params]
    told = {f"`{record[0]}`": _text(record[1]) for record in records if record is not None and record[1]}
    return "\n".join([*parts, _table("Option", "What it does", told)] if told else parts)


def _usage(command: click.Command, context: click.Context) -> str:
    return command.get_usage(context).removeprefix("Usage: ")


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; one that click must not wrap becomes a block of code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield "```\n" + paragraph.removeprefix("\b\n") + "\n```\n"
        else:
            yield _text(" ".join(paragraph.split())) + "\n"


def _text(text: str) -> str:
    """Return what Markdown shows as `text`; what stands between backticks shows itself."""
    parts = text.split("`")
    return "`".join(re.sub(r"[*<|]", r"\\\g<0>", part) if index % 2 == 0 else part for index, part in enumerate(parts))


def _table(first: str, second: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {first} | {second} |", "|---|---|"]
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _words(variable: str | Sequence[str] | None) -> list[str]:
    return [variable] if isinstance(variable, str) else list(variable or ())


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **({} if parent else program.context_settings),
    )


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
