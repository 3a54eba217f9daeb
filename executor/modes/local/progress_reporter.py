"""ProgressReporter: numbers what a run tells and hands it to the outbox.

The one place where AgentEvents get their ``seq``. Before that it masks secrets, merges text deltas,
bounds every event's size, closes messages and questions that were left open, and works out the
progress bar.

What another executor has told already (``AgentEvent.origin``) is passed on as it is: a number of
its own and the progress bar are all that it gets here. Nothing of it is held back when a later
event is numbered, so that after a crash it goes on exactly after the last origin written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from executor.delivery.bounds import bound, bound_name, bound_source
from executor.delivery.run_rows import RunRecord
from executor.modes.local.message_text import MessageText, PassedOnText
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunKey, RunRef, Source
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor, RunRedactor
from shared.status import ErrorCode

MERGE_FOR_S: Final = 0.05
"""How long text deltas after a message's first are gathered. Source: the event vocabulary."""

MERGED_CHARS_OFFLINE: Final = 64 * 1024 // 4
"""Characters gathered into one chunk while disconnected: at most 64 KiB of UTF-8 (Delivery 3)."""

INTERRUPTED: Final = "interrupted"
"""The code of a message that nobody will complete. Source: Delivery 4."""

_MILESTONES: Final[Mapping[str, int]] = {
    EventType.STARTED: 10,
    EventType.WORKSPACE_PREPARED: 20,
    EventType.SESSION: 30,
}
_WORKING_FROM: Final = 30
_WORKING_TO: Final = 90
_TODOS_SPAN: Final = 65
_APPROACH: Final = 0.9
"""Each tool result leaves this share of the way to 90 when the agent keeps no todo list."""


_INTACT: Final = frozenset(
    {"message_id", "tool_id", "request_id", "sdk_session_id", "session_id", "code", "error_code"}
)
"""Fields that others find things by; they are never masked."""


class EventSink(Protocol):
    """Where numbered events go: the outbox, or the log of docker mode. Nothing here can fail."""

    on_connected: Callable[[], None]
    """Called when a connection starts to take events."""

    @property
    def connected(self) -> bool:
        """Whether somebody takes events right now; otherwise they are gathered into larger ones."""
        ...

    def put(self, event: NumberedEvent) -> None:
        """Take *event*; those of one run come in the order of their numbers, without gaps."""
        ...

    def know(self, run: RunRef, last_seq: int) -> None:
        """Be told of an unfinished run of an earlier process, which has told so many events."""
        ...

    def last_seq(self, key: RunKey) -> int:
        """The last number of this run that is in use; 0: none is known."""
        ...

    def waits_for(self, key: RunKey) -> bool:
        """Whether something of this run has still to be delivered."""
        ...

    def drop(self, key: RunKey) -> None:
        """Nobody wants this run's events any more."""
        ...

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        """Deliver the verdict of a finished run, its event *seq*, once more."""
        ...


@dataclass(slots=True)
class _Told:
    """What has been told of one run so far."""

    run: RunRef
    redactor: RunRedactor
    task_title: str | None
    subtask_title: str | None
    seq: int = 0
    progress: int = 0
    turns: int = 0
    todos: bool = False
    open_messages: dict[str, Source | None] = field(default_factory=dict)
    open_questions: set[str] = field(default_factory=set)
    texts: dict[str, MessageText] = field(default_factory=dict)
    passed_on: PassedOnText = field(default_factory=PassedOnText)
    timer: asyncio.TimerHandle | None = None


