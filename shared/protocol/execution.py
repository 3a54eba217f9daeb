"""ExecutionRequest: everything a run needs, after a door has read its own shape.

:func:`read_execution_request` is the only reader of a raw dispatch. What it refuses, it refuses by
the names of the fields at fault, never with their values: a dispatch carries prompts and keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.errors import ProtocolError
from shared.protocol.bot import Bot, PermissionMode, SystemPrompt
from shared.protocol.credentials import named_credentials, url_credentials
from shared.protocol.events import RunRef
from shared.protocol.part import Part
from shared.protocol.prompt import Prompt, TextBlock
from shared.protocol.provisions import (
    Commands,
    InputFiles,
    McpServers,
    Skill,
    Skills,
    SubAgents,
    Variables,
    server_credentials,
    typed_server,
)
from shared.protocol.repository import (
    DEVICE_NAMES,
    Repository,
    check_branch,
    check_repository_url,
)
from shared.protocol.variables import resolved

MAX_DEPTH: Final = 64
"""How deep lists and objects may lie in one another; code that walks them recurses."""

_MAX_ID_LENGTH: Final = 128
_ID: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{_MAX_ID_LENGTH - 1}}}")
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]*")
_UNION_TAGS: Final = frozenset({"int", "str"})
"""What pydantic adds to the place of an error in ``int | str``; no field is called so."""


def check_id(value: int | str) -> int | str:
    """Refuse, by a ``ValueError``, what cannot name a folder on every platform."""
    if isinstance(value, int):
        if value < 0:
            raise ValueError("must be 0 or greater")
        if value >= 10**_MAX_ID_LENGTH:
            raise ValueError(f"must have at most {_MAX_ID_LENGTH} digits")
        return value
    if not _ID.fullmatch(value) or ".." in value or value.endswith("."):
        raise ValueError(
            "must be letters, digits, '.', '_' or '-', at most 128, not starting with '-'"
        )
    if value.partition(".")[0].lower() in DEVICE_NAMES:
        raise ValueError("is a reserved device name")
    return value


Id = Annotated[StrictInt | StrictStr, AfterValidator(check_id)]
"""An id as the backend wrote it: an integer from 0, or a string that can name a folder."""


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Isolation(StrEnum):
    """Where a run happens, from weakest to strongest."""

    NONE = "none"
    SANDBOX = "sandbox"
    CONTAINER = "container"

    def stronger(self, other: Isolation) -> Isolation:
        """The stronger of the two: a request may strengthen the operator's setting only."""
        order = list(Isolation)
        return max(self, other, key=order.index)


class User(Part):
    """On whose behalf; the names and the token used with git."""

    user_name: str | None = None
    git_login: str | None = None
    git_email: str | None = None
    git_token: SecretStr | None = None


class Attachment(Part):
    """A file for the run: fetched from ``url``, or given inline."""

    id: int | str | None = None
    filename: str = Field(min_length=1)
    url: str | None = None
    size: int | None = Field(default=None, ge=0)
    mime_type: str | None = None
    content_base64: str | None = Field(default=None, repr=False)
    content: str | None = Field(default=None, repr=False)
    """Text; becomes UTF-8."""

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if sum(way is not None for way in (self.url, self.content, self.content_base64)) != 1:
            raise ValueError("needs exactly one of url, content and content_base64")
        return self


