"""One conversation with an agent or a team of agno, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx2
from agno.media import Image
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.team import TeamRunOutput

from executor.agents.agno.build import build
from executor.agents.agno.conversation import Conversation
from executor.agents.agno.mapper import Told, TurnMapper
from executor.agents.agno.members import Member
from executor.agents.agno.model_api import ModelApi
from executor.agents.agno.models import http_client, make_model
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
"""An interrupted turn that has not ended by then goes on alone until the session is closed."""

_CUT_OFF: Final = "[cut off here: {}]"


async def open_session(
    job: AgentJob,
    team: Member,
    apis: dict[str, ModelApi],
    conversation: Conversation,
    notices: Sequence[str],
) -> AgnoSession:
    """Start the MCP servers of *job* and make everybody in *team*."""
    room = ServerRoom(job, team)
    http: httpx2.AsyncClient | None = None
    try:
        await room.open()
        http = await in_thread(http_client)
        return AgnoSession(job, team, apis, conversation, [*notices, *room.notices], room, http)
    except BaseException:
        await room.close()
        if http is not None:
            await http.aclose()
        raise


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
        http: httpx2.AsyncClient,
    ) -> None:
        self._team = team
        self._conversation = conversation
        self._notices = list(notices)
        self._room = room
        self._http = http
        self._gate = ToolGate(job.policy)
        self._failures: dict[str, Exception] = {}
        """What has ended an answer last, by the keys of those whose answers these were."""
        self._runner = build(
            team,
            job.request,
            model_of=lambda member: make_model(apis[member.key], http, self._watch_of(member)),
            tools_of=lambda member: functions_of(
                room.servers_of(member),
                self._gate,
                member.source,
                allowed=_allowed(job.request, member, first=member is team),
                disallowed=[
                    *(job.request.disallowed_tools or ()),
                    *(member.bot.disallowed_tools or ()),
                ],
            ),
        )
        self._heard = 0
        self._answered = 0
        self._interrupted = False
        self._working: asyncio.Task[None] | None = None
        self._told: asyncio.Queue[Told | None] = asyncio.Queue()
        """What agno tells in the turn in progress; ``None`` ends it."""
        self._output: RunOutput | TeamRunOutput | None = None
        self._fatal: TurnEnd | None = None
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
        """The clients of the APIs do not tell when they wait; it is for a minute at most."""
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
        self._interrupted, self._answered = False, 0
        self._output = self._fatal = None
        self._failures.clear()
        self._told = asyncio.Queue()
        yield AgentEvent(EventType.SESSION, {"sdk_session_id": self.session_id})
        if self._team.members:
            yield AgentEvent(EventType.TOPOLOGY, {"topology": self._team.topology()})
        for notice in self._opening_notices(request):
            yield AgentEvent(EventType.WARNING, {"message": notice})
        max_turns = request.max_turns or request.first_bot.max_turns
        end: TurnEnd | None = None
        self._gate.ask = ask
        self._working = asyncio.create_task(self._work(request), name="agno turn")
        if self._interrupted:
            self._stop()
        try:
            while (event := await self._told.get()) is not None:
                for item in mapper.map(event):
                    yield item
                self._answered = mapper.answered
                if max_turns is not None and mapper.asked > max_turns:
                    self._fatal = TurnEnd(
                        error=f"Reached maximum number of turns ({max_turns})",
                        error_code=ErrorCode.MAX_TURNS,
                    )
                    self._stop()
        finally:
            self._gate.ask = None
            ended = await finish(self._ended())
        statistics = {
            "duration_ms": round((time.monotonic() - began) * 1000),
            "num_turns": mapper.answered,
            "total_cost_usd": None,
            "usage": mapper.usage,
            "model": mapper.model,
        }
        end = self._end(mapper, statistics, reusable=ended)
        for item in mapper.finish(end, interrupted=self._interrupted):
            yield item
        self._conversation.add(self._remembered(request, mapper, end))
        try:
            await in_thread(self._conversation.save)
        except OSError as exc:
            message = f"this turn could not be written down ({exc.strerror}): a restart forgets it"
            yield AgentEvent(EventType.WARNING, {"message": message})
        yield end

    async def interrupt(self) -> None:
        """Stop the turn; it ends at once."""
        self._interrupted = True
        self._stop()

    async def close(self) -> None:
        """End the turn in progress and every connection, and every program behind one."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close agno session")
        await finish(self._closing)

    async def _close(self) -> None:
        if not await self._ended():
            logger.warning("agno does not stop its turn")
        for step in (self._room.close, self._http.aclose):
            try:
                await step()
            except Exception as exc:  # noqa: BLE001 - what is left is logged, never raised
                logger.warning("not closed gracefully: %s: %s", type(exc).__name__, exc)

    async def _work(self, request: ExecutionRequest) -> None:
        """One run of agno; ends what :meth:`turn` reads with ``None``."""
        told = self._told
        remembered = [Message.from_dict(dict(said)) for said in self._conversation.messages]
        self._runner.additional_input = list(remembered) or None
        try:
            async for event in self._runner.arun(
                request.prompt_text,
                images=_images(request) or None,
                session_id=self.session_id,
                stream=True,
                stream_events=True,
                yield_run_output=True,
            ):
                self._heard += 1
                if isinstance(event, RunOutput | TeamRunOutput):
                    self._output = event
                elif isinstance(event, Told):
                    told.put_nowait(event)
        except Exception as exc:
            logger.warning("agno failed: %s", type(exc).__name__, exc_info=True)
            self._failures[self._team.key] = exc
        finally:
            told.put_nowait(None)

    def _stop(self) -> None:
        if self._working is not None and not self._working.done():
            self._working.cancel()
            self._told.put_nowait(None)

    async def _ended(self) -> bool:
        """Cancel the work in progress, if any; whether it has ended."""
        if self._working is None:
            return True
        self._working.cancel()
        await asyncio.wait({self._working}, timeout=END_TIMEOUT_S)
        return self._working.done()

    def _watch_of(self, member: Member) -> Any:
        def watch(failure: Exception | None) -> None:
            self._heard += 1
            if failure is None:
                self._failures.pop(member.key, None)
                return
            self._failures[member.key] = failure
            if member is not self._team:
                end = read_failure(failure, _name(member))
                if end.error_code in FATAL:
                    self._fatal = self._fatal or end
                    self._stop()

        return watch

    def _end(self, mapper: TurnMapper, statistics: dict[str, Any], *, reusable: bool) -> TurnEnd:
        failure = self._failures.get(self._team.key)
        error = mapper.failure
        if self._interrupted:
            end = TurnEnd(error=INTERRUPTED, error_code=ErrorCode.AGENT_ERROR)
        elif self._fatal is not None:
            end = self._fatal
        elif failure is not None:
            end = read_failure(failure, _name(self._team))
        elif error is not None or self._output is None:
            end = TurnEnd(
                error=error or "agno ended without an answer", error_code=ErrorCode.AGENT_ERROR
            )
        else:
            end = TurnEnd(result=mapper.answer)
        return TurnEnd(
            result=end.result,
            error=end.error,
            error_code=end.error_code,
            retry_at=end.retry_at,
            statistics=statistics,
            reusable=reusable,
        )

    def _remembered(
        self, request: ExecutionRequest, mapper: TurnMapper, end: TurnEnd
    ) -> list[dict[str, Any]]:
        """What the next turn knows of this one."""
        if end.error_code is None and self._output is not None:
            said = [m for m in self._output.messages or () if m.role != "system"]
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

    def _opening_notices(self, request: ExecutionRequest) -> list[str]:
        notices, self._notices = self._notices, []
        if request.max_budget_usd is not None:
            notices.append("max_budget_usd has no effect: agno counts tokens, and knows no prices")
        return notices


def _allowed(request: ExecutionRequest, member: Member, *, first: bool) -> list[str] | None:
    if first and request.allowed_tools is not None:
        return request.allowed_tools
    return member.bot.allowed_tools


def _images(request: ExecutionRequest) -> list[Image]:
    if isinstance(request.prompt, str):
        return []
    return [_image(block.source) for block in request.prompt if isinstance(block, ImageBlock)]


def _image(source: dict[str, Any]) -> Image:
    if source.get("type") == "url":
        return Image(url=str(source.get("url")))
    return Image.from_base64(
        str(source.get("data", "")), mime_type=str(source.get("media_type") or "image/png")
    )


def _written(message: Message) -> dict[str, Any]:
    written = message.to_dict()
    with suppress(KeyError):
        del written["metrics"]
    return written


def _name(member: Member) -> str:
    return member.source.agent_name or member.source.agent_id
