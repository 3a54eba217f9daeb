"""One turn's run of agno in a thread of its own, and what it tells the session."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from agno.media import Image
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.team import TeamRunOutput

from executor.agents.agno.build import Runner, build
from executor.agents.agno.mapper import Told, TurnMapper
from executor.agents.agno.members import Member
from executor.agents.agno.model_api import ModelApi
from executor.agents.agno.models import http_client, make_model
from executor.agents.agno.own_loop import OwnLoop
from executor.agents.agno.server_room import ServerRoom
from executor.agents.agno.tools import ToolGate, functions_of
from executor.agents.agno.verdict import FATAL, read_failure
from executor.agents.protocol import TurnEnd
from shared.logging import get_logger
from shared.protocol.events import AgentEvent
from shared.protocol.execution import ExecutionRequest
from shared.protocol.prompt import ImageBlock
from shared.status import ErrorCode

logger = get_logger("agno_agent")

MAX_WAITING: Final = 256
"""Events that nobody has read; with more agno stands still, e.g. while the disk is full."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What all turns of a session have in common."""

    request: ExecutionRequest
    """What the session was opened with."""
    team: Member
    apis: Mapping[str, ModelApi]
    room: ServerRoom
    gate: ToolGate
    trusted: ssl.SSLContext


class Work:
    """One run of agno; its methods may be called from any thread."""

    def __init__(self, parts: Parts, mapper: TurnMapper, heard: Callable[[], None]) -> None:
        """Nothing is done yet. *heard* is called for every sign of life."""
        self._parts = parts
        self._mapper = mapper
        self._heard = heard
        self._home = asyncio.get_running_loop()
        self._loop: OwnLoop | None = None
        self._told: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        self.stopped: TurnEnd | None = None
        """Why it was stopped; ``None``: it was not."""
        self.output: RunOutput | TeamRunOutput | None = None

    def start(
        self, request: ExecutionRequest, remembered: Sequence[Mapping[str, Any]], session_id: str
    ) -> None:
        """Begin, unless it was stopped already. *remembered* is what was said before."""
        if self.stopped is None:
            self._loop = OwnLoop(
                lambda: self._run(request, remembered, session_id), name="agno turn"
            )

    async def told(self) -> AsyncIterator[AgentEvent]:
        """What happens, to its end or until it is stopped. For the loop that it was made in."""
        while (event := await self._told.get()) is not None:
            yield event
            self._told.task_done()

    def stop(self, why: TurnEnd) -> None:
        """End it at once; the first reason counts."""
        self.stopped = self.stopped or why
        if self._loop is not None:
            self._loop.cancel()
        self._tell(None)

    async def ended(self, within_s: float) -> bool:
        """Cancel what is left of it; ``False``: it has not ended by then."""
        if self._loop is None:
            return True
        self._loop.cancel()
        return await self._loop.ended(within_s)

    async def _run(
        self, request: ExecutionRequest, remembered: Sequence[Mapping[str, Any]], session_id: str
    ) -> None:
        team = self._parts.team
        try:
            async with http_client(self._parts.trusted) as http:
                runner = self._runner(http)
                said = [Message.from_dict(dict(message)) for message in remembered]
                runner.additional_input = list(said) or None
                async for event in runner.arun(
                    request.prompt_text,
                    images=_images(request) or None,
                    session_id=session_id,
                    stream=True,
                    stream_events=True,
                    yield_run_output=True,
                ):
                    self._heard()
                    if isinstance(event, RunOutput | TeamRunOutput):
                        self.output = event
                    elif isinstance(event, Told):
                        await self._hand_over(self._mapper.map(event))
                    if (over := self._over(request)) is not None:
                        self.stop(over)  # before agno goes on, and asks
                        return
        except Exception as exc:
            logger.warning("agno failed: %s", type(exc).__name__, exc_info=True)
            self._mapper.failures[team.key] = read_failure(exc, team.called)
        finally:
            self._tell(None)

    def _over(self, request: ExecutionRequest) -> TurnEnd | None:
        """The end of the turn when a limit of *request* is reached; ``None``: none is."""
        max_turns = request.max_turns or request.first_bot.max_turns
        if max_turns is not None and self._mapper.asked > max_turns:
            error = f"Reached maximum number of turns ({max_turns})"
            return TurnEnd(error=error, error_code=ErrorCode.MAX_TURNS)
        budget = request.max_budget_usd
        if budget is not None and self._mapper.spent_when_asked_usd >= budget:
            error = f"Reached maximum budget (${budget:g})"
            return TurnEnd(error=error, error_code=ErrorCode.BUDGET_EXCEEDED)
        return None

    async def _hand_over(self, events: Sequence[AgentEvent]) -> None:
        for event in events:
            self._tell(event)
        if self._told.qsize() > MAX_WAITING:
            read = asyncio.run_coroutine_threadsafe(self._told.join(), self._home)
            await asyncio.wrap_future(read)

    def _tell(self, event: AgentEvent | None) -> None:
        with suppress(RuntimeError):  # the executor's own loop has ended: nobody listens
            self._home.call_soon_threadsafe(self._told.put_nowait, event)

    def _runner(self, http: httpx2.AsyncClient) -> Runner:
        parts, request = self._parts, self._parts.request

        def watch_of(member: Member) -> Callable[[Exception | None], None]:
            return lambda failure: self._watch(member, failure)

        return build(
            parts.team,
            request,
            model_of=lambda member: make_model(parts.apis[member.key], http, watch_of(member)),
            tools_of=lambda member: functions_of(
                parts.room.servers_of(member),
                parts.gate,
                member.source,
                # The first's is the run's, unless the request names another.
                mode=None if member is parts.team else member.bot.permission_mode,
                home=self._home,
                allowed=_allowed(request, member, first=member is parts.team),
                disallowed=[
                    *(request.disallowed_tools or ()),
                    *(member.bot.disallowed_tools or ()),
                ],
            ),
        )

    def _watch(self, member: Member, failure: Exception | None) -> None:
        self._heard()
        if failure is None:
            self._mapper.failures.pop(member.key, None)
            return
        end = self._mapper.failures[member.key] = read_failure(failure, member.called)
        if member is not self._parts.team and end.error_code in FATAL:
            self.stop(end)


def is_inline(block: ImageBlock) -> bool:
    """Whether the picture itself is there; one that is only named, agno would fetch by itself."""
    return block.source.get("type") == "base64"


def _images(request: ExecutionRequest) -> list[Image]:
    if isinstance(request.prompt, str):
        return []
    return [
        Image.from_base64(
            str(block.source.get("data", "")),
            mime_type=str(block.source.get("media_type") or "image/png"),
        )
        for block in request.prompt
        if isinstance(block, ImageBlock) and is_inline(block)
    ]


def _allowed(request: ExecutionRequest, member: Member, *, first: bool) -> list[list[str]]:
    """The lists that a tool of *member* must be in: that of the run, and its own."""
    of_run = request.allowed_tools
    if of_run is None:
        of_run = request.first_bot.allowed_tools
    own = None if first else member.bot.allowed_tools
    return [names for names in (of_run, own) if names is not None]
