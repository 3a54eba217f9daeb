"""What agno and the SDKs would say past our log."""

from __future__ import annotations

import logging
from typing import Final

from shared.logging import get_logger

logger = get_logger("agno_agent")

_LOGGERS: Final = ("agno", "agno-team", "agno-workflow")

_CHATTY: Final = ("httpx2", "httpcore2", "httpx", "httpcore", "anthropic", "openai", "mcp")
"""Libraries that log every request at INFO, or whole bodies at DEBUG."""


class _AsDebug(logging.Handler):
    """Hands agno's warnings and errors on as details: our own events tell users what they mean."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("agno: %s", record.getMessage())


def silence() -> None:
    """Take agno's own handlers from its loggers, which write to stdout."""
    for name in _LOGGERS:
        library = logging.getLogger(name)
        library.handlers[:] = [_AsDebug(level=logging.WARNING)]
        library.propagate = False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
