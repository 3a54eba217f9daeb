"""One conversation with an agent or a team of agno."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx2
from agno.media import Image
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.team import TeamRunOutput

from executor.agents.agno.build import Runner, build
from executor.agents.agno.conversation import Conversation
from executor.agents.agno.mapper import Told, TurnMapper
from executor.agents.agno.members import Member
from executor.agents.agno.model_api import ModelApi
from executor.agents.agno.models import http_client, make_model, trust
from executor.agents.agno.own_loop import OwnLoop
from executor.agents.agno.server_room import ServerRoom
from executor.agents.agno.tools import ToolGate, functions_of
from executor.agents.agno.verdict import FATAL, INTERRUPTED, read_failure
from executor.agents.protocol import AgentJob, Ask, TurnEnd
from executor.shielding import finish, in_thread
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest, ImageBlock
from shared.status import ErrorCode

logger = get_logger("agno_agent")

END_TIMEOUT_S: Final = 5.0
"""For what is left of a turn that was cancelled; after that nobody waits for it."""

_CUT_OFF: Final = "[cut off here: {}]"


async def open_session(
    job: AgentJob,
    team: Member,
    apis: dict[str, ModelApi],
    conversation: Conversation,
    notices: Sequence[str],
) -> AgnoSession:
    """Start the MCP servers of *job*.

    Raises:
        ConfigError: What TLS connections are to trust cannot be read.
    """
    trusted = await in_thread(trust)
    room = ServerRoom(job, team)
    try:
        await room.open()
    except BaseException:
        await room.close()
        raise
    return AgnoSession(job, team, apis, conversation, [*notices, *room.notices], room, trusted)


@dataclass(slots=True)
class _Turn:
    """What agno's thread and the session tell each other in one turn."""

    home: asyncio.AbstractEventLoop
    told: asyncio.Queue[Told | None] = field(default_factory=asyncio.Queue)
    """``None`` ends it."""
    failures: dict[str, TurnEnd] = field(default_factory=dict)
    """What has ended somebody's last answer, by the keys of those."""
    fatal: TurnEnd | None = None
    """Why the turn was stopped; ``None``: it was not."""
    output: RunOutput | TeamRunOutput | None = None
    loop: OwnLoop | None = None

    def tell(self, event: Told | None) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the executor's own loop has ended: nobody listens
            self.home.call_soon_threadsafe(self.told.put_nowait, event)

    def stop(self, why: TurnEnd) -> None:
        """End it at once, from any thread; the first reason counts."""
        self.fatal = self.fatal or why
        if self.loop is not None:
            self.loop.cancel()
        self.tell(None)


