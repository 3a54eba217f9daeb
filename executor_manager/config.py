"""Settings of one manager process: environment over ``{MANAGER_HOME}/manager.env`` over defaults.

Every name carries the prefix. Bare ``HOST`` or ``DATABASE_URL`` are set by shells and by other
programs for their own purposes, and would open this one to the network or fill their database.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.errors import ConfigError

PREFIX: Final = "MANAGER_"
ENV_FILE: Final = "manager.env"

MIN_TOKEN_LENGTH: Final = 16
"""Shorter tokens can be guessed; generated ones have 43 characters."""

_PLACEHOLDERS: Final = ("change-this", "changeme", "change-me", "your-", "example", "placeholder")


def _check_token(token: SecretStr) -> SecretStr:
    value = token.get_secret_value()
    if len(value) < MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters")
    if any(text in value.lower() for text in _PLACEHOLDERS):
        raise ValueError("is a placeholder from an example")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without spaces")
    return token


Token = Annotated[SecretStr, AfterValidator(_check_token)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class ManagerSettings(BaseSettings):
    """What the operator decides. Built by :func:`load_settings` only; passed on as values."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".wegent-executor-manager")
    """Keeps the database, the tokens and the logs; mode 0700."""
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8001, ge=0, le=65535)
    """0: any free port; the line on stdout says which."""
    database_url: str = ""
    """Empty: ``manager.db`` in the home, by SQLite."""
    api_token: Token | None = None
    """What callers of the HTTP API present. ``None``: generated and kept in the home."""
    executor_token: Token | None = None
    """What executors present. ``None``: generated and kept in the home."""
    log_level: Annotated[
        LogLevel, BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = "INFO"
    log_format: Literal["text", "json"] = "text"
    heartbeat_interval: float = Field(default=10, gt=0, allow_inf_nan=False)
    """Seconds between an executor's heartbeats; granted at its registration."""
    heartbeat_timeout: float = Field(default=30, gt=0, allow_inf_nan=False)
    """Seconds without a heartbeat after which a lease ends."""
    lost_after_seconds: float = Field(default=86400, gt=0, allow_inf_nan=False)
    """How long an unreachable run may come back; as long as an executor's outbox holds."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))  # noqa: PTH100 - without following links

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url and not url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError("must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://")
        return url

    @model_validator(mode="after")
    def _timeout_outlives_a_missed_beat(self) -> Self:
        if self.heartbeat_timeout < 2 * self.heartbeat_interval:
            raise ValueError(
                "MANAGER_HEARTBEAT_TIMEOUT must be at least twice MANAGER_HEARTBEAT_INTERVAL, "
                "or one lost heartbeat ends a lease"
            )
        return self

    @property
    def store_url(self) -> str:
        """The database as SQLAlchemy names it."""
        return self.database_url or f"sqlite+aiosqlite:///{quote(str(self.home / 'manager.db'))}"

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def load_settings() -> ManagerSettings:
    """Read the environment and the home's ``manager.env``.

    Raises:
        ConfigError: A value is wrong; names the variable and the reason, never the value.
    """
    home = os.environ.get(f"{PREFIX}HOME") or str(Path.home() / ".wegent-executor-manager")
    try:
        return ManagerSettings(
            _env_file=Path(home).expanduser() / ENV_FILE, _env_file_encoding="utf-8"
        )
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise ConfigError(
            "; ".join(_explain(error) for error in errors),
            hint=f"correct it in the environment or in {Path(home) / ENV_FILE}",
        ) from None
    except (OSError, UnicodeDecodeError, SettingsError) as exc:
        raise ConfigError(
            f"{Path(home) / ENV_FILE} cannot be read: {type(exc).__name__}",
            hint="it must be a UTF-8 text file of NAME=value lines that this user may read",
        ) from None


def _explain(error: ErrorDetails) -> str:
    name = "_".join(str(part) for part in error["loc"]).upper()
    reason = error["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{name}: {reason}" if name else reason
