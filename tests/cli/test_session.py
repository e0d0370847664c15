"""The README's session at the command line is one that the demo produced."""

from datetime import date

import pytest

from registry_cleanup.__main__ import main
from tests.demo.session import README, SHOWN_DAY, masked, session, session_in, with_session

_TODAY = date(2026, 11, 27)
_SESSION = [each for typed in session("127.0.0.1:50000").values() for each in typed]
_README = session_in(README.read_text())


def test_the_readme_shows_the_commands_that_the_demo_types() -> None:
    assert [line for line in _README if line.startswith("$ ")] == [
        f"$ registry-cleanup {each.line}" for each in _SESSION if each.in_readme is not None
    ], "make readme-session"


def test_the_readme_shows_no_more_of_an_output_than_the_demo_gives_it() -> None:
    shown = "\n".join(_README).split("$ registry-cleanup ")[1:]
    most = [each.in_readme for each in _SESSION if each.in_readme is not None]
    # The command itself stands before its output, and what was left out after it.
    assert [len(part.splitlines()) <= sum(count) + 2 for part, count in zip(shown, most, strict=True)] == [True] * len(
        most
    )
    assert all(len(part.splitlines()) > 1 for part in shown)


@pytest.mark.parametrize("line", [each.line for each in _SESSION])
def test_each_command_of_the_session_exists_and_takes_its_words(line: str) -> None:
    name, *words = line.split()
    context = main.make_context("registry-cleanup", [name])
    command = main.get_command(context, name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in options] == []


def test_the_session_in_the_readme_is_the_same_on_another_day_and_port() -> None:
    text = "\n".join(_README)
    assert masked(text, SHOWN_DAY) == text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("127.0.0.1:41234/shop/api", "127.0.0.1:50000/shop/api"),
        ("build-1 2026-11-26", "build-1 2026-11-24"),
        ("at 2026-11-27T23:34:30.107732+00:00", "at 2026-11-25T12:00:00+00:00"),
        ("at 2026-11-27 23:34", "at 2026-11-25 12:00"),
        ("built 1970-01-01", "built 1970-01-01"),
        ("run 20261127-233429-cfd8f6", "run 20261125-120000-abc123"),
        ("planned in 3.17 s", "planned in 0.1 s"),
        ("build-1234567890 and v1.2.3 of 628 bytes", "build-1234567890 and v1.2.3 of 628 bytes"),
    ],
)
def test_what_is_another_each_time_is_masked_and_nothing_else(said: str, shown: str) -> None:
    assert masked(said, _TODAY) == shown


def test_the_same_digest_stays_the_same_and_another_another() -> None:
    one, same, other = masked("a1b2c3d4e5f6 a1b2c3d4e5f6 ffffeeee0000", _TODAY).split()
    assert one == same != other
    assert one != "a1b2c3d4e5f6"
    assert masked("00000000-1111-2222-3333-44444444444a", _TODAY)[8] == "-"


def test_a_session_takes_the_place_of_the_one_before() -> None:
    page = "a\n<!-- session: made by make readme-session -->\nold\n<!-- /session -->\nz\n"
    new = with_session(page, "$ registry-cleanup --version\nit")
    assert session_in(new) == ["$ registry-cleanup --version", "it"]
    assert with_session(new, "$ registry-cleanup --version\nit") == new
    assert (new[0], new[-2]) == ("a", "z")
