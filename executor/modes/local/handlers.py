"""TaskHandler: reads what the backend asks, passes it on, and answers.

Everything that decides about a message happens before the first ``await``, so that messages take
effect in the order in which they came. Log lines name runs, never what is in a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

import structlog
from pydantic import TypeAdapter, ValidationError

from executor.tasks.supervisor import Supervisor
from shared.errors import ProtocolError, Refusal
from shared.logging import get_logger
from shared.protocol.events import RunRef
from shared.protocol.execution import Id, read_execution_request
from shared.protocol.field_names import names_in_task, refusal_in_words_of
from shared.protocol.local import (
    Cancel,
    CancelAck,
    Close,
    CloseAck,
    DispatchAck,
    Failure,
    Input,
    InputAck,
    LocalEvent,
    read,
    to_wire,
)
from shared.status import ErrorCode

logger = get_logger("task_handler")

MAX_HELD_REFUSALS: Final = 1000
"""Refusals kept until it is known whether the backend is a base backend."""

MAX_ANSWERED: Final = 1000
"""Answered questions kept, so that a repeated answer is told so also when the run is over."""

_id: Final[TypeAdapter[int | str]] = TypeAdapter(Id)


class RefusalReporter(Protocol):
    """Reports a refused dispatch as a failed run; the progress reporter."""

    def refuse(self, request_run: RunRef, code: ErrorCode, error: str) -> None:
        """Put the verdict of a run that never began."""
        ...


class TaskHandler:
    """The task events of the wire, one method each."""

    def __init__(self, supervisor: Supervisor, reporter: RefusalReporter) -> None:
        self._supervisor = supervisor
        self._reporter = reporter
        self._reads_acks: bool | None = None
        """Whether the backend sees what a dispatch is answered; ``None``: not yet known."""
        self._held: deque[tuple[RunRef, ErrorCode, str]] = deque(maxlen=MAX_HELD_REFUSALS)
        self._answered: deque[str] = deque(maxlen=MAX_ANSWERED)

    def registered(self, *, base: bool) -> None:
        """Say what kind of backend this is: a base one may not see the answer to a dispatch."""
        self._reads_acks = not base
        held, self._held = list(self._held), deque(maxlen=MAX_HELD_REFUSALS)
        for run, code, error in held:
            self._report(run, code, error)

    async def handle(self, event: str, raw: object) -> dict[str, Any]:
        """Carry out one message; returns its acknowledgement."""
        try:
            match event:
                case LocalEvent.DISPATCH | LocalEvent.MESSAGE:
                    return to_wire(await self._dispatch(raw))
                case LocalEvent.CANCEL:
                    return to_wire(self._cancel(raw))
                case LocalEvent.INPUT:
                    return to_wire(await self._input(read(Input, raw)))
                case LocalEvent.CLOSE:
                    await self._supervisor.close_session(read(Close, raw).task_id)
                    return to_wire(CloseAck())
                case _:
                    logger.warning("ignored an unknown event")
                    return to_wire(Failure(code="unknown_event", error="no such event"))
        except ProtocolError as exc:
            logger.warning("%s is unusable: %s", event, exc)
            return to_wire(Failure(code=exc.code, error=str(exc)))

    async def _dispatch(self, raw: object) -> DispatchAck:
        with structlog.contextvars.bound_contextvars(**_names(raw)):
            try:
                submission = self._supervisor.submit(read_execution_request(raw))
            except ProtocolError as exc:
                return self._refused(raw, ErrorCode.INVALID_REQUEST, str(exc))
            except Refusal as exc:
                name_of = names_in_task(raw)  # type: ignore[arg-type]  # it could be read
                refusal = refusal_in_words_of(name_of, exc)
                return self._refused(raw, refusal.error_code, str(refusal), refusal.reason)
            how = " before: a duplicate" if submission.duplicate else ""
            logger.info("accepted%s", ", to go on" if submission.resumed else how)
            await submission.written()
            return DispatchAck(
                accepted=True,
                duplicate=submission.duplicate or None,
                resumed=submission.resumed or None,
            )

    def _refused(
        self, raw: object, code: ErrorCode, error: str, reason: str | None = None
    ) -> DispatchAck:
        logger.warning("refused: %s: %s", code, error)
        run = _readable_run(raw)
        if run is not None:
            self._report(run, code, error)
        return DispatchAck(accepted=False, code=code, error=error, reason=reason)

    def _report(self, run: RunRef, code: ErrorCode, error: str) -> None:
        if self._reads_acks is None:
            self._held.append((run, code, error))
        elif not self._reads_acks and all(_key(r) != run.key for r in self._supervisor.reports()):
            # A run that is known will have its own verdict; a bad repeat must not give it one.
            self._reporter.refuse(run, code, error)

    async def _input(self, answer: Input) -> InputAck:
        ack = await self._supervisor.answer(answer)
        if ack.success:
            self._answered.append(answer.request_id)
        elif ack.code == "unknown_request" and answer.request_id in self._answered:
            return InputAck(success=True)  # a repeat, and the run has ended meanwhile
        return ack

    def _cancel(self, raw: object) -> CancelAck:
        cancel = read(Cancel, raw)
        state = self._supervisor.cancel(cancel)
        logger.info("cancel: %s", state, task_id=cancel.task_id, subtask_id=cancel.subtask_id)
        return CancelAck(state=state)


def _key(report: Any) -> tuple[str, int]:
    return (str(report.subtask_id), report.attempt)


def _readable(raw: object, name: str) -> int | str | None:
    if not isinstance(raw, Mapping):
        return None
    try:
        return _id.validate_python(raw.get(name))
    except ValidationError:
        return None


def _names(raw: object) -> dict[str, int | str]:
    ids = {name: _readable(raw, name) for name in ("task_id", "subtask_id")}
    return {name: value for name, value in ids.items() if value is not None}


def _readable_run(raw: object) -> RunRef | None:
    """Whom a refusal is about, if the unusable request says so."""
    task_id, subtask_id = _readable(raw, "task_id"), _readable(raw, "subtask_id")
    if task_id is None or subtask_id is None or not isinstance(raw, Mapping):
        return None
    attempt = raw.get("attempt")
    valid = isinstance(attempt, int) and not isinstance(attempt, bool) and attempt >= 1
    return RunRef(task_id, subtask_id, attempt if valid else 1)  # type: ignore[arg-type]  # checked
