"""The log's files are read as one, also while they are rotated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.log_entries import LogEntry
from executor.log_files import LogFiles


class Ended(Exception):
    """The test has seen enough."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "executor.log"


def line(text: str, level: str = "INFO") -> str:
    return f"2026-01-01 00:00:00 - [x] - [in y.py:1] - {level} - {text}\n"


def add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def rotate(log: Path) -> None:
    """As logging's handler does it."""
    older = sorted(log.parent.glob("executor.log.*"), reverse=True)
    for path in older:
        path.rename(path.with_suffix(f".{int(path.suffix[1:]) + 1}"))
    log.rename(log.with_name("executor.log.1"))


def everything(_entry: LogEntry) -> bool:
    return True


def last(log: Path, count: int | None) -> list[str]:
    with LogFiles(log) as files:
        return told(files.last(count, everything))


def told(entries: list[LogEntry]) -> list[str]:
    return ["|".join(entry.lines).rpartition(" - ")[2] for entry in entries]


def test_rotated_files_come_first_the_oldest_before_all(log: Path) -> None:
    for text in ("one", "two", "three"):
        add(log, line(text))
        rotate(log)
    add(log, line("four") + line("five"))

    assert last(log, None) == ["one", "two", "three", "four", "five"]
    assert last(log, 3) == ["three", "four", "five"]
    assert last(log, 0) == []


def test_a_traceback_counts_as_one_with_its_line(log: Path) -> None:
    add(log, line("one") + line("two") + "    Traceback\n    Error\n" + line("three"))

    assert last(log, 2) == ["two|    Traceback|    Error", "three"]


def test_only_what_is_wanted_counts(log: Path) -> None:
    add(log, line("bad", "ERROR"))
    rotate(log)
    add(log, line("fine") * 5)

    with LogFiles(log) as files:
        assert told(files.last(1, lambda entry: entry.level == "ERROR")) == ["bad"]


def test_other_characters_that_end_lines_elsewhere_do_not_here(log: Path) -> None:
    log.write_bytes(line("one\x85two\u2028three\x0c").encode() + b"\xff\r\n")

    assert last(log, None) == ["one\x85two\u2028three\x0c|\\xff\r"]


def follow(log: Path, *steps: Callable[[], None]) -> list[str]:
    """What a reader tells that is at the end of the log, when then these *steps* happen."""
    remaining: Iterator[Callable[[], None]] = iter(steps)

    def pause() -> None:
        step = next(remaining, None)
        if step is None:
            raise Ended
        step()

    seen: list[LogEntry] = []
    with LogFiles(log) as files, pytest.raises(Ended):
        files.last(0, everything)
        for entry in files.follow(everything, pause=pause):
            seen.append(entry)  # noqa: PERF402  what came before the end counts
    return told(seen)


def test_what_is_added_is_told_and_what_was_there_is_not(log: Path) -> None:
    add(log, line("old"))

    assert follow(
        log,
        lambda: add(log, line("one")),
        lambda: add(log, line("two") + line("three")[:40]),
        lambda: add(log, line("three")[40:]),
    ) == ["one", "two", "three"]


def test_a_rotation_loses_and_repeats_nothing(log: Path) -> None:
    add(log, line("old"))

    def one_rotation() -> None:
        add(log, line("one"))
        rotate(log)

    def two_rotations() -> None:
        add(log, line("two"))
        rotate(log)
        add(log, line("three"))
        rotate(log)
        add(log, line("four"))

    assert follow(log, one_rotation, two_rotations, lambda: add(log, line("five"))) == [
        "one", "two", "three", "four", "five",
    ]  # fmt: skip


def test_a_log_that_is_not_there_yet_is_followed_from_its_first_line(log: Path) -> None:
    assert follow(log, lambda: None, lambda: add(log, line("one"))) == ["one"]


def test_a_log_that_is_rotated_out_of_all_names_goes_on_with_the_oldest(log: Path) -> None:
    add(log, line("old"))

    def begin_anew() -> None:
        log.rename(log.with_name("elsewhere"))
        add(log, line("one"))
        rotate(log)
        add(log, line("two"))

    assert follow(log, begin_anew) == ["one", "two"]


def test_a_log_that_somebody_empties_is_read_from_its_beginning(log: Path) -> None:
    add(log, line("old") * 5)

    def empty() -> None:
        log.write_text(line("new"))

    assert follow(log, empty) == ["new"]


def test_nothing_is_missed_between_what_was_there_and_what_follows(log: Path) -> None:
    add(log, line("old"))
    with LogFiles(log) as files:
        assert told(files.last(1, everything)) == ["old"]
        add(log, line("new"))
        assert told([next(files.follow(everything))]) == ["new"]
