"""One conversation with one CLI process, from its start to its certain end."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from claude_agent_sdk import (
    ClaudeSDKClient,
    ClaudeSDKError,
    Message,
    ResultMessage,
    SystemMessage,
)
from claude_agent_sdk._errors import MessageParseError

from executor.agents.claude_code import private_files
from executor.agents.claude_code.crash import CrashReport
from executor.agents.claude_code.mapper import TurnMapper
from executor.agents.claude_code.options import build_options
from executor.agents.claude_code.past_cost import past_cost_of
from executor.agents.claude_code.private_files import PrivateFiles
from executor.agents.claude_code.sandbox import sandbox_environment
from executor.agents.claude_code.tool_gate import ToolGate, User
from executor.agents.claude_code.transport import ProcessTransport
from executor.agents.claude_code.verdict import INTERRUPTED
from executor.agents.protocol import AgentJob, Ask, TurnEnd
from executor.memory import SystemMemory
from shared.errors import RunError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, Source
from shared.protocol.execution import ExecutionRequest
from shared.shielding import finish, in_thread
from shared.status import ErrorCode

logger = get_logger("claude_code")

START_TIMEOUT_S: Final = 60.0
"""From the process's start to its first answer; the CLI takes about 0.4 s, MCP servers longer."""

INTERRUPT_TIMEOUT_S: Final = 10.0
"""An interrupted turn that has not ended by then is ended with its process."""

_GONE: Final = "No conversation found"
"""What the CLI says when asked to resume a conversation that it does not have."""


class _ConversationGone(Exception):
    """The conversation to be resumed does not exist any more."""


