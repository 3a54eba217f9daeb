"""What commands print, on a terminal and in a pipe."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

from executor.commands.output import (
    Cell,
    OutputClosed,
    OutputFailed,
    Styled,
    print_error,
    print_json,
    print_line,
    print_table,
    warn,
)
from tests.fakes.terminal import Show


def test_in_a_pipe_columns_are_aligned_and_nothing_is_coloured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["id", "state"], [["7", Styled("running", "good")], ["任务", "queued"]])

    assert capsys.readouterr().out == "ID    STATE\n7     running\n任务  queued\n"


def test_rows_stay_one_line_each_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["", ""], [["a", "one\ntwo"]])

    assert capsys.readouterr().out == "a  one two\n"


def test_a_table_without_rows_has_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "state"], [])

    assert capsys.readouterr().out == "ID  STATE\n"


def test_a_terminal_gets_colour_and_no_line_longer_than_it_is_wide(show: Show) -> None:
    shown = show(lambda: print_table(["id", "state"], [["7", Styled("running " * 20, "good")]]))

    assert "\x1b[32mrunning" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert sum(line.count("running") for line in lines) == 20
    assert max(map(len, lines)) <= 80


def test_no_line_on_a_terminal_ends_in_blanks(show: Show) -> None:
    rows: list[list[Cell]] = [["7", Styled("running", "good")], ["8", "waiting for input"]]

    lines = show(lambda: print_table(["id", "state"], rows)).splitlines()

    assert len(lines) == 3
    assert [line for line in lines if line.endswith(" ")] == []


def test_ids_stay_whole_on_a_terminal_while_anything_else_can_be_broken(show: Show) -> None:
    ids = ["a" * 32, "b" * 32]

    shown = show(lambda: print_table(["", "", ""], [[*ids, "waits for " * 9]], unbroken=2))

    lines = shown.splitlines()
    assert all(one in lines[0] for one in ids)
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


def test_a_terminal_too_narrow_for_columns_gets_a_line_for_each_cell(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    rows: list[list[Cell]] = [["a" * 28, Styled("waiting for input", "good")], ["b", "running"]]

    shown = show(lambda: print_table(["id", "waits for"], rows, unbroken=1))
    assert shown.splitlines() == [
        f"id{' ' * 28}waits for",
        f"{'a' * 28}  waiting",
        f"{' ' * 30}for input",
        f"b{' ' * 29}running",
    ]
    monkeypatch.setenv("COLUMNS", "36")
    shown = show(lambda: print_table(["id", "waits for"], rows, unbroken=1))
    assert shown.splitlines() == [
        f"id         {'a' * 25}",
        f"{' ' * 11}aaa",
        "waits for  waiting for input",
        "",
        "id         b",
        "waits for  running",
    ]


@pytest.mark.parametrize("columns", ["0", "1", "5"])
def test_a_terminal_too_narrow_for_anything_gets_all_the_text(
    columns: str, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)

    shown = show(lambda: print_table(["", ""], [["state", "registered"], ["pid", "7"]]))

    assert shown == "state  registered\npid    7\n"


def test_a_line_on_a_terminal_is_not_broken(show: Show) -> None:
    shown = show(lambda: print_line("w" * 100, Styled("end", "bad")))

    assert shown == f"{'w' * 100}\x1b[1;31mend\x1b[0m\n"


def test_no_color_is_respected(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert show(lambda: print_line(Styled("fine", "good"))) == "fine\n"
    assert show(lambda: print_table(["id"], [[Styled("7", "bad")]])).split() == ["id", "7"]


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_plain_text(
    kind: str, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", kind)

    assert show(lambda: print_line(Styled("fine", "good"))) == "fine\n"
    assert show(lambda: print_table(["id"], [[Styled("7", "bad")]])) == "ID\n7\n"


def test_what_is_shown_cannot_control_the_terminal(show: Show) -> None:
    assert show(lambda: print_line("a\x1b[2Jb[red]")) == "a\\x1b[2Jb[red]\n"
    assert "\x1b[2J" not in show(lambda: print_table(["x"], [[Styled("a\x1b[2Jb", "dim")]]))


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "ü", "runs": []})

    assert json.loads(capsys.readouterr().out) == {"name": "ü", "runs": []}


def test_what_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_line("ü \udcff")

    assert raw.getvalue() == b"\\xfc \\udcff\n"


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    warn("mind the gap\x1b[2J")

    assert capsys.readouterr() == ("", "wegent-executor: warning: mind the gap\\x1b[2J\n")


def test_errors_cannot_control_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("two\nlines\x1b[2J")

    assert capsys.readouterr() == ("", "two\nlines\\x1b[2J\n")


def test_a_reader_that_is_gone_is_told_apart_from_other_errors() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8")

    with redirect_stdout(stream), pytest.raises(OutputClosed):
        print_line("hello")
    with suppress(BrokenPipeError):
        stream.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_output_that_has_no_room_is_told_from_what_it_is_about() -> None:
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails, too

    with redirect_stdout(stream), pytest.raises(OutputFailed, match="No space left on device"):
        print_line("hello")
    with suppress(OSError):
        stream.close()
