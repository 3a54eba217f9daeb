"""The Todo hook: the agent's list in ``.wegent/todos.json``, and how it has changed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from executor.hooks.base import EventHook, TaskConfig, Todo
from executor.hooks.calls import todos_of
from executor.hooks.session_files import DirectoryOf, write_record
from shared.protocol.events import AgentEvent, EventType

FILE: Final = "todos.json"

MAX_CHANGES: Final = 500
"""How many changes are kept; the oldest are forgotten."""


class TodoHook(EventHook):
    """Keeps the list of one run, and each change with its time.

    Args:
        directory_of: Where it is written.
    """

    events = frozenset({EventType.TODOS})

    def __init__(self, directory_of: DirectoryOf) -> None:
        self._directory_of = directory_of
        self._run: dict[str, Any] = {}
        self._todos: tuple[Todo, ...] = ()
        self._changes: deque[dict[str, Any]] = deque(maxlen=MAX_CHANGES)

    async def before_execution(self, config: TaskConfig) -> None:
        """Remember whose list it will be."""
        self._run = {"session_id": config.session_id, "run_id": config.run_id}

    async def on_event(self, event: AgentEvent) -> None:
        """Write the list down when the agent has changed it."""
        todos = todos_of(event)
        for change in changes(self._todos, todos):
            self._changes.append({"timestamp": event.timestamp, **change})
        self._todos = todos
        record = {
            **self._run,
            "todos": [asdict(todo) for todo in todos],
            "changes": list(self._changes),
        }
        directory = self._directory_of(self._run["session_id"])
        await asyncio.to_thread(write_record, directory, FILE, record)


def changes(before: Sequence[Todo], after: Sequence[Todo]) -> Iterator[dict[str, Any]]:
    """``{content, from, to}`` of what differs: two states; ``None`` where it is not listed."""
    old = {todo.content: todo.status for todo in before}
    new = {todo.content: todo.status for todo in after}
    for content in {**old, **new}:
        if old.get(content) != new.get(content):
            yield {"content": content, "from": old.get(content), "to": new.get(content)}
