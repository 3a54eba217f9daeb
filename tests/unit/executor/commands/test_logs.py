"""``wegent-executor logs``: what it shows of the log and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.cli import main
from executor.exit_status import ExitStatus

LINES = (
    "2026-01-01 00:00:01 - [x] - [in y.py:1] - INFO - accepted task_id=7 subtask_id=70\n"
    "2026-01-01 00:00:02 - [x] - [in y.py:1] - ERROR - it failed task_id=7 subtask_id=70\n"
    "    Traceback\n"
    '{"task_id": 8, "subtask_id": 80, "level": "WARNING", "message": "slow"}\n'
    "2026-01-01 00:00:04 - [x] - [in y.py:1] - INFO - beats\n"
)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a home that has nothing else: no settings, no executor."""
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    file = tmp_path / "logs" / "executor.log"
    file.parent.mkdir()
    file.write_text(LINES)
    return file


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["-n", "2"], [3, 4]),
        (["-n", "9" * 30], [0, 1, 2, 3, 4]),
        (["-n", "all", "--task", "7"], [0, 1, 2]),
        (["--task", "70", "-n", "1"], [1, 2]),
        (["--task", "8"], [3]),
        (["--task", "8/80"], [3]),
        (["--task", "70/7"], []),
        (["--level", "warning"], [1, 2, 3]),
        (["--level", "ERROR", "--task", "8"], []),
    ],
)
def test_what_is_asked_for_is_shown(
    log: Path, arguments: list[str], numbers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    del log
    lines = LINES.splitlines(keepends=True)

    assert main(["logs", *arguments]) == ExitStatus.OK
    assert capsys.readouterr().out == "".join(lines[number] for number in numbers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--task", "9"], "has no entries like that"), (["--task", "8"], ""), (["-n", "0"], "")],
)
def test_that_nothing_is_found_is_said(
    log: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", *arguments]) == ExitStatus.OK
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)
    assert log.name in err or not said


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_log_that_has_no_room_where_it_goes_was_read_all_the_same(
    log: Path, repository_root: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "executor.main", "logs"],
            cwd=repository_root,
            env={"PATH": os.environ["PATH"], "WEGENT_EXECUTOR_HOME": str(log.parents[1])},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
        )

    assert (done.returncode, done.stderr) == (
        ExitStatus.FAILURE,
        b"wegent-executor: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("arguments", [["-n", "few"], ["-n", "-1"], ["--level", "loud"]])
def test_wrong_arguments_are_refused(log: Path, arguments: list[str]) -> None:
    del log
    assert main(["logs", *arguments]) == ExitStatus.USAGE


def test_the_log_is_where_the_settings_say_though_others_are_wrong(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_LOG_DIR", str(log.parent / "elsewhere"))
    monkeypatch.setenv("WEGENT_EXECUTOR_LOG_FILE", "other.log")
    monkeypatch.setenv("LOCAL_QUEUE_LIMIT", "many")
    (log.parent / "elsewhere").mkdir()
    (log.parent / "elsewhere" / "other.log").write_text("hello\n")

    assert main(["logs"]) == ExitStatus.OK
    assert capsys.readouterr().out == "hello\n"


def test_no_log_is_an_error_that_says_where_it_was_looked_for(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.unlink()

    assert main(["logs"]) == ExitStatus.FAILURE
    assert str(log) in capsys.readouterr().err


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(log: Path, repository_root: Path) -> Iterator[Start]:
    """Starts the command as a process; ends what is left of it."""
    started: list[subprocess.Popen[str]] = []

    def start_(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "executor.main", "logs", *arguments],
            cwd=repository_root,
            env={"PATH": os.environ["PATH"], "WEGENT_EXECUTOR_HOME": str(log.parent.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_
    for process in started:
        with process:
            process.kill()


def test_following_goes_on_and_an_interrupt_ends_it_without_a_word(log: Path, start: Start) -> None:
    following = start("-f", "-n", "1", "--level", "INFO")
    assert following.stdout is not None
    assert following.stdout.readline().endswith("beats\n")

    with log.open("a") as file:
        file.write(LINES.splitlines(keepends=True)[0])
    assert "accepted" in following.stdout.readline()

    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=20) == ("", "")
    assert following.returncode == ExitStatus.INTERRUPTED


@pytest.mark.parametrize("arguments", [["-n", "all"], ["-f", "-n", "all"]])
def test_a_reader_that_leaves_ends_it_quietly(
    log: Path, start: Start, arguments: list[str]
) -> None:
    log.write_text(LINES * 2000)  # more than a pipe holds
    reading = start(*arguments)
    assert reading.stdout is not None
    reading.stdout.readline()
    reading.stdout.close()

    assert reading.wait(timeout=20) == ExitStatus.OK
    assert reading.stderr is not None
    assert reading.stderr.read() == ""


def test_a_reader_that_leaves_while_nothing_is_logged_ends_it_too(start: Start) -> None:
    following = start("-f", "-n", "1")
    assert following.stdout is not None
    following.stdout.readline()
    following.stdout.close()

    assert following.wait(timeout=20) == ExitStatus.OK
