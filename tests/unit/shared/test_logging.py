"""Logs: one format for every logger, without secrets, whatever the disk does."""

from __future__ import annotations

import json
import logging
import queue
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import socketio
import structlog

from shared.log_format import LINE_LIMIT
from shared.log_writer import QueueHandler
from shared.logging import LogFile, Logs, configure_logging, get_logger
from shared.redaction import Redactor

SECRET = "swordfish-0123"
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - \[(?P<logger>[^]]+)\] - "
    r"\[in (?P<path>/.+\.py):(?P<line>\d+)\] - (?P<level>[A-Z]+) - (?P<message>.*)"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "executor.log"


@pytest.fixture
def open_logs(file: Path) -> Iterator[Callable[..., Logs]]:
    """Configures logging into *file*; what the test leaves open is closed after it."""
    opened: list[Logs] = []

    def open_(*, level: str = "INFO", json: bool = False, max_bytes: int = 10**6) -> Logs:
        logs = configure_logging(
            file=LogFile(file, max_bytes=max_bytes, backups=2),
            level=level,
            format="json" if json else "text",
            redactor=Redactor([SECRET]),
        )
        opened.append(logs)
        return logs

    yield open_
    for logs in opened:
        logs.close()


def test_a_line_has_the_documented_form(open_logs: Callable[..., Logs], file: Path) -> None:
    logs = open_logs()
    get_logger("local_runner").info("Starting Local Executor Runner...")
    logs.close()

    match = LINE.fullmatch(file.read_text().rstrip("\n"))
    assert match
    assert match["logger"] == "local_runner"
    assert match["path"] == __file__
    assert "get_logger" in Path(__file__).read_text().splitlines()[int(match["line"]) - 1]
    assert match["level"] == "INFO"
    assert match["message"] == "Starting Local Executor Runner..."


def test_what_is_bound_to_the_task_stands_at_the_end_for_every_logger(
    open_logs: Callable[..., Logs], file: Path
) -> None:
    logs = open_logs()
    with structlog.contextvars.bound_contextvars(task_id=7, subtask_id="a b"):
        get_logger("supervisor").info("run %s", "started", model="m")
        logging.getLogger("a.library").warning("slow: %d ms", 9)
    get_logger("supervisor").info("idle")
    logs.close()

    first, second, third = file.read_text().splitlines()
    assert first.endswith(' - INFO - run started task_id=7 subtask_id="a b" model=m')
    assert second.endswith(' - WARNING - slow: 9 ms task_id=7 subtask_id="a b"')
    assert third.endswith(" - INFO - idle")


def test_nothing_from_outside_can_begin_a_line(open_logs: Callable[..., Logs], file: Path) -> None:
    forged = "x\n2026-01-01 00:00:00 - [cli] - [in /a.py:1] - INFO - all is well\r\x1b[2J\u2028"
    logs = open_logs()
    get_logger("handlers").info("unknown event %s", forged, name=forged)
    try:
        raise ValueError(forged)
    except ValueError:
        get_logger("handlers").exception("bad payload")
    logs.close()

    text = file.read_text()
    assert "\x1b" not in text and "\r" not in text and "\u2028" not in text
    assert len([row for row in text.split("\n") if re.match(r"\d{4}-", row)]) == 2


def test_an_exception_is_followed_by_a_readable_traceback(
    open_logs: Callable[..., Logs], file: Path
) -> None:
    logs = open_logs()
    try:
        raise ValueError(f"no {SECRET}")
    except ValueError as exc:
        get_logger("supervisor").error("the run crashed", exc_info=exc)
    logs.close()

    first, *trace = file.read_text().splitlines()
    assert first.endswith("the run crashed")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    ValueError: no ***"


def test_json_has_one_object_per_line(open_logs: Callable[..., Logs], file: Path) -> None:
    logs = open_logs(json=True)
    with structlog.contextvars.bound_contextvars(task_id=0):
        get_logger("supervisor").info("two\nlines", size=3, level="forged", path=Path("/x"))
        try:
            raise ValueError(SECRET)
        except ValueError:
            get_logger("supervisor").exception("failed: %s", SECRET, token=SECRET)
    logs.close()

    first, second = map(json.loads, file.read_text().splitlines())
    assert first["message"] == "two\nlines"
    assert (first["task_id"], first["size"]) == (0, 3)
    assert (first["level"], first["logger"]) == ("INFO", "supervisor")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+[+-]\d\d:\d\d", first["timestamp"])
    assert second["message"] == "failed: ***"
    assert second["token"] == "***"
    assert "ValueError: ***" in second["exception"]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_reaches_the_file_or_the_console(
    open_logs: Callable[..., Logs],
    file: Path,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
) -> None:
    logs = open_logs(level="DEBUG", json=as_json)
    get_logger("x").warning(SECRET, field=SECRET, nested={"token": [SECRET]})
    logging.getLogger("y").debug("connecting with %r", {"token": SECRET})
    logs.close()

    for text in (file.read_text(), capsys.readouterr().err):
        assert SECRET not in text
        assert text.count("***") == 4


