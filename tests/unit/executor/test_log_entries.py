"""What was logged is read back, in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from executor.log_entries import LogEntry, LogParser
from shared.logging import LogFile, LogFormat, configure_logging, get_logger
from shared.redaction import Redactor

Written = Callable[[LogFormat, Callable[[], None]], list[str]]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """The lines that some work leaves in a log of a format."""

    def written_(format: LogFormat, work: Callable[[], None]) -> list[str]:
        file = tmp_path / format
        logs = configure_logging(
            file=LogFile(file, max_bytes=10**6, backups=1),
            level="DEBUG",
            format=format,
            redactor=Redactor(),
            console=False,
        )
        work()
        logs.close()
        return file.read_text().removesuffix("\n").split("\n")

    return written_


def parse(lines: list[str]) -> list[LogEntry]:
    return list(LogParser().parse(lines))


@pytest.mark.parametrize("format", ["text", "json"])
def test_level_and_ids_are_read_from_what_was_bound_and_what_was_added(
    written: Written, format: LogFormat
) -> None:
    def work() -> None:
        with structlog.contextvars.bound_contextvars(task_id=0, subtask_id='s "7"'):
            get_logger("supervisor").warning("it is slow")
        get_logger("supervisor").info("idle session ended", task_id="t-9")
        get_logger("link").debug("nothing of any task")

    assert [(entry.level, set(entry.ids)) for entry in parse(written(format, work))] == [
        ("WARNING", {"0", 's "7"', '0/s "7"'}),
        ("INFO", {"t-9"}),
        ("DEBUG", set()),
    ]


@pytest.mark.parametrize(("format", "lines"), [("text", 5), ("json", 1)])
def test_a_traceback_belongs_to_its_entry(written: Written, format: LogFormat, lines: int) -> None:
    def work() -> None:
        try:
            raise ValueError("2026-01-01 00:00:00 - [x] - [in y:1] - INFO - not a line\n{}")
        except ValueError:
            get_logger("x").exception("it failed", task_id=7)
        get_logger("x").info("and on")

    failed, after = parse(written(format, work))

    assert (failed.level, set(failed.ids)) == ("ERROR", {"7"})
    assert len(failed.lines) >= lines
    assert "ValueError" in "".join(failed.lines)
    assert after.lines[0].endswith('"and on"}' if format == "json" else " - and on")


def test_an_entry_that_comes_in_two_portions_keeps_what_is_known_of_it() -> None:
    parser = LogParser()
    begun = "2026-01-01 00:00:00 - [x] - [in y.py:1] - ERROR - it failed task_id=7"

    assert [entry.lines for entry in parser.parse([begun, "    Traceback"])] == [
        [begun, "    Traceback"]
    ]
    assert list(parser.parse(["    ValueError"])) == [
        LogEntry("ERROR", frozenset({"7"}), ["    ValueError"])
    ]


@pytest.mark.parametrize(
    "line", ["Killed", "{", '{"a": 1}', "{}", '{"level"', "", "2026-01-01 - [x]", "{" * 100_000]
)
def test_a_line_of_nobody_is_an_entry_without_a_level(line: str) -> None:
    assert parse([line]) == [LogEntry("", frozenset(), [line])]


def test_an_id_that_was_cut_off_costs_only_itself() -> None:
    line = '2026-01-01 00:00:00 - [x] - [in y.py:1] - INFO - it task_id=7 subtask_id="a'

    assert parse([line])[0].ids == {"7"}


def test_a_run_that_is_named_in_a_message_is_not_taken_for_the_one_it_is_about() -> None:
    said = "as task_id=1 subtask_id=2 has ended task_id=7 subtask_id=70"

    (entry,) = parse([f"2026-01-01 00:00:00 - [x] - [in y.py:1] - INFO - {said}"])

    assert {"7", "70", "7/70"} <= entry.ids
    assert "2/7" not in entry.ids


def test_levels_are_compared_by_their_gravity() -> None:
    assert LogEntry("ERROR").is_at_least("WARNING")
    assert LogEntry("WARNING").is_at_least("WARNING")
    assert not LogEntry("INFO").is_at_least("WARNING")
    assert not LogEntry("").is_at_least("DEBUG")
