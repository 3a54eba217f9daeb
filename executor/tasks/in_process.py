"""InProcessRunHandler: a run as a child process of this one.

Prepares the workspace, opens or continues the agent's conversation, passes its events on, and adds
what an agent cannot know: where it works, what changed, and the verdict.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakSet

from executor.agents.factory import AgentFactory
from executor.agents.protocol import Agent, AgentJob, TurnEnd
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from executor.tasks.agent_rules import AgentRules
from executor.tasks.cancellation import Cancellation, Cancelled
from executor.tasks.disk_room import with_room
from executor.tasks.merging import merged
from executor.tasks.pausing import Pause
from executor.tasks.perseverance import persevering
from executor.tasks.questions import AnswerStanding, Questions, UserInput
from executor.tasks.run_handler import Run, WaitsFor
from executor.tasks.spending import Spent
from executor.tasks.staging.commands import with_command
from executor.tasks.stall import StallClock
from executor.tasks.turns import Turns
from executor.tasks.verdicts import cancelled, failed
from executor.tasks.warm_sessions import WarmSessions
from executor.tasks.workspace import Workspace, Workspaces
from shared.errors import RunError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input
from shared.status import ErrorCode

logger = get_logger("in_process")

PARKED_AFTER_S: Final = 30.0
"""A wait that is longer holds no process: starting one again takes half a second."""

MOVED: Final = (
    "this session has run in a container until now, where its conversation stays: it begins anew "
    "in the same folder"
)

T = TypeVar("T")


class InProcessRunHandler:
    """Runs agents as child processes; see :class:`executor.tasks.run_handler.RunHandler`."""

    def __init__(
        self,
        *,
        agents: AgentFactory,
        workspaces: Workspaces,
        rules: AgentRules,
        state: StateStore,
        warm: WarmSessions,
        private_dir: Path,
        user_input: UserInput,
        stall_timeout_s: float,
    ) -> None:
        """Take the parts; whoever built them closes them.

        Args:
            agents: The known kinds of agent.
            workspaces: Prepares where a run works.
            rules: What the operator allows.
            state: Remembers conversations between runs.
            warm: Keeps live sessions between runs.
            private_dir: 0700 and outside every workspace.
            user_input: How users are asked, and how long a run may take.
            stall_timeout_s: How long a run that names no limit of its own may show no sign of
                life.
        """
        self.agents = agents
        self.workspaces = workspaces
        self.rules = rules
        self.state = state
        self.warm = warm
        self.private_dir = private_dir
        self.user_input = user_input
        self.stall_timeout_s = stall_timeout_s
        self._runs: WeakSet[_InProcessRun] = WeakSet()
        """Those in progress; also ended ones, as long as somebody holds them."""

    def check(self, request: ExecutionRequest) -> None:
        """Refuse unknown agents, unusable repositories and isolation that is not to be had."""
        self.agents.resolve(request.requested_agent)
        self.workspaces.check(request)
        self.rules.isolation.level(request)

    def start(self, request: ExecutionRequest) -> Run:
        """Prepare a run; nothing is done before its events are asked for."""
        run = _InProcessRun(self, request)
        self._runs.add(run)
        return run

    async def close_session(self, task_id: int | str) -> None:
        """End the session's warm process, and that of a run in progress after its turn."""
        for run in self._runs:
            if run.session == str(task_id):
                run.end_process()
        await self.warm.close_session(str(task_id))

    def wind_down(self) -> None:
        """Begin to end every warm process, and keep none from now on."""
        self.warm.wind_down()

    async def close(self) -> None:
        """End every warm process."""
        await self.warm.close()


