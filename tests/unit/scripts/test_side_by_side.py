"""Commands run at the same time; what each of them did is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "side_by_side.py"

WAIT_S = 60.0


@contextmanager
def started(place: Path, *commands: str) -> Iterator[subprocess.Popen[str]]:
    """The script, at work on *commands* in *place*; killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *commands], cwd=place, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(place: Path, *commands: str) -> tuple[int, list[str]]:
    with started(place, *commands) as process:
        output, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, output.splitlines()


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[str, str]:
    """Two, in the folder of the test: who opens one waits for its other end."""
    names = ("there", "back")
    for name in names:
        os.mkfifo(tmp_path / name)
    return names


def test_commands_that_wait_for_each_other_end_in_order(
    tmp_path: Path, pipes: tuple[str, str]
) -> None:
    there, back = pipes
    asks, answers = f"echo ping > {there}; cat {back}", f"cat {there}; echo pong > {back}"
    assert run(tmp_path, asks, answers) == (0, ["pong", "ping"])
    assert run(tmp_path, answers, asks) == (0, ["ping", "pong"])


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_is_named_after_all_that_was_printed(tmp_path: Path, failing: int) -> None:
    commands = ["echo first", "echo second >&2"]
    commands[failing] += "; exit 3"
    status, lines = run(tmp_path, *commands)
    assert status == 1
    assert lines == ["first", "second", f"FAILED with status 3: {commands[failing]}"]


def test_told_to_end_it_ends_the_commands(tmp_path: Path) -> None:
    commands = ["echo there; exec sleep 613", "exec sleep 613"]
    with started(tmp_path, *commands) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        process.terminate()
        output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert output.splitlines() == [f"FAILED with status -15: {command}" for command in commands]


def test_interrupted_it_waits_for_the_commands_to_clean_up(
    tmp_path: Path, pipes: tuple[str, str]
) -> None:
    gate, _ = pipes
    with started(tmp_path, f"echo there; cat {gate}", "echo second") as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGINT)  # not as a terminal does, to the commands as well
        (tmp_path / gate).write_text("cleaned up\n")
        output, _ = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (0, "cleaned up\nsecond\n")
