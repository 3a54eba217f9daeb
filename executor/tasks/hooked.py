"""HookedRunHandler: another handler's runs, observed by hooks.

The hooks stand beside the run: its events pass by unchanged, in their order and at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any, Final

from executor.delivery.bounds import bound
from executor.hooks.base import TaskConfig
from executor.hooks.calls import AFTER_EXECUTION, COUNTED_CALLS, HookCall, RunCalls
from executor.hooks.runner import HookRunner, HookSource, end_all
from executor.tasks.questions import AnswerStanding
from executor.tasks.run_handler import Run, RunHandler, WaitsFor
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, RunKey, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input
from shared.protocol.repository import Repository
from shared.redaction import Redactor, RunRedactor

logger = get_logger("hooks")

CLOSE_S: Final = 10.0
"""How long the hooks of runs that have ended may still take when the executor stops."""

NO_VERDICT: Final = "the run was stopped before its verdict; it may go on later"

_CUT_OFF: Final = HookCall(AFTER_EXECUTION, {"success": False, "error": NO_VERDICT})

_INTACT: Final = frozenset({"tool_id", "message_id", "sdk_session_id", "error_code", "path"})
"""Fields that things are found by; they are never masked."""


class HookedRunHandler:
    """Observes the runs of another handler; see :class:`executor.tasks.run_handler.RunHandler`."""

    def __init__(
        self,
        handler: RunHandler,
        hooks: Sequence[HookSource],
        redactor: Redactor,
        *,
        timeout_s: float,
        close_s: float = CLOSE_S,
    ) -> None:
        """Take the parts.

        Args:
            handler: Carries the runs out; closed with this one.
            hooks: Whose hooks see every run.
            redactor: Masks what they see.
            timeout_s: How long one call of a hook may take.
            close_s: See :data:`CLOSE_S`.
        """
        self._handler = handler
        self._sources = tuple(hooks)
        self._redactor = redactor
        self._timeout_s = timeout_s
        self._close_s = close_s
        self._hooks: set[HookRunner] = set()
        """Those that have not ended; a hook outlives its run."""

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what the handler refuses."""
        self._handler.check(request)

    def start(self, request: ExecutionRequest) -> Run:
        """Prepare a run; its hooks are made when its events are read."""
        run = self._handler.start(request)
        return _HookedRun(run, lambda: self._observe(_config(request), request.secrets))

    def follow(self, known: Iterable[RunRef], living: Mapping[RunKey, Run]) -> dict[RunKey, Run]:
        """Observe the *living* ones of the *known* runs; their requests are not known."""
        return {run.key: self._followed(run, living[run.key]) for run in known if run.key in living}

    def _followed(self, ref: RunRef, run: Run) -> Run:
        config = TaskConfig(run_id=ref.key[0], session_id=ref.session, attempt=ref.attempt)
        return _HookedRun(run, lambda: self._observe(config, ()))

    async def close_session(self, task_id: int | str) -> None:
        """End the session's warm process."""
        await self._handler.close_session(task_id)

    def wind_down(self) -> None:
        """Begin to end every warm process."""
        self._handler.wind_down()

    async def settled(self) -> None:
        """Wait until the hooks of all runs that have ended so far are done."""
        ending = [runner for runner in self._hooks if runner.ending]
        await asyncio.gather(*(runner.wait_ended() for runner in ending))

    async def close(self) -> None:
        """End every warm process, and the hooks of runs that have ended, after a while."""
        try:
            await self._handler.close()
        finally:
            for runner in self._hooks:
                runner.offer(_CUT_OFF)  # unless its run has ended
            await end_all(tuple(self._hooks), self._close_s)

    def _observe(self, config: TaskConfig, secrets: Iterable[str]) -> _Observers:
        observers = _Observers(self._sources, config, self._redactor.open_run(secrets))
        for source in self._sources:
            runner = HookRunner(source, timeout_s=self._timeout_s, warn=observers.warn)
            observers.runners.append(runner)
            self._hooks.add(runner)
            runner.when_ended(self._hooks.discard)
        return observers


