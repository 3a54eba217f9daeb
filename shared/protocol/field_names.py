"""What callers call the fields of a request: errors name what was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import AliasChoices

from shared.errors import ProtocolError, Refusal
from shared.protocol.execution import ExecutionRequest

NameOf = Callable[[str], str]
"""What a body calls the field of a request at a dotted place."""

NAMES_IN_CONFIG: Final[Mapping[str, str]] = {"system_prompt": "custom_instructions"}
"""Fields that ``config`` of ``/v1/tasks/execute`` calls by another name."""

BESIDE_CONFIG: Final = ("prompt", "attempt", "sdk_session_id", "user_input_timeout_seconds")
"""Fields that are beside its ``config``, and not in it."""

_IDS: Final = {"task_id": "session_id", "subtask_id": "run_id"}
"""What it calls the ids."""

_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    name: [str(choice) for choice in info.validation_alias.choices]
    for name, info in ExecutionRequest.model_fields.items()
    if isinstance(info.validation_alias, AliasChoices)
}
"""The fields with several names; the first one that is given counts."""

_FIELD_AND_REASON: Final = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*): (.*)", re.DOTALL)


def names_in_task(given: Mapping[str, Any]) -> NameOf:
    """The names of a dispatch, or of a body of ``/api/tasks/execute``, that says *given*."""
    called = {
        # Null and an empty text say nothing.
        name: next((choice for choice in choices if given.get(choice) not in (None, "")), name)
        for name, choices in _CHOICES.items()
    }

    def name_of(place: str) -> str:
        first, dot, rest = place.partition(".")
        return called.get(first, first) + dot + rest

    return name_of


def names_in_seed_task(given: Mapping[str, Any]) -> NameOf:
    """The names of a body of ``/v1/tasks/execute`` whose ``config`` says *given*."""
    in_config = names_in_task(given)

    def name_of(place: str) -> str:
        first, dot, rest = place.partition(".")
        if first in _IDS:
            return _IDS[first] + dot + rest
        if first in BESIDE_CONFIG:
            return place
        inside = in_config(place.removeprefix("bot.0.agent_config."))
        return f"config.{NAMES_IN_CONFIG.get(inside, inside)}"

    return name_of


def error_in_words_of(name_of: NameOf, error: ProtocolError) -> ProtocolError:
    """The same error about the same fields, by the names that the body has used."""
    parts = [part.partition(": ") for part in error.message.split("; ")]
    message = "; ".join(f"{name_of(place)}{colon}{reason}" for place, colon, reason in parts)
    return ProtocolError(message, fields=tuple(map(name_of, error.fields)), hint=error.hint)


def refusal_in_words_of(name_of: NameOf, refusal: Refusal) -> Refusal:
    """The same refusal, by the name that the body has used; as it is when it names no field."""
    found = _FIELD_AND_REASON.fullmatch(refusal.message)
    if found is None or found[1].partition(".")[0] not in ExecutionRequest.model_fields:
        return refusal
    return Refusal(
        refusal.error_code,
        f"{name_of(found[1])}: {found[2]}",
        reason=refusal.reason,
        hint=refusal.hint,
    )
