"""Where each setting comes from, for commands that explain the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from pydantic_core import PydanticUndefined
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from executor.config.docker import DockerSettings
from executor.config.home import HOME_VARIABLE, executor_home
from executor.config.loading import (
    CONFIG_FILE,
    EXAMPLES,
    Settings,
    load_settings,
    told_mode,
    unreadable,
    variables_of,
)
from executor.config.local import LocalSettings
from executor.config.problems import WrongSettings
from executor.config.settings import ExecutorSettings
from executor.network.variables import NETWORK_VARIABLES, adopt
from shared.protocol.credentials import named_credentials

VARIABLES: Final = frozenset(variables_of(LocalSettings) | variables_of(DockerSettings))
"""The names of the variables of all settings, whatever the mode."""


class Source(StrEnum):
    """What has decided a setting."""

    ENVIRONMENT = "environment"
    CONFIG_FILE = "config.env"
    DEFAULT = "default"


class SettingSources:
    """What is set, and where; made by :meth:`read`."""

    def __init__(
        self, file: Path, in_environment: frozenset[str], in_file: Mapping[str, str | None]
    ) -> None:
        self.file = file
        """``config.env``, which need not exist."""
        self._in_environment = in_environment
        self._in_file = in_file

    @classmethod
    def read(cls) -> Self:
        """Look at this process's environment and its ``config.env``.

        Raises:
            ConfigError: The file cannot be read.
        """
        file = executor_home() / CONFIG_FILE
        environment = EnvSettingsSource(ExecutorSettings).env_vars
        try:
            lines = DotEnvSettingsSource(ExecutorSettings, file, case_sensitive=True).env_vars
        except (OSError, UnicodeDecodeError) as exc:
            raise unreadable(file, exc) from None
        return cls(file, frozenset(name.upper() for name in environment), lines)

    def of(self, variable: str) -> Source:
        """What decides *variable*; an empty value does not."""
        if variable in self._in_environment:
            return Source.ENVIRONMENT
        return Source.CONFIG_FILE if self._file_sets(variable) else Source.DEFAULT

    def overridden(self, variable: str) -> bool:
        """Whether ``config.env`` sets *variable* in vain, since the environment does too."""
        return variable in self._in_environment and self._file_sets(variable)

    @property
    def unknown(self) -> list[str]:
        """What ``config.env`` sets and is no setting: it has no effect, unless a shell reads it."""
        return sorted(
            name
            for name in self._in_file
            if name.upper() not in VARIABLES and name.upper() not in NETWORK_VARIABLES
        )

    def meant_by(self, unknown: str) -> str | None:
        """The setting whose name is much like *unknown*; ``None``: there is none."""
        close = get_close_matches(unknown.upper(), VARIABLES, n=1, cutoff=0.8)
        return close[0] if close else None

    @property
    def network(self) -> dict[str, tuple[str, Source]]:
        """The variables of the network that are set, with logins in them, and where."""
        environ = dict(os.environ)
        adopt(self.file, environ)
        return {
            name: (value, Source.ENVIRONMENT if os.environ.get(name) else Source.CONFIG_FILE)
            for name, value in sorted(environ.items())
            if value and name.upper() in NETWORK_VARIABLES
        }

    @property
    def credentials(self) -> list[str]:
        """What tells by its name or form that it is one, of this process and in ``config.env``."""
        return [*named_credentials(os.environ), *named_credentials(self._in_file)]

    def _file_sets(self, variable: str) -> bool:
        return any(name.upper() == variable for name in self._in_file)


def load_right_settings() -> tuple[Settings, WrongSettings | None]:
    """The settings as if what is missing or wrong were not set, and what that is.

    What is required and missing has the value of an example.

    Raises:
        ConfigError: Not even that can be read.
    """
    kind = told_mode()
    instead: dict[str, Any] = {}
    wrong: WrongSettings | None = None
    while True:
        try:
            return load_settings(instead), wrong
        except WrongSettings as exc:
            if exc.variables <= instead.keys():
                raise
            wrong = _joined(wrong, exc) if wrong else exc
            instead |= {variable: _default(kind, variable) for variable in exc.variables}


def _joined(first: WrongSettings, then: WrongSettings) -> WrongSettings:
    return WrongSettings(
        [*first.problems, *then.problems],
        first.variables | then.variables,
        hint=first.hint or "",
    )


def _default(kind: type[Settings], variable: str) -> object:
    if variable == HOME_VARIABLE:
        return executor_home()
    field = kind.model_fields[variables_of(kind)[variable]]
    if field.is_required():
        return EXAMPLES[variable]
    default = field.get_default(call_default_factory=True, validated_data={"home": executor_home()})
    return None if default is PydanticUndefined else default