def test_the_socket_library_cannot_print_past_the_redaction(
    open_logs: Callable[..., Logs], capsys: pytest.CaptureFixture[str]
) -> None:
    library = logging.getLogger("socketio.client")
    level, handlers = library.level, library.handlers[:]
    library.setLevel(logging.NOTSET)
    library.handlers.clear()
    logs = open_logs(level="DEBUG")
    try:
        socketio.AsyncClient()
        assert library.handlers == []
        library.info("connecting with %s", {"token": SECRET})
    finally:
        logs.close()
        library.setLevel(level)
        library.handlers[:] = handlers

    assert "connecting with {'token': '***'}" in capsys.readouterr().err


def test_chatty_libraries_are_heard_at_debug_only(
    open_logs: Callable[..., Logs], file: Path
) -> None:
    logs = open_logs()
    logging.getLogger("socketio.client").info("event")
    logging.getLogger("socketio.client").warning("trouble")
    logs.close()
    logs = open_logs(level="DEBUG")
    logging.getLogger("socketio.client").info("event at debug")
    logs.close()

    messages = [row.rsplit(" - ", 1)[1] for row in file.read_text().splitlines()]
    assert messages == ["trouble", "event at debug"]


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_libraries_that_write_whole_messages_are_heard_when_they_warn_only(
    open_logs: Callable[..., Logs], file: Path, level: str
) -> None:
    logs = open_logs(level=level)
    for name in ("engineio.client", "engineio.server", "aiosqlite", "sse_starlette.sse"):
        logging.getLogger(name).info("a whole message")
        logging.getLogger(name).warning("trouble")
    logs.close()

    messages = [row.rsplit(" - ", 1)[1] for row in file.read_text().splitlines()]
    assert messages == ["trouble"] * 4


def test_warnings_of_python_reach_the_log(open_logs: Callable[..., Logs], file: Path) -> None:
    logs = open_logs()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # the two lines above have put the original in place again
        warnings.warn("an old way", DeprecationWarning, stacklevel=1)
    logs.close()

    assert "DeprecationWarning: an old way" in file.read_text()


def test_the_console_shows_sentences_and_the_file_the_tracebacks(
    open_logs: Callable[..., Logs], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = open_logs()
    try:
        raise ValueError
    except ValueError:
        get_logger("x").exception("it failed")
    logs.close()

    assert "Traceback" in file.read_text()
    console = capsys.readouterr().err
    assert "it failed" in console
    assert "Traceback" not in console


def test_files_are_private_and_rotate_under_numbers(
    open_logs: Callable[..., Logs], file: Path
) -> None:
    logs = open_logs(max_bytes=500)
    for number in range(20):
        get_logger("x").info("line %d %s", number, "." * 100)
    logs.close()

    names = sorted(path.name for path in file.parent.iterdir())
    assert names == ["executor.log", "executor.log.1", "executor.log.2"]
    for path in file.parent.iterdir():
        assert path.stat().st_size <= 500
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "line 19 " in file.read_text()


def test_a_log_that_was_readable_by_others_is_made_private(
    open_logs: Callable[..., Logs], file: Path
) -> None:
    file.parent.mkdir()
    file.touch(mode=0o644)

    open_logs().close()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_costs_one_warning(
    open_logs: Callable[..., Logs], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.touch()  # a file where the folder should be: root cannot write there either

    logs = open_logs()
    get_logger("x").info("still here")
    logs.close()

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Failed to setup file logging: ")
    assert str(file.parent) in first
    assert second.endswith("still here")


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a disk that is always full"
)
def test_a_full_disk_is_said_once_and_stops_nothing(
    open_logs: Callable[..., Logs], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir()
    file.symlink_to("/dev/full")

    logs = open_logs()
    for number in range(5):
        get_logger("x").info("line %d", number)
    logs.close()

    console = capsys.readouterr().err
    assert console.count("cannot be written") == 1
    assert "line 4" in console
    assert "Traceback" not in console


def test_a_log_that_cannot_keep_up_drops_lines_and_says_how_many() -> None:
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = QueueHandler(waiting)

    def log(message: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))

    def written() -> list[str]:
        return [str(waiting.get_nowait().msg) for _ in range(waiting.qsize())]

    for number in range(5):
        log(f"line {number}")
    assert written() == ["line 0", "line 1"]

    log("line 5")
    log("line 6")
    assert written() == [
        "3 lines before this one are lost: the log could not keep up",
        "line 5",
    ]
    log("line 7")
    assert written()[0].startswith("1 lines before")


def test_an_endless_message_is_cut(open_logs: Callable[..., Logs], file: Path) -> None:
    logs = open_logs()
    get_logger("x").info("a" * (LINE_LIMIT * 3))
    logs.close()

    text = file.read_text()
    assert len(text) < LINE_LIMIT + 100
    assert "more characters)" in text


def test_text_that_is_no_unicode_costs_no_line(open_logs: Callable[..., Logs], file: Path) -> None:
    logs = open_logs()
    get_logger("x").info("file %s", b"\xff.txt".decode(errors="surrogateescape"))
    logs.close()

    assert "file \\udcff.txt" in file.read_text()


def test_closing_puts_everything_back(open_logs: Callable[..., Logs]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLogger("engineio.client").level)
    threads = threading.active_count()

    logs = open_logs()
    assert root.handlers != before[0]
    logs.close()

    assert (root.handlers, root.level, logging.getLogger("engineio.client").level) == before
    assert threading.active_count() == threads


def test_a_logger_works_before_anything_is_configured(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    get_logger("early").warning("hello %s", "there")

    assert caplog.messages == ["hello there"]
    assert capsys.readouterr().out == ""
