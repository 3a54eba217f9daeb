"""The Socket.IO protocol of namespace ``/local-executor``: names and payloads, each spelled once.

Between a local executor (client) and a backend (server). Unknown fields are ignored in both
directions. The readers at the end are the only places where raw payloads are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ProtocolError
from shared.protocol.events import RunRef
from shared.protocol.execution import Id, protocol_error
from shared.protocol.part import BUILD_AT_FIRST_USE

NAMESPACE: Final = "/local-executor"
SOCKETIO_PATH: Final = "socket.io"
PROTOCOL_VERSION: Final = 1

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""The largest message either side accepts."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""The largest event, as UTF-8 JSON; cut or split before it is numbered."""


class LocalEvent(StrEnum):
    """Event names as they appear on the wire."""

    # Executor to backend
    REGISTER = "local:executor:register"
    UNREGISTER = "local:executor:unregister"
    HEARTBEAT = "local:executor:heartbeat"
    PROGRESS = "local:task:progress"
    CHAT_START = "local:chat:start"
    CHAT_CHUNK = "local:chat:chunk"
    CHAT_DONE = "local:chat:done"
    CHAT_ERROR = "local:chat:error"
    INPUT_REQUIRED = "local:task:input_required"
    RESULT = "local:task:result"
    # Backend to executor
    DISPATCH = "local:task:dispatch"
    MESSAGE = "local:chat:message"
    CANCEL = "local:task:cancel"
    INPUT = "local:task:input"
    CLOSE = "local:task:close"


class Feature(StrEnum):
    """What a backend beyond the base protocol can do; told in its register ack."""

    SEQ_ACK = "seq_ack"
    REDISPATCH = "redispatch"
    INPUT = "input"


class Payload(BaseModel):
    """Base of all payloads: immutable, tolerant of fields that a newer peer adds."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        defer_build=BUILD_AT_FIRST_USE,
    )


# --- Registration and liveness ------------------------------------------------------------------


class RunReport(Payload):
    """One run that the executor knows, as told in a register or unregister."""

    task_id: Id
    subtask_id: Id
    attempt: int = 1
    state: Literal["queued", "running", "interrupted", "finished"]
    last_seq: int = 0
    sdk_session_id: str | None = None


class Register(Payload):
    """``local:executor:register``."""

    executor_id: str = Field(min_length=1, max_length=200)
    executor_type: Literal["local"] = "local"
    name: str = ""
    hostname: str = ""
    platform: str = ""
    arch: str = ""
    version: str = ""
    protocol_version: int = PROTOCOL_VERSION
    capabilities: list[str] = Field(default_factory=list)
    isolation: list[str] = Field(default_factory=list)
    max_concurrent_tasks: int = Field(default=1, ge=1)
    workspace_root: str = ""
    timestamp: str = ""
    runs: list[RunReport] = Field(default_factory=list)


class RunStanding(Payload):
    """What the backend says of one run that a register listed.

    Either ``seq`` (committed up to there), or ``unknown``, or ``superseded``.
    """

    subtask_id: Id
    attempt: int = 1
    seq: int | None = None
    unknown: bool = False
    superseded: bool = False


class RegisterAck(Payload):
    """Answer to a register. A base backend's is empty, or lacks ``features``."""

    success: bool = True
    features: list[str] = Field(default_factory=list)
    heartbeat_interval: float | None = Field(default=None, gt=0)
    heartbeat_timeout: float | None = Field(default=None, gt=0)
    acked: list[RunStanding] = Field(default_factory=list)
    code: str | None = None
    error: str | None = None


class Unregister(Payload):
    """``local:executor:unregister``: a clean goodbye, with what is left unfinished."""

    executor_id: str
    reason: str
    timestamp: str
    runs: list[RunReport] = Field(default_factory=list)


class RunName(Payload):
    """A run by its key."""

    subtask_id: Id
    attempt: int = 1


class Heartbeat(Payload):
    """``local:executor:heartbeat``."""

    executor_id: str
    timestamp: str = ""
    status: Literal["alive", "busy", "draining"] = "alive"
    runs: list[RunName] = Field(default_factory=list)
    """Every accepted run, queued ones too, until its verdict is acknowledged."""
    running_task_ids: list[Id] = Field(default_factory=list)
    free_slots: int = Field(default=0, ge=0)


class HeartbeatAck(Payload):
    """Answer to a heartbeat; names the runs that the executor must stop."""

    success: bool = True
    superseded: list[RunName] = Field(default_factory=list)


# --- What a run tells ---------------------------------------------------------------------------


class RunPayload(Payload):
    """The run fields that every event of a run carries."""

    task_id: Id
    subtask_id: Id
    attempt: int = 1
    seq: int = Field(ge=1)
    timestamp: str
    source: dict[str, Any] | None = None

    @property
    def run(self) -> RunRef:
        """Which run and attempt this belongs to."""
        return RunRef(self.task_id, self.subtask_id, self.attempt)


