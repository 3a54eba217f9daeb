"""The seam between runs and agents: open a conversation, take a turn, read events.

An agent knows nothing of queues, workspaces or wires. Three rules bind every implementation:

- :meth:`AgentSession.close` ends every process that the session started;
- :meth:`AgentSession.turn` ends with exactly one :class:`TurnEnd`, whatever happens;
- nothing is ever put into ``os.environ``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from executor.agents.skills import SkillSet
from shared.protocol.answers import QuestionKind
from shared.protocol.events import AgentEvent, Source
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode


@dataclass(frozen=True, slots=True)
class ToolDecision:
    """Whether a tool may be used.

    ``message`` is what the agent reads when it may not; ``updated_input`` replaces the tool's
    arguments when it may (``None``: as they are).
    """

    allowed: bool
    message: str = ""
    updated_input: dict[str, Any] | None = None
    question: QuestionKind | None = None
    """The user decides, and what else is said here holds when nobody can be asked; ``None``: it
    holds at once."""


class ToolPolicy(Protocol):
    """Decides what an agent's tools may do."""

    async def __call__(
        self,
        tool: str,
        arguments: dict[str, Any],
        *,
        asked: bool = False,
        mode: str | None = None,
    ) -> ToolDecision:
        """Decide about one use of *tool*.

        Called before every use, so that nothing an agent pre-approves gets around it; and once
        more with *asked* when the agent's own rules would put this use to its user.

        *mode* is the permission mode of whoever uses it, which counts where it is stronger than
        the run's.
        """
        ...


class Ask(Protocol):
    """Puts what an agent asks to the user of its run."""

    async def __call__(
        self, kind: QuestionKind, tool: str, arguments: dict[str, Any], source: Source | None, /
    ) -> ToolDecision | None:
        """Wait for the user's decision; ``None`` when nobody can be asked.

        *source* is who asks, as in the events of the turn.

        Several may wait at once. Cancelled when the agent does not wait any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The walls that the operating system puts around an agent's shell commands.

    Everything may be read but what is hidden, nothing written but what is writable, and only the
    hosts reached. Where paths lie inside each other the inner one counts, readable before hidden.
    """

    writable: tuple[Path, ...]
    hidden: tuple[Path, ...]
    """Need not exist."""
    readable: tuple[Path, ...]
    hosts: tuple[str, ...]
    """``example.com``, ``*.example.com``, each also with ``:port``; nothing else."""
    protected: tuple[Path, ...]
    """Not to be written though they lie in what is writable; they exist."""
    temporary: Path
    """Each session gets a folder of its own in here, its only place besides ``writable``."""


