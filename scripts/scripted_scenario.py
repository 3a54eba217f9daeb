"""The scenario format of ``scripted_model.py``: what the stand-in answers, and when.

A scenario answers one prompt. A file holds one scenario, or a JSON list of them::

    {
      "name": "fix the typo",
      "match": {"prompt": "typo"},
      "delta_chars": 12,
      "delta_pause_s": 0.02,
      "steps": [
        {"content": [
          {"thinking": "I should look first."},
          {"text": "Let me read the file."},
          {"tool": "Read", "input": {"file_path": "{cwd}/notes.txt"}}
        ]},
        {"content": [{"text": "The file says: {last_tool_result}"}]}
      ]
    }

**match** (all given conditions must hold; each is a text or a list of texts that must all be
contained): ``prompt`` the user's last prompt, ``history`` every message before it, ``system`` the
system prompt, ``model`` the model's name. The first scenario whose match holds is played;
scenarios without ``match`` come last. When nothing matches, a plain text answer says so.

**steps**: step 0 answers the prompt, step 1 the results of step 0's tools, and so on. The step
is found by counting the assistant's turns after the last prompt *in the request itself*, so
conversations may interleave, be retried and be resumed. Past the last step the answer says so.
A step may carry ``usage`` (token counts that replace the estimates), ``stop_reason`` (else
``tool_use`` or ``end_turn``), and its own ``delta_chars`` and ``delta_pause_s`` (seconds after
each delta of text or thinking).

**content** is a timeline. Each item is one of:

====================================================  ==============================================
``{"text": "…"}``, ``{"thinking": "…"}``              streamed in deltas; neighbours make one block
``{"tool": "Bash", "input": {…}}``                    a tool call; with ``"optional": true`` it is
                                                      left out when the request does not offer it
``{"bulk": 2000, "chars": 20, "per_second": 500}``    that many text deltas; ``per_second`` null
                                                      means as fast as the reader takes them
``{"pause_s": 0.5}``                                  wait
``{"gate": "name"}``                                  wait until a test releases the gate
``{"http_error": 529, "message": "…",                 an error response; only before anything was
"retry_after_s": 1, "headers": {…}, "times": 2}``     streamed
``{"stream_error": "overloaded_error",                an ``error`` event in the running stream
"message": "…", "times": 1}``
``{"cut": true, "times": 1}``                         the connection is cut
``{"hang": true, "times": 1}``                        nothing more comes
====================================================  ==============================================

Waiting items and faults before the first text happen before the first byte; ``{"text": ""}``
opens the stream. A fault with ``times`` happens so often for the same request of a conversation
and is then passed over, so the client's own retries can be seen to succeed.

In texts and tool inputs ``{cwd}`` (the session's working directory), ``{plan_file}`` (where the CLI
wants its plan in plan mode), ``{prompt}`` and ``{last_tool_result}`` are replaced; nothing else in
braces is touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
)

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
]


class ScenarioError(ValueError):
    """A scenario file cannot be used; the message names the file and the place in it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Part):
    text: str


class Thinking(_Part):
    thinking: str


class Tool(_Part):
    tool: str = Field(min_length=1)
    input: dict[str, Any] = {}
    optional: bool = False


class Bulk(_Part):
    bulk: PositiveInt
    chars: PositiveInt = 20
    per_second: PositiveFloat | None = None


class Pause(_Part):
    pause_s: NonNegativeFloat


class Gate(_Part):
    gate: str = Field(min_length=1)


class HttpError(_Part):
    http_error: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after_s: NonNegativeFloat | None = None
    headers: dict[str, str] = {}
    times: PositiveInt | None = None


class StreamError(_Part):
    stream_error: ErrorType
    message: str | None = None
    times: PositiveInt | None = None


class Cut(_Part):
    cut: Literal[True]
    times: PositiveInt | None = None


class Hang(_Part):
    hang: Literal[True]
    times: PositiveInt | None = None


