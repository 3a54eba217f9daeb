"""The settings of one executor: environment over ``{home}/config.env`` over defaults."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from executor.config.home import HOME_VARIABLE, default_home, executor_home
from executor.config.problems import Problem, WrongSettings
from executor.config.types import (
    AbsolutePath,
    Directory,
    FileName,
    Hosts,
    Seconds,
    SecondsOrZero,
    Token,
    one_of,
    url,
)
from shared.errors import ConfigError
from shared.protocol.execution import PermissionMode

CONFIG_FILE: Final = "config.env"

EXAMPLES: Final = {
    "WEGENT_BACKEND_URL": "http://localhost:8001",
    "WEGENT_AUTH_TOKEN": "your-auth-token",
    "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
}
"""What a message suggests for variables that have no default."""


def _local_only(mode: object) -> object:
    if isinstance(mode, str) and mode.strip().lower() == "docker":
        raise PydanticCustomError(
            _DOCKER, "docker mode is not part of this version; set EXECUTOR_MODE=local"
        )
    return mode


LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LocalIsolation = Literal["auto", "none", "sandbox"]
LocalPermissionMode = Literal["unattended", PermissionMode]
_DOCKER: Final = "docker_mode"
_MISFIT: Final = "misfit"
_CONSEQUENCE: Final = "default_factory_not_called"
"""What pydantic says of a default that depends on others, when any is wrong."""
_TIMES: Final = (
    "LOCAL_HEARTBEAT_INTERVAL",
    "LOCAL_HEARTBEAT_TIMEOUT",
    "LOCAL_RECONNECT_DELAY",
    "LOCAL_RECONNECT_MAX_DELAY",
)
"""The variables that have to fit together."""
_PERMISSION_MODES: Final = get_args(LocalPermissionMode)


class ExecutorSettings(BaseSettings):
    """Settings of one executor process.

    Built in :mod:`executor.commands` only, by :func:`load_settings`. Other modules take the values
    they need as constructor arguments. Whoever builds it by hand names the variables, as in
    ``ExecutorSettings(LOG_LEVEL="DEBUG")``: were field names accepted too, pydantic-settings would
    take ``HOME`` for :attr:`home`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    # --- Which backend, and as whom ---
    mode: Annotated[Literal["local"], one_of("local"), BeforeValidator(_local_only)] = Field(
        default="local",
        validation_alias="EXECUTOR_MODE",
        description="How the executor runs; `local` is assumed when it is not set",
    )
    backend_url: Annotated[str, url("http", "https", "ws", "wss")] = Field(
        validation_alias="WEGENT_BACKEND_URL",
        description="Address of the backend; a path prefix is kept",
    )
    auth_token: Token = Field(
        validation_alias="WEGENT_AUTH_TOKEN",
        description="Token that the backend gave out; a leading `Bearer ` is ignored",
    )
    executor_name: str | None = Field(
        default=None,
        validation_alias="WEGENT_EXECUTOR_NAME",
        max_length=200,
        description="Name shown at the backend; the host's name when not set",
    )

    # --- Where things lie ---
    home: Directory = Field(
        default_factory=default_home,
        validation_alias=HOME_VARIABLE,
        description="Main folder, with `config.env` in it; read from the environment only",
    )
    workspace_root: Directory = Field(
        default_factory=lambda data: data["home"] / "workspace",
        validation_alias="LOCAL_WORKSPACE_ROOT",
        description="Where repositories are cloned: `{task_id}/{repo_name}`",
    )

    # --- Logs ---
    log_dir: AbsolutePath = Field(
        default_factory=lambda data: data["home"] / "logs",
        validation_alias="WEGENT_EXECUTOR_LOG_DIR",
        description="Folder of the log files",
    )
    log_file: FileName = Field(
        default="executor.log",
        validation_alias="WEGENT_EXECUTOR_LOG_FILE",
        description="Name of the log file",
    )
    log_max_size_mb: int = Field(
        default=10,
        ge=1,
        le=10_000,
        validation_alias="WEGENT_EXECUTOR_LOG_MAX_SIZE",
        description="Size in MB at which the log file is rotated",
    )
    log_backup_count: int = Field(
        default=5,
        ge=1,
        le=1_000,
        validation_alias="WEGENT_EXECUTOR_LOG_BACKUP_COUNT",
        description="How many rotated log files are kept",
    )
    log_level: Annotated[LogLevel, one_of(*get_args(LogLevel))] = Field(
        default="INFO",
        validation_alias="LOG_LEVEL",
        description="Lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`",
    )
    log_format: Annotated[Literal["text", "json"], one_of("text", "json")] = Field(
        default="text",
        validation_alias="LOG_FORMAT",
        description="`text`, or `json` for one JSON object per line",
    )

    # --- The connection ---
    heartbeat_interval_s: Seconds = Field(
        default=30,
        validation_alias="LOCAL_HEARTBEAT_INTERVAL",
        description="Seconds between heartbeats, unless the backend says otherwise",
    )
    heartbeat_timeout_s: Seconds = Field(
        default=90,
        validation_alias="LOCAL_HEARTBEAT_TIMEOUT",
        description="Seconds without a heartbeat before connecting anew, at least two intervals",
    )
    reconnect_delay_s: Seconds = Field(
        default=1,
        validation_alias="LOCAL_RECONNECT_DELAY",
        description="Seconds before the first attempts to connect again",
    )
    reconnect_max_delay_s: Seconds = Field(
        default=30,
        validation_alias="LOCAL_RECONNECT_MAX_DELAY",
        description="Longest pause in seconds between attempts to connect",
    )

    # --- Runs ---
    max_concurrent_tasks: int = Field(
        default=4,
        ge=1,
        le=1_000,
        validation_alias="LOCAL_MAX_CONCURRENT_TASKS",
        description="How many runs are carried out at the same time",
    )
    queue_limit: int = Field(
        default=100,
        ge=0,
        le=100_000,
        validation_alias="LOCAL_QUEUE_LIMIT",
        description="How many accepted runs may wait for a place; more are refused as `busy`",
    )
    task_timeout_s: Seconds = Field(
        default=3600,
        validation_alias="TASK_TIMEOUT_SECONDS",
        description="Seconds that a run may take, unless its request says otherwise",
    )
    user_input_timeout_s: SecondsOrZero = Field(
        default=600,
        validation_alias="USER_INPUT_TIMEOUT_SECONDS",
        description="Seconds that an agent waits for its user's answer; `0`: nobody is asked",
    )
    stall_timeout_s: Seconds = Field(
        default=600,
        validation_alias="TASK_STALL_TIMEOUT_SECONDS",
        description="Seconds without a sign of life, from the agent or its tools, until a run is "
        "interrupted; it goes on once",
    )
    clone_timeout_s: Seconds = Field(
        default=600,
        validation_alias="LOCAL_CLONE_TIMEOUT_SECONDS",
        description="Seconds that a clone or fetch may take",
    )
    allow_local_repositories: bool = Field(
        default=False,
        validation_alias="LOCAL_ALLOW_LOCAL_REPOSITORIES",
        description="Whether requests may name repositories on this machine (`file://`)",
    )
    permission_mode: Annotated[LocalPermissionMode, one_of(*_PERMISSION_MODES)] = Field(
        default="unattended",
        validation_alias="LOCAL_PERMISSION_MODE",
        description="`unattended` (agents may do all inside the workspace), or a mode of Claude's",
    )
    isolation: Annotated[LocalIsolation, one_of(*get_args(LocalIsolation))] = Field(
        default="auto",
        validation_alias="LOCAL_ISOLATION",
        description="`sandbox` (commands are confined, or tasks refused), `none`, or `auto`: "
        "`sandbox` where it works, otherwise `none` with a warning",
    )
    sandbox_allowed_hosts: Hosts | None = Field(
        default=None,
        validation_alias="LOCAL_SANDBOX_ALLOWED_HOSTS",
        description="Hosts that sandboxed tasks may reach, like `pypi.org, *.example.com`; the "
        "repository's and the model API's when not set",
    )
    trust_repo_settings: bool = Field(
        default=False,
        validation_alias="LOCAL_TRUST_REPO_SETTINGS",
        description="Whether a repository's own Claude settings, hooks and MCP servers are loaded; "
        "they run outside of any sandbox",
    )
    shutdown_grace_s: SecondsOrZero = Field(
        default=30,
        validation_alias="LOCAL_SHUTDOWN_GRACE_SECONDS",
        description="Seconds that runs get to finish when the executor is told to stop",
    )

    # --- Claude Code ---
    anthropic_api_key: Token | None = Field(
        default=None,
        validation_alias="ANTHROPIC_API_KEY",
        description="API key, for requests without one; your own `claude` login when not set",
    )
    anthropic_auth_token: Token | None = Field(
        default=None,
        validation_alias="ANTHROPIC_AUTH_TOKEN",
        description="Bearer token for the API, instead of a key",
    )
    anthropic_base_url: Annotated[str, url("http", "https")] | None = Field(
        default=None,
        validation_alias="ANTHROPIC_BASE_URL",
        description="Address of the API; the executor's key goes there and nowhere else",
    )
    anthropic_model: str | None = Field(
        default=None,
        validation_alias="ANTHROPIC_MODEL",
        description="Model, for requests that name none",
    )
    claude_path: AbsolutePath | None = Field(
        default=None,
        validation_alias="WEGENT_CLAUDE_PATH",
        description="The `claude` program; when not set, the one that comes with the executor, or "
        "one on `PATH` or in the usual places",
    )
    claude_session_idle_s: SecondsOrZero = Field(
        default=300,
        validation_alias="CLAUDE_SESSION_IDLE_SECONDS",
        description="Seconds that an idle Claude process is kept for the next message",
    )
    claude_max_warm_sessions: int = Field(
        default=3,
        ge=0,
        le=1_000,
        validation_alias="CLAUDE_MAX_WARM_SESSIONS",
        description="How many idle Claude processes are kept; each takes about 225 MB",
    )
    skill_clear_cache: bool = Field(
        default=True,
        validation_alias="SKILL_CLEAR_CACHE",
        description="Whether the cache of skills is emptied at start",
    )

    @model_validator(mode="after")
    def _times_fit_together(self) -> Self:
        problems = []
        if self.heartbeat_timeout_s < 2 * self.heartbeat_interval_s:
            problems.append(
                "LOCAL_HEARTBEAT_TIMEOUT: must be at least twice LOCAL_HEARTBEAT_INTERVAL, "
                "or one lost heartbeat ends the connection"
            )
        if self.reconnect_max_delay_s < self.reconnect_delay_s:
            problems.append(
                "LOCAL_RECONNECT_MAX_DELAY: must not be smaller than LOCAL_RECONNECT_DELAY"
            )
        if problems:
            raise PydanticCustomError(_MISFIT, "{problems}", {"problems": "\n".join(problems)})
        return self

    @property
    def secrets(self) -> list[str]:
        """The values that no log may show."""
        held = (self.auth_token, self.anthropic_api_key, self.anthropic_auth_token)
        return [secret.get_secret_value() for secret in held if secret is not None]


