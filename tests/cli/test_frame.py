"""The frame of all commands: whatever becomes of a command, stderr has a line for people, and scripts a code."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from registry_cleanup.__main__ import main
from registry_cleanup.cli.exits import Exit
from registry_cleanup.cli.group import LazyGroup, called_as
from tests.support.command import COMMAND, environment, run

_LIMIT = 30.0


# A group of our own, whose one command does what a test wants

_SCRIPT = """
import sys, types
import click
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.group import LazyGroup

@click.command()
def act():
{body}

module = types.ModuleType("registry_cleanup.cli.acting")
module.act = act
sys.modules[module.__name__] = module
debug = click.Option(["--debug"], is_flag=True)
group = LazyGroup("group", commands_in={{"act": ("acting:act", "Act.")}}, params=[debug])
group.main()
"""


def _acting(body: str) -> list[str]:
    """Return a command line that ends as `registry-cleanup act` would, if `act` were `body`."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return [sys.executable, "-c", _SCRIPT.format(body=indented), "act"]


def _act(home: Path, body: str, *before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    [*command, name] = _acting(body)
    return subprocess.run(
        [*command, *before, name],
        capture_output=True,
        text=True,
        check=False,
        env=environment(home, **variables),
        timeout=_LIMIT,
    )


def _sh(home: Path, line: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which "$@" is `words`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(home, **variables),
        timeout=_LIMIT,
    )


# Errors


def test_an_error_for_people_is_one_line_on_stderr_with_its_code(tmp_path: Path) -> None:
    done = _act(tmp_path, "raise CommandError('no such policy: team', Exit.CLUSTER)")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.CLUSTER, "", "Error: no such policy: team\n")


def test_an_error_that_nobody_foresaw_is_one_line_that_asks_for_a_report(tmp_path: Path) -> None:
    done = _act(tmp_path, "raise KeyError('tags\\nof')")
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: internal error: KeyError: ")
    assert "Please report it" in line


def test_with_debug_the_traceback_stands_before_the_error(tmp_path: Path) -> None:
    done = _act(tmp_path, "raise KeyError('tags')", "--debug")
    assert done.returncode == Exit.FAILED
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.splitlines()[-1].startswith("Error: internal error: KeyError: 'tags'")


def test_a_wrong_option_ends_with_2_and_shows_the_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "plan", "--nope")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr.startswith("Usage: registry-cleanup plan ")
    assert "No such option" in done.stderr


@pytest.mark.parametrize(("typed", "meant"), [("plna", "plan"), ("repot", "report"), ("inuse", "in-use")])
def test_an_unknown_command_ends_with_2_and_a_suggestion(tmp_path: Path, typed: str, meant: str) -> None:
    done = run(tmp_path, typed)
    assert done.returncode == Exit.USAGE
    assert done.stderr.splitlines()[-1] == f"Error: No such command '{typed}'. Did you mean '{meant}'?"


def test_a_command_that_resembles_none_gets_no_suggestion(tmp_path: Path) -> None:
    assert run(tmp_path, "xyzzy").stderr.splitlines()[-1] == "Error: No such command 'xyzzy'."


def test_wrong_settings_end_with_2_and_name_each_variable(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("operator", "--check"),
        REGISTRY_CLEANUP_PROTECTED_TAGS="(",
        REGISTRY_CLEANUP_PROTECTED_TAG="v.*",
    )
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "Error",
        "REGISTRY_CLEANUP_PROTECTED_TAGS",
        "REGISTRY_CLEANUP_PROTECTED_TAG",
    ]


def test_every_code_has_its_words_in_the_help(tmp_path: Path) -> None:
    shown = " ".join(run(tmp_path, "--help").stdout.split())
    for code in Exit:
        assert f"{code.value} {code.words}" in shown


# Ctrl-C


