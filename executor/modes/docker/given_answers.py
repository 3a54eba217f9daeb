"""What a backend says of a question that it was asked to put to its user, in whatever shape.

Backends differ: a bare text, ``{"answer": …}``, ``{"answers": {…}}``, ``{"decision": …}``,
``{"status": "answered", "response": …}`` and more. Whatever leaves no doubt is taken; what does not
is read as no answer yet, never as a permission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

Decision = Literal["allow", "deny", "answer"]


@dataclass(frozen=True, slots=True)
class Given:
    """The user's answer, as the agent's question takes it."""

    decision: Decision
    answers: Mapping[str, Any] | None = None
    message: str | None = None


class NoAnswer(Enum):
    """Why there is none."""

    YET = "yet"
    EXPIRED = "expired"
    """The backend does not ask any more."""
    UNREADABLE = "unreadable"
    """It says that there is one, and not which."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_YES: Final = _words(
    "allow allowed approve approved accept accepted yes y ok okay true grant granted confirm"
    " confirmed proceed continue go"
)
_NO: Final = _words(
    "deny denied reject rejected refuse refused decline declined no n false disallow disallowed"
    " cancel cancelled canceled dismiss dismissed skip skipped"
)

# A status may be that of the request or of the HTTP call: only words that cannot be count.
_APPROVED: Final = _words("approved allowed granted confirmed allow approve")
_DENIED: Final = _words(
    "denied rejected refused declined disallowed cancelled canceled dismissed skipped deny reject"
)
_WAITING: Final = _words(
    "pending waiting open created requested queued new asked sent active in_progress accepted"
)
_EXPIRED: Final = _words("expired expire timeout timed_out")
_ANSWERED: Final = _words("answered answer completed complete done responded resolved fulfilled")

_OF_THE_CALL: Final = _words("ok okay true success")
"""Without anything else these say that a request went well."""

_STATUS_KEYS: Final = ("status", "state")
_DECISION_KEYS: Final = ("decision", "action", "approved", "allowed", "outcome")
_ANSWER_KEYS: Final = (
    *("answers", "answer", "responses", "response", "user_response", "user_answer"),
    *("reply", "selected", "selection", "choice"),
)
_POSSIBLE_ANSWER_KEYS: Final = (
    *("user_input", "input", "values", "value", "text", "content", "choices", "result"),
)
"""These may be an echo of the question, unless it is said that there is an answer."""

_MESSAGE_KEYS: Final = ("message", "reason", "comment", "feedback", "note")
_ENVELOPES: Final = ("data", "user_input_request", "request", "item", "result")
_ONE_ANSWER_KEYS: Final = ("answer", "value", "selected", "choice", "label", "text", "response")


def read_given(kind: str, tool_input: Mapping[str, Any], body: Any) -> Given | NoAnswer:
    """Read what was answered to a question of this *kind*, whose tool has this input."""
    if isinstance(body, list | tuple) and len(body) == 1 and isinstance(body[0], Mapping):
        body = body[0]
    if not isinstance(body, Mapping):
        return _of_bare(kind, tool_input, body)
    status = _word(_first(body, _STATUS_KEYS))
    decision = _word(_first(body, _DECISION_KEYS))
    known = _WAITING | _EXPIRED | _ANSWERED | _APPROVED | _DENIED
    if status not in known and not decision and (inner := _inner(body)) is not None:
        return read_given(kind, tool_input, inner)
    if body.get("expired") is True or status in _EXPIRED or decision in _EXPIRED:
        return NoAnswer.EXPIRED
    if status in _WAITING:
        return NoAnswer.YET
    message = _text(_first(body, _MESSAGE_KEYS))
    answered = bool({status, decision} & (_ANSWERED | _APPROVED)) or body.get("answered") is True
    value = _first(body, _ANSWER_KEYS)
    if value is None and answered:
        value = _first(body, _POSSIBLE_ANSWER_KEYS)
        if kind != "question" and _word(value) in _OF_THE_CALL:
            value = None
    if decision in _NO or status in _DENIED:
        return Given("deny", message=message or _text(value))
    if kind == "question":
        return _of_value(kind, tool_input, value, message, answered=answered)
    if decision in _YES or status in _APPROVED:
        return Given("allow")
    return _of_value(kind, tool_input, value, message, answered=answered)


def _inner(body: Mapping[str, Any]) -> Any:
    """What an envelope holds, where there is one."""
    for name in _ENVELOPES:
        inner = body.get(name)
        if isinstance(inner, Mapping) and any(
            key in inner for key in (*_STATUS_KEYS, *_DECISION_KEYS, *_ANSWER_KEYS)
        ):
            return inner
    return None


def _of_bare(kind: str, tool_input: Mapping[str, Any], value: Any) -> Given | NoAnswer:
    """Of a body that is no object: a text or a list is an answer, unless it says how things go."""
    if isinstance(value, list | tuple) and len(value) == 1:
        return _of_bare(kind, tool_input, value[0])
    word = _word(value)
    if word in _WAITING or value in (None, "", []):
        return NoAnswer.YET
    if word in _EXPIRED:
        return NoAnswer.EXPIRED
    if not isinstance(value, str | list) or word in _OF_THE_CALL | _ANSWERED:
        return NoAnswer.UNREADABLE
    return _of_value(kind, tool_input, value, None, answered=False)


