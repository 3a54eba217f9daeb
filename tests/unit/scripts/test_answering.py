"""What a typed line means, and where lines come from."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import Any

import pytest
from rich.console import Console

from scripts.answering import Answering, GivenLines, TypedLines, choice, verdict
from scripts.manager_client import ApiError, ManagerClient

ONE = {"question": "Which?", "options": [{"label": "Red"}, {"label": "dark blue"}]}
SEVERAL = ONE | {"multiSelect": True}


class Api(ManagerClient):
    """Remembers what was answered instead of sending it."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", "token")
        self.answered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.failure: ApiError | None = None

    async def answer(self, task_id: str, body: dict[str, Any]) -> dict[str, Any]:
        self.answered.put_nowait(body)
        if self.failure is not None:
            raise self.failure
        return {}


def asked(request_id: str, kind: str = "permission", **tool_input: Any) -> dict[str, Any]:
    return {"request_id": request_id, "kind": kind, "tool_input": tool_input, "expires_at": "soon"}


@pytest.mark.parametrize(
    ("line", "decision"),
    [
        ("yes", {"decision": "allow"}),
        ("Y\n", {"decision": "allow"}),
        ("no", {"decision": "deny"}),
        ("no use tabs", {"decision": "deny", "message": "use tabs"}),
        ("yes but use tabs", {"decision": "deny", "message": "yes but use tabs"}),
        ("", {"decision": "deny"}),
    ],
)
def test_only_a_plain_yes_allows(line: str, decision: dict[str, str]) -> None:
    assert verdict(line) == decision


@pytest.mark.parametrize(
    ("line", "part", "chosen"),
    [
        ("1", ONE, "Red"),
        ("red\n", ONE, "Red"),
        ("1,2", ONE, "1,2"),
        ("green", ONE, "green"),
        ("1, dark blue", SEVERAL, ["Red", "dark blue"]),
        ("1, green", SEVERAL, "1, green"),
        ("what are they for?", {"question": "Why?"}, "what are they for?"),
    ],
)
def test_a_line_chooses_by_number_by_label_or_in_its_own_words(
    line: str, part: dict[str, Any], chosen: str | list[str]
) -> None:
    assert choice(line, part) == chosen


async def test_each_question_gets_its_lines_in_order_and_empty_ones_leave_parts_out() -> None:
    api, lines = Api(), GivenLines(["2", "", "no", "", ""])
    async with asyncio.timeout(30), Answering(api, "t", Console(quiet=True), lines) as answering:
        answering.asked(asked("a", "question", questions=[ONE, SEVERAL]))
        answering.asked(asked("b"))
        answering.asked(asked("c", "question", questions=[ONE, SEVERAL]))
        answers = [await api.answered.get() for _ in range(3)]
    assert answers == [
        {"request_id": "a", "decision": "answer", "answers": {"1": "dark blue"}},
        {"request_id": "b", "decision": "deny"},
        {"request_id": "c", "decision": "deny"},
    ]


class Heard(io.StringIO):
    """What was printed, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.something = asyncio.Event()

    def write(self, text: str) -> int:
        self.something.set()
        return super().write(text)


async def test_without_lines_it_says_how_long_others_may_answer() -> None:
    heard = Heard()
    console = Console(file=heard, width=200)
    async with asyncio.timeout(30), Answering(Api(), "t", console, GivenLines([])) as answering:
        answering.asked(asked("a", "question", questions=[{"question": ""}]))
        while "waits until soon" not in heard.getvalue():
            heard.something.clear()
            await heard.something.wait()


async def test_a_question_that_is_over_makes_room_for_the_next() -> None:
    api = Api()
    silent: asyncio.Queue[str | None] = asyncio.Queue()

    class Lines:
        next = staticmethod(silent.get)

    async with asyncio.timeout(30), Answering(api, "t", Console(quiet=True), Lines()) as answering:
        answering.asked(asked("a"))
        answering.asked(asked("b"))
        await asyncio.sleep(0)  # the first has begun to wait
        answering.resolved("a")
        answering.resolved("never asked")
        silent.put_nowait("yes")
        assert await api.answered.get() == {"request_id": "b", "decision": "allow"}


async def test_a_refusal_is_shown_and_ends_nothing() -> None:
    api, heard = Api(), io.StringIO()
    api.failure = ApiError("the first answer counts")
    lines = GivenLines(["yes", "yes"])
    async with asyncio.timeout(30), Answering(api, "t", Console(file=heard), lines) as answering:
        answering.asked(asked("a"))
        answering.asked(asked("b"))
        assert (await api.answered.get())["request_id"] == "a"
        assert (await api.answered.get())["request_id"] == "b"
    assert "the first answer counts" in heard.getvalue()


async def test_typed_lines_come_one_by_one_until_there_are_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\nno\n"))
    lines = TypedLines()
    async with asyncio.timeout(30):
        assert [await lines.next() for _ in range(3)] == ["yes\n", "no\n", None]
