"""Reads the settings of this process, and explains what is wrong with them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from executor.config.broken_lines import broken_lines
from executor.config.home import HOME_VARIABLE, executor_home
from executor.config.problems import Problem, WrongSettings
from executor.config.settings import MISFIT
from shared.errors import ConfigError

if TYPE_CHECKING:
    from executor.config.docker import DockerSettings
    from executor.config.local import LocalSettings

CONFIG_FILE: Final = "config.env"

EXAMPLES: Final = {
    "WEGENT_BACKEND_URL": "http://localhost:8001",
    "WEGENT_AUTH_TOKEN": "your-auth-token",
    "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
    "CALLBACK_URL": "http://localhost:8001/api/v1/callback",
    "EXECUTOR_ENV": "'{}'",
    "TASK_INFO": """'{"task_id": 1, "subtask_id": 1, "prompt": "Say hello"}'""",
}
"""What a message suggests for variables that have no default."""

Settings: TypeAlias = "LocalSettings | DockerSettings"

_CONSEQUENCE: Final = "default_factory_not_called"
"""What pydantic says of a default that depends on others, when any is wrong."""


class _Signs(BaseSettings):
    """What tells the mode. Not checked here: the settings of the mode do that."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, str_strip_whitespace=True
    )

    mode: str = Field(default="", validation_alias="EXECUTOR_MODE")
    backend_url: str = Field(default="", validation_alias="WEGENT_BACKEND_URL")
    # Whoever sets a backend's token wants its backend, and is told what else that needs.
    auth_token: str = Field(default="", validation_alias="WEGENT_AUTH_TOKEN")


def load_settings(instead: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of this process, for the mode that they tell.

    Args:
        instead: Values that count more than what is set, by the names of the variables.

    Raises:
        ConfigError: Lists every variable that is missing or wrong, with the reason and the fix.
    """
    file = executor_home() / CONFIG_FILE
    kind = told_mode()
    try:
        settings = kind(_env_file=file, **(instead or {}))
    except ValidationError as exc:
        raise _explained(kind, exc.errors(include_url=False, include_input=False), file) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise unreadable(file, exc) from None
    if settings.home != file.parent:
        raise ConfigError(
            f"{HOME_VARIABLE}: {file} names another folder than the one it is in",
            hint=f"remove it there and set it in the environment: export {HOME_VARIABLE}=<folder>",
        )
    return settings


def told_mode() -> type[Settings]:
    """The settings of the mode that the environment and ``config.env`` tell.

    Raises:
        ConfigError: The file cannot be read.
    """
    file = executor_home() / CONFIG_FILE
    try:
        signs = _Signs(_env_file=file)
    except (OSError, UnicodeDecodeError) as exc:
        raise unreadable(file, exc) from None
    mode = signs.mode.lower()
    if mode not in {"local", "docker"}:  # a wrong word is refused when the settings are read
        mode = "local" if signs.backend_url or signs.auth_token else "docker"
    if mode == "local":  # only those of the mode: making both takes 5 ms of every start
        from executor.config.local import LocalSettings

        return LocalSettings
    from executor.config.docker import DockerSettings

    return DockerSettings


def variables_of(kind: type[Settings]) -> dict[str, str]:
    """The names of a mode's variables, and of their attributes; those that only it has first."""
    own = [name for name in kind.__annotations__ if name in kind.model_fields]
    names = dict.fromkeys([*own, *kind.model_fields])
    return {str(kind.model_fields[name].validation_alias): name for name in names}


def unreadable(file: Path, exc: OSError | UnicodeDecodeError) -> ConfigError:
    """The error to raise when ``config.env`` cannot be read."""
    if isinstance(exc, UnicodeDecodeError):
        return ConfigError(f"{file} cannot be read: not UTF-8", hint="every line is KEY=value")
    hint = f"let this user read it, or name another home: export {HOME_VARIABLE}=<folder>"
    return ConfigError(f"{file} cannot be read: {exc.strerror}", hint=hint)


def exposed_config_file(home: Path) -> Path | None:
    """Return the config file if others than its owner may read it, ``None`` when all is well."""
    file = home / CONFIG_FILE
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    return file if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) else None


def _explained(kind: type[Settings], errors: list[ErrorDetails], file: Path) -> WrongSettings:
    """One error for all that is wrong: variables, reasons and fixes, never a value."""
    order = list(variables_of(kind))
    errors = sorted(
        (error for error in errors if error["type"] != _CONSEQUENCE),
        key=lambda error: order.index(_variables(error)[0]),
    )
    variables = frozenset(name for error in errors for name in _variables(error))
    where = f"set them in the environment, or as KEY=value lines in {file}"
    if any(error["type"] == "missing" for error in errors):
        where += "; or serve HTTP instead of connecting to a backend: EXECUTOR_MODE=docker"
    for line in broken_lines(file):  # perhaps what is missing was meant there
        where += f"; {line}"
    problems = [problem for error in errors for problem in _problems(kind, error)]
    return WrongSettings(problems, variables, hint=where)


def _variables(error: ErrorDetails) -> tuple[str, ...]:
    if error["type"] == MISFIT:
        variables: tuple[str, ...] = error["ctx"]["variables"]
        return variables
    return (str(error["loc"][0]),)


def _problems(kind: type[Settings], error: ErrorDetails) -> Iterator[Problem]:
    if error["type"] == MISFIT:
        yield from map(Problem, error["msg"].split("\n"))
        return
    variable = str(error["loc"][0])
    value = _example(kind, variable)
    example = None if value is None else f"{variable}={value}"
    if error["type"] == "missing":
        yield Problem(f"{variable} is not set", example, missing=True)
        return
    reason = error["msg"].removeprefix("Value error, ")
    yield Problem(f"{variable}: {reason[:1].lower()}{reason[1:]}", example)


def _example(kind: type[Settings], variable: str) -> str | None:
    if variable in EXAMPLES:
        return EXAMPLES[variable]
    for field in kind.model_fields.values():
        if field.validation_alias == variable and field.default not in {None, PydanticUndefined}:
            return str(field.default).lower() if field.annotation is bool else str(field.default)
    return None
