"""The composition root of docker mode."""

from __future__ import annotations

from executor.config.docker import DockerSettings
from executor.signals import StopSignals
from shared.errors import ConfigError
from shared.redaction import Redactor


async def run_docker(settings: DockerSettings, stop: StopSignals, redactor: Redactor) -> int:
    """Run docker mode until the first stop signal; every part lives and ends in here."""
    del settings, stop, redactor
    raise ConfigError("docker mode is being built")