@dataclass(frozen=True, slots=True)
class AgentJob:
    """What a conversation is opened with.

    Two jobs with equal ``fingerprint`` can share one live process; the prompt is no part of it.
    """

    request: ExecutionRequest
    cwd: Path
    """Where the agent works: the checkout, or the session's directory when there is none."""
    session_dir: Path
    """``{workspace root}/{task_id}``: what the session may write to."""
    private_dir: Path
    """0700 and outside the workspace: for files that the agent's process reads at start."""
    config_dir: Path | None
    """The agent's own state, e.g. ``CLAUDE_CONFIG_DIR``; ``None``: the user's own."""
    env: Mapping[str, str] = field(repr=False)
    """The exact environment of the agent's process, credentials included."""
    model: str | None
    permission_mode: str | None
    """One of Claude's own modes, or ``None`` for unattended."""
    policy: ToolPolicy = field(compare=False, repr=False)
    sandbox: Sandbox | None = None
    """``None``: commands may do what the executor's user may do."""
    trust_repository: bool = False
    """Whether the repository's own settings, hooks and MCP servers are loaded."""
    skills: SkillSet | None = None
    """``None``: the request brings none."""
    resume: str | None = None
    """Session id to continue, or ``None`` for a new conversation."""

    @property
    def fingerprint(self) -> str:
        """A digest of everything that a live process cannot change between two turns."""
        asked = self.request.model_dump(
            include={
                "bot",
                "mode",
                "system_prompt",
                "max_turns",
                "max_budget_usd",
                "allowed_tools",
                "disallowed_tools",
                "agents",
            },
            exclude={"bot": {"__all__": {"skills"}}},  # `skills` holds their digest
        )
        everyone = (bot for leader in self.request.bot for bot in leader.everyone())
        asked["servers"] = [self.request.servers, *map(self.request.servers_of, everyone)]
        asked["files"] = [file.filename for file in self.request.input_files]
        given = [str(self.cwd), str(self.config_dir), self.model, self.permission_mode]
        walls = [repr(self.sandbox), self.trust_repository, repr(self.skills)]
        text = json.dumps([asked, given, walls, sorted(self.env.items())], default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended; the last thing that :meth:`AgentSession.turn` yields.

    ``error_code`` is ``None`` exactly when the turn succeeded.
    """

    result: str = ""
    """The agent's final answer."""
    error: str | None = None
    """The agent's own words about what went wrong."""
    error_code: ErrorCode | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """``duration_ms``, ``num_turns``, ``total_cost_usd``, ``usage``, as far as known."""
    reusable: bool = True
    """Whether the session can take another turn in the same process."""
    retry_at: float | None = None
    """When the limit is lifted that ended it, in seconds since the epoch; ``None``: unknown."""


class AgentSession(Protocol):
    """One live conversation. Not for concurrent turns."""

    @property
    def session_id(self) -> str | None:
        """The agent's own id of the conversation; ``None`` until it is known."""
        ...

    @property
    def pid(self) -> int | None:
        """The agent's process, or ``None`` when it has none."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can take a turn; ``False`` once its process has died or it was closed."""
        ...

    def turn(self, request: ExecutionRequest, ask: Ask) -> AsyncGenerator[AgentEvent | TurnEnd]:
        """Send the request's prompt; yield what happens; end with one :class:`TurnEnd`.

        *ask* is called for every :attr:`ToolDecision.question`, from tasks of the session's own,
        while this waits for the agent.
        """
        ...

    @property
    def heard(self) -> int:
        """How many messages have come from the process, also those that :meth:`turn` drops."""
        ...

    @property
    def silent_until(self) -> float:
        """Until when, by the event loop's clock, the agent says nothing for a good reason.

        It waits before it asks the API again; in the past when it does not.
        """
        ...

    @property
    def answered(self) -> int:
        """How often the model has answered in this turn, or the last; sub-agents not counted."""
        ...

    @property
    def cost_usd(self) -> float:
        """What the conversation had cost before this turn, or by now when there is none.

        Over all processes that have held it, as far as known.
        """
        ...

    def tools_cpu_s(self) -> float:
        """CPU seconds that the agent's tools have used so far, its own process's not counted.

        Only the difference of two values means anything, and it may be negative: what some
        processes have used is forgotten with them. Blocks for milliseconds; never fails.
        """
        ...

    async def interrupt(self) -> None:
        """Ask the agent to stop its turn; returns at once, :meth:`turn` still ends normally."""
        ...

    async def close(self) -> None:
        """End the process and everything it started, also while being cancelled.

        Bounded in time, and harmless when called again. What was not graceful is logged, never
        raised.
        """
        ...


class Agent(Protocol):
    """One kind of agent."""

    async def load(self) -> None:
        """Import what is slow to import, off the event loop; harmless when called again."""
        ...

    async def past_cost_usd(self, job: AgentJob) -> float:
        """What the conversation ``job.resume`` has cost, which no process holds; 0.0: unknown."""
        ...

    async def open(self, job: AgentJob) -> AgentSession:
        """Start a conversation, or continue ``job.resume``.

        Raises:
            RunError: It cannot be started; the code says why.
        """
        ...
