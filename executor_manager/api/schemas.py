"""Bodies of the HTTP API.

Rules about a run's values (prompt, address, branch, limits) are those of
:mod:`shared.protocol.execution` and are not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from executor_manager.store.records import (
    AbsentNode,
    Answer,
    NodeRecord,
    NodeStatus,
    OpenQuestion,
    RunRecord,
    SessionRecord,
)
from shared.protocol import wire_json
from shared.protocol.execution import MAX_DEPTH, nests_deeper
from shared.status import RunState


def _no_control_characters(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_no_control_characters)]
Free = Annotated[Any, WithJsonSchema({})]

KEY_PATTERN = r"^[\x21-\x7e]{1,200}$"
"""What an idempotency key looks like: up to 200 printable ASCII characters."""


MAX_MESSAGE = 20_000
"""Characters of what a user tells an agent beside a decision."""

MAX_ANSWERS_BYTES = 256 * 1024
"""As much as the event that asks may have."""


def _answers_within_bounds(answers: dict[str, Any]) -> dict[str, Any]:
    if nests_deeper(answers, MAX_DEPTH):
        raise ValueError(f"must not nest deeper than {MAX_DEPTH}")
    if len(wire_json.dumps(answers).encode("utf-8", "replace")) > MAX_ANSWERS_BYTES:
        raise ValueError(f"must not be larger than {MAX_ANSWERS_BYTES} bytes")
    return answers


class _Body(BaseModel):
    # A misspelt field that is silently ignored costs its writer an hour.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TaskConfig(_Body):
    """How to run it. What is absent comes from the executor's own settings."""

    agent_type: Free = Field(default=None, description="`claude_code` (default) or `agno`")
    bot: Free = Field(
        default=None,
        description="who takes part, the first leads the others: `[{name, system_prompt, …}]`; "
        "`env` and the MCP servers beside it are the first's",
    )
    mode: Free = Field(
        default=None, description="of a team: `coordinate` (default), `collaborate` or `route`"
    )
    model: Free = None
    repo_url: Free = Field(default=None, description="what to clone: https, http, ssh or file")
    git_branch: Free = None
    git_token: Free = None
    git_username: Free = None
    git_password: Free = None
    system_prompt: Free = Field(default=None, description="appended to Claude Code's own")
    max_turns: Free = None
    max_budget_usd: Free = None
    permission_mode: Free = None
    allowed_tools: Free = Field(default=None, description="list of names; nothing else is possible")
    disallowed_tools: Free = None
    timeout_seconds: Free = None
    stall_timeout_seconds: Free = None
    user_input_timeout_seconds: Free = Field(default=None, description="0: nobody is asked")
    mcp_servers: Free = Field(default=None, description="object of servers by name")
    mcp_config: Free = Field(default=None, description="the same, also as `{mcpServers: …}`")
    env: Free = Field(default=None, description="environment of the agent, e.g. `model`, `api_key`")
    variables: Free = Field(default=None, description="values for `${NAME}` in MCP servers")
    attachments: Free = None
    input_files: Free = Field(default=None, description="`[{path, content or url}]`")
    skills: Free = Field(default=None, description="`{name: {path: content}}`, archives, addresses")
    skill_files: Free = None
    agents: Free = Field(default=None, description="sub-agents: `{name: {description, prompt}}`")
    commands: Free = Field(default=None, description="slash commands: `{name: Markdown}`")
    task_title: Free = None
    subtask_title: Free = None
    new_session: Free = Field(default=None, description="true: forget the conversation so far")
    isolation: Free = Field(default=None, description="`none`, `sandbox` or `container`")
    container_mode: Free = Field(default=None, description="`ephemeral` or `persistent`")
    on_node_loss: Free = Field(default=None, description="`wait` (default), `requeue` or `fail`")


