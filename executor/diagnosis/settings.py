"""Are the settings right? And what they are, for the other checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.config.broken_lines import broken_lines
from executor.config.loading import Settings
from executor.config.problems import Problem
from executor.config.sources import SettingSources, load_right_settings
from executor.diagnosis import remedies
from executor.diagnosis.finding import Finding, failed, ok, warning
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
    settings: Settings | None
    wrong: frozenset[str] = frozenset()


def read_settings() -> SettingsRead:
    """Load the settings; never raises. Reads files: not for the event loop."""
    try:
        settings, wrong = load_right_settings()
        sources = SettingSources.read()
    except ConfigError as exc:
        return SettingsRead([failed(CHECK, exc.message, exc.hint)], None)
    broken = [_broken(line) for line in broken_lines(sources.file)]
    unknown = [_unknown(name, sources.file) for name in sources.unknown]
    if wrong is not None:
        problems = [_wrong(problem) for problem in wrong.problems]
        return SettingsRead([*broken, *problems, *unknown], settings, wrong.variables)
    there = sources.file.is_file()
    source = f"and {sources.file}" if there else f"alone: there is no {sources.file}"
    complete = ok(CHECK, f"complete, from the environment {source}")
    return SettingsRead([complete, *broken, *unknown], settings)


def _broken(line: str) -> Finding:
    return warning(CHECK, line, "correct it, or put a # before it")


def _unknown(name: str, file: Path) -> Finding:
    what = f"{name} in {file} is not a setting of the executor, and has no effect on it"
    return warning(CHECK, what, "correct its name, or remove it")


def _wrong(problem: Problem) -> Finding:
    name, _, example = (problem.example or "").partition("=")
    return failed(CHECK, problem.what, remedies.set_variable(name, example) if name else None)
