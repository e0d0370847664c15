"""What options of a login come to, before anything is asked with them."""

import click
import pytest
from click.testing import CliRunner

from registry_cleanup.cli.options import login_options
from registry_cleanup.logins.options import LoginOptions


@click.command()
@click.option("-f", "--filename")
@login_options
def _shown(filename: str | None, login: LoginOptions) -> None:
    click.echo(f"{filename} {login.username} {login.password!r} {login.insecure} {login.token_hosts}")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_line_end_is_no_part_of_a_password(ending: str) -> None:
    done = CliRunner().invoke(_shown, ["-u", "alice", "--password-stdin"], input=f" pass word {ending}")
    assert done.output == "None alice ' pass word ' False ()\n"


def test_standard_input_is_read_for_one_thing_only() -> None:
    done = CliRunner().invoke(_shown, ["-f", "-", "-u", "alice", "--password-stdin"], input="x")
    assert done.exit_code == 2
    assert "cannot both read standard input" in done.output


def test_the_options_have_the_names_of_other_tools_too() -> None:
    arguments = ["--insecure-skip-tls-verify", "--token-host", "a.example", "--token-host", "[::1]:5000"]
    assert CliRunner().invoke(_shown, arguments).output == "None None None True ('a.example', '[::1]:5000')\n"
