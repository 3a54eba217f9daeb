"""``wegent-executor update`` as it is typed; what it does is tested in test_update.py elsewhere."""

from __future__ import annotations

import io

import pytest

from executor import cli
from executor.commands.update import show_progress
from executor.exit_status import ExitStatus


def test_from_source_it_says_what_to_type_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["update", "--from", "new"]) == ExitStatus.FAILURE
    assert "git pull && uv sync" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--from"], ["--from", "new", "--rollback"], ["--rollback", "--sha256", "0" * 64]],
)
def test_what_makes_no_sense_is_an_error_of_usage(arguments: list[str]) -> None:
    assert cli.main(["update", *arguments]) == ExitStatus.USAGE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_much_has_come() -> None:
    terminal = Terminal()
    with show_progress(terminal) as progress:
        progress(500_000, 2_000_000)
        progress(2_000_000, 2_000_000)
    assert terminal.getvalue() == "\r0.5 of 2.0 MB\r2.0 of 2.0 MB\n"


def test_a_line_that_was_cut_off_ends() -> None:
    terminal = Terminal()
    with pytest.raises(ValueError, match="cut"), show_progress(terminal) as progress:
        progress(500_000, None)
        raise ValueError("cut")
    assert terminal.getvalue() == "\r0.5 MB\n"


def test_a_file_gets_no_progress() -> None:
    file = io.StringIO()
    with show_progress(file) as progress:
        progress(1, 2)
    assert file.getvalue() == ""
