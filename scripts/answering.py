"""Answers what a run asks: with lines that a person types, or that the command line has given.

A question takes one line for each of its parts: an option's number or label, several with commas
where several may be chosen, or words of one's own; an empty line leaves that part out. A permission
and a plan take ``yes``, or ``no`` and a reason.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

from rich.console import Console
from rich.text import Text

from scripts.manager_client import ApiError, ManagerClient

Question = Mapping[str, Any]
"""``data`` of an ``agent.input_required``."""


class Lines(Protocol):
    """Where answers come from."""

    async def next(self) -> str | None:
        """The next line; ``None`` when no more will come."""
        ...


class GivenLines:
    """Answers that were given beforehand."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines: Iterator[str] = iter(lines)

    async def next(self) -> str | None:
        return next(self._lines, None)


class TypedLines:
    """What a person types; read in a thread that nobody has to wait for."""

    def __init__(self) -> None:
        self._typed: asyncio.Queue[str | None] | None = None

    async def next(self) -> str | None:
        if self._typed is None:
            self._typed = asyncio.Queue()
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._read, args=(self._typed, loop), daemon=True).start()
        return await self._typed.get()

    def _read(self, typed: asyncio.Queue[str | None], loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(typed.put_nowait, line)
        loop.call_soon_threadsafe(typed.put_nowait, None)


class Answering:
    """Answers the questions of one run, one at a time; an async context manager."""

    def __init__(
        self,
        client: ManagerClient,
        task_id: str,
        console: Console,
        lines: Lines,
        *,
        quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Take the parts; *quiet* is entered while somebody may be typing."""
        self._client = client
        self._task_id = task_id
        self._console = console
        self._lines = lines
        self._quiet = quiet
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._waiting.values():
            task.cancel()
        await asyncio.gather(*self._waiting.values(), return_exceptions=True)

    def asked(self, question: Question) -> None:
        """Begin to answer."""
        self._waiting[question["request_id"]] = asyncio.create_task(self._answer(question))

    def resolved(self, request_id: str) -> None:
        """Nobody waits for this answer any more."""
        if (task := self._waiting.get(request_id)) is not None:
            task.cancel()

    async def _answer(self, question: Question) -> None:
        async with self._turn:
            with self._quiet():
                decided = await self._decide(question)
            if decided is None:
                self._say(f"! not answered here; it waits until {question.get('expires_at')}")
                return
            body = {"request_id": question["request_id"], **decided}
            try:
                await self._client.answer(self._task_id, body)
            except ApiError as exc:
                self._say(f"! {exc}")

    async def _decide(self, question: Question) -> dict[str, Any] | None:
        """The decision about *question*; ``None`` when there are no lines left."""
        parts = question["tool_input"].get("questions")
        if question["kind"] != "question" or not isinstance(parts, list):
            self._say("? yes, or no and a reason")
            line = await self._lines.next()
            return None if line is None else verdict(line)
        answers: dict[str, Any] = {}
        for number, part in enumerate(parts, start=1):
            asked = part.get("question") if len(parts) > 1 else "your answer"
            self._say(f"? {asked} (a number, or words of your own)")
            line = await self._lines.next()
            if line is None:
                return None
            if line.strip():
                answers[str(number)] = choice(line, part)
        return {"decision": "answer", "answers": answers} if answers else {"decision": "deny"}

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="bold yellow"))


def verdict(line: str) -> dict[str, Any]:
    """What a line decides about a permission or a plan; what is not a yes is a reason against."""
    word, _, reason = line.strip().partition(" ")
    if word.lower() in ("y", "yes", "allow") and not reason:
        return {"decision": "allow"}
    said = reason.strip() if word.lower() in ("n", "no", "deny") else line.strip()
    return {"decision": "deny", "message": said} if said else {"decision": "deny"}


def choice(line: str, part: Mapping[str, Any]) -> str | list[str]:
    """What a line answers to one part of a question."""
    labels = [option["label"] for option in part.get("options") or ()]
    known = {label.lower(): label for label in labels}
    known |= {str(number): label for number, label in enumerate(labels, start=1)}
    chosen = [known.get(word.strip().lower()) for word in line.split(",")]
    found = [label for label in chosen if label is not None]
    if len(found) != len(chosen) or (len(found) > 1 and not part.get("multiSelect")):
        return line.strip()
    return found if part.get("multiSelect") else found[0]
