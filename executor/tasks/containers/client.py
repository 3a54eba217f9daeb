"""The HTTP client of an executor in docker mode: what one run in a container needs of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from executor.tasks.containers.told_events import MAX_SEQUENCE, read_told_event
from executor.tasks.questions import AnswerStanding
from shared.errors import ProtocolError, Refusal, RunError, WegentError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent
from shared.protocol.local import Input
from shared.status import REFUSALS, ErrorCode

logger = get_logger("container_client")

REQUEST_TIMEOUT_S: Final = 10.0
"""For a request that is answered at once."""

EXECUTE_TIMEOUT_S: Final = 30.0
"""A dispatch may carry 32 MiB, and is written to the disk before it is answered."""

SILENCE_S: Final = 40.0
"""A stream without a byte for so long is dead: a comment comes every 15 s."""

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Longer than any event, which has at most 256 KiB before its ``data`` is written."""

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of an answer that is read as a whole: more than a run's standing with its verdict ever has."""

MAX_REASON_CHARACTERS: Final = 10_000
"""Of a cancel; docker mode takes no longer one."""

_ANSWERS: Final[Mapping[str, AnswerStanding]] = {
    "unknown_request": "unknown_request",
    "expired": "expired",
}


class Unreachable(WegentError):
    """The executor in the container did not answer, or stopped doing so; it may later."""

    code = "container_unreachable"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands inside.

    Attributes:
        attempt: The newest one.
        sequence: Of its last event; 0: none yet.
        begins_after: Where the events of the attempts before it end; 0: they have told none.
    """

    attempt: int
    state: str
    sequence: int
    begins_after: int = 0

    def carries_out(self, attempt: int) -> bool:
        """Whether it is *attempt*, and was not cut off by a restart."""
        return self.attempt == attempt and self.state != "interrupted"


class ContainerClient:
    """Talks to one executor; whoever made *http* closes it.

    An agent may have put something else in that executor's place. It leads nobody elsewhere, and
    what it answers is bounded.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        token: str | None,
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        """*url* has no path; *token* ``None``: it asks for none; *silence_s*: :data:`SILENCE_S`."""
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._stream_timeout = aiohttp.ClientTimeout(
            sock_connect=REQUEST_TIMEOUT_S, sock_read=silence_s
        )

    async def execute(self, payload: Mapping[str, Any]) -> None:
        """Hand a run over; a repeat starts nothing.

        Raises:
            Unreachable: It may or may not have arrived.
            Refusal: ``busy`` and ``draining`` are worth another try.
            RunError: It is no such executor.
        """
        await self._ask("POST", "/api/tasks/execute", payload, timeout_s=EXECUTE_TIMEOUT_S)

    async def standing(self, run_id: str) -> Standing | None:
        """Where a run stands; ``None``: it is not known there.

        Raises:
            Unreachable, RunError: As :meth:`execute`.
        """
        answer = await self._ask("GET", _run(run_id), missing_is_none=True)
        if answer is None:
            return None
        return Standing(
            attempt=_count(answer.get("attempt"), 1),
            state=str(answer.get("state")),
            sequence=_count(answer.get("sequence"), 0),
            begins_after=_count(answer.get("begins_after"), 0),
        )

    async def cancel(self, run_id: str, reason: str | None) -> None:
        """Have a run end; one that is not known has ended.

        Raises:
            Unreachable, RunError: As :meth:`execute`.
        """
        await self._ask(
            "POST",
            f"{_run(run_id)}/cancel",
            {"reason": reason[:MAX_REASON_CHARACTERS]} if reason else {},
            missing_is_none=True,
        )

    async def answer(self, run_id: str, answer: Input) -> AnswerStanding:
        """Pass the user's answer on.

        Raises:
            ProtocolError: It does not answer this question, which stays open.
            Unreachable, RunError: As :meth:`execute`.
        """
        body = answer.model_dump(mode="json", exclude_none=True, exclude={"task_id", "subtask_id"})
        try:
            await self._ask("POST", f"{_run(run_id)}/input", body)
        except _Refused as exc:
            if exc.said in _ANSWERS:
                return _ANSWERS[exc.said]
            if exc.status == 404:
                return "unknown_request"
            if exc.said == ProtocolError.code:
                raise ProtocolError(exc.message, hint=exc.hint) from None
            raise
        return "accepted"

    async def follow(self, run_id: str, after: int) -> AsyncGenerator[AgentEvent]:
        """The run's events that follow number *after*, with their numbers as ``origin``.

        One connection; ends with the run's verdict.

        Raises:
            Unreachable: The stream ended before that; what was yielded is not repeated by a new
                one that begins after it.
            RunError: As :meth:`execute`.
        """
        headers = {**self._headers, "Accept": "text/event-stream"}
        if after:
            headers["Last-Event-ID"] = str(after)
        try:
            async with self._http.get(
                f"{self._url}{_run(run_id)}/events",
                headers=headers,
                timeout=self._stream_timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        raise await _refused(response)
                async with aclosing(_data_lines(response.content)) as lines:
                    async for data in lines:
                        event = _read_event(data)
                        if event is None or event.origin is None or event.origin <= after:
                            continue
                        after = event.origin
                        yield event
                        if event.terminal:
                            return
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unreachable(exc) from None
        raise Unreachable("the stream of events ended before the run did")

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        missing_is_none: bool = False,
    ) -> dict[str, Any] | None:
        try:
            async with self._http.request(
                method,
                f"{self._url}{path}",
                json=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                if response.status == 404 and missing_is_none:
                    return None
                if response.status != 200:
                    raise await _refused(response)
                answer = await _read_json(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as exc:
            raise _unreachable(exc) from None
        return answer if isinstance(answer, dict) else {}


class _Refused(RunError):
    """An answer that is none of ours, or says that a request cannot be carried out."""

    def __init__(self, status: int, said: str, message: str, hint: str | None) -> None:
        code = ErrorCode(said) if said in REFUSALS else ErrorCode.CONTAINER_FAILED
        super().__init__(code, message, hint=hint)
        self.status = status
        self.said = said


async def _refused(response: aiohttp.ClientResponse) -> WegentError:
    """What the answer of another status says, in the words of the executor inside."""
    error: Any = None
    with suppress(ValueError, RecursionError, AttributeError, aiohttp.ClientError):
        error = (await _read_json(response)).get("error")
    error = error if isinstance(error, dict) else {}
    said, message = str(error.get("code") or ""), error.get("message")
    hint = error.get("hint") if isinstance(error.get("hint"), str) else None
    if not isinstance(message, str):
        message = f"the executor in the container answered with HTTP status {response.status}"
    if said in (ErrorCode.BUSY, ErrorCode.DRAINING):
        return Refusal(ErrorCode(said), message, hint=hint)
    if response.status >= 500 and not said:
        return Unreachable(message)
    return _Refused(response.status, said, message, hint)


async def _read_json(response: aiohttp.ClientResponse) -> Any:
    """Raises: ValueError: It is too long, or no JSON."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
    return json.loads(body)


def _count(raw: object, otherwise: int) -> int:
    return raw if isinstance(raw, int) and 0 < raw <= MAX_SEQUENCE else otherwise


def _unreachable(exc: BaseException) -> Unreachable:
    # The texts of the library name addresses, which lead nobody anywhere.
    reason = "in time" if isinstance(exc, TimeoutError) else f"({type(exc).__name__})"
    return Unreachable(f"the executor in the container did not answer {reason}")


def _run(run_id: str) -> str:
    return f"/v1/tasks/{quote(run_id, safe='')}"


async def _data_lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """The ``data`` of each event; our events have one line of it."""
    pending = bytearray()
    async for piece in stream.iter_any():
        pending += piece
        if b"\n" not in piece:
            if len(pending) > MAX_LINE_BYTES:
                raise Unreachable("the stream of events has a line without an end")
            continue
        *lines, rest = pending.split(b"\n")
        pending = bytearray(rest)
        for line in lines:
            if line.startswith(b"data:"):
                yield bytes(line[5:]).strip()


def _read_event(data: bytes) -> AgentEvent | None:
    """The event that one ``data`` holds; ``None`` for the last one, which only says goodbye."""
    try:
        # What Python reads as numbers and JSON does not know would end the way to the backend.
        raw = json.loads(data, parse_constant=lambda _: None)
        if not isinstance(raw, dict):
            raise ValueError("it is no object")  # noqa: TRY301 - told with the others
        return read_told_event(raw) if "event" in raw else None
    except (ValueError, RecursionError) as exc:
        logger.warning("ignored an event of the executor in the container: %s", exc)
        return None
