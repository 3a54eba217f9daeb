"""One conversation with an agent or a team of agno."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from agno.models.message import Message

from executor.agents.agno.conversation import Conversation
from executor.agents.agno.mapper import TurnMapper
from executor.agents.agno.members import Member
from executor.agents.agno.model_api import ModelApi, prices_of
from executor.agents.agno.models import trust
from executor.agents.agno.server_room import ServerRoom
from executor.agents.agno.tools import ToolGate
from executor.agents.agno.verdict import INTERRUPTED
from executor.agents.agno.work import Parts, Work, is_inline
from executor.agents.protocol import AgentJob, Ask, TurnEnd
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.protocol.prompt import ImageBlock
from shared.shielding import finish, in_thread
from shared.status import ErrorCode

logger = get_logger("agno_agent")

END_TIMEOUT_S: Final = 5.0
"""For what is left of a turn that was cancelled; after that nobody waits for it."""

_CUT_OFF: Final = "[cut off here: {}]"
_DONE: Final = "[tools used in this turn, with what they answered:\n{}]"

_STEPS: Final = frozenset(
    {
        EventType.TOOL_CALL,
        EventType.TOOL_RESULT,
        EventType.DISPATCH_WORKER,
        EventType.DISPATCH_TEAM,
        EventType.MEMBER_COMPLETED,
    }
)
"""Events after which a turn is written down: what was done must not be done again."""


async def open_session(
    job: AgentJob,
    team: Member,
    apis: Mapping[str, ModelApi],
    conversation: Conversation,
    notices: Sequence[str],
) -> AgnoSession:
    """Start the MCP servers of *job*.

    Raises:
        ConfigError: What TLS connections are to trust cannot be read.
    """
    trusted = await in_thread(trust)
    room = ServerRoom(job, team, trusted)
    try:
        await room.open()
    except BaseException:
        await finish(room.close())
        raise
    parts = Parts(job.request, team, apis, room, ToolGate(job.policy), trusted)
    return AgnoSession(parts, conversation, [*notices, *room.notices])


class AgnoSession:
    """See :class:`executor.agents.protocol.AgentSession`. Made by :func:`open_session`."""

    def __init__(self, parts: Parts, conversation: Conversation, notices: Sequence[str]) -> None:
        self._parts = parts
        self._conversation = conversation
        self._notices = list(notices)
        self._heard = 0
        self._prices = prices_of(parts.apis)
        self._mapper = TurnMapper(parts.team)
        """Of the turn in progress, or the last one."""
        self._work: Work | None = None
        """Of the turn in progress, or the last one."""
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
        return self._closing is None and self._parts.room.alive

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
        return self._mapper.answered

    @property
    def cost_usd(self) -> float:
        """What its turns before this one have cost, where their prices were given."""
        return self._conversation.cost_usd

    def tools_cpu_s(self) -> float:
        """CPU seconds of the MCP servers that are programs. Blocks."""
        return self._parts.room.cpu_s()

    async def turn(
        self, request: ExecutionRequest, ask: Ask
    ) -> AsyncGenerator[AgentEvent | TurnEnd]:
        """Send the prompt, yield what happens, end with one :class:`TurnEnd`."""
        began = time.monotonic()
        mapper = TurnMapper(self._parts.team, self._prices)
        work = self._work = Work(self._parts, mapper, self._hear)
        self._mapper = mapper
        self._parts.gate.ask = ask
        try:
            for event in self._opening(request):
                yield event
            work.start(request, self._conversation.messages, self.session_id)
            async for event in work.told():
                yield event
                if event.type in _STEPS:
                    with suppress(OSError):  # the end of the turn tells
                        await in_thread(self._save_unfinished, request, mapper)
        finally:
            self._parts.gate.ask = None
            ended = await finish(work.ended(END_TIMEOUT_S))
        end = replace(
            _end(work, mapper, self._parts.team),
            statistics={
                "duration_ms": round((time.monotonic() - began) * 1000),
                "num_turns": mapper.answered,
                "total_cost_usd": mapper.cost_usd,
                "usage": mapper.usage,
                "model": mapper.model,
            },
            reusable=ended,
        )
        for event in mapper.finish(end, interrupted=end.error == INTERRUPTED):
            yield event
        try:
            await in_thread(self._write_down, request, work, mapper, end)
        except OSError as exc:
            message = f"this turn could not be written down ({exc.strerror}): a restart forgets it"
            yield AgentEvent(EventType.WARNING, {"message": message})
        yield end

    async def interrupt(self) -> None:
        """Stop the turn; it ends at once."""
        if self._work is not None:
            self._work.stop(TurnEnd(error=INTERRUPTED, error_code=ErrorCode.AGENT_ERROR))

    async def close(self) -> None:
        """End the turn in progress and every connection, and every program behind one."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close agno session")
        await finish(self._closing)

    async def _close(self) -> None:
        try:
            await self.interrupt()
            if self._work is not None and not await self._work.ended(END_TIMEOUT_S):
                logger.warning("agno does not stop its turn")
        finally:
            await self._parts.room.close()

    def _hear(self) -> None:
        self._heard += 1

    def _opening(self, request: ExecutionRequest) -> list[AgentEvent]:
        """What every turn begins with."""
        events = [AgentEvent(EventType.SESSION, {"sdk_session_id": self.session_id})]
        if self._parts.team.members:
            events.append(AgentEvent(EventType.TOPOLOGY, {"topology": self._parts.team.topology()}))
        notices, self._notices = self._notices, []
        if any(isinstance(block, ImageBlock) and not is_inline(block) for block in request.prompt):
            # agno would fetch it by itself, from wherever the request says.
            notices.append("pictures are left out that were given as an address, not as base64")
        return [*events, *(AgentEvent(EventType.WARNING, {"message": text}) for text in notices)]

    def _save_unfinished(self, request: ExecutionRequest, mapper: TurnMapper) -> None:
        turn = _cut_off(request, mapper, "the program was restarted")
        self._conversation.save_unfinished(turn, mapper.cost_usd or 0.0)

    def _write_down(
        self, request: ExecutionRequest, work: Work, mapper: TurnMapper, end: TurnEnd
    ) -> None:
        turn = self._remembered(request, work, mapper, end)
        self._conversation.add(turn, mapper.cost_usd or 0.0)
        self._conversation.save()

    def _remembered(
        self, request: ExecutionRequest, work: Work, mapper: TurnMapper, end: TurnEnd
    ) -> list[dict[str, Any]]:
        """What the next turn knows of this one."""
        if end.error_code is None and work.output is not None:
            said = [m for m in work.output.messages or () if m.role != "system"]
            messages = [_written(m) for m in said[len(self._conversation.messages) :]]
            if not messages or messages[-1]["role"] != "assistant":
                # After the result of a tool that has ended the turn: the next prompt needs one.
                messages.append({"role": "assistant", "content": mapper.answer or "(no answer)"})
            return messages
        return _cut_off(request, mapper, end.error or "")


def _cut_off(request: ExecutionRequest, mapper: TurnMapper, why: str) -> list[dict[str, Any]]:
    """What is known of a turn that has no end of its own."""
    done = [_DONE.format("\n".join(lines))] if (lines := mapper.steps.lines) else []
    texts = [*done, mapper.answer, _CUT_OFF.format(why)]
    return [
        {"role": "user", "content": request.prompt_text or "(a picture)"},
        {"role": "assistant", "content": "\n\n".join(filter(None, texts))},
    ]


def _end(work: Work, mapper: TurnMapper, team: Member) -> TurnEnd:
    if work.stopped is not None:
        return work.stopped
    if (failure := mapper.failures.get(team.key)) is not None:
        return failure
    if team.mode == "route" and not mapper.answer and mapper.failures:
        return next(iter(mapper.failures.values()))  # the answer would have been the member's own
    if mapper.failure is not None or work.output is None:
        error = mapper.failure or "agno ended without an answer"
        return TurnEnd(error=error, error_code=ErrorCode.AGENT_ERROR)
    return TurnEnd(result=mapper.answer)


def _written(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.to_dict().items() if name != "metrics"}
