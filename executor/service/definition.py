"""What a service is, whatever looks after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from executor.service.steps import Step

NAME: Final = "wegent-executor"
"""Of the unit, the task, and everything else that belongs to the service."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be started, for the user who installs it.

    Attributes:
        command: The program, by its absolute path, and its arguments.
        unpacks_itself: Whether the program is a single file, whose process starts another one.
        environment: What the program is given beside what every service has. No secrets: whoever
            uses the machine may read it.
        stop_limit_s: After how many seconds a stop has failed.
    """

    command: tuple[str, ...]
    unpacks_itself: bool
    environment: Mapping[str, str]
    stop_limit_s: float


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How a service stands.

    Attributes:
        state: ``not installed`` also when something else has its name.
        at_login: Whether it starts by itself.
        pid: Of the program, while it runs.
        says: What the program tells of itself; ``None`` when that cannot be asked.
        last_exit: How it ended last, if that is known: its exit status, negative for a signal.
    """

    state: Literal["running", "starting", "stopping", "stopped", "failed", "not installed"]
    at_login: bool = False
    pid: int | None = None
    says: str | None = None
    last_exit: int | None = None


class ServiceKeeper(Protocol):
    """What looks after services here. Nothing happens but by carrying out the steps it returns.

    Every method may ask the machine, and raises :class:`~executor.service.steps.StepFailed` when
    that cannot be done.
    """

    @property
    def advice(self) -> str:
        """What a person should know who has just installed a service."""
        ...

    def install(self, service: Service, *, force: bool) -> list[Step]:
        """Install, or bring up to date; no steps when there is nothing to do.

        Raises:
            NotOurs: Somebody else has made or changed what is there, and *force* is not set.
        """
        ...

    def uninstall(self, *, force: bool) -> list[Step]:
        """Stop and remove it; no steps when it is not there.

        Raises:
            NotOurs: As for :meth:`install`.
        """
        ...

    def start(self) -> list[Step]:
        """Have it run; returns when it is set up, where that can be known."""
        ...

    def stop(self) -> list[Step]:
        """Have it stop, until it is started or, but for Windows, the user logs in again."""
        ...

    def status(self) -> ServiceStatus:
        """Ask how it stands."""
        ...
