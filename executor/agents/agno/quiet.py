"""What agno and the SDKs would say or import by themselves, past our own log and loop."""

from __future__ import annotations

import importlib
import logging
from contextlib import suppress
from typing import Final

from shared.logging import get_logger

logger = get_logger("agno_agent")

_LOGGERS: Final = ("agno", "agno-team", "agno-workflow")

_CHATTY: Final = ("httpx2", "httpcore2", "httpx", "httpcore", "anthropic", "openai", "mcp")
"""Libraries that log every request at INFO, or whole bodies at DEBUG."""

_IMPORTED_LATE: Final = (
    "agno.agent._run",
    "agno.agent._telemetry",
    "agno.agent._tools",
    "agno.run.cancel",
    "agno.team._run",
    "agno.team._telemetry",
    "agno.team._tools",
    "agno.team._task_tools",
    "agno.tracing.schemas",
    "agno.utils.callables",
    "agno.utils.mcp",
    "agno.utils.models.claude",
    "anthropic.resources.beta",
    "anthropic.resources.messages",
    "openai.resources.chat",
)
"""Modules that the libraries import in their first runs, which would hold the event loop."""


class _AsDebug(logging.Handler):
    """Hands agno's warnings and errors on as details: our own events tell users what they mean."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("agno: %s", record.getMessage())


def silence() -> None:
    """Take agno's own handlers from its loggers, which write prompts to stdout. Blocks."""
    for name in _LOGGERS:
        library = logging.getLogger(name)
        library.handlers[:] = [_AsDebug(level=logging.WARNING)]
        library.propagate = False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _IMPORTED_LATE:
        with suppress(ImportError):
            importlib.import_module(name)