async def open_session(job: AgentJob, cli: Path, memory: SystemMemory) -> ClaudeSession:
    """Start the CLI for *job*; without its conversation when that is gone.

    Raises:
        RunError: ``agent_crashed`` or ``out_of_memory`` when the CLI ends at once, ``agent_error``
            when it cannot be started or does not answer.
    """
    try:
        # The CLI would take another word for the title of a conversation, or hang.
        if job.resume is None or _is_uuid(job.resume):
            return await _start(job, cli, memory)
    except _ConversationGone:
        pass
    logger.warning("conversation not found; a new one is begun")
    return await _start(
        replace(job, resume=None),
        cli,
        memory,
        notice="the earlier conversation is not on this machine any more; a new one was begun",
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


async def _start(
    job: AgentJob, cli: Path, memory: SystemMemory, notice: str | None = None
) -> ClaudeSession:
    folder = private_files.folder_in(job.private_dir)
    try:
        files = await in_thread(PrivateFiles.write, job, folder)
        notices = [text for text in (notice, files.notice) if text is not None]
        session = ClaudeSession(job, cli, files, memory, notices)
    except BaseException:
        await in_thread(private_files.remove, folder)
        raise
    try:
        await session.connect()
    except BaseException:
        await session.close()
        raise
    return session


class ClaudeSession:
    """See :class:`executor.agents.protocol.AgentSession`. Made by :func:`open_session`."""

    def __init__(
        self,
        job: AgentJob,
        cli: Path,
        files: PrivateFiles,
        memory: SystemMemory,
        notices: Sequence[str] = (),
    ) -> None:
        self._job = job
        self._files = files
        self._notices = list(notices)
        self._session_id = job.resume
        bot = job.request.first_bot
        self._source = Source(
            str(bot.id if bot.id is not None else bot.name or "claude_code"),
            agent_name=bot.name or "",
        )
        self._gate = ToolGate(job.policy)
        options = build_options(
            job,
            cli,
            files,
            can_use_tool=self._gate.can_use_tool,
            before_tool=self._gate.before_tool,
            stderr=lambda line: logger.debug("claude: %s", line),
        )
        env = dict(job.env)
        if job.config_dir is not None:
            env["CLAUDE_CONFIG_DIR"] = str(job.config_dir)
        if files.temporary is not None and files.git_excludes is not None:
            env |= sandbox_environment(files.temporary, files.git_excludes)
        if files.programs is not None:
            env["PATH"] = os.pathsep.join((str(files.programs), env.get("PATH", os.defpath)))
        self._transport = ProcessTransport(options, env, files.folder)
        self._crash = CrashReport(self._transport, memory)
        self._client = ClaudeSDKClient(options, transport=self._transport)
        self._cost = 0.0
        self._answered = 0
        self._silent_until = 0.0
        self._interrupted = False
        self._stopping: asyncio.Task[None] | None = None
        self._turn_over = asyncio.Event()
        self._turn_over.set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def session_id(self) -> str | None:
        """Claude's id of the conversation; ``None`` before the first answer of a new one."""
        return self._session_id

    @property
    def pid(self) -> int | None:
        """The CLI's process while it lives."""
        return self._transport.pid

    @property
    def alive(self) -> bool:
        """Whether the CLI's process lives."""
        return self._transport.pid is not None

    @property
    def heard(self) -> int:
        """How many messages have come from the CLI, those included that mean nothing here."""
        return self._transport.heard

    @property
    def silent_until(self) -> float:
        """When the CLI will ask the API again, by the event loop's clock; 0.0 at first."""
        return self._silent_until

    @property
    def answered(self) -> int:
        """How often the model itself has answered in the turn in progress, or the last one."""
        return self._answered

    @property
    def cost_usd(self) -> float:
        """What the conversation had cost before the turn in progress, or by now without one."""
        return self._cost

    def tools_cpu_s(self) -> float:
        """CPU seconds of what the CLI has started. Blocks."""
        return self._transport.tools_cpu_s()

    async def connect(self) -> None:
        """Start the process and wait until it answers. On failure: call :meth:`close`."""
        await self._crash.begin()
        if self._job.resume is not None:
            self._cost = await asyncio.to_thread(past_cost_of, self._job)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._client.connect()
            self._transport.busy = False
        except TimeoutError:
            raise RunError(
                ErrorCode.AGENT_ERROR, f"Claude Code did not answer within {START_TIMEOUT_S:.0f} s"
            ) from None
        except ClaudeSDKError as exc:
            if self._job.resume is not None and _GONE in str(exc):
                raise _ConversationGone from exc
            status = self._transport.returncode
            if status is None:
                raise RunError(ErrorCode.AGENT_ERROR, f"Claude Code did not start: {exc}") from exc
            crash = self._crash.words()
            refused = self._job.sandbox is not None and "sandbox" in crash.lower()
            code = ErrorCode.ISOLATION_UNAVAILABLE if refused else await self._crash.code()
            raise RunError(code, crash) from exc

    async def turn(
        self, request: ExecutionRequest, ask: Ask
    ) -> AsyncGenerator[AgentEvent | TurnEnd]:
        """Send the prompt, yield what happens, end with one :class:`TurnEnd`."""
        mapper = TurnMapper(self._source, cost_before=self._cost)
        prompt = _user_message(request)
        answers = self._answers(prompt)
        self._interrupted = False
        self._answered = 0
        self._gate.user = User(ask, mapper.source_of)
        self._turn_over.clear()
        self._transport.busy = True
        await self._crash.begin()
        while self._notices:
            yield AgentEvent(EventType.WARNING, {"message": self._notices.pop(0)})
        try:
            async for message in answers:
                if _of_another_turn(message, prompt["uuid"]):
                    continue
                events = mapper.map(message)
                self._answered = mapper.answered
                for event in events:
                    yield event
                self._session_id = mapper.session_id or self._session_id
                if mapper.end is not None:
                    break
                self._silent_until = asyncio.get_running_loop().time() + mapper.retry_in_s
                if mapper.login_refused:
                    self._stop_turn()
                elif self._interrupted and _begins_turn(message):
                    self._stop_turn(again=True)  # what came before, the CLI has not heard
        except ClaudeSDKError as exc:
            logger.warning("claude ended within a turn: %s", exc)
        finally:
            self._gate.user = None
            await answers.aclose()
        end = mapper.end
        self._transport.busy = end is None
        if end is None:
            end = await self._end_without_result()
            for event in mapper.finish(end):
                yield event
        self._cost = mapper.cost
        self._turn_over.set()
        # A budget is one run's, but the process counts on.
        reusable = end.reusable and not self._gate.planned and request.max_budget_usd is None
        yield replace(end, reusable=reusable)

    async def interrupt(self) -> None:
        """Ask the CLI to stop; a turn that goes on all the same is ended with its process."""
        if not self._turn_over.is_set():
            self._interrupted = True
            self._stop_turn()

    async def close(self) -> None:
        """End the process and everything it started."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close claude session")
        await finish(self._closing)

    async def _close(self) -> None:
        if self._stopping is not None:
            self._stopping.cancel()
        try:
            # The transport again, since a client that never connected does not know it.
            for step in (self._client.disconnect, self._transport.close):
                try:
                    await step()
                except Exception as exc:  # noqa: BLE001 - the SDK raises bare exceptions
                    name = type(exc).__name__
                    logger.warning("claude was not ended gracefully: %s: %s", name, exc)
        finally:
            await asyncio.to_thread(self._files.remove)

    async def _answers(self, prompt: dict[str, Any]) -> AsyncGenerator[Message]:
        async def only_prompt() -> AsyncIterator[dict[str, Any]]:
            yield prompt

        await self._client.query(only_prompt())
        while True:
            try:
                async for message in self._client.receive_messages():
                    yield message
            except MessageParseError as exc:
                logger.debug("a message of the CLI was not understood: %s", exc)
            else:
                return

    def _stop_turn(self, *, again: bool = False) -> None:
        if again and self._stopping is not None:
            self._stopping.cancel()
        elif self._stopping is not None and not self._stopping.done():
            return
        self._stopping = asyncio.create_task(self._end_turn(), name="interrupt claude")

    async def _end_turn(self) -> None:
        try:
            async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                await self._client.interrupt()
                await self._turn_over.wait()
        except Exception as exc:  # noqa: BLE001 - the SDK raises bare exceptions here
            if not self._turn_over.is_set():
                how = type(exc).__name__
                logger.warning("claude does not stop its turn (%s); its process is ended", how)
                self._transport.kill()

    async def _end_without_result(self) -> TurnEnd:
        if self._interrupted:
            return TurnEnd(error=INTERRUPTED, error_code=ErrorCode.AGENT_ERROR, reusable=False)
        code = await self._crash.code()
        return TurnEnd(error=self._crash.words(), error_code=code, reusable=False)


def _user_message(request: ExecutionRequest) -> dict[str, Any]:
    content: Any = request.prompt
    if not isinstance(content, str):
        content = [block.model_dump() for block in content]
    return {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "uuid": str(uuid.uuid4()),
    }


def _of_another_turn(message: Message, prompt_id: str) -> bool:
    """Whether this is the result of a turn that the CLI began by itself."""
    if not isinstance(message, ResultMessage) or not message.user_message_uuids:
        return False
    return prompt_id not in message.user_message_uuids


def _begins_turn(message: Message) -> bool:
    return isinstance(message, SystemMessage) and message.subtype == "init"