class ExecutionRequest(Part):
    """One run: what to do, where the code is, and within which limits.

    Field by field as in the local protocol; ``None`` means "not said", so that the executor's own
    setting holds.
    """

    task_id: Id
    subtask_id: Id
    attempt: int = Field(default=1, ge=1, le=2**31 - 1)  # fits any database's column
    prompt: Prompt = Field(validation_alias=AliasChoices("prompt", "content"), repr=False)
    task_title: str | None = None
    subtask_title: str | None = None
    agent_type: str | None = None
    mode: str | None = None  # of a team; agents that know none ignore it
    variables: Variables = Field(default_factory=dict)  # before what refers to them
    bot: Annotated[list[Bot], BeforeValidator(_one_as_list)] = Field(default_factory=list)

    model: str | None = None
    system_prompt: SystemPrompt = None
    max_turns: int | None = Field(default=None, ge=1)
    max_budget_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    permission_mode: PermissionMode | None = None
    allowed_tools: list[str] | None = None
    disallowed_tools: list[str] | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    stall_timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    user_input_timeout_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    mcp_servers: McpServers = Field(
        default_factory=dict,
        repr=False,
        validation_alias=AliasChoices("mcp_servers", "mcp_config"),
    )
    skills: Skills = Field(default_factory=list)
    skill_files: Skills = Field(default_factory=list)
    input_files: InputFiles = Field(default_factory=list)
    agents: SubAgents = Field(default_factory=dict)
    commands: Commands = Field(default_factory=dict)

    git_url: Annotated[str | None, AfterValidator(check_repository_url)] = Field(
        default=None, validation_alias=AliasChoices("git_url", "repo_url"), repr=False
    )
    branch_name: Annotated[str | None, AfterValidator(check_branch)] = Field(
        default=None, validation_alias=AliasChoices("branch_name", "branch", "git_branch")
    )
    git_token: SecretStr | None = None
    git_username: str | None = None
    git_password: SecretStr | None = None
    user: User = Field(default_factory=User)
    attachments: list[Attachment] = Field(default_factory=list)
    auth_token: SecretStr | None = None
    backend_url: str | None = None

    isolation: Isolation | None = None
    container_mode: Literal["ephemeral", "persistent"] | None = None
    executor_image: str | None = None
    on_node_loss: Literal["wait", "requeue", "fail"] = "wait"
    new_session: bool = False
    sdk_session_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")

    @model_validator(mode="before")
    @classmethod
    def _absent_is_none(cls, raw: Any) -> Any:
        # Backends write null, or an empty string, for "not said".
        if not isinstance(raw, dict):
            return raw
        blank = {"git_url", "repo_url", "branch_name", "branch", "git_branch", "agent_type"}
        return {k: v for k, v in raw.items() if v is not None and not (k in blank and v == "")}

    @field_validator("bot", "mcp_servers")
    @classmethod
    def _variables_are_known(cls, value: Any, info: ValidationInfo) -> Any:
        if "variables" in info.data:
            given = value
            if info.field_name == "bot":
                given = [bot.mcp_servers for leader in value for bot in leader.everyone()]
            resolved(given, info.data["variables"])
        return value

    @property
    def run(self) -> RunRef:
        """Which run and attempt this is."""
        return RunRef(self.task_id, self.subtask_id, self.attempt)

    @property
    def first_bot(self) -> Bot:
        """The member that local mode runs; an empty one when the backend named none."""
        return self.bot[0] if self.bot else Bot()

    @property
    def servers(self) -> dict[str, dict[str, Any]]:
        """The MCP servers of this run: the bot's, over them the request's.

        References are resolved, and every server that is reached over HTTP says its type.
        """
        return self._ready({**(self.first_bot.mcp_servers or {}), **self.mcp_servers})

    def servers_of(self, bot: Bot) -> dict[str, dict[str, Any]]:
        """The MCP servers of one bot alone, as those of :attr:`servers`."""
        return self._ready(bot.mcp_servers or {})

    def _ready(self, servers: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            name: typed_server(resolved(server, self.variables)) for name, server in servers.items()
        }

    @property
    def all_skills(self) -> list[Skill]:
        """The skills of this run: of one name the last in ``bot``, ``skills``, ``skill_files``."""
        given = [*(self.first_bot.skills or ()), *self.skills, *self.skill_files]
        # What is only a name asks for one of the others, or for one that nobody brings.
        given.sort(key=lambda skill: skill.brings_content)
        return list({skill.name.casefold(): skill for skill in given}.values())

    @property
    def secrets(self) -> list[str]:
        """Every credential that this request carries, so that nothing shows it."""
        held = [self.git_token, self.git_password, self.user.git_token]
        if self.git_url is not None:
            held.append(Repository.parse(self.git_url).password)
        found = [secret.get_secret_value() for secret in held if secret is not None]
        if not found:  # otherwise the login of its address is a name, and no token
            found += url_credentials(self.git_url or "")
        if self.auth_token is not None:
            found.append(self.auth_token.get_secret_value())
        urls = [self.backend_url, *(attachment.url for attachment in self.attachments)]
        urls += [file.url for file in self.input_files]
        urls += [skill.url for skill in self.all_skills]
        for url in urls:
            found += url_credentials(url or "")
        found += named_credentials(self.variables)
        for bot in (one for leader in self.bot for one in leader.everyone()):
            found += named_credentials(bot.agent_config.env)
            for server in (bot.mcp_servers or {}).values():
                found += server_credentials(server)
        for server in self.servers.values():
            found += server_credentials(server)
        return found

    @property
    def prompt_text(self) -> str:
        """The text of the prompt, without its pictures."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(block.text for block in self.prompt if isinstance(block, TextBlock))

    @property
    def requested_agent(self) -> str:
        """The agent as the request names it, not yet resolved; ``claude_code`` when it does not."""
        return self.agent_type or self.first_bot.shell_type or "claude_code"


def read_execution_request(raw: object) -> ExecutionRequest:
    """Read a dispatch as it came from a door.

    Raises:
        ProtocolError: It cannot be used; ``fields`` names what is at fault.
    """
    if not isinstance(raw, dict):
        raise ProtocolError("the request must be an object")
    for name, value in raw.items():
        if nests_deeper(value, MAX_DEPTH):
            place = name if _FIELD.fullmatch(str(name)) else "request"
            raise ProtocolError(f"{place}: must not nest deeper than {MAX_DEPTH}", fields=(place,))
    try:
        return ExecutionRequest.model_validate(raw)
    except ValidationError as exc:
        raise protocol_error(exc) from None


def nests_deeper(value: object, limit: int) -> bool:
    """Whether lists and objects lie in one another more than *limit* levels deep."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def protocol_error(exc: ValidationError) -> ProtocolError:
    """Say which fields are at fault and why, without any value."""
    reasons: dict[str, str] = {}
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        # Positions in lists and names of fields; the tags of unions would only confuse.
        place = ".".join(
            str(part)
            for part in error["loc"]
            if isinstance(part, int) or (_FIELD.fullmatch(part) and part not in _UNION_TAGS)
        )
        # Pydantic's own sentence about an unknown tag repeats it.
        unknown_tag = error["type"] == "union_tag_invalid"
        reason = "must be of a known type" if unknown_tag else error["msg"]
        reasons.setdefault(place or "request", reason.removeprefix("Value error, "))
    message = "; ".join(f"{place}: {reason}" for place, reason in list(reasons.items())[:10])
    return ProtocolError(message, fields=tuple(reasons))