def load_settings(instead: Mapping[str, Any] | None = None) -> ExecutorSettings:
    """Read the settings of this process.

    Args:
        instead: Values that count more than what is set, by the names of the variables.

    Raises:
        ConfigError: Lists every variable that is missing or wrong, with the reason and the fix.
    """
    file = executor_home() / CONFIG_FILE
    try:
        settings = ExecutorSettings(_env_file=file, **(instead or {}))
    except ValidationError as exc:
        raise _explained(exc.errors(include_url=False, include_input=False), file) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise unreadable(file, exc) from None
    if settings.home != file.parent:
        raise ConfigError(
            f"{HOME_VARIABLE}: {file} names another folder than the one it is in",
            hint=f"remove it there and set it in the environment: export {HOME_VARIABLE}=<folder>",
        )
    return settings


def unreadable(file: Path, exc: OSError | UnicodeDecodeError) -> ConfigError:
    """The error to raise when ``config.env`` cannot be read."""
    return ConfigError(
        f"{file} cannot be read: {exc.strerror if isinstance(exc, OSError) else 'not UTF-8'}",
        hint="every line is KEY=value",
    )


def exposed_config_file(home: Path) -> Path | None:
    """Return the config file if others than its owner may read it, ``None`` when all is well."""
    file = home / CONFIG_FILE
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    return file if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) else None


