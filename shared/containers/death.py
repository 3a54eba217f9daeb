"""How a container ended: read from the engine while it still knows."""

from __future__ import annotations

from dataclasses import dataclass

from shared.status import ErrorCode


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a container.

    Attributes:
        exit_code: Of its first process; ``None``: nobody knows any more.
        out_of_memory: Whether the limit of its memory ended it.
        engine_lost: Whether it was the engine that went away, so that the run may begin again.
        removed: Whether somebody removed it, and its log with it.
        log: The last lines of what it wrote; not masked.
    """

    exit_code: int | None = None
    out_of_memory: bool = False
    engine_lost: bool = False
    removed: bool = False
    log: tuple[str, ...] = ()

    @property
    def error_code(self) -> ErrorCode:
        """The code of a verdict that this leads to."""
        return ErrorCode.OUT_OF_MEMORY if self.out_of_memory else ErrorCode.CONTAINER_FAILED

    @property
    def sentence(self) -> str:
        """What happened, in words, with the last line of the log if there is one."""
        said = f": {self.log[-1]}" if self.log else ""
        return f"{self._cause}{said}"

    @property
    def _cause(self) -> str:
        if self.engine_lost:
            return "the container ended because its engine went away"
        if self.removed:
            return "the container was removed by somebody else"
        if self.out_of_memory:
            return "the container ran out of memory"
        if self.exit_code is None:
            return "the container ended"
        return f"the container ended with exit code {self.exit_code}"
