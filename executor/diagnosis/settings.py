"""Are the settings right? And what they are, for the other checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.config import CONFIG_FILE, ExecutorSettings
from executor.diagnosis import remedies
from executor.diagnosis.finding import Finding, failed, ok
from executor.setting_problems import Problem
from executor.setting_sources import load_right_settings
from shared.errors import ConfigError

CHECK: Final = "settings"


@dataclass(frozen=True, slots=True)
class SettingsRead:
    """The settings, as far as they can be used.

    Attributes:
        settings: With defaults or examples in the place of wrong and missing ones; ``None``: they
            cannot be read at all.
        wrong: The variables whose values are not the operator's.
    """

    findings: list[Finding]
    settings: ExecutorSettings | None
    wrong: frozenset[str] = frozenset()


def read_settings() -> SettingsRead:
    """Load the settings; never raises. Reads files: not for the event loop."""
    try:
        settings, wrong = load_right_settings()
    except ConfigError as exc:
        return SettingsRead([failed(CHECK, exc.message, exc.hint)], None)
    if wrong is not None:
        return SettingsRead([_wrong(one) for one in wrong.problems], settings, wrong.variables)
    file = settings.home / CONFIG_FILE
    source = f"and {file}" if file.is_file() else f"alone: there is no {file}"
    return SettingsRead([ok(CHECK, f"complete, from the environment {source}")], settings)


def _wrong(problem: Problem) -> Finding:
    name, _, example = (problem.example or "").partition("=")
    return failed(CHECK, problem.what, remedies.set_variable(name, example) if name else None)
