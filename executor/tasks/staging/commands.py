"""Slash commands of a request: ``/name arguments`` in its prompt becomes the command's text.

The CLI takes prompts as they are, so that nothing in them reads a file or starts a program; a
command is text only, too.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

from executor.tasks.staging.skill_text import split_front_matter
from shared.protocol.execution import ExecutionRequest
from shared.protocol.prompt import TextBlock

_CALL: Final = re.compile(r"\s*/([A-Za-z0-9][A-Za-z0-9_:.-]*)(?:\s+(.*))?\s*", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"\$(ARGUMENTS\b|[1-9](?![0-9]))")


def with_command(request: ExecutionRequest) -> ExecutionRequest:
    """*request* with the command that its prompt calls in the prompt's place, if it calls one."""
    if not request.commands:
        return request
    if isinstance(request.prompt, str):
        text = _expanded(request.prompt, request.commands)
        return request if text is None else request.model_copy(update={"prompt": text})
    for number, block in enumerate(request.prompt):
        if isinstance(block, TextBlock):
            text = _expanded(block.text, request.commands)
            if text is None:
                return request
            blocks = list(request.prompt)
            blocks[number] = block.model_copy(update={"text": text})
            return request.model_copy(update={"prompt": blocks})
    return request


def _expanded(prompt: str, commands: dict[str, str]) -> str | None:
    """The text of the command that *prompt* calls; ``None``: it calls none that is known."""
    call = _CALL.fullmatch(prompt)
    if call is None or (command := commands.get(call[1])) is None:
        return None
    arguments = (call[2] or "").strip()
    body = split_front_matter(command)[1].strip()
    words = _words(arguments)

    def value(found: re.Match[str]) -> str:
        if found[1] == "ARGUMENTS":
            return arguments
        number = int(found[1])
        return words[number - 1] if number <= len(words) else ""

    text, replaced = _PLACEHOLDER.subn(value, body)
    # Arguments that the command has no place for are not lost.
    return text if replaced or not arguments else f"{text}\n\nArguments: {arguments}"


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError:  # a quotation mark without another one, as in "don't"
        return arguments.split()
