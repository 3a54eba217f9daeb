"""What a turn has done with tools: for whoever goes on when it is cut off."""

from __future__ import annotations

import json
from typing import Any, Final

MAX_STEPS: Final = 50
"""The last ones are kept."""

MAX_STEP_CHARS: Final = 1_000
"""Of a step's arguments, and of its result."""


class Steps:
    """The uses of tools of one turn, handing out work included."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], str] = {}

    @property
    def lines(self) -> list[str]:
        """A line or more of each, oldest first; may be read from any thread."""
        return list(self._lines.values())[-MAX_STEPS:]

    def note(self, run_id: str, who: str, tool: Any, result: str) -> None:
        """Take note of agno's *tool* in the run of *who*; its last *result* counts."""
        given = json.dumps(tool.tool_args, ensure_ascii=False, default=str)
        # Ids of calls are unique within a run only.
        self._lines[run_id, str(tool.tool_call_id)] = (
            f"{who}: {tool.tool_name} {given[:MAX_STEP_CHARS]}: {result[:MAX_STEP_CHARS]}"
        )
