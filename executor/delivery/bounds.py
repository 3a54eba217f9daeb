"""Bounds on the size of one event, kept before it is numbered.

Streamed text is split; any other string or list is cut, with ``truncated: true`` and
``full_length`` (characters, or entries) beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.protocol.local import MAX_EVENT_BYTES

MAX_DATA_BYTES: Final = MAX_EVENT_BYTES - 16 * 1024
"""What an event's data may take; the rest is left to the run fields, titles and source."""

MAX_CHUNK_CHARS: Final = MAX_DATA_BYTES // 6
"""Characters of one text chunk; a control character takes six bytes of JSON."""


def encoded_size(value: Any) -> int:
    """Bytes of *value* as UTF-8 JSON, in the way it is sent."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def split_text(text: str) -> Iterator[tuple[int, str]]:
    """``(offset, piece)`` of *text*, each piece small enough for an event; at least one piece."""
    for start in range(0, len(text) or 1, MAX_CHUNK_CHARS):
        yield start, text[start : start + MAX_CHUNK_CHARS]


def bound(data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* with its strings valid and its size within :data:`MAX_DATA_BYTES`.

    The largest parts are cut first; a small event comes back as it is.
    """
    kept = _valid(dict(data))
    size = encoded_size(kept)
    limit = MAX_DATA_BYTES // 2
    while size > MAX_DATA_BYTES and limit >= 16:
        kept = _cut(kept, limit)
        size = encoded_size(kept)
        limit //= 2
    return kept if size <= MAX_DATA_BYTES else {"truncated": True, "full_length": len(data)}


def _valid(value: Any) -> Any:
    """*value* without lone surrogates, which UTF-8 cannot carry."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_valid(str(key)): _valid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(item) for item in value]
    return value


def _cut(value: dict[str, Any], limit: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    for key, item in value.items():
        kept[key], full_length = _cut_item(item, limit)
        if full_length is not None:
            marks = {"truncated": True, "full_length": full_length}
    # A part that was cut before keeps the length it had at first.
    return {**kept, **{name: value.get(name, mark) for name, mark in marks.items()}}


def _cut_item(item: Any, limit: int) -> tuple[Any, int | None]:
    """*item* cut to about *limit* bytes, and its full length if it was cut."""
    if isinstance(item, str):
        if encoded_size(item) <= limit:
            return item, None
        return _cut_string(item, limit), len(item)
    if isinstance(item, list):
        kept: list[Any] = []
        room = limit
        cut_inside: int | None = None
        for entry in item:
            part, full_length = _cut_item(entry, limit)
            room -= encoded_size(part) + 1
            if room < 0 and kept:
                return kept, len(item)
            cut_inside = full_length if cut_inside is None else cut_inside
            kept.append(part)
        return kept, cut_inside
    if isinstance(item, dict):
        return _cut(item, limit), None
    return item, None


def _cut_string(text: str, limit: int) -> str:
    kept = text[:limit]
    while (size := encoded_size(kept)) > limit:
        kept = kept[: max(0, min(len(kept) - 1, len(kept) * limit // size))]
    return kept
