"""Shows a run live: state, tool calls, streamed text and a progress bar.

On a terminal the bar and the line being written stay at the bottom; in a pipe every finished line
is printed once, without colour.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from scripts.answering import Answering, GivenLines, Lines
from scripts.manager_client import Event, ManagerClient

MAX_RESULT_LINES = 8
MAX_LINE = 160

MARKS = {"completed": "[x]", "in_progress": "[>]", "pending": "[ ]"}


async def follow(
    client: ManagerClient, task_id: str, console: Console, lines: Lines | None = None
) -> dict[str, Any]:
    """Show a run until its verdict, and answer what it asks with *lines*, if there are any.

    Returns where it stands then.
    """
    with RunView(console) as view:
        answering = Answering(
            client, task_id, console, lines or GivenLines(()), quiet=view.without_bar
        )
        async with answering, aclosing(client.events(task_id)) as events:
            await _follow(client, task_id, events, view, answering)
    return await client.task(task_id)


async def _follow(
    client: ManagerClient,
    task_id: str,
    events: AsyncGenerator[Event],
    view: RunView,
    answering: Answering,
) -> None:
    async for event in events:
        view.show(event)
        match event["event"]["action"]:
            case "input_required":
                answering.asked(event["data"])
            case "input_resolved":
                answering.resolved(event["data"]["request_id"])
            case _:
                pass
        if event["event"]["category"] != "llm" or event["event"]["action"] == "tool_result":
            view.progress((await client.task(task_id))["progress"])


class RunView:
    """Renders one run's events as they come; leaving it ends the live display."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = ""
        self._workspace = ""
        self._todo_calls: set[str] = set()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=40),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._bar = self._progress.add_task("waiting", total=100)
        self._live = self._new_live()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end_line()
        self._live.stop()

    @contextmanager
    def without_bar(self) -> Iterator[None]:
        """Leave the bottom of the terminal to somebody who types."""
        was_shown = self._live.is_started
        self._live.stop()
        try:
            yield
        finally:
            if was_shown:
                # The old one would clear the lines where it was, and what was typed there since.
                self._live = self._new_live()
                self._live.start(refresh=True)

    def show(self, event: Event) -> None:
        """Render one event."""
        kind = f"{event['event']['category']}.{event['event']['action']}"
        data = event["data"]
        if kind == "llm.stream":
            self._stream(data["content"])
        else:
            self._end_line()
            self._show(kind, data)
        self._redraw()

    def progress(self, percent: int) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=percent)
        self._redraw()

    def _show(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "lifecycle.started":
                self._state("running")
                resumed = ", continuing its conversation" if data.get("resumed") else ""
                self._note(f"started: {data.get('agent_type')}{resumed}")
            case "workspace.prepared":
                self._workspace = data.get("path") or ""
                self._note(f"workspace: {self._workspace}")
                if data.get("repository"):
                    commit = (data.get("commit") or "")[:10]
                    self._note(f"repository: {data['repository']} {data.get('branch')} {commit}")
            case "agent.session":
                self._note(f"conversation: {data.get('sdk_session_id')}")
            case "llm.reasoning":
                self._print(data.get("content", ""), style="italic dim", prefix="  thinking: ")
            case "llm.tool_call" if data["tool_name"] == "TodoWrite":
                self._todo_calls.add(data["tool_id"])  # shown as a list by agent.todos
            case "llm.tool_call":
                self._state(data["tool_name"])
                arguments = self._brief(data.get("arguments"))
                self._print(f"{data['tool_name']}  {arguments}", style="cyan")
            case "llm.tool_result" if data["tool_id"] not in self._todo_calls:
                self._result(data)
            case "agent.todos":
                for todo in data["todos"]:
                    mark = MARKS.get(todo.get("status"), "[ ]")
                    self._print(f"  {mark} {todo.get('content')}", style="magenta")
            case "workspace.changed":
                for file in data["files"]:
                    added, removed = file.get("added_lines"), file.get("removed_lines")
                    counts = "" if added is None else f" +{added} -{removed}"
                    self._note(f"{file['status']}: {file['path']}{counts}")
            case "system.warning" | "system.error" | "llm.error":
                text = data.get("message") or data.get("error") or ""
                self._print(text, style="yellow", prefix="! ")
            case "agent.input_required":
                self._question(data)
            case "agent.input_resolved":
                self._note(f"question {data.get('outcome')}")
            case "lifecycle.completed" | "lifecycle.failed" | "lifecycle.cancelled":
                self._state(kind.partition(".")[2])
                self._progress.update(self._bar, completed=100)
            case _:
                pass  # not worth a line

    def _question(self, data: dict[str, Any]) -> None:
        self._state("waiting for an answer")
        asked = data.get("tool_input") or {}
        if data.get("kind") == "plan":
            self._print(asked.get("plan") or "", style="yellow", prefix="plan: ")
        elif data.get("kind") != "question":
            use = f"{data.get('tool_name')}  {self._brief(asked)}"
            self._print(use, style="yellow", prefix="may it use ")
        for part in asked.get("questions") or ():
            self._print(part.get("question", ""), style="yellow", prefix="asks: ")
            for number, option in enumerate(part.get("options") or (), start=1):
                text = f"{option.get('label')}: {option.get('description') or ''}"
                self._print(_one_line(text), style="yellow", prefix=f"  {number}  ")

    def _stream(self, content: str) -> None:
        # Blank lines between paragraphs of one message would follow a tool's output here.
        self._line += content if self._line else content.lstrip("\n")
        *finished, self._line = self._line.split("\n")
        for line in finished:
            self._console.print(Text(line))

    def _end_line(self) -> None:
        if self._line:
            self._console.print(Text(self._line))
            self._line = ""

    def _result(self, data: dict[str, Any]) -> None:
        result = data.get("result")
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        lines = text.rstrip().splitlines()
        style = "red" if data.get("is_error") else "dim"
        for line in lines[:MAX_RESULT_LINES]:
            self._console.print(Text("  | " + self._local(line)[:MAX_LINE], style=style))
        if len(lines) > MAX_RESULT_LINES:
            self._console.print(
                Text(f"  | … {len(lines) - MAX_RESULT_LINES} more lines", style=style)
            )

    def _local(self, text: str) -> str:
        """*text* with paths inside the workspace made short."""
        return text.replace(f"{self._workspace}/", "") if self._workspace else text

    def _brief(self, arguments: Any) -> str:
        """The arguments of a tool in one line."""
        if isinstance(arguments, dict):
            if isinstance(questions := arguments.get("questions"), list):
                return f"questions: {len(questions)}"  # each is shown when the user is asked
            for name in ("command", "file_path", "path", "pattern", "url", "query"):
                if isinstance(arguments.get(name), str):
                    return _one_line(self._local(arguments[name]))
        return _one_line(self._local(json.dumps(arguments, ensure_ascii=False)))

    def _note(self, text: str) -> None:
        self._print(text, style="green", prefix="- ")

    def _print(self, text: str, *, style: str = "", prefix: str = "") -> None:
        self._console.print(Text(prefix + text, style=style))

    def _state(self, state: str) -> None:
        self._progress.update(self._bar, description=state)

    def _redraw(self) -> None:
        if self._live.is_started:
            self._live.update(self._bottom())

    def _new_live(self) -> Live:
        return Live(self._bottom(), console=self._console, refresh_per_second=12, transient=True)

    def _bottom(self) -> Group:
        return Group(Text(self._line), self._progress)


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_LINE else flat[: MAX_LINE - 1] + "…"