class _InProcessRun:
    def __init__(self, handler: InProcessRunHandler, request: ExecutionRequest) -> None:
        self._handler = handler
        self._request = request
        self._cancellation = Cancellation()
        self._clock = StallClock(request.stall_timeout_seconds or handler.stall_timeout_s)
        self._pause = Pause(self._clock.held)
        limit_s = request.timeout_seconds or handler.user_input.run_timeout_s
        self._deadline = self._clock.now() + limit_s
        self._spent = Spent(functools.partial(handler.state.save_spending, request.run.key))
        self._workspace: Workspace | None = None
        self._refused = False
        """Whether the model's API has refused the run, which waits to try again."""
        self._told: asyncio.Queue[AgentEvent] = asyncio.Queue()
        """What is told beside the steps of the run, on its way into its events."""
        self._questions = Questions(
            handler.user_input,
            self._told.put_nowait,
            timeout_s=request.user_input_timeout_seconds,
            run_timeout_s=request.timeout_seconds,
            held=self._clock.held,
        )
        self._turns = Turns(
            handler.warm,
            ask=self._questions.ask,
            cancellation=self._cancellation,
            pause=self._pause,
            clock=self._clock,
            spent=self._spent,
            warn=self._warn,
        )

    @property
    def session(self) -> str:
        return self._request.run.session

    @property
    def waits_for(self) -> WaitsFor | None:
        if self._questions.waiting:
            return "user"
        return "api" if self._refused else None

    @property
    def goes_on_alone(self) -> bool:
        return False

    def let_go(self) -> None: ...

    def conclude(self, verdict: AgentEvent | None) -> None: ...

    async def cancel(self, reason: str | None) -> None:
        self._cancellation.ask(reason)
        self._questions.close()
        await self.resume()  # what stands still does not hear an interrupt
        await self._turns.interrupt()

    async def account(self) -> dict[str, Any]:
        summary = None
        if self._workspace is not None:
            summary = await self._handler.workspaces.describe(self._workspace)
        return {"workspace": summary, "statistics": self._spent.statistics}

    async def pause(self) -> None:
        if not self._cancellation.asked:
            await self._pause.begin()

    async def resume(self) -> None:
        await self._pause.end()

    async def answer(self, answer: Input) -> AnswerStanding:
        return self._questions.answer(answer)

    def end_process(self) -> None:
        """Have the agent's process end with its turn."""
        self._turns.keep_warm = False

    def events(self) -> AsyncGenerator[AgentEvent]:
        return merged(self._steps(), self._told)

    async def _steps(self) -> AsyncGenerator[AgentEvent]:
        request, handler = self._request, self._handler
        end: TurnEnd | None = None
        failure: RunError | None = None
        try:
            name, agent = handler.agents.resolve(request.requested_agent)
            environment = handler.rules.environment(request)
            known = await handler.state.session(request.task_id)
            moved = known is not None and known.in_container
            if known is not None and (known.agent_type != name or moved):
                known = None
            resume = self._conversation(known)
            yield AgentEvent(
                EventType.STARTED,
                {
                    "task": request.prompt_text,
                    "agent_type": name,
                    "model": environment.model,
                    "session_id": resume,
                    "resumed": resume is not None,
                },
            )
            if moved:
                yield AgentEvent(EventType.WARNING, {"message": MOVED})
            workspace = self._workspace = await self._with_room(
                lambda: handler.workspaces.prepare(request, known.cwd if known else None)
            )
            for warning in workspace.warnings:
                yield AgentEvent(EventType.WARNING, {"message": warning})
            yield AgentEvent(
                EventType.WORKSPACE_PREPARED,
                {
                    "path": str(workspace.cwd),
                    "repository": workspace.repository,
                    "branch": workspace.branch,
                    "commit": workspace.commit,
                },
            )
            config_dir = (
                known.config_dir if known else handler.rules.config_dir(workspace, environment)
            )
            sandbox = await handler.rules.sandbox(request, workspace, environment)
            job = AgentJob(
                request=with_command(request),
                cwd=workspace.cwd,
                session_dir=workspace.session_dir,
                private_dir=handler.private_dir,
                config_dir=config_dir,
                env=environment.env,
                model=environment.model,
                permission_mode=handler.rules.mode(request),
                policy=handler.rules.policy(request, workspace, config_dir, sandbox),
                sandbox=sandbox,
                trust_repository=handler.rules.trust_repositories,
                skills=workspace.staged.skills,
                resume=resume,
            )
            record = SessionRecord(str(request.task_id), name, resume, workspace.cwd, config_dir)
            handler.state.save_session(record)
            before = await handler.state.spending(request.run.key)
            if before is not None:
                self._spent.go_on_from(before, await agent.past_cost_usd(job))
                used_s = await handler.state.used_s(request.run.key)
                self._deadline -= used_s
                self._questions.time_used(used_s)
            async with aclosing(self._persevering(agent, job)) as turns:
                async for item in turns:
                    if isinstance(item, TurnEnd):
                        end = item
                        continue
                    if item.type == EventType.SESSION:
                        record = replace(record, sdk_session_id=item.data["sdk_session_id"])
                        handler.state.save_session(record)
                    yield item
        except Cancelled:
            pass
        except RunError as exc:
            failure = exc
        finally:
            self._questions.close()
        account = await self.account()
        summary = account["workspace"] or {}
        if summary.get("files"):
            shown = ("files", "truncated", "full_length")
            changed = {name: summary[name] for name in shown if name in summary}
            yield AgentEvent(EventType.WORKSPACE_CHANGED, changed)
        verdict = self._verdict(end, failure)
        yield replace(verdict, data={**verdict.data, **account})

    def _conversation(self, known: SessionRecord | None) -> str | None:
        """The conversation to continue, or ``None`` to begin one."""
        if self._request.new_session:
            return None
        if self._request.sdk_session_id is not None:
            return self._request.sdk_session_id
        return known.sdk_session_id if known is not None else None

    def _persevering(self, agent: Agent, job: AgentJob) -> AsyncGenerator[AgentEvent | TurnEnd]:
        return persevering(
            job,
            lambda job: self._turns.take(agent, job),
            self._wait,
            clock=self._clock,
            deadline=self._deadline,
            spent=self._spent,
        )

    async def _wait(self, seconds: float) -> None:
        self._refused = True
        try:
            if seconds > PARKED_AFTER_S:
                await self._handler.warm.close_session(self.session)
            await self._cancellation.unless(asyncio.sleep(seconds))
        finally:
            self._refused = False

    async def _with_room(self, step: Callable[[], Awaitable[T]]) -> T:
        return await self._cancellation.unless(
            with_room(step, unpaused=self._pause.over, warn=self._warn)
        )

    def _warn(self, message: str) -> None:
        self._told.put_nowait(AgentEvent(EventType.WARNING, {"message": message}))

    def _verdict(self, end: TurnEnd | None, failure: RunError | None) -> AgentEvent:
        if self._cancellation.asked:
            return cancelled(self._cancellation.reason)
        if failure is not None:
            return failed(failure)
        if end is None:
            return failed(RunError(ErrorCode.INTERNAL, "the agent's turn had no end"))
        if end.error_code is not None:
            return failed(RunError(end.error_code, end.error or ""))
        return AgentEvent(EventType.COMPLETED, {"result": end.result})
