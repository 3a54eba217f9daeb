"""The bodies with which docker mode is given tasks, and where it is to tell what happens.

A body is read twice: as the request that every door reads, and for the callbacks of its run.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, ValidationError

from shared.errors import ProtocolError, Refusal
from shared.protocol.execution import (
    ExecutionRequest,
    Id,
    protocol_error,
    read_execution_request,
)
from shared.protocol.field_names import (
    BESIDE_CONFIG,
    NAMES_IN_CONFIG,
    NameOf,
    error_in_words_of,
    names_in_seed_task,
    names_in_task,
    refusal_in_words_of,
)
from shared.protocol.part import Part

DEFAULT_MAX_TURNS: Final = 100
"""Turns of a task of ``/v1/tasks/execute`` that says nothing about them. Source: seed 000."""

_NOT_IN_CONFIG: Final = frozenset({"task_id", "subtask_id", "attempt", "prompt", "content", "bot"})


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """Where the events of one run are posted."""

    url: str
    token: SecretStr | None = None
    """Sent as bearer; ``None``: the receiver wants none."""
    base_url: str | None = None
    """Where questions of the agent are created and polled; ``None``: nowhere."""
    trace_id: str | None = None
    """The ``X-Trace-ID`` of the request that asked for the run; sent with each callback."""


@dataclass(frozen=True, slots=True)
class Task:
    """A body as it was read."""

    request: ExecutionRequest
    target: CallbackTarget | None
    """Where it is told; ``None``: nowhere."""
    name_of: NameOf = field(repr=False)

    def in_its_words(self, refusal: Refusal) -> Refusal:
        """The same refusal, by the name of the field that the body has used."""
        return refusal_in_words_of(self.name_of, refusal)


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises when it is not a number
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a login; use callback_token")
    if not url.isprintable() or " " in url:
        raise ValueError("contains a space or a control character")
    return url


def _check_token(token: SecretStr) -> SecretStr:
    value = token.get_secret_value()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be one word of ASCII characters")
    return token


_Url = Annotated[str, AfterValidator(_check_url)]


class _Callback(Part):
    """What a body says about callbacks, whatever its shape."""

    callback_url: _Url | None = None
    callback_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    callback_base_url: _Url | None = None

    def target(self, default: CallbackTarget | None, trace_id: str | None) -> CallbackTarget | None:
        url, token = self.callback_url, self.callback_token
        base = self.callback_base_url
        if url is None and default is not None:
            url = default.url
            if token is None and default.token is not None:
                # It goes there and nowhere else.
                if base is not None and _origin(base) != _origin(url):
                    raise ProtocolError(
                        "callback_base_url: is another place than where this executor calls back",
                        fields=("callback_base_url",),
                        hint="bring callback_url and callback_token, too",
                    )
                token = default.token
        if url is None and (base is not None or token is not None):
            raise ProtocolError(
                "callback_url: is missing, and this executor has no CALLBACK_URL of its own",
                fields=("callback_url",),
            )
        if url is None:
            return None
        return CallbackTarget(url, token, base.rstrip("/") if base else None, trace_id)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


class _SeedTask(Part):
    """The ids of a task of ``/v1/tasks/execute``."""

    session_id: Id
    run_id: Id | None = None


def read_task(
    raw: object, *, default: CallbackTarget | None = None, trace_id: str | None = None
) -> Task:
    """Read the body of ``/api/tasks/execute``: a dispatch payload, with callbacks or without.

    Args:
        default: Where a run is told of whose body names no address.
        trace_id: Goes on with the callbacks.

    Raises:
        ProtocolError: It cannot be used; says which fields are at fault, never a value.
    """
    request = read_execution_request(raw)
    given = _without_blank(raw)
    target = _read_callback(given, default, trace_id)
    return Task(request, target, names_in_task(given))


def read_seed_task(
    raw: object, *, default: CallbackTarget | None = None, trace_id: str | None = None
) -> Task:
    """Read the body of ``/v1/tasks/execute``: ``session_id``, ``prompt`` and ``config``.

    A task that brings no ``run_id`` gets a new one. Arguments as of :func:`read_task`.

    Raises:
        ProtocolError: It cannot be used; says which fields are at fault, never a value.
    """
    if not isinstance(raw, dict):
        raise ProtocolError("the request must be an object")
    config = raw.get("config")
    if config is None or config == "":
        config = {}
    if not isinstance(config, dict):
        raise ProtocolError("config: must be an object", fields=("config",))
    try:
        task = _SeedTask.model_validate(_without_none(raw))
    except ValidationError as exc:
        raise protocol_error(exc) from None
    payload = {
        "max_turns": DEFAULT_MAX_TURNS,
        **_payload_of(_without_none(config)),
        "task_id": task.session_id,
        "subtask_id": uuid.uuid4().hex if task.run_id is None else task.run_id,
        **{name: raw[name] for name in BESIDE_CONFIG if raw.get(name) is not None},
    }
    name_of = names_in_seed_task(config)
    try:
        request = read_execution_request(payload)
    except ProtocolError as exc:
        raise error_in_words_of(name_of, exc) from None
    return Task(request, _read_callback(_without_blank(raw), default, trace_id), name_of)


def _payload_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as a dispatch payload spells it; what no run knows is left out when it is read."""
    payload = {name: value for name, value in config.items() if name not in _NOT_IN_CONFIG}
    for name, theirs in NAMES_IN_CONFIG.items():
        if theirs in payload:
            payload.setdefault(name, payload.pop(theirs))
    env = payload.pop("env", None)
    if env is not None:
        payload["bot"] = [{"agent_config": {"env": env}}]
    return payload


def _read_callback(
    given: Mapping[str, Any], default: CallbackTarget | None, trace_id: str | None
) -> CallbackTarget | None:
    try:
        callback = _Callback.model_validate(given)
    except ValidationError as exc:
        raise protocol_error(exc) from None
    return callback.target(default, trace_id)


def _without_none(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if value is not None}


def _without_blank(raw: object) -> dict[str, Any]:
    """What a body says: ``null`` and an empty text say nothing."""
    body = raw if isinstance(raw, dict) else {}
    return {name: value for name, value in body.items() if value is not None and value != ""}