_ITEM_TYPES: dict[str, type[_Part]] = {
    "text": Text,
    "thinking": Thinking,
    "tool": Tool,
    "bulk": Bulk,
    "pause_s": Pause,
    "gate": Gate,
    "http_error": HttpError,
    "stream_error": StreamError,
    "cut": Cut,
    "hang": Hang,
}


def _kind_of_item(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return next((kind for kind in _ITEM_TYPES if kind in value), None)
    return next((kind for kind, cls in _ITEM_TYPES.items() if isinstance(value, cls)), None)


Fault = HttpError | StreamError | Cut | Hang
Item = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[Thinking, Tag("thinking")]
    | Annotated[Tool, Tag("tool")]
    | Annotated[Bulk, Tag("bulk")]
    | Annotated[Pause, Tag("pause_s")]
    | Annotated[Gate, Tag("gate")]
    | Annotated[HttpError, Tag("http_error")]
    | Annotated[StreamError, Tag("stream_error")]
    | Annotated[Cut, Tag("cut")]
    | Annotated[Hang, Tag("hang")],
    Discriminator(
        _kind_of_item,
        custom_error_type="unknown_item",
        custom_error_message=f"an item needs one of these keys: {', '.join(_ITEM_TYPES)}",
    ),
]


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class Match(_Part):
    """Which requests a scenario answers; see the module's description."""

    prompt: Texts = ()
    history: Texts = ()
    system: Texts = ()
    model: Texts = ()


class Step(_Part):
    content: tuple[Item, ...] = Field(min_length=1)
    usage: dict[str, int] = {}
    stop_reason: str | None = None
    delta_chars: PositiveInt | None = None
    delta_pause_s: NonNegativeFloat | None = None


class Scenario(_Part):
    """What is answered to one prompt."""

    name: str = Field(min_length=1)
    match: Match = Match()
    steps: tuple[Step, ...] = Field(min_length=1)
    delta_chars: PositiveInt = 24
    delta_pause_s: NonNegativeFloat = 0.0

    @property
    def matches_everything(self) -> bool:
        return self.match == Match()


_ONE = TypeAdapter(Scenario)
_MANY = TypeAdapter(list[Scenario])


def load_scenarios(paths: Iterable[Path]) -> list[Scenario]:
    """Read scenario files in the order given.

    Raises:
        ScenarioError: A file is missing, is not JSON, or breaks the format.
    """
    return [scenario for path in paths for scenario in _load_file(path)]


def parse_scenarios(value: Any, *, source: str = "scenario") -> list[Scenario]:
    """Check one scenario or a list of them, as read from JSON.

    Raises:
        ScenarioError: The format is broken; *source* and the place in it are named.
    """
    try:
        if isinstance(value, list):
            return _MANY.validate_python(value)
        return [_ONE.validate_python(value)]
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        problems = "; ".join(
            f"{_place(error['loc']) or 'top level'}: {error['msg']}"
            for error in errors
            if not _follows_from_another(error["loc"], [other["loc"] for other in errors])
        )
        raise ScenarioError(f"{source}: {problems}") from None


def _follows_from_another(loc: Sequence[str | int], others: Iterable[Sequence[str | int]]) -> bool:
    """A list whose only items are bad is also reported as too short: that says nothing new."""
    return any(len(other) > len(loc) and other[: len(loc)] == loc for other in others)


def _load_file(path: Path) -> list[Scenario]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ScenarioError(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: is not UTF-8 text") from None
    except json.JSONDecodeError as exc:
        raise ScenarioError(f"{path}:{exc.lineno}:{exc.colno}: not JSON: {exc.msg}") from None
    return parse_scenarios(value, source=str(path))


def _place(loc: Sequence[str | int]) -> str:
    """Write pydantic's location as a path into the file, without the names of union members."""
    place = ""
    after_item = False
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif not (after_item and part in _ITEM_TYPES):
            place += f".{part}" if place else part
        after_item = isinstance(part, int) and place.rpartition(".")[2].startswith("content[")
    return place