class ProgressReporter:
    """Turns a run's AgentEvents into numbered ones; every call is synchronous and cannot fail."""

    def __init__(
        self, sink: EventSink, redactor: Redactor, *, merge_for_s: float = MERGE_FOR_S
    ) -> None:
        """Take the parts.

        Args:
            sink: Gets what is told.
            redactor: Knows the secrets of a run from :meth:`open` to its verdict.
            merge_for_s: 0: every delta becomes a chunk of its own while connected.
        """
        self._sink = sink
        self._redactor = redactor
        self._merge_for_s = merge_for_s
        self._runs: dict[RunKey, _Told] = {}
        """The unfinished ones."""
        sink.on_connected = self._flush_all

    def open(self, request: ExecutionRequest) -> None:
        """Begin to number a run's events at 1."""
        redactor = self._redactor.open_run(request.secrets)
        self._runs[request.run.key] = _Told(
            request.run,
            redactor,
            task_title=bound_name(request.task_title and redactor.redact(request.task_title)),
            subtask_title=bound_name(
                request.subtask_title and redactor.redact(request.subtask_title)
            ),
        )

    def reopen(self, record: RunRecord) -> None:
        """Go on with an unfinished run of an earlier process, after its last number.

        A run that has gone on elsewhere meanwhile may be reported from now on: what follows
        ``record.origin``, with its own.
        """
        told = _Told(record.run, self._redactor.open_run([]), task_title=None, subtask_title=None)
        told.seq, told.progress = record.last_seq, record.progress
        told.open_messages.update(record.open_messages)
        told.open_questions.update(record.open_questions)
        self._runs[record.run.key] = told
        self._sink.know(record.run, record.last_seq)

    def resume(self, request: ExecutionRequest) -> None:
        """A reopened run goes on: its old messages end, what follows opens new ones."""
        self.reattach(request)
        error = "the executor was restarted before this message was complete"
        self._close(self._runs[request.run.key], error, INTERRUPTED, "expired")

    def reattach(self, request: ExecutionRequest) -> None:
        """The request of a reopened run is there again: its titles and secrets are known.

        The run itself has gone on elsewhere: its messages and questions stay open.
        """
        reopened = self._runs[request.run.key]
        self._flush(reopened)
        reopened.redactor.close()
        self.open(request)
        told = self._runs[request.run.key]
        told.seq, told.progress = reopened.seq, reopened.progress
        told.turns, told.todos = reopened.turns, reopened.todos
        told.open_messages = reopened.open_messages
        told.open_questions = reopened.open_questions

    def report(self, run: RunRef, event: AgentEvent) -> int:
        """Take one event of an opened run; after its verdict, or when unknown, it is dropped.

        Returns:
            The number of the run's last event so far; 0 when it is not known.
        """
        told = self._runs.get(run.key)
        if told is None:
            return 0
        if event.type == EventType.LLM_STREAM:
            stream = self._stream if event.origin is None else self._pass_text_on
            stream(told, event)
            return told.seq
        if event.origin is None:
            event = replace(event, data=told.redactor.redact_data(event.data, intact=_INTACT))
            event = self._end_texts(told, event)
        self._flush(told)
        if event.origin is not None and event.type == EventType.TRUNCATED:
            # The numbers that it tells are of the other log.
            event = replace(event, data={"covers_from": self._next_seq(told)})
        if event.terminal:
            error = event.data.get("error") or "the run ended before this message did"
            # Whoever cancels a run denies what it asks.
            outcome = "denied" if event.type == EventType.CANCELLED else "expired"
            self._close(told, error, event.data.get("error_code") or INTERRUPTED, outcome)
            del self._runs[run.key]
        self._put(told, event)
        if event.terminal:
            told.texts.clear()
            told.redactor.close()
        return told.seq

    def refuse(self, request_run: RunRef, code: ErrorCode, error: str) -> None:
        """Report a dispatch that was refused as a failed run, for a backend that sees no acks."""
        data = {"error": self._redactor.redact(error), "error_code": str(code)}
        event = AgentEvent(EventType.FAILED, data)
        self._sink.put(NumberedEvent(request_run, 1, event, progress=100))

    def park(self, key: RunKey) -> None:
        """Number the text gathered of a run that stops here, to go on in a later process."""
        if (told := self._runs.get(key)) is not None:
            self._flush(told)

    def last_seq(self, key: RunKey) -> int:
        """The last number given to an event of this unfinished run; 0 when none was."""
        told = self._runs.get(key)
        return told.seq if told is not None else 0

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        """Send a finished run's result, its event number *seq*, once more."""
        self._sink.repeat_verdict(run, seq)

    def delivered(self, key: RunKey) -> bool:
        """Whether everything told of this run has been acknowledged."""
        return not self._sink.waits_for(key)

    def forget(self, key: RunKey) -> None:
        """Drop a run: what is left of it is not sent, and later events are ignored."""
        told = self._runs.pop(key, None)
        if told is not None:
            told.redactor.close()
            if told.timer is not None:
                told.timer.cancel()
        self._sink.drop(key)

    def _stream(self, told: _Told, event: AgentEvent) -> None:
        message_id = event.data["message_id"]
        text = told.texts.get(message_id)
        if text is None:
            text = MessageText(message_id, event.source, told.redactor.stream())
            told.texts[message_id] = text
        text.add(event)
        if not text.waiting:
            return
        at_once = not self._merge_for_s and self._sink.connected
        if not text.streamed or at_once or text.waiting >= MERGED_CHARS_OFFLINE:
            self._flush(told)
        elif told.timer is None:
            loop = asyncio.get_running_loop()
            told.timer = loop.call_later(self._merge_for_s, self._merged, told)

    def _pass_text_on(self, told: _Told, event: AgentEvent) -> None:
        if not told.passed_on.continues(event):
            self._flush(told)
        told.passed_on.add(event)
        if self._sink.connected or told.passed_on.waiting >= MERGED_CHARS_OFFLINE:
            self._flush(told)

    def _end_texts(self, told: _Told, event: AgentEvent) -> AgentEvent:
        """Let go of text that *event* ends; an ended message's content is what was sent of it."""
        match event.type:
            case EventType.LLM_DONE | EventType.LLM_ERROR:
                text = told.texts.get(event.data.get("message_id", ""))
                ended = [text] if text is not None else []
            case EventType.TOOL_CALL:
                # A tool call ends the block of text before it, and must not overtake any of it.
                ended = [text for text in told.texts.values() if text.source == event.source]
            case _ if event.terminal:
                ended = list(told.texts.values())
            case _:
                ended = []
        for text in ended:
            text.end_block(event.timestamp)
        if event.type == EventType.LLM_DONE and ended:
            self._flush(told)
            return replace(event, data={**event.data, **ended[0].sent})
        return event

    def _merged(self, told: _Told) -> None:
        told.timer = None
        if self._sink.connected:
            self._flush(told)

    def _flush_all(self) -> None:
        for told in self._runs.values():
            self._flush(told)

    def _flush(self, told: _Told) -> None:
        """Number the text gathered so far, so that what comes next keeps its place."""
        if told.timer is not None:
            told.timer.cancel()
            told.timer = None
        for text in told.texts.values():
            for chunk in text.chunks():
                self._put(told, chunk)
        if (passed_on := told.passed_on.take()) is not None:
            self._put(told, passed_on)

    def _close(self, told: _Told, error: str, code: str, outcome: str) -> None:
        """Questions without an answer get this outcome, messages without an end this error."""
        for request_id in sorted(told.open_questions):
            data = {"request_id": request_id, "outcome": outcome}
            self._put(told, AgentEvent(EventType.INPUT_RESOLVED, data))
        for message_id, source in list(told.open_messages.items()):
            data = {"message_id": message_id, "error": error, "code": code}
            self._put(told, AgentEvent(EventType.LLM_ERROR, data, source))

    def _next_seq(self, told: _Told) -> int:
        # After a loss of power the backend may have more than this disk; and a run that was refused
        # before has told that.
        return max(told.seq, self._sink.last_seq(told.run.key)) + 1

    def _put(self, told: _Told, event: AgentEvent) -> None:
        told.seq = self._next_seq(told)
        self._advance(told, event)
        numbered = NumberedEvent(
            run=told.run,
            seq=told.seq,
            event=replace(event, data=bound(event.data), source=bound_source(event.source)),
            progress=told.progress,
            task_title=told.task_title,
            subtask_title=told.subtask_title,
        )
        self._sink.put(numbered)

    def _advance(self, told: _Told, event: AgentEvent) -> None:
        """Keep count of what is open, and move the progress bar, which never falls."""
        data: Mapping[str, Any] = event.data
        if event.terminal:
            told.progress = 100
            return
        progress = _MILESTONES.get(event.type, 0)
        match event.type:
            case EventType.LLM_START:
                told.open_messages[data["message_id"]] = event.source
            case EventType.LLM_DONE | EventType.LLM_ERROR:
                told.open_messages.pop(data.get("message_id", ""), None)
                told.texts.pop(data.get("message_id", ""), None)
            case EventType.INPUT_REQUIRED:
                told.open_questions.add(data["request_id"])
            case EventType.INPUT_RESOLVED:
                told.open_questions.discard(data.get("request_id", ""))
            case EventType.TODOS:
                todos = data["todos"]
                done = sum(todo.get("status") == "completed" for todo in todos)
                told.todos = bool(todos)
                progress = _WORKING_FROM + _TODOS_SPAN * done // max(1, len(todos))
            case EventType.TOOL_RESULT if not told.todos:
                told.turns += 1
                left = (_WORKING_TO - _WORKING_FROM) * _APPROACH**told.turns
                progress = int(_WORKING_TO - left)
        told.progress = max(told.progress, progress)
