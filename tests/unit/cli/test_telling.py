"""What people are told does nothing to their terminal, whoever wrote a part of it."""

import click
import pytest
from click.testing import CliRunner

from registry_cleanup.cli.ending import told
from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.telling import safe_lines, tell


def test_lines_stay_and_what_would_command_a_terminal_goes() -> None:
    assert safe_lines("one\ntwo") == "one\ntwo"
    assert safe_lines("a\x1b[2Jb\x9bc\u202ed") == "a�[2Jb�c�d"


def test_a_note_goes_to_stderr_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    tell("Note: \x1b[2J")
    assert capsys.readouterr() == ("", "Note: �[2J\n")


def test_an_error_that_names_what_a_registry_said_has_no_escapes() -> None:
    @click.command()
    def command() -> None:
        with told(debug=False):
            raise CommandError("not sent to a\x9bb.example.com", Exit.REGISTRY)

    done = CliRunner().invoke(command)
    assert (done.exit_code, done.stderr) == (Exit.REGISTRY, "Error: not sent to a�b.example.com\n")