class AgnoSession:
    """See :class:`executor.agents.protocol.AgentSession`. Made by :func:`open_session`."""

    def __init__(
        self,
        job: AgentJob,
        team: Member,
        apis: dict[str, ModelApi],
        conversation: Conversation,
        notices: Sequence[str],
        room: ServerRoom,
        trusted: ssl.SSLContext,
    ) -> None:
        self._request = job.request
        self._team = team
        self._apis = apis
        self._conversation = conversation
        self._notices = list(notices)
        self._room = room
        self._trusted = trusted
        self._gate = ToolGate(job.policy)
        self._heard = 0
        self._answered = 0
        self._turn: _Turn | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def session_id(self) -> str:
        """The id of the conversation."""
        return self._conversation.id

    @property
    def pid(self) -> None:
        """There is no process."""
        return None

    @property
    def alive(self) -> bool:
        """Whether it is open, and so are its connections to MCP servers."""
        return self._closing is None and self._room.alive

    @property
    def heard(self) -> int:
        """How many parts of answers and events have come."""
        return self._heard

    @property
    def silent_until(self) -> float:
        """It waits for seconds only; for longer, the turn ends and the run waits."""
        return 0.0

    @property
    def answered(self) -> int:
        """How often the first has answered in the turn in progress, or the last one."""
        return self._answered

    @property
    def cost_usd(self) -> float:
        """Unknown: the APIs count tokens."""
        return 0.0

    def tools_cpu_s(self) -> float:
        """CPU seconds of the MCP servers that are programs. Blocks."""
        return self._room.cpu_s()

    async def turn(
        self, request: ExecutionRequest, ask: Ask
    ) -> AsyncGenerator[AgentEvent | TurnEnd]:
        """Send the prompt, yield what happens, end with one :class:`TurnEnd`."""
        began = time.monotonic()
        mapper = TurnMapper(self._team)
        turn = self._turn = _Turn(asyncio.get_running_loop())
        self._answered = 0
        self._gate.ask = ask
        try:
            for event in self._opening(request):
                yield event
            if turn.fatal is None:
                turn.loop = OwnLoop(lambda: self._work(turn, request), name="agno turn")
            max_turns = request.max_turns or request.first_bot.max_turns
            while (told := await turn.told.get()) is not None:
                for event in mapper.map(told):
                    yield event
                self._answered = mapper.answered
                if max_turns is not None and mapper.asked > max_turns:
                    error = f"Reached maximum number of turns ({max_turns})"
                    turn.stop(TurnEnd(error=error, error_code=ErrorCode.MAX_TURNS))
        finally:
            self._gate.ask = None
            ended = await finish(self._ended(turn))
        end = replace(
            _end(turn, mapper, key=self._team.key),
            statistics={
                "duration_ms": round((time.monotonic() - began) * 1000),
                "num_turns": mapper.answered,
                "total_cost_usd": None,
                "usage": mapper.usage,
                "model": mapper.model,
            },
            reusable=ended,
        )
        for event in mapper.finish(end, interrupted=end.error == INTERRUPTED):
            yield event
        self._conversation.add(self._remembered(request, turn, mapper, end))
        try:
            await in_thread(self._conversation.save)
        except OSError as exc:
            message = f"this turn could not be written down ({exc.strerror}): a restart forgets it"
            yield AgentEvent(EventType.WARNING, {"message": message})
        yield end

    async def interrupt(self) -> None:
        """Stop the turn; it ends at once."""
        if self._turn is not None:
            self._turn.stop(TurnEnd(error=INTERRUPTED, error_code=ErrorCode.AGENT_ERROR))

    async def close(self) -> None:
        """End the turn in progress and every connection, and every program behind one."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close agno session")
        await finish(self._closing)

    async def _close(self) -> None:
        try:
            await self.interrupt()
            if self._turn is not None and not await self._ended(self._turn):
                logger.warning("agno does not stop its turn")
        finally:
            await self._room.close()

    async def _ended(self, turn: _Turn) -> bool:
        """Cancel what is left of *turn*; whether it has ended."""
        if turn.loop is None:
            return True
        turn.loop.cancel()
        return await turn.loop.ended(END_TIMEOUT_S)

    async def _work(self, turn: _Turn, request: ExecutionRequest) -> None:
        """One run of agno, in its own loop."""
        try:
            async with http_client(self._trusted) as http:
                runner = self._runner(turn, http)
                async for event in runner.arun(
                    request.prompt_text,
                    images=_images(request) or None,
                    session_id=self.session_id,
                    stream=True,
                    stream_events=True,
                    yield_run_output=True,
                ):
                    self._heard += 1
                    if isinstance(event, RunOutput | TeamRunOutput):
                        turn.output = event
                    elif isinstance(event, Told):
                        turn.tell(event)
        except Exception as exc:
            logger.warning("agno failed: %s", type(exc).__name__, exc_info=True)
            turn.failures[self._team.key] = read_failure(exc, _name(self._team))
        finally:
            turn.tell(None)

    def _runner(self, turn: _Turn, http: httpx2.AsyncClient) -> Runner:
        def watch_of(member: Member) -> Any:
            return lambda failure: self._watch(turn, member, failure)

        runner = build(
            self._team,
            self._request,
            model_of=lambda member: make_model(self._apis[member.key], http, watch_of(member)),
            tools_of=lambda member: functions_of(
                self._room.servers_of(member),
                self._gate,
                member.source,
                home=turn.home,
                allowed=_allowed(self._request, member, first=member is self._team),
                disallowed=[
                    *(self._request.disallowed_tools or ()),
                    *(member.bot.disallowed_tools or ()),
                ],
            ),
        )
        remembered = [Message.from_dict(dict(said)) for said in self._conversation.messages]
        runner.additional_input = list(remembered) or None
        return runner

    def _watch(self, turn: _Turn, member: Member, failure: Exception | None) -> None:
        self._heard += 1
        if failure is None:
            turn.failures.pop(member.key, None)
            return
        end = turn.failures[member.key] = read_failure(failure, _name(member))
        if member is not self._team and end.error_code in FATAL:
            turn.stop(end)

    def _opening(self, request: ExecutionRequest) -> list[AgentEvent]:
        """What every turn begins with."""
        events = [AgentEvent(EventType.SESSION, {"sdk_session_id": self.session_id})]
        if self._team.members:
            events.append(AgentEvent(EventType.TOPOLOGY, {"topology": self._team.topology()}))
        notices, self._notices = self._notices, []
        if request.max_budget_usd is not None:
            notices.append("max_budget_usd has no effect: agno counts tokens, and knows no prices")
        if any(isinstance(block, ImageBlock) and not _is_inline(block) for block in request.prompt):
            # agno would fetch it by itself, from wherever the request says.
            notices.append("pictures are left out that were given as an address, not as base64")
        return [*events, *(AgentEvent(EventType.WARNING, {"message": text}) for text in notices)]

    def _remembered(
        self, request: ExecutionRequest, turn: _Turn, mapper: TurnMapper, end: TurnEnd
    ) -> list[dict[str, Any]]:
        """What the next turn knows of this one."""
        if end.error_code is None and turn.output is not None:
            said = [m for m in turn.output.messages or () if m.role != "system"]
            messages = [_written(m) for m in said[len(self._conversation.messages) :]]
            if not messages or messages[-1]["role"] != "assistant":
                # After the result of a tool that has ended the turn: the next prompt needs one.
                messages.append({"role": "assistant", "content": mapper.answer or "(no answer)"})
            return messages
        cut = _CUT_OFF.format(end.error)
        text = f"{mapper.answer}\n\n{cut}" if mapper.answer else cut
        return [
            {"role": "user", "content": request.prompt_text or "(a picture)"},
            {"role": "assistant", "content": text},
        ]


def _end(turn: _Turn, mapper: TurnMapper, *, key: str) -> TurnEnd:
    if turn.fatal is not None:
        return turn.fatal
    if (failure := turn.failures.get(key)) is not None:
        return failure
    if mapper.failure is not None or turn.output is None:
        error = mapper.failure or "agno ended without an answer"
        return TurnEnd(error=error, error_code=ErrorCode.AGENT_ERROR)
    return TurnEnd(result=mapper.answer)


def _allowed(request: ExecutionRequest, member: Member, *, first: bool) -> list[str] | None:
    if first and request.allowed_tools is not None:
        return request.allowed_tools
    return member.bot.allowed_tools


def _images(request: ExecutionRequest) -> list[Image]:
    if isinstance(request.prompt, str):
        return []
    return [
        Image.from_base64(
            str(block.source.get("data", "")),
            mime_type=str(block.source.get("media_type") or "image/png"),
        )
        for block in request.prompt
        if isinstance(block, ImageBlock) and _is_inline(block)
    ]


def _is_inline(block: ImageBlock) -> bool:
    return block.source.get("type") == "base64"


def _written(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.to_dict().items() if name != "metrics"}


def _name(member: Member) -> str:
    return member.source.agent_name or member.source.agent_id
