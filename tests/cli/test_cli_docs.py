"""docs/cli.md is what the commands say of themselves."""

import pytest

from registry_cleanup.__main__ import main
from registry_cleanup.cli.exits import Exit
from tests.support import cli_docs
from tests.support.cli_docs import PAGE, commands, written

_PAGE = PAGE.read_text()


def test_the_page_is_up_to_date() -> None:
    assert written(_PAGE) == _PAGE, "make docs"


def test_the_page_has_each_block_once() -> None:
    assert cli_docs.blocks(_PAGE) == [*cli_docs.BLOCKS]


def test_a_command_that_cannot_be_imported_is_no_gap_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_commands_in", {"gone": ("there_is_no_such_module:gone", "Go.")})
    with pytest.raises(ModuleNotFoundError):
        written(_PAGE)


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = commands()[name]
    assert command.help
    untold = [option.opts for option in command.params if option.param_type_name == "option" and not option.help]
    assert untold == []


def test_every_code_has_words_for_people() -> None:
    assert all(10 < len(code.words) < 100 for code in Exit)
    assert len({code.words for code in Exit}) == len(Exit)
