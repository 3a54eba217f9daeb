"""The prompt of a run: a text, or a list of texts and pictures."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from shared.protocol.part import Part

MAX_PROMPT_BYTES: Final = 4 * 1024 * 1024
"""Longest text of a prompt, as UTF-8. Beyond any model's context, below the wire's 32 MiB."""


class TextBlock(Part):
    """A piece of prompt text."""

    type: Literal["text"]
    text: str


class ImageBlock(Part):
    """A picture, in the shape of the Messages API."""

    type: Literal["image"]
    source: dict[str, Any] = Field(repr=False)


PromptBlock = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]


def _check_prompt(value: str | list[TextBlock | ImageBlock]) -> str | list[TextBlock | ImageBlock]:
    texts = (
        [value]
        if isinstance(value, str)
        else [block.text for block in value if isinstance(block, TextBlock)]
    )
    pictures = not isinstance(value, str) and any(isinstance(b, ImageBlock) for b in value)
    if not pictures and not any(text.strip() for text in texts):
        raise ValueError("must not be empty")
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > MAX_PROMPT_BYTES:
        raise ValueError(f"must be at most {MAX_PROMPT_BYTES} bytes of UTF-8")
    return value


Prompt = Annotated[str | list[PromptBlock], AfterValidator(_check_prompt)]
