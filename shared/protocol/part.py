"""What the models have in common that a request is read with."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

BUILD_AT_FIRST_USE: Final = True
"""What models of messages say to ``defer_build``: to make their validators takes some 30 ms in all,
and an executor registers before it has seen a request. See :func:`complete`."""


class Part(BaseModel):
    """A part of a request: unknown fields are ignored, and errors never show a value."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
        defer_build=BUILD_AT_FIRST_USE,
    )


def complete(base: type[BaseModel]) -> None:
    """Make the validators of *base* and all models below it that nothing has used yet.

    For a thread beside the event loop, which the first request would hold up otherwise.
    """
    base.model_rebuild()
    for model in base.__subclasses__():
        complete(model)