@pytest.mark.parametrize(
    "body",
    [
        "import time; print('begun', flush=True); time.sleep(60)",
        "import asyncio\nasync def wait(): print('begun', flush=True); await asyncio.sleep(60)\nasyncio.run(wait())",
    ],
)
def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path, body: str) -> None:
    with subprocess.Popen(
        _acting(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=_LIMIT)
    assert process.returncode == Exit.INTERRUPTED
    assert told == "\nInterrupted.\n"


def test_ctrl_c_while_the_program_is_still_being_imported_leaves_no_traceback(tmp_path: Path) -> None:
    code = """
import sys
class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from registry_cleanup.__main__ import main
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(tmp_path)
    )
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "")


def test_no_answer_to_a_question_is_an_interruption(tmp_path: Path) -> None:
    done = _act(tmp_path, "click.confirm('Prune?', err=True)")
    assert (done.returncode, done.stdout) == (Exit.INTERRUPTED, "")
    assert done.stderr.endswith("\nInterrupted.\n")


# What becomes of the output

_LINES = {
    "echo": "for number in range(20000): click.echo(f'line {number}')",
    # All of it may still be in the buffer when the interpreter ends.
    "unflushed": "for number in range(2000): sys.stdout.write(f'line {number}\\n')",
}


def _unread(home: Path, command: Sequence[str]) -> tuple[int, str]:
    """Run a command whose reader is gone before it begins; return its exit code and stderr."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(
            command,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(home),
            timeout=_LIMIT,
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("how", _LINES)
def test_where_nobody_reads_it_ends_with_141_and_silence(tmp_path: Path, how: str) -> None:
    assert _unread(tmp_path, _acting(_LINES[how])) == (Exit.BROKEN_PIPE, "")


def test_a_reader_that_has_seen_enough_gets_what_it_wanted(tmp_path: Path) -> None:
    done = _sh(tmp_path, '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', *_acting(_LINES["echo"]))
    assert (done.stdout, done.stderr) == (f"line 0\n{Exit.BROKEN_PIPE.value}\n", "")


def test_the_help_ends_the_same_way_where_nobody_reads_it(tmp_path: Path) -> None:
    assert _unread(tmp_path, [*COMMAND, "--help"]) == (Exit.BROKEN_PIPE, "")


def test_a_command_that_failed_keeps_its_code_where_nobody_reads(tmp_path: Path) -> None:
    body = "sys.stdout.write('something\\n')\nraise CommandError('held back', Exit.HELD_BACK)"
    assert _unread(tmp_path, _acting(body)) == (Exit.HELD_BACK, "Error: held back\n")


@pytest.mark.parametrize("how", _LINES)
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, how: str) -> None:
    done = _sh(tmp_path, '"$@" > /dev/full', *_acting(_LINES[how]))
    assert done.returncode == Exit.FAILED
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("how", _LINES)
def test_what_is_written_to_a_closed_stdout_goes_nowhere(tmp_path: Path, how: str) -> None:
    """Only a command knows whether it has a result that somebody should get."""
    done = _sh(tmp_path, '"$@" >&-', *_acting(_LINES[how]))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "list 127.0.0.1:1",
        "plan -f policy.yaml",
        "plan name",
        "explain team/app:1 -f policy.yaml",
        "report name",
        "run -f /dev/null --yes",
        "validate policy.yaml",
        "test policy.yaml -t a",
        "in-use --namespace team",
        "completion bash",
    ],
)
def test_a_command_with_a_result_does_not_begin_where_stdout_is_closed(tmp_path: Path, command: str) -> None:
    done = _sh(tmp_path, '"$@" >&-', *COMMAND, *command.split())
    told = "Error: the output cannot be written: standard output is closed\n"
    assert (done.returncode, done.stderr) == (Exit.FAILED, told)


def test_what_goes_to_a_file_needs_no_stdout(tmp_path: Path) -> None:
    done = _sh(tmp_path, '"$@" >&-', *COMMAND, "report", "name", "--output-file", str(tmp_path / "report.json"))
    assert (done.returncode, "no cluster" in done.stderr) == (Exit.CLUSTER, True)


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    body = f"with open({str(tmp_path / 'file')!r}, 'w') as file: sys.exit(0 if file.fileno() > 2 else 9)"
    assert _sh(tmp_path, '"$@" <&- >&- 2>&-', *_acting(body)).returncode == 0


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"\xe2\x80\xa6"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"\xe2\x80\xa6"),
        ({"PYTHONIOENCODING": "latin-1"}, b"\\u2026"),
    ],
)
def test_no_character_is_too_much_for_a_terminal_of_another_encoding(
    tmp_path: Path, variables: dict[str, str], shown: bytes
) -> None:
    body = r"sys.stdout.write('first \u2026\n')" + "\n" + r"click.echo('then \u2026')"
    done = subprocess.run(
        _acting(body), capture_output=True, check=False, env=environment(tmp_path, **variables), timeout=_LIMIT
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [b"first " + shown, b"then " + shown]


def test_the_name_of_a_file_in_no_encoding_can_be_printed(tmp_path: Path) -> None:
    done = _act(tmp_path, "click.echo(b'policy-\\xff.yaml'.decode('utf-8', 'surrogateescape'))", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (0, "policy-\\udcff.yaml\n")


# Help


def _commands() -> list[str]:
    context = click.Context(main)
    return ["", *(name for name in main.list_commands(context) if _is_there(main, context, name))]


def _is_there(group: click.Group, context: click.Context, name: str) -> bool:
    try:
        return group.get_command(context, name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("command", _commands())
def test_help_fits_into_60_columns(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, *command.split(), "--help", COLUMNS="60")
    assert done.returncode == 0
    # What cannot be broken may be longer: a path, a variable, or a line that is there to be copied.
    wide = [line for line in done.stdout.splitlines() if len(line) > 60]
    assert [
        line for line in wide if " " in line.strip() and not re.match(r"\s+(registry-cleanup|REGISTRY_)", line)
    ] == []


def test_help_on_a_terminal_of_60_columns_is_as_wide_as_that(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with os.fdopen(theirs, "wb") as terminal:
        done = subprocess.run(
            [*COMMAND, "plan", "--help"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == 0
    with os.fdopen(ours, "rb", buffering=0) as shown:
        text = shown.read(20_000).decode()
    widths = [len(line) for line in text.splitlines()]
    assert 50 < max(widths) <= 60


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/bin/registry-cleanup", "registry-cleanup"),
        ("/home/me/.local/bin/kubectl-registry_cleanup", "kubectl registry-cleanup"),
        ("/src/operator/registry_cleanup/__main__.py", "registry-cleanup"),
    ],
)
def test_the_usage_shows_what_a_person_typed(path: str, name: str) -> None:
    assert called_as(path) == name


def test_a_command_is_imported_only_when_it_is_called() -> None:
    group = LazyGroup("group", commands_in={"broken": ("there_is_no_such_module:x", "Do it.")})
    shown = CliRunner().invoke(group, ["--help"])
    assert (shown.exit_code, "broken  Do it." in shown.output) == (0, True)
