"""What an agent is told whose last turn was cut off, so that it goes on where it was."""

from __future__ import annotations

from typing import Final

from shared.protocol.prompt import PromptBlock, TextBlock

AFTER_RESTART: Final = (
    "Your last turn was cut off, because the program that runs you was restarted. Look at what"
    " you have done so far and go on from there; do not do again what is done already. If nothing"
    " is left to do, give your final answer."
)
AFTER_LIMIT: Final = (
    "Your last turn was cut off by a rate limit of the API, which is lifted now. Look at what you "
    "have done so far and go on from there; do not do again what is done already."
)


def after_stall(silent_s: float) -> str:
    """The note after a turn that was interrupted for its silence."""
    return (
        "Your last turn was interrupted, because there was no sign of life from you or your tools "
        f"for {silent_s:g} seconds. Look at what you have done so far and go on from there; do not "
        "wait in silence again: run what takes long in the background or with a time limit."
    )


def noted(note: str, prompt: str | list[PromptBlock]) -> str | list[PromptBlock]:
    """*prompt* with *note* before it.

    The task stands there, too: the agent may not have written it down, and where its conversation
    is lost a new one begins.
    """
    note = f"{note} This is the task, as it was given to you:\n\n"
    if isinstance(prompt, str):
        return note + prompt
    return [TextBlock(type="text", text=note), *prompt]
