"""Are the settings right? And what they are, for the other checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.config.broken_lines import broken_lines
from executor.config.loading import Settings
from executor.config.local import LocalSettings
from executor.config.problems import Problem
from executor.config.sources import SettingSources, Source, load_right_settings
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
    unknown = [_unknown(name, sources) for name in sources.unknown]
    if wrong is not None:
        problems = [_wrong(problem, sources) for problem in wrong.problems]
        return SettingsRead([*broken, *problems, *unknown], settings, wrong.variables)
    return SettingsRead([_complete(settings, sources), *broken, *unknown], settings)


def _complete(settings: Settings, sources: SettingSources) -> Finding:
    there = sources.file.is_file()
    source = f"and {sources.file}" if there else f"alone: there is no {sources.file}"
    if isinstance(settings, LocalSettings):
        mode = "local mode"
    elif sources.of("EXECUTOR_MODE") is Source.DEFAULT:
        mode = "docker mode (for local mode set WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN)"
    else:
        mode = "docker mode"
    return ok(CHECK, f"complete for {mode}, from the environment {source}")


def _broken(line: str) -> Finding:
    return warning(CHECK, line, "correct it, or put a # before it")


def _unknown(name: str, sources: SettingSources) -> Finding:
    what = f"{name} in {sources.file} is not a setting of the executor, and has no effect on it"
    meant = sources.meant_by(name)
    right = f"correct its name (to {meant}?)" if meant else "correct its name"
    return warning(CHECK, what, f"{right}, or remove it")


def _wrong(problem: Problem, sources: SettingSources) -> Finding:
    name, _, example = (problem.example or "").partition("=")
    if name:
        return failed(CHECK, problem.what, remedies.set_variable(name, example))
    return failed(CHECK, problem.what, f"correct it in the environment, or in {sources.file}")
