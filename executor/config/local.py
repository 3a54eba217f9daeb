"""The settings of local mode."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from executor.config.settings import ExecutorSettings, Mode, misfit, mode_field, revealed
from executor.config.types import Directory, Image, Images, Memory, Seconds, Token, url


class LocalSettings(ExecutorSettings):
    """Settings of an executor that is connected to a backend."""

    mode: Mode = mode_field("local")
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

    workspace_root: Directory = Field(
        default_factory=lambda data: data["home"] / "workspace",
        validation_alias="LOCAL_WORKSPACE_ROOT",
        description="Where repositories are cloned: `{task_id}/{repo_name}`",
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

    # --- Runs in containers ---
    executor_image: Image = Field(
        default="wegent-executor:latest",
        validation_alias="EXECUTOR_IMAGE",
        description="Image of the containers of tasks with `isolation: container`",
    )
    allowed_images: Images = Field(
        default="",
        validation_alias="LOCAL_ALLOWED_IMAGES",
        description="Other images that requests may name, separated by commas",
    )
    max_containers: int = Field(
        default=10,
        ge=1,
        le=1_000,
        validation_alias="MAX_EXECUTOR_CONTAINERS",
        description="How many containers there are at most, idle and warm ones included",
    )
    warm_containers: int = Field(
        default=0,
        ge=0,
        le=100,
        validation_alias="WARM_CONTAINERS",
        description="How many containers are kept ready for new sessions",
    )
    container_memory: Memory = Field(
        default=4 * 2**30,
        validation_alias="CONTAINER_MEMORY",
        description="Memory of a container, such as `512m` or `4g`; there is no swap beyond it",
    )
    container_cpus: float = Field(
        default=2,
        gt=0,
        le=1_024,
        validation_alias="CONTAINER_CPUS",
        description="Cores that a container may use",
    )
    container_pids: int = Field(
        default=1_024,
        ge=16,
        le=1_000_000,
        validation_alias="CONTAINER_PIDS",
        description="Processes and threads that a container may have",
    )
    sandbox_network: str | None = Field(
        default=None,
        validation_alias="SANDBOX_NETWORK",
        max_length=200,
        description="Private Docker network of the containers; their ports are published on "
        "127.0.0.1 when not set",
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
            raise misfit(
                problems,
                "LOCAL_HEARTBEAT_INTERVAL",
                "LOCAL_HEARTBEAT_TIMEOUT",
                "LOCAL_RECONNECT_DELAY",
                "LOCAL_RECONNECT_MAX_DELAY",
            )
        return self

    @property
    def secrets(self) -> list[str]:
        """The values that no log may show."""
        return [*revealed(self.auth_token), *super().secrets]
