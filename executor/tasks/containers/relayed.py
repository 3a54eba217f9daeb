"""What is known of a run by the events that another executor has told of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from executor.tasks.questions import AnswerStanding
from shared.containers.spec import WORKSPACE
from shared.protocol.events import AgentEvent, EventType


class Relayed:
    """One run's events on their way through: where it stands, and paths as they are called here."""

    def __init__(
        self, session_dir: Path, origin: int = 0, open_questions: Collection[str] = ()
    ) -> None:
        """Begin to pass on.

        Args:
            session_dir: What is mounted where the other executor works.
            origin: Of the last event that an earlier process has passed on; 0: none was.
            open_questions: Whom that has asked without an answer, by their ids.
        """
        self.origin = origin
        self.verdict: AgentEvent | None = None
        self._session_dir = session_dir
        self.refused = False
        """Whether the last that was told is that the model's API has refused the run for now."""
        self._open = set(open_questions)
        self._ended: dict[str, AnswerStanding] = {}
        self._usage: dict[str, int] = {}

    @property
    def asks(self) -> bool:
        """Whether the user is being asked something."""
        return bool(self._open)

    def standing(self, request_id: str) -> AnswerStanding | None:
        """What an answer to a question is told by what is known here; ``None``: it is open."""
        if request_id in self._open:
            return None
        return self._ended.get(request_id, "unknown_request")

    def answered(self, request_id: str) -> None:
        """The user's answer has been taken."""
        self._open.discard(request_id)
        self._ended[request_id] = "accepted"

    def close_questions(self) -> None:
        """Nobody waits for answers any more."""
        self._ended |= dict.fromkeys(self._open, "expired")
        self._open.clear()

    def pass_on(self, event: AgentEvent) -> AgentEvent:
        """Take note of the next event; returns it as it is told here."""
        self.origin = event.origin or self.origin
        self.refused = event.type == EventType.WARNING and event.data.get("waits_for") == "api"
        data = event.data
        match event.type:
            case EventType.INPUT_REQUIRED:
                self._open.add(str(data.get("request_id")))
            case EventType.INPUT_RESOLVED:
                self._resolve(str(data.get("request_id")), data.get("outcome"))
            case EventType.LLM_DONE:
                self._count(data.get("usage"))
            case EventType.WORKSPACE_PREPARED:
                event = replace(event, data=self._at_home(data))
            case _ if event.terminal:
                event = self.verdict = replace(event, data=self._with_workspace(data))
            case _:
                pass
        return event

    def account(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """``workspace`` and ``statistics``, of what the other executor has told if it has."""
        return {
            "workspace": self._workspace(told.get("workspace")),
            "statistics": told.get("statistics") or ({"usage": self._usage} if self._usage else {}),
        }

    def _resolve(self, request_id: str, outcome: object) -> None:
        if request_id in self._open:
            self._open.discard(request_id)
            self._ended[request_id] = "expired" if outcome == "expired" else "accepted"

    def _count(self, usage: object) -> None:
        for name, value in usage.items() if isinstance(usage, Mapping) else ():
            if isinstance(value, int) and not isinstance(value, bool):
                self._usage[name] = self._usage.get(name, 0) + value

    def _with_workspace(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if "workspace" not in data:
            return dict(data)
        return {**data, "workspace": self._workspace(data["workspace"])}

    def _workspace(self, workspace: object) -> dict[str, Any] | None:
        return self._at_home(workspace) if isinstance(workspace, Mapping) else None

    def _at_home(self, data: Mapping[str, Any]) -> dict[str, Any]:
        path = data.get("path")
        if not isinstance(path, str) or not PurePosixPath(path).is_relative_to(WORKSPACE):
            return dict(data)
        inside = PurePosixPath(path).relative_to(WORKSPACE)
        return {**data, "path": str(self._session_dir / inside)}
