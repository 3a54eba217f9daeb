"""What is printed without a command being carried out: help, version, unknown arguments."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

from executor.cli import main
from executor.exit_status import ExitStatus


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("typed", [["--version"], ["--help"], ["status", "--help"]])
def test_what_has_no_room_where_it_goes_has_not_worked(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails, too

    with redirect_stdout(stream):
        assert main(typed) == ExitStatus.FAILURE
    with suppress(OSError):
        stream.close()
    assert "the output cannot be written: No space left on device" in capsys.readouterr().err


def test_a_reader_that_is_gone_has_what_he_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8")

    with redirect_stdout(stream):
        assert main(["--help"]) == ExitStatus.OK
    with suppress(BrokenPipeError):
        stream.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        (["--loud"], ""),
        (["--loud", "status"], ""),
        (["status", "--loud"], " status"),
        (["status", "now"], " status"),
        (["service", "install", "--loud"], " service install"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_usage_of_where_it_stands(
    typed: list[str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == ExitStatus.USAGE

    said = capsys.readouterr().err
    assert said.startswith(f"usage: wegent-executor{where} [-h]")
    assert f"wegent-executor{where}: error: unrecognized arguments: " in said
