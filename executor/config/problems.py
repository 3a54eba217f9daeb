"""What is wrong with the settings, said without showing a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one variable; never its value.

    Attributes:
        what: Its name and the reason: ``LOG_LEVEL: must be …``.
        example: ``LOG_LEVEL=INFO``; ``None`` where there is none to give.
        missing: Whether it has to be set and is not.
    """

    what: str
    example: str | None = None
    missing: bool = False

    def __str__(self) -> str:
        if self.example is None:
            return self.what
        return self.what + (": export " if self.missing else "; for example ") + self.example


class WrongSettings(ConfigError):
    """Variables are missing or wrong.

    Attributes:
        problems: Each of them.
        variables: The names of all that have a part in it.
    """

    def __init__(self, problems: Sequence[Problem], variables: frozenset[str], *, hint: str):
        rows = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(
            str(problems[0])
            if len(problems) == 1
            else f"{len(problems)} settings are missing or wrong:{rows}",
            hint=hint,
        )
        self.problems = tuple(problems)
        self.variables = variables
