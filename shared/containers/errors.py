"""What goes wrong with containers.

::

    ContainerError                 container_failed     the container could not be had or kept
    ├── EngineUnavailable                               no engine answers, or not in time
    ├── ImageUnavailable                                neither here nor to be had
    ├── NameTaken                                       somebody else's container has the name
    └── ContainerDied                                   it ended before it was ready

A pool that is full raises :class:`shared.errors.Refusal` with ``busy``.
"""

from __future__ import annotations

from typing import Final

from shared.containers.death import Death
from shared.errors import WegentError
from shared.status import ErrorCode

ENGINE_HINT: Final = (
    "start Docker, or name another engine with DOCKER_HOST; `docker version` asks the same one"
)


class ContainerError(WegentError):
    """A container could not be had, or could not be kept.

    Attributes:
        error_code: The code of a verdict that this leads to.
    """

    code = "container_failed"
    error_code: ErrorCode = ErrorCode.CONTAINER_FAILED


class EngineUnavailable(ContainerError):
    """No engine is there, or it does not answer in time; it may be back later."""

    def __init__(self, message: str, *, hint: str | None = ENGINE_HINT) -> None:
        super().__init__(message, hint=hint)


class ImageUnavailable(ContainerError):
    """The image is not on the engine, and no registry gave it."""


class NameTaken(ContainerError):
    """A container that is not ours has the name; it was left alone."""


class ContainerDied(ContainerError):
    """A container ended before it was ready.

    Attributes:
        death: How, with the last lines of its log.
    """

    def __init__(self, death: Death) -> None:
        super().__init__(death.sentence)
        self.death = death
        self.error_code = death.error_code