class _Observers:
    """The hooks of one run. Nothing here raises or waits."""

    def __init__(
        self, sources: Sequence[HookSource], config: TaskConfig, redactor: RunRedactor
    ) -> None:
        self._sources = sources
        # Otherwise only the verdict leads to a call, and nothing has to be counted for it.
        self._tells_calls = any(source.wants(call) for source in sources for call in COUNTED_CALLS)
        self.runners: list[HookRunner] = []
        self.warnings: deque[AgentEvent] = deque()
        """What is to be told in the run's stream."""
        self._redactor = redactor
        shown = redactor.redact_data(asdict(config), intact=frozenset({"run_id", "session_id"}))
        lists = {name: tuple(value) for name, value in shown.items() if isinstance(value, list)}
        self._calls = RunCalls(TaskConfig(**{**shown, **lists}))

    def warn(self, message: str) -> None:
        self.warnings.append(AgentEvent(EventType.WARNING, {"message": message}))

    def begin(self) -> None:
        self._offer([self._calls.begin()])

    def see(self, event: AgentEvent) -> None:
        if not (self._tells_calls or event.terminal or self._is_wanted(event)):
            return
        try:
            if event.type != EventType.LLM_STREAM:  # its text comes again, when it is complete
                event = replace(event, data=self._shown(event.data))
                for runner in self.runners:
                    runner.offer_event(event)
            self._offer(self._calls.take(event))
        except Exception:
            logger.exception("the hooks are not told of an event", type=event.type)

    def end(self, verdict: AgentEvent | None) -> None:
        """Nothing follows; ``None``: the run has no verdict."""
        if verdict is not None:
            self.see(verdict)
        self._offer(self._calls.break_off(NO_VERDICT))
        self._redactor.close()

    def _is_wanted(self, event: AgentEvent) -> bool:
        return any(source.wants_event(event.type) for source in self._sources)

    def _shown(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """As the backend will see it."""
        return bound(self._redactor.redact_data(data, intact=_INTACT))

    def _offer(self, calls: Sequence[HookCall]) -> None:
        for call in calls:
            for runner in self.runners:
                runner.offer(call)


class _HookedRun:
    def __init__(self, run: Run, observe: Callable[[], _Observers]) -> None:
        self._run = run
        self._observe = observe
        self._observers: _Observers | None = None

    @property
    def waits_for(self) -> WaitsFor | None:
        return self._run.waits_for

    @property
    def goes_on_alone(self) -> bool:
        return self._run.goes_on_alone

    def let_go(self) -> None:
        self._run.let_go()

    async def events(self) -> AsyncGenerator[AgentEvent]:
        observers = self._observers = self._observe()
        observers.begin()
        async with aclosing(self._run.events()) as events:
            async for event in events:
                if not event.terminal:  # another may be told in its place
                    observers.see(event)
                while observers.warnings:  # before the event: nothing follows a verdict
                    yield observers.warnings.popleft()
                yield event

    def conclude(self, verdict: AgentEvent | None) -> None:
        self._run.conclude(verdict)
        if self._observers is not None:
            self._observers.end(verdict)

    async def cancel(self, reason: str | None) -> None:
        await self._run.cancel(reason)

    async def account(self) -> Mapping[str, Any]:
        return await self._run.account()

    async def pause(self) -> None:
        await self._run.pause()

    async def resume(self) -> None:
        await self._run.resume()

    async def answer(self, answer: Input) -> AnswerStanding:
        return await self._run.answer(answer)


def _config(request: ExecutionRequest) -> TaskConfig:
    bot, url = request.first_bot, request.git_url
    return TaskConfig(
        run_id=str(request.subtask_id),
        session_id=request.run.session,
        attempt=request.attempt,
        prompt=request.prompt_text,
        agent_type=request.requested_agent,
        model=request.model,
        repo_url=Repository.parse(url).url if url is not None else None,
        git_branch=request.branch_name,
        max_turns=request.max_turns or bot.max_turns,
        custom_instructions=request.system_prompt or bot.system_prompt,
        permission_mode=request.permission_mode or bot.permission_mode,
        timeout_seconds=request.timeout_seconds,
        mcp_servers=tuple(request.servers),
        skills=tuple(skill.name for skill in request.all_skills),
        input_files=tuple(file.filename for file in request.input_files),
        attachments=tuple(attachment.filename for attachment in request.attachments),
    )
