"""The settings of docker mode."""

from __future__ import annotations

import ipaddress
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from executor.config.settings import (
    ExecutorSettings,
    LogLevel,
    Mode,
    misfit,
    mode_field,
    revealed,
)
from executor.config.types import (
    Directory,
    JsonObject,
    Token,
    TokenFile,
    read_token,
    url,
)
from shared.protocol.credentials import named_credentials

LOOPBACK: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  behind a token only


def _check_session(session_id: str) -> str:
    # Imported when it is needed: most commands only look at the settings.
    from shared.protocol.execution import check_id

    return str(check_id(session_id))


class DockerSettings(ExecutorSettings):
    """Settings of an executor that serves HTTP, in a container or without one."""

    mode: Mode = mode_field("docker")

    # --- Who is served, and where ---
    port: int = Field(
        default=10001,
        ge=0,
        le=65_535,
        validation_alias="PORT",
        description="Port of the HTTP service; `0`: any that is free",
    )
    api_token: Token | None = Field(
        default=None,
        validation_alias="EXECUTOR_API_TOKEN",
        description="Token that callers have to show; without one only this machine is served",
    )
    api_token_file: TokenFile | None = Field(
        default=None,
        validation_alias="EXECUTOR_API_TOKEN_FILE",
        description="File with that token, instead of the token itself",
    )
    host: str = Field(
        default_factory=lambda data: (
            EVERYWHERE if data.get("api_token") or data.get("api_token_file") else LOOPBACK
        ),
        validation_alias="HOST",
        description="Address to listen on; `0.0.0.0` when there is a token",
    )
    executor_name: str | None = Field(
        default=None,
        validation_alias="EXECUTOR_NAME",
        max_length=200,
        description="Name of this executor, shown by `/health`",
    )
    executor_namespace: str | None = Field(
        default=None,
        validation_alias="EXECUTOR_NAMESPACE",
        max_length=200,
        description="Namespace of this executor, shown by `/health`",
    )
    user_id: str | None = Field(
        default=None,
        validation_alias="USER_ID",
        max_length=200,
        description="Whose tasks these are; logged with each",
    )
    session_id: Annotated[str, AfterValidator(_check_session)] | None = Field(
        default=None,
        validation_alias="SESSION_ID",
        description="The only session that is served; any when not set",
    )

    # --- Where things lie ---
    workspace_root: Directory = Field(
        default=Path("/workspace"),
        validation_alias="WORKSPACE_ROOT",
        description="Where each session has a folder: `{task_id}`",
    )
    workspace_path: Directory | None = Field(
        default=None,
        validation_alias="WORKSPACE_PATH",
        description="The folder of the only session that is served, instead of `WORKSPACE_ROOT`",
    )

    # --- Callbacks ---
    callback_url: Annotated[str, url("http", "https")] | None = Field(
        default=None,
        validation_alias="CALLBACK_URL",
        description="Where events of tasks are posted that name no address of their own",
    )
    callback_token: Token | None = Field(
        default=None,
        validation_alias="CALLBACK_TOKEN",
        description="Token for `CALLBACK_URL`; goes to no other place",
    )

    # --- Tasks ---
    task_info: JsonObject | None = Field(
        default=None,
        validation_alias="TASK_INFO",
        description="A task to carry out at the start, as JSON; when it says "
        "`exit_on_completion`, its verdict ends the executor",
    )
    agent_variables: JsonObject | None = Field(
        default=None,
        validation_alias="EXECUTOR_ENV",
        description="Variables for the agents of every task, as JSON; a task's own count more",
    )
    default_model: str | None = Field(
        default=None,
        validation_alias="DEFAULT_MODEL",
        description="Model, for requests that name none; counts more than `ANTHROPIC_MODEL`",
    )

    # --- What is told ---
    debug: bool = Field(
        default=False,
        validation_alias="DEBUG",
        description="Whether everything is logged, as with `LOG_LEVEL=DEBUG`",
    )
    debug_run: bool = Field(
        default=False,
        validation_alias="DEBUG_RUN",
        description="The same",
    )

    @model_validator(mode="after")
    def _nobody_is_served_without_a_token(self) -> Self:
        problems, variables = [], []
        if self.api_token is not None and self.api_token_file is not None:
            problems.append("EXECUTOR_API_TOKEN_FILE: there is an EXECUTOR_API_TOKEN, too")
            variables += ["EXECUTOR_API_TOKEN_FILE"]
        if self.token is None and not _is_loopback(self.host):
            problems.append(
                "HOST: without a token only this machine is served; set EXECUTOR_API_TOKEN, or "
                f"HOST={LOOPBACK}"
            )
            variables += ["HOST"]
        if problems:
            raise misfit(problems, *variables)
        return self

    @cached_property
    def token(self) -> SecretStr | None:
        """What callers have to show; ``None``: nothing, and only this machine is served.

        Reads the file when it is used for the first time.
        """
        if self.api_token is not None or self.api_token_file is None:
            return self.api_token
        return read_token(self.api_token_file)

    @property
    def state_file(self) -> Path:
        """What outlives the process, apart from what local mode keeps in the same home."""
        return self.home / "docker.db"

    @property
    def only_session_dir(self) -> Path | None:
        """The folder of the only session that is served; ``None``: each has its own."""
        return self.workspace_path

    @property
    def state_in_sessions(self) -> bool:
        """The directory outlives the container, and so does the conversation in it."""
        return True

    @property
    def lowest_level(self) -> LogLevel:
        """The lowest level that is logged."""
        return "DEBUG" if self.debug or self.debug_run else self.log_level

    @property
    def model(self) -> str | None:
        """The model for requests that name none; ``None``: Claude Code's own default."""
        return self.default_model or self.anthropic_model

    @property
    def first_task(self) -> dict[str, Any] | None:
        """What is to be carried out at the start, as it was given; ``None``: nothing."""
        return _object(self.task_info)

    @property
    def variables_of_agents(self) -> dict[str, Any]:
        """What agents of every task get, as it was given."""
        return _object(self.agent_variables) or {}

    @property
    def secrets(self) -> list[str]:
        """The values that no log may show."""
        held = (self.token, self.callback_token)
        return [*revealed(*held), *named_credentials(self.variables_of_agents), *super().secrets]


def _object(json_object: SecretStr | None) -> dict[str, Any] | None:
    if json_object is None:
        return None
    found: dict[str, Any] = json.loads(json_object.get_secret_value())
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