def _of_value(
    kind: str,
    tool_input: Mapping[str, Any],
    value: Any,
    message: str | None,
    *,
    answered: bool,
) -> Given | NoAnswer:
    if value is None and kind == "question" and answered:
        value = message
    if value is None or value == "" or value == [] or value == {}:
        if not answered:
            return NoAnswer.YET
        # Who answers a question with nothing leaves it to the agent; a permission needs a word.
        blank = kind == "question" and value is not None
        return Given("deny", message=message) if blank else NoAnswer.UNREADABLE
    if kind == "question":
        return _answer(tool_input, value)
    return _permission(value, message)


def _permission(value: Any, message: str | None) -> Given | NoAnswer:
    while True:
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        elif isinstance(value, Mapping):
            message = message or _text(_first(value, _MESSAGE_KEYS))
            value = _only_word(value)
        else:
            break
    word = _word(value)
    if word in _YES:
        return Given("allow")
    if word in _NO:
        return Given("deny", message=message)
    # What is neither is what the agent should do instead.
    text = _text(value)
    return Given("deny", message=text) if text is not None else NoAnswer.UNREADABLE


def _only_word(value: Mapping[str, Any]) -> Any:
    """What an object says about a permission; ``None`` when it says nothing, or several things."""
    inner = _first(value, (*_DECISION_KEYS, *_ONE_ANSWER_KEYS))
    if inner is not None:
        return inner
    status = _first(value, _STATUS_KEYS)
    if _word(status) in _APPROVED | _DENIED:
        return status
    told = [item for name, item in value.items() if name not in (*_STATUS_KEYS, *_MESSAGE_KEYS)]
    return told[0] if len(told) == 1 else None


def _answer(tool_input: Mapping[str, Any], value: Any) -> Given | NoAnswer:
    questions = [item for item in tool_input.get("questions") or () if isinstance(item, Mapping)]
    if isinstance(value, Mapping):
        found = _by_name(questions, value)
        if found:
            return Given("answer", answers=found)
        one = _first(value, _ONE_ANSWER_KEYS)
        if one is not None:
            return _answer(tool_input, one)
        texts = [f"{name}: {_plain(item)}" for name, item in value.items()]
        return Given("answer", message="; ".join(texts))
    if isinstance(value, list | tuple):
        return _of_list(questions, list(value))
    text = _plain(value)
    if not text.strip():
        return NoAnswer.UNREADABLE
    if len(questions) == 1:
        return Given("answer", answers={"1": text})
    return Given("answer", message=text)


def _of_list(questions: Sequence[Mapping[str, Any]], items: list[Any]) -> Given:
    named: dict[str, Any] = {}
    for item in items:
        if isinstance(item, Mapping):
            name = _first(item, ("question", "question_id", "id", "header", "name"))
            one = _first(item, ("answers", *_ONE_ANSWER_KEYS))
            if name is not None and one is not None:
                named[str(name)] = one
    if len(named) == len(items) and (found := _by_name(questions, named)):
        return Given("answer", answers=found)
    texts = [_plain(item) for item in items]
    if len(questions) == 1:
        several = questions[0].get("multiSelect") is True
        return Given("answer", answers={"1": texts if several else ", ".join(texts)})
    if len(questions) == len(items):
        answers = {
            str(number): [_plain(one) for one in item] if isinstance(item, list) else text
            for number, (item, text) in enumerate(zip(items, texts, strict=True), start=1)
        }
        return Given("answer", answers=answers)
    return Given("answer", message=", ".join(texts))


def _by_name(questions: Sequence[Mapping[str, Any]], value: Mapping[str, Any]) -> dict[str, Any]:
    """Answers by the number of their question; empty when a name is no question's."""
    numbers: dict[str, int] = {}
    for number, question in enumerate(questions, start=1):
        for name in (question.get("question"), question.get("header"), question.get("id"), number):
            if name is not None:
                numbers.setdefault(str(name).strip().casefold(), number)
    found: dict[str, Any] = {}
    for name, given in value.items():
        known = numbers.get(str(name).strip().casefold())
        if known is None:
            return {}
        found[str(known)] = _one(questions[known - 1], given)
    return found


def _one(question: Mapping[str, Any], given: Any) -> Any:
    if isinstance(given, Mapping):
        notes = _text(_first(given, ("notes", *_MESSAGE_KEYS)))
        answer = _first(given, ("answers", *_ONE_ANSWER_KEYS))
        if answer is None:
            return {"notes": notes} if notes is not None else _plain(given)
        one = _one(question, answer)
        return {"answer": one, "notes": notes} if notes is not None else one
    if isinstance(given, list | tuple):
        texts = [_plain(item) for item in given]
        return texts if question.get("multiSelect") is True else ", ".join(texts)
    return _plain(given)


def _first(body: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((body[name] for name in names if body.get(name) is not None), None)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.strip().casefold() if isinstance(value, str) else ""


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _plain(value: Any) -> str:
    """One answer as a text: of an option, what the user has read."""
    if isinstance(value, Mapping):
        inner = _first(value, (*_ONE_ANSWER_KEYS, "name", "id"))
        return _plain(inner) if inner is not None else ", ".join(map(_plain, value.values()))
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
