"""What the scripted model remembers of each request, so that tests can ask what reached the API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from scripts.scripted_request import Conversation

MAX_TEXT = 40_000
"""Characters kept of one text; of a longer one the middle is left out."""

Kind = Literal["turn", "side", "count_tokens", "other"]
Auth = Literal["x-api-key", "bearer", "none"]


@dataclass
class RecordedRequest:
    """One request; the fields from ``outcome`` on are filled in while it is answered."""

    method: str
    path: str
    kind: Kind
    """``turn``: a step of the agent; ``side``: a title, summary or quota check."""
    auth: Auth
    key_fingerprint: str
    """:func:`fingerprint` of the key or token that was sent; empty when there was none."""
    received_at: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds")
    )
    model: str = ""
    session_id: str = ""
    stream: bool = False
    system: str = ""
    tools: tuple[str, ...] = ()
    deferred_tools: tuple[str, ...] = ()
    prompt: str = ""
    """The user's last prompt, without what the CLI adds to it."""
    last_tool_result: str = ""
    cwd: str = ""
    scenario: str = ""
    step: int = 0
    outcome: str = ""
    """Empty while running, then ``answered``, ``error 529``, ``stream error overloaded_error``,
    ``cut`` or ``client left``."""
    first_byte_ms: int | None = None
    duration_ms: int | None = None

    def describe(self, conversation: Conversation) -> None:
        """Copy what a Messages API request says."""
        self.model = conversation.model
        self.session_id = conversation.session_id
        self.stream = conversation.stream
        self.system = _capped(conversation.system)
        self.tools = conversation.tools
        self.deferred_tools = conversation.deferred_tools
        self.prompt = _capped(conversation.prompt)
        self.last_tool_result = _capped(conversation.last_tool_result)
        self.cwd = conversation.cwd
        self.step = conversation.turn
        self.kind = "turn" if conversation.side_answer is None else "side"

    def line(self) -> str:
        """One line for the log."""
        took = "" if self.duration_ms is None else f" in {self.duration_ms} ms"
        what = f" {self.scenario!r} step {self.step}" if self.scenario else ""
        return f"{self.method} {self.path} {self.kind}{what}: {self.outcome}{took}"


def fingerprint(key: str) -> str:
    """Short SHA-256 of a key: tells keys apart without showing them."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def record_request(
    method: str, path: str, headers: Mapping[str, str], kind: Kind
) -> RecordedRequest:
    """Begin a record; *headers* must look up names in any case."""
    auth: Auth = "none"
    key = headers.get("x-api-key", "")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if key:
        auth = "x-api-key"
    elif scheme.lower() == "bearer":
        auth, key = "bearer", token
    return RecordedRequest(
        method=method,
        path=path[:200],
        kind=kind,
        auth=auth,
        key_fingerprint=fingerprint(key) if key else "",
    )


def _capped(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[{len(text) - MAX_TEXT} characters left out]\n{text[-half:]}"