class TaskCreate(_Body):
    """One unit of work, in a session of its own or in one that exists."""

    user_id: Name
    prompt: Annotated[
        Any, WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "array", "items": {}}]})
    ] = Field(description="text, or a list of `{type: text | image, …}` blocks")
    config: TaskConfig = Field(default_factory=TaskConfig)
    session_id: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="continue this conversation; absent: a new one"
    )
    idempotency_key: Annotated[str, Field(pattern=KEY_PATTERN)] | None = Field(
        default=None,
        description="the same key of the same user gives the same task; "
        "also accepted as header Idempotency-Key",
    )

    def raw_request(self) -> dict[str, Any]:
        """The request as an ExecutionRequest spells it, without its ids; not yet checked."""
        config = self.config.model_dump(exclude_none=True)
        env = config.pop("env", None)
        servers = config.pop("mcp_servers", None)
        wrapped = config.pop("mcp_config", None)
        if servers is None:
            servers = wrapped
            if isinstance(wrapped, dict) and set(wrapped) == {"mcpServers"}:
                servers = wrapped["mcpServers"]
        first: dict[str, Any] = {}
        if env is not None:
            first["agent_config"] = {"env": env}
        if servers is not None:
            first["mcp_servers"] = servers
        bots = config.pop("bot", None) or [{}]
        if isinstance(bots, dict):
            bots = [bots]
        if first and isinstance(bots, list) and isinstance(bots[0], dict):
            bots = [bots[0] | first, *bots[1:]]
        return {"prompt": self.prompt, **config} | ({"bot": bots} if bots != [{}] else {})


class TaskCreated(BaseModel):
    """Where to follow a task that was taken."""

    task_id: str
    session_id: str
    status: Literal["scheduled"] = "scheduled"
    executor_url: str | None = None
    """Null unless the task has a container of its own."""
    container_id: str | None = None


class QuestionView(BaseModel):
    """What an agent waits for; POST the answer to ``/api/v1/tasks/{task_id}/input``."""

    request_id: str
    kind: str
    """`question`, `permission` or `plan`."""
    tool_name: str
    tool_input: Any
    """What is asked: the questions, the tool's arguments, or the plan."""
    asked_at: str
    expires_at: str | None
    """Then the agent goes on without an answer. Both by the executor's clock."""
    answered: bool
    """There is an answer, and the agent has not gone on with it yet."""

    @classmethod
    def of(cls, question: OpenQuestion) -> Self:
        """What the API shows of *question*."""
        data = question.data
        return cls(
            request_id=question.request_id,
            kind=str(data.get("kind")),
            tool_name=str(data.get("tool_name")),
            tool_input=data.get("tool_input"),
            asked_at=question.asked_at,
            expires_at=_text(data.get("expires_at")),
            answered=question.answered,
        )


class TaskView(BaseModel):
    """A task as it is now. Times are UTC."""

    task_id: str
    session_id: str
    user_id: str
    status: RunState
    status_reason: str | None
    """Why it cannot start or go on now: the executor where its session lives is away. Null: it
    goes on, or waits for its turn."""
    unreachable: bool
    """Its executor does not answer at the moment; not a verdict."""
    attempt: int
    progress: int
    """0 to 100; never falls."""
    waiting_for: list[QuestionView]
    """What the agent asks its user, the oldest first; empty when it waits for nothing."""
    node_id: str | None
    """The executor that has it, or had it last."""
    created_at: str
    started_at: str | None
    finished_at: str | None
    next_run_time: str | None = None
    result: Any = None
    """The agent's answer, once completed."""
    error: str | None = None
    error_code: str | None = None
    statistics: Any = None
    workspace: Any = None
    last_sequence: int
    """How many events there are to read."""
    executor_url: str | None = None
    container_id: str | None = None

    @classmethod
    def of(
        cls, run: RunRecord, questions: Sequence[OpenQuestion], awaited: AbsentNode | None
    ) -> Self:
        """What the API shows of *run*, which waits for answers to *questions* and for a node."""
        verdict = run.verdict or {}
        return cls(
            task_id=run.id,
            session_id=run.session_id,
            user_id=run.user_id,
            status=run.state,
            status_reason=None if awaited is None else _away(awaited),
            unreachable=run.unreachable,
            attempt=run.attempt,
            progress=run.progress,
            waiting_for=[QuestionView.of(question) for question in questions],
            node_id=run.node_id,
            created_at=_utc(run.created_at),
            started_at=_utc_or_none(run.started_at),
            finished_at=_utc_or_none(run.finished_at),
            result=verdict.get("result"),
            error=_text(verdict.get("error") or verdict.get("reason")),
            error_code=run.error_code,
            statistics=verdict.get("statistics"),
            workspace=verdict.get("workspace"),
            last_sequence=run.last_sequence,
        )


