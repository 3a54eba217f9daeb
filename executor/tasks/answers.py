"""What a user answers, as the decision that the agent gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from executor.agents.protocol import ToolDecision
from shared.protocol.answers import QuestionKind, read_answers
from shared.protocol.local import Input

_DENIED: Final[Mapping[QuestionKind, str]] = {
    "question": "The user does not want to answer this. Decide yourself, and say in your final "
    "answer what you assumed.",
    "permission": "The user does not allow this. Do what is possible without it.",
    "plan": "The user does not approve this plan. Work it over and present it again.",
}


def decision_of(kind: QuestionKind, arguments: Mapping[str, Any], answer: Input) -> ToolDecision:
    """The user's *answer* to a question of this kind.

    *arguments* are those of the tool that asked.

    Raises:
        ProtocolError: It does not answer this question; names the fields at fault.
    """
    given = read_answers(
        kind,
        arguments,
        decision=answer.decision,
        answers=answer.answers,
        message=answer.message,
    )
    if answer.decision == "deny":
        said = f" The user says: {answer.message}" if answer.message else ""
        return ToolDecision(allowed=False, message=_DENIED[kind] + said)
    if answer.decision == "allow":
        return ToolDecision(allowed=True)
    # What Claude's AskUserQuestion takes besides its questions: docs/notes/claude-cli.md.
    updated: dict[str, Any] = {**arguments, "answers": dict(given.chosen)}
    if given.notes:
        updated["annotations"] = {text: {"notes": note} for text, note in given.notes.items()}
    if answer.message:
        updated["response"] = answer.message
    return ToolDecision(allowed=True, updated_input=updated)
