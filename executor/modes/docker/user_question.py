"""One question of an agent, put to a user by a backend.

Created at ``{base_url}/api/v1/user-input-requests`` and looked at there until somebody has
answered. What fails is tried again for as long as the agent waits: a request that was lost is no
answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from executor.delivery.event_log import LoggedEvent
from executor.modes.docker.given_answers import Given, NoAnswer, read_given
from executor.modes.docker.receiver_client import (
    ReceiverClient,
    Reply,
    Unanswered,
    origin_of,
    retry_delays,
)
from shared.errors import ProtocolError
from shared.logging import get_logger
from shared.protocol.events import RunRef
from shared.protocol.http import CallbackTarget
from shared.protocol.local import Input, InputAck

logger = get_logger("user_input")

PATH: Final = "/api/v1/user-input-requests"

POLL_S: Final = 2.0
"""How often is looked for an answer."""

MISSING_TIMES: Final = 3
"""After how many answers of 404 a question is created once more: the backend has forgotten it."""

_ID_NAMES: Final = ("id", "uuid", "user_input_request_id", "request_id")


@dataclass(frozen=True, slots=True)
class Asking:
    """With what questions are put; the same for all."""

    client: ReceiverClient
    answer: Callable[[Input], Awaitable[InputAck]]
    """Gives an answer to the run that asks; raises ``ProtocolError`` for one that is none."""
    warn: Callable[[RunRef, str], None]
    """Puts a warning among the events of a run that goes on."""
    poll_s: float = POLL_S
    delays: Callable[[], Iterator[float]] = retry_delays
    """How long to wait after each failure in a row, in seconds."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class UserQuestion:
    """One question on its way to a user."""

    def __init__(self, event: LoggedEvent, target: CallbackTarget, asking: Asking) -> None:
        """Ask nobody before :meth:`put`; *event* is the ``agent.input_required``."""
        self._run = event.run
        self._target = target
        self._asking = asking
        self._request_id = str(event.data.get("request_id"))
        self._kind = str(event.data.get("kind"))
        self._tool_input: Mapping[str, Any] = event.data.get("tool_input") or {}
        self._body = {
            **event.data,
            "session_id": event.run.session,
            "run_id": event.run.key[0],
            "created_at": event.event.timestamp,
        }
        self._id: str | None = None
        """What the backend calls it; ``None``: it has still to be created."""
        self._delays = asking.delays()
        self._failing = False
        self._misses = 0
        self._unusable: str | None = None
        """The answer that the agent could not use."""

    async def put(self) -> None:
        """Ask, and look for the answer, until there is one or nobody is to be asked any more."""
        while True:
            try:
                pause_s = await self._step()
            except Exception:
                # Whatever one exchange has led to: the next may bring the answer.
                logger.exception("a question is tried again", **self._names)
                pause_s = next(self._delays)
            if pause_s is None:
                return
            await self._asking.sleep(pause_s)

    async def _step(self) -> float | None:
        """One exchange; seconds until the next, ``None``: there is none."""
        creating = self._id is None
        try:
            reply = await self._send()
        except Unanswered as exc:
            return self._later(str(exc), None)
        if creating and reply.status == 409:
            self._id = self._request_id  # it has arrived before
            return 0.0
        if not creating and reply.status == 404:
            self._misses += 1
            if self._misses % MISSING_TIMES == 0:
                self._id = None
            return self._later("it is not known there", reply.retry_after_s)
        match reply.means:
            case "later":
                return self._later(f"HTTP {reply.status}", reply.retry_after_s)
            case "gone" | "refused":
                self._give_up(reply)
                return None
            case "done":
                self._failing, self._misses, self._delays = False, 0, self._asking.delays()
        if creating:
            # What it was answered with is about the request, not from the user.
            self._id = _id_in(reply.json()) or self._request_id
            return 0.0
        if await self._answered(reply.json()):
            return None
        return max(self._asking.poll_s, reply.retry_after_s or 0.0)

    async def _send(self) -> Reply:
        base, token = self._target.base_url or "", self._target.token
        headers = {"Idempotency-Key": self._request_id, "X-Request-ID": self._request_id}
        if self._target.trace_id is not None:
            headers["X-Trace-ID"] = self._target.trace_id
        secret = token.get_secret_value() if token is not None else None
        send = self._asking.client.send
        if self._id is None:
            url = base + PATH
            return await send("POST", url, token=secret, headers=headers, body=self._body)
        url = f"{base}{PATH}/{quote(self._id, safe='')}"
        return await send("GET", url, token=secret, headers=headers)

    async def _answered(self, body: Any) -> bool:
        """Whether nothing is left to be asked after what the backend says."""
        given = read_given(self._kind, self._tool_input, body)
        if given is NoAnswer.EXPIRED:
            logger.info("the backend does not ask any more", **self._names)
            return True
        if not isinstance(given, Given):
            return False
        text = json.dumps(body, sort_keys=True)
        if text == self._unusable:
            return False
        problem = await self._pass_on(given)
        if problem is not None:
            logger.warning("this is no answer: %s", problem, **self._names)
            self._unusable = text
        return problem is None

    async def _pass_on(self, given: Given) -> str | None:
        """Give the answer to the agent; why it was of no use, ``None``: it was."""
        answer = Input(
            task_id=self._run.task_id,
            subtask_id=self._run.subtask_id,
            request_id=self._request_id,
            decision=given.decision,
            answers=None if given.answers is None else dict(given.answers),
            message=given.message,
        )
        try:
            ack = await self._asking.answer(answer)
        except ProtocolError as exc:
            return exc.message
        if ack.code == "invalid_request":
            return ack.error or "it does not fit the question"
        if not ack.success:
            logger.info("the answer came too late: %s", ack.code, **self._names)
        return None

    def _later(self, problem: str, retry_after_s: float | None) -> float:
        if not self._failing:
            logger.warning("a question is tried again: %s", problem, **self._names)
            self._failing = True
        return retry_after_s or next(self._delays)

    def _give_up(self, reply: Reply) -> None:
        where = origin_of(self._target.base_url or "")
        message = f"the user cannot be asked: {where} answered HTTP {reply.status}"
        logger.error(message, **self._names)
        self._asking.warn(self._run, message)

    @property
    def _names(self) -> dict[str, int | str]:
        return {
            "task_id": self._run.task_id,
            "subtask_id": self._run.subtask_id,
            "request_id": self._request_id,
        }


def _id_in(answer: Any) -> str | None:
    """What a new question is called, wherever the answer to its creation says so."""
    parts = [answer, *(answer.values() if isinstance(answer, Mapping) else ())]
    for name in _ID_NAMES:
        for part in parts:
            if isinstance(part, Mapping) and isinstance(part.get(name), str | int):
                return str(part[name])
    return None