class TaskList(BaseModel):
    """One page of tasks, newest first."""

    tasks: list[TaskView]
    next_before: str | None
    """Give it as ``before`` to get the next page; null on the last one."""


class TaskCancel(_Body):
    """Why a task is cancelled; shown with its verdict."""

    reason: (
        Annotated[str, Field(max_length=1000), AfterValidator(_no_control_characters)] | None
    ) = None


class TaskInput(_Body):
    """The user's answer to what a task waits for."""

    request_id: Annotated[str, Field(min_length=1, max_length=200)]
    decision: Literal["allow", "deny", "answer"]
    answers: Annotated[dict[str, Any], AfterValidator(_answers_within_bounds)] | None = Field(
        default=None,
        description="to questions: what is chosen, by the question's text or its number from 1",
    )
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = Field(
        default=None, description="told to the agent, e.g. why something is denied"
    )

    def answer(self) -> Answer:
        """The answer without the question."""
        return Answer(self.decision, self.answers, self.message)


class TaskInputTaken(BaseModel):
    """What became of an answer."""

    task_id: str
    request_id: str
    status: Literal["accepted", "pending"]
    """`accepted`: the executor has it; `pending`: it is kept, and told as soon as it can be."""


class SessionView(BaseModel):
    """A conversation and its workspace. Times are UTC."""

    session_id: str
    user_id: str
    status: Literal["idle", "queued", "running"]
    sdk_session_id: str | None
    node_id: str | None
    """The executor where its workspace is."""
    created_at: str
    updated_at: str
    task_ids: list[str]
    """Oldest first."""

    @classmethod
    def of(cls, session: SessionRecord, runs: Mapping[str, RunState]) -> Self:
        """What the API shows of *session*, whose runs, oldest first, are in these states."""
        live = [state for state in runs.values() if not state.terminal]
        waiting = all(state is RunState.QUEUED for state in live)
        return cls(
            session_id=session.id,
            user_id=session.user_id,
            status="idle" if not live else "queued" if waiting else "running",
            sdk_session_id=session.sdk_session_id,
            node_id=session.node_id,
            created_at=_utc(session.created_at),
            updated_at=_utc(session.updated_at),
            task_ids=list(runs),
        )


class NodeView(BaseModel):
    """A place that takes tasks. Times are UTC."""

    node_id: str
    kind: str
    name: str
    hostname: str
    platform: str
    arch: str
    version: str
    workspace_root: str
    capabilities: list[str]
    isolation: list[str]
    capacity: int
    running: int
    """Tasks that it has now."""
    status: NodeStatus
    last_heartbeat: str
    registered_at: str

    @classmethod
    def of(cls, node: NodeRecord) -> Self:
        """What the API shows of *node*."""
        return cls(
            node_id=node.id,
            kind=node.kind,
            name=node.name,
            hostname=node.hostname,
            platform=node.platform,
            arch=node.arch,
            version=node.version,
            workspace_root=node.workspace_root,
            capabilities=node.capabilities,
            isolation=node.isolation,
            capacity=node.capacity,
            running=node.live_runs,
            status=node.status,
            last_heartbeat=_utc(node.last_heartbeat),
            registered_at=_utc(node.registered_at),
        )


class NodeList(BaseModel):
    """Every executor that has ever registered, by name."""

    nodes: list[NodeView]


class Health(BaseModel):
    """That the manager works; nothing here is secret."""

    status: Literal["ok"] = "ok"
    version: str
    nodes_online: int
    tasks_queued: int
    tasks_running: int


def _away(node: AbsentNode) -> str:
    where = f"executor {node.id}, where this session lives,"
    if node.status is NodeStatus.DRAINING:
        return f"{where} takes no new tasks now"
    return f"{where} has been unreachable since {_utc(node.last_heartbeat)}"


def _text(told: object) -> str | None:
    # A node's own words: nothing says that they are text.
    return told if told is None or isinstance(told, str) else wire_json.dumps(told)


def _utc(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else _utc(seconds)
