"""``${NAME}`` and ``${NAME:-default}`` in what a request brings, from its own variables only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_REFERENCE: Final = re.compile(r"\$\{([^}]*)\}")
_INSIDE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def resolved(value: Any, variables: Mapping[str, str]) -> Any:
    """*value* with every reference in its strings replaced; keys of objects stay as they are.

    Nothing that reads the result afterwards finds a reference in it: an agent would otherwise
    put variables of its own environment there, keys included.

    Raises:
        ValueError: A variable is missing and has no default, or something begins like a reference
            and is none. Says which one, without any value.
    """
    if isinstance(value, str):
        text = _REFERENCE.sub(lambda found: _value_of(found[1], variables), value)
        if "${" in text:
            raise ValueError("'${' must begin ${NAME} or ${NAME:-default}, and be in no value")
        return text
    if isinstance(value, Mapping):
        return {key: resolved(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, variables) for item in value]
    return value


def _value_of(reference: str, variables: Mapping[str, str]) -> str:
    match = _INSIDE.fullmatch(reference)
    if match is None:
        raise ValueError("'${' must begin ${NAME} or ${NAME:-default}")
    name, default = match[1], match[2]
    # As in a shell, an empty value counts as none where there is a default.
    value = variables.get(name)
    if value or (value is not None and default is None):
        return value
    if default is None:
        raise ValueError(f"the variable {name} is not among the request's variables")
    return str(default)
