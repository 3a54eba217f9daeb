"""What comes before everything else in a process: its variables, what no log may show, its logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from executor.config.broken_lines import broken_lines
from executor.config.loading import CONFIG_FILE, Settings, exposed_config_file
from executor.network.handed_on import adopt_handed_on
from executor.network.variables import adopt
from shared.logging import LogFile, Logs, configure_logging, get_logger
from shared.protocol.credentials import named_credentials
from shared.redaction import Redactor

CONSOLE_NAME: Final = "task_executor"
"""What docker mode's lines on the console name, whichever part of it they are of."""

HANDED_ON_VARIABLE: Final = "WEGENT_NETWORK_FILE"
"""Names what the executor that made this container has handed on of its network."""


def prepare_process(settings: Settings) -> tuple[Redactor, Logs]:
    """Take the network's variables from where they are, and begin to log; the caller closes that.

    Reads and writes files: for the time before the event loop.

    Raises:
        ConfigError: ``config.env``, or what was handed on, cannot be read.
    """
    if given := os.environ.get(HANDED_ON_VARIABLE):
        adopt_handed_on(Path(given), os.environ)  # first: an agent inside writes its home
    adopt(settings.home / CONFIG_FILE, os.environ)
    redactor = Redactor([*settings.secrets, *_inherited_credentials(os.environ)])
    logs = configure_logging(
        file=LogFile(
            settings.log_dir / settings.log_file,
            max_bytes=settings.log_max_size_mb * 1_000_000,
            backups=settings.log_backup_count,
        ),
        level=settings.lowest_level,
        format=settings.log_format,
        redactor=redactor,
        console_name=None if settings.mode == "local" else CONSOLE_NAME,
    )
    for line in broken_lines(settings.home / CONFIG_FILE):
        get_logger("cli").warning("%s", line)
    if file := exposed_config_file(settings.home):
        get_logger("cli").warning(
            "others can read %s, which holds secrets: chmod 600 %s", file, file
        )
    return redactor, logs


def _inherited_credentials(environ: Mapping[str, str]) -> Iterator[str]:
    """What an agent gets of the executor's own environment and nothing may show: logins."""
    names = re.compile(r".*_PROXY|(ANTHROPIC|CLAUDE)_.*", re.IGNORECASE)
    return named_credentials({name: environ[name] for name in environ if names.fullmatch(name)})
