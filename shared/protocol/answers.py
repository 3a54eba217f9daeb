"""What a user may answer to what an agent asks; both ends of the wire check it by this.

The answers to a question are given by the question's text, or by its number counted from 1, which
serves where the text that the user has seen was masked or cut::

    {"Which library?": "httpx",                                a label, or words of one's own
     "2": ["unit", "integration"],                             where several may be chosen
     "Which branch?": {"answer": "main", "notes": "for now"}}  with a remark, or that alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.errors import ProtocolError

QuestionKind = Literal["question", "permission", "plan"]
"""What an agent asks its user: to choose, to allow the use of a tool, to approve a plan."""

DECISIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("answer", "deny"),
    "permission": ("allow", "deny"),
    "plan": ("allow", "deny"),
}
"""What may be decided about each kind."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the questions of one request, by their texts; lists are joined."""

    chosen: Mapping[str, str]
    notes: Mapping[str, str]


def read_answers(
    kind: str,
    tool_input: Mapping[str, Any],
    *,
    decision: str,
    answers: Mapping[str, Any] | None,
    message: str | None,
) -> Answers:
    """Check an answer to a request of this *kind*; what it answers, which may be nothing.

    *tool_input* is that of the request.

    Raises:
        ProtocolError: It does not answer this request; names the fields at fault.
    """
    if decision not in DECISIONS.get(kind, ()):
        raise _invalid("decision", f"a {kind} takes {' or '.join(DECISIONS.get(kind, ()))}")
    if answers is not None and decision != "answer":
        raise _invalid("answers", "they go with the decision answer only")
    if decision == "allow" and message:
        raise _invalid("message", "an agent that may go on is told nothing; deny with a message")
    read = _read(_questions(tool_input), answers or {})
    if decision == "answer" and bool(read.chosen or read.notes) == bool(message):
        raise _invalid("answers", "give answers, or a message that stands for all of them")
    return read


def _read(questions: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Any]) -> Answers:
    chosen: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name, given in answers.items():
        if name not in questions:
            raise _invalid("answers", "the names are questions as they were asked, or 1, 2, ...")
        question = questions[name]
        text, several = question["question"], question.get("multiSelect") is True
        if not isinstance(given, Mapping):
            chosen[text] = _choice(given, several=several)
            continue
        if not given or set(given) - {"answer", "notes"}:
            raise _invalid("answers", "an object has answer, notes or both")
        if "answer" in given:
            chosen[text] = _choice(given["answer"], several=several)
        if "notes" in given:
            notes[text] = _text(given["notes"])
    return Answers(chosen, notes)


def _questions(tool_input: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, question in enumerate(tool_input.get("questions") or (), start=1):
        if isinstance(question, Mapping) and isinstance(question.get("question"), str):
            found.setdefault(str(number), question)
            found[question["question"]] = question
    return found


def _choice(given: Any, *, several: bool) -> str:
    if not isinstance(given, list):
        return _text(given)
    if not given or (len(given) > 1 and not several):
        raise _invalid("answers", "a list has one entry, or more where several may be chosen")
    return ", ".join(map(_text, given))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _invalid("answers", "each is a text that is not empty")
    return value


def _invalid(field: str, problem: str) -> ProtocolError:
    return ProtocolError(f"{field}: {problem}", fields=(field,))
