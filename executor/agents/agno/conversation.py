"""What a conversation has been so far: a private file of its own, so that a restart resumes it.

Kept are the messages of the leader, or of the only agent. What members say reaches it as results of
its tools; they themselves remember nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shared.logging import get_logger
from shared.private_files import make_private_directory, write_private_file

logger = get_logger("agno_agent")

MAX_REMEMBERED_CHARS: Final = 400_000
"""Of encoded messages, pictures apart; beyond it the oldest turns are forgotten. About half the
context of the models that have 200,000 tokens of it."""

KEPT_S: Final = 30 * 24 * 3600
"""How long a conversation that nobody continues is kept; as long as Claude Code keeps its own."""

Message = Mapping[str, Any]
"""As agno writes a message down."""


@dataclass(slots=True)
class Conversation:
    """One conversation; its methods that touch the disk block."""

    file: Path
    session: str
    """The session that it belongs to; another one cannot continue it."""
    turns: list[list[Message]] = field(default_factory=list)
    cost_usd: float = 0.0
    """Of all its turns whose prices were known, forgotten ones included."""

    @property
    def id(self) -> str:
        """Its id, the same for as long as it lasts."""
        return self.file.stem

    @property
    def messages(self) -> list[Message]:
        """All of it, oldest first."""
        return [message for turn in self.turns for message in turn]

    @classmethod
    def begin(cls, folder: Path, session: str) -> Conversation:
        """A new one; written down at once, so that its id can be continued from now on."""
        make_private_directory(folder)
        conversation = cls(folder / f"{uuid.uuid4()}.json", session)
        conversation.save()
        return conversation

    @classmethod
    def find(cls, folder: Path, session: str, conversation_id: str) -> Conversation | None:
        """The one with that id; ``None``: there is none, or it is another session's."""
        file = folder / f"{conversation_id}.json"
        try:
            raw = json.loads(file.read_bytes())
            if raw["session"] != session:
                return None
            return cls(
                file,
                session,
                [[dict(message) for message in turn] for turn in raw["turns"]],
                float(raw.get("cost_usd", 0.0)),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save_unfinished(self, turn: Sequence[Message], cost_usd: float) -> None:
        """Write down how far the turn in progress is, for a process that goes on from there.

        Raises:
            OSError: It cannot be written.
        """
        self._write([*self.turns, turn], self.cost_usd + cost_usd)

    def add(self, turn: Sequence[Message], cost_usd: float = 0.0) -> None:
        """Remember one more turn; when it gets too long, forget earlier pictures, then turns."""
        self.cost_usd += cost_usd
        if sum(map(_size, [*self.turns, turn])) > MAX_REMEMBERED_CHARS:
            self.turns = [_without_pictures(old) for old in self.turns]
        self.turns.append(list(turn))
        sizes = [_size(_without_pictures(turn)) for turn in self.turns]
        while len(self.turns) > 1 and sum(sizes) > MAX_REMEMBERED_CHARS:
            del self.turns[0], sizes[0]

    def save(self) -> None:
        """Write it down.

        Raises:
            OSError: It cannot be written.
        """
        self._write(self.turns, self.cost_usd)

    def _write(self, turns: Sequence[Sequence[Message]], cost_usd: float) -> None:
        kept = {"session": self.session, "turns": turns, "cost_usd": cost_usd}
        write_private_file(self.file, json.dumps(kept, default=str))


def _size(turn: Sequence[Message]) -> int:
    return len(json.dumps(turn, default=str))


def _without_pictures(turn: Sequence[Message]) -> list[Message]:
    return [
        {**message, "images": None, "content": message.get("content") or "(a picture)"}
        if message.get("images")
        else message
        for message in turn
    ]


def forget_old(folder: Path, *, now: float | None = None) -> None:
    """Delete conversations that nobody has continued for long. Blocks."""
    limit = (time.time() if now is None else now) - KEPT_S
    for file in folder.glob("*.json"):
        with suppress(OSError):
            if file.stat().st_mtime < limit:
                file.unlink()
                logger.info("forgot an old conversation", conversation=file.stem)
