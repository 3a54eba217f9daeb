"""``wegent-executor update`` as it is typed; what it does is tested in test_update.py elsewhere."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from executor import cli
from executor.commands.update import COMMAND, show_progress
from executor.exit_status import ExitStatus
from shared.errors import ConfigError
from tests.fakes.programs import NAME, program, put


def test_from_source_it_says_what_to_type_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["update", "--from", "new"]) == ExitStatus.FAILURE
    assert "git pull && uv sync" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--from"], ["--from", "new", "--rollback"], ["--rollback", "--sha256", "0" * 64]],
)
def test_what_makes_no_sense_is_an_error_of_usage(arguments: list[str]) -> None:
    assert cli.main(["update", *arguments]) == ExitStatus.USAGE


def test_the_proxy_of_config_env_is_the_one_of_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(put(tmp_path / "bin" / NAME, program("1"))))
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    (tmp_path / "config.env").write_text("HTTPS_PROXY=socks5://127.0.0.1:1\n")
    arguments = Namespace(
        source="https://downloads.test/x", sha256="0" * 64, rollback=False, now=False
    )
    with pytest.raises(ConfigError, match="HTTPS_PROXY names a socks5 proxy"):
        COMMAND.run(arguments)


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