def _explained(errors: list[ErrorDetails], file: Path) -> WrongSettings:
    """One error for all that is wrong: variables, reasons and fixes, never a value."""
    errors = [error for error in errors if error["type"] != _CONSEQUENCE]
    where = f"set them in the environment, or as KEY=value lines in {file}"
    variables = frozenset(
        name for error in errors for name in ([str(error["loc"][0])] if error["loc"] else _TIMES)
    )
    if docker := next((error for error in errors if error["type"] == _DOCKER), None):
        return WrongSettings([Problem(f"EXECUTOR_MODE: {docker['msg']}")], variables, hint=where)
    if any(error["type"] == "missing" for error in errors):
        where += "; this version has local mode only, docker mode comes later"
    problems = [problem for error in errors for problem in _problems(error)]
    return WrongSettings(problems, variables, hint=where)


def _problems(error: ErrorDetails) -> Iterator[Problem]:
    if error["type"] == _MISFIT:
        yield from map(Problem, error["msg"].split("\n"))
        return
    variable = str(error["loc"][0])
    value = _example(variable)
    example = None if value is None else f"{variable}={value}"
    if error["type"] == "missing":
        yield Problem(f"{variable} is not set", example, missing=True)
        return
    reason = error["msg"].removeprefix("Value error, ")
    yield Problem(f"{variable}: {reason[:1].lower()}{reason[1:]}", example)


def _example(variable: str) -> str | None:
    if variable in EXAMPLES:
        return EXAMPLES[variable]
    for field in ExecutorSettings.model_fields.values():
        if field.validation_alias == variable and field.default not in {None, PydanticUndefined}:
            return str(field.default).lower() if field.annotation is bool else str(field.default)
    return None
