"""The Docker engine: the only import of its client. Every call is bounded in time.

Importing this takes some 20 ms: not on the event loop.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Engine:
    """One engine, named as Docker's own tools name it (``DOCKER_HOST``, contexts, the socket).

    Nothing is asked when it is entered; :meth:`ping` does.
    """

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def ping(self) -> str:
        """Its version.

        Raises:
            EngineUnavailable: None answers.
        """
        raise NotImplementedError

    async def has_image(self, image: str) -> bool:
        """Whether the image is there; nothing is pulled."""
        raise NotImplementedError
