"""The settings of both modes: environment over ``{home}/config.env`` over defaults.

Of each mode: :mod:`executor.config.local` and :mod:`executor.config.docker`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from executor.config.home import HOME_VARIABLE, default_home
from executor.config.types import (
    AbsolutePath,
    Directory,
    FileName,
    HookClasses,
    Hosts,
    Seconds,
    SecondsOrZero,
    Token,
    one_of,
    url,
)
from shared.protocol.bot import PermissionMode

Mode = Annotated[Literal["local", "docker"], one_of("local", "docker")]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LocalIsolation = Literal["auto", "none", "sandbox", "container"]
LocalPermissionMode = Literal["unattended", PermissionMode]
MISFIT: Final = "misfit"
"""The type of an error about settings that do not fit together; made by :func:`misfit`."""
_PERMISSION_MODES: Final = get_args(LocalPermissionMode)


def misfit(problems: list[str], *variables: str) -> PydanticCustomError:
    """The error of a validator that looks at several settings.

    Args:
        problems: Each is a variable, a colon and what is wrong with it.
        variables: The names of all that have a part in it.
    """
    return PydanticCustomError(
        MISFIT, "{problems}", {"problems": "\n".join(problems), "variables": variables}
    )


def mode_field(default: Literal["local", "docker"]) -> Any:
    """The definition of :attr:`ExecutorSettings.mode` for the settings of mode *default*."""
    return Field(
        default=default,
        validation_alias="EXECUTOR_MODE",
        description="`local` or `docker`; when not set, `local` where `WEGENT_BACKEND_URL` or "
        "`WEGENT_AUTH_TOKEN` is set, and otherwise `docker`",
    )


class ExecutorSettings(BaseSettings):
    """What an executor needs in either mode.

    Built in :mod:`executor.commands` only, by :func:`executor.config.loading.load_settings`. Other
    modules take the values they need as constructor arguments. Whoever builds it by hand names the
    variables, as in ``LocalSettings(LOG_LEVEL="DEBUG")``: were field names accepted too,
    pydantic-settings would take ``HOME`` for :attr:`home`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    mode: Mode
    """Each mode has a default of its own; :func:`mode_field`."""

    # --- Where things lie ---
    home: Directory = Field(
        default_factory=default_home,
        validation_alias=HOME_VARIABLE,
        description="Main folder, with `config.env` in it; read from the environment only",
    )
    workspace_root: Directory
    """Each mode has a variable and a default of its own."""

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
        description="`sandbox` (commands are confined, or tasks refused), `container` (each "
        "session in one, or tasks refused), `none`, or `auto`: `sandbox` where it works, "
        "otherwise `none` with a warning",
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
    openai_api_key: Token | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="API key for agents of `agno` whose models are OpenAI's",
    )
    openai_base_url: Annotated[str, url("http", "https")] | None = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="Address of that API, or of another one that speaks its protocol, `/v1` "
        "included; `OPENAI_API_KEY` goes there and nowhere else",
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

    # --- Hooks ---
    hooks: HookClasses | None = Field(
        default=None,
        validation_alias="WEGENT_HOOKS",
        description="Hooks of your own: `module:Class`, several separated by commas",
    )
    hook_timeout_s: Seconds = Field(
        default=30,
        validation_alias="HOOK_TIMEOUT_SECONDS",
        description="Seconds that one call of a hook may take",
    )
    builtin_hooks: bool = Field(
        default=True,
        validation_alias="WEGENT_BUILTIN_HOOKS",
        description="Whether the Workspace and Todo hooks observe every run",
    )
    s3_bucket: str | None = Field(
        default=None,
        validation_alias="S3_BUCKET",
        description="Bucket that a session's `output/` is uploaded to; nothing is when not set",
    )
    s3_endpoint: Annotated[str, url("http", "https")] | None = Field(
        default=None,
        validation_alias="S3_ENDPOINT",
        description="Address of the object storage; Amazon's when not set",
    )
    s3_access_key: Token | None = Field(
        default=None,
        validation_alias="S3_ACCESS_KEY",
        description="Key for it; what the machine offers, such as its role, when not set",
    )
    s3_secret_key: Token | None = Field(
        default=None,
        validation_alias="S3_SECRET_KEY",
        description="Secret of that key",
    )
    s3_region: str = Field(
        default="us-east-1",
        validation_alias="S3_REGION",
        description="Region of the bucket",
    )
    s3_force_path_style: bool = Field(
        default=True,
        validation_alias="S3_FORCE_PATH_STYLE",
        description="Whether the bucket is a part of the path instead of the host's name",
    )

    @model_validator(mode="after")
    def _storage_is_complete(self) -> Self:
        keys = {"S3_ACCESS_KEY": self.s3_access_key, "S3_SECRET_KEY": self.s3_secret_key}
        missing = [name for name, value in keys.items() if value is None]
        problems = [f"{missing[0]}: is not set, but its other half is"] if len(missing) == 1 else []
        if self.s3_bucket is None and (self.s3_endpoint is not None or len(missing) < len(keys)):
            problems.append("S3_BUCKET: is not set, but other S3_ variables are")
        if problems:
            raise misfit(problems, "S3_BUCKET", "S3_ENDPOINT", *keys)
        return self

    @property
    def state_file(self) -> Path:
        """What outlives the process. Each mode has its own: a backend must not get what others
        have had done here, and a log is no outbox."""
        return self.home / "state.db"

    @property
    def only_session_dir(self) -> Path | None:
        """The folder of the only session that is served; ``None``: each has its own."""
        return None

    @property
    def state_in_sessions(self) -> bool:
        """Whether an agent's own state lies in its session's directory, and not in the home."""
        return False

    @property
    def variables_of_agents(self) -> dict[str, Any]:
        """What agents of every task get, as it was given."""
        return {}

    @property
    def lowest_level(self) -> LogLevel:
        """The lowest level that is logged."""
        return self.log_level

    @property
    def model(self) -> str | None:
        """The model for requests that name none; ``None``: Claude Code's own default."""
        return self.anthropic_model

    @property
    def secrets(self) -> list[str]:
        """The values that no log may show."""
        api = (self.anthropic_api_key, self.anthropic_auth_token, self.openai_api_key)
        return revealed(*api, self.s3_access_key, self.s3_secret_key)


def revealed(*secrets: SecretStr | None) -> list[str]:
    """The values of those that are set."""
    return [secret.get_secret_value() for secret in secrets if secret is not None]
