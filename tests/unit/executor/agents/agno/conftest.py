"""Tests in here import agno, which changes the class of loggers for everybody."""

from __future__ import annotations

import logging

_loggers = logging.getLoggerClass()
import agno.utils.log  # noqa: E402, F401 - before any test does

logging.setLoggerClass(_loggers)
