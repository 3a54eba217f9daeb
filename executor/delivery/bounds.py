"""Bounds on the size of one event, kept before it is numbered.

Streamed text is split; any other string, list or object is cut, with ``truncated: true`` and
``full_length`` (characters, or entries) beside it. Events are bounded on the event loop, so the
work is bounded, too: by what may be kept, not by what came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, Final

from shared.protocol.events import Source
from shared.protocol.local import MAX_EVENT_BYTES

MAX_DATA_BYTES: Final = MAX_EVENT_BYTES - 16 * 1024
"""What an event's data may take; the rest is left to the run fields, titles and source."""

MAX_CHUNK_CHARS: Final = MAX_DATA_BYTES // 6
"""Characters of one text chunk; a control character takes six bytes of JSON."""

MAX_PARTS: Final = 10_000
"""Entries of one list or object."""

MAX_DEPTH: Final = 64
"""How deep an event may be nested; JSON libraries give up at some hundred."""

MAX_NAME_CHARS: Final = 300
"""Characters of a title, or of a name of an agent: six of them fit beside the data."""

_MARKS_BYTES: Final = len('"truncated":true,"full_length":1234567890,')
_LEAST_ROOM: Final = 64
"""Bytes in which anything can be told to have been cut."""
_ROUNDS: Final = 8


def split_text(text: str) -> Iterator[tuple[int, str]]:
    """``(offset, piece)`` of *text*, each piece small enough for an event; at least one piece."""
    for start in range(0, len(text) or 1, MAX_CHUNK_CHARS):
        yield start, text[start : start + MAX_CHUNK_CHARS]


def bound_name(name: str | None) -> str | None:
    """A title or name as it may stand beside an event's data."""
    return None if name is None else _valid(name[:MAX_NAME_CHARS])


def bound_source(source: Source | None) -> Source | None:
    """*source* with its names bounded."""
    if source is None:
        return None
    return Source(
        agent_id=bound_name(source.agent_id) or "",
        agent_type=bound_name(source.agent_type) or "",
        agent_name=bound_name(source.agent_name) or "",
        team_name=bound_name(source.team_name),
    )


def bound(data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* as plain JSON values, with its strings valid and within :data:`MAX_DATA_BYTES`.

    The largest parts are cut; a small event comes back as it is.
    """
    if _size(data, MAX_DATA_BYTES) <= MAX_DATA_BYTES:
        return {_valid(str(key)): _plain(item) for key, item in data.items()}
    return _fit_object(data, MAX_DATA_BYTES, 0)


# --- What fits ----------------------------------------------------------------------------------


def _size(value: Any, room: int, depth: int = 0) -> int:
    """Bytes of *value* as UTF-8 JSON; some number above *room* as soon as it is known to be more.

    What is nested too deep is too large.
    """
    if isinstance(value, str):
        return _string_size(value) if len(value) <= room else room + 1
    size = 2
    if isinstance(value, Mapping):
        if depth >= MAX_DEPTH or len(value) > MAX_PARTS:
            return room + 1
        for key, item in value.items():
            size += _string_size(str(key)) + 2
            size += _size(item, room - size, depth + 1)
            if size > room:
                break
        return size
    if isinstance(value, list | tuple):
        if depth >= MAX_DEPTH or len(value) > MAX_PARTS:
            return room + 1
        for item in value:
            size += 1 + _size(item, room - size, depth + 1)
            if size > room:
                break
        return size
    return max(5, len(str(value))) + 2  # "false" is longer than "False", quotes for what is no JSON


def _string_size(text: str) -> int:
    encoded = encode_basestring(text)
    return len(encoded) if encoded.isascii() else len(encoded.encode("utf-8", "replace"))


def _plain(value: Any) -> Any:
    """A copy of *value* with nothing in it but JSON."""
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, Mapping):
        return {_valid(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, int | float) else _valid(str(value))


def _valid(text: str) -> str:
    """*text* without lone surrogates, which UTF-8 cannot carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# --- What does not ------------------------------------------------------------------------------


def _fit(value: Any, room: int, depth: int) -> tuple[Any, int | None]:
    """*value* cut to *room* bytes, and its full length if its owner has to tell it."""
    if isinstance(value, str):
        return _fit_string(value, room), len(value)
    if isinstance(value, Mapping):
        return _fit_object(value, room, depth), None
    if isinstance(value, list | tuple):
        return _fit_list(value, room, depth)
    return None, len(str(value))


def _fit_string(text: str, room: int) -> str:
    kept = _valid(text[:room])
    while (size := _string_size(kept)) > room:
        kept = kept[: max(0, min(len(kept) - 1, len(kept) * room // size))]
    return kept


def _fit_list(entries: Sequence[Any], room: int, depth: int) -> tuple[list[Any], int | None]:
    """The first entries that fit; of one that alone is too large, the beginning."""
    kept: list[Any] = []
    left = room - 2
    if depth >= MAX_DEPTH:
        return kept, len(entries)
    for entry in entries[:MAX_PARTS]:
        size = 1 + _size(entry, left - 1, depth + 1)
        if size > left:
            if kept or left < _LEAST_ROOM:
                break
            part, inner_length = _fit(entry, left - 1, depth + 1)
            return [part], len(entries) if len(entries) > 1 else inner_length
        kept.append(_plain(entry))
        left -= size
    return kept, len(entries)


def _fit_object(value: Mapping[Any, Any], room: int, depth: int) -> dict[str, Any]:
    """The first parts for which there is room: small ones whole, the others cut alike."""
    left = room - 2 - _MARKS_BYTES
    parts: dict[str, Any] = {}
    floors: dict[str, int] = {}
    for key, item in value.items() if depth < MAX_DEPTH else ():
        name = _valid(str(key)[:room])
        floor = min(_size(item, _LEAST_ROOM, depth + 1), _LEAST_ROOM)
        left -= _string_size(name) + 2 + floor
        if left < 0 or len(parts) == MAX_PARTS:
            break
        parts[name], floors[name] = item, floor
    kept, full_length = _share_out(parts, floors, left, depth)
    if len(parts) < len(value):
        full_length = len(value)
    if full_length is not None:
        # A part that was cut before keeps the length it had at first.
        kept = {"truncated": True, "full_length": full_length} | kept
        kept["truncated"] = True
    return {name: kept[name] for name in (*parts, *kept) if name in kept}


def _share_out(
    parts: Mapping[str, Any], floors: Mapping[str, int], spare: int, depth: int
) -> tuple[dict[str, Any], int | None]:
    """Every part, within its floor and a fair share of *spare*; the length of one that was cut.

    Each round looks no further into the parts than there is room.
    """
    kept: dict[str, Any] = {}
    spare = max(0, spare)
    pending = dict(parts)
    share = 0
    for _ in range(_ROUNDS):
        if not pending:
            break
        share = spare // len(pending)
        before = len(pending)
        for name, item in list(pending.items()):
            size = _size(item, floors[name] + share, depth + 1)
            if size <= floors[name] + share:
                kept[name] = _plain(pending.pop(name))
                spare -= max(0, size - floors[name])
        if len(pending) == before:
            break
    full_length: int | None = None
    share = spare // len(pending) if pending else 0
    for name, item in pending.items():
        kept[name], length = _fit(item, floors[name] + share, depth + 1)
        full_length = length if length is not None else full_length
    return kept, full_length