class EventName(Payload):
    """The two halves of an AgentEvent's type."""

    category: str
    action: str


class Progress(RunPayload):
    """``local:task:progress``: any event that has no message of its own."""

    task_title: str | None = None
    subtask_title: str | None = None
    progress: int = Field(ge=0, le=100)
    status: str = "running"
    message: str = ""
    result: dict[str, Any] | None = None
    event: EventName
    data: dict[str, Any] = Field(default_factory=dict)


class ChatStart(RunPayload):
    """``local:chat:start``."""

    message_id: str
    model: str | None = None


class ChatChunk(RunPayload):
    """``local:chat:chunk``; ``offset`` is the number of characters before it."""

    message_id: str
    chunk: str
    offset: int = Field(ge=0)


class ChatDone(RunPayload):
    """``local:chat:done``; ``content`` equals its chunks joined unless ``truncated``."""

    message_id: str
    content: str
    usage: dict[str, Any] | None = None
    truncated: bool = False
    full_length: int | None = None


class ChatError(RunPayload):
    """``local:chat:error``."""

    message_id: str | None = None
    error: str
    code: str | None = None


class InputRequired(RunPayload):
    """``local:task:input_required``: the agent asks and waits."""

    request_id: str
    kind: Literal["question", "permission", "plan"]
    tool_name: str
    tool_input: dict[str, Any]
    expires_at: str | None = None


class TaskResult(RunPayload):
    """``local:task:result``: the verdict, always the last event of a run."""

    task_title: str | None = None
    subtask_title: str | None = None
    progress: int = 100
    status: Literal["completed", "failed", "cancelled"]
    result: dict[str, Any]
    message: str = ""


RunEventPayload = (
    Progress | ChatStart | ChatChunk | ChatDone | ChatError | InputRequired | TaskResult
)

RUN_EVENTS: Final[Mapping[LocalEvent, type[RunEventPayload]]] = MappingProxyType(
    {
        LocalEvent.PROGRESS: Progress,
        LocalEvent.CHAT_START: ChatStart,
        LocalEvent.CHAT_CHUNK: ChatChunk,
        LocalEvent.CHAT_DONE: ChatDone,
        LocalEvent.CHAT_ERROR: ChatError,
        LocalEvent.INPUT_REQUIRED: InputRequired,
        LocalEvent.RESULT: TaskResult,
    }
)
"""The events that belong to a run and are numbered."""


class RunAck(Payload):
    """Answer to a run event.

    ``acked``: everything up to this ``seq`` is committed. With ``success: false``, ``superseded``
    and ``invalid`` are final; any other code means "send it again later".
    """

    success: bool
    acked: int | None = None
    code: str | None = None
    error: str | None = None


# --- What the backend asks ----------------------------------------------------------------------


class DispatchAck(Payload):
    """Answer to a dispatch. ``accepted`` promises a ``local:task:result``."""

    accepted: bool
    duplicate: bool | None = None
    resumed: bool | None = None
    code: str | None = None
    error: str | None = None
    reason: str | None = None


class Cancel(Payload):
    """``local:task:cancel``; without ``subtask_id``: every unfinished run of the session."""

    task_id: Id
    subtask_id: Id | None = None
    reason: str | None = None


class CancelAck(Payload):
    """Answer to a cancel."""

    success: bool = True
    state: Literal["cancelling", "finished", "unknown"]


class Input(Payload):
    """``local:task:input``: the user's answer to an ``input_required``."""

    task_id: Id
    subtask_id: Id
    request_id: str
    decision: Literal["allow", "deny", "answer"]
    answers: dict[str, Any] | None = None
    message: str | None = None


class InputAck(Payload):
    """Answer to an input."""

    success: bool
    code: Literal["unknown_request", "expired", "invalid_request"] | None = None
    """``invalid_request``: no answer to this question, which stays open; ``error`` says why."""
    error: str | None = None


class Close(Payload):
    """``local:task:close``: end the session's warm process; everything else stays."""

    task_id: Id


class CloseAck(Payload):
    """Answer to a close."""

    success: bool = True


class Failure(Payload):
    """Answer to a request that could not be read or handled."""

    success: Literal[False] = False
    code: str
    error: str


P = TypeVar("P", bound=BaseModel)


def read(model: type[P], raw: object) -> P:
    """Read one raw payload or ack as *model*.

    Raises:
        ProtocolError: It does not fit; the message names fields, never values.
    """
    if not isinstance(raw, dict):
        raise ProtocolError("the payload must be an object")
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise protocol_error(exc) from None


def read_ack(model: type[P], raw: object) -> P | None:
    """Read an ack; ``None`` when the peer sent none, or nothing that looks like one.

    A base backend acknowledges with nothing, with ``None`` or with a shape of its own.
    """
    if not isinstance(raw, dict):
        return None
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None


def to_wire(payload: BaseModel) -> dict[str, Any]:
    """A payload as plain JSON values, without the optional fields that say nothing."""
    return payload.model_dump(mode="json", exclude_none=True)
