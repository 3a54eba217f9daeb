"""Masking of a run's secrets in what it tells: an agent can print its own environment.

Exact values only, in every form in which they travel; what merely looks like a token may be what
the user asked for. A secret that is spread over several deltas of a text is found, too: the end of
a delta that may be the beginning of a secret is held back until it is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.protocol.events import AgentEvent, EventType, Source
from shared.redaction import MASK, forms_of

MIN_SECRET_LENGTH: Final = 8
"""Shorter values are not masked: they occur in ordinary words."""


@dataclass(slots=True)
class _Text:
    """One streamed message."""

    source: Source | None
    told: list[str] = field(default_factory=list)
    length: int = 0
    held: str = ""


class EventMask:
    """Masks the events of one run, in the order in which they are told.

    Args:
        secrets: Values that no event may show.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part for secret in secrets for part in _parts(secret)}
        forms = {form for part in parts for form in forms_of(part)}
        # Longest first: a secret that contains another one must not leave its rest behind.
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._any = re.compile("|".join(map(re.escape, self._forms)))
        self._first = frozenset(form[0] for form in forms)
        self._longest = max(map(len, forms), default=0)
        self._texts: dict[str, _Text] = {}

    def mask(self, event: AgentEvent) -> list[AgentEvent]:
        """*event* without secrets, after what was held back before it."""
        if not self._forms:
            return [event]
        if event.type == EventType.LLM_STREAM:
            return self._stream(event)
        released = [
            chunk
            for message_id, text in self._texts.items()
            if event.terminal or text.source == event.source
            for chunk in self._release(message_id, text)
        ]
        data = {key: self._masked(item) for key, item in event.data.items()}
        if event.type in (EventType.LLM_DONE, EventType.LLM_ERROR):
            text = self._texts.pop(data.get("message_id", ""), None)
            if text is not None and event.type == EventType.LLM_DONE:
                data["content"] = "".join(text.told)
        return [*released, replace(event, data=data)]

    def _stream(self, event: AgentEvent) -> list[AgentEvent]:
        text = self._texts.setdefault(event.data["message_id"], _Text(event.source))
        sure, text.held = self._split(text.held + event.data["content"])
        return [_chunk(event, text, sure)] if sure else []

    def _release(self, message_id: str, text: _Text) -> Iterator[AgentEvent]:
        if text.held:
            held, text.held = self._redact(text.held), ""
            event = AgentEvent(EventType.LLM_STREAM, {"message_id": message_id}, text.source)
            yield _chunk(event, text, held)

    def _split(self, text: str) -> tuple[str, str]:
        """What can be told of *text*, masked, and its end that may be the beginning of a secret."""
        known = any(form in text for form in self._forms)
        told: list[str] = []
        start = 0
        while True:
            held = self._begun(text, start)
            match = self._any.search(text, start) if known else None
            if match is None or match.start() >= held:
                return "".join([*told, text[start:held]]), text[held:]
            told += (text[start : match.start()], MASK)
            start = match.end()

    def _begun(self, text: str, start: int) -> int:
        """Where a secret may begin that *text* does not end; its length when there is none."""
        for place in range(max(start, len(text) - self._longest + 1), len(text)):
            if text[place] in self._first:
                end = text[place:]
                if any(form.startswith(end) and form != end for form in self._forms):
                    return place
        return len(text)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, Mapping):
            return {key: self._masked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(item) for item in value]
        return value

    def _redact(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


def _chunk(event: AgentEvent, text: _Text, content: str) -> AgentEvent:
    data = {**event.data, "content": content, "offset": text.length}
    text.told.append(content)
    text.length += len(content)
    return replace(event, data=data)


def _parts(secret: str) -> Iterator[str]:
    """The value, and what follows the scheme of an ``Authorization`` header."""
    for part in (secret, secret.rpartition(" ")[2]):
        if len(part) >= MIN_SECRET_LENGTH:
            yield part
